/* A program of another C library, which has a dynamic linker of its own. */
.globl _start
_start:
    and $-16, %rsp
    mov $1, %edi
    lea text(%rip), %rsi
    mov $length, %edx
    call write@PLT
    xor %edi, %edi
    call _exit@PLT
.section .rodata
text:
    .ascii "another C library\n"
.set length, . - text
.section .note.GNU-stack, "", @progbits

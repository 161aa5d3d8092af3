/* A 32-bit program of the C library. */
.globl _start
_start:
    push $length
    push $text
    push $1
    call write
    push $0
    call _exit
.section .rodata
text:
    .ascii "32 bits, with a C library\n"
.set length, . - text
.section .note.GNU-stack, "", @progbits

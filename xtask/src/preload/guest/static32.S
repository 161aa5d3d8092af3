/* A 32-bit program without any library. */
.globl _start
_start:
    mov $4, %eax
    mov $1, %ebx
    mov $text, %ecx
    mov $length, %edx
    int $0x80
    mov $1, %eax
    xor %ebx, %ebx
    int $0x80
.section .rodata
text:
    .ascii "32 bits, alone\n"
.set length, . - text
.section .note.GNU-stack, "", @progbits

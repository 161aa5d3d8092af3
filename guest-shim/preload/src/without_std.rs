//! What the standard library would bring, of which this is all that is needed.
//!
//! Unsafe code: symbols for the linker.

use core::panic::PanicInfo;

unsafe extern "C" {
    /// Nowhere: a library whose code can panic does not link.
    safe fn a_panic_would_end_a_foreign_process() -> !;
}

#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    a_panic_would_end_a_foreign_process()
}

// The compiler writes calls of these. Hidden: nobody else may find them here. The C library's are chosen at each process's
// start by what the processor can do, which costs more than they could save on so few bytes.
core::arch::global_asm!(
    ".macro own name",
    ".weak \\name",
    ".hidden \\name",
    ".type \\name, @function",
    "\\name:",
    ".endm",
    ".pushsection .text.bytes,\"ax\",@progbits",
    // memcpy(to, from, count)
    "own memcpy",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    // memset(to, byte, count)
    "own memset",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    // memcmp(left, right, count), and bcmp: the same for those who only ask whether there is a difference.
    "own bcmp",
    "own memcmp",
    "xor ecx, ecx",
    "2:",
    "cmp rcx, rdx",
    "je 3f",
    "movzx eax, byte ptr [rdi + rcx]",
    "movzx r8d, byte ptr [rsi + rcx]",
    "inc rcx",
    "sub eax, r8d",
    "je 2b",
    "ret",
    "3:",
    "xor eax, eax",
    "ret",
    // strlen(text)
    "own strlen",
    "mov rax, -1",
    "2:",
    "inc rax",
    "cmp byte ptr [rdi + rax], 0",
    "jne 2b",
    "ret",
    ".popsection",
    ".purgem own",
);

//! A jump for each function of the call table.
//!
//! There is no table of addresses in this library: the dynamic linker would have to write it in every process.
//!
//! Unsafe code: functions of any signature, which keep their arguments where they are.

use core::arch::naked_asm;

use crate::engine;

macro_rules! jumps {
    ($($number:literal $name:ident;)*) => {$(
        /// Answered by the engine.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $name() {
            naked_asm!("mov eax, {number}", "jmp {enter}", number = const $number, enter = sym enter)
        }
    )*};
}

include!(concat!(env!("OUT_DIR"), "/exports.rs"));

unsafe extern "C" {
    /// Each jump, in order, as a distance from this table's start: addresses would have to be written in every process.
    #[link_name = "vcompute_places"]
    pub(super) safe static PLACES: [i32; COUNT];
}

/// The names of all functions, in their order.
pub(super) fn names() -> impl Iterator<Item = &'static [u8]> {
    NAMES.split_inclusive(|&byte| byte == 0)
}

/// Goes on in the engine's function of the number in `eax`, with all arguments as they came. Without an engine it
/// answers for each of them.
#[unsafe(naked)]
extern "C" fn enter() {
    naked_asm!(
        "mov r11, [rip + {entries}]",
        "test r11, r11",
        "jz 2f",
        "jmp [r11 + rax * 8]",
        // The first call: arguments are in these registers, and the stack is aligned behind them.
        "2:",
        "push rax",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "sub rsp, 128",
        "movaps [rsp], xmm0",
        "movaps [rsp + 16], xmm1",
        "movaps [rsp + 32], xmm2",
        "movaps [rsp + 48], xmm3",
        "movaps [rsp + 64], xmm4",
        "movaps [rsp + 80], xmm5",
        "movaps [rsp + 96], xmm6",
        "movaps [rsp + 112], xmm7",
        "call {load}",
        "mov r11, rax",
        "movaps xmm0, [rsp]",
        "movaps xmm1, [rsp + 16]",
        "movaps xmm2, [rsp + 32]",
        "movaps xmm3, [rsp + 48]",
        "movaps xmm4, [rsp + 64]",
        "movaps xmm5, [rsp + 80]",
        "movaps xmm6, [rsp + 96]",
        "movaps xmm7, [rsp + 112]",
        "add rsp, 128",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rax",
        "test r11, r11",
        "jz {absent}",
        "jmp [r11 + rax * 8]",
        entries = sym engine::ENTRIES,
        load = sym engine::load,
        absent = sym engine::absent,
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_end_and_are_as_many_as_the_jumps() {
        assert_eq!(super::names().count(), super::COUNT);
        assert!(super::names().all(|name| name.starts_with(b"cu") && name.ends_with(b"\0")));
    }
}

//! What `libcuda.so.1` hands over when it loads this library: what the driver knew of the devices when the process started,
//! and the functions that a program finds.
//!
//! The driver's answer is as good as a fresh one for a moment only: a daemon that was started with the machine must not hear
//! of a GPU that is gone since.
//!
//! Unsafe code: memory that is handed over.

use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use guest_device::information;

use crate::proc_address::Function;

/// How long an answer is good.
const FRESH_MS: i64 = 2000;

/// The answer, and when it came.
static KEPT: OnceLock<(Vec<u8>, i64)> = OnceLock::new();
/// The functions that lead here, by their symbols.
static JUMPS: OnceLock<HashMap<&'static [u8], Function>> = OnceLock::new();

/// Takes what `libcuda.so.1` has; it calls this before any other function.
///
/// - The driver's answer at the process's start, as `read` of its node gave it, how many bytes, and when that was, in
///   milliseconds of `CLOCK_MONOTONIC_COARSE`; no bytes if there is none.
/// - Its functions: their symbols one after the other, each one's distance from the address of these distances, and how
///   many there are.
///
/// # Safety
/// As many readable bytes and rows as said, which stay as long as the process lives; distances of functions.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn vcompute_start(
    bytes: *const u8,
    length: usize,
    taken_ms: i64,
    names: *const c_char,
    places: *const i32,
    count: usize,
) {
    // Nothing is to be seen of what does not hold.
    let _ = std::panic::catch_unwind(|| {
        // SAFETY: as the caller promises.
        let bytes = unsafe { std::slice::from_raw_parts(bytes, length) };
        if information::devices(bytes).is_ok() {
            KEPT.get_or_init(|| (bytes.to_vec(), taken_ms));
        }
        // SAFETY: as the caller promises.
        JUMPS.get_or_init(|| unsafe { jumps(names, places, count) });
    });
}

/// # Safety
/// As of [`vcompute_start`].
unsafe fn jumps(names: *const c_char, places: *const i32, count: usize) -> HashMap<&'static [u8], Function> {
    // SAFETY: as the caller promises.
    let distances = unsafe { std::slice::from_raw_parts(places, count) };
    let mut next = names;
    let named = distances.iter().map(|distance| {
        // SAFETY: as many names as distances.
        let name = unsafe { CStr::from_ptr(next) }.to_bytes();
        next = next.wrapping_add(name.len() + 1);
        let place = places.cast::<()>().wrapping_byte_offset(isize::try_from(*distance).unwrap_or(0));
        // SAFETY: the address of a function, as the caller promises.
        (name, unsafe { std::mem::transmute::<*const (), Function>(place) })
    });
    named.collect()
}

/// The function of `libcuda.so.1` with a symbol.
pub(crate) fn jump(symbol: &str) -> Option<Function> {
    JUMPS.get()?.get(symbol.as_bytes()).copied()
}

/// What was learnt at the process's start, while that is not long ago.
pub(crate) fn fresh() -> Option<&'static [u8]> {
    let (bytes, taken_ms) = KEPT.get()?;
    is_fresh(*taken_ms, now_ms()?).then_some(bytes)
}

/// Whether what was taken at one time is good at another.
const fn is_fresh(taken_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(taken_ms) <= FRESH_MS
}

fn now_ms() -> Option<i64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for a time.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    (result == 0).then(|| time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000))
}

#[cfg(test)]
mod tests {
    use virtio_spec::device::{PROTOCOL_VERSION, State};
    use virtio_spec::uapi::Info;
    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn an_answer_is_good_for_a_moment() {
        assert!(is_fresh(5000, 5000) && is_fresh(5000, 5000 + FRESH_MS));
        assert!(!is_fresh(5000, 5001 + FRESH_MS));
    }

    unsafe extern "C" fn first() {}
    unsafe extern "C" fn second() {}

    std::arch::global_asm!(
        ".pushsection .rodata.early_test,\"a\",@progbits",
        ".balign 4",
        "early_test_places: .long {first} - early_test_places, {second} - early_test_places",
        ".globl early_test_places",
        ".popsection",
        first = sym first,
        second = sym second,
    );

    unsafe extern "C" {
        safe static early_test_places: [i32; 2];
    }

    #[test]
    fn what_is_handed_over_is_found() {
        let now = now_ms().expect("there is a clock");
        let head =
            Info { version: PROTOCOL_VERSION, state: State::Ready as u32, info_bytes: 64, ..Info::default() };
        let mut bytes = head.as_bytes().to_vec();
        let names = c"cuFirst".as_ptr();
        // SAFETY: readable bytes, and a row of a function.
        unsafe { vcompute_start(bytes.as_ptr(), bytes.len(), now, names, early_test_places.as_ptr(), 1) };
        assert!(fresh().is_none(), "the device information is missing");
        bytes.resize(bytes.len() + 64, 7);
        // SAFETY: as above.
        unsafe { vcompute_start(bytes.as_ptr(), bytes.len(), now, names, early_test_places.as_ptr(), 1) };
        assert_eq!(fresh(), Some(bytes.as_slice()));
        assert_eq!(jump("cuFirst").map(|function| function as usize), Some(first as *const () as usize));
        assert!(jump("cuSecond").is_none());

        let names = ["cuFirst", "cuSecond", ""].join("\0");
        // SAFETY: two names, and rows of functions.
        let both = unsafe { jumps(names.leak().as_ptr().cast(), early_test_places.as_ptr(), 2) };
        let second_of_both = both.get(b"cuSecond".as_slice()).map(|function| *function as usize);
        assert_eq!((both.len(), second_of_both), (2, Some(second as *const () as usize)));
    }
}

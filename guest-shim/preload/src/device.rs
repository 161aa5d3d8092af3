//! What the driver knows of the devices, in one read of its node: it takes no lock, and never waits.
//!
//! The bytes lie in the library's own memory; a forked child has them too. They are as good as a fresh answer for a
//! moment only, and the half of the library that answers CUDA calls is told when they were taken.
//!
//! Unsafe code: a buffer that one thread writes, once.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use shim_settings::system;

use crate::deadline::now_ms;

include!(concat!(env!("OUT_DIR"), "/contract.rs"));

/// Room for the answer about as many GPUs as a machine has.
const BYTES: usize = HEAD_BYTES + KEPT_BYTES;

#[repr(C, align(4096))]
struct Buffer(UnsafeCell<[u8; BYTES]>);

// SAFETY: written by the one thread that `once` of the constructor lets in, before `LENGTH` says that there is something.
unsafe impl Sync for Buffer {}

// In the file, though it is zeros: memory that is not there would be one more mapping in every process.
#[cfg_attr(panic = "abort", unsafe(link_section = ".data.snapshot"))]
static BUFFER: Buffer = Buffer(UnsafeCell::new([0; BYTES]));
/// Bytes that are kept; 0 while there are none.
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static TAKEN_MS: AtomicI64 = AtomicI64::new(0);

/// What the driver's answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There are GPUs.
    Found,
    /// The host has none for this guest now.
    Nothing,
    /// The kernel's parameter leaves all processes alone.
    SwitchedOff,
    /// There is no device node.
    Absent,
    /// The device has not answered the driver yet.
    Starting,
    /// It does not answer any more.
    Gone,
    /// What answers speaks another language.
    Foreign,
}

/// Asks the driver, and keeps the answer if there are GPUs. Nothing stays open. For one thread, once.
pub(crate) fn look(path: &CStr, is_late: impl Fn() -> bool) -> Answer {
    // Should there be something else than the node: no waiting for a FIFO's writer, and no terminal to be controlled by.
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let node = system::open(path, flags, 0);
    let Ok(node) = usize::try_from(node) else {
        let soon =
            [libc::EAGAIN, libc::EBUSY, libc::EINTR].iter().any(|&error| system::is_error(node, error));
        return if soon { Answer::Starting } else { Answer::Absent };
    };
    // SAFETY: see `Sync`: the one writer, and nobody reads yet.
    let buffer = unsafe { &mut *BUFFER.0.get() };
    let length = if is_late() { 0 } else { system::read(node, buffer) };
    system::close(node);
    let Ok(length) = usize::try_from(length) else {
        return match length {
            _ if system::is_error(length, libc::EAGAIN) || system::is_error(length, libc::EINTR) => {
                Answer::Starting
            }
            _ if system::is_error(length, libc::ENODEV) => Answer::Gone,
            _ => Answer::Foreign,
        };
    };
    let bytes = buffer.get(..length).unwrap_or_default();
    let answer = meaning(bytes);
    let is_whole =
        word(bytes, LENGTH_AT).is_some_and(|rest| rest as usize == length.saturating_sub(HEAD_BYTES));
    if let Some(now) = now_ms().filter(|_| answer == Answer::Found && is_whole) {
        TAKEN_MS.store(now, Ordering::Relaxed);
        LENGTH.store(length, Ordering::Release);
    }
    answer
}

/// What was kept, and when it was taken, in milliseconds of the coarse monotonic clock.
pub(crate) fn kept() -> Option<(&'static [u8], i64)> {
    let length = LENGTH.load(Ordering::Acquire);
    // SAFETY: see `Sync`: since there is a length, nobody writes.
    let bytes = if length == 0 { return None } else { unsafe { &*BUFFER.0.get() } };
    Some((bytes.get(..length)?, TAKEN_MS.load(Ordering::Relaxed)))
}

fn meaning(bytes: &[u8]) -> Answer {
    let (Some(version), Some(state), Some(flags)) =
        (word(bytes, VERSION_AT), word(bytes, STATE_AT), word(bytes, FLAGS_AT))
    else {
        return Answer::Foreign;
    };
    match state {
        _ if version != VERSION => Answer::Foreign,
        _ if flags & SHIM_OFF != 0 => Answer::SwitchedOff,
        READY if word(bytes, LENGTH_AT) == Some(0) => Answer::Starting,
        READY => Answer::Found,
        NO_GPU => Answer::Nothing,
        STARTING => Answer::Starting,
        FAILED => Answer::Gone,
        _ => Answer::Foreign,
    }
}

/// The number at a place.
fn word(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(version: u32, state: u32, length: u32, flags: u32) -> Vec<u8> {
        [version, state, 1, length, flags, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn answers_mean_something() {
        for (bytes, meant) in [
            (answer(VERSION, READY, 8192, 0), Answer::Found),
            (answer(VERSION, READY, 0, 0), Answer::Starting),
            (answer(VERSION, READY, 8192, SHIM_OFF), Answer::SwitchedOff),
            (answer(VERSION, NO_GPU, 4096, 0), Answer::Nothing),
            (answer(VERSION, STARTING, 0, 0), Answer::Starting),
            (answer(VERSION, FAILED, 0, 0), Answer::Gone),
            (answer(VERSION, 99, 0, 0), Answer::Foreign),
            (answer(VERSION + 1, READY, 8192, 0), Answer::Foreign),
            (vec![0; 10], Answer::Foreign),
        ] {
            assert_eq!(meaning(&bytes), meant, "{bytes:?}");
        }
    }

    #[test]
    fn only_a_whole_answer_is_kept() {
        let file = std::env::temp_dir().join(format!("preload-device-{}", std::process::id()));
        let path = std::ffi::CString::new(file.to_str().expect("a path")).expect("a path");
        for (present, kept_bytes) in [(100, None), (8192, Some(HEAD_BYTES + 8192))] {
            let mut bytes = answer(VERSION, READY, 8192, 0);
            bytes.resize(HEAD_BYTES + present, 7);
            std::fs::write(&file, bytes).expect("the folder is writable");
            assert_eq!(look(&path, || false), Answer::Found);
            assert_eq!(kept().map(|(bytes, _)| bytes.len()), kept_bytes);
        }
        std::fs::remove_file(file).expect("it is there");
        assert_eq!(look(&path, || false), Answer::Absent);
    }
}

//! What the driver knows of the devices, as of the process's start.
//!
//! The bytes lie in the library's own memory; a forked child has them too. They are as good as a fresh answer for a
//! moment only: a daemon that was started with the machine must not hear of a GPU that is gone since.
//!
//! Unsafe code: a buffer that one thread writes, once.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use virtio_spec::device::State;
use virtio_spec::info;
use virtio_spec::uapi::{Info, info_flags};

use super::deadline::now_ms;
use guest_device::{Error, information};

/// How long a snapshot is good.
const FRESH_MS: i64 = 2000;

/// Room for what the driver can say; pages that are never written cost nothing.
const BYTES: usize = size_of::<Info>() + info::MAX_BYTES as usize;

#[repr(C, align(64))]
struct Buffer(UnsafeCell<[u8; BYTES]>);

// SAFETY: written by the one thread that `guard::once` lets in, before `LENGTH` says that there is something to read.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; BYTES]));
/// Bytes to read; 0 while there are none.
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static TAKEN_MS: AtomicI64 = AtomicI64::new(0);

/// Asks the driver, and keeps the answer if it has GPUs. Nothing stays open. Only for [`super::guard::once`].
pub(super) fn take(is_late: impl Fn() -> bool) -> Result<Info, Error> {
    // SAFETY: see `Sync`: the one writer, and nobody reads yet.
    let buffer = unsafe { &mut *BUFFER.0.get() };
    let length = information::read_node(super::device_path(), buffer, is_late)?;
    let bytes = buffer.get(..length).unwrap_or_default();
    let about = information::head(bytes)?;
    if about.flags & info_flags::SHIM_OFF != 0 {
        return Ok(about);
    }
    information::devices(bytes)?;
    if let Some(now) = now_ms().filter(|_| about.state == State::Ready as u32) {
        TAKEN_MS.store(now, Ordering::Relaxed);
        LENGTH.store(length, Ordering::Release);
    }
    Ok(about)
}

/// What was kept at the process's start, while that is not long ago: as `read` gave it.
pub(crate) fn fresh() -> Option<&'static [u8]> {
    let length = LENGTH.load(Ordering::Acquire);
    if length == 0 || !is_fresh(TAKEN_MS.load(Ordering::Relaxed), now_ms()?) {
        return None;
    }
    // SAFETY: see `Sync`: since there is a length, nobody writes.
    let buffer = unsafe { &*BUFFER.0.get() };
    buffer.get(..length)
}

/// Whether what was taken at one time is good at another.
const fn is_fresh(taken_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(taken_ms) <= FRESH_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_good_for_a_moment() {
        assert!(is_fresh(5000, 5000) && is_fresh(5000, 5000 + FRESH_MS));
        assert!(!is_fresh(5000, 5001 + FRESH_MS));
        assert!(fresh().is_none(), "nobody has taken one");
    }
}

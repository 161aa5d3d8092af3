//! What the driver knew of the devices when the process started, as `libcuda.so.1` has kept it.
//!
//! The bytes are as good as a fresh answer for a moment only: a daemon that was started with the machine must not hear of a
//! GPU that is gone since.
//!
//! Unsafe code: bytes that are handed over.

use std::sync::OnceLock;

use guest_device::information;

/// How long an answer is good.
const FRESH_MS: i64 = 2000;

/// The answer, and when it came.
static KEPT: OnceLock<(Vec<u8>, i64)> = OnceLock::new();

/// Takes what the driver answered at the process's start, as `read` of its node gave it, and when that was, in
/// milliseconds of `CLOCK_MONOTONIC_COARSE`. `libcuda.so.1` calls this before any other function.
///
/// # Safety
/// `bytes` are `length` readable bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn vcompute_start(bytes: *const u8, length: usize, taken_ms: i64) {
    // SAFETY: as the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts(bytes, length) };
    // Nothing is to be seen of what does not hold.
    let _ = std::panic::catch_unwind(|| {
        if information::devices(bytes).is_ok() {
            KEPT.get_or_init(|| (bytes.to_vec(), taken_ms));
        }
    });
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

    #[test]
    fn only_what_holds_is_kept() {
        let now = now_ms().expect("there is a clock");
        let head =
            Info { version: PROTOCOL_VERSION, state: State::Ready as u32, info_bytes: 64, ..Info::default() };
        let mut bytes = head.as_bytes().to_vec();
        // SAFETY: readable bytes.
        unsafe { vcompute_start(bytes.as_ptr(), bytes.len(), now) };
        assert!(fresh().is_none(), "the device information is missing");
        bytes.resize(bytes.len() + 64, 7);
        // SAFETY: readable bytes.
        unsafe { vcompute_start(bytes.as_ptr(), bytes.len(), now) };
        assert_eq!(fresh(), Some(bytes.as_slice()));
    }
}

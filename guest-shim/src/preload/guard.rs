//! What is around early init: one attempt in a process, in one thread; no panic gets out; errno is as before.
//!
//! Unsafe code: the C library's errno.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};

static TRIED: AtomicBool = AtomicBool::new(false);

/// Runs `steps`, unless that has been done in this process.
pub(super) fn once(steps: impl FnOnce() + std::panic::UnwindSafe) {
    if TRIED.compare_exchange(false, true, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return;
    }
    // SAFETY: the thread's own errno, for as long as the thread lives.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { place.read() };
    // What a panic has left undone is found out by the first CUDA call.
    let _ = catch_unwind(steps);
    // SAFETY: as above.
    unsafe { place.write(before) };
}

/// Keeps a panic off standard error. No memory is needed for that: the hook has no size.
pub(super) fn silence_panics() {
    crate::entry::silence_panics();
    let injected = super::paths::test_variable(c"VCOMPUTE_TEST_PANIC");
    assert!(injected.is_none(), "a test wants a panic");
}

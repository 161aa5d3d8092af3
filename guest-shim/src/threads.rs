//! Threads of the shim's own.
//!
//! Unsafe code: masks of signals.

/// Starts a thread. Signals are for the program's own threads; only what a thread's own instructions cause comes to it, since
/// a program may answer a fault in its memory, whoever touches it.
pub(crate) fn start(
    name: &str,
    stack: usize,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), std::io::Error> {
    let before = block_signals();
    let started = std::thread::Builder::new().name(name.into()).stack_size(stack).spawn(body);
    restore_signals(&before);
    started.map(|_| ())
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: a set of signals is plain data.
    let mut blocked: libc::sigset_t = unsafe { std::mem::zeroed() };
    let mut before = blocked;
    // SAFETY: room for a set.
    unsafe { libc::sigfillset(&raw mut blocked) };
    for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP] {
        // SAFETY: a set.
        unsafe { libc::sigdelset(&raw mut blocked, fault) };
    }
    // SAFETY: two sets.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before) };
    before
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: the set that was there before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

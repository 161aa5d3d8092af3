//! Whether this is process 1, without a system call.
//!
//! The C library knows the calling thread's number, and writes it into a mutex that is locked: the place is part of
//! the C library's binary interface, because programs initialise mutexes themselves. The alternative,
//! `pthread_getcpuclockid`, is no function of the C library itself before glibc 2.34.
//!
//! Unsafe code: a mutex of the C library.

use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};

use crate::system;

/// The beginning of `pthread_mutex_t`.
#[repr(C)]
struct Mutex {
    lock: i32,
    count: u32,
    owner: i32,
}
const _: () = assert!(offset_of!(Mutex, owner) + size_of::<i32>() <= size_of::<libc::pthread_mutex_t>());

/// Whether this is the first process of the system or of a container, by the number of its first thread.
#[must_use]
pub fn is_first_process() -> bool {
    process() == 1
}

/// The process's number in its first thread; in another one, the thread's.
#[must_use]
pub fn process() -> i32 {
    match thread() {
        // A C library that cannot tell: glibc before 2.34 in a process without its library for threads.
        0 => {
            // SAFETY: no arguments.
            i32::try_from(unsafe { system::call(libc::SYS_getpid, [0; 6]) }).unwrap_or(0)
        }
        number => number,
    }
}

/// The thread's number, or 0.
fn thread() -> i32 {
    // The kind that is never locked without a note of who did.
    let mutex = UnsafeCell::new(libc::PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP);
    // SAFETY: an initialised mutex that nobody else knows.
    if unsafe { libc::pthread_mutex_lock(mutex.get()) } != 0 {
        return 0;
    }
    // SAFETY: the mutex is larger, as aligned, and any bytes are numbers.
    let owner = unsafe { mutex.get().cast::<Mutex>().read_volatile() }.owner;
    // SAFETY: locked above.
    unsafe { libc::pthread_mutex_unlock(mutex.get()) };
    owner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_kernels() {
        for _ in 0..2 {
            std::thread::spawn(|| {
                // SAFETY: no arguments.
                let expected = unsafe { libc::syscall(libc::SYS_gettid) };
                assert_eq!(i64::from(thread()), expected);
            })
            .join()
            .expect("the thread ends");
        }
        assert!(!is_first_process() || std::process::id() == 1);
    }
}

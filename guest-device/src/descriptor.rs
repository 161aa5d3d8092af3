//! A descriptor in a foreign process: closed on exec, at a high number, and noticed when the process has closed or
//! replaced it behind the shim's back.
//!
//! Unsafe code: system calls on numbers of descriptors.

use crate::errno;

/// Below this number, daemons and shells expect descriptors of their own.
const LOWEST: i32 = 512;

/// An owned descriptor.
#[derive(Debug)]
pub struct Descriptor {
    number: i32,
    identity: (u64, u64),
}

/// What a descriptor's number means at present: device and inode.
#[must_use]
pub fn identity(number: i32) -> Option<(u64, u64)> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `status` has room for the structure.
    let result = unsafe { libc::fstat(number, status.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: fstat has filled it.
    let status = unsafe { status.assume_init() };
    Some((status.st_dev, status.st_ino))
}

impl Descriptor {
    /// Takes a descriptor over and moves it to a high number where the process's limit allows that.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        if number < 0 {
            return None;
        }
        // SAFETY: duplicates an open descriptor.
        let moved = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, LOWEST) };
        let number = if moved >= 0 {
            // SAFETY: the caller's descriptor, of which there is a duplicate now.
            unsafe { libc::close(number) };
            moved
        } else {
            number
        };
        Some(Self { number, identity: identity(number)? })
    }

    /// The number, for a system call.
    #[must_use]
    pub const fn number(&self) -> i32 {
        self.number
    }

    /// Whether the number still means what was opened. The process may have closed it and opened something else.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        identity(self.number) == Some(self.identity)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: an open descriptor of ours, not used after this.
            unsafe { libc::close(self.number) };
        }
    }
}

/// Repeats a system call that a signal has interrupted.
///
/// # Errors
/// The call's error number.
pub fn retry(mut call: impl FnMut() -> isize) -> Result<usize, i32> {
    loop {
        match usize::try_from(call()) {
            Ok(value) => return Ok(value),
            Err(_) if errno() == libc::EINTR => {}
            Err(_) => return Err(errno()),
        }
    }
}

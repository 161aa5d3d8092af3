//! What kernels print: the driver writes it to this process's standard output and error, the guest process reads it.
//! (This file contains unsafe code: replacing standard descriptors.)
//!
//! Both descriptors become memory files, which never block the driver as a full pipe would. What has been read is given
//! back by punching holes, so a session's unread output is all that it takes.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Mutex, OnceLock, PoisonError},
};

use rustix::fs::{FallocateFlags, MemfdFlags, OFlags};

/// Unread output beyond this is dropped, oldest first: a kernel can print for ever.
const MAX_UNREAD: u64 = 16 << 20;

/// A standard descriptor's file, and how far it has been read.
struct Stream {
    descriptor: u32,
    file: OwnedFd,
    read: Mutex<u64>,
}

static STREAMS: OnceLock<[Stream; 2]> = OnceLock::new();

/// Captures standard output and error. Called once, before the driver is loaded and after logging has been given a
/// descriptor of its own.
pub(crate) fn capture() -> io::Result<()> {
    let streams = [Stream::replace(1)?, Stream::replace(2)?];
    // A second call would leave the first one's files in place.
    let _ = STREAMS.set(streams);
    Ok(())
}

/// Whether there is output that has not been read.
pub(crate) fn is_waiting() -> bool {
    STREAMS.get().is_some_and(|streams| streams.iter().any(|stream| stream.unread() > 0))
}

/// Takes some output: the descriptor it was written to, and how many bytes are now in `buffer`.
pub(crate) fn read(buffer: &mut [u8]) -> Option<(u32, usize)> {
    STREAMS.get()?.iter().find_map(|stream| stream.take(buffer).map(|length| (stream.descriptor, length)))
}

impl Stream {
    fn replace(descriptor: u32) -> io::Result<Self> {
        let file = rustix::fs::memfd_create("kernel-output", MemfdFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
        let target = i32::try_from(descriptor).map_err(io::Error::other)?;
        // SAFETY: replaces a standard descriptor, which nothing in this process owns.
        if unsafe { libc::dup2(file.as_raw_fd(), target) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { descriptor, file, read: Mutex::new(0) })
    }

    fn written(&self) -> u64 {
        rustix::fs::fstat(&self.file).ok().and_then(|status| u64::try_from(status.st_size).ok()).unwrap_or(0)
    }

    fn unread(&self) -> u64 {
        self.written().saturating_sub(*self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read = (*read).max(self.written().saturating_sub(MAX_UNREAD));
        let length = rustix::io::pread(&self.file, buffer, *read).ok().filter(|length| *length > 0)?;
        *read = read.saturating_add(length as u64);
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = rustix::fs::fallocate(&self.file, hole, 0, *read) {
            log::debug!("output that was read stays in memory: {error}");
        }
        Some(length)
    }
}

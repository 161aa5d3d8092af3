//! Who is at the other end of a local connection, and what descriptors it has passed. (This file contains unsafe code:
//! one `getsockopt`.)
#![allow(unsafe_code, reason = "getsockopt")]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
};

use rustix::fs::SealFlags;
use virtio_spec::control::Status;

use crate::images::TMPFS_MAGIC;

/// The user of the process that has connected.
pub(crate) fn uid(socket: impl AsFd) -> io::Result<u32> {
    // rustix has this too, but cannot represent a peer whose process ID is not visible here.
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: both pointers are to live variables of the type and size that the option has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(credentials.uid) } else { Err(io::Error::last_os_error()) }
}

/// A file of exactly `length` bytes that can neither shrink nor grow. Only a worker ever maps it, so a client that
/// punches holes into it (which seals do not prevent) harms its own session.
pub(crate) fn sealed_memory(descriptor: OwnedFd, length: u64) -> Result<File, Status> {
    let needed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let seals = rustix::fs::fcntl_get_seals(&descriptor).map_err(|_| Status::NotShared)?;
    if !seals.contains(needed) || seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
        return Err(Status::NotShared);
    }
    // Huge pages can run out at the first touch, which is a signal instead of an error.
    let system = rustix::fs::fstatfs(&descriptor).map_err(|_| Status::NotShared)?;
    if u64::try_from(system.f_type) != Ok(TMPFS_MAGIC) {
        return Err(Status::NotShared);
    }
    let file = File::from(descriptor);
    let size = file.metadata().map_err(|_| Status::NotShared)?.len();
    if size == length { Ok(file) } else { Err(Status::Invalid) }
}

/// An eventfd, and nothing else that can be read and written.
pub(crate) fn eventfd(descriptor: OwnedFd) -> Result<File, Status> {
    let link = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let target = std::fs::read_link(link).map_err(|_| Status::Failed)?;
    if target.as_os_str() != "anon_inode:[eventfd]" {
        return Err(Status::Invalid);
    }
    // The worker must never sleep in a read of it, whoever else reads it.
    let flags = rustix::fs::fcntl_getfl(&descriptor).map_err(|_| Status::Invalid)?;
    rustix::fs::fcntl_setfl(&descriptor, flags | rustix::fs::OFlags::NONBLOCK)
        .map_err(|_| Status::Invalid)?;
    Ok(File::from(descriptor))
}

#[cfg(test)]
mod tests {
    use rustix::{event::EventfdFlags, fs::MemfdFlags};

    use super::*;

    fn memfd(seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("peer-test", flags).unwrap();
        rustix::fs::ftruncate(&file, 8192).unwrap();
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        file
    }

    const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

    #[test]
    fn only_sealed_memory_of_the_right_size_is_taken() {
        assert!(sealed_memory(memfd(SEALS), 8192).is_ok());
        assert_eq!(sealed_memory(memfd(SEALS), 4096).unwrap_err(), Status::Invalid);
        for seals in [SealFlags::empty(), SealFlags::SHRINK | SealFlags::GROW, SEALS | SealFlags::WRITE] {
            assert_eq!(sealed_memory(memfd(seals), 8192).unwrap_err(), Status::NotShared, "{seals:?}");
        }
        let ordinary = tempfile::tempfile().unwrap();
        ordinary.set_len(8192).unwrap();
        assert_eq!(sealed_memory(ordinary.into(), 8192).unwrap_err(), Status::NotShared);
    }

    #[test]
    fn only_an_eventfd_is_an_eventfd() {
        let event = rustix::event::eventfd(0, EventfdFlags::empty()).unwrap();
        assert!(eventfd(event).is_ok());
        assert_eq!(eventfd(memfd(SEALS)).unwrap_err(), Status::Invalid);
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(eventfd(reader).unwrap_err(), Status::Invalid);
    }
}

//! The guest's driver: ioctls of `/dev/vcompute0`.
//!
//! Unsafe code: ioctls, each with the structure of [`virtio_spec::uapi`] that its number names, and the mappings.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use guest_device::descriptor::{Descriptor, retry};
use virtio_spec::control::{SessionOptions, map_flags};
use virtio_spec::uapi;

use super::{Transport, TransportError, Woken, errno, map_shared};

use crate::session::region::Region;

/// An open device node.
pub(super) struct Kernel {
    node: Descriptor,
}

fn error_of(number: i32) -> TransportError {
    match number {
        libc::EAGAIN => TransportError::Starting,
        libc::ENOMEM | libc::ENOSPC | libc::EDQUOT | libc::E2BIG => TransportError::NoMemory,
        libc::EADDRINUSE | libc::EFAULT | libc::EINVAL => TransportError::Address,
        libc::EOPNOTSUPP | libc::EXDEV => TransportError::Unsupported,
        libc::ENODEV | libc::EREMOTEIO | libc::EBADF => TransportError::Dead,
        libc::ENXIO => TransportError::Absent,
        libc::ENOENT | libc::EACCES | libc::EPERM => TransportError::Absent,
        _ => TransportError::Protocol,
    }
}

impl Kernel {
    /// Opens the device node.
    pub(super) fn open() -> Result<Self, TransportError> {
        // SAFETY: a path of this library.
        let number = unsafe {
            libc::open(shim_settings::device().as_ptr(), libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK)
        };
        if number < 0 {
            return Err(match errno() {
                libc::EAGAIN | libc::EBUSY => TransportError::Starting,
                _ => TransportError::Absent,
            });
        }
        Descriptor::new(number).map(|node| Self { node }).ok_or(TransportError::Absent)
    }

    fn ioctl<T>(&self, request: u64, argument: &mut T) -> Result<(), TransportError> {
        let result = retry(|| {
            // SAFETY: the argument is the structure that the request's number encodes the size of.
            let result = unsafe { libc::ioctl(self.node.number(), request, std::ptr::from_mut(argument)) };
            result as isize
        });
        match result {
            Ok(_) => Ok(()),
            Err(error) if self.node.is_ours() => Err(error_of(error)),
            Err(_) => Err(TransportError::Dead),
        }
    }

    fn map_region(
        &self,
        region: u32,
        address: Option<u64>,
        length: u64,
    ) -> Result<NonNull<u8>, TransportError> {
        let offset = uapi::MMAP_REGION + (u64::from(region) << uapi::MMAP_REGION_SHIFT);
        map_shared(self.node.number(), offset, address, length, true)
    }
}

impl Transport for Kernel {
    fn create_session(
        &self,
        length: u64,
        options: SessionOptions,
        prepare: &dyn Fn(Region),
    ) -> Result<Region, TransportError> {
        let mut create = uapi::SessionCreate { length, options, ..Default::default() };
        self.ioctl(uapi::SESSION_CREATE, &mut create)?;
        let base = self.map_region(0, None, length)?;
        // SAFETY: a mapping of this length that is never removed.
        let region = unsafe { Region::new(base, length) };
        prepare(region);
        Ok(region)
    }

    fn map(&self, address: u64, length: u64) -> Result<u32, TransportError> {
        let mut map = uapi::Map { address, length, ..Default::default() };
        self.ioctl(uapi::MAP, &mut map)?;
        if let Err(error) = self.map_region(map.region, Some(address), length) {
            // The region was of no use; that it cannot be removed either changes nothing for the caller.
            let _ = self.unmap(map.region);
            return Err(error);
        }
        Ok(map.region)
    }

    fn register(&self, address: u64, length: u64, read_only: bool) -> Result<u32, TransportError> {
        let flags = if read_only { map_flags::READ_ONLY } else { 0 };
        let mut register = uapi::Register { address, length, flags, region: 0 };
        self.ioctl(uapi::REGISTER, &mut register)?;
        Ok(register.region)
    }

    fn unmap(&self, region: u32) -> Result<(), TransportError> {
        self.ioctl(uapi::UNMAP, &mut uapi::Unmap { region, reserved: 0 })
    }

    fn kick(&self) {
        // A dead session is noticed by the waiter; there is nothing else that a kick could report.
        let _ = self.ioctl(uapi::KICK, &mut uapi::Kick::default());
    }

    fn wait(&self, _word: &AtomicU32, offset: u64, expected: u32, limit: Duration) -> Woken {
        let timeout_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let mut wait = uapi::Wait { offset, expected, flags: 0, timeout_ns };
        // SAFETY: the structure that WAIT takes.
        let result = unsafe { libc::ioctl(self.node.number(), uapi::WAIT, std::ptr::from_mut(&mut wait)) };
        if result == 0 {
            return Woken::Perhaps;
        }
        match errno() {
            libc::EINTR => Woken::Perhaps,
            libc::ETIMEDOUT => Woken::TimedOut,
            _ => Woken::Dead,
        }
    }

    fn descriptor(&self) -> i32 {
        self.node.number()
    }
}

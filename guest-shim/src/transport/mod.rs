//! How this process reaches the device: through the guest's driver ([`kernel`]), or through the backend's local socket
//! without a VM ([`local`]).
//!
//! Read in this order: this file, `kernel`, `local`; what needs no session is the crate [`guest_device`].
//!
//! Unsafe code: mappings of what the device shares.

mod kernel;
mod local;

pub(crate) use guest_device::descriptor::identity;
pub(crate) use guest_device::{Error as TransportError, errno};

use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use guest_device::{information, socket_path};
use virtio_spec::control::SessionOptions;
use virtio_spec::info;
use virtio_spec::uapi::Info;

use crate::early;
use crate::session::region::Region;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The word may have changed.
    Perhaps,
    /// Time was up.
    TimedOut,
    /// The session is dead.
    Dead,
}

/// A way to one session of the device.
pub(crate) trait Transport: Send + Sync {
    /// Makes the session with a first region of `length` bytes. `prepare` writes the region's header, before the device
    /// reads it.
    fn create_session(
        &self,
        length: u64,
        options: SessionOptions,
        prepare: &dyn Fn(Region),
    ) -> Result<Region, TransportError>;

    /// Adds a region of pinned memory and maps it at `address`, which lies in this process's reserved window.
    fn map(&self, address: u64, length: u64) -> Result<u32, TransportError>;

    /// Adds pages of this process as a region: page-aligned `address` and `length`.
    fn register(&self, address: u64, length: u64, read_only: bool) -> Result<u32, TransportError>;

    /// Removes a region. What [`Transport::register`] added stays with the process as its memory.
    fn unmap(&self, region: u32) -> Result<(), TransportError>;

    /// Wakes the session's sleeping lanes.
    fn kick(&self);

    /// Sleeps while the word at `offset` of the first region, which is `word`, has the value `expected`, for `limit` at most.
    fn wait(&self, word: &AtomicU32, offset: u64, expected: u32, limit: Duration) -> Woken;

    /// The descriptor that a forked child must close, so that the session ends with this process.
    fn descriptor(&self) -> i32;

    /// Whether the session is still there. Asks the kernel, not the device.
    fn is_alive(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.descriptor(), events: libc::POLLRDHUP, revents: 0 };
        // SAFETY: one entry.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        ready <= 0 || poll.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP | libc::POLLNVAL) == 0
    }
}

/// Opens the device for a session.
pub(crate) fn open() -> Result<Box<dyn Transport>, TransportError> {
    match socket_path() {
        Some(path) => Ok(Box::new(local::Local::connect(&path)?)),
        None => Ok(Box::new(kernel::Kernel::open()?)),
    }
}

/// Reads the device information, without a session; nothing stays open.
pub(crate) fn device_info() -> Result<Vec<u8>, TransportError> {
    match socket_path() {
        Some(path) => local::Local::connect(&path)?.device_info(),
        None => current(),
    }
}

/// The device information, as of the process's start if that is a moment ago, or as of now.
fn current() -> Result<Vec<u8>, TransportError> {
    if let Some(bytes) = early::fresh() {
        return information::devices(bytes).map(<[u8]>::to_vec);
    }
    let mut bytes = vec![0; size_of::<Info>() + info::MAX_BYTES as usize];
    let length = information::read_node(shim_settings::device(), &mut bytes, || false)?;
    information::devices(bytes.get(..length).unwrap_or_default()).map(<[u8]>::to_vec)
}

/// Maps `length` bytes of `descriptor` at `offset`: anywhere, or over whatever is at `address`.
fn map_shared(
    descriptor: i32,
    offset: u64,
    address: Option<u64>,
    length: u64,
    writable: bool,
) -> Result<NonNull<u8>, TransportError> {
    let place = address.unwrap_or(0);
    let fixed = if address.is_some() { libc::MAP_FIXED } else { 0 };
    let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    let length = usize::try_from(length).map_err(|_| TransportError::NoMemory)?;
    let offset = i64::try_from(offset).map_err(|_| TransportError::NoMemory)?;
    // SAFETY: without an address the kernel chooses free pages; with one, the caller owns the range (the reserved window).
    let base = unsafe {
        libc::mmap(
            std::ptr::with_exposed_provenance_mut(usize::try_from(place).unwrap_or(0)),
            length,
            protection,
            libc::MAP_SHARED | fixed,
            descriptor,
            offset,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(TransportError::NoMemory);
    }
    // A child that is forked must neither see the session nor keep its pages.
    // SAFETY: advice about the mapping that was just made.
    let advised = unsafe { libc::madvise(base, length, libc::MADV_DONTFORK) };
    if advised != 0 {
        return Err(TransportError::NoMemory);
    }
    NonNull::new(base.cast()).ok_or(TransportError::NoMemory)
}

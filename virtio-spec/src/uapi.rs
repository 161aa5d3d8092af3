//! How a guest process reaches the device: the ioctls of `/dev/vcompute0`.
//!
//! The C side is `guest-driver/include/uapi/linux/vcompute.h`; a test compares the two. One open file is at most one
//! session. `open`, `read` and [`INFO`] never wait for the device.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{assert_layout, control::SessionOptions};

/// The device node.
pub const DEVICE_PATH: &str = "/dev/vcompute0";

/// ioctl type byte.
pub const IOCTL_TYPE: u8 = 0xC6;

/// `_IOWR(IOCTL_TYPE, nr, size)` as Linux encodes it: direction, size, type, number.
const fn iowr(nr: u8, size: usize) -> u64 {
    (3 << 30) | ((size as u64) << 16) | ((IOCTL_TYPE as u64) << 8) | nr as u64
}

/// [`Info`]: state of the device.
pub const INFO: u64 = iowr(0, size_of::<Info>());
/// [`SessionCreate`]: makes this file's session and its first region.
pub const SESSION_CREATE: u64 = iowr(1, size_of::<SessionCreate>());
/// [`Map`]: allocates a region of pinned memory.
pub const MAP: u64 = iowr(2, size_of::<Map>());
/// [`Unmap`]: removes a region made by MAP or REGISTER.
pub const UNMAP: u64 = iowr(3, size_of::<Unmap>());
/// [`Register`]: pins pages of the calling process and adds them as a region.
pub const REGISTER: u64 = iowr(4, size_of::<Register>());
/// [`Kick`]: wakes the session's sleeping lanes.
pub const KICK: u64 = iowr(5, size_of::<Kick>());
/// [`Wait`]: sleeps while a word of the first region has a value.
pub const WAIT: u64 = iowr(6, size_of::<Wait>());
/// [`Status`]: what the devices are doing; needs no session.
pub const STATUS: u64 = iowr(7, size_of::<Status>());

/// `mmap` offset of the device information, read-only.
pub const MMAP_INFO: u64 = 0;
/// `mmap` offset of region `n` is `MMAP_REGION + (n << MMAP_REGION_SHIFT)`; the first region is number 0.
pub const MMAP_REGION: u64 = 1 << 52;
/// See [`MMAP_REGION`].
pub const MMAP_REGION_SHIFT: u32 = 36;

/// INFO, and the head of what `read` answers: from the driver's own memory.
///
/// `read` gives the device information behind it, as much as fits into the buffer; the file's offset is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Info {
    /// Protocol version of the driver.
    pub version: u32,
    /// [`crate::device::State`].
    pub state: u32,
    /// Generation of the device information.
    pub generation: u32,
    /// Bytes of device information, which can be mapped at [`MMAP_INFO`]; 0 while there is none.
    pub info_bytes: u32,
    /// Bits of [`info_flags`]; unknown ones mean nothing.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Info, 24, version: 0, state: 4, generation: 8, info_bytes: 12, flags: 16, reserved: 20);

/// Bits of [`Info::flags`].
pub mod info_flags {
    /// The administrator wants no process to do anything before it calls CUDA (module parameter `shim=off`).
    pub const SHIM_OFF: u32 = 1 << 0;
}

/// SESSION_CREATE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SessionCreate {
    /// Bytes of the first region, a multiple of 4 KiB, at most [`crate::limits::MAX_SESSION_BYTES`].
    pub length: u64,
    /// Options, passed on to the device.
    pub options: SessionOptions,
    /// Out: number of the session.
    pub session: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(SessionCreate, 48, length: 0, options: 8, session: 40, reserved: 44);

/// MAP: zeroed, pinned pages, to be mapped by the process with `mmap` at `address`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Map {
    /// Address at which the process will map the region, and at which the worker maps it.
    pub address: u64,
    /// Bytes, a multiple of 4 KiB.
    pub length: u64,
    /// Zero.
    pub flags: u32,
    /// Out: number of the region.
    pub region: u32,
}
assert_layout!(Map, 24, address: 0, length: 8, flags: 16, region: 20);

/// UNMAP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Unmap {
    /// Number of the region.
    pub region: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Unmap, 8, region: 0, reserved: 4);

/// REGISTER: `address` and `length` are page-aligned; the worker maps the pages at the same address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Register {
    /// First byte.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// Bits of [`crate::control::map_flags`].
    pub flags: u32,
    /// Out: number of the region.
    pub region: u32,
}
assert_layout!(Register, 24, address: 0, length: 8, flags: 16, region: 20);

/// KICK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Kick {
    /// Zero.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Kick, 8, flags: 0, reserved: 4);

/// WAIT: returns 0 when the word differs from `expected`, ETIMEDOUT after `timeout_ns`, EINTR on a signal, ENODEV when
/// the session is dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Wait {
    /// Offset of a 32-bit word in the first region, a multiple of 4.
    pub offset: u64,
    /// The word's value for which the caller sleeps.
    pub expected: u32,
    /// Zero.
    pub flags: u32,
    /// Time bound in nanoseconds; the driver caps it at one second.
    pub timeout_ns: u64,
}
assert_layout!(Wait, 24, offset: 0, expected: 8, flags: 12, timeout_ns: 16);

/// STATUS: the device's answer, [`crate::management::StatusReply`] and what follows, or as much as fits; EAGAIN while
/// nothing fresh is known, EINTR on a signal, ETIMEDOUT after two seconds at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Status {
    /// Where the answer goes.
    pub address: u64,
    /// Room there; out: bytes of the whole answer.
    pub length: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Status, 16, address: 0, length: 8, reserved: 12);

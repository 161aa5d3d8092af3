//! Messages of `controlq` (request and reply) and `eventq` (device to driver).
//!
//! A request chain is device-readable: [`RequestHeader`], then the structure of its [`Type`], then, for messages with
//! extents, [`Extent`]s; followed by device-writable room for [`ReplyHeader`] and the reply's structure.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// What a request on `controlq` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Type {
    /// First request after the driver is ready: [`Hello`] → [`HelloReply`].
    Hello = 1,
    /// Reads a part of the device information: [`DeviceInfo`] → bytes.
    DeviceInfo = 2,
    /// Makes a session on the memory of its extents: [`SessionCreate`] → [`SessionCreateReply`].
    SessionCreate = 3,
    /// Ends a session; answered when its worker is gone from the GPU: no payload.
    SessionDestroy = 4,
    /// Adds a region, or the next extents of one: [`Map`] → no payload.
    Map = 5,
    /// Removes a region; answered when the device no longer touches its pages: [`Unmap`] → no payload.
    Unmap = 6,
    /// Wakes the session's sleeping lanes: no payload.
    Kick = 7,
    /// What the devices are doing: no payload → [`crate::management::StatusReply`].
    Status = 8,
}

impl Type {
    /// The type with this number, if there is one.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Hello),
            2 => Some(Self::DeviceInfo),
            3 => Some(Self::SessionCreate),
            4 => Some(Self::SessionDestroy),
            5 => Some(Self::Map),
            6 => Some(Self::Unmap),
            7 => Some(Self::Kick),
            8 => Some(Self::Status),
            _ => None,
        }
    }
}

/// How a request on `controlq` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A number, length, flag or extent is not what the request needs.
    Invalid = 1,
    /// The request, version or feature is not known to this device.
    Unsupported = 2,
    /// No such session (any more).
    NoSession = 3,
    /// A limit is reached.
    Limit = 4,
    /// The host could not provide memory, a process or an address.
    NoMemory = 5,
    /// The extents lie in guest memory that is not shared with the device.
    NotShared = 6,
    /// The device is starting; ask again.
    Again = 7,
    /// The host's part has failed.
    Failed = 8,
    /// The address range is taken in the worker.
    AddressTaken = 9,
}

impl Status {
    /// The status with this number, if there is one.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            0 => Some(Self::Ok),
            1 => Some(Self::Invalid),
            2 => Some(Self::Unsupported),
            3 => Some(Self::NoSession),
            4 => Some(Self::Limit),
            5 => Some(Self::NoMemory),
            6 => Some(Self::NotShared),
            7 => Some(Self::Again),
            8 => Some(Self::Failed),
            9 => Some(Self::AddressTaken),
            _ => None,
        }
    }
}

/// Start of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RequestHeader {
    /// [`Type`].
    pub kind: u32,
    /// Session that the request is about; zero for HELLO, DEVICE_INFO, SESSION_CREATE and STATUS.
    pub session: u32,
    /// Bytes that follow this header in the device-readable part.
    pub length: u32,
    /// Zero.
    pub flags: u32,
}
assert_layout!(RequestHeader, 16, kind: 0, session: 4, length: 8, flags: 12);

/// Start of every reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ReplyHeader {
    /// [`Status`].
    pub status: u32,
    /// Bytes that follow this header.
    pub length: u32,
}
assert_layout!(ReplyHeader, 8, status: 0, length: 4);

/// HELLO: the driver introduces itself. Sessions of another nonce are destroyed before the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Hello {
    /// Random number that the driver draws once at each start of the guest's kernel and after each device reset.
    pub boot_nonce: u64,
    /// [`crate::device::PROTOCOL_VERSION`] of the driver.
    pub version: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Hello, 16, boot_nonce: 0, version: 8, reserved: 12);

/// Reply to HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct HelloReply {
    /// Protocol version of the device.
    pub version: u32,
    /// [`crate::device::State`].
    pub state: u32,
    /// Generation of the configuration and of the device information.
    pub generation: u32,
    /// Bytes of the device information.
    pub info_bytes: u32,
}
assert_layout!(HelloReply, 16, version: 0, state: 4, generation: 8, info_bytes: 12);

/// DEVICE_INFO: which bytes of the device information are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DeviceInfo {
    /// First byte.
    pub offset: u32,
    /// Bytes; the reply is shorter where the information ends.
    pub length: u32,
}
assert_layout!(DeviceInfo, 8, offset: 0, length: 4);

/// What a session is made with: an enumerated set, never names and values of an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SessionOptions {
    /// Process ID in the guest, for log lines and for STATUS.
    pub process: u32,
    /// Bits of [`options`]; unknown bits are refused.
    pub flags: u32,
    /// `CUDA_DEVICE_MAX_CONNECTIONS` (1 to 32), 0 = unset.
    pub max_connections: u32,
    /// Place in the device information of the device that the process will use first, as far as can be known: a hint.
    pub device: u32,
    /// Zero.
    pub reserved: [u32; 4],
}
assert_layout!(SessionOptions, 32, process: 0, flags: 4, max_connections: 8, device: 12, reserved: 16);

/// Bits of [`SessionOptions::flags`].
pub mod options {
    /// `CUDA_MODULE_LOADING=EAGER`.
    pub const EAGER_LOADING: u32 = 1 << 0;
    /// Every bit that is known.
    pub const ALL: u32 = EAGER_LOADING;
}

/// SESSION_CREATE: the first region (header, lanes, staging) as extents, and the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SessionCreate {
    /// Bytes of the first region; the extents cover exactly these.
    pub length: u64,
    /// Extents that follow (0 on the local transport, where a descriptor is passed instead).
    pub extent_count: u32,
    /// Zero.
    pub reserved: u32,
    /// Options.
    pub options: SessionOptions,
}
assert_layout!(SessionCreate, 48, length: 0, extent_count: 8, reserved: 12, options: 16);

/// Reply to SESSION_CREATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SessionCreateReply {
    /// Number of the session, never zero, not reused while the device is running.
    pub session: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(SessionCreateReply, 8, session: 0, reserved: 4);

/// Contiguous guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Extent {
    /// Guest-physical address, 4 KiB-aligned.
    pub address: u64,
    /// Bytes, a multiple of 4 KiB.
    pub length: u64,
}
assert_layout!(Extent, 16, address: 0, length: 8);

/// MAP: adds a region of guest memory to the session, at a given address in the worker.
///
/// A region whose extents exceed one message is sent in several: each carries the same `region`, `address` and
/// `length`, and its extents follow those of the message before it. It is mapped when the extents cover `length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Map {
    /// Number of the region within the session, chosen by the driver, 1 or higher, not in use.
    pub region: u32,
    /// Bits of [`map_flags`].
    pub flags: u32,
    /// Address in the guest process, which is also the address in the worker; page-aligned.
    pub address: u64,
    /// Bytes of the whole region, a multiple of 4 KiB.
    pub length: u64,
    /// Extents that follow in this message.
    pub extent_count: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Map, 32, region: 0, flags: 4, address: 8, length: 16, extent_count: 24, reserved: 28);

/// Bits of [`Map::flags`].
pub mod map_flags {
    /// The worker maps the region read-only.
    pub const READ_ONLY: u32 = 1 << 0;
    /// Every bit that is known.
    pub const ALL: u32 = READ_ONLY;
}

/// UNMAP: removes a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Unmap {
    /// Number of the region.
    pub region: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Unmap, 8, region: 0, reserved: 4);

/// What `eventq` reports. A doorbell only: the truth is in session memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventType {
    /// Something in the session's memory has changed for which a lane waits.
    Session = 1,
    /// The session's worker has ended; every request of it fails from now on.
    SessionDied = 2,
    /// Configuration or device information have changed.
    Config = 3,
}

/// A message of `eventq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Event {
    /// [`EventType`].
    pub kind: u32,
    /// Session, or zero.
    pub session: u32,
    /// Generation of the configuration.
    pub generation: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(Event, 16, kind: 0, session: 4, generation: 8, reserved: 12);

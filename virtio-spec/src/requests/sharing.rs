//! Requests about memory, events and pools that another process of the same VM opens.
//!
//! What CUDA gives a program as a descriptor is a token too: the guest's library puts it into a descriptor of its own. The
//! device keeps the memory behind such a token until SHARE_FORGET, or the end of the session that asked for it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::MemoryProperties;
use crate::assert_layout;

/// Bytes of a token, as of CUDA's own handles for other processes.
pub const TOKEN_BYTES: usize = 64;

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SharedObject {
    /// An allocation (`cuIpcGetMemHandle`).
    Memory = 1,
    /// An event (`cuIpcGetEventHandle`).
    Event = 2,
    /// Physical memory (`cuMemExportToShareableHandle`).
    Physical = 3,
    /// A pool (`cuMemPoolExportToShareableHandle`).
    Pool = 4,
    /// Memory of a pool (`cuMemPoolExportPointer`), for those who have opened the pool.
    PoolPointer = 5,
}

impl SharedObject {
    /// The object with this number, if there is one.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Memory),
            2 => Some(Self::Event),
            3 => Some(Self::Physical),
            4 => Some(Self::Pool),
            5 => Some(Self::PoolPointer),
            _ => None,
        }
    }

    /// Whether the host's driver passes it on as a descriptor.
    #[must_use]
    pub const fn has_descriptor(self) -> bool {
        matches!(self, Self::Physical | Self::Pool)
    }
}

/// SHARE: a token for something that other processes open. The host's own handle never leaves the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Share {
    /// [`SharedObject`].
    pub object: u32,
    /// Zero.
    pub reserved: u32,
    /// Address of the allocation or of the pool's memory; handle of the event, the physical memory or the pool.
    pub target: u64,
}
assert_layout!(Share, 16, object: 0, reserved: 4, target: 8);

/// → of SHARE: random bytes that the supervisor minted, of a meaning within one VM only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Token {
    /// The token.
    pub bytes: [u8; TOKEN_BYTES],
}
assert_layout!(Token, 64, bytes: 0);

/// SHARE_OPEN: opens what another process has given a token for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ShareOpen {
    /// [`SharedObject`].
    pub object: u32,
    /// `CUipcMem_flags` for an allocation, else zero.
    pub flags: u32,
    /// Handle to make for an event, physical memory or a pool; handle of the pool that memory belongs to; zero for an
    /// allocation.
    pub handle: u64,
    /// The token.
    pub token: [u8; TOKEN_BYTES],
}
assert_layout!(ShareOpen, 80, object: 0, flags: 4, handle: 8, token: 16);

/// → of SHARE_OPEN, but for physical memory: zeros for events and pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ShareOpened {
    /// Where the allocation is in this process.
    pub address: u64,
    /// Its bytes.
    pub length: u64,
}
assert_layout!(ShareOpened, 16, address: 0, length: 8);

/// → of SHARE_OPEN for physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ShareOpenedPhysical {
    /// What the memory is.
    pub properties: MemoryProperties,
}
assert_layout!(ShareOpenedPhysical, 16, properties: 0);

/// SHARE_FORGET: nobody can show a token of this session any more. What has been opened with it stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ShareForget {
    /// The token.
    pub token: [u8; TOKEN_BYTES],
}
assert_layout!(ShareForget, 64, token: 0);

//! Requests about memory and events that another process of the same VM opens.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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
}

impl SharedObject {
    /// The object with this number, if there is one.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Memory),
            2 => Some(Self::Event),
            _ => None,
        }
    }
}

/// SHARE: a token for an allocation or an event. The host's own handle never leaves the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Share {
    /// [`SharedObject`].
    pub object: u32,
    /// Zero.
    pub reserved: u32,
    /// Address of the allocation, or handle of the event.
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
    /// `CUipcMem_flags`; zero for an event.
    pub flags: u32,
    /// Handle to make for an event; zero for memory.
    pub event: u64,
    /// The token.
    pub token: [u8; TOKEN_BYTES],
}
assert_layout!(ShareOpen, 80, object: 0, flags: 4, event: 8, token: 16);

/// → of SHARE_OPEN; zeros for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ShareOpened {
    /// Where the allocation is in this process.
    pub address: u64,
    /// Its bytes.
    pub length: u64,
}
assert_layout!(ShareOpened, 16, address: 0, length: 8);

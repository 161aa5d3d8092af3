//! How a worker gets tokens for what other processes of its VM may open, and what is behind a token.
//!
//! What a driver calls a handle for other processes is a bearer secret of the host: whoever knows its bytes opens the
//! memory, in any VM. So a worker deposits it with the supervisor, which gives a random token for it, and another worker
//! of the same VM redeems the token. Guests see tokens alone.
//!
//! Some of them the driver gives as a descriptor: it comes with the packet, and the supervisor keeps it. It keeps the memory
//! with it, so the guest's library says when nobody can show the token any more.
//!
//! One packet each way over a `SOCK_SEQPACKET` pair of its own, which comes with the worker's start. A worker has one
//! question at a time; the supervisor answers at once.

use virtio_spec::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a handle and of a token.
pub(crate) const BYTES: usize = virtio_spec::requests::TOKEN_BYTES;

/// What a worker wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Want {
    /// A token for a handle.
    Deposit = 1,
    /// The handle behind a token.
    Redeem = 2,
    /// A token of this session is not needed any more.
    Forget = 3,
}

impl Want {
    pub(crate) const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Deposit),
            2 => Some(Self::Redeem),
            3 => Some(Self::Forget),
            _ => None,
        }
    }
}

/// A worker's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Question {
    /// [`Want`].
    pub(crate) want: u32,
    /// [`virtio_spec::requests::SharedObject`]: a token is redeemed for the same only.
    pub(crate) object: u32,
    /// The handle (zeros if it is the packet's descriptor), or the token.
    pub(crate) value: [u8; BYTES],
}
assert_layout!(Question, 72, want: 0, object: 4, value: 8);

/// The supervisor's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Answer {
    /// [`virtio_spec::control::Status`].
    pub(crate) status: u32,
    /// Zero.
    pub(crate) reserved: u32,
    /// The token, or the handle; zeros if there is none, or it is the packet's descriptor.
    pub(crate) value: [u8; BYTES],
}
assert_layout!(Answer, 72, status: 0, reserved: 4, value: 8);

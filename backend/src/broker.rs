//! What a worker asks the supervisor: about tokens, and about images.
//!
//! How a worker gets tokens for what other processes of its VM may open, and what is behind a token.
//!
//! What a driver calls a handle for other processes is a bearer secret of the host: whoever knows its bytes opens the
//! memory, in any VM. So a worker deposits it with the supervisor, which gives a random token for it, and another worker
//! of the same VM redeems the token. Guests see tokens alone.
//!
//! Some of them the driver gives as a descriptor: it comes with the packet, and the supervisor keeps it. It keeps the memory
//! with it, so the guest's library says when nobody can show the token any more.
//!
//! Images of code that workers have loaded are deposited too, as sealed files, and found by a key ([`crate::images`]).
//!
//! One packet each way over a `SOCK_SEQPACKET` pair of its own, which comes with the worker's start. A worker has one
//! question at a time; the supervisor answers at once.

use virtio_spec::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::images::Key;

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
    /// The file of an image, by its key. There is none: [`virtio_spec::control::Status::Invalid`].
    FindImage = 3,
    /// To keep the file that comes with the question.
    DepositImage = 4,
    /// A token of this session is not needed any more.
    Forget = 5,
}

impl Want {
    pub(crate) const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Deposit),
            2 => Some(Self::Redeem),
            3 => Some(Self::FindImage),
            4 => Some(Self::DepositImage),
            5 => Some(Self::Forget),
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
    /// [`virtio_spec::requests::SharedObject`]: a token is redeemed for the same only. 0 for images.
    pub(crate) object: u32,
    /// The handle (zeros if it is the packet's descriptor), the token, or an image's key.
    pub(crate) value: [u8; BYTES],
}
assert_layout!(Question, 72, want: 0, object: 4, value: 8);

/// An image's key as a [`Question::value`].
pub(crate) fn key_bytes(key: Key) -> [u8; BYTES] {
    let mut value = [0; BYTES];
    let bytes = key.total.to_le_bytes().into_iter().chain(key.sample.to_le_bytes());
    value.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    value
}

/// The key that a [`Question::value`] is.
pub(crate) fn key(value: &[u8; BYTES]) -> Key {
    let mut numbers = value.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let mut next = || numbers.next().unwrap_or(0);
    Key { total: next(), sample: next() }
}

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

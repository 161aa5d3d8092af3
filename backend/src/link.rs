//! What supervisor and worker say to each other, over a `SOCK_SEQPACKET` pair.
//!
//! The supervisor's packet is a [`Command`] followed by [`Piece`]s; descriptors travel with it. The worker's packet is
//! one [`Reply`]. A worker runs guest-controlled code: whatever it sends that is not the answer to something asked ends
//! it, but for one [`READY`] of a warm worker. The end of the connection ends the worker.
//!
//! | command | descriptors | answered |
//! |---|---|---|
//! | [`Kind::Start`] | kick eventfd; call eventfd unless [`flags::FUTEX`]; socket for tokens if [`flags::BROKER`]; [`crate::spin`]'s file if [`flags::SPIN`]; then files | when region 0 is mapped |
//! | [`Kind::Map`] | files, all with the first of several commands | when the region is mapped; not if [`flags::MORE`] follows |
//! | [`Kind::Unmap`] | | when the region is gone |
//! | [`Kind::Pause`] | | when no lane executes anything |
//! | [`Kind::Resume`], [`Kind::Stop`] | | never |

use virtio_spec::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// Map region 0 from the pieces; serve the session from its first kick on.
    Start = 1,
    /// Map a region at its address.
    Map = 2,
    /// Unmap a region.
    Unmap = 3,
    /// Execute what has been taken from the lanes, and take no more.
    Pause = 4,
    /// Go on.
    Resume = 5,
    /// End.
    Stop = 6,
}

impl Kind {
    pub(crate) const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Start),
            2 => Some(Self::Map),
            3 => Some(Self::Unmap),
            4 => Some(Self::Pause),
            5 => Some(Self::Resume),
            6 => Some(Self::Stop),
            _ => None,
        }
    }
}

/// Bits of [`Command::flags`].
pub(crate) mod flags {
    /// The region is mapped read-only.
    pub(crate) const READ_ONLY: u32 = 1 << 0;
    /// The guest's waiters sleep on futexes in region 0, not behind a call eventfd.
    pub(crate) const FUTEX: u32 = 1 << 1;
    /// More pieces of the same region follow in another command.
    pub(crate) const MORE: u32 = 1 << 2;
    /// With the start comes a socket on which the worker asks for tokens ([`crate::broker`]).
    pub(crate) const BROKER: u32 = 1 << 3;
    /// With the start comes the file in which spinning lanes are counted ([`crate::spin`]); without it none spin.
    pub(crate) const SPIN: u32 = 1 << 4;
}

/// Head of a packet to the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Command {
    /// [`Kind`].
    pub(crate) kind: u32,
    /// Comes back in the reply.
    pub(crate) token: u32,
    /// Region, for Map and Unmap.
    pub(crate) region: u32,
    /// Bits of [`flags`].
    pub(crate) flags: u32,
    /// Address, for Map.
    pub(crate) address: u64,
    /// Bytes of the whole region, for Start and Map.
    pub(crate) length: u64,
    /// Pieces that follow.
    pub(crate) piece_count: u32,
    /// The session's word in the file, for Start with [`flags::SPIN`].
    pub(crate) spin_slot: u32,
    /// Lanes that may spin at once, likewise.
    pub(crate) spin_threads: u32,
    /// How long each may, likewise.
    pub(crate) spin_microseconds: u32,
}
assert_layout!(
    Command, 48,
    kind: 0, token: 4, region: 8, flags: 12, address: 16, length: 24, piece_count: 32,
    spin_slot: 36, spin_threads: 40, spin_microseconds: 44
);

/// A part of a region: bytes of a file that was passed with the same packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Piece {
    /// Which of the files.
    pub(crate) file: u32,
    /// Zero.
    pub(crate) reserved: u32,
    /// First byte in the file.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) length: u64,
}
assert_layout!(Piece, 24, file: 0, offset: 8, length: 16);

/// [`Reply::token`] of a warm worker that is ready, before anything has been asked of it; commands have others. Its
/// status says whether all has been done that was to be.
pub(crate) const READY: u32 = 0;

/// A packet from the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Reply {
    /// Of the command.
    pub(crate) token: u32,
    /// [`virtio_spec::control::Status`].
    pub(crate) status: u32,
}
assert_layout!(Reply, 8, token: 0, status: 4);

/// Pieces in one packet: the packet stays well below what a socket buffer takes by default.
pub(crate) const MAX_PIECES: usize = 2048;

/// Bytes of the longest packet.
pub(crate) const MAX_BYTES: usize = size_of::<Command>() + MAX_PIECES * size_of::<Piece>();

/// A command with its pieces, as bytes.
pub(crate) fn encode(command: &Command, pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<Command>() + size_of_val(pieces));
    bytes.extend_from_slice(command.as_bytes());
    bytes.extend_from_slice(pieces.as_bytes());
    bytes
}

/// The command and pieces in a packet, if it is one.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Kind, Command, Vec<Piece>)> {
    let (command, rest) = Command::read_from_prefix(bytes).ok()?;
    let pieces: Vec<Piece> = rest
        .chunks(size_of::<Piece>())
        .map(|chunk| Piece::read_from_bytes(chunk).ok())
        .collect::<Option<_>>()?;
    (pieces.len() == usize::try_from(command.piece_count).ok()?).then_some((
        Kind::from_u32(command.kind)?,
        command,
        pieces,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_back_as_they_were_sent() {
        let pieces = [
            Piece { file: 0, reserved: 0, offset: 4096, length: 8192 },
            Piece { file: 1, reserved: 0, offset: 0, length: 4096 },
        ];
        let command = Command {
            kind: Kind::Map as u32,
            region: 3,
            length: 12288,
            piece_count: 2,
            ..Command::default()
        };
        assert_eq!(decode(&encode(&command, &pieces)), Some((Kind::Map, command, pieces.to_vec())));
    }

    #[test]
    fn counts_that_do_not_match_are_refused() {
        let command = Command { kind: Kind::Map as u32, piece_count: 2, ..Command::default() };
        assert_eq!(decode(&encode(&command, &[])), None);
        assert_eq!(decode(&[0; 47]), None);
        assert_eq!(decode(&[0; 49]), None);
    }
}

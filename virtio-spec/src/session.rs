//! Session memory: the first region of a session, its lanes, and the headers of requests and responses.
//!
//! ```text
//! 0                    SessionHeader                                        4 KiB
//! 4 KiB                lane 0 │ lane 1 │ … (lane_count, each lane_bytes)
//!
//! a lane               LaneHeader            256 bytes
//!                      descriptor table      16 × queue_size
//!                      available ring        6 + 2 × queue_size
//!                      used ring             6 + 8 × queue_size, at a multiple of 4
//!                      slots                 slot_count × slot_bytes, at a multiple of 64
//!                      staging               staging_bytes, at a multiple of 4 KiB
//! ```
//!
//! A lane is a standard split virtqueue with `VIRTIO_F_EVENT_IDX`, in which addresses are offsets into the region. The
//! guest process writes the four sizes into the header before it makes the session; the worker reads them once, checks
//! them, and both compute every offset with [`Layout`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{assert_layout, limits};

/// First four bytes of session memory: `VCSM`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"VCSM");

/// Bytes of [`SessionHeader`]'s page.
pub const HEADER_BYTES: u64 = 4096;

/// Start of session memory. Each group of fields that one side writes often is on a cache line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SessionHeader {
    /// [`MAGIC`].
    pub magic: u32,
    /// Protocol version.
    pub version: u32,
    /// Lanes in this region.
    pub lane_count: u32,
    /// Descriptors of each lane's queue, a power of two.
    pub queue_size: u32,
    /// Request slots of each lane.
    pub slot_count: u32,
    /// Bytes of each slot, a multiple of 64.
    pub slot_bytes: u32,
    /// Bytes of each lane's staging, a multiple of 4 KiB.
    pub staging_bytes: u64,
    /// Written by the guest: lanes beyond this number have never been opened; 0: it does not say. It only grows, and before
    /// a lane's first request.
    pub lanes_used: u32,
    /// Zero.
    pub reserved0: [u32; 7],

    /// Written by the device: the sticky error (`CUresult`) that every call reads first, 0 while there is none.
    pub sticky_error: u32,
    /// Written by the device: [`WorkerState`].
    pub worker_state: u32,
    /// Written by the device: bit `n` is set when lane `n` has something; the guest clears it.
    pub pending_events: u64,
    /// Written by the device: sleeps of a lane's host thread that ended by the backstop (a counter).
    pub device_backstops: u32,
    /// Written by the device: not 0 while there is output of kernels (`printf`, assertions) that the guest has not read
    /// by [`crate::requests::OutputRead`].
    pub output_waiting: u32,
    /// Zero.
    pub reserved1: [u32; 10],

    /// Written by the guest: the next session sequence number (an atomic counter; the first is 1).
    pub next_sequence: u64,
    /// Written by the guest: sleeps that ended by the backstop (a counter).
    pub guest_backstops: u32,
    /// Zero.
    pub reserved2: [u32; 13],
}
assert_layout!(SessionHeader, 192, magic: 0, version: 4, lane_count: 8, queue_size: 12, slot_count: 16,
    slot_bytes: 20, staging_bytes: 24, lanes_used: 32, reserved0: 36, sticky_error: 64, worker_state: 68, pending_events: 72,
    device_backstops: 80, output_waiting: 84, reserved1: 88, next_sequence: 128, guest_backstops: 136, reserved2: 140);

/// [`SessionHeader::worker_state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum WorkerState {
    /// The worker has not looked at the region yet.
    Starting = 0,
    /// The worker serves the lanes.
    Serving = 1,
    /// The worker refuses the session: the header is wrong, or the driver could not be loaded.
    Refused = 2,
    /// There is no worker any more. Written by the supervisor, when the worker has ended without having been asked to;
    /// what is in the lanes will not be answered.
    Ended = 3,
}

/// Head of a lane. The first cache line is written by the guest, the second by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct LaneHeader {
    /// [`LaneState`], set by the guest process that takes the lane.
    pub state: u32,
    /// Zero.
    pub reserved0: u32,
    /// Sequence number of the last posted request, written before it is made available.
    pub posted_sequence: u64,
    /// Zero.
    pub reserved1: [u32; 12],

    /// First late, non-sticky error (`CUresult`) of a posted request since the guest last took it; 0 if none.
    pub deferred_error: u32,
    /// Zero.
    pub reserved2: [u32; 47],
}
assert_layout!(LaneHeader, 256, state: 0, reserved0: 4, posted_sequence: 8, reserved1: 16, deferred_error: 64,
    reserved2: 68);

/// [`LaneHeader::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LaneState {
    /// Nobody uses the lane; its host thread, if it has one, may end.
    Free = 0,
    /// A guest thread uses the lane. The first kick after this starts its host thread.
    Open = 1,
}

/// Where the parts of a lane's two rings lie in them (VIRTIO 1.2, 2.7.6 and 2.7.8).
pub mod ring {
    /// Of the index, in either.
    pub const INDEX: u64 = 2;
    /// Of the first entry, in either.
    pub const ENTRIES: u64 = 4;

    /// Of `used_event`, behind the available ring's entries, for a queue of `size` descriptors.
    #[must_use]
    pub const fn used_event(size: u16) -> u64 {
        ENTRIES + 2 * size as u64
    }

    /// Of `avail_event`, behind the used ring's entries.
    #[must_use]
    pub const fn available_event(size: u16) -> u64 {
        ENTRIES + 8 * size as u64
    }
}

/// The four sizes from which every offset of session memory follows, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    lane_count: u32,
    queue_size: u16,
    slot_count: u32,
    slot_bytes: u32,
    staging_bytes: u64,
}

/// Why four sizes make no session memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// No lane, or more than [`limits::MAX_LANES`].
    LaneCount,
    /// Not a power of two, or more than [`limits::MAX_LANE_QUEUE_SIZE`].
    QueueSize,
    /// No slot, more slots than descriptors, or a slot that is not a multiple of 64 bytes or too large.
    Slots,
    /// Not a multiple of 4 KiB, or the whole exceeds [`limits::MAX_SESSION_BYTES`].
    Staging,
}

const fn align_up(value: u64, alignment: u64) -> u64 {
    value.div_ceil(alignment) * alignment
}

impl Layout {
    /// What the shim asks for when nothing says otherwise: 16 lanes with 1 MiB of staging each.
    pub const DEFAULT: Self =
        Self { lane_count: 16, queue_size: 512, slot_count: 512, slot_bytes: 256, staging_bytes: 1 << 20 };

    /// Checks sizes that came from the other side.
    ///
    /// # Errors
    /// Which size is out of bounds.
    pub const fn new(
        lane_count: u32,
        queue_size: u32,
        slot_count: u32,
        slot_bytes: u32,
        staging_bytes: u64,
    ) -> Result<Self, LayoutError> {
        if lane_count == 0 || lane_count > limits::MAX_LANES {
            return Err(LayoutError::LaneCount);
        }
        if !queue_size.is_power_of_two() || queue_size > limits::MAX_LANE_QUEUE_SIZE as u32 {
            return Err(LayoutError::QueueSize);
        }
        if slot_count == 0 || slot_count > queue_size || !slot_bytes.is_multiple_of(64) || slot_bytes == 0 {
            return Err(LayoutError::Slots);
        }
        if slot_bytes > limits::MAX_REQUEST_BYTES {
            return Err(LayoutError::Slots);
        }
        if !staging_bytes.is_multiple_of(4096) || staging_bytes > limits::MAX_SESSION_BYTES {
            return Err(LayoutError::Staging);
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded by MAX_LANE_QUEUE_SIZE above")]
        let queue_size = queue_size as u16;
        let layout = Self { lane_count, queue_size, slot_count, slot_bytes, staging_bytes };
        if layout.total_bytes() > limits::MAX_SESSION_BYTES {
            return Err(LayoutError::Staging);
        }
        Ok(layout)
    }

    /// Takes and checks the sizes of a header.
    ///
    /// # Errors
    /// Which size is out of bounds.
    pub const fn from_header(header: &SessionHeader) -> Result<Self, LayoutError> {
        Self::new(
            header.lane_count,
            header.queue_size,
            header.slot_count,
            header.slot_bytes,
            header.staging_bytes,
        )
    }

    /// Lanes.
    #[must_use]
    pub const fn lane_count(&self) -> u32 {
        self.lane_count
    }

    /// Descriptors of a lane's queue.
    #[must_use]
    pub const fn queue_size(&self) -> u16 {
        self.queue_size
    }

    /// Slots of a lane.
    #[must_use]
    pub const fn slot_count(&self) -> u32 {
        self.slot_count
    }

    /// Bytes of a slot.
    #[must_use]
    pub const fn slot_bytes(&self) -> u32 {
        self.slot_bytes
    }

    /// Bytes of a lane's staging.
    #[must_use]
    pub const fn staging_bytes(&self) -> u64 {
        self.staging_bytes
    }

    const fn descriptors_in_lane(&self) -> u64 {
        size_of::<LaneHeader>() as u64
    }

    const fn available_in_lane(&self) -> u64 {
        self.descriptors_in_lane() + 16 * self.queue_size as u64
    }

    const fn used_in_lane(&self) -> u64 {
        align_up(self.available_in_lane() + ring::used_event(self.queue_size) + 2, 64)
    }

    const fn slots_in_lane(&self) -> u64 {
        align_up(self.used_in_lane() + ring::available_event(self.queue_size) + 2, 64)
    }

    const fn staging_in_lane(&self) -> u64 {
        align_up(self.slots_in_lane() + self.slot_count as u64 * self.slot_bytes as u64, 4096)
    }

    /// Bytes of one lane.
    #[must_use]
    pub const fn lane_bytes(&self) -> u64 {
        self.staging_in_lane() + self.staging_bytes
    }

    /// Bytes of the region: header and lanes.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        HEADER_BYTES + self.lane_count as u64 * self.lane_bytes()
    }

    /// Offset of lane `lane`'s header in the region. `lane` is below [`Layout::lane_count`].
    #[must_use]
    pub const fn lane(&self, lane: u32) -> u64 {
        HEADER_BYTES + lane as u64 * self.lane_bytes()
    }

    /// Offset of the lane's descriptor table.
    #[must_use]
    pub const fn descriptors(&self, lane: u32) -> u64 {
        self.lane(lane) + self.descriptors_in_lane()
    }

    /// Offset of the lane's available ring.
    #[must_use]
    pub const fn available(&self, lane: u32) -> u64 {
        self.lane(lane) + self.available_in_lane()
    }

    /// Offset of the lane's used ring. Its first 32-bit word (flags and index) is what a sleeping guest thread waits on.
    #[must_use]
    pub const fn used(&self, lane: u32) -> u64 {
        self.lane(lane) + self.used_in_lane()
    }

    /// Offset of slot `slot` of the lane.
    #[must_use]
    pub const fn slot(&self, lane: u32, slot: u32) -> u64 {
        self.lane(lane) + self.slots_in_lane() + slot as u64 * self.slot_bytes as u64
    }

    /// Offset of the lane's staging.
    #[must_use]
    pub const fn staging(&self, lane: u32) -> u64 {
        self.lane(lane) + self.staging_in_lane()
    }
}

/// Start of every request in a lane. Parameters follow as [`crate::codec`] or [`crate::requests`] say.
///
/// A chain is: this header and the parameters (device-readable), then optionally bulk data (device-readable), then for
/// answered requests the response (device-writable), then optionally bulk results (device-writable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RequestHeader {
    /// Opcode of the call table, or of [`crate::requests`].
    pub opcode: u32,
    /// Bits of [`request_flags`].
    pub flags: u32,
    /// Session sequence number.
    pub sequence: u64,
    /// Handle of the context that is current in the guest thread, 0 = none.
    pub context: u64,
    /// Bytes of parameters that follow.
    pub length: u32,
    /// The guest thread's stream capture mode (`CUstreamCaptureMode`).
    pub capture_mode: u32,
}
assert_layout!(RequestHeader, 32, opcode: 0, flags: 4, sequence: 8, context: 16, length: 24, capture_mode: 28);

/// Bits of [`RequestHeader::flags`].
pub mod request_flags {
    /// Nobody waits for the response: the chain has no device-writable part.
    pub const POSTED: u32 = 1 << 0;
    /// The call was made through a `_ptsz`/`_ptds` entry: the null stream is the thread's own.
    pub const PER_THREAD_STREAM: u32 = 1 << 1;
    /// Every bit that is known.
    pub const ALL: u32 = POSTED | PER_THREAD_STREAM;
}

/// Start of every response, at a multiple of 8.
///
/// The guest writes [`ResponseHeader::PENDING`] there before it makes the chain available, and the device the header as one
/// word after everything else of the response. So a guest that looks needs that one cache line to have its answer. The
/// chain's memory is the guest's again when the used ring says so, which is also what a guest that sleeps is woken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResponseHeader {
    /// The call's `CUresult`.
    pub result: u32,
    /// Bytes that follow.
    pub length: u32,
}
assert_layout!(ResponseHeader, 8, result: 0, length: 4);

impl ResponseHeader {
    /// The word of a response that is not there yet: no response is so long.
    pub const PENDING: u64 = u64::MAX;

    /// The header as the word that is written.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.result as u64 | (self.length as u64) << 32
    }

    /// The header of a word; `None` while it is [`ResponseHeader::PENDING`].
    #[must_use]
    pub const fn from_word(word: u64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (result, length) = (word as u32, (word >> 32) as u32);
        if word == Self::PENDING { None } else { Some(Self { result, length }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_lane_do_not_overlap() {
        let layout = Layout::DEFAULT;
        let size = u64::from(layout.queue_size());
        assert_eq!(layout.available(1) - layout.descriptors(1), 16 * size);
        assert!(layout.used(1) >= layout.available(1) + 6 + 2 * size);
        assert!(layout.slot(1, 0) >= layout.used(1) + 6 + 8 * size);
        assert!(layout.staging(1) >= layout.slot(1, layout.slot_count()));
        assert_eq!(layout.lane(2), layout.staging(1) + layout.staging_bytes());
        assert_eq!(layout.staging(0) % 4096, 0);
        assert_eq!(layout.used(0) % 4, 0);
        assert_eq!(layout.total_bytes() % 4096, 0);
    }

    #[test]
    fn a_response_s_header_is_one_word() {
        let header = ResponseHeader { result: 719, length: 64 };
        assert_eq!(ResponseHeader::from_word(header.word()), Some(header));
        assert_eq!(header.word().to_le_bytes(), header.as_bytes());
        assert_eq!(ResponseHeader::from_word(ResponseHeader::PENDING), None);
        let longest = ResponseHeader { result: u32::MAX, length: limits::MAX_RESPONSE_BYTES };
        assert_eq!(ResponseHeader::from_word(longest.word()), Some(longest));
    }

    #[test]
    fn refuses_sizes_out_of_bounds() {
        assert_eq!(Layout::new(0, 256, 128, 1024, 0), Err(LayoutError::LaneCount));
        assert_eq!(Layout::new(65, 256, 128, 1024, 0), Err(LayoutError::LaneCount));
        assert_eq!(Layout::new(1, 200, 128, 1024, 0), Err(LayoutError::QueueSize));
        assert_eq!(Layout::new(1, 256, 257, 1024, 0), Err(LayoutError::Slots));
        assert_eq!(Layout::new(1, 256, 128, 1000, 0), Err(LayoutError::Slots));
        assert_eq!(Layout::new(1, 256, 128, 1024, 100), Err(LayoutError::Staging));
        assert_eq!(Layout::new(64, 256, 128, 1024, 256 << 20), Err(LayoutError::Staging));
    }
}

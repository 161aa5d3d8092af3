//! Copies of memory that only the process reaches, through chunks of memory that the device reaches too: those of the lane's
//! staging or, for large copies, of a region of their own (`room`). How they go through them is `pipeline`.
//!
//! Unsafe code: a copy with the caller's promises.

use virtio_spec::cuda::CUresult;
use virtio_spec::requests::{Origin, Place};

use super::bulk::Direction;
use super::copy::{Claim, End, Manner, Shape, has_array, pointer, request, start};
use super::helper;
use super::pipeline::{Chunks, Device, Pipeline};
use super::room::{self, Room};
use crate::context;
use crate::session::lane::Pending;
use crate::wire::Burst;

/// Bytes of a chunk, for a copy of few bytes, for others, and for one of many: large ones cost the device fewer calls, small
/// ones let it begin sooner. Measured on a H200 (docs/performance.md).
const CHUNK: (u64, u64, u64) = (256 << 10, 512 << 10, 1 << 20);
/// A copy of few bytes.
const FEW: u64 = 2 << 20;
/// A copy of many, which goes through chunks of the greatest size where it has room of its own.
const MANY: u64 = 16 << 20;
/// A large copy, which has a helper, and room of its own with it.
const LARGE: u64 = 4 << 20;
/// Chunks of a copy through the lane's staging, at most.
const CHUNKS: u64 = 4;

/// A rectangle of a copy that fits a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    slice: u64,
    row: u64,
    column: u64,
    pub(super) width: u64,
    pub(super) rows: u64,
}

impl Piece {
    /// Where it begins on an end.
    pub(super) const fn address(&self, end: &End) -> u64 {
        end.address + (self.slice * end.slice_height + self.row) * end.pitch + self.column
    }

    /// The end from where it begins.
    const fn end(&self, end: &End) -> End {
        if matches!(end.claim, Claim::Array) {
            let Origin { x, y, z } = end.origin;
            let origin = Origin { x: x + self.column, y: y + self.row, z: z + self.slice };
            return End { origin, ..*end };
        }
        End { address: self.address(end), ..*end }
    }
}

/// Cuts a shape into pieces of at most `most` bytes.
pub(super) fn pieces(shape: Shape, most: u64) -> impl Iterator<Item = Piece> {
    let width = shape.width.min(most);
    let rows = (most / width).clamp(1, shape.height);
    // Rows that do not fit whole are cut, one at a time.
    let rows = if width < shape.width { 1 } else { rows };
    let columns = shape.width.div_ceil(width);
    let bands = shape.height.div_ceil(rows);
    (0..shape.depth).flat_map(move |slice| {
        (0..bands).flat_map(move |band| {
            (0..columns).map(move |column| Piece {
                slice,
                row: band * rows,
                column: column * width,
                width: width.min(shape.width - column * width),
                rows: rows.min(shape.height - band * rows),
            })
        })
    })
}

/// Requests that copy between chunks and a `shared` end.
struct Requests<'a> {
    burst: Burst,
    shared: &'a End,
    place: Place,
    /// Where the chunks lie, as requests name it.
    chunks: (Place, u64),
    manner: Manner,
    direction: Direction,
}

impl Device for Requests<'_> {
    type Pending = Pending;

    fn send(&mut self, piece: Piece, offset: u64) -> Result<Pending, CUresult> {
        let (place, first) = self.chunks;
        let linear = End::linear(first + offset, Claim::Host);
        let chunk = (place, &End { pitch: piece.width, slice_height: piece.rows, ..linear });
        let shared = (self.place, &piece.end(self.shared));
        let (to, from) = match self.direction {
            Direction::ToDevice => (shared, chunk),
            Direction::ToProcess => (chunk, shared),
        };
        let shape = Shape { width: piece.width, height: piece.rows, depth: 1 };
        let body = request(to, from, shape, self.manner.stream, self.manner.waited_for());
        if has_array(&body) { self.burst.send(&body) } else { self.burst.send(&body.copy) }
    }

    fn receive(&mut self, pending: Pending) -> Result<(), CUresult> {
        self.burst.receive(pending)
    }
}

/// Copies between a `shared` end and a `process` end through chunks.
///
/// # Safety
/// The `process` end is readable ([`Direction::ToDevice`]) or writable over the whole shape.
pub(super) unsafe fn staged(
    shared: &End,
    process: &End,
    place: Place,
    shape: Shape,
    manner: Manner,
    direction: Direction,
) -> Result<(), CUresult> {
    let bytes = shape.width.saturating_mul(shape.height).saturating_mul(shape.depth);
    let is_large = bytes >= LARGE;
    // Both are taken before the lane is, and given back after it. One thread alone is as fast with what stays in its caches.
    let helper = if is_large { helper::take() } else { None };
    let room = if helper.is_some() { Room::take(context::required()?) } else { None };

    let burst = start(place == Place::Array)?.into_burst();
    let (named, chunks) = if let Some(room) = &room {
        let most = if bytes < MANY { CHUNK.1 } else { CHUNK.2 };
        let memory = pointer(room.address());
        ((Place::Region, room.address()), Chunks { memory, bytes: most, count: room::BYTES / most })
    } else {
        let (offset, room) = burst.staging();
        let most = if bytes <= FEW { CHUNK.0 } else { CHUNK.1 }.min(room / 2);
        let count = (room / most).min(CHUNKS);
        ((Place::Staging, 0), Chunks { memory: burst.memory(offset, room), bytes: most, count })
    };
    let mut requests = Requests { burst, shared, place, chunks: named, manner, direction };
    let pipeline = Pipeline::new(&mut requests, process, direction, chunks, helper);
    // SAFETY: the caller's promise about the process's end; the chunks are the lane's, which is held, or this copy's own.
    unsafe { pipeline.run(pieces(shape, chunks.bytes)) }?;
    requests.burst.late_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_shape_once() {
        for (shape, most) in [
            (Shape::linear(1000), 256),
            (Shape { width: 100, height: 7, depth: 3 }, 256),
            (Shape { width: 300, height: 2, depth: 2 }, 256),
            (Shape { width: 256, height: 5, depth: 1 }, 256),
        ] {
            let mut seen = std::collections::HashSet::new();
            for piece in pieces(shape, most) {
                assert!(piece.width * piece.rows <= most, "{piece:?}");
                for row in piece.row..piece.row + piece.rows {
                    for column in piece.column..piece.column + piece.width {
                        assert!(seen.insert((piece.slice, row, column)), "{piece:?} twice");
                    }
                }
            }
            assert_eq!(seen.len() as u64, shape.width * shape.height * shape.depth, "{shape:?}");
        }
    }
}

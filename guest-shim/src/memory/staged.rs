//! Copies of memory that only the process reaches, through the lane's staging: the device takes one chunk while the next one
//! is filled, or is emptied while the device fills the next.
//!
//! Unsafe code: copies between the application's memory and staging.

use virtio_spec::cuda::CUresult;
use virtio_spec::requests::{Origin, Place};

use super::bulk;
use super::copy::{Claim, End, Manner, Shape, application_bytes, has_array, pointer, request, start};
use crate::session::lane::Pending;
use crate::wire::Burst;

/// Bytes of a copy's chunks, of a copy of few bytes and of others: large ones cost the device fewer calls, small ones
/// let it begin sooner. Measured on a H200 (docs/performance.md).
const CHUNK: (u64, u64) = (256 << 10, 512 << 10);
/// A copy of few bytes.
const FEW: u64 = 2 << 20;
/// Most chunks of a copy that are under way at once.
const CHUNKS: usize = 4;
/// Bytes from which rows are copied past the caches.
const BULK: u64 = 64 << 10;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToDevice,
    ToProcess,
}

/// Copies between a `shared` end and a `process` end through staging.
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
    let mut burst = start(place == Place::Array)?.into_burst();
    let (staging, bytes) = burst.staging();
    let is_small = shape.width.saturating_mul(shape.height).saturating_mul(shape.depth) <= FEW;
    let most = if is_small { CHUNK.0 } else { CHUNK.1 }.min(bytes / 2);
    let chunks = usize::try_from(bytes / most).map_or(CHUNKS, |chunks| chunks.min(CHUNKS));
    let mut under_way: [Option<(Pending, Piece)>; CHUNKS] = [None; CHUNKS];
    let mut outcome = Ok(());

    for (number, piece) in pieces(shape, most).enumerate() {
        let chunk = number % chunks;
        let offset = chunk as u64 * most;
        if let Some((pending, earlier)) = under_way[chunk].take() {
            // SAFETY: the caller's promise about the process's end.
            outcome = unsafe { finish(&mut burst, pending, earlier, staging + offset, process, direction) };
        }
        if outcome.is_err() {
            break;
        }
        if direction == Direction::ToDevice {
            for row in 0..piece.rows {
                let from = piece.address(process) + row * process.pitch;
                let to = burst.memory(staging + offset + row * piece.width, piece.width);
                // SAFETY: a row of the caller's source.
                let bytes = unsafe { application_bytes(from, piece.width) };
                // SAFETY: staging of this lane, which is held, with room for the row; nothing under way uses the chunk.
                unsafe { copy_row(bytes.as_ptr(), to, bytes.len()) };
            }
        }
        let in_staging =
            End { pitch: piece.width, slice_height: piece.rows, ..End::linear(offset, Claim::Host) };
        let on_device = piece.end(shared);
        let (staging_side, shared_side) = ((Place::Staging, &in_staging), (place, &on_device));
        let rectangle = Shape { width: piece.width, height: piece.rows, depth: 1 };
        let (to, from) = match direction {
            Direction::ToDevice => (shared_side, staging_side),
            Direction::ToProcess => (staging_side, shared_side),
        };
        let body = request(to, from, rectangle, manner.stream, manner.waited_for());
        let sent = if has_array(&body) { burst.send(&body) } else { burst.send(&body.copy) };
        match sent {
            Ok(pending) => under_way[chunk] = Some((pending, piece)),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }

    // What is under way uses staging, so it is waited for whatever happened.
    let mut rest: Vec<(usize, (Pending, Piece))> =
        under_way.into_iter().enumerate().filter_map(|(chunk, entry)| Some((chunk, entry?))).collect();
    rest.sort_by_key(|(_, (_, piece))| (piece.slice, piece.row, piece.column));
    for (chunk, (pending, piece)) in rest {
        let offset = staging + chunk as u64 * most;
        // SAFETY: the caller's promise about the process's end.
        let end = unsafe { finish(&mut burst, pending, piece, offset, process, direction) };
        outcome = outcome.and(end);
    }
    match (outcome, direction) {
        (Ok(()), _) => burst.late_error(),
        (error, _) => error,
    }
}

/// Waits for a piece and brings it to the process.
///
/// # Safety
/// As for [`staged`].
unsafe fn finish(
    burst: &mut Burst,
    pending: Pending,
    piece: Piece,
    staging: u64,
    process: &End,
    direction: Direction,
) -> Result<(), CUresult> {
    burst.receive(pending)?;
    if direction == Direction::ToProcess {
        for row in 0..piece.rows {
            let from = burst.memory(staging + row * piece.width, piece.width);
            let length = usize::try_from(piece.width).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
            let to = pointer(piece.address(process) + row * process.pitch);
            // SAFETY: a row in staging, and a row of the caller's destination, which does not overlap session memory.
            unsafe { copy_row(from, to, length) };
        }
    }
    Ok(())
}

/// Copies a row.
///
/// # Safety
/// `length` bytes are readable at `from` and writable at `to`, and the two do not overlap.
unsafe fn copy_row(from: *const u8, to: *mut u8, length: usize) {
    if length as u64 >= BULK {
        // SAFETY: as the caller promises.
        unsafe { bulk::copy(from, to, length) };
    } else {
        // SAFETY: as the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(from, to, length) };
    }
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

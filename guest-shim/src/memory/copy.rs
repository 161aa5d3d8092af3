//! Copies of every form: linear, 2D and 3D, between any two kinds of memory, synchronous or on a stream.
//!
//! What the device reaches on both sides, arrays among it, is one request. Memory that only the process reaches goes through the lane's
//! staging in chunks, two at a time, or inside the request when it is small.
//!
//! Unsafe code: copies between the application's memory and staging.

use virtio_spec::cuda::{CUresult, CUstreamCaptureStatus};
use virtio_spec::handle::Kind;
use virtio_spec::requests::{ArrayCopy, Copy, Origin, Place, Side, copy_flags, opcode};

use super::{Reach, bulk, reach};
use crate::graph::{capture, held};
use crate::session::lane::Pending;
use crate::wire::{Burst, Request};
use crate::{context, handles};

/// Most bytes that travel inside a request or a response.
const INLINE: u32 = 768;
/// Bytes of a copy's chunks, of a copy of few bytes and of others: large ones cost the device fewer calls, small ones
/// let it begin sooner. Measured on a H200 (docs/performance.md).
const CHUNK: (u64, u64) = (256 << 10, 512 << 10);
/// A copy of few bytes.
const FEW: u64 = 2 << 20;
/// Most chunks of a copy that are under way at once.
const CHUNKS: usize = 4;
/// Bytes from which rows are copied past the caches.
const BULK: u64 = 64 << 10;
const LEGACY_STREAM: u64 = 1;
const PER_THREAD_STREAM: u64 = 2;

/// What the application says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the device's.
    Device,
    /// It is the process's.
    Host,
    /// Its number tells.
    Unified,
    /// It is the handle of an array.
    Array,
}

/// One end of a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// First byte; an array's handle.
    pub(crate) address: u64,
    /// Bytes from one row to the next.
    pub(crate) pitch: u64,
    /// Rows from one slice to the next.
    pub(crate) slice_height: u64,
    /// What it is said to be.
    pub(crate) claim: Claim,
    /// Where the copy begins in an array.
    pub(crate) origin: Origin,
}

impl End {
    /// An end of a linear copy.
    pub(crate) const fn linear(address: u64, claim: Claim) -> Self {
        Self { address, pitch: 0, slice_height: 0, claim, origin: Origin { x: 0, y: 0, z: 0 } }
    }

    /// An end that is an array.
    pub(crate) const fn array(handle: u64, origin: Origin) -> Self {
        Self { address: handle, pitch: 0, slice_height: 0, claim: Claim::Array, origin }
    }
}

/// `width` bytes × `height` rows × `depth` slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) width: u64,
    pub(crate) height: u64,
    pub(crate) depth: u64,
}

impl Shape {
    /// A linear copy.
    pub(crate) const fn linear(width: u64) -> Self {
        Self { width, height: 1, depth: 1 }
    }

    const fn is_linear(self) -> bool {
        self.height == 1 && self.depth == 1
    }

    /// Bytes from the first to the last byte of an end.
    fn span(self, end: &End) -> Option<u64> {
        if end.claim == Claim::Array {
            return Some(0);
        }
        let slices = (self.depth - 1).checked_mul(end.slice_height)?.checked_mul(end.pitch)?;
        let rows = (self.height - 1).checked_mul(end.pitch)?;
        slices.checked_add(rows)?.checked_add(self.width)
    }
}

/// On which stream, and whether the caller waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Stream handle, or one of CUDA's constants.
    stream: u64,
    flags: u32,
}

impl Manner {
    /// A synchronous form: on the legacy stream, or on the thread's own and then waited for.
    pub(crate) const fn synchronous(per_thread: bool) -> Self {
        if per_thread {
            Self { stream: PER_THREAD_STREAM, flags: copy_flags::ASYNC | copy_flags::WAIT }
        } else {
            Self { stream: 0, flags: 0 }
        }
    }

    /// An asynchronous form.
    pub(crate) const fn on_stream(stream: u64, per_thread: bool) -> Self {
        let stream = if stream == 0 && per_thread { PER_THREAD_STREAM } else { stream };
        Self { stream, flags: copy_flags::ASYNC }
    }

    const fn is_asynchronous(self) -> bool {
        self.flags == copy_flags::ASYNC
    }

    /// The same, waited for where the stream alone would not make it so.
    const fn waited_for(self) -> u32 {
        if self.flags == 0 { 0 } else { copy_flags::ASYNC | copy_flags::WAIT }
    }
}

/// Whether a stream's value is one that requests may be posted to; a wrong one is answered with CUDA's own error.
pub(crate) fn is_stream(stream: u64) -> bool {
    matches!(stream, 0 | LEGACY_STREAM | PER_THREAD_STREAM) || handles::check(&[Kind::Stream], stream)
}

/// How an end is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By the device; the flag says whether the shim knows the whole range.
    Shared(Place, bool),
    /// By the process alone.
    Staged,
}

fn way(end: &End, span: u64, written: bool) -> Way {
    if end.claim == Claim::Array {
        // The driver knows the array's size.
        return Way::Shared(Place::Array, false);
    }
    match (reach(end.address, span), end.claim) {
        (Reach::Device { known }, _) => Way::Shared(Place::Device, known),
        // What the device may only read, the process can still write.
        (Reach::Region { writable: false }, _) if written => Way::Staged,
        (Reach::Region { .. }, _) => Way::Shared(Place::Region, true),
        // CUDA says what is wrong with it.
        (Reach::Process, Claim::Device | Claim::Array) => Way::Shared(Place::Device, false),
        (Reach::Process, Claim::Host | Claim::Unified) => Way::Staged,
    }
}

/// A way that a graph can go too, and the end as the graph is to name it.
fn shared(way: Way, end: End, span: u64, written: bool) -> Result<(Way, End), CUresult> {
    if way != Way::Staged {
        return Ok((way, end));
    }
    let address = held::share(end.address, span, written)?;
    Ok((Way::Shared(Place::Region, true), End { address, ..end }))
}

const fn side(place: Place, end: &End) -> Side {
    Side {
        place: place as u32,
        reserved: 0,
        address: end.address,
        pitch: end.pitch,
        slice_height: end.slice_height,
    }
}

fn request(
    (to, destination): (Place, &End),
    (from, source): (Place, &End),
    shape: Shape,
    stream: u64,
    flags: u32,
) -> ArrayCopy {
    let copy = Copy {
        destination: side(to, destination),
        source: side(from, source),
        width: shape.width,
        height: shape.height,
        depth: shape.depth,
        stream,
        flags,
        reserved: 0,
    };
    ArrayCopy { copy, destination: destination.origin, source: source.origin }
}

/// Whether a copy needs the longer request.
fn has_array(body: &ArrayCopy) -> bool {
    [body.copy.destination.place, body.copy.source.place].contains(&(Place::Array as u32))
}

fn start(has_array: bool) -> Result<Request, CUresult> {
    Request::start(if has_array { opcode::COPY_ARRAY } else { opcode::COPY }, context::required()?)
}

fn append(request: &mut Request, body: &ArrayCopy) {
    if has_array(body) { request.structure(body) } else { request.structure(&body.copy) }
}

/// Copies.
///
/// # Safety
/// Ends that are memory of the process are readable (source) and writable (destination) over the whole shape, and the
/// two do not overlap.
pub(crate) unsafe fn copy(
    destination: End,
    source: End,
    shape: Shape,
    manner: Manner,
    synchronise: impl FnOnce() -> Result<(), CUresult>,
) -> Result<(), CUresult> {
    context::required()?;
    if shape.width == 0 || shape.height == 0 || shape.depth == 0 {
        return Ok(());
    }
    if destination.address == 0 || source.address == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let (mut destination, mut source, shape) = packed(destination, source, shape);
    let spans = shape.span(&destination).zip(shape.span(&source)).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let mut ways = (way(&destination, spans.0, true), way(&source, spans.1, false));
    if manner.is_asynchronous() && capture::status(manner.stream)? != CUstreamCaptureStatus::NONE {
        // The copy happens whenever the graph is launched, so nothing may lie in staging.
        (ways.0, destination) = shared(ways.0, destination, spans.0, true)?;
        (ways.1, source) = shared(ways.1, source, spans.1, false)?;
    }
    match ways {
        (Way::Shared(to, to_known), Way::Shared(from, from_known)) => {
            let body = request((to, &destination), (from, &source), shape, manner.stream, manner.flags);
            let on_device = to == Place::Device && from == Place::Device && manner.flags == 0;
            let may_post = manner.is_asynchronous() || on_device;
            let posted = may_post && to_known && from_known && is_stream(manner.stream);
            send(&body, &[], posted)
        }
        (Way::Shared(place, known), Way::Staged) => {
            let to = (place, &destination);
            if shape.is_linear() && shape.width <= u64::from(INLINE) {
                // SAFETY: the caller's source of `width` bytes.
                let bytes = unsafe { application_bytes(source.address, shape.width) };
                let from = (Place::Inline, &End { address: 0, ..source });
                let posted = manner.is_asynchronous() && known && is_stream(manner.stream);
                let flags = if posted { manner.flags } else { manner.waited_for() };
                let body = request(to, from, shape, manner.stream, flags);
                let on_device = place == Place::Device && known;
                if !manner.is_asynchronous() && on_device && context::needs_no_barrier(context::required()?) {
                    // The bytes are taken, as CUDA promises; what else it waits for, there is none.
                    return post_copy(&body, bytes);
                }
                return send(&body, bytes, posted);
            }
            // SAFETY: the caller's promise about the source.
            unsafe { staged(&destination, &source, place, shape, manner, Direction::ToDevice) }
        }
        (Way::Staged, Way::Shared(place, _)) => {
            let from = (place, &source);
            if shape.is_linear() && shape.width <= u64::from(INLINE) {
                let to = (Place::Inline, &End { address: 0, ..destination });
                let body = request(to, from, shape, manner.stream, manner.waited_for());
                let mut request = start(has_array(&body))?.with_room(INLINE);
                append(&mut request, &body);
                let mut response = request.synchronising().answer()?;
                let length = usize::try_from(shape.width).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
                // SAFETY: the caller's destination of `width` bytes.
                return unsafe { response.take_bytes(pointer(destination.address), length) };
            }
            // SAFETY: the caller's promise about the destination.
            unsafe { staged(&source, &destination, place, shape, manner, Direction::ToProcess) }
        }
        (Way::Staged, Way::Staged) => {
            synchronise()?;
            for piece in pieces(shape, u64::MAX) {
                let (to, from) = (piece.address(&destination), piece.address(&source));
                for row in 0..piece.rows {
                    // SAFETY: a row of the caller's source.
                    let bytes = unsafe { application_bytes(from + row * source.pitch, piece.width) };
                    // SAFETY: a row of the caller's destination.
                    unsafe { write_application(to + row * destination.pitch, bytes) };
                }
            }
            Ok(())
        }
    }
}

/// Rows that follow one another without gaps on both ends are one row.
fn packed(destination: End, source: End, shape: Shape) -> (End, End, Shape) {
    if shape.is_linear() || destination.claim == Claim::Array || source.claim == Claim::Array {
        return (destination, source, shape);
    }
    let tight = |end: &End| {
        (shape.height == 1 || end.pitch == shape.width)
            && (shape.depth == 1 || (end.pitch == shape.width && end.slice_height == shape.height))
    };
    let total = shape.width.checked_mul(shape.height).and_then(|bytes| bytes.checked_mul(shape.depth));
    match total {
        Some(total) if tight(&destination) && tight(&source) => (
            End::linear(destination.address, destination.claim),
            End::linear(source.address, source.claim),
            Shape::linear(total),
        ),
        _ => (destination, source, shape),
    }
}

fn send(body: &ArrayCopy, bytes: &[u8], posted: bool) -> Result<(), CUresult> {
    let mut request = start(has_array(body))?.with_room(0);
    append(&mut request, body);
    request.slice(bytes);
    if posted { request.post() } else { request.synchronising().answer().map(|_| ()) }
}

/// Posts a copy that is done when it has been executed.
fn post_copy(body: &ArrayCopy, bytes: &[u8]) -> Result<(), CUresult> {
    let mut request = start(has_array(body))?.copying();
    append(&mut request, body);
    request.slice(bytes);
    request.post()
}

/// A rectangle of a copy that fits a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    slice: u64,
    row: u64,
    column: u64,
    width: u64,
    rows: u64,
}

impl Piece {
    /// Where it begins on an end.
    const fn address(&self, end: &End) -> u64 {
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
fn pieces(shape: Shape, most: u64) -> impl Iterator<Item = Piece> {
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
enum Direction {
    ToDevice,
    ToProcess,
}

/// Copies between a `shared` end and a `process` end through staging.
///
/// # Safety
/// The `process` end is readable ([`Direction::ToDevice`]) or writable over the whole shape.
unsafe fn staged(
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

/// An address of the application as a pointer.
fn pointer(address: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// Bytes of the application.
///
/// # Safety
/// `length` bytes are readable at `address` while the slice is used.
unsafe fn application_bytes<'a>(address: u64, length: u64) -> &'a [u8] {
    let length = usize::try_from(length).unwrap_or(0);
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(pointer(address), length) }
}

/// Writes bytes of the application.
///
/// # Safety
/// The bytes are writable at `address`.
unsafe fn write_application(address: u64, bytes: &[u8]) {
    // SAFETY: as the caller promises; copies that overlap are copied as if through a buffer.
    unsafe { std::ptr::copy(bytes.as_ptr(), pointer(address), bytes.len()) };
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

    #[test]
    fn rows_without_gaps_become_one() {
        let end = |pitch, slice_height| End { pitch, slice_height, ..End::linear(64, Claim::Device) };
        let shape = Shape { width: 10, height: 4, depth: 2 };
        assert_eq!(packed(end(10, 4), end(10, 4), shape).2, Shape::linear(80));
        assert_eq!(packed(end(10, 4), end(10, 5), shape).2, shape);
        assert_eq!(packed(end(16, 4), end(10, 4), shape).2, shape);
    }

    #[test]
    fn the_span_ends_with_the_last_row() {
        let end = End { pitch: 16, slice_height: 5, ..End::linear(0, Claim::Device) };
        assert_eq!(Shape { width: 10, height: 4, depth: 2 }.span(&end), Some(80 + 48 + 10));
        assert_eq!(Shape { width: 1, height: u64::MAX, depth: 1 }.span(&end), None);
    }
}

//! Copies of every form: linear, 2D and 3D, between any two kinds of memory, synchronous or on a stream.
//!
//! What the device reaches on both sides, arrays among it, is one request. Memory that only the process reaches goes through
//! memory that both reach (`staged`), or inside the request when it is small.
//!
//! Unsafe code: copies between the application's memory and requests.

use virtio_spec::cuda::{CUresult, CUstream, CUstreamCaptureStatus};
use virtio_spec::handle::Kind;
use virtio_spec::requests::{ArrayCopy, Copy, Origin, Place, Side, copy_flags, opcode};

use super::bulk::Direction;
use super::staged::{pieces, staged};
use super::{Reach, reach};
use crate::graph::{capture, held};
use crate::waited::Wait;
use crate::wire::Request;
use crate::{context, handles};

/// Most bytes that travel inside a request or a response.
const INLINE: u32 = 768;
const LEGACY_STREAM: u64 = 1;
const PER_THREAD_STREAM: u64 = CUstream::PER_THREAD.0;

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

    pub(super) const fn is_linear(self) -> bool {
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
    pub(super) stream: u64,
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
    pub(crate) const fn on_stream(stream: u64) -> Self {
        Self { stream, flags: copy_flags::ASYNC }
    }

    const fn is_asynchronous(self) -> bool {
        self.flags == copy_flags::ASYNC
    }

    /// The same, waited for where the stream alone would not make it so.
    pub(super) const fn waited_for(self) -> u32 {
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

pub(super) fn request(
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
pub(super) fn has_array(body: &ArrayCopy) -> bool {
    [body.copy.destination.place, body.copy.source.place].contains(&(Place::Array as u32))
}

pub(super) fn start(has_array: bool) -> Result<Request, CUresult> {
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
    let current = context::required()?;
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
                if !manner.is_asynchronous() && on_device && context::needs_no_barrier(current) {
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
            let wait = Wait::begin();
            if shape.is_linear() && shape.width <= u64::from(INLINE) {
                let to = (Place::Inline, &End { address: 0, ..destination });
                let body = request(to, from, shape, manner.stream, manner.waited_for());
                let mut request = start(has_array(&body))?.with_room(INLINE);
                append(&mut request, &body);
                let mut response = request.synchronising().answer()?;
                let length = usize::try_from(shape.width).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
                // SAFETY: the caller's destination of `width` bytes.
                unsafe { response.take_bytes(pointer(destination.address), length) }?;
            } else {
                // SAFETY: the caller's promise about the destination.
                unsafe { staged(&source, &destination, place, shape, manner, Direction::ToProcess) }?;
            }
            // All that came before in the stream is done: where the stream was waited for, and where the bytes had to come from the
            // device. Between pages of the host, a synchronous copy need not wait for anything.
            if manner.waited_for() != 0 || place != Place::Region {
                wait.succeeded(current, manner.stream);
            }
            Ok(())
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

/// An address of the application as a pointer.
pub(super) fn pointer(address: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// Bytes of the application.
///
/// # Safety
/// `length` bytes are readable at `address` while the slice is used.
pub(super) unsafe fn application_bytes<'a>(address: u64, length: u64) -> &'a [u8] {
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

//! Which streams capture.
//!
//! While none does, questions about capture are answered here. While any does, they go to the device, and so does
//! everything that is otherwise answered from what the shim knows or sent without waiting: a capture can be joined by
//! other streams, forbid a call, or be ended by one, and the program must see which at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use virtio_spec::cuda::{CUgraphEdgeData, CUresult, CUstreamCaptureStatus};
use virtio_spec::graph_requests::{CaptureStream, Captured, opcode};
use virtio_spec::handle::Kind;

use super::request;
use crate::handles;

/// Streams that capture.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);
/// Where captures began: the stream, and the thread for a stream that is a thread's own.
static ORIGINS: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());

/// Whether any stream of the process captures.
pub(crate) fn is_active() -> bool {
    ACTIVE.load(Ordering::Acquire) != 0
}

/// A number of the calling thread, which no other living one has.
fn thread() -> u64 {
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.try_with(|place| std::ptr::from_ref(place).addr() as u64).unwrap_or(0)
}

fn origin(stream: u64) -> (u64, u64) {
    (stream, if stream <= 2 { thread() } else { 0 })
}

fn change(body: impl FnOnce(&mut Vec<(u64, u64)>)) {
    let mut origins = ORIGINS.lock().unwrap_or_else(PoisonError::into_inner);
    body(&mut origins);
    // A stream that was destroyed captures no more.
    origins.retain(|(stream, _)| *stream <= 2 || handles::check(&[Kind::Stream], *stream));
    ACTIVE.store(origins.len(), Ordering::Release);
}

/// A capture is about to begin in a stream.
pub(crate) fn begin(stream: u64) {
    change(|origins| origins.push(origin(stream)));
}

/// A capture has ended in a stream, or did not begin.
pub(crate) fn end(stream: u64) {
    let gone = origin(stream);
    change(|origins| {
        if let Some(place) = origins.iter().position(|origin| *origin == gone) {
            origins.swap_remove(place);
        }
    });
}

/// After an attempt to end a capture that failed: whether there still is one, the device knows.
pub(crate) fn may_have_ended(stream: u64) {
    if status(stream) == Ok(CUstreamCaptureStatus::NONE) {
        end(stream);
    }
}

/// A stream's capture.
#[derive(Debug, Default)]
pub(crate) struct Info {
    pub(crate) status: CUstreamCaptureStatus,
    pub(crate) id: u64,
    pub(crate) graph: u64,
    pub(crate) nodes: Vec<u64>,
    pub(crate) data: Vec<CUgraphEdgeData>,
}

/// What a stream captures.
pub(crate) fn info(stream: u64, edge_data: bool, detail: bool) -> Result<Info, CUresult> {
    let mut request = request(opcode::CAPTURE_INFO)?.with_room(super::ROOM);
    request.structure(&CaptureStream { stream, edge_data: u32::from(edge_data), detail: u32::from(detail) });
    let mut response = request.answer()?;
    let captured = response.take::<Captured>()?;
    let mut info = Info {
        status: CUstreamCaptureStatus(captured.status),
        id: captured.id,
        graph: captured.graph,
        ..Info::default()
    };
    for _ in 0..captured.dependency_count {
        info.nodes.push(response.take()?);
    }
    if edge_data {
        for _ in 0..captured.dependency_count {
            info.data.push(response.take()?);
        }
    }
    Ok(info)
}

/// Whether what a stream has just been given became a part of a capture. Nothing is asked while no stream captures.
pub(crate) fn took(stream: u64) -> bool {
    status(stream) == Ok(CUstreamCaptureStatus::ACTIVE)
}

/// Whether a stream captures.
pub(crate) fn status(stream: u64) -> Result<CUstreamCaptureStatus, CUresult> {
    if !is_active() {
        return Ok(CUstreamCaptureStatus::NONE);
    }
    Ok(info(stream, false, false)?.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_own_stream_is_not_another_threads() {
        begin(2);
        assert!(is_active());
        std::thread::spawn(|| end(2)).join().expect("the thread ends");
        assert!(is_active(), "the other thread's stream captures");
        end(2);
        assert!(!is_active());
    }
}

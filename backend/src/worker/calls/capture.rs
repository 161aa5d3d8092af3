//! Capture: what a stream is given becomes a graph.
//!
//! Each guest thread has a host thread of its own here, so that what a capture forbids to which thread is decided by the
//! driver.
//!
//! Unsafe code: calls of the driver.

use std::sync::{Mutex, PoisonError, atomic::Ordering};

use virtio_spec::{
    codec::Scalar,
    cuda::{
        CUgraph, CUgraphEdgeData, CUgraphNode, CUresult, CUstream, CUstreamCaptureMode, CUstreamCaptureStatus,
    },
    graph_requests::{CaptureBegin, CaptureDependencies, CaptureStream, Captured, GraphObject},
    handle::Kind,
};

use super::{Invocation, graph::has_captured, graph::pointer_to, ok};

/// Graphs that the guest has named while they were being captured: an invalidated capture's graph goes by itself.
#[derive(Default)]
pub(crate) struct Captures {
    named: Mutex<Vec<(u64, u64)>>,
}

macro_rules! function {
    ($call:expr, $plain:ident, $per_thread:ident) => {{
        let graphs = &$call.driver().graphs;
        if $call.per_thread() { graphs.$per_thread } else { graphs.$plain }
            .ok_or(CUresult::ERROR_NOT_SUPPORTED)?
    }};
}

fn stream(call: &Invocation<'_>, handle: u64) -> Result<CUstream, CUresult> {
    call.handle(Kind::Stream, handle).map(Scalar::from_u64)
}

/// The graph that a stream captures into, if it does.
pub(super) fn graph_of(call: &Invocation<'_>, stream: CUstream) -> Option<CUgraph> {
    if !has_captured(call) {
        return None;
    }
    let graphs = &call.driver().graphs;
    let get = if call.per_thread() {
        graphs.cuStreamGetCaptureInfo_v2_ptsz
    } else {
        graphs.cuStreamGetCaptureInfo_v2
    }?;
    let (mut status, mut graph) = (CUstreamCaptureStatus::NONE, CUgraph::default());
    let (id, nodes, count) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: a live stream, room for what is asked for.
    let asked = unsafe { get(stream, &raw mut status, id, &raw mut graph, nodes, count) };
    (asked == CUresult::SUCCESS && status == CUstreamCaptureStatus::ACTIVE).then_some(graph)
}

pub(super) fn begin(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: CaptureBegin = call.structure()?;
    let after = call.nodes(request.dependency_count)?;
    let data = call.edge_data(request.edge_data, request.dependency_count)?;
    call.end_of_parameters()?;
    let stream = stream(call, request.stream)?;
    let mode = CUstreamCaptureMode(request.mode);
    call.set_current()?;
    call.session().graphs.has_captured.store(true, Ordering::Relaxed);
    if request.graph == 0 {
        let begin = function!(call, cuStreamBeginCapture_v2, cuStreamBeginCapture_v2_ptsz);
        // SAFETY: a live stream.
        return ok(unsafe { begin(stream, mode) });
    }
    let begin = function!(call, cuStreamBeginCaptureToGraph, cuStreamBeginCaptureToGraph_ptsz);
    let graph = call.graph(request.graph)?;
    let edge_data = pointer_to(&data);
    // SAFETY: live objects, as many nodes and edges as it says.
    ok(unsafe { begin(stream, graph, pointer_to(&after), edge_data, after.len(), mode) })
}

pub(super) fn end(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: CaptureStream = call.structure()?;
    call.end_of_parameters()?;
    let stream = stream(call, request.stream)?;
    call.set_current()?;
    let end = function!(call, cuStreamEndCapture, cuStreamEndCapture_ptsz);
    let mut graph = CUgraph::default();
    // SAFETY: a live stream, room for one handle.
    let ended = unsafe { end(stream, &raw mut graph) };
    let captures = &call.session().graphs.captures.named;
    let mut named = captures.lock().unwrap_or_else(PoisonError::into_inner);
    let of_stream = |(of, _): &mut (u64, u64)| *of == stream.0;
    for (_, raw) in named.extract_if(.., of_stream).collect::<Vec<_>>() {
        if ended != CUresult::SUCCESS && ended != CUresult::ERROR_STREAM_CAPTURE_WRONG_THREAD {
            call.forget_raw_graph(raw);
        }
    }
    drop(named);
    ok(ended)?;
    let handle = call.name_graph(graph.0, 0)?;
    call.put(&GraphObject { handle })
}

pub(super) fn info(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: CaptureStream = call.structure()?;
    call.end_of_parameters()?;
    let stream = stream(call, request.stream)?;
    call.set_current()?;
    let (mut status, mut id, mut graph) = (CUstreamCaptureStatus::NONE, 0, CUgraph::default());
    let mut nodes: *const CUgraphNode = std::ptr::null();
    let mut edges: *const CUgraphEdgeData = std::ptr::null();
    let mut count = 0;
    let places = (&raw mut status, &raw mut id, &raw mut graph, &raw mut nodes, &raw mut count);
    let asked = if request.detail == 0 {
        let get = function!(call, cuStreamIsCapturing, cuStreamIsCapturing_ptsz);
        // SAFETY: a live stream, room for the result.
        unsafe { get(stream, places.0) }
    } else if request.edge_data == 0 {
        let get = function!(call, cuStreamGetCaptureInfo_v2, cuStreamGetCaptureInfo_v2_ptsz);
        // SAFETY: a live stream, room for each result.
        unsafe { get(stream, places.0, places.1, places.2, places.3, places.4) }
    } else {
        let get = function!(call, cuStreamGetCaptureInfo_v3, cuStreamGetCaptureInfo_v3_ptsz);
        // SAFETY: a live stream, room for each result.
        unsafe { get(stream, places.0, places.1, places.2, places.3, &raw mut edges, places.4) }
    };
    ok(asked)?;
    if status != CUstreamCaptureStatus::ACTIVE || request.detail == 0 {
        return call.put(&Captured { status: status.0, dependency_count: 0, id, graph: 0 });
    }
    let handle = call.name_graph(graph.0, 0)?;
    let captures = &call.session().graphs.captures.named;
    let mut named = captures.lock().unwrap_or_else(PoisonError::into_inner);
    if !named.contains(&(stream.0, graph.0)) {
        named.push((stream.0, graph.0));
    }
    drop(named);
    let mut after = Vec::new();
    let mut data = Vec::new();
    for index in 0..count {
        // SAFETY: the driver's array has `count` elements, until the next call about this stream.
        after.push(call.name_node(unsafe { nodes.wrapping_add(index).read() }.0, handle)?);
        if !edges.is_null() {
            // SAFETY: as above.
            data.push(unsafe { edges.wrapping_add(index).read() });
        }
    }
    if request.edge_data != 0 {
        data.resize(count, CUgraphEdgeData::default());
    }
    let dependency_count = u32::try_from(count).map_err(|_| CUresult::ERROR_UNKNOWN)?;
    call.put(&Captured { status: status.0, dependency_count, id, graph: handle })?;
    call.put_values(&after)?;
    call.put_values(&data)
}

pub(super) fn dependencies(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: CaptureDependencies = call.structure()?;
    let mut after = call.nodes(request.dependency_count)?;
    let data = call.edge_data(request.edge_data, request.dependency_count)?;
    call.end_of_parameters()?;
    let stream = stream(call, request.stream)?;
    call.set_current()?;
    let count = after.len();
    let nodes = if after.is_empty() { std::ptr::null_mut() } else { after.as_mut_ptr() };
    if request.edge_data == 0 {
        let update =
            function!(call, cuStreamUpdateCaptureDependencies, cuStreamUpdateCaptureDependencies_ptsz);
        // SAFETY: a live stream, `count` live nodes.
        return ok(unsafe { update(stream, nodes, count, request.flags) });
    }
    let update =
        function!(call, cuStreamUpdateCaptureDependencies_v2, cuStreamUpdateCaptureDependencies_v2_ptsz);
    // SAFETY: a live stream, `count` live nodes and edges.
    ok(unsafe { update(stream, nodes, pointer_to(&data), count, request.flags) })
}

impl Invocation<'_> {
    /// Gives this host thread the guest thread's capture mode.
    pub(super) fn take_capture_mode(&mut self) -> Result<(), CUresult> {
        let wanted = self.header.capture_mode;
        if wanted != self.lane.capture_mode {
            self.exchange_mode(CUstreamCaptureMode(wanted))?;
            self.lane.capture_mode = wanted;
        }
        Ok(())
    }

    fn exchange_mode(&self, mode: CUstreamCaptureMode) -> Result<CUstreamCaptureMode, CUresult> {
        let exchange = self.driver().graphs.cuThreadExchangeStreamCaptureMode;
        let mut mode = mode;
        // SAFETY: a mode to exchange.
        ok(unsafe { exchange.ok_or(CUresult::ERROR_NOT_SUPPORTED)?(&raw mut mode) })?;
        Ok(mode)
    }

    /// Runs a call of the worker's own, which no capture may refuse or be ended by.
    pub(super) fn relaxed<R>(&self, body: impl FnOnce() -> R) -> R {
        if !has_captured(self) {
            return body();
        }
        let before = self.exchange_mode(CUstreamCaptureMode::RELAXED);
        let result = body();
        if let Ok(before) = before {
            // The mode that was there a moment ago.
            let _result = self.exchange_mode(before);
        }
        result
    }
}

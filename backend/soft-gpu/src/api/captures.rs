//! Streams that capture.
//!
//! Unsafe code: what is behind the program's pointers.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::cell::RefCell;

use virtio_spec::cuda::{
    CUgraph, CUgraphEdgeData, CUgraphNode, CUresult, CUstream, CUstreamCaptureMode, CUstreamCaptureStatus,
};

use super::entry::{Call, List, Out, exports};
use crate::driver::graph::{self, Graph};
use crate::driver::{Driver, Result, capture};

exports! {
    context cuStreamBeginCapture / cuStreamBeginCapture_ptsz (stream: CUstream) = begin_global;
    context cuStreamBeginCapture_v2 / cuStreamBeginCapture_v2_ptsz (stream: CUstream, mode: CUstreamCaptureMode)
        = begin;
    context cuStreamBeginCaptureToGraph / cuStreamBeginCaptureToGraph_ptsz (
        stream: CUstream, graph: CUgraph, nodes: *const CUgraphNode, data: *const CUgraphEdgeData, count: usize,
        mode: CUstreamCaptureMode,
    ) = begin_to_graph;
    context cuStreamEndCapture / cuStreamEndCapture_ptsz (stream: CUstream, graph: *mut CUgraph) = end;
    context cuStreamIsCapturing / cuStreamIsCapturing_ptsz (
        stream: CUstream, status: *mut CUstreamCaptureStatus,
    ) = is_capturing;
    context cuStreamGetCaptureInfo / cuStreamGetCaptureInfo_ptsz (
        stream: CUstream, status: *mut CUstreamCaptureStatus, id: *mut u64,
    ) = info;
    context cuStreamGetCaptureInfo_v2 / cuStreamGetCaptureInfo_v2_ptsz (
        stream: CUstream, status: *mut CUstreamCaptureStatus, id: *mut u64, graph: *mut CUgraph,
        nodes: *mut *const CUgraphNode, count: *mut usize,
    ) = info_2;
    context cuStreamGetCaptureInfo_v3 / cuStreamGetCaptureInfo_v3_ptsz (
        stream: CUstream, status: *mut CUstreamCaptureStatus, id: *mut u64, graph: *mut CUgraph,
        nodes: *mut *const CUgraphNode, data: *mut *const CUgraphEdgeData, count: *mut usize,
    ) = info_3;
    context cuStreamUpdateCaptureDependencies / cuStreamUpdateCaptureDependencies_ptsz (
        stream: CUstream, nodes: *mut CUgraphNode, count: usize, flags: u32,
    ) = update;
    context cuStreamUpdateCaptureDependencies_v2 / cuStreamUpdateCaptureDependencies_v2_ptsz (
        stream: CUstream, nodes: *mut CUgraphNode, data: *const CUgraphEdgeData, count: usize, flags: u32,
    ) = update_2;
    init cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode) = exchange_mode;
}

thread_local! {
    /// What the program was last given pointers to.
    static GIVEN: RefCell<(Vec<CUgraphNode>, Vec<CUgraphEdgeData>)> = RefCell::default();
}

fn begin_global(call: &Call, stream: CUstream) -> Result<()> {
    begin(call, stream, CUstreamCaptureMode::GLOBAL)
}

fn begin(call: &Call, stream: CUstream, mode: CUstreamCaptureMode) -> Result<()> {
    let (_, stream) = call.stream(stream)?;
    let graph = Graph::create(call.driver());
    let begun = capture::begin(&stream, mode, graph.clone(), false, Vec::new());
    if begun.is_err() {
        graph.end(call.driver());
    }
    begun
}

fn begin_to_graph(
    call: &Call,
    stream: CUstream,
    graph: CUgraph,
    nodes: List<CUgraphNode>,
    _data: List<CUgraphEdgeData>,
    count: usize,
    mode: CUstreamCaptureMode,
) -> Result<()> {
    let (_, stream) = call.stream(stream)?;
    let after = nodes.all(count)?.into_iter().map(|node| node.0).collect();
    capture::begin(&stream, mode, graph::find(graph.0)?, true, after)
}

fn end(call: &Call, stream: CUstream, graph: Out<CUgraph>) -> Result<()> {
    graph.check()?;
    let (_, stream) = call.stream(stream)?;
    match capture::end(call.driver(), &stream) {
        Ok(captured) => graph.put(CUgraph(captured.handle)),
        Err(error) => {
            graph.put(CUgraph(0))?;
            Err(error)
        }
    }
}

fn is_capturing(call: &Call, stream: CUstream, status: Out<CUstreamCaptureStatus>) -> Result<()> {
    status.check()?;
    status.put(capture::status(&call.stream(stream)?.1).0)
}

fn info(call: &Call, stream: CUstream, status: Out<CUstreamCaptureStatus>, id: Out<u64>) -> Result<()> {
    status.check()?;
    let (found, joined) = capture::status(&call.stream(stream)?.1);
    if let Some(joined) = joined {
        id.put_if_wanted(joined.capture.id);
    }
    status.put(found)
}

fn info_2(
    call: &Call,
    stream: CUstream,
    status: Out<CUstreamCaptureStatus>,
    id: Out<u64>,
    graph: Out<CUgraph>,
    nodes: Out<*const CUgraphNode>,
    count: Out<usize>,
) -> Result<()> {
    status.check()?;
    let (found, joined) = capture::status(&call.stream(stream)?.1);
    if let Some(joined) = joined {
        id.put_if_wanted(joined.capture.id);
        graph.put_if_wanted(CUgraph(joined.capture.graph.handle));
        count.put_if_wanted(joined.after.len());
        GIVEN.with_borrow_mut(|given| {
            given.0 = joined.after.iter().map(|node| CUgraphNode(*node)).collect();
            given.1 = vec![CUgraphEdgeData::default(); joined.after.len()];
            nodes.put_if_wanted(given.0.as_ptr());
        });
    }
    status.put(found)
}

#[expect(clippy::too_many_arguments, reason = "CUDA's own signature")]
fn info_3(
    call: &Call,
    stream: CUstream,
    status: Out<CUstreamCaptureStatus>,
    id: Out<u64>,
    graph: Out<CUgraph>,
    nodes: Out<*const CUgraphNode>,
    data: Out<*const CUgraphEdgeData>,
    count: Out<usize>,
) -> Result<()> {
    info_2(call, stream, status, id, graph, nodes, count)?;
    GIVEN.with_borrow(|given| data.put_if_wanted(given.1.as_ptr()));
    Ok(())
}

/// The program's nodes, which it passes by a pointer that it could write through.
fn nodes_at(nodes: *mut CUgraphNode, count: usize) -> Result<Vec<u64>> {
    if nodes.is_null() && count > 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program's array of `count` nodes.
    Ok((0..count).map(|index| unsafe { nodes.wrapping_add(index).read() }.0).collect())
}

fn update(call: &Call, stream: CUstream, nodes: *mut CUgraphNode, count: usize, flags: u32) -> Result<()> {
    if flags > 1 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let nodes = nodes_at(nodes, count)?;
    capture::follow(&call.stream(stream)?.1, &nodes, flags == 1)
}

fn update_2(
    call: &Call,
    stream: CUstream,
    nodes: *mut CUgraphNode,
    _data: List<CUgraphEdgeData>,
    count: usize,
    flags: u32,
) -> Result<()> {
    update(call, stream, nodes, count, flags)
}

fn exchange_mode(_: &Driver, mode: *mut CUstreamCaptureMode) -> Result<()> {
    if mode.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program's place for a mode, which it is to be exchanged with.
    let wanted = unsafe { mode.read() };
    wanted.c_name().ok_or(CUresult::ERROR_INVALID_VALUE)?;
    // SAFETY: as above.
    unsafe { mode.write(capture::exchange_mode(wanted)) };
    Ok(())
}

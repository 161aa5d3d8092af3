//! Streams that capture.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::cell::RefCell;

use virtio_spec::cuda::{
    CUgraph, CUgraphEdgeData, CUgraphNode, CUresult, CUstream, CUstreamCaptureMode, CUstreamCaptureStatus,
};
use virtio_spec::graph_requests::{CaptureBegin, CaptureDependencies, CaptureStream, GraphObject, opcode};

use super::{data_at, nodes_at};
use crate::calls::{give, give_if_wanted};
use crate::context;
use crate::entry::{Flavour, status};
use crate::graph::{After, capture, held, request};
use crate::memory::copy::is_stream;

thread_local! {
    /// What the program was last given pointers to.
    static GIVEN: RefCell<(Vec<CUgraphNode>, Vec<CUgraphEdgeData>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

fn begin(stream: u64, graph: u64, mode: CUstreamCaptureMode, after: After<'_>) -> Result<(), CUresult> {
    if mode > CUstreamCaptureMode::RELAXED {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    context::required()?;
    let mut request = request(opcode::CAPTURE_BEGIN)?;
    request.structure(&CaptureBegin {
        stream,
        graph,
        mode: mode.0,
        dependency_count: after.count()?,
        edge_data: u32::from(after.data.is_some()),
        reserved: 0,
    });
    after.append(&mut request);
    // Before the device knows, so that no thread answers from before the capture.
    capture::begin(stream);
    let begun = request.answer().map(|_| ());
    if begun.is_err() {
        capture::end(stream);
    }
    begun
}

pub(crate) unsafe fn cuStreamBeginCapture(stream: CUstream, flavour: Flavour) -> CUresult {
    // SAFETY: no pointers.
    unsafe { cuStreamBeginCapture_v2(stream, CUstreamCaptureMode::GLOBAL, flavour) }
}

pub(crate) unsafe fn cuStreamBeginCapture_v2(
    stream: CUstream,
    mode: CUstreamCaptureMode,
    flavour: Flavour,
) -> CUresult {
    status(begin(flavour.stream(stream), 0, mode, After::NOTHING))
}

pub(crate) unsafe fn cuStreamBeginCaptureToGraph(
    stream: CUstream,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    edge_data: *const CUgraphEdgeData,
    count: usize,
    mode: CUstreamCaptureMode,
    flavour: Flavour,
) -> CUresult {
    let run = || {
        if graph.0 == 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the application's arrays.
        let nodes = unsafe { nodes_at(dependencies, count) }?;
        // SAFETY: the application's array.
        let data = unsafe { data_at(edge_data, count) };
        let after = After { nodes: &nodes, data: data.as_deref() };
        begin(flavour.stream(stream), graph.0, mode, after)
    };
    status(run())
}

pub(crate) unsafe fn cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph, flavour: Flavour) -> CUresult {
    let stream = flavour.stream(stream);
    let run = || {
        if graph.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let mut request = request(opcode::CAPTURE_END)?;
        request.structure(&CaptureStream { stream, edge_data: 0, detail: 0 });
        let ended = request.answer().and_then(|mut response| response.take::<GraphObject>());
        match ended {
            Ok(object) => {
                capture::end(stream);
                held::graph_made();
                // SAFETY: not null, so the application's place for a graph.
                unsafe { give(graph, CUgraph(object.handle)) }
            }
            Err(error) => {
                capture::may_have_ended(stream);
                // SAFETY: not null, so the application's place for a graph.
                unsafe { graph.write(CUgraph(0)) };
                Err(error)
            }
        }
    };
    status(run())
}

fn status_of(stream: u64) -> Result<CUstreamCaptureStatus, CUresult> {
    if !is_stream(stream) {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    capture::status(stream)
}

pub(crate) unsafe fn cuStreamIsCapturing(
    stream: CUstream,
    capture_status: *mut CUstreamCaptureStatus,
    flavour: Flavour,
) -> CUresult {
    if capture_status.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let found = status_of(flavour.stream(stream));
    // SAFETY: the application's place for the status.
    status(found.and_then(|found| unsafe { give(capture_status, found) }))
}

/// What a stream captures; nothing is asked while no stream does.
fn info(stream: CUstream, edge_data: bool, flavour: Flavour) -> Result<capture::Info, CUresult> {
    let stream = flavour.stream(stream);
    if !is_stream(stream) {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    if !capture::is_active() {
        return Ok(capture::Info::default());
    }
    capture::info(stream, edge_data, true)
}

pub(crate) unsafe fn cuStreamGetCaptureInfo(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    flavour: Flavour,
) -> CUresult {
    let (graph, nodes, count) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the same contract.
    unsafe { cuStreamGetCaptureInfo_v2(stream, capture_status_out, id_out, graph, nodes, count, flavour) }
}

/// # Safety
/// Each pointer is null or valid for writing.
unsafe fn give_info(
    info: Result<capture::Info, CUresult>,
    status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    graph_out: *mut CUgraph,
    dependencies_out: *mut *const CUgraphNode,
    edge_data_out: *mut *const CUgraphEdgeData,
    count_out: *mut usize,
) -> CUresult {
    let run = || {
        let info = info?;
        // SAFETY: the application's place for the status.
        unsafe { give(status_out, info.status) }?;
        if info.status != CUstreamCaptureStatus::ACTIVE {
            return Ok(());
        }
        // SAFETY: the application's place for the number.
        unsafe { give_if_wanted(id_out, info.id) };
        // SAFETY: the application's place for the graph.
        unsafe { give_if_wanted(graph_out, CUgraph(info.graph)) };
        // SAFETY: the application's place for the count.
        unsafe { give_if_wanted(count_out, info.nodes.len()) };
        GIVEN.with_borrow_mut(|(nodes, data)| {
            *nodes = info.nodes.iter().map(|node| CUgraphNode(*node)).collect();
            *data = info.data;
            // SAFETY: the application's place for a pointer.
            unsafe { give_if_wanted(dependencies_out, nodes.as_ptr()) };
            // SAFETY: the application's place for a pointer.
            unsafe { give_if_wanted(edge_data_out, data.as_ptr()) };
        });
        Ok(())
    };
    if status_out.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    status(run())
}

pub(crate) unsafe fn cuStreamGetCaptureInfo_v2(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    graph_out: *mut CUgraph,
    dependencies_out: *mut *const CUgraphNode,
    num_dependencies_out: *mut usize,
    flavour: Flavour,
) -> CUresult {
    let info = info(stream, false, flavour);
    let no_data = std::ptr::null_mut();
    // SAFETY: the same contract.
    unsafe {
        give_info(
            info,
            capture_status_out,
            id_out,
            graph_out,
            dependencies_out,
            no_data,
            num_dependencies_out,
        )
    }
}

pub(crate) unsafe fn cuStreamGetCaptureInfo_v3(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    graph_out: *mut CUgraph,
    dependencies_out: *mut *const CUgraphNode,
    edge_data_out: *mut *const CUgraphEdgeData,
    num_dependencies_out: *mut usize,
    flavour: Flavour,
) -> CUresult {
    let info = info(stream, !edge_data_out.is_null(), flavour);
    // SAFETY: the same contract.
    unsafe {
        give_info(
            info,
            capture_status_out,
            id_out,
            graph_out,
            dependencies_out,
            edge_data_out,
            num_dependencies_out,
        )
    }
}

pub(crate) unsafe fn cuStreamUpdateCaptureDependencies(
    stream: CUstream,
    dependencies: *mut CUgraphNode,
    count: usize,
    flags: u32,
    flavour: Flavour,
) -> CUresult {
    let null = std::ptr::null();
    // SAFETY: the same contract.
    unsafe { cuStreamUpdateCaptureDependencies_v2(stream, dependencies, null, count, flags, flavour) }
}

pub(crate) unsafe fn cuStreamUpdateCaptureDependencies_v2(
    stream: CUstream,
    dependencies: *mut CUgraphNode,
    edge_data: *const CUgraphEdgeData,
    count: usize,
    flags: u32,
    flavour: Flavour,
) -> CUresult {
    let run = || {
        // SAFETY: the application's arrays.
        let nodes = unsafe { nodes_at(dependencies, count) }?;
        // SAFETY: the application's array.
        let data = unsafe { data_at(edge_data, count) };
        let after = After { nodes: &nodes, data: data.as_deref() };
        let mut request = request(opcode::CAPTURE_DEPENDENCIES)?;
        request.structure(&CaptureDependencies {
            stream: flavour.stream(stream),
            flags,
            dependency_count: after.count()?,
            edge_data: u32::from(after.data.is_some()),
            reserved: 0,
        });
        after.append(&mut request);
        request.answer().map(|_| ())
    };
    status(run())
}

pub(crate) unsafe fn cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode) -> CUresult {
    if mode.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's mode.
    let wanted = unsafe { mode.read() };
    if wanted > CUstreamCaptureMode::RELAXED {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let before = CUstreamCaptureMode(context::exchange_capture_mode(wanted.0));
    // SAFETY: the application's place for the mode.
    status(unsafe { give(mode, before) })
}

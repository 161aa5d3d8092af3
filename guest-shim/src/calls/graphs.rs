//! What is asked about capture. No stream captures yet, so all of it is known here.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{
    CUgraph, CUgraphEdgeData, CUgraphNode, CUresult, CUstream, CUstreamCaptureMode, CUstreamCaptureStatus,
};

use super::give;
use crate::context;
use crate::entry::{Flavour, status};
use crate::memory::copy::is_stream;

/// # Safety
/// `capture_status` is null, or valid for writing.
unsafe fn no_capture(stream: CUstream, capture_status: *mut CUstreamCaptureStatus) -> CUresult {
    if !is_stream(stream.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: as the caller promises.
    status(unsafe { give(capture_status, CUstreamCaptureStatus::NONE) })
}

pub(crate) unsafe fn cuStreamIsCapturing(
    stream: CUstream,
    capture_status: *mut CUstreamCaptureStatus,
    _flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { no_capture(stream, capture_status) }
}

pub(crate) unsafe fn cuStreamGetCaptureInfo(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    _id_out: *mut u64,
    _flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { no_capture(stream, capture_status_out) }
}

pub(crate) unsafe fn cuStreamGetCaptureInfo_v2(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    _id_out: *mut u64,
    _graph_out: *mut CUgraph,
    _dependencies_out: *mut *const CUgraphNode,
    _num_dependencies_out: *mut usize,
    _flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { no_capture(stream, capture_status_out) }
}

pub(crate) unsafe fn cuStreamGetCaptureInfo_v3(
    stream: CUstream,
    capture_status_out: *mut CUstreamCaptureStatus,
    _id_out: *mut u64,
    _graph_out: *mut CUgraph,
    _dependencies_out: *mut *const CUgraphNode,
    _edge_data_out: *mut *const CUgraphEdgeData,
    _num_dependencies_out: *mut usize,
    _flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { no_capture(stream, capture_status_out) }
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

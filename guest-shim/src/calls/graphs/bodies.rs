//! What nodes do: from the program's structures to what the device is told.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_void;

use virtio_spec::cuda::{
    CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY_NODE_PARAMS,
    CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUcontext, CUevent, CUgraphNodeParams, CUgraphNodeType, CUkernel,
    CUmemAccessDesc, CUmemorytype, CUresult, CUstreamBatchMemOpParams,
};
use virtio_spec::graph_requests::{NodeAllocation, NodeCopy, NodeFill, NodeOperations, NodeValue};
use virtio_spec::requests::Launch;
use virtio_spec::window;
use zerocopy::IntoBytes;

use super::memory::allocation;
use super::operations::operations;
use crate::code::{function, launch};
use crate::graph::host_calls::{self, Life};
use crate::graph::{After, Made, held, node};
use crate::wire::Request;

/// What a node does, as the device is told.
pub(super) enum Body {
    Kernel(Launch, Vec<u8>),
    Copy(NodeCopy),
    Fill(NodeFill),
    Allocation(NodeAllocation, Vec<CUmemAccessDesc>),
    Operations(NodeOperations, Vec<CUstreamBatchMemOpParams>),
    /// The number of a function of the program.
    Host(u64),
    Value(u64),
    Empty,
}

impl Body {
    fn append(&self, request: &mut Request) {
        match self {
            Self::Kernel(launch, parameters) => {
                request.structure(launch);
                request.slice(parameters);
            }
            Self::Copy(copy) => request.structure(copy),
            Self::Fill(fill) => request.structure(fill),
            Self::Allocation(allocation, access) => {
                request.structure(allocation);
                request.slice(access.as_bytes());
            }
            Self::Operations(head, operations) => {
                request.structure(head);
                request.slice(operations.as_bytes());
            }
            Self::Host(value) | Self::Value(value) => request.structure(&NodeValue { value: *value }),
            Self::Empty => {}
        }
    }

    /// Sends a node of this kind; what was noted for one that was not made is forgotten.
    pub(super) fn send(
        &self,
        operation: u32,
        kind: CUgraphNodeType,
        (graph, changed): (u64, u64),
        after: After<'_>,
    ) -> Result<Made, CUresult> {
        let sent = node(operation, kind, graph, changed, after, |request| self.append(request));
        if let (Self::Host(number), Err(_)) = (self, &sent) {
            host_calls::forget(*number);
        }
        sent
    }
}

/// # Safety
/// `params` is null or a structure whose parameters are complete.
pub(super) unsafe fn kernel(params: *const CUDA_KERNEL_NODE_PARAMS) -> Result<Body, CUresult> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let params = unsafe { params.read() };
    let handle = if params.func.0 == 0 { params.kern.0 } else { params.func.0 };
    let function = function::with_parameters(handle)?;
    let mut packed = Vec::new();
    // SAFETY: as the caller promises.
    unsafe { launch::pack(&function, params.kernelParams, params.extra, &mut packed) }?;
    let launch = Launch {
        function: handle,
        stream: params.ctx.0,
        grid: [params.gridDimX, params.gridDimY, params.gridDimZ],
        block: [params.blockDimX, params.blockDimY, params.blockDimZ],
        shared_bytes: params.sharedMemBytes,
        flags: 0,
        attribute_count: 0,
        parameter_bytes: function.parameter_bytes,
    };
    Ok(Body::Kernel(launch, packed))
}

/// The younger form of a kernel's structure.
///
/// # Safety
/// `params` is null or a structure.
unsafe fn widened(params: *const CUDA_KERNEL_NODE_PARAMS_v1) -> Option<CUDA_KERNEL_NODE_PARAMS> {
    if params.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    let params = unsafe { params.read() };
    Some(CUDA_KERNEL_NODE_PARAMS {
        func: params.func,
        gridDimX: params.gridDimX,
        gridDimY: params.gridDimY,
        gridDimZ: params.gridDimZ,
        blockDimX: params.blockDimX,
        blockDimY: params.blockDimY,
        blockDimZ: params.blockDimZ,
        sharedMemBytes: params.sharedMemBytes,
        kernelParams: params.kernelParams,
        extra: params.extra,
        kern: CUkernel(0),
        ctx: CUcontext(0),
    })
}

/// # Safety
/// As of [`kernel`].
pub(super) unsafe fn kernel_v1(params: *const CUDA_KERNEL_NODE_PARAMS_v1) -> Result<Body, CUresult> {
    // SAFETY: as the caller promises.
    let params = unsafe { widened(params) }.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    // SAFETY: as the caller promises.
    unsafe { kernel(&raw const params) }
}

/// One side of a copy: what it names, and the bytes that it spans.
struct CopySide {
    kind: CUmemorytype,
    base: u64,
    origin: [u64; 3],
    pitch: u64,
    height: u64,
}

impl CopySide {
    /// Makes memory of the process reachable for the device; the base address that the node is to name.
    fn share(&self, extent: [u64; 3], written: bool) -> Result<u64, CUresult> {
        if !matches!(self.kind, CUmemorytype::HOST | CUmemorytype::UNIFIED) || extent.contains(&0) {
            return Ok(self.base);
        }
        let ([x, y, z], [width, rows, slices]) = (self.origin, extent);
        let span = || {
            let row_end = x.checked_add(width)?;
            let pitch = if self.pitch == 0 { row_end } else { self.pitch };
            let height = if self.height == 0 { y.checked_add(rows)? } else { self.height };
            let first = z.checked_mul(height)?.checked_add(y)?.checked_mul(pitch)?.checked_add(x)?;
            let last = (slices - 1).checked_mul(height)?.checked_add(rows - 1)?.checked_mul(pitch)?;
            Some((self.base.checked_add(first)?, last.checked_add(width)?))
        };
        let (start, length) = span().ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let named = held::share(start, length, written)?;
        Ok(self.base.wrapping_add(named.wrapping_sub(start)))
    }

    /// The words for a pointer of the process and one of the device, and the memory's kind. Memory of the device that the
    /// program calls its own, such as a managed variable, is any memory.
    fn words(&self, host: *const c_void, device: u64, base: u64) -> (u32, u64, u64) {
        match self.kind {
            CUmemorytype::HOST if window::is_device(base) => (CUmemorytype::UNIFIED.0, 0, base),
            CUmemorytype::HOST => (self.kind.0, base, device),
            CUmemorytype::UNIFIED => (self.kind.0, host.expose_provenance() as u64, base),
            _ => (self.kind.0, host.expose_provenance() as u64, device),
        }
    }
}

/// # Safety
/// `params` is null or a structure.
pub(super) unsafe fn copy(params: *const CUDA_MEMCPY3D, context: CUcontext) -> Result<Body, CUresult> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let wanted = unsafe { params.read() };
    let extent = [wanted.WidthInBytes as u64, wanted.Height as u64, wanted.Depth as u64];
    let base = |kind, host: *const c_void, device: u64| {
        if kind == CUmemorytype::HOST { host.expose_provenance() as u64 } else { device }
    };
    let source = CopySide {
        kind: wanted.srcMemoryType,
        base: base(wanted.srcMemoryType, wanted.srcHost, wanted.srcDevice.0),
        origin: [wanted.srcXInBytes as u64, wanted.srcY as u64, wanted.srcZ as u64],
        pitch: wanted.srcPitch as u64,
        height: wanted.srcHeight as u64,
    };
    let destination = CopySide {
        kind: wanted.dstMemoryType,
        base: base(wanted.dstMemoryType, wanted.dstHost, wanted.dstDevice.0),
        origin: [wanted.dstXInBytes as u64, wanted.dstY as u64, wanted.dstZ as u64],
        pitch: wanted.dstPitch as u64,
        height: wanted.dstHeight as u64,
    };
    let base = source.share(extent, false)?;
    let (source_kind, source_host, source_device) = source.words(wanted.srcHost, wanted.srcDevice.0, base);
    let base = destination.share(extent, true)?;
    let (destination_kind, destination_host, destination_device) =
        destination.words(wanted.dstHost, wanted.dstDevice.0, base);
    let size = |value: usize| value as u64;
    let words = [
        size(wanted.srcXInBytes),
        size(wanted.srcY),
        size(wanted.srcZ),
        size(wanted.srcLOD),
        u64::from(source_kind),
        source_host,
        source_device,
        wanted.srcArray.0,
        0,
        size(wanted.srcPitch),
        size(wanted.srcHeight),
        size(wanted.dstXInBytes),
        size(wanted.dstY),
        size(wanted.dstZ),
        size(wanted.dstLOD),
        u64::from(destination_kind),
        destination_host,
        destination_device,
        wanted.dstArray.0,
        0,
        size(wanted.dstPitch),
        size(wanted.dstHeight),
        size(wanted.WidthInBytes),
        size(wanted.Height),
        size(wanted.Depth),
    ];
    Ok(Body::Copy(NodeCopy { context: context.0, copy: words, reserved: 0 }))
}

/// # Safety
/// `params` is null or a structure.
pub(super) unsafe fn fill(
    params: *const CUDA_MEMSET_NODE_PARAMS,
    context: CUcontext,
) -> Result<Body, CUresult> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    Ok(Body::Fill(NodeFill { context: context.0, fill: unsafe { params.read() } }))
}

/// # Safety
/// `params` is null or a structure.
unsafe fn host_with(params: *const CUDA_HOST_NODE_PARAMS, life: Life) -> Result<Body, CUresult> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let params = unsafe { params.read() };
    Ok(Body::Host(host_calls::host_function(params.fn_, params.userData, life)?))
}

/// A host node of a graph, which tells when it is gone.
///
/// # Safety
/// As of [`host_with`].
pub(super) unsafe fn host(params: *const CUDA_HOST_NODE_PARAMS) -> Result<Body, CUresult> {
    // SAFETY: as the caller promises.
    unsafe { host_with(params, Life::Graph) }
}

/// What a host node of an executable graph is to run.
///
/// # Safety
/// As of [`host_with`].
pub(super) unsafe fn exec_host(params: *const CUDA_HOST_NODE_PARAMS) -> Result<Body, CUresult> {
    // SAFETY: as the caller promises.
    unsafe { host_with(params, Life::Ever) }
}

/// A node of any kind; a function of the program is known for as long as it says.
///
/// # Safety
/// `params` is null or a structure whose union has the kind's arm.
pub(super) unsafe fn any(
    params: *const CUgraphNodeParams,
    function: Life,
) -> Result<(CUgraphNodeType, Body), CUresult> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let params = unsafe { params.read() };
    let arm: *const c_void = params.union.as_ptr().cast();
    let first = params.union[0];
    let body = match params.kind {
        // SAFETY: the kind's arm.
        CUgraphNodeType::KERNEL => unsafe { kernel(arm.cast()) }?,
        CUgraphNodeType::MEMCPY => {
            // SAFETY: the kind's arm.
            let params = unsafe { arm.cast::<CUDA_MEMCPY_NODE_PARAMS>().read() };
            // SAFETY: the kind's arm.
            unsafe { copy(&raw const params.copyParams, params.copyCtx) }?
        }
        // SAFETY: the kind's arm, which the context follows.
        CUgraphNodeType::MEMSET => unsafe { fill(arm.cast(), CUcontext(params.union[5])) }?,
        // SAFETY: the kind's arm.
        CUgraphNodeType::HOST => unsafe { host_with(arm.cast(), function) }?,
        // The graph, and how it is owned: only clones are known here.
        CUgraphNodeType::GRAPH if params.union[1] & u64::from(u32::MAX) != 0 => {
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        CUgraphNodeType::GRAPH
        | CUgraphNodeType::WAIT_EVENT
        | CUgraphNodeType::EVENT_RECORD
        | CUgraphNodeType::MEM_FREE => Body::Value(first),
        // SAFETY: the kind's arm.
        CUgraphNodeType::BATCH_MEM_OP => unsafe { operations(arm.cast()) }?,
        // SAFETY: the kind's arm.
        CUgraphNodeType::MEM_ALLOC => unsafe { allocation(arm.cast()) }?,
        CUgraphNodeType::EMPTY => Body::Empty,
        _ => return Err(CUresult::ERROR_NOT_SUPPORTED),
    };
    Ok((params.kind, body))
}

/// # Safety
/// As of [`copy`].
pub(super) unsafe fn copy_here(params: *const CUDA_MEMCPY3D) -> Result<Body, CUresult> {
    // SAFETY: as the caller promises.
    unsafe { copy(params, CUcontext(0)) }
}

/// # Safety
/// As of [`fill`].
pub(super) unsafe fn fill_here(params: *const CUDA_MEMSET_NODE_PARAMS) -> Result<Body, CUresult> {
    // SAFETY: as the caller promises.
    unsafe { fill(params, CUcontext(0)) }
}

/// # Safety
/// None; it has the shape of the others.
pub(super) unsafe fn event_value(event: CUevent) -> Result<Body, CUresult> {
    Ok(Body::Value(event.0))
}

//! Nodes of graphs: adding them, and what they do.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_void;

use virtio_spec::cuda::{
    CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY_NODE_PARAMS,
    CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUcontext, CUevent, CUfunction, CUgraph, CUgraphEdgeData,
    CUgraphExec, CUgraphNode, CUgraphNodeParams, CUgraphNodeType, CUkernel, CUmemAccessDesc, CUmemorytype,
    CUresult,
};
use virtio_spec::graph_requests::{NodeAllocation, NodeCopy, NodeFill, NodeValue, node_operation};
use virtio_spec::requests::Launch;
use zerocopy::IntoBytes;

use super::memory::{allocation, give_address};
use super::{data_at, nodes_at};
use crate::calls::give;
use crate::code::{function, launch};
use crate::entry::status;
use crate::graph::host_calls::{self, Life};
use crate::graph::{After, Made, given, held, node, node_get};
use crate::wire::Request;

/// What a node does, as the device is told.
pub(super) enum Body {
    Kernel(Launch, Vec<u8>),
    Copy(NodeCopy),
    Fill(NodeFill),
    Allocation(NodeAllocation, Vec<CUmemAccessDesc>),
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
            Self::Host(value) | Self::Value(value) => request.structure(&NodeValue { value: *value }),
            Self::Empty => {}
        }
    }

    /// Sends a node of this kind; what was noted for one that was not made is forgotten.
    fn send(
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
unsafe fn kernel(params: *const CUDA_KERNEL_NODE_PARAMS) -> Result<Body, CUresult> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let params = unsafe { params.read() };
    let handle = if params.func.0 == 0 { params.kern.0 } else { params.func.0 };
    let function = function::with_parameters(handle)?;
    // SAFETY: as the caller promises.
    let packed = unsafe { launch::pack(&function, params.kernelParams, params.extra) }?;
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
unsafe fn kernel_v1(params: *const CUDA_KERNEL_NODE_PARAMS_v1) -> Result<Body, CUresult> {
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
    /// Makes memory of the process reachable for the device.
    fn share(&self, extent: [u64; 3], written: bool) -> Result<(), CUresult> {
        if !matches!(self.kind, CUmemorytype::HOST | CUmemorytype::UNIFIED) || extent.contains(&0) {
            return Ok(());
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
        held::share(start, length, written)
    }
}

/// # Safety
/// `params` is null or a structure.
unsafe fn copy(params: *const CUDA_MEMCPY3D, context: CUcontext) -> Result<Body, CUresult> {
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
    source.share(extent, false)?;
    destination.share(extent, true)?;
    let size = |value: usize| value as u64;
    let words = [
        size(wanted.srcXInBytes),
        size(wanted.srcY),
        size(wanted.srcZ),
        size(wanted.srcLOD),
        u64::from(wanted.srcMemoryType.0),
        wanted.srcHost.expose_provenance() as u64,
        wanted.srcDevice.0,
        wanted.srcArray.0,
        0,
        size(wanted.srcPitch),
        size(wanted.srcHeight),
        size(wanted.dstXInBytes),
        size(wanted.dstY),
        size(wanted.dstZ),
        size(wanted.dstLOD),
        u64::from(wanted.dstMemoryType.0),
        wanted.dstHost.expose_provenance() as u64,
        wanted.dstDevice.0,
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
unsafe fn fill(params: *const CUDA_MEMSET_NODE_PARAMS, context: CUcontext) -> Result<Body, CUresult> {
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
unsafe fn host(params: *const CUDA_HOST_NODE_PARAMS) -> Result<Body, CUresult> {
    // SAFETY: as the caller promises.
    unsafe { host_with(params, Life::Graph) }
}

/// What a host node of an executable graph is to run.
///
/// # Safety
/// As of [`host_with`].
unsafe fn exec_host(params: *const CUDA_HOST_NODE_PARAMS) -> Result<Body, CUresult> {
    // SAFETY: as the caller promises.
    unsafe { host_with(params, Life::Ever) }
}

/// A node of any kind; a function of the program is known for as long as it says.
///
/// # Safety
/// `params` is null or a structure whose union has the kind's arm.
unsafe fn any(params: *const CUgraphNodeParams, function: Life) -> Result<(CUgraphNodeType, Body), CUresult> {
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
        CUgraphNodeType::MEM_ALLOC => unsafe { allocation(arm.cast()) }?,
        CUgraphNodeType::EMPTY => Body::Empty,
        _ => return Err(CUresult::ERROR_NOT_SUPPORTED),
    };
    Ok((params.kind, body))
}

/// Adds a node.
///
/// # Safety
/// `place` is null or room for a node; the arrays are null or have `count` elements.
pub(super) unsafe fn added(
    place: *mut CUgraphNode,
    graph: CUgraph,
    (nodes, data): (*const CUgraphNode, *const CUgraphEdgeData),
    count: usize,
    body: impl FnOnce() -> Result<(CUgraphNodeType, Body), CUresult>,
) -> Result<Made, CUresult> {
    if place.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let nodes = unsafe { nodes_at(nodes, count) }?;
    // SAFETY: as the caller promises.
    let data = unsafe { data_at(data, count) };
    let (kind, body) = body()?;
    let after = After { nodes: &nodes, data: data.as_deref() };
    let made = body.send(node_operation::ADD, kind, (graph.0, 0), after)?;
    // SAFETY: as the caller promises.
    unsafe { give(place, CUgraphNode(made.node)) }?;
    Ok(made)
}

/// Adds a node of which the program is told no more than the handle.
///
/// # Safety
/// As of [`added`].
pub(super) unsafe fn add(
    place: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: (*const CUgraphNode, *const CUgraphEdgeData),
    count: usize,
    body: impl FnOnce() -> Result<(CUgraphNodeType, Body), CUresult>,
) -> CUresult {
    // SAFETY: as the caller promises.
    status(unsafe { added(place, graph, dependencies, count, body) }.map(|_| ()))
}

/// Changes what a node does, in its graph (0) or in an executable one.
fn set(exec: u64, changed: CUgraphNode, body: Result<(CUgraphNodeType, Body), CUresult>) -> CUresult {
    let operation = if exec == 0 { node_operation::SET } else { node_operation::EXEC_SET };
    let run = || {
        let (kind, body) = body?;
        body.send(operation, kind, (exec, changed.0), After::NOTHING)
    };
    status(run().map(|_| ()))
}

fn of(kind: CUgraphNodeType, body: Result<Body, CUresult>) -> Result<(CUgraphNodeType, Body), CUresult> {
    Ok((kind, body?))
}

/// The calls of one kind of node: adding, setting in the graph and in an executable one.
macro_rules! node_calls {
    ($kind:ident: $add:ident, $set:ident, $exec_set:ident; $params:ty $(, $context:ident)?; $body:expr, $set_body:expr, $exec_body:expr) => {
        pub(crate) unsafe fn $add(
            node: *mut CUgraphNode,
            graph: CUgraph,
            dependencies: *const CUgraphNode,
            dependency_count: usize,
            params: $params,
            $($context: CUcontext,)?
        ) -> CUresult {
            let data = std::ptr::null();
            // SAFETY: the same contract.
            let body = || of(CUgraphNodeType::$kind, unsafe { $body(params $(, $context)?) });
            // SAFETY: the same contract.
            unsafe { add(node, graph, (dependencies, data), dependency_count, body) }
        }

        pub(crate) unsafe fn $set(node: CUgraphNode, params: $params) -> CUresult {
            // SAFETY: the same contract.
            set(0, node, of(CUgraphNodeType::$kind, unsafe { $set_body(params) }))
        }

        pub(crate) unsafe fn $exec_set(
            exec: CUgraphExec,
            node: CUgraphNode,
            params: $params,
            $($context: CUcontext,)?
        ) -> CUresult {
            if exec.0 == 0 {
                return CUresult::ERROR_INVALID_VALUE;
            }
            // SAFETY: the same contract.
            set(exec.0, node, of(CUgraphNodeType::$kind, unsafe { $exec_body(params $(, $context)?) }))
        }
    };
}

/// # Safety
/// As of [`copy`].
unsafe fn copy_here(params: *const CUDA_MEMCPY3D) -> Result<Body, CUresult> {
    // SAFETY: as the caller promises.
    unsafe { copy(params, CUcontext(0)) }
}

/// # Safety
/// As of [`fill`].
unsafe fn fill_here(params: *const CUDA_MEMSET_NODE_PARAMS) -> Result<Body, CUresult> {
    // SAFETY: as the caller promises.
    unsafe { fill(params, CUcontext(0)) }
}

/// # Safety
/// None; it has the shape of the others.
unsafe fn event_value(event: CUevent) -> Result<Body, CUresult> {
    Ok(Body::Value(event.0))
}

node_calls!(KERNEL: cuGraphAddKernelNode_v2, cuGraphKernelNodeSetParams_v2, cuGraphExecKernelNodeSetParams_v2;
    *const CUDA_KERNEL_NODE_PARAMS; kernel, kernel, kernel);
node_calls!(KERNEL: cuGraphAddKernelNode, cuGraphKernelNodeSetParams, cuGraphExecKernelNodeSetParams;
    *const CUDA_KERNEL_NODE_PARAMS_v1; kernel_v1, kernel_v1, kernel_v1);
node_calls!(MEMCPY: cuGraphAddMemcpyNode, cuGraphMemcpyNodeSetParams, cuGraphExecMemcpyNodeSetParams;
    *const CUDA_MEMCPY3D, context; copy, copy_here, copy);
node_calls!(MEMSET: cuGraphAddMemsetNode, cuGraphMemsetNodeSetParams, cuGraphExecMemsetNodeSetParams;
    *const CUDA_MEMSET_NODE_PARAMS, context; fill, fill_here, fill);
node_calls!(HOST: cuGraphAddHostNode, cuGraphHostNodeSetParams, cuGraphExecHostNodeSetParams;
    *const CUDA_HOST_NODE_PARAMS; host, host, exec_host);
node_calls!(EVENT_RECORD: cuGraphAddEventRecordNode, cuGraphEventRecordNodeSetEvent,
    cuGraphExecEventRecordNodeSetEvent; CUevent; event_value, event_value, event_value);
node_calls!(WAIT_EVENT: cuGraphAddEventWaitNode, cuGraphEventWaitNodeSetEvent,
    cuGraphExecEventWaitNodeSetEvent; CUevent; event_value, event_value, event_value);

pub(crate) unsafe fn cuGraphAddChildGraphNode(
    node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    dependency_count: usize,
    child: CUgraph,
) -> CUresult {
    let body = || Ok((CUgraphNodeType::GRAPH, Body::Value(child.0)));
    // SAFETY: the same contract.
    unsafe { add(node, graph, (dependencies, std::ptr::null()), dependency_count, body) }
}

pub(crate) unsafe fn cuGraphExecChildGraphNodeSetParams(
    exec: CUgraphExec,
    node: CUgraphNode,
    child: CUgraph,
) -> CUresult {
    if exec.0 == 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    set(exec.0, node, Ok((CUgraphNodeType::GRAPH, Body::Value(child.0))))
}

pub(crate) unsafe fn cuGraphAddEmptyNode(
    node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    dependency_count: usize,
) -> CUresult {
    let body = || Ok((CUgraphNodeType::EMPTY, Body::Empty));
    // SAFETY: the same contract.
    unsafe { add(node, graph, (dependencies, std::ptr::null()), dependency_count, body) }
}

pub(crate) unsafe fn cuGraphAddNode(
    node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    dependency_count: usize,
    params: *mut CUgraphNodeParams,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuGraphAddNode_v2(node, graph, dependencies, std::ptr::null(), dependency_count, params) }
}

pub(crate) unsafe fn cuGraphAddNode_v2(
    node: *mut CUgraphNode,
    graph: CUgraph,
    dependencies: *const CUgraphNode,
    edge_data: *const CUgraphEdgeData,
    dependency_count: usize,
    params: *mut CUgraphNodeParams,
) -> CUresult {
    // SAFETY: the same contract.
    let body = || unsafe { any(params, Life::Graph) };
    // SAFETY: the same contract.
    let made = unsafe { added(node, graph, (dependencies, edge_data), dependency_count, body) };
    status(made.map(|made| {
        if made.address != 0 {
            // SAFETY: the program's structure.
            let arm = unsafe { &raw mut (*params).union };
            // SAFETY: its union has the arm of an allocation.
            unsafe { give_address(arm.cast(), made.address) };
        }
    }))
}

pub(crate) unsafe fn cuGraphNodeSetParams(node: CUgraphNode, params: *mut CUgraphNodeParams) -> CUresult {
    // SAFETY: the same contract.
    set(0, node, unsafe { any(params, Life::Graph) })
}

pub(crate) unsafe fn cuGraphExecNodeSetParams(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: *mut CUgraphNodeParams,
) -> CUresult {
    if exec.0 == 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the same contract.
    set(exec.0, node, unsafe { any(params, Life::Ever) })
}

pub(crate) unsafe fn cuGraphKernelNodeGetParams_v2(
    node: CUgraphNode,
    params: *mut CUDA_KERNEL_NODE_PARAMS,
) -> CUresult {
    let run = || {
        if params.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let (graph, launch, bytes) = {
            let (graph, mut response) = node_get(node.0, CUgraphNodeType::KERNEL)?;
            let launch = response.take::<Launch>()?;
            let bytes = response.take_slice(launch.parameter_bytes as usize)?.to_vec();
            (graph, launch, bytes)
        };
        let function = function::with_parameters(launch.function)?;
        if bytes.len() < function.parameter_bytes as usize {
            return Err(CUresult::ERROR_UNKNOWN);
        }
        let pointers = given::parameters(node.0, graph, &bytes, &function.parameters);
        let [grid_x, grid_y, grid_z] = launch.grid;
        let [block_x, block_y, block_z] = launch.block;
        let found = CUDA_KERNEL_NODE_PARAMS {
            func: CUfunction(launch.function),
            gridDimX: grid_x,
            gridDimY: grid_y,
            gridDimZ: grid_z,
            blockDimX: block_x,
            blockDimY: block_y,
            blockDimZ: block_z,
            sharedMemBytes: launch.shared_bytes,
            kernelParams: pointers,
            extra: std::ptr::null_mut(),
            kern: CUkernel(0),
            ctx: CUcontext(launch.stream),
        };
        // SAFETY: the application's structure.
        unsafe { give(params, found) }
    };
    status(run())
}

pub(crate) unsafe fn cuGraphKernelNodeGetParams(
    node: CUgraphNode,
    params: *mut CUDA_KERNEL_NODE_PARAMS_v1,
) -> CUresult {
    if params.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let mut found = std::mem::MaybeUninit::uninit();
    // SAFETY: room for the structure.
    let result = unsafe { cuGraphKernelNodeGetParams_v2(node, found.as_mut_ptr()) };
    if result == CUresult::SUCCESS {
        // The older structure is the beginning of the younger one.
        // SAFETY: it was written.
        let older = unsafe { found.as_ptr().cast::<CUDA_KERNEL_NODE_PARAMS_v1>().read() };
        // SAFETY: the application's structure.
        unsafe { params.write(older) };
    }
    result
}

pub(crate) unsafe fn cuGraphMemcpyNodeGetParams(node: CUgraphNode, params: *mut CUDA_MEMCPY3D) -> CUresult {
    let run = || {
        if params.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let copy = node_get(node.0, CUgraphNodeType::MEMCPY)?.1.take::<NodeCopy>()?.copy;
        // SAFETY: the words of the structure, for which the application has room.
        unsafe { std::ptr::copy_nonoverlapping(copy.as_ptr(), params.cast::<u64>(), copy.len()) };
        Ok(())
    };
    status(run())
}

pub(crate) unsafe fn cuGraphMemsetNodeGetParams(
    node: CUgraphNode,
    params: *mut CUDA_MEMSET_NODE_PARAMS,
) -> CUresult {
    let found =
        node_get(node.0, CUgraphNodeType::MEMSET).and_then(|(_, mut response)| response.take::<NodeFill>());
    // SAFETY: the application's structure.
    status(found.and_then(|found| unsafe { give(params, found.fill) }))
}

pub(super) fn value(node: CUgraphNode, kind: CUgraphNodeType) -> Result<u64, CUresult> {
    Ok(node_get(node.0, kind)?.1.take::<NodeValue>()?.value)
}

pub(crate) unsafe fn cuGraphHostNodeGetParams(
    node: CUgraphNode,
    params: *mut CUDA_HOST_NODE_PARAMS,
) -> CUresult {
    let found = value(node, CUgraphNodeType::HOST)
        .and_then(|number| host_calls::host_function_of(number).ok_or(CUresult::ERROR_UNKNOWN));
    // SAFETY: the application's structure.
    status(found.and_then(|(fn_, userData)| unsafe { give(params, CUDA_HOST_NODE_PARAMS { fn_, userData }) }))
}

pub(crate) unsafe fn cuGraphEventRecordNodeGetEvent(node: CUgraphNode, event: *mut CUevent) -> CUresult {
    let found = value(node, CUgraphNodeType::EVENT_RECORD);
    // SAFETY: the application's place for an event.
    status(found.and_then(|handle| unsafe { give(event, CUevent(handle)) }))
}

pub(crate) unsafe fn cuGraphEventWaitNodeGetEvent(node: CUgraphNode, event: *mut CUevent) -> CUresult {
    let found = value(node, CUgraphNodeType::WAIT_EVENT);
    // SAFETY: the application's place for an event.
    status(found.and_then(|handle| unsafe { give(event, CUevent(handle)) }))
}

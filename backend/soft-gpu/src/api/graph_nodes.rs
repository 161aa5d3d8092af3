//! Nodes of graphs: what they do, from the program's structures, and adding them.
//!
//! Unsafe code: what is behind the program's pointers.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;
use std::sync::Arc;

use virtio_spec::cuda::{
    CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEM_FREE_NODE_PARAMS,
    CUDA_MEMCPY_NODE_PARAMS, CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUcontext, CUevent, CUgraph,
    CUgraphEdgeData, CUgraphNode, CUgraphNodeParams, CUgraphNodeType, CUkernel, CUresult,
};

use super::copies::node_sides;
use super::entry::{Call, In, List, Out, exports};
use super::graph_conditions::conditional;
use super::graph_memory;
use super::graph_operations::operations;
use super::launches::host_node;
use crate::driver::context::Context;
use crate::driver::copy::{Pattern, fill_node, replay};
use crate::driver::graph::{self, Described, Op};
use crate::driver::launch::{Shape, gather, node as kernel_node, resolve};
use crate::driver::{Result, driver};

exports! {
    context cuGraphAddKernelNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize,
        params: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) = add_kernel_v1;
    context cuGraphAddKernelNode_v2(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize,
        params: *const CUDA_KERNEL_NODE_PARAMS,
    ) = add_kernel;
    context cuGraphAddMemcpyNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize,
        params: *const CUDA_MEMCPY3D, context: CUcontext,
    ) = add_copy;
    context cuGraphAddMemsetNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize,
        params: *const CUDA_MEMSET_NODE_PARAMS, context: CUcontext,
    ) = add_fill;
    context cuGraphAddHostNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize,
        params: *const CUDA_HOST_NODE_PARAMS,
    ) = add_host;
    context cuGraphAddEmptyNode(node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize)
        = add_empty;
    context cuGraphAddChildGraphNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize, child: CUgraph,
    ) = add_child;
    context cuGraphAddEventRecordNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize, event: CUevent,
    ) = add_record;
    context cuGraphAddEventWaitNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize, event: CUevent,
    ) = add_wait;
    context cuGraphAddNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize,
        params: *mut CUgraphNodeParams,
    ) = add_any;
    context cuGraphAddNode_v2(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, data: *const CUgraphEdgeData,
        count: usize, params: *mut CUgraphNodeParams,
    ) = add_any_2;
}

/// The context that a node works in.
pub(super) fn context_of(call: &Call, context: CUcontext) -> Result<Arc<Context>> {
    if context.0 == 0 {
        return Ok(Arc::clone(&call.context));
    }
    call.driver().contexts.find(context.0).ok_or(CUresult::ERROR_INVALID_CONTEXT)
}

pub(super) fn kernel(call: &Call, params: In<CUDA_KERNEL_NODE_PARAMS>) -> Result<Op> {
    let params = params.get()?;
    let context = context_of(call, params.ctx)?;
    let handle = if params.func.0 == 0 { params.kern.0 } else { params.func.0 };
    let function = resolve(call.driver(), &context, handle)?;
    let shape = Shape {
        grid: [params.gridDimX, params.gridDimY, params.gridDimZ],
        block: [params.blockDimX, params.blockDimY, params.blockDimZ],
        dynamic_shared: params.sharedMemBytes,
        cooperative: false,
    };
    // SAFETY: the program gives this function's parameters as CUDA demands.
    let bytes = unsafe { gather(&function, params.kernelParams, params.extra) }?;
    kernel_node(&context, &function, shape, bytes)
}

pub(super) fn kernel_v1(call: &Call, params: In<CUDA_KERNEL_NODE_PARAMS_v1>) -> Result<Op> {
    let params = params.get()?;
    let widened = CUDA_KERNEL_NODE_PARAMS {
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
    };
    kernel(call, In::of(&widened))
}

pub(super) fn copy(params: In<CUDA_MEMCPY3D>) -> Result<Op> {
    let described = params.get()?;
    let (sides, extent) = node_sides(&described)?;
    // SAFETY: the program promises that host memory which it names is its own whenever the graph is launched.
    let replay = unsafe { replay(sides, extent) }?;
    Ok(Op::Copy { described: Described(described), replay })
}

pub(super) fn fill(params: In<CUDA_MEMSET_NODE_PARAMS>) -> Result<Op> {
    let params = params.get()?;
    let [first, second, ..] = params.value.to_le_bytes();
    let pattern = match params.elementSize {
        1 => Pattern::Byte(first),
        2 => Pattern::Half(u16::from_le_bytes([first, second])),
        4 => Pattern::Word(params.value),
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    };
    fill_node((params.dst.0, params.pitch), pattern, (params.width, params.height))
}

pub(super) fn host(params: In<CUDA_HOST_NODE_PARAMS>) -> Result<Op> {
    let params = params.get()?;
    params.fn_.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    Ok(host_node(params.fn_, params.userData))
}

pub(super) fn child(graph: u64) -> Result<Op> {
    Ok(Op::Child(graph::find(graph)?.clone_for_node(driver())?))
}

pub(super) fn record(event: CUevent) -> Result<Op> {
    Ok(Op::Record(driver().events.get(event.0)?))
}

pub(super) fn wait(event: CUevent) -> Result<Op> {
    Ok(Op::Wait(driver().events.get(event.0)?))
}

/// A node of any kind but those that allocate and free memory, which cannot be changed.
pub(super) fn any(call: &Call, params: *mut CUgraphNodeParams) -> Result<Op> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program's structure.
    let params = unsafe { params.read() };
    let arm: *const c_void = params.union.as_ptr().cast();
    // Each arm below is the one that the kind says.
    match params.kind {
        CUgraphNodeType::KERNEL => kernel(call, In::at(arm.cast())),
        CUgraphNodeType::MEMCPY => {
            let params = In::<CUDA_MEMCPY_NODE_PARAMS>::at(arm.cast()).get()?;
            copy(In::of(&params.copyParams))
        }
        CUgraphNodeType::MEMSET => fill(In::at(arm.cast())),
        CUgraphNodeType::HOST => host(In::at(arm.cast())),
        CUgraphNodeType::GRAPH => child(params.union[0]),
        CUgraphNodeType::EVENT_RECORD => record(CUevent(params.union[0])),
        CUgraphNodeType::WAIT_EVENT => wait(CUevent(params.union[0])),
        CUgraphNodeType::EMPTY => Ok(Op::Empty),
        CUgraphNodeType::BATCH_MEM_OP => operations(call, In::at(arm.cast())),
        _ => Err(CUresult::ERROR_NOT_SUPPORTED),
    }
}

pub(super) fn add(
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    op: impl FnOnce() -> Result<Op>,
) -> Result<()> {
    node.check()?;
    let graph = graph::find(graph.0)?;
    let after: Vec<u64> = after.all(count)?.into_iter().map(|node| node.0).collect();
    let made = graph.add(driver(), op()?, &after)?;
    node.put(CUgraphNode(made.handle))
}

fn add_kernel(
    call: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    params: In<CUDA_KERNEL_NODE_PARAMS>,
) -> Result<()> {
    add(node, graph, after, count, || kernel(call, params))
}

fn add_kernel_v1(
    call: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    params: In<CUDA_KERNEL_NODE_PARAMS_v1>,
) -> Result<()> {
    add(node, graph, after, count, || kernel_v1(call, params))
}

fn add_copy(
    call: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    params: In<CUDA_MEMCPY3D>,
    context: CUcontext,
) -> Result<()> {
    context_of(call, context)?;
    add(node, graph, after, count, || copy(params))
}

fn add_fill(
    call: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    params: In<CUDA_MEMSET_NODE_PARAMS>,
    context: CUcontext,
) -> Result<()> {
    context_of(call, context)?;
    add(node, graph, after, count, || fill(params))
}

fn add_host(
    _: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    params: In<CUDA_HOST_NODE_PARAMS>,
) -> Result<()> {
    add(node, graph, after, count, || host(params))
}

fn add_empty(
    _: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
) -> Result<()> {
    add(node, graph, after, count, || Ok(Op::Empty))
}

fn add_child(
    _: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    inner: CUgraph,
) -> Result<()> {
    if inner == graph {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    add(node, graph, after, count, || child(inner.0))
}

fn add_record(
    _: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    event: CUevent,
) -> Result<()> {
    add(node, graph, after, count, || record(event))
}

fn add_wait(
    _: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    event: CUevent,
) -> Result<()> {
    add(node, graph, after, count, || wait(event))
}

fn add_any(
    call: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    params: *mut CUgraphNodeParams,
) -> Result<()> {
    add(node, graph, after, count, || {
        if params.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the program's structure.
        let kind = unsafe { (*params).kind };
        // SAFETY: the program's structure.
        let arm: *mut c_void = unsafe { &raw mut (*params).union }.cast();
        match kind {
            // SAFETY: the arm that the kind says.
            CUgraphNodeType::MEM_ALLOC => unsafe { graph_memory::allocation(arm.cast(), graph.0) },
            CUgraphNodeType::MEM_FREE => {
                graph_memory::free(In::<CUDA_MEM_FREE_NODE_PARAMS>::at(arm.cast()).get()?.dptr)
            }
            // SAFETY: the arm that the kind says.
            CUgraphNodeType::CONDITIONAL => unsafe { conditional(call, graph, arm.cast()) },
            _ => any(call, params),
        }
    })
}

fn add_any_2(
    call: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    _data: List<CUgraphEdgeData>,
    count: usize,
    params: *mut CUgraphNodeParams,
) -> Result<()> {
    add_any(call, node, graph, after, count, params)
}

//! Nodes of graphs: changing what they do, in a graph or in an executable one, and telling it.
//!
//! Unsafe code: the older of two structures is read out of the younger.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;

use virtio_spec::cuda::{
    CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY3D,
    CUDA_MEMSET_NODE_PARAMS, CUcontext, CUevent, CUfunction, CUgraph, CUgraphExec, CUgraphNode,
    CUgraphNodeParams, CUkernel, CUresult,
};

use super::entry::{Call, In, Out, exports};
use super::graph_nodes::{any, child, context_of, copy, fill, host, kernel, kernel_v1, record, wait};
use crate::driver::graph::{self, Op};
use crate::driver::{Driver, Result, driver};

exports! {
    context cuGraphKernelNodeSetParams(node: CUgraphNode, params: *const CUDA_KERNEL_NODE_PARAMS_v1) = set_kernel_v1;
    context cuGraphKernelNodeSetParams_v2(node: CUgraphNode, params: *const CUDA_KERNEL_NODE_PARAMS) = set_kernel;
    context cuGraphMemcpyNodeSetParams(node: CUgraphNode, params: *const CUDA_MEMCPY3D) = set_copy;
    context cuGraphMemsetNodeSetParams(node: CUgraphNode, params: *const CUDA_MEMSET_NODE_PARAMS) = set_fill;
    context cuGraphHostNodeSetParams(node: CUgraphNode, params: *const CUDA_HOST_NODE_PARAMS) = set_host;
    context cuGraphEventRecordNodeSetEvent(node: CUgraphNode, event: CUevent) = set_record;
    context cuGraphEventWaitNodeSetEvent(node: CUgraphNode, event: CUevent) = set_wait;
    context cuGraphNodeSetParams(node: CUgraphNode, params: *mut CUgraphNodeParams) = set_any;
    context cuGraphExecKernelNodeSetParams(
        exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) = exec_kernel_v1;
    context cuGraphExecKernelNodeSetParams_v2(
        exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_KERNEL_NODE_PARAMS,
    ) = exec_kernel;
    context cuGraphExecMemcpyNodeSetParams(
        exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_MEMCPY3D, context: CUcontext,
    ) = exec_copy;
    context cuGraphExecMemsetNodeSetParams(
        exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_MEMSET_NODE_PARAMS, context: CUcontext,
    ) = exec_fill;
    context cuGraphExecHostNodeSetParams(
        exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_HOST_NODE_PARAMS,
    ) = exec_host;
    context cuGraphExecChildGraphNodeSetParams(exec: CUgraphExec, node: CUgraphNode, child: CUgraph) = exec_child;
    context cuGraphExecEventRecordNodeSetEvent(exec: CUgraphExec, node: CUgraphNode, event: CUevent) = exec_record;
    context cuGraphExecEventWaitNodeSetEvent(exec: CUgraphExec, node: CUgraphNode, event: CUevent) = exec_wait;
    context cuGraphExecNodeSetParams(exec: CUgraphExec, node: CUgraphNode, params: *mut CUgraphNodeParams)
        = exec_any;
    init cuGraphKernelNodeGetParams(node: CUgraphNode, params: *mut CUDA_KERNEL_NODE_PARAMS_v1) = get_kernel_v1;
    init cuGraphKernelNodeGetParams_v2(node: CUgraphNode, params: *mut CUDA_KERNEL_NODE_PARAMS) = get_kernel;
    init cuGraphMemcpyNodeGetParams(node: CUgraphNode, params: *mut CUDA_MEMCPY3D) = get_copy;
    init cuGraphMemsetNodeGetParams(node: CUgraphNode, params: *mut CUDA_MEMSET_NODE_PARAMS) = get_fill;
    init cuGraphHostNodeGetParams(node: CUgraphNode, params: *mut CUDA_HOST_NODE_PARAMS) = get_host;
    init cuGraphEventRecordNodeGetEvent(node: CUgraphNode, event: *mut CUevent) = get_record;
    init cuGraphEventWaitNodeGetEvent(node: CUgraphNode, event: *mut CUevent) = get_wait;
}

fn set(node: CUgraphNode, op: Op) -> Result<()> {
    graph::find_node(node.0)?.set(op)
}

fn exec_set(exec: CUgraphExec, node: CUgraphNode, op: Op) -> Result<()> {
    driver().execs.find(exec.0).ok_or(CUresult::ERROR_INVALID_VALUE)?.set(node.0, op)
}

fn set_kernel(call: &Call, node: CUgraphNode, params: In<CUDA_KERNEL_NODE_PARAMS>) -> Result<()> {
    set(node, kernel(call, params)?)
}

fn set_kernel_v1(call: &Call, node: CUgraphNode, params: In<CUDA_KERNEL_NODE_PARAMS_v1>) -> Result<()> {
    set(node, kernel_v1(call, params)?)
}

fn set_copy(_: &Call, node: CUgraphNode, params: In<CUDA_MEMCPY3D>) -> Result<()> {
    set(node, copy(params)?)
}

fn set_fill(_: &Call, node: CUgraphNode, params: In<CUDA_MEMSET_NODE_PARAMS>) -> Result<()> {
    set(node, fill(params)?)
}

fn set_host(_: &Call, node: CUgraphNode, params: In<CUDA_HOST_NODE_PARAMS>) -> Result<()> {
    set(node, host(params)?)
}

fn set_record(_: &Call, node: CUgraphNode, event: CUevent) -> Result<()> {
    set(node, record(event)?)
}

fn set_wait(_: &Call, node: CUgraphNode, event: CUevent) -> Result<()> {
    set(node, wait(event)?)
}

fn set_any(call: &Call, node: CUgraphNode, params: *mut CUgraphNodeParams) -> Result<()> {
    set(node, any(call, params)?)
}

fn exec_kernel(
    call: &Call,
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<CUDA_KERNEL_NODE_PARAMS>,
) -> Result<()> {
    exec_set(exec, node, kernel(call, params)?)
}

fn exec_kernel_v1(
    call: &Call,
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<CUDA_KERNEL_NODE_PARAMS_v1>,
) -> Result<()> {
    exec_set(exec, node, kernel_v1(call, params)?)
}

fn exec_copy(
    call: &Call,
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<CUDA_MEMCPY3D>,
    context: CUcontext,
) -> Result<()> {
    context_of(call, context)?;
    exec_set(exec, node, copy(params)?)
}

fn exec_fill(
    call: &Call,
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<CUDA_MEMSET_NODE_PARAMS>,
    context: CUcontext,
) -> Result<()> {
    context_of(call, context)?;
    exec_set(exec, node, fill(params)?)
}

fn exec_host(
    _: &Call,
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<CUDA_HOST_NODE_PARAMS>,
) -> Result<()> {
    exec_set(exec, node, host(params)?)
}

fn exec_child(_: &Call, exec: CUgraphExec, node: CUgraphNode, graph: CUgraph) -> Result<()> {
    exec_set(exec, node, child(graph.0)?)
}

fn exec_record(_: &Call, exec: CUgraphExec, node: CUgraphNode, event: CUevent) -> Result<()> {
    exec_set(exec, node, record(event)?)
}

fn exec_wait(_: &Call, exec: CUgraphExec, node: CUgraphNode, event: CUevent) -> Result<()> {
    exec_set(exec, node, wait(event)?)
}

fn exec_any(call: &Call, exec: CUgraphExec, node: CUgraphNode, params: *mut CUgraphNodeParams) -> Result<()> {
    exec_set(exec, node, any(call, params)?)
}

fn op_of(node: CUgraphNode) -> Result<Op> {
    Ok(graph::find_node(node.0)?.op())
}

fn get_kernel(_: &Driver, node: CUgraphNode, params: Out<CUDA_KERNEL_NODE_PARAMS>) -> Result<()> {
    params.check()?;
    let Op::Kernel { function, shape, params: own, .. } = op_of(node)? else {
        return Err(CUresult::ERROR_INVALID_VALUE);
    };
    let [grid_x, grid_y, grid_z] = shape.grid;
    let [block_x, block_y, block_z] = shape.block;
    params.put(CUDA_KERNEL_NODE_PARAMS {
        func: CUfunction(function.handle),
        gridDimX: grid_x,
        gridDimY: grid_y,
        gridDimZ: grid_z,
        blockDimX: block_x,
        blockDimY: block_y,
        blockDimZ: block_z,
        sharedMemBytes: shape.dynamic_shared,
        kernelParams: own.pointers.as_ptr().cast::<*mut c_void>().cast_mut(),
        extra: std::ptr::null_mut(),
        kern: CUkernel(0),
        ctx: CUcontext(function.module.context),
    })
}

fn get_kernel_v1(driver: &Driver, node: CUgraphNode, params: Out<CUDA_KERNEL_NODE_PARAMS_v1>) -> Result<()> {
    params.check()?;
    let mut found = std::mem::MaybeUninit::<CUDA_KERNEL_NODE_PARAMS>::uninit();
    get_kernel(driver, node, Out::at(found.as_mut_ptr()))?;
    // SAFETY: it was written; the older structure is its beginning.
    params.put(unsafe { found.as_ptr().cast::<CUDA_KERNEL_NODE_PARAMS_v1>().read() })
}

fn get_copy(_: &Driver, node: CUgraphNode, params: Out<CUDA_MEMCPY3D>) -> Result<()> {
    params.check()?;
    match op_of(node)? {
        Op::Copy { described, .. } => params.put(described.0),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

fn get_fill(_: &Driver, node: CUgraphNode, params: Out<CUDA_MEMSET_NODE_PARAMS>) -> Result<()> {
    params.check()?;
    match op_of(node)? {
        Op::Fill { described, .. } => params.put(described),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

fn get_host(_: &Driver, node: CUgraphNode, params: Out<CUDA_HOST_NODE_PARAMS>) -> Result<()> {
    params.check()?;
    match op_of(node)? {
        Op::Host { function, data, .. } => params.put(CUDA_HOST_NODE_PARAMS {
            fn_: function,
            userData: std::ptr::with_exposed_provenance_mut(data),
        }),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

fn get_record(_: &Driver, node: CUgraphNode, event: Out<CUevent>) -> Result<()> {
    event.check()?;
    match op_of(node)? {
        Op::Record(own) => event.put(CUevent(own.handle)),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

fn get_wait(_: &Driver, node: CUgraphNode, event: Out<CUevent>) -> Result<()> {
    event.check()?;
    match op_of(node)? {
        Op::Wait(own) => event.put(CUevent(own.handle)),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

//! What nodes do, as the program is told.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{
    CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY3D,
    CUDA_MEMSET_NODE_PARAMS, CUcontext, CUevent, CUfunction, CUgraphNode, CUgraphNodeType, CUkernel,
    CUresult,
};
use virtio_spec::graph_requests::{NodeCopy, NodeFill, NodeValue};
use virtio_spec::requests::Launch;

use crate::calls::give;
use crate::code::function;
use crate::entry::status;
use crate::graph::{given, host_calls, node_get};
use crate::mirror;

/// Places of pointers among the words of a copy: `srcHost`, `srcDevice`, `dstHost`, `dstDevice`.
const POINTERS: [usize; 4] = [5, 6, 16, 17];

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
        let mut copy = node_get(node.0, CUgraphNodeType::MEMCPY)?.1.take::<NodeCopy>()?.copy;
        // Where the node names a shadow, the program has given memory of its own.
        for pointer in POINTERS {
            copy[pointer] = mirror::as_given(copy[pointer]);
        }
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

//! Nodes of memory operations: what `cuStreamBatchMemOp` does, in a graph.
//!
//! Unsafe code: calls of the driver, and its own lists.

use virtio_spec::{
    cuda::{CUDA_BATCH_MEM_OP_NODE_PARAMS, CUcontext, CUgraphNode, CUresult, CUstreamBatchMemOpParams},
    graph_requests::NodeOperations,
    handle::Kind,
    limits,
};

use super::{
    Invocation,
    graph::{function, pointer_to},
    graph_node::{Target, apply, context_of},
    ok,
};

/// `CUstreamBatchMemOpType`: waits and writes of 32 and 64 bits, a flush, a barrier.
const KNOWN: std::ops::RangeInclusive<u32> = 1..=6;

pub(super) fn node(call: &mut Invocation<'_>, target: Target<'_>) -> Result<CUgraphNode, CUresult> {
    let request: NodeOperations = call.structure()?;
    if request.count > limits::MAX_MEMORY_OPERATIONS {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let mut operations: Vec<CUstreamBatchMemOpParams> = call.values(u64::from(request.count))?;
    call.end_of_parameters()?;
    if operations.iter().any(|operation| !KNOWN.contains(&operation.operation)) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    for operation in &mut operations {
        // The driver's own word.
        operation.alias = 0;
    }
    call.set_current()?;
    let params = CUDA_BATCH_MEM_OP_NODE_PARAMS {
        ctx: context_of(call, request.context)?,
        count: request.count,
        paramArray: operations.as_mut_ptr(),
        flags: request.flags,
    };
    let params = &raw const params;
    apply!(
        call,
        target,
        cuGraphAddBatchMemOpNode,
        cuGraphBatchMemOpNodeSetParams,
        cuGraphExecBatchMemOpNodeSetParams,
        (params),
        (params)
    )
}

/// Tells what a node does.
pub(super) fn get(call: &mut Invocation<'_>, node: CUgraphNode) -> Result<(), CUresult> {
    let get = function!(call, cuGraphBatchMemOpNodeGetParams);
    let mut params = CUDA_BATCH_MEM_OP_NODE_PARAMS {
        ctx: CUcontext::default(),
        count: 0,
        paramArray: std::ptr::null_mut(),
        flags: 0,
    };
    // SAFETY: a live node, room for its structure.
    ok(unsafe { get(node, &raw mut params) })?;
    let count = if params.paramArray.is_null() { 0 } else { params.count as usize };
    let operations: Vec<CUstreamBatchMemOpParams> = (0..count)
        .map(|index| {
            // SAFETY: the node's own list has `count` elements, and lives as long as the node.
            let found = unsafe { params.paramArray.wrapping_add(index).read() };
            CUstreamBatchMemOpParams { alias: 0, ..found }
        })
        .collect();
    call.put(&NodeOperations {
        context: call.session().handles.find(Kind::Context, params.ctx.0).unwrap_or(0),
        count: u32::try_from(operations.len()).map_err(|_| CUresult::ERROR_UNKNOWN)?,
        flags: params.flags,
    })?;
    call.put_values(&operations)
}

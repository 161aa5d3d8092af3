//! Nodes of memory operations.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{
    CUDA_BATCH_MEM_OP_NODE_PARAMS, CUcontext, CUgraphNode, CUgraphNodeType, CUresult,
    CUstreamBatchMemOpParams,
};
use virtio_spec::graph_requests::NodeOperations;
use virtio_spec::limits::MAX_MEMORY_OPERATIONS;
use zerocopy::FromBytes;

use super::bodies::Body;
use crate::calls::give;
use crate::entry::status;
use crate::graph::{given, node_get};

/// What a node is to do.
///
/// # Safety
/// `params` is null or a structure whose list is complete.
pub(super) unsafe fn operations(params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS) -> Result<Body, CUresult> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let params = unsafe { params.read() };
    if params.paramArray.is_null() || params.count == 0 || params.count > MAX_MEMORY_OPERATIONS {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let list = unsafe { std::slice::from_raw_parts(params.paramArray, params.count as usize) };
    let head = NodeOperations { context: params.ctx.0, count: params.count, flags: params.flags };
    Ok(Body::Operations(head, list.to_vec()))
}

pub(crate) unsafe fn cuGraphBatchMemOpNodeGetParams(
    node: CUgraphNode,
    params: *mut CUDA_BATCH_MEM_OP_NODE_PARAMS,
) -> CUresult {
    let run = || {
        let (graph, mut response) = node_get(node.0, CUgraphNodeType::BATCH_MEM_OP)?;
        let head = response.take::<NodeOperations>()?;
        let size = size_of::<CUstreamBatchMemOpParams>();
        let bytes = response.take_slice((head.count as usize).saturating_mul(size))?;
        let list = bytes.chunks_exact(size).map(CUstreamBatchMemOpParams::read_from_bytes);
        let list = list.collect::<Result<Vec<_>, _>>().map_err(|_| CUresult::ERROR_UNKNOWN)?;
        drop(response);
        let found = CUDA_BATCH_MEM_OP_NODE_PARAMS {
            ctx: CUcontext(head.context),
            count: head.count,
            paramArray: given::things(node.0, graph, &list),
            flags: head.flags,
        };
        // SAFETY: the application's structure.
        unsafe { give(params, found) }
    };
    if params.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    status(run())
}

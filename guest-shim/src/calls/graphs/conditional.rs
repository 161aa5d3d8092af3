//! Conditional nodes, and the conditions that they have.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{
    CUDA_CONDITIONAL_NODE_PARAMS, CUcontext, CUgraph, CUgraphEdgeData, CUgraphNode, CUgraphNodeParams,
    CUgraphNodeType, CUresult,
};
use virtio_spec::graph_requests::{
    GraphCondition, GraphNode, GraphNodeMade, NodeConditional, NodeValue, node_operation, opcode,
};
use virtio_spec::limits::MAX_CONDITIONAL_BODIES;

use super::{data_at, nodes_at};
use crate::calls::give;
use crate::context;
use crate::entry::status;
use crate::graph::{After, ask, given, request};

pub(crate) unsafe fn cuGraphConditionalHandleCreate(
    handle: *mut u64,
    graph: CUgraph,
    context: CUcontext,
    default_launch_value: u32,
    flags: u32,
) -> CUresult {
    if handle.is_null() || graph.0 == 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<u64, CUresult> {
        let context = if context.0 == 0 { context::required()? } else { context.0 };
        let body = GraphCondition { graph: graph.0, context, value: default_launch_value, flags };
        Ok(ask::<_, NodeValue>(opcode::GRAPH_CONDITION, &body)?.value)
    };
    // SAFETY: the application's place for the value.
    status(run().and_then(|made| unsafe { give(handle, made) }))
}

/// Whether a structure describes a conditional node.
///
/// # Safety
/// `params` is null or a structure.
pub(super) unsafe fn is_conditional(params: *const CUgraphNodeParams) -> bool {
    // SAFETY: as the caller promises.
    !params.is_null() && unsafe { (*params).kind } == CUgraphNodeType::CONDITIONAL
}

/// Adds a conditional node, and tells the program which graphs are its bodies.
///
/// # Safety
/// `place` is null or room for a node; the arrays are null or have as many elements as the last number says; `params` is a
/// structure of a conditional node.
pub(super) unsafe fn add_conditional(
    place: *mut CUgraphNode,
    graph: CUgraph,
    (nodes, data, count): (*const CUgraphNode, *const CUgraphEdgeData, usize),
    params: *mut CUgraphNodeParams,
) -> Result<(), CUresult> {
    if place.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let nodes = unsafe { nodes_at(nodes, count) }?;
    // SAFETY: as the caller promises.
    let data = unsafe { data_at(data, count) };
    // SAFETY: as the caller promises.
    let arm = unsafe { &raw mut (*params).union }.cast::<CUDA_CONDITIONAL_NODE_PARAMS>();
    // SAFETY: the kind's arm.
    let wanted = unsafe { arm.read() };
    if wanted.size == 0 || wanted.size > MAX_CONDITIONAL_BODIES {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let after = After { nodes: &nodes, data: data.as_deref() };
    let mut request = request(opcode::GRAPH_NODE)?.with_room(64 + 8 * wanted.size);
    request.structure(&GraphNode {
        operation: node_operation::ADD,
        kind: CUgraphNodeType::CONDITIONAL.0,
        graph: graph.0,
        node: 0,
        dependency_count: after.count()?,
        edge_data: u32::from(after.data.is_some()),
    });
    after.append(&mut request);
    request.structure(&NodeConditional {
        condition: wanted.handle,
        context: wanted.ctx.0,
        kind: wanted.kind.0,
        size: wanted.size,
    });
    let mut response = request.answer()?;
    let node = response.take::<GraphNodeMade>()?.node;
    let bodies = (0..wanted.size).map(|_| response.take::<u64>()).collect::<Result<Vec<_>, _>>()?;
    drop(response);
    // SAFETY: the kind's arm.
    let list = unsafe { &raw mut (*arm).phGraph_out };
    // SAFETY: as above; handles are words.
    unsafe { list.write(given::things(node, graph.0, &bodies).cast()) };
    // SAFETY: as the caller promises.
    unsafe { give(place, CUgraphNode(node)) }
}

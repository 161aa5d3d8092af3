//! Conditions and conditional nodes.
//!
//! A condition is the driver's own value, because kernels get it as a parameter and set it. One that a guest gives back must
//! be among those that its session has made.
//!
//! Unsafe code: calls of the driver, and the list of bodies that it makes.

use std::sync::PoisonError;

use virtio_spec::{
    cuda::{
        CUcontext, CUgraph, CUgraphConditionalNodeType, CUgraphNode, CUgraphNodeParams, CUgraphNodeType,
        CUresult,
    },
    graph_requests::{GraphCondition, NodeConditional, NodeValue},
    handle::Kind,
    limits,
};

use super::{
    Invocation,
    graph::{function, pointer_to},
    graph_node::{Target, context_of},
    ok,
};

pub(super) fn create(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GraphCondition = call.structure()?;
    call.end_of_parameters()?;
    let graph = call.graph(request.graph)?;
    let context = CUcontext(call.handle(Kind::Context, request.context)?);
    let create = function!(call, cuGraphConditionalHandleCreate);
    let session = call.session();
    let mut conditions = session.graphs.conditions.lock().unwrap_or_else(PoisonError::into_inner);
    if conditions.len() >= limits::MAX_CONDITIONS {
        // They go with their graphs.
        conditions.retain(|_, graph| session.handles.get(Kind::Graph, *graph).is_ok());
        if conditions.len() >= limits::MAX_CONDITIONS {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
    }
    let mut condition = 0;
    // SAFETY: live objects, room for one value.
    ok(unsafe { create(&raw mut condition, graph, context, request.value, request.flags) })?;
    conditions.insert(condition, request.graph);
    drop(conditions);
    call.put(&NodeValue { value: condition })
}

/// Bodies that a node of a kind may have.
fn check_size(kind: CUgraphConditionalNodeType, size: u32) -> Result<(), CUresult> {
    let most = match kind {
        CUgraphConditionalNodeType::IF => 2,
        CUgraphConditionalNodeType::WHILE => 1,
        CUgraphConditionalNodeType::SWITCH => limits::MAX_CONDITIONAL_BODIES,
        _ => 0,
    };
    if (1..=most).contains(&size) { Ok(()) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

/// Adds a conditional node; also the bodies that it has. Such a node cannot be changed.
pub(super) fn node(
    call: &mut Invocation<'_>,
    target: Target<'_>,
) -> Result<(CUgraphNode, Vec<CUgraph>), CUresult> {
    let request: NodeConditional = call.structure()?;
    call.end_of_parameters()?;
    let Target::Add(graph, after) = target else { return Err(CUresult::ERROR_NOT_SUPPORTED) };
    check_size(CUgraphConditionalNodeType(request.kind), request.size)?;
    let conditions = call.session().graphs.conditions.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known = conditions.contains_key(&request.condition);
    drop(conditions);
    if !is_known {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    call.set_current()?;
    let mut params = CUgraphNodeParams {
        kind: CUgraphNodeType::CONDITIONAL,
        reserved0: [0; 3],
        union: [0; 29],
        reserved2: 0,
    };
    // `CUDA_CONDITIONAL_NODE_PARAMS` as words.
    let [condition, kind_and_size, bodies, context, ..] = &mut params.union;
    *condition = request.condition;
    *kind_and_size = u64::from(request.kind) | u64::from(request.size) << 32;
    *bodies = 0;
    *context = context_of(call, request.context)?.0;
    let add = function!(call, cuGraphAddNode);
    let mut node = CUgraphNode::default();
    // SAFETY: live objects, room for one handle; the structure holds no pointer yet.
    ok(call.in_driver(|| unsafe {
        add(&raw mut node, graph, pointer_to(after), after.len(), &raw mut params)
    }))?;
    let [_, _, bodies, ..] = params.union;
    let address = usize::try_from(bodies).map_err(|_| CUresult::ERROR_UNKNOWN)?;
    let list: *const CUgraph = std::ptr::with_exposed_provenance(address);
    if list.is_null() {
        return Err(CUresult::ERROR_UNKNOWN);
    }
    let bodies = (0..request.size as usize)
        // SAFETY: the driver's list has an element for each body, and lives as long as the node.
        .map(|index| unsafe { list.wrapping_add(index).read() })
        .collect();
    Ok((node, bodies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_the_bodies_that_their_kind_allows() {
        for (kind, size) in [(0, 1), (0, 2), (1, 1), (2, 1), (2, 9)] {
            assert_eq!(check_size(CUgraphConditionalNodeType(kind), size), Ok(()), "{kind} {size}");
        }
        for (kind, size) in [(0, 0), (0, 3), (1, 2), (2, 0), (2, u32::MAX), (3, 1)] {
            assert!(check_size(CUgraphConditionalNodeType(kind), size).is_err(), "{kind} {size}");
        }
    }
}

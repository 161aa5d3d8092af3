//! Nodes of graphs: adding them, and changing what they do.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{
    CUDA_BATCH_MEM_OP_NODE_PARAMS, CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS,
    CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUcontext, CUevent, CUgraph,
    CUgraphEdgeData, CUgraphExec, CUgraphNode, CUgraphNodeParams, CUgraphNodeType, CUresult,
};
use virtio_spec::graph_requests::node_operation;

use super::bodies::{
    Body, any, copy, copy_here, event_value, exec_host, fill, fill_here, host, kernel, kernel_v1,
};
use super::conditional::{add_conditional, is_conditional};
use super::memory::give_address;
use super::operations::operations;
use super::{data_at, nodes_at};
use crate::calls::give;
use crate::entry::status;
use crate::graph::host_calls::Life;
use crate::graph::{After, Made};

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
node_calls!(BATCH_MEM_OP: cuGraphAddBatchMemOpNode, cuGraphBatchMemOpNodeSetParams,
    cuGraphExecBatchMemOpNodeSetParams; *const CUDA_BATCH_MEM_OP_NODE_PARAMS; operations, operations, operations);
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
    if unsafe { is_conditional(params) } {
        let dependencies = (dependencies, edge_data, dependency_count);
        // SAFETY: the same contract.
        return status(unsafe { add_conditional(node, graph, dependencies, params) });
    }
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

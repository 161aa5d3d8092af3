//! What a graph is made of: nodes and edges.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{CUgraph, CUgraphEdgeData, CUgraphNode, CUresult};
use virtio_spec::graph_requests::graph_list;

use super::{data_at, nodes_at};
use crate::entry::status;
use crate::graph::{edges, list};

/// Where the program wants a list; each may be null.
struct Places {
    nodes: *mut CUgraphNode,
    ends: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    count: *mut usize,
}

/// Gives a list, or only its length where the program has no room for elements. What the list does not fill is cleared.
///
/// # Safety
/// `count` is null or a number; the other places are null or have room for that many elements.
unsafe fn give_list(which: u32, object: u64, places: &Places) -> CUresult {
    let run = || {
        if places.count.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let only_count = places.nodes.is_null() && places.ends.is_null();
        // SAFETY: the application's number.
        let room = if only_count { 0 } else { unsafe { places.count.read() } };
        let listed = list(which, object, !places.data.is_null(), room)?;
        if only_count {
            // SAFETY: the application's number.
            unsafe { places.count.write(listed.total) };
            return Ok(());
        }
        for (place, values) in [(places.nodes, &listed.nodes), (places.ends, &listed.ends)] {
            for index in 0..if place.is_null() { 0 } else { room } {
                let value = CUgraphNode(values.get(index).copied().unwrap_or(0));
                // SAFETY: room for that many elements.
                unsafe { place.wrapping_add(index).write(value) };
            }
        }
        for index in 0..if places.data.is_null() { 0 } else { room } {
            let value = listed.data.get(index).copied().unwrap_or_default();
            // SAFETY: room for that many elements.
            unsafe { places.data.wrapping_add(index).write(value) };
        }
        // SAFETY: the application's number.
        unsafe { places.count.write(room.min(listed.total)) };
        Ok(())
    };
    status(run())
}

const fn nodes_only(nodes: *mut CUgraphNode, count: *mut usize) -> Places {
    Places { nodes, ends: std::ptr::null_mut(), data: std::ptr::null_mut(), count }
}

pub(crate) unsafe fn cuGraphGetNodes(graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize) -> CUresult {
    // SAFETY: the same contract.
    unsafe { give_list(graph_list::NODES, graph.0, &nodes_only(nodes, count)) }
}

pub(crate) unsafe fn cuGraphGetRootNodes(
    graph: CUgraph,
    nodes: *mut CUgraphNode,
    count: *mut usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { give_list(graph_list::ROOTS, graph.0, &nodes_only(nodes, count)) }
}

pub(crate) unsafe fn cuGraphGetEdges(
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    count: *mut usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuGraphGetEdges_v2(graph, from, to, std::ptr::null_mut(), count) }
}

pub(crate) unsafe fn cuGraphGetEdges_v2(
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    edge_data: *mut CUgraphEdgeData,
    count: *mut usize,
) -> CUresult {
    if from.is_null() != to.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let places = Places { nodes: from, ends: to, data: edge_data, count };
    // SAFETY: the same contract.
    unsafe { give_list(graph_list::EDGES, graph.0, &places) }
}

pub(crate) unsafe fn cuGraphNodeGetDependencies(
    node: CUgraphNode,
    dependencies: *mut CUgraphNode,
    count: *mut usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { give_list(graph_list::DEPENDENCIES, node.0, &nodes_only(dependencies, count)) }
}

pub(crate) unsafe fn cuGraphNodeGetDependencies_v2(
    node: CUgraphNode,
    dependencies: *mut CUgraphNode,
    edge_data: *mut CUgraphEdgeData,
    count: *mut usize,
) -> CUresult {
    let places = Places { data: edge_data, ..nodes_only(dependencies, count) };
    // SAFETY: the same contract.
    unsafe { give_list(graph_list::DEPENDENCIES, node.0, &places) }
}

pub(crate) unsafe fn cuGraphNodeGetDependentNodes(
    node: CUgraphNode,
    dependents: *mut CUgraphNode,
    count: *mut usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { give_list(graph_list::DEPENDENTS, node.0, &nodes_only(dependents, count)) }
}

pub(crate) unsafe fn cuGraphNodeGetDependentNodes_v2(
    node: CUgraphNode,
    dependents: *mut CUgraphNode,
    edge_data: *mut CUgraphEdgeData,
    count: *mut usize,
) -> CUresult {
    let places = Places { data: edge_data, ..nodes_only(dependents, count) };
    // SAFETY: the same contract.
    unsafe { give_list(graph_list::DEPENDENTS, node.0, &places) }
}

/// # Safety
/// The arrays are null or have `count` elements.
unsafe fn change(
    graph: CUgraph,
    (from, to): (*const CUgraphNode, *const CUgraphNode),
    data: *const CUgraphEdgeData,
    count: usize,
    remove: bool,
) -> CUresult {
    let run = || {
        // SAFETY: the application's array.
        let from = unsafe { nodes_at(from, count) }?;
        // SAFETY: the application's array.
        let to = unsafe { nodes_at(to, count) }?;
        // SAFETY: the application's array.
        let data = unsafe { data_at(data, count) };
        edges(graph.0, &from, &to, data.as_deref(), remove)
    };
    status(run())
}

pub(crate) unsafe fn cuGraphAddDependencies(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    count: usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { change(graph, (from, to), std::ptr::null(), count, false) }
}

pub(crate) unsafe fn cuGraphAddDependencies_v2(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    edge_data: *const CUgraphEdgeData,
    count: usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { change(graph, (from, to), edge_data, count, false) }
}

pub(crate) unsafe fn cuGraphRemoveDependencies(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    count: usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { change(graph, (from, to), std::ptr::null(), count, true) }
}

pub(crate) unsafe fn cuGraphRemoveDependencies_v2(
    graph: CUgraph,
    from: *const CUgraphNode,
    to: *const CUgraphNode,
    edge_data: *const CUgraphEdgeData,
    count: usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { change(graph, (from, to), edge_data, count, true) }
}

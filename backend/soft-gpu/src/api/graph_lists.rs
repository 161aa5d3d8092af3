//! What graphs are made of: lists of nodes and edges, and changing edges.
//!
//! Unsafe code: lists of the program.

#![allow(non_snake_case, reason = "CUDA's own names")]

use virtio_spec::cuda::{CUgraph, CUgraphEdgeData, CUgraphNode, CUresult};

use super::entry::{List, exports};
use crate::driver::graph;
use crate::driver::queue::lock;
use crate::driver::{Driver, Result};

exports! {
    init cuGraphGetNodes(graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize) = nodes;
    init cuGraphGetRootNodes(graph: CUgraph, nodes: *mut CUgraphNode, count: *mut usize) = roots;
    init cuGraphGetEdges(graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, count: *mut usize) = edges;
    init cuGraphGetEdges_v2(
        graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, data: *mut CUgraphEdgeData, count: *mut usize,
    ) = edges_2;
    init cuGraphNodeGetDependencies(node: CUgraphNode, nodes: *mut CUgraphNode, count: *mut usize) = dependencies;
    init cuGraphNodeGetDependencies_v2(
        node: CUgraphNode, nodes: *mut CUgraphNode, data: *mut CUgraphEdgeData, count: *mut usize,
    ) = dependencies_2;
    init cuGraphNodeGetDependentNodes(node: CUgraphNode, nodes: *mut CUgraphNode, count: *mut usize) = dependents;
    init cuGraphNodeGetDependentNodes_v2(
        node: CUgraphNode, nodes: *mut CUgraphNode, data: *mut CUgraphEdgeData, count: *mut usize,
    ) = dependents_2;
    init cuGraphAddDependencies(graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, count: usize)
        = connect;
    init cuGraphAddDependencies_v2(
        graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, data: *const CUgraphEdgeData, count: usize,
    ) = connect_2;
    init cuGraphRemoveDependencies(graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, count: usize)
        = disconnect;
    init cuGraphRemoveDependencies_v2(
        graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, data: *const CUgraphEdgeData, count: usize,
    ) = disconnect_2;
}

/// Gives a list, or its length where the program has no room.
fn give(values: &[u64], places: *mut CUgraphNode, count: *mut usize) -> Result<()> {
    if count.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if places.is_null() {
        // SAFETY: the program's number.
        unsafe { count.write(values.len()) };
        return Ok(());
    }
    // SAFETY: the program's number.
    let room = unsafe { count.read() };
    for index in 0..room {
        let value = CUgraphNode(values.get(index).copied().unwrap_or(0));
        // SAFETY: the program has room for that many elements.
        let place = unsafe { places.add(index) };
        // SAFETY: as above.
        unsafe { place.write(value) };
    }
    // SAFETY: the program's number.
    unsafe { count.write(room.min(values.len())) };
    Ok(())
}

fn nodes(_: &Driver, graph: CUgraph, places: *mut CUgraphNode, count: *mut usize) -> Result<()> {
    let graph = graph::find(graph.0)?;
    let handles: Vec<u64> = lock(&graph.contents).nodes.iter().map(|node| node.handle).collect();
    give(&handles, places, count)
}

fn roots(_: &Driver, graph: CUgraph, places: *mut CUgraphNode, count: *mut usize) -> Result<()> {
    let graph = graph::find(graph.0)?;
    let contents = lock(&graph.contents);
    let is_root = |handle: &u64| !contents.edges.iter().any(|(_, to)| to == handle);
    let handles: Vec<u64> = contents.nodes.iter().map(|node| node.handle).filter(is_root).collect();
    give(&handles, places, count)
}

fn edges(
    driver: &Driver,
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    count: *mut usize,
) -> Result<()> {
    edges_2(driver, graph, from, to, std::ptr::null_mut(), count)
}

fn edges_2(
    _: &Driver,
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    count: *mut usize,
) -> Result<()> {
    if from.is_null() != to.is_null() || count.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let graph = graph::find(graph.0)?;
    let (starts, ends): (Vec<u64>, Vec<u64>) = lock(&graph.contents).edges.iter().copied().unzip();
    // SAFETY: the program's number.
    let mut room = unsafe { count.read() };
    give(&starts, from, &raw mut room)?;
    give(&ends, to, count)?;
    clear(data, room);
    Ok(())
}

/// Edges have no data here.
fn clear(data: *mut CUgraphEdgeData, count: usize) {
    for index in 0..if data.is_null() { 0 } else { count } {
        // SAFETY: the program has room for that many elements.
        let place = unsafe { data.add(index) };
        // SAFETY: as above.
        unsafe { place.write(CUgraphEdgeData::default()) };
    }
}

fn dependencies(
    driver: &Driver,
    node: CUgraphNode,
    places: *mut CUgraphNode,
    count: *mut usize,
) -> Result<()> {
    dependencies_2(driver, node, places, std::ptr::null_mut(), count)
}

fn dependencies_2(
    _: &Driver,
    node: CUgraphNode,
    places: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    count: *mut usize,
) -> Result<()> {
    let graph = graph::find(graph::find_node(node.0)?.graph)?;
    let edges = lock(&graph.contents).edges.clone();
    let before: Vec<u64> = edges.iter().filter(|(_, to)| *to == node.0).map(|(from, _)| *from).collect();
    give(&before, places, count)?;
    if !places.is_null() {
        clear(data, before.len());
    }
    Ok(())
}

fn dependents(driver: &Driver, node: CUgraphNode, places: *mut CUgraphNode, count: *mut usize) -> Result<()> {
    dependents_2(driver, node, places, std::ptr::null_mut(), count)
}

fn dependents_2(
    _: &Driver,
    node: CUgraphNode,
    places: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    count: *mut usize,
) -> Result<()> {
    let graph = graph::find(graph::find_node(node.0)?.graph)?;
    let edges = lock(&graph.contents).edges.clone();
    let after: Vec<u64> = edges.iter().filter(|(from, _)| *from == node.0).map(|(_, to)| *to).collect();
    give(&after, places, count)?;
    if !places.is_null() {
        clear(data, after.len());
    }
    Ok(())
}

fn change(
    graph: CUgraph,
    from: List<CUgraphNode>,
    to: List<CUgraphNode>,
    count: usize,
    remove: bool,
) -> Result<()> {
    let graph = graph::find(graph.0)?;
    let pairs = from.all(count)?.into_iter().zip(to.all(count)?);
    let edges: Vec<(u64, u64)> = pairs.map(|(from, to)| (from.0, to.0)).collect();
    graph.connect(&edges, remove)
}

fn connect(
    _: &Driver,
    graph: CUgraph,
    from: List<CUgraphNode>,
    to: List<CUgraphNode>,
    count: usize,
) -> Result<()> {
    change(graph, from, to, count, false)
}

fn connect_2(
    _: &Driver,
    graph: CUgraph,
    from: List<CUgraphNode>,
    to: List<CUgraphNode>,
    _data: List<CUgraphEdgeData>,
    count: usize,
) -> Result<()> {
    change(graph, from, to, count, false)
}

fn disconnect(
    _: &Driver,
    graph: CUgraph,
    from: List<CUgraphNode>,
    to: List<CUgraphNode>,
    count: usize,
) -> Result<()> {
    change(graph, from, to, count, true)
}

fn disconnect_2(
    _: &Driver,
    graph: CUgraph,
    from: List<CUgraphNode>,
    to: List<CUgraphNode>,
    _data: List<CUgraphEdgeData>,
    count: usize,
) -> Result<()> {
    change(graph, from, to, count, true)
}

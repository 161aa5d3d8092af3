//! Graphs as a whole: making, cloning, ending and describing them.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_char;
use std::fmt::Write as _;

use virtio_spec::cuda::{CUgraph, CUgraphNode, CUgraphNodeType, CUresult};

use super::entry::{Out, Text, exports};
use crate::driver::graph::{self, Graph, Op};
use crate::driver::queue::lock;
use crate::driver::{Driver, Result};

exports! {
    init cuGraphCreate(graph: *mut CUgraph, flags: u32) = create;
    init cuGraphDestroy(graph: CUgraph) = destroy;
    init cuGraphClone(clone: *mut CUgraph, original: CUgraph) = clone;
    init cuGraphDestroyNode(node: CUgraphNode) = destroy_node;
    init cuGraphNodeFindInClone(node: *mut CUgraphNode, original: CUgraphNode, clone: CUgraph) = find_in_clone;
    init cuGraphNodeGetType(node: CUgraphNode, kind: *mut CUgraphNodeType) = node_type;
    init cuGraphChildGraphNodeGetGraph(node: CUgraphNode, graph: *mut CUgraph) = child_graph;
    init cuGraphDebugDotPrint(graph: CUgraph, path: *const c_char, flags: u32) = dot;
}

fn create(driver: &Driver, graph: Out<CUgraph>, flags: u32) -> Result<()> {
    graph.check()?;
    if flags != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    graph.put(CUgraph(Graph::create(driver).handle))
}

fn destroy(driver: &Driver, graph: CUgraph) -> Result<()> {
    let graph = graph::find(graph.0)?;
    if graph.embedded {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    graph.end(driver);
    Ok(())
}

fn clone(driver: &Driver, clone: Out<CUgraph>, original: CUgraph) -> Result<()> {
    clone.check()?;
    clone.put(CUgraph(graph::find(original.0)?.clone_whole(driver)?.handle))
}

fn destroy_node(driver: &Driver, node: CUgraphNode) -> Result<()> {
    let node = graph::find_node(node.0)?;
    graph::find(node.graph)?.remove(driver, node.handle)
}

fn find_in_clone(_: &Driver, node: Out<CUgraphNode>, original: CUgraphNode, clone: CUgraph) -> Result<()> {
    node.check()?;
    let found = graph::find(clone.0)?.find_clone(graph::find_node(original.0)?.handle);
    node.put(CUgraphNode(found.ok_or(CUresult::ERROR_INVALID_VALUE)?))
}

fn node_type(_: &Driver, node: CUgraphNode, kind: Out<CUgraphNodeType>) -> Result<()> {
    kind.check()?;
    kind.put(graph::find_node(node.0)?.op().kind())
}

fn child_graph(_: &Driver, node: CUgraphNode, graph: Out<CUgraph>) -> Result<()> {
    graph.check()?;
    match graph::find_node(node.0)?.op() {
        Op::Child(child) => graph.put(CUgraph(child.handle)),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

fn dot(_: &Driver, graph: CUgraph, path: Text, _flags: u32) -> Result<()> {
    let graph = graph::find(graph.0)?;
    let contents = lock(&graph.contents);
    let place = |handle: u64| contents.nodes.iter().position(|node| node.handle == handle).unwrap_or(0);
    let mut text = String::from("digraph dot {\n");
    let failed = |_| CUresult::ERROR_OPERATING_SYSTEM;
    for (index, node) in contents.nodes.iter().enumerate() {
        writeln!(text, "  \"node_{index}\" [label=\"{:?}\"];", node.op()).map_err(failed)?;
    }
    for (from, to) in &contents.edges {
        writeln!(text, "  \"node_{}\" -> \"node_{}\";", place(*from), place(*to)).map_err(failed)?;
    }
    text.push_str("}\n");
    std::fs::write(path.path()?, text).map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)
}

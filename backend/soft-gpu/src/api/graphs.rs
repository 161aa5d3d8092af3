//! Graphs as a whole, executable graphs, and user objects.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::{c_char, c_void};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use virtio_spec::cuda::{
    CUDA_GRAPH_INSTANTIATE_PARAMS, CUgraph, CUgraphEdgeData, CUgraphExec, CUgraphExecUpdateResult,
    CUgraphExecUpdateResultInfo, CUgraphInstantiateResult, CUgraphNode, CUgraphNodeType, CUhostFn, CUresult,
    CUstream, CUuserObject,
};

use super::entry::{Call, List, Out, Text, exports};
use crate::driver::graph::{self, Graph, Op, Owned, UserObject};
use crate::driver::graph_exec::Exec;
use crate::driver::handles::{kind, mint};
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
    context cuGraphInstantiate(
        exec: *mut CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, log: *mut c_char, bytes: usize,
    ) = instantiate_with_log;
    context cuGraphInstantiate_v2(
        exec: *mut CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, log: *mut c_char, bytes: usize,
    ) = instantiate_with_log;
    context cuGraphInstantiateWithFlags(exec: *mut CUgraphExec, graph: CUgraph, flags: u64) = instantiate;
    context cuGraphInstantiateWithParams / cuGraphInstantiateWithParams_ptsz (
        exec: *mut CUgraphExec, graph: CUgraph, params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
    ) = instantiate_with_params;
    init cuGraphExecDestroy(exec: CUgraphExec) = exec_destroy;
    init cuGraphExecGetFlags(exec: CUgraphExec, flags: *mut u64) = exec_flags;
    context cuGraphExecUpdate(
        exec: CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, result: *mut CUgraphExecUpdateResult,
    ) = update;
    context cuGraphExecUpdate_v2(exec: CUgraphExec, graph: CUgraph, info: *mut CUgraphExecUpdateResultInfo) = update_2;
    context cuGraphLaunch / cuGraphLaunch_ptsz (exec: CUgraphExec, stream: CUstream) = launch;
    context cuGraphUpload / cuGraphUpload_ptsz (exec: CUgraphExec, stream: CUstream) = upload;
    init cuGraphNodeGetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: *mut u32) = enabled;
    init cuGraphNodeSetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: u32) = enable;
    init cuGraphDebugDotPrint(graph: CUgraph, path: *const c_char, flags: u32) = dot;
    init cuUserObjectCreate(object: *mut CUuserObject, data: *mut c_void, destroy: CUhostFn, count: u32, flags: u32)
        = object_create;
    init cuUserObjectRetain(object: CUuserObject, count: u32) = object_retain;
    init cuUserObjectRelease(object: CUuserObject, count: u32) = object_release;
    init cuGraphRetainUserObject(graph: CUgraph, object: CUuserObject, count: u32, flags: u32) = graph_retain;
    init cuGraphReleaseUserObject(graph: CUgraph, object: CUuserObject, count: u32) = graph_release;
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

fn instantiate(call: &Call, exec: Out<CUgraphExec>, graph: CUgraph, flags: u64) -> Result<()> {
    /// Free on launch, upload, device launch, node priority.
    const KNOWN: u64 = 15;
    /// Launches from kernels.
    const DEVICE_LAUNCH: u64 = 4;
    exec.check()?;
    if flags & !KNOWN != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if flags & DEVICE_LAUNCH != 0 {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    let made = Exec::instantiate(call.driver(), &*graph::find(graph.0)?, flags)?;
    exec.put(CUgraphExec(made.handle))
}

fn instantiate_with_log(
    call: &Call,
    exec: Out<CUgraphExec>,
    graph: CUgraph,
    node: Out<CUgraphNode>,
    log: Out<c_char>,
    bytes: usize,
) -> Result<()> {
    node.put_if_wanted(CUgraphNode(0));
    if bytes > 0 {
        log.put_if_wanted(0);
    }
    instantiate(call, exec, graph, 0)
}

fn instantiate_with_params(
    call: &Call,
    exec: Out<CUgraphExec>,
    graph: CUgraph,
    params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
) -> Result<()> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program's structure.
    let wanted = unsafe { params.read() };
    let made = instantiate(call, exec, graph, wanted.flags);
    let result_out =
        if made.is_ok() { CUgraphInstantiateResult::SUCCESS } else { CUgraphInstantiateResult::ERROR };
    let told = CUDA_GRAPH_INSTANTIATE_PARAMS { result_out, hErrNode_out: CUgraphNode(0), ..wanted };
    // SAFETY: the program's structure.
    unsafe { params.write(told) };
    made
}

fn find_exec(driver: &Driver, exec: CUgraphExec) -> Result<Arc<Exec>> {
    driver.execs.find(exec.0).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn exec_destroy(driver: &Driver, exec: CUgraphExec) -> Result<()> {
    driver.execs.remove(exec.0).map(drop).map_err(|_| CUresult::ERROR_INVALID_VALUE)
}

fn exec_flags(driver: &Driver, exec: CUgraphExec, flags: Out<u64>) -> Result<()> {
    flags.check()?;
    flags.put(find_exec(driver, exec)?.flags)
}

fn update_with(
    call: &Call,
    exec: CUgraphExec,
    graph: CUgraph,
    tell: impl FnOnce(u64, CUgraphExecUpdateResult),
) -> Result<()> {
    match find_exec(call.driver(), exec)?.update(&*graph::find(graph.0)?)? {
        None => {
            tell(0, CUgraphExecUpdateResult::SUCCESS);
            Ok(())
        }
        Some((node, result)) => {
            tell(node, result);
            Err(CUresult::ERROR_GRAPH_EXEC_UPDATE_FAILURE)
        }
    }
}

fn update(
    call: &Call,
    exec: CUgraphExec,
    graph: CUgraph,
    node: Out<CUgraphNode>,
    result: Out<CUgraphExecUpdateResult>,
) -> Result<()> {
    update_with(call, exec, graph, |at, outcome| {
        node.put_if_wanted(CUgraphNode(at));
        result.put_if_wanted(outcome);
    })
}

fn update_2(
    call: &Call,
    exec: CUgraphExec,
    graph: CUgraph,
    info: Out<CUgraphExecUpdateResultInfo>,
) -> Result<()> {
    info.check()?;
    update_with(call, exec, graph, |at, result| {
        info.put_if_wanted(CUgraphExecUpdateResultInfo {
            result,
            errorNode: CUgraphNode(at),
            errorFromNode: CUgraphNode(0),
        });
    })
}

fn launch(call: &Call, exec: CUgraphExec, stream: CUstream) -> Result<()> {
    let exec = find_exec(call.driver(), exec)?;
    let (context, stream) = call.stream(stream)?;
    exec.launch(&context, &stream)
}

fn upload(call: &Call, exec: CUgraphExec, stream: CUstream) -> Result<()> {
    call.stream(stream)?;
    find_exec(call.driver(), exec).map(drop)
}

fn enabled(driver: &Driver, exec: CUgraphExec, node: CUgraphNode, enabled: Out<u32>) -> Result<()> {
    enabled.check()?;
    enabled.put(u32::from(find_exec(driver, exec)?.enabled(node.0)?))
}

fn enable(driver: &Driver, exec: CUgraphExec, node: CUgraphNode, enabled: u32) -> Result<()> {
    find_exec(driver, exec)?.enable(node.0, enabled != 0)
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

fn object_create(
    driver: &Driver,
    object: Out<CUuserObject>,
    data: *mut c_void,
    destroy: CUhostFn,
    count: u32,
    flags: u32,
) -> Result<()> {
    object.check()?;
    // The one flag, which must be given: nobody can wait for the destructor.
    if destroy.is_none() || count == 0 || flags != 1 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let handle = mint(kind::USER_OBJECT);
    let references = AtomicI64::new(i64::from(count));
    let made = UserObject { references, destroy, data: data.expose_provenance() };
    driver.user_objects.insert(handle, Arc::new(made));
    object.put(CUuserObject(handle))
}

fn find_object(driver: &Driver, object: CUuserObject, count: u32) -> Result<Arc<UserObject>> {
    if count == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    driver.user_objects.find(object.0).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn object_retain(driver: &Driver, object: CUuserObject, count: u32) -> Result<()> {
    find_object(driver, object, count)?.references.fetch_add(i64::from(count), Ordering::AcqRel);
    Ok(())
}

fn object_release(driver: &Driver, object: CUuserObject, count: u32) -> Result<()> {
    find_object(driver, object, count)?.release(count);
    Ok(())
}

fn graph_retain(driver: &Driver, graph: CUgraph, object: CUuserObject, count: u32, flags: u32) -> Result<()> {
    /// `CU_GRAPH_USER_OBJECT_MOVE`: the references are the program's own ones.
    const MOVE: u32 = 1;
    let (graph, found) = (graph::find(graph.0)?, find_object(driver, object, count)?);
    if flags & !MOVE != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if flags & MOVE == 0 {
        found.references.fetch_add(i64::from(count), Ordering::AcqRel);
    }
    lock(&graph.contents).owned.push(Arc::new(Owned { handle: object.0, object: found, count }));
    Ok(())
}

fn graph_release(driver: &Driver, graph: CUgraph, object: CUuserObject, count: u32) -> Result<()> {
    let (graph, _) = (graph::find(graph.0)?, find_object(driver, object, count)?);
    let mut contents = lock(&graph.contents);
    let place = contents.owned.iter().position(|owned| owned.handle == object.0 && owned.count == count);
    let owned = contents.owned.swap_remove(place.ok_or(CUresult::ERROR_INVALID_VALUE)?);
    drop(contents);
    drop(owned);
    Ok(())
}

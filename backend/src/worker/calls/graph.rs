//! Graphs as a whole: making, listing, instantiating, updating.
//!
//! Unsafe code: calls of the driver.

use std::{
    collections::HashMap,
    ffi::CString,
    io::{Read as _, Seek as _, SeekFrom},
    os::fd::AsRawFd as _,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use virtio_spec::{
    codec::Scalar,
    cuda::{
        CUDA_GRAPH_INSTANTIATE_PARAMS, CUgraph, CUgraphEdgeData, CUgraphExec, CUgraphExecUpdateResult,
        CUgraphExecUpdateResultInfo, CUgraphInstantiateResult, CUgraphNode, CUresult,
    },
    graph_requests::{
        GraphCall, GraphEdges, GraphInstantiate, GraphList, GraphListed, GraphObject, GraphOutcome,
        GraphText, GraphTextPart, GraphUpdate, graph_list, graph_operation,
    },
    handle::Kind,
};

use super::{Invocation, capture::Captures, graph_memory::has_memory, graph_names::Names, ok};

/// What a session has of graphs.
#[derive(Default)]
pub(crate) struct Graphs {
    pub(super) names: Names,
    pub(super) captures: Captures,
    /// Whether a stream has ever captured.
    pub(super) has_captured: AtomicBool,
    /// Functions that only the driver has named, and the guest's handles for them.
    pub(super) functions: Mutex<HashMap<u64, u64>>,
    /// The driver's user objects by their numbers.
    pub(super) user_objects: Mutex<HashMap<u64, u64>>,
    /// Conditions, which are the driver's own values, and the graphs that they are for.
    pub(super) conditions: Mutex<HashMap<u64, u64>>,
}

macro_rules! function {
    ($call:expr, $name:ident) => {
        $call.driver().graphs.$name.ok_or(CUresult::ERROR_NOT_SUPPORTED)?
    };
}
pub(super) use function;

impl Invocation<'_> {
    /// The driver's graph behind a handle.
    pub(super) fn graph(&self, handle: u64) -> Result<CUgraph, CUresult> {
        self.handle(Kind::Graph, handle).map(CUgraph)
    }

    /// The driver's node behind a handle.
    pub(super) fn node(&self, handle: u64) -> Result<CUgraphNode, CUresult> {
        self.handle(Kind::GraphNode, handle).map(CUgraphNode)
    }

    /// The driver's nodes behind the next `count` handles.
    pub(super) fn nodes(&mut self, count: u32) -> Result<Vec<CUgraphNode>, CUresult> {
        self.values::<u64>(u64::from(count))?.into_iter().map(|handle| self.node(handle)).collect()
    }

    /// The next `count` edges' data, if there is any.
    pub(super) fn edge_data(&mut self, given: u32, count: u32) -> Result<Vec<CUgraphEdgeData>, CUresult> {
        if given == 0 { Ok(Vec::new()) } else { self.values(u64::from(count)) }
    }
}

/// A pointer to elements, or null if there are none.
pub(super) fn pointer_to<T>(values: &[T]) -> *const T {
    if values.is_empty() { std::ptr::null() } else { values.as_ptr() }
}

pub(super) fn call(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GraphCall = call.structure()?;
    call.end_of_parameters()?;
    let (first, second) = (request.first, request.second);
    let (mut graph, mut node) = (CUgraph::default(), CUgraphNode::default());
    let handle = match request.operation {
        graph_operation::CREATE => {
            let create = function!(call, cuGraphCreate);
            // SAFETY: room for one handle.
            ok(unsafe { create(&raw mut graph, request.flags) })?;
            call.name_graph(graph.0, 0)?
        }
        graph_operation::DESTROY => {
            let (destroy, raw) = (function!(call, cuGraphDestroy), call.graph(first)?);
            // SAFETY: a live graph.
            ok(unsafe { destroy(raw) })?;
            call.forget_named(first);
            0
        }
        graph_operation::CLONE => {
            let (clone, raw) = (function!(call, cuGraphClone), call.graph(first)?);
            // SAFETY: a live graph, room for one handle.
            ok(unsafe { clone(&raw mut graph, raw) })?;
            call.name_graph(graph.0, 0)?
        }
        graph_operation::DESTROY_NODE => {
            let (destroy, raw) = (function!(call, cuGraphDestroyNode), call.node(first)?);
            // SAFETY: a live node.
            ok(unsafe { destroy(raw) })?;
            call.forget_named(first);
            0
        }
        graph_operation::FIND_IN_CLONE => {
            let find = function!(call, cuGraphNodeFindInClone);
            let (original, clone) = (call.node(first)?, call.graph(second)?);
            // SAFETY: live objects, room for one handle.
            ok(unsafe { find(&raw mut node, original, clone) })?;
            call.name_node(node.0, second)?
        }
        graph_operation::CHILD_GRAPH => {
            let (get, raw) = (function!(call, cuGraphChildGraphNodeGetGraph), call.node(first)?);
            // SAFETY: a live node, room for one handle.
            ok(unsafe { get(raw, &raw mut graph) })?;
            call.name_graph(graph.0, first)?
        }
        graph_operation::COPY_ATTRIBUTES => {
            let copy = function!(call, cuGraphKernelNodeCopyAttributes);
            let (to, from) = (call.node(first)?, call.node(second)?);
            // SAFETY: live nodes.
            ok(unsafe { copy(to, from) })?;
            0
        }
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    };
    call.put(&GraphObject { handle })
}

/// A whole list of the driver's: the nodes (or where edges begin), where edges end, and the edges' data.
pub(super) type Listed = (Vec<CUgraphNode>, Vec<CUgraphNode>, Vec<CUgraphEdgeData>);

/// Asks how long a list is, then for the list.
pub(super) fn list_with(
    mut ask: impl FnMut(*mut CUgraphNode, *mut CUgraphNode, *mut CUgraphEdgeData, *mut usize) -> CUresult,
    with_data: bool,
) -> Result<Listed, CUresult> {
    let null = std::ptr::null_mut();
    let mut count = 0;
    // Lists of edges whose data is not asked for fail if an edge has any, so it is not left out here either.
    ok(ask(null, std::ptr::null_mut(), std::ptr::null_mut(), &raw mut count))?;
    let mut first = vec![CUgraphNode::default(); count];
    let mut second = vec![CUgraphNode::default(); count];
    let mut data = vec![CUgraphEdgeData::default(); if with_data { count } else { 0 }];
    if count > 0 {
        let data = if with_data { data.as_mut_ptr() } else { std::ptr::null_mut() };
        ok(ask(first.as_mut_ptr(), second.as_mut_ptr(), data, &raw mut count))?;
    }
    first.truncate(count);
    second.truncate(count);
    data.truncate(count);
    Ok((first, second, data))
}

fn whole_list(call: &Invocation<'_>, request: &GraphList) -> Result<(u64, Listed), CUresult> {
    let with_data = request.edge_data != 0;
    let object = request.object;
    // SAFETY (all): a live object; `ask` gives room for as many elements as it says.
    match request.list {
        graph_list::NODES => {
            let (get, graph) = (function!(call, cuGraphGetNodes), call.graph(object)?);
            // SAFETY: as above.
            Ok((object, list_with(|nodes, _, _, count| unsafe { get(graph, nodes, count) }, false)?))
        }
        graph_list::ROOTS => {
            let (get, graph) = (function!(call, cuGraphGetRootNodes), call.graph(object)?);
            // SAFETY: as above.
            Ok((object, list_with(|nodes, _, _, count| unsafe { get(graph, nodes, count) }, false)?))
        }
        graph_list::EDGES => {
            let graph = call.graph(object)?;
            let list = if with_data {
                let get = function!(call, cuGraphGetEdges_v2);
                // SAFETY: as above.
                list_with(|from, to, data, count| unsafe { get(graph, from, to, data, count) }, true)?
            } else {
                let get = function!(call, cuGraphGetEdges);
                // SAFETY: as above.
                list_with(|from, to, _, count| unsafe { get(graph, from, to, count) }, false)?
            };
            Ok((object, list))
        }
        graph_list::DEPENDENCIES => {
            let (node, graph) = (call.node(object)?, call.graph_of(object)?);
            let list = if with_data {
                let get = function!(call, cuGraphNodeGetDependencies_v2);
                // SAFETY: as above.
                list_with(|nodes, _, data, count| unsafe { get(node, nodes, data, count) }, true)?
            } else {
                let get = function!(call, cuGraphNodeGetDependencies);
                // SAFETY: as above.
                list_with(|nodes, _, _, count| unsafe { get(node, nodes, count) }, false)?
            };
            Ok((graph, list))
        }
        graph_list::DEPENDENTS => {
            let (node, graph) = (call.node(object)?, call.graph_of(object)?);
            let list = if with_data {
                let get = function!(call, cuGraphNodeGetDependentNodes_v2);
                // SAFETY: as above.
                list_with(|nodes, _, data, count| unsafe { get(node, nodes, data, count) }, true)?
            } else {
                let get = function!(call, cuGraphNodeGetDependentNodes);
                // SAFETY: as above.
                list_with(|nodes, _, _, count| unsafe { get(node, nodes, count) }, false)?
            };
            Ok((graph, list))
        }
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

pub(super) fn list(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GraphList = call.structure()?;
    call.end_of_parameters()?;
    let (graph, (first, second, data)) = whole_list(call, &request)?;
    let edges = request.list == graph_list::EDGES;
    let element = if edges { 24_usize } else { 16 };
    let room = call.room_left().saturating_sub(size_of::<GraphListed>());
    let fits = room.checked_div(element).unwrap_or(0);
    let wanted = fits.min(request.count as usize);
    let skip = request.skip as usize;
    let name = |nodes: &[CUgraphNode]| -> Result<Vec<u64>, CUresult> {
        nodes.iter().skip(skip).take(wanted).map(|node| call.name_node(node.0, graph)).collect()
    };
    let named = name(&first)?;
    let ends = if edges { name(&second)? } else { Vec::new() };
    let data: Vec<CUgraphEdgeData> = data.into_iter().skip(skip).take(wanted).collect();
    call.put(&GraphListed { total: first.len() as u64, count: named.len() as u64 })?;
    call.put_values(&named)?;
    call.put_values(&ends)?;
    call.put_values(&data)
}

pub(super) fn edges(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GraphEdges = call.structure()?;
    let from = call.nodes(request.count)?;
    let to = call.nodes(request.count)?;
    let data = call.edge_data(request.edge_data, request.count)?;
    call.end_of_parameters()?;
    let graph = call.graph(request.graph)?;
    let count = from.len();
    let (from, to) = (pointer_to(&from), pointer_to(&to));
    if request.edge_data == 0 {
        let change = if request.remove == 0 {
            function!(call, cuGraphAddDependencies)
        } else {
            function!(call, cuGraphRemoveDependencies)
        };
        // SAFETY: live objects, `count` of each.
        return ok(unsafe { change(graph, from, to, count) });
    }
    let change = if request.remove == 0 {
        function!(call, cuGraphAddDependencies_v2)
    } else {
        function!(call, cuGraphRemoveDependencies_v2)
    };
    // SAFETY: live objects, `count` of each.
    ok(unsafe { change(graph, from, to, pointer_to(&data), count) })
}

pub(super) fn instantiate(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GraphInstantiate = call.structure()?;
    call.end_of_parameters()?;
    call.check_free(Kind::GraphExec, request.exec)?;
    let graph = call.graph(request.graph)?;
    call.set_current()?;
    let mut exec = CUgraphExec::default();
    let has_memory = u32::from(has_memory(call, graph)?);
    let mut outcome = GraphOutcome { result: 0, has_memory, node: 0, from: 0 };
    let made = if request.with_params == 0 {
        let instantiate = function!(call, cuGraphInstantiateWithFlags);
        // SAFETY: a live graph, room for one handle.
        call.in_driver(|| unsafe { instantiate(&raw mut exec, graph, request.flags) })
    } else {
        let instantiate = if call.per_thread() {
            call.driver().graphs.cuGraphInstantiateWithParams_ptsz
        } else {
            call.driver().graphs.cuGraphInstantiateWithParams
        };
        let instantiate = instantiate.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
        let mut params = CUDA_GRAPH_INSTANTIATE_PARAMS {
            flags: request.flags,
            hUploadStream: Scalar::from_u64(call.handle(Kind::Stream, request.stream)?),
            hErrNode_out: CUgraphNode::default(),
            result_out: CUgraphInstantiateResult::SUCCESS,
        };
        // SAFETY: a live graph and stream, room for one handle.
        let made = call.in_driver(|| unsafe { instantiate(&raw mut exec, graph, &raw mut params) });
        outcome.result = params.result_out.0;
        outcome.node = call.name_node(params.hErrNode_out.0, request.graph).unwrap_or(0);
        made
    };
    call.put(&outcome)?;
    ok(made)?;
    call.insert(Kind::GraphExec, request.exec, exec.0)
}

pub(super) fn update(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GraphUpdate = call.structure()?;
    call.end_of_parameters()?;
    let exec = CUgraphExec(call.handle(Kind::GraphExec, request.exec)?);
    let graph = call.graph(request.graph)?;
    call.set_current()?;
    let update = function!(call, cuGraphExecUpdate_v2);
    let mut info = CUgraphExecUpdateResultInfo {
        result: CUgraphExecUpdateResult::SUCCESS,
        errorNode: CUgraphNode::default(),
        errorFromNode: CUgraphNode::default(),
    };
    // SAFETY: live objects, room for the result.
    let updated = call.in_driver(|| unsafe { update(exec, graph, &raw mut info) });
    let node = call.name_node(info.errorNode.0, request.graph).unwrap_or(0);
    let from = call.name_node(info.errorFromNode.0, request.graph).unwrap_or(0);
    call.put(&GraphOutcome { result: info.result.0, has_memory: 0, node, from })?;
    ok(updated)
}

/// The driver writes to a file of memory, which is read in parts.
pub(super) fn text(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GraphText = call.structure()?;
    call.end_of_parameters()?;
    let graph = call.graph(request.graph)?;
    let print = function!(call, cuGraphDebugDotPrint);
    let failed = |_: std::io::Error| CUresult::ERROR_OPERATING_SYSTEM;
    let file = rustix::fs::memfd_create("graph", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = std::fs::File::from(file.map_err(|error| failed(error.into()))?);
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)?;
    // SAFETY: a live graph and a NUL-terminated path.
    ok(call.in_driver(|| unsafe { print(graph, path.as_ptr(), request.flags) }))?;
    let total = file.metadata().map_err(failed)?.len();
    file.seek(SeekFrom::Start(request.offset)).map_err(failed)?;
    let room = call.room_left().saturating_sub(size_of::<GraphTextPart>()) as u64;
    let mut part = Vec::new();
    file.take(room.min(u64::from(request.length))).read_to_end(&mut part).map_err(failed)?;
    call.put(&GraphTextPart { total, length: part.len() as u64 })?;
    call.put_bytes(&part)
}

/// Whether the worker's own waits must not disturb a capture.
pub(super) fn has_captured(call: &Invocation<'_>) -> bool {
    call.session().graphs.has_captured.load(Ordering::Relaxed)
}

//! Nodes of graphs: adding them, and changing what they do.
//!
//! Unsafe code: calls of the driver.

use std::ffi::c_void;

use virtio_spec::{
    codec::Scalar,
    cuda::{
        CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUcontext, CUevent, CUgraph, CUgraphEdgeData,
        CUgraphExec, CUgraphNode, CUgraphNodeType, CUkernel, CUmemorytype, CUresult,
    },
    graph_requests::{GraphNode, GraphNodeMade, NodeCopy, NodeFill, NodeValue, node_operation},
    handle::Kind,
    requests::Launch,
};

use super::{
    Invocation, graph::function, graph::pointer_to, graph_condition, graph_memory, graph_operations,
    host_function, ok,
};
use crate::worker::host_calls;

/// `CU_LAUNCH_PARAM_BUFFER_POINTER` and `…_SIZE` of cuda.h.
pub(super) const BUFFER_POINTER: usize = 1;
pub(super) const BUFFER_SIZE: usize = 2;

/// Which node is added or changed, and where.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Add(CUgraph, &'a [CUgraphNode]),
    /// In the graph that the node belongs to.
    Set(CUgraph, CUgraphNode),
    ExecSet(CUgraphExec, CUgraphNode),
}

impl Target<'_> {
    /// The graph that is changed; none for an executable one.
    fn graph(self) -> Option<CUgraph> {
        match self {
            Self::Add(graph, _) | Self::Set(graph, _) => Some(graph),
            Self::ExecSet(..) => None,
        }
    }
}

/// Calls the driver's function for the target; those that add give the new node.
macro_rules! apply {
    ($call:expr, $target:expr, $add:ident, $set:ident, $exec_set:ident, ($($argument:expr),*), ($($set_argument:expr),*)) => {
        match $target {
            Target::Add(graph, after) => {
                let add = function!($call, $add);
                let mut node = CUgraphNode::default();
                // SAFETY: live objects; the parameters are the worker's own or were checked.
                ok($call.in_driver(|| unsafe {
                    add(&raw mut node, graph, pointer_to(after), after.len(), $($argument),*)
                }))?;
                Ok(node)
            }
            Target::Set(_, node) => {
                let set = function!($call, $set);
                // SAFETY: as above.
                ok($call.in_driver(|| unsafe { set(node, $($set_argument),*) }))?;
                Ok(CUgraphNode::default())
            }
            Target::ExecSet(exec, node) => {
                let set = function!($call, $exec_set);
                // SAFETY: as above.
                ok($call.in_driver(|| unsafe { set(exec, node, $($argument),*) }))?;
                Ok(CUgraphNode::default())
            }
        }
    };
}

pub(super) use apply;

pub(super) fn node(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GraphNode = call.structure()?;
    if call.context() != 0 {
        call.set_current()?;
    }
    let after = call.nodes(request.dependency_count)?;
    let data = call.edge_data(request.edge_data, request.dependency_count)?;
    let target = match request.operation {
        // Edges with data are made one step later.
        node_operation::ADD if data.is_empty() => Target::Add(call.graph(request.graph)?, &after),
        node_operation::ADD => Target::Add(call.graph(request.graph)?, &[]),
        node_operation::SET => {
            let node = call.node(request.node)?;
            Target::Set(call.graph(call.graph_of(request.node)?)?, node)
        }
        node_operation::EXEC_SET => {
            let exec = CUgraphExec(call.handle(Kind::GraphExec, request.graph)?);
            Target::ExecSet(exec, call.node(request.node)?)
        }
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    };
    let mut address = None;
    let mut bodies = Vec::new();
    let made = match CUgraphNodeType(request.kind) {
        CUgraphNodeType::KERNEL => kernel(call, target),
        CUgraphNodeType::MEMCPY => copy(call, target),
        CUgraphNodeType::MEMSET => fill(call, target),
        CUgraphNodeType::EMPTY => empty(call, target),
        CUgraphNodeType::MEM_ALLOC => graph_memory::allocate(call, target).map(|(node, value)| {
            address = Some(value);
            node
        }),
        CUgraphNodeType::MEM_FREE => graph_memory::free(call, target),
        CUgraphNodeType::BATCH_MEM_OP => graph_operations::node(call, target),
        CUgraphNodeType::CONDITIONAL => graph_condition::node(call, target).map(|(node, graphs)| {
            bodies = graphs;
            node
        }),
        CUgraphNodeType::HOST
        | CUgraphNodeType::GRAPH
        | CUgraphNodeType::WAIT_EVENT
        | CUgraphNodeType::EVENT_RECORD => value(call, target, CUgraphNodeType(request.kind)),
        _ => Err(CUresult::ERROR_NOT_SUPPORTED),
    }?;
    if let Target::Add(graph, _) = target
        && !data.is_empty()
    {
        connect(call, graph, made, &after, &data)?;
    }
    let node = call.name_node(made.0, request.graph)?;
    call.put(&GraphNodeMade { node })?;
    for body in bodies {
        let handle = call.name_graph(body.0, node)?;
        call.put(&handle)?;
    }
    address.map_or(Ok(()), |address| call.put(&address))
}

/// Makes a new node's edges; without them there is no node either.
fn connect(
    call: &Invocation<'_>,
    graph: CUgraph,
    node: CUgraphNode,
    after: &[CUgraphNode],
    data: &[CUgraphEdgeData],
) -> Result<(), CUresult> {
    let add = function!(call, cuGraphAddDependencies_v2);
    let to = vec![node; after.len()];
    // SAFETY: live objects, as many of each.
    let added = unsafe { add(graph, pointer_to(after), pointer_to(&to), pointer_to(data), after.len()) };
    if added != CUresult::SUCCESS
        && let Some(destroy) = call.driver().graphs.cuGraphDestroyNode
    {
        // SAFETY: a node that nobody knows yet.
        let _result = unsafe { destroy(node) };
    }
    ok(added)
}

/// The context that a node names; the thread's own if it names none.
pub(super) fn context_of(call: &Invocation<'_>, handle: u64) -> Result<CUcontext, CUresult> {
    call.handle(Kind::Context, if handle == 0 { call.context() } else { handle }).map(CUcontext)
}

fn kernel(call: &mut Invocation<'_>, target: Target<'_>) -> Result<CUgraphNode, CUresult> {
    let launch: Launch = call.structure()?;
    let mut parameters = call.bytes(launch.parameter_bytes as usize)?.to_vec();
    call.end_of_parameters()?;
    call.set_current()?;
    let mut size = parameters.len();
    let mut extra: [*mut c_void; 5] = [
        std::ptr::without_provenance_mut(BUFFER_POINTER),
        parameters.as_mut_ptr().cast(),
        std::ptr::without_provenance_mut(BUFFER_SIZE),
        (&raw mut size).cast(),
        std::ptr::null_mut(),
    ];
    let [grid_x, grid_y, grid_z] = launch.grid;
    let [block_x, block_y, block_z] = launch.block;
    let params = CUDA_KERNEL_NODE_PARAMS {
        func: Scalar::from_u64(call.handle(Kind::Function, launch.function)?),
        gridDimX: grid_x,
        gridDimY: grid_y,
        gridDimZ: grid_z,
        blockDimX: block_x,
        blockDimY: block_y,
        blockDimZ: block_z,
        sharedMemBytes: launch.shared_bytes,
        kernelParams: std::ptr::null_mut(),
        extra: if parameters.is_empty() { std::ptr::null_mut() } else { extra.as_mut_ptr() },
        kern: CUkernel::default(),
        ctx: CUcontext::default(),
    };
    let params = &raw const params;
    apply!(
        call,
        target,
        cuGraphAddKernelNode_v2,
        cuGraphKernelNodeSetParams_v2,
        cuGraphExecKernelNodeSetParams_v2,
        (params),
        (params)
    )
}

/// Where the words of one side of `CUDA_MEMCPY3D` begin, and its size's.
pub(super) const SOURCE: usize = 0;
pub(super) const DESTINATION: usize = 11;
const SIZE: usize = 22;

fn word(copy: &[u64; 25], index: usize) -> u64 {
    copy.get(index).copied().unwrap_or(0)
}

/// Checks one side of a copy; host memory lies in a region, and arrays become the driver's.
fn check_side(
    call: &Invocation<'_>,
    copy: &mut [u64; 25],
    side: usize,
    written: bool,
) -> Result<(), CUresult> {
    let at = |offset: usize| word(copy, side.wrapping_add(offset));
    let [width, height, depth] = [0, 1, 2].map(|index| word(copy, SIZE.wrapping_add(index)));
    let region = |base: u64| -> Option<bool> {
        let (x, y, z) = (at(0), at(1), at(2));
        let row_end = x.checked_add(width)?;
        let pitch = if at(9) == 0 { row_end } else { at(9) };
        let slice = if at(10) == 0 { y.checked_add(height)? } else { at(10) };
        let first = z.checked_mul(slice)?.checked_add(y)?.checked_mul(pitch)?.checked_add(x)?;
        let rows = depth.checked_sub(1)?.checked_mul(slice)?.checked_add(height.checked_sub(1)?)?;
        let length = rows.checked_mul(pitch)?.checked_add(width)?;
        let flags = call.session().regions.lookup(base.checked_add(first)?, length)?;
        Some(!(written && flags.read_only))
    };
    let kind = CUmemorytype::from_u64(at(4));
    match kind {
        CUmemorytype::HOST if region(at(5)) == Some(true) => Ok(()),
        CUmemorytype::HOST => Err(CUresult::ERROR_INVALID_VALUE),
        CUmemorytype::DEVICE => Ok(()),
        CUmemorytype::UNIFIED => {
            if region(at(6)).is_none()
                && let Some(place) = copy.get_mut(side.wrapping_add(4))
            {
                // CUDA refuses what is no memory of the device.
                *place = u64::from(CUmemorytype::DEVICE.0);
            }
            Ok(())
        }
        CUmemorytype::ARRAY => {
            let array = call.handle(Kind::Array, at(7))?;
            if let Some(place) = copy.get_mut(side.wrapping_add(7)) {
                *place = array;
            }
            Ok(())
        }
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

fn copy(call: &mut Invocation<'_>, target: Target<'_>) -> Result<CUgraphNode, CUresult> {
    let request: NodeCopy = call.structure()?;
    call.end_of_parameters()?;
    let mut words = request.copy;
    check_side(call, &mut words, SOURCE, false)?;
    check_side(call, &mut words, DESTINATION, true)?;
    call.set_current()?;
    let context = context_of(call, request.context)?;
    let params = words.as_ptr().cast();
    apply!(
        call,
        target,
        cuGraphAddMemcpyNode,
        cuGraphMemcpyNodeSetParams,
        cuGraphExecMemcpyNodeSetParams,
        (params, context),
        (params)
    )
}

fn fill(call: &mut Invocation<'_>, target: Target<'_>) -> Result<CUgraphNode, CUresult> {
    let request: NodeFill = call.structure()?;
    call.end_of_parameters()?;
    call.set_current()?;
    let context = context_of(call, request.context)?;
    let params = &raw const request.fill;
    apply!(
        call,
        target,
        cuGraphAddMemsetNode,
        cuGraphMemsetNodeSetParams,
        cuGraphExecMemsetNodeSetParams,
        (params, context),
        (params)
    )
}

fn empty(call: &mut Invocation<'_>, target: Target<'_>) -> Result<CUgraphNode, CUresult> {
    call.end_of_parameters()?;
    let Target::Add(graph, after) = target else { return Err(CUresult::ERROR_INVALID_VALUE) };
    let add = function!(call, cuGraphAddEmptyNode);
    let mut node = CUgraphNode::default();
    // SAFETY: live objects, room for one handle.
    ok(unsafe { add(&raw mut node, graph, pointer_to(after), after.len()) })?;
    Ok(node)
}

fn value(
    call: &mut Invocation<'_>,
    target: Target<'_>,
    kind: CUgraphNodeType,
) -> Result<CUgraphNode, CUresult> {
    let value = call.structure::<NodeValue>()?.value;
    call.end_of_parameters()?;
    match kind {
        CUgraphNodeType::HOST => {
            let number = usize::try_from(value).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
            let params = CUDA_HOST_NODE_PARAMS {
                fn_: Some(host_calls::function),
                userData: std::ptr::without_provenance_mut(number),
            };
            let params = &raw const params;
            let made: Result<CUgraphNode, CUresult> = apply!(
                call,
                target,
                cuGraphAddHostNode,
                cuGraphHostNodeSetParams,
                cuGraphExecHostNodeSetParams,
                (params),
                (params)
            );
            if let (Ok(_), Some(graph)) = (made, target.graph()) {
                host_function::tell_when_gone(call, graph, value);
            }
            made
        }
        CUgraphNodeType::GRAPH => {
            let child = call.graph(value)?;
            match target {
                Target::Add(graph, after) => {
                    let add = function!(call, cuGraphAddChildGraphNode);
                    let mut node = CUgraphNode::default();
                    // SAFETY: live objects, room for one handle.
                    ok(unsafe { add(&raw mut node, graph, pointer_to(after), after.len(), child) })?;
                    Ok(node)
                }
                Target::Set(..) => Err(CUresult::ERROR_NOT_SUPPORTED),
                Target::ExecSet(exec, node) => {
                    let set = function!(call, cuGraphExecChildGraphNodeSetParams);
                    // SAFETY: live objects.
                    ok(unsafe { set(exec, node, child) })?;
                    Ok(CUgraphNode::default())
                }
            }
        }
        CUgraphNodeType::EVENT_RECORD => {
            let event = CUevent(call.handle(Kind::Event, value)?);
            apply!(
                call,
                target,
                cuGraphAddEventRecordNode,
                cuGraphEventRecordNodeSetEvent,
                cuGraphExecEventRecordNodeSetEvent,
                (event),
                (event)
            )
        }
        _ => {
            let event = CUevent(call.handle(Kind::Event, value)?);
            apply!(
                call,
                target,
                cuGraphAddEventWaitNode,
                cuGraphEventWaitNodeSetEvent,
                cuGraphExecEventWaitNodeSetEvent,
                (event),
                (event)
            )
        }
    }
}

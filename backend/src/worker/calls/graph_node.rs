//! Nodes of graphs: adding them, and asking and changing what they do.
//!
//! Unsafe code: calls of the driver.

use std::{ffi::c_void, sync::PoisonError};

use virtio_spec::{
    codec::Scalar,
    cuda::{
        CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_MEMSET_NODE_PARAMS, CUcontext, CUevent,
        CUfunction, CUgraph, CUgraphEdgeData, CUgraphExec, CUgraphNode, CUgraphNodeType, CUkernel,
        CUmemorytype, CUresult,
    },
    graph_requests::{
        GraphNode, GraphNodeGet, GraphNodeMade, GraphObject, NodeCopy, NodeFill, NodeValue, node_operation,
    },
    handle::Kind,
    limits,
    requests::Launch,
};

use super::{Invocation, graph::function, graph::pointer_to, graph_memory, host_function, ok};
use crate::worker::host_calls;

/// `CU_LAUNCH_PARAM_BUFFER_POINTER` and `…_SIZE` of cuda.h.
const BUFFER_POINTER: usize = 1;
const BUFFER_SIZE: usize = 2;

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
fn context_of(call: &Invocation<'_>, handle: u64) -> Result<CUcontext, CUresult> {
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
const SOURCE: usize = 0;
const DESTINATION: usize = 11;
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

pub(super) fn get(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: GraphNodeGet = call.structure()?;
    call.end_of_parameters()?;
    let node = call.node(request.node)?;
    call.put(&GraphObject { handle: call.graph_of(request.node)? })?;
    match CUgraphNodeType(request.kind) {
        CUgraphNodeType::KERNEL => get_kernel(call, node),
        CUgraphNodeType::MEMCPY => {
            let get = function!(call, cuGraphMemcpyNodeGetParams);
            let mut copy = [0_u64; 25];
            // SAFETY: a live node, room for its structure, which has this size.
            ok(unsafe { get(node, copy.as_mut_ptr().cast()) })?;
            for side in [SOURCE, DESTINATION] {
                let place = copy.get_mut(side.wrapping_add(7));
                if let Some(array) = place.filter(|array| **array != 0) {
                    *array = call.session().handles.find(Kind::Array, *array).unwrap_or(0);
                }
            }
            call.put(&NodeCopy { context: 0, copy, reserved: 0 })
        }
        CUgraphNodeType::MEMSET => {
            let get = function!(call, cuGraphMemsetNodeGetParams);
            let mut fill = CUDA_MEMSET_NODE_PARAMS::default();
            // SAFETY: a live node, room for its structure.
            ok(unsafe { get(node, &raw mut fill) })?;
            call.put(&NodeFill { context: 0, fill })
        }
        CUgraphNodeType::HOST => {
            let get = function!(call, cuGraphHostNodeGetParams);
            let mut params = CUDA_HOST_NODE_PARAMS { fn_: None, userData: std::ptr::null_mut() };
            // SAFETY: a live node, room for its structure.
            ok(unsafe { get(node, &raw mut params) })?;
            call.put(&NodeValue { value: params.userData.addr() as u64 })
        }
        CUgraphNodeType::MEM_ALLOC => graph_memory::get_allocation(call, node),
        CUgraphNodeType::MEM_FREE => graph_memory::get_free(call, node),
        kind @ (CUgraphNodeType::EVENT_RECORD | CUgraphNodeType::WAIT_EVENT) => {
            let graphs = &call.driver().graphs;
            let get = if kind == CUgraphNodeType::EVENT_RECORD {
                graphs.cuGraphEventRecordNodeGetEvent
            } else {
                graphs.cuGraphEventWaitNodeGetEvent
            };
            let get = get.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            let mut event = CUevent::default();
            // SAFETY: a live node, room for one handle.
            ok(unsafe { get(node, &raw mut event) })?;
            let value = call.session().handles.find(Kind::Event, event.0);
            call.put(&NodeValue { value: value.ok_or(CUresult::ERROR_INVALID_HANDLE)? })
        }
        _ => Err(CUresult::ERROR_NOT_SUPPORTED),
    }
}

/// The guest's handle of a function or kernel of the driver.
fn name_function(call: &Invocation<'_>, function: CUfunction, kernel: CUkernel) -> Result<u64, CUresult> {
    let handles = &call.session().handles;
    for raw in [function.0, kernel.0].into_iter().filter(|raw| *raw != 0) {
        let found = handles.find(Kind::Function, raw).or_else(|| handles.find(Kind::Kernel, raw));
        if let Some(handle) = found {
            return Ok(handle);
        }
    }
    let mut known = call.session().graphs.functions.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = known.get(&function.0)
        && call.handle(Kind::Function, *handle).is_ok()
    {
        return Ok(*handle);
    }
    // The driver names the function of a kernel that the guest knows as a kernel only.
    let get = call.driver().modules.cuKernelGetFunction.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    for (handle, object) in handles.named(Kind::Kernel) {
        let mut candidate = CUfunction::default();
        // SAFETY: a live kernel, room for one handle.
        if unsafe { get(&raw mut candidate, CUkernel(object.raw)) } == CUresult::SUCCESS {
            known.insert(candidate.0, handle);
        }
    }
    known.get(&function.0).copied().ok_or(CUresult::ERROR_INVALID_HANDLE)
}

/// Where a function's parameters lie; asked of the driver, because a kernel's may be known only once it is loaded.
fn layout(call: &Invocation<'_>, function: CUfunction, kernel: CUkernel) -> Vec<(usize, usize)> {
    let functions = &call.driver().functions;
    let mut layout = Vec::new();
    while layout.len() < limits::MAX_KERNEL_PARAMETERS as usize {
        let (mut offset, mut size, index) = (0, 0, layout.len());
        let found = if function.0 == 0 {
            // SAFETY: a live kernel, room for two numbers.
            functions
                .cuKernelGetParamInfo
                .map(|get| unsafe { get(kernel, index, &raw mut offset, &raw mut size) })
        } else {
            // SAFETY: a live function, room for two numbers.
            functions
                .cuFuncGetParamInfo
                .map(|get| unsafe { get(function, index, &raw mut offset, &raw mut size) })
        };
        if found != Some(CUresult::SUCCESS) {
            break;
        }
        layout.push((offset, size));
    }
    layout
}

/// The packed parameters behind the driver's pointers to them.
///
/// # Safety
/// The pointers are those of a live kernel node whose function has this layout.
unsafe fn packed(params: &CUDA_KERNEL_NODE_PARAMS, layout: &[(usize, usize)]) -> Vec<u8> {
    let end = layout.iter().map(|(offset, size)| offset.saturating_add(*size)).max().unwrap_or(0);
    let mut bytes = vec![0; end.min(limits::MAX_REQUEST_BYTES as usize)];
    if !params.kernelParams.is_null() {
        for (index, (offset, size)) in layout.iter().enumerate() {
            let Some(to) = bytes.get_mut(*offset..offset.saturating_add(*size)) else { continue };
            // SAFETY: one pointer for each parameter, as the caller says.
            let from = unsafe { params.kernelParams.wrapping_add(index).read() };
            // SAFETY: each leads to its parameter.
            unsafe { std::ptr::copy_nonoverlapping(from.cast(), to.as_mut_ptr(), to.len()) };
        }
    } else if !params.extra.is_null() {
        let (mut from, mut size) = (std::ptr::null::<u8>(), 0);
        for pair in 0..8_usize {
            let at = params.extra.wrapping_add(pair.wrapping_mul(2));
            // SAFETY: the list has not ended yet.
            let key = unsafe { at.read() }.addr();
            if key == 0 {
                break;
            }
            // SAFETY: a key other than the end has a value.
            let value = unsafe { at.wrapping_add(1).read() };
            match key {
                BUFFER_POINTER => from = value.cast(),
                // SAFETY: the value is the address of a size.
                BUFFER_SIZE if !value.is_null() => size = unsafe { value.cast::<usize>().read() },
                _ => {}
            }
        }
        if !from.is_null() {
            // SAFETY: the buffer has `size` bytes.
            unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), size.min(bytes.len())) };
        }
    }
    bytes
}

fn get_kernel(call: &mut Invocation<'_>, node: CUgraphNode) -> Result<(), CUresult> {
    let get = function!(call, cuGraphKernelNodeGetParams_v2);
    let mut params = CUDA_KERNEL_NODE_PARAMS {
        func: CUfunction::default(),
        gridDimX: 0,
        gridDimY: 0,
        gridDimZ: 0,
        blockDimX: 0,
        blockDimY: 0,
        blockDimZ: 0,
        sharedMemBytes: 0,
        kernelParams: std::ptr::null_mut(),
        extra: std::ptr::null_mut(),
        kern: CUkernel::default(),
        ctx: CUcontext::default(),
    };
    // SAFETY: a live node, room for its structure.
    ok(unsafe { get(node, &raw mut params) })?;
    let context = call.session().handles.find(Kind::Context, params.ctx.0).unwrap_or(0);
    if call.context() != 0 {
        call.set_current()?;
    }
    let function = name_function(call, params.func, params.kern)?;
    // SAFETY: the driver's own structure of a live node.
    let bytes = unsafe { packed(&params, &layout(call, params.func, params.kern)) };
    call.put(&Launch {
        function,
        stream: context,
        grid: [params.gridDimX, params.gridDimY, params.gridDimZ],
        block: [params.blockDimX, params.blockDimY, params.blockDimZ],
        shared_bytes: params.sharedMemBytes,
        flags: 0,
        attribute_count: 0,
        parameter_bytes: u32::try_from(bytes.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
    })?;
    call.put_bytes(&bytes)
}

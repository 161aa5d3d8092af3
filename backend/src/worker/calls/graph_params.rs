//! Nodes of graphs: what they do, as the guest is told.
//!
//! Unsafe code: calls of the driver, and what it says of a kernel's parameters.

use std::sync::PoisonError;

use virtio_spec::{
    cuda::{
        CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_MEMSET_NODE_PARAMS, CUcontext, CUevent,
        CUfunction, CUgraphNode, CUgraphNodeType, CUkernel, CUresult,
    },
    graph_requests::{GraphNodeGet, GraphObject, NodeCopy, NodeFill, NodeValue},
    handle::Kind,
    limits,
    requests::Launch,
};

use super::{
    Invocation,
    graph::function,
    graph_memory,
    graph_node::{BUFFER_POINTER, BUFFER_SIZE, DESTINATION, SOURCE},
    graph_operations, ok,
};

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
        CUgraphNodeType::BATCH_MEM_OP => graph_operations::get(call, node),
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

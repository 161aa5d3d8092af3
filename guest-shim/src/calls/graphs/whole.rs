//! Graphs as a whole, executable graphs, and user objects.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;

use virtio_spec::calls::graphs::rows;
use virtio_spec::cuda::{
    CUDA_GRAPH_INSTANTIATE_PARAMS, CUgraph, CUgraphExec, CUgraphExecUpdateResult,
    CUgraphExecUpdateResultInfo, CUgraphInstantiateResult, CUgraphNode, CUhostFn, CUresult, CUstream,
    CUuserObject,
};
use virtio_spec::graph_requests::{
    GraphInstantiate, GraphOutcome, GraphText, GraphTextPart, GraphUpdate, UserObject, graph_operation,
    opcode, user_object_operation,
};
use virtio_spec::handle::Kind;

use crate::calls::{give, give_if_wanted};
use crate::entry::{Flavour, Row, status};
use crate::exports::graphs::{wire_cuGraphExecDestroy, wire_cuGraphLaunch, wire_cuGraphUpload};
use crate::graph::{call, given, held, host_calls, memory, request};
use crate::handles;
use crate::memory::copy::is_stream;
use crate::wire::Request;

/// Bytes of a description that one request asks for.
const TEXT: u32 = 32 << 10;

/// # Safety
/// `place` is null or valid for writing.
unsafe fn give_graph(place: *mut CUgraph, made: impl FnOnce() -> Result<u64, CUresult>) -> CUresult {
    if place.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's place for a graph.
    status(made().and_then(|handle| unsafe { give(place, CUgraph(handle)) }))
}

pub(crate) unsafe fn cuGraphCreate(graph: *mut CUgraph, flags: u32) -> CUresult {
    let made = || {
        let handle = call(graph_operation::CREATE, flags, 0, 0)?;
        held::graph_made();
        Ok(handle)
    };
    // SAFETY: the same contract.
    unsafe { give_graph(graph, made) }
}

pub(crate) unsafe fn cuGraphClone(clone: *mut CUgraph, original: CUgraph) -> CUresult {
    let made = || {
        let handle = call(graph_operation::CLONE, 0, original.0, 0)?;
        held::graph_made();
        Ok(handle)
    };
    // SAFETY: the same contract.
    unsafe { give_graph(clone, made) }
}

pub(crate) unsafe fn cuGraphDestroy(graph: CUgraph) -> CUresult {
    let gone = call(graph_operation::DESTROY, 0, graph.0, 0);
    if gone.is_ok() {
        given::forget_graph(graph.0);
        held::graph_gone();
    }
    status(gone.map(|_| ()))
}

pub(crate) unsafe fn cuGraphDestroyNode(node: CUgraphNode) -> CUresult {
    let gone = call(graph_operation::DESTROY_NODE, 0, node.0, 0);
    if gone.is_ok() {
        given::forget_node(node.0);
    }
    status(gone.map(|_| ()))
}

pub(crate) unsafe fn cuGraphNodeFindInClone(
    node: *mut CUgraphNode,
    original: CUgraphNode,
    clone: CUgraph,
) -> CUresult {
    let found = call(graph_operation::FIND_IN_CLONE, 0, original.0, clone.0);
    // SAFETY: the application's place for a node.
    status(found.and_then(|handle| unsafe { give(node, CUgraphNode(handle)) }))
}

pub(crate) unsafe fn cuGraphChildGraphNodeGetGraph(node: CUgraphNode, graph: *mut CUgraph) -> CUresult {
    // SAFETY: the same contract.
    unsafe { give_graph(graph, || call(graph_operation::CHILD_GRAPH, 0, node.0, 0)) }
}

pub(crate) unsafe fn cuGraphKernelNodeCopyAttributes(to: CUgraphNode, from: CUgraphNode) -> CUresult {
    status(call(graph_operation::COPY_ATTRIBUTES, 0, to.0, from.0).map(|_| ()))
}

/// Makes an executable graph; what the device says of it, and whether it made one.
fn instantiate(
    graph: u64,
    flags: u64,
    stream: u64,
    with_params: bool,
) -> Result<(GraphOutcome, Result<u64, CUresult>), CUresult> {
    crate::context::required()?;
    let exec = handles::mint(Kind::GraphExec)?;
    let asked = || {
        let mut request = request(opcode::GRAPH_INSTANTIATE)?;
        request.structure(&GraphInstantiate {
            graph,
            exec,
            flags,
            stream,
            with_params: u32::from(with_params),
            reserved: 0,
        });
        let (result, mut response) = request.exchange()?;
        let outcome = response.take::<GraphOutcome>();
        match result {
            CUresult::SUCCESS => Ok((outcome?, Ok(exec))),
            error => {
                let nothing = GraphOutcome {
                    result: CUgraphInstantiateResult::ERROR.0,
                    has_memory: 0,
                    node: 0,
                    from: 0,
                };
                Ok((outcome.unwrap_or(nothing), Err(error)))
            }
        }
    };
    let made = asked();
    match &made {
        Ok((outcome, Ok(_))) => {
            held::graph_made();
            if outcome.has_memory != 0 {
                memory::note(exec);
            }
        }
        _ => handles::release(Kind::GraphExec, exec),
    }
    made
}

pub(crate) unsafe fn cuGraphInstantiateWithFlags(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    flags: u64,
) -> CUresult {
    if exec.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let made = instantiate(graph.0, flags, 0, false).and_then(|(_, made)| made);
    // SAFETY: the application's place for an executable graph.
    status(made.and_then(|handle| unsafe { give(exec, CUgraphExec(handle)) }))
}

pub(crate) unsafe fn cuGraphInstantiate_v2(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    error_node: *mut CUgraphNode,
    log: *mut c_char,
    log_bytes: usize,
) -> CUresult {
    // SAFETY: the application's place for a node.
    unsafe { give_if_wanted(error_node, CUgraphNode(0)) };
    if log_bytes > 0 {
        // SAFETY: the application's buffer of that many bytes.
        unsafe { give_if_wanted(log, 0) };
    }
    // SAFETY: the same contract.
    unsafe { cuGraphInstantiateWithFlags(exec, graph, 0) }
}

pub(crate) unsafe fn cuGraphInstantiate(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    error_node: *mut CUgraphNode,
    log: *mut c_char,
    log_bytes: usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuGraphInstantiate_v2(exec, graph, error_node, log, log_bytes) }
}

pub(crate) unsafe fn cuGraphInstantiateWithParams(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
    flavour: Flavour,
) -> CUresult {
    if exec.is_null() || params.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's structure.
    let wanted = unsafe { params.read() };
    let stream = flavour.stream(wanted.hUploadStream);
    let run = || {
        let (outcome, made) = instantiate(graph.0, wanted.flags, stream, true)?;
        let told = CUDA_GRAPH_INSTANTIATE_PARAMS {
            result_out: CUgraphInstantiateResult(outcome.result),
            hErrNode_out: CUgraphNode(outcome.node),
            ..wanted
        };
        // SAFETY: the application's structure.
        unsafe { params.write(told) };
        // SAFETY: the application's place for an executable graph.
        unsafe { give(exec, CUgraphExec(made?)) }
    };
    status(run())
}

/// Checks what CUDA would refuse at once, because the request is posted.
fn check(exec: CUgraphExec, stream: CUstream) -> Result<(), CUresult> {
    if exec.0 == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if !handles::check(&[Kind::GraphExec], exec.0) || !is_stream(stream.0) {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    Ok(())
}

pub(crate) unsafe fn cuGraphLaunch(exec: CUgraphExec, stream: CUstream, flavour: Flavour) -> CUresult {
    if let Err(error) = check(exec, stream) {
        return error;
    }
    if memory::has(exec.0) {
        let launch = || {
            let mut request = Request::new(const { Row::of(&rows::cuGraphLaunch) }, flavour.is_per_thread())?;
            request.handle(exec.0);
            request.handle(stream.0);
            request.answer().map(|_| ())
        };
        return status(launch());
    }
    // SAFETY: no pointers.
    unsafe { wire_cuGraphLaunch(exec, stream, flavour) }
}

pub(crate) unsafe fn cuGraphUpload(exec: CUgraphExec, stream: CUstream, flavour: Flavour) -> CUresult {
    if let Err(error) = check(exec, stream) {
        return error;
    }
    // SAFETY: no pointers.
    unsafe { wire_cuGraphUpload(exec, stream, flavour) }
}

pub(crate) unsafe fn cuGraphExecDestroy(exec: CUgraphExec) -> CUresult {
    if !handles::check(&[Kind::GraphExec], exec.0) {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: no pointers.
    let gone = unsafe { wire_cuGraphExecDestroy(exec) };
    if gone == CUresult::SUCCESS {
        memory::forget(exec.0);
        held::graph_gone();
    }
    gone
}

fn update(exec: CUgraphExec, graph: CUgraph) -> Result<(GraphOutcome, CUresult), CUresult> {
    let mut request = request(opcode::GRAPH_UPDATE)?;
    request.structure(&GraphUpdate { exec: exec.0, graph: graph.0 });
    let (result, mut response) = request.exchange()?;
    match response.take::<GraphOutcome>() {
        Ok(outcome) => Ok((outcome, result)),
        // It did not come as far as the driver.
        Err(_) if result != CUresult::SUCCESS => Err(result),
        Err(error) => Err(error),
    }
}

pub(crate) unsafe fn cuGraphExecUpdate_v2(
    exec: CUgraphExec,
    graph: CUgraph,
    result: *mut CUgraphExecUpdateResultInfo,
) -> CUresult {
    let run = || {
        let (outcome, updated) = update(exec, graph)?;
        let info = CUgraphExecUpdateResultInfo {
            result: CUgraphExecUpdateResult(outcome.result),
            errorNode: CUgraphNode(outcome.node),
            errorFromNode: CUgraphNode(outcome.from),
        };
        // SAFETY: the application's place for the result.
        unsafe { give(result, info) }?;
        crate::calls::outcome(updated)
    };
    if result.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    status(run())
}

pub(crate) unsafe fn cuGraphExecUpdate(
    exec: CUgraphExec,
    graph: CUgraph,
    error_node: *mut CUgraphNode,
    result: *mut CUgraphExecUpdateResult,
) -> CUresult {
    let run = || {
        let (outcome, updated) = update(exec, graph)?;
        // SAFETY: the application's place for a node.
        unsafe { give_if_wanted(error_node, CUgraphNode(outcome.node)) };
        // SAFETY: the application's place for the result.
        unsafe { give_if_wanted(result, CUgraphExecUpdateResult(outcome.result)) };
        crate::calls::outcome(updated)
    };
    status(run())
}

pub(crate) unsafe fn cuGraphDebugDotPrint(graph: CUgraph, path: *const c_char, flags: u32) -> CUresult {
    let run = || {
        if path.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let mut text = Vec::new();
        loop {
            let mut request = request(opcode::GRAPH_TEXT)?.with_room(TEXT + 64);
            request.structure(&GraphText { graph: graph.0, flags, length: TEXT, offset: text.len() as u64 });
            let mut response = request.answer()?;
            let part = response.take::<GraphTextPart>()?;
            let length = usize::try_from(part.length).map_err(|_| CUresult::ERROR_UNKNOWN)?;
            text.extend_from_slice(response.take_slice(length)?);
            if length == 0 || text.len() as u64 >= part.total {
                break;
            }
        }
        // SAFETY: the application's NUL-terminated path.
        let path = OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes());
        std::fs::write(path, text).map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)
    };
    status(run())
}

fn object(operation: u32, object: u64, graph: u64, count: u32, flags: u32) -> Result<(), CUresult> {
    let mut request = request(opcode::USER_OBJECT)?;
    request.structure(&UserObject { object, graph, operation, count, flags, reserved: 0 });
    request.answer().map(|_| ())
}

pub(crate) unsafe fn cuUserObjectCreate(
    place: *mut CUuserObject,
    data: *mut c_void,
    destroy: CUhostFn,
    count: u32,
    flags: u32,
) -> CUresult {
    let run = || {
        if place.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let number = host_calls::user_object(destroy, data)?;
        if let Err(error) = object(user_object_operation::CREATE, number, 0, count, flags) {
            host_calls::forget_user_object(number);
            return Err(error);
        }
        // SAFETY: the application's place for an object.
        unsafe { give(place, CUuserObject(number)) }
    };
    status(run())
}

pub(crate) unsafe fn cuUserObjectRetain(user_object: CUuserObject, count: u32) -> CUresult {
    status(object(user_object_operation::RETAIN, user_object.0, 0, count, 0))
}

pub(crate) unsafe fn cuUserObjectRelease(user_object: CUuserObject, count: u32) -> CUresult {
    status(object(user_object_operation::RELEASE, user_object.0, 0, count, 0))
}

pub(crate) unsafe fn cuGraphRetainUserObject(
    graph: CUgraph,
    user_object: CUuserObject,
    count: u32,
    flags: u32,
) -> CUresult {
    status(object(user_object_operation::GRAPH_RETAIN, user_object.0, graph.0, count, flags))
}

pub(crate) unsafe fn cuGraphReleaseUserObject(
    graph: CUgraph,
    user_object: CUuserObject,
    count: u32,
) -> CUresult {
    status(object(user_object_operation::GRAPH_RELEASE, user_object.0, graph.0, count, 0))
}

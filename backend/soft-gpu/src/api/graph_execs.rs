//! Executable graphs: making, updating and launching them.
//!
//! Unsafe code: a structure of the program.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_char;
use std::sync::Arc;

use virtio_spec::cuda::{
    CUDA_GRAPH_INSTANTIATE_PARAMS, CUgraph, CUgraphExec, CUgraphExecUpdateResult,
    CUgraphExecUpdateResultInfo, CUgraphInstantiateResult, CUgraphNode, CUresult, CUstream,
};

use super::entry::{Call, Out, exports};
use crate::driver::graph;
use crate::driver::graph_exec::Exec;
use crate::driver::{Driver, Result};

exports! {
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

//! Nodes of memory operations.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::sync::Arc;

use virtio_spec::cuda::{
    CUDA_BATCH_MEM_OP_NODE_PARAMS, CUcontext, CUgraph, CUgraphExec, CUgraphNode, CUresult,
};
use virtio_spec::limits::MAX_MEMORY_OPERATIONS;

use super::entry::{Call, In, List, Out, exports};
use super::graph_nodes::{add, context_of};
use super::stream_values::Step;
use crate::driver::conditional::Operations;
use crate::driver::graph::{self, Op};
use crate::driver::queue::Health;
use crate::driver::{Driver, Result};

exports! {
    context cuGraphAddBatchMemOpNode(
        node: *mut CUgraphNode, graph: CUgraph, after: *const CUgraphNode, count: usize,
        params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) = add_operations;
    context cuGraphBatchMemOpNodeSetParams(node: CUgraphNode, params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS) = set;
    context cuGraphExecBatchMemOpNodeSetParams(
        exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_BATCH_MEM_OP_NODE_PARAMS,
    ) = exec_set;
    init cuGraphBatchMemOpNodeGetParams(node: CUgraphNode, params: *mut CUDA_BATCH_MEM_OP_NODE_PARAMS) = get;
}

pub(super) fn operations(call: &Call, params: In<CUDA_BATCH_MEM_OP_NODE_PARAMS>) -> Result<Op> {
    let params = params.get()?;
    if params.flags != 0 || params.count > MAX_MEMORY_OPERATIONS {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let context = context_of(call, params.ctx)?;
    let count = usize::try_from(params.count).unwrap_or(0);
    let list = List::at(params.paramArray.cast_const()).get(count)?;
    let steps = list.iter().map(|wanted| Step::of(call, wanted)).collect::<Result<Vec<_>>>()?;
    let described = Arc::new(Operations { context: context.handle, flags: params.flags, list });
    let replay = Arc::new(move |health: &Health| steps.iter().try_for_each(|step| step.do_it(health)));
    Ok(Op::Operations { described, replay })
}

fn add_operations(
    call: &Call,
    node: Out<CUgraphNode>,
    graph: CUgraph,
    after: List<CUgraphNode>,
    count: usize,
    params: In<CUDA_BATCH_MEM_OP_NODE_PARAMS>,
) -> Result<()> {
    add(node, graph, after, count, || operations(call, params))
}

fn set(call: &Call, node: CUgraphNode, params: In<CUDA_BATCH_MEM_OP_NODE_PARAMS>) -> Result<()> {
    graph::find_node(node.0)?.set(operations(call, params)?)
}

fn exec_set(
    call: &Call,
    exec: CUgraphExec,
    node: CUgraphNode,
    params: In<CUDA_BATCH_MEM_OP_NODE_PARAMS>,
) -> Result<()> {
    let exec = call.driver().execs.find(exec.0).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    exec.set(node.0, operations(call, params)?)
}

fn get(_: &Driver, node: CUgraphNode, params: Out<CUDA_BATCH_MEM_OP_NODE_PARAMS>) -> Result<()> {
    params.check()?;
    let Op::Operations { described, .. } = graph::find_node(node.0)?.op() else {
        return Err(CUresult::ERROR_INVALID_VALUE);
    };
    params.put(CUDA_BATCH_MEM_OP_NODE_PARAMS {
        ctx: CUcontext(described.context),
        count: u32::try_from(described.list.len()).unwrap_or(u32::MAX),
        paramArray: described.list.as_ptr().cast_mut(),
        flags: described.flags,
    })
}

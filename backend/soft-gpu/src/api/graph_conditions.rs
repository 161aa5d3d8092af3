//! Conditions and conditional nodes.
//!
//! Unsafe code: the place for the list of bodies.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::sync::Arc;

use virtio_spec::cuda::{
    CUDA_CONDITIONAL_NODE_PARAMS, CUcontext, CUgraph, CUgraphConditionalNodeType as Kind, CUresult,
};
use virtio_spec::limits::MAX_CONDITIONAL_BODIES;

use super::entry::{Call, Out, exports};
use super::graph_nodes::context_of;
use crate::driver::conditional::{Condition, Conditional};
use crate::driver::graph::{self, Graph, Op};
use crate::driver::handles::{kind, mint};
use crate::driver::{Driver, Result};

exports! {
    init cuGraphConditionalHandleCreate(
        handle: *mut u64, graph: CUgraph, context: CUcontext, value: u32, flags: u32,
    ) = create;
}

/// `CU_GRAPH_COND_ASSIGN_DEFAULT`.
const ASSIGN_DEFAULT: u32 = 1;

fn create(
    driver: &Driver,
    handle: Out<u64>,
    graph: CUgraph,
    context: CUcontext,
    value: u32,
    flags: u32,
) -> Result<()> {
    handle.check()?;
    let graph = graph::find(graph.0)?;
    driver.contexts.find(context.0).ok_or(CUresult::ERROR_INVALID_CONTEXT)?;
    if flags & !ASSIGN_DEFAULT != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let value = if flags == 0 { 0 } else { value };
    let made = mint(kind::GRAPH);
    driver.conditions.insert(made, Arc::new(Condition { graph: graph.handle, value }));
    handle.put(made)
}

/// What a conditional node does. The program is told its bodies.
///
/// # Safety
/// `params` is the program's structure.
pub(super) unsafe fn conditional(
    call: &Call,
    graph: CUgraph,
    params: *mut CUDA_CONDITIONAL_NODE_PARAMS,
) -> Result<Op> {
    // SAFETY: as the caller promises.
    let wanted = unsafe { params.read() };
    let invalid = CUresult::ERROR_INVALID_VALUE;
    let most = match wanted.kind {
        Kind::IF => 2,
        Kind::WHILE => 1,
        Kind::SWITCH => MAX_CONDITIONAL_BODIES,
        _ => 0,
    };
    if !(1..=most).contains(&wanted.size) {
        return Err(invalid);
    }
    context_of(call, wanted.ctx)?;
    let condition = call.driver().conditions.find(wanted.handle).ok_or(invalid)?;
    if condition.graph != graph.0 {
        return Err(invalid);
    }
    let bodies = (0..wanted.size).map(|_| Graph::create_body(call.driver())).collect();
    let node = Arc::new(Conditional::new(&condition, wanted.kind, bodies));
    // SAFETY: as the caller promises.
    let place = unsafe { &raw mut (*params).phGraph_out };
    // SAFETY: as above; handles are words.
    unsafe { place.write(node.handles.as_ptr().cast_mut().cast()) };
    Ok(Op::Conditional(node))
}

//! Conditional nodes, whose conditions are what they are at a launch. (That kernels set them is the business of CUDA's
//! device runtime.)
//!
//! This file has unsafe code: it reads what the driver points to.

use std::ptr;

use anyhow::{Result, ensure};

use crate::driver::{AnyNode, Code, Handle, MemsetNode};
use crate::gpu::Gpu;
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

area!("graph_conditions":
    the_body_of_a_true_condition_runs,
    the_body_of_a_false_condition_does_not,
    a_condition_has_another_body,
    a_switch_chooses_a_body,
    a_loop_need_not_begin,
    nodes_follow_the_whole_condition,
    bad_nodes_are_refused,
);

const IF: u64 = 0;
const WHILE: u64 = 1;
const SWITCH: u64 = 2;

/// `CU_GRAPH_NODE_TYPE_CONDITIONAL`.
const CONDITIONAL: i32 = 13;

fn is_there(since: i32) -> Result<bool> {
    Ok(crate::gpu::version()? >= since)
}

const OLD: &str = "the driver's CUDA is older than such nodes";

fn context(gpu: &Gpu) -> Result<Handle> {
    let mut context = 0;
    gpu.cu.cuCtxGetCurrent(&mut context).ok()?;
    Ok(context)
}

#[track_caller]
fn graph(gpu: &Gpu) -> Result<Handle> {
    let mut graph = 0;
    gpu.cu.cuGraphCreate(&mut graph, 0).ok()?;
    Ok(graph)
}

/// A condition that has this value at each launch.
#[track_caller]
fn condition(gpu: &Gpu, graph: Handle, value: u32) -> Result<u64> {
    let mut condition = 0;
    gpu.cu.cuGraphConditionalHandleCreate(&mut condition, graph, context(gpu)?, value, 1).ok()?;
    Ok(condition)
}

fn params(gpu: &Gpu, condition: u64, kind: u64, size: u64) -> Result<AnyNode> {
    let mut params = AnyNode { kind: CONDITIONAL, reserved: [0; 3], arm: [0; 29], end: 0 };
    params.arm[..4].copy_from_slice(&[condition, kind | size << 32, 0, context(gpu)? as u64]);
    Ok(params)
}

/// Adds a node; also its bodies.
#[track_caller]
fn add(
    gpu: &Gpu,
    graph: Handle,
    (condition, kind, size): (u64, u64, usize),
) -> Result<(Handle, Vec<Handle>)> {
    let (mut node, mut params) = (0, params(gpu, condition, kind, size as u64)?);
    gpu.cu.cuGraphAddNode_v2(&mut node, graph, ptr::null(), ptr::null(), 0, &mut params).ok()?;
    let list: *const Handle = ptr::with_exposed_provenance(usize::try_from(params.arm[2])?);
    ensure!(!list.is_null(), "the bodies are nowhere");
    // SAFETY: the driver's list of the bodies.
    let bodies = unsafe { std::slice::from_raw_parts(list, size) }.to_vec();
    ensure!(bodies.iter().all(|body| *body != 0), "a body has a null handle");
    let mut found = 99;
    gpu.cu.cuGraphNodeGetType(node, &mut found).ok()?;
    ensure!(found == CONDITIONAL, "the node is of kind {found}");
    Ok((node, bodies))
}

/// Has a graph write a word.
#[track_caller]
fn write(gpu: &Gpu, graph: Handle, after: &[Handle], cell: u64, value: u32) -> Result<Handle> {
    let fill = MemsetNode { target: cell, pitch: 0, value, element: 4, width: 1, height: 1 };
    let mut node = 0;
    gpu.cu.cuGraphAddMemsetNode(&mut node, graph, after.as_ptr(), after.len(), &fill, context(gpu)?).ok()?;
    Ok(node)
}

#[track_caller]
fn launch(gpu: &Gpu, graph: Handle) -> Result<()> {
    let mut exec = 0;
    gpu.cu.cuGraphInstantiateWithFlags(&mut exec, graph, 0).ok()?;
    for _ in 0..2 {
        gpu.cu.cuGraphLaunch(exec, 0).ok()?;
        gpu.cu.cuCtxSynchronize().ok()?;
    }
    gpu.cu.cuGraphExecDestroy(exec).ok()?;
    gpu.cu.cuGraphDestroy(graph).ok()?;
    Ok(())
}

/// What a launch writes of a node that has this kind, a body for each of `values`, and this condition.
fn written(kind: u64, value: u32, values: &[u32]) -> Result<u32> {
    let gpu = Gpu::new()?;
    let (cell, graph) = (gpu.upload(&[100u32])?, graph(&gpu)?);
    let condition = condition(&gpu, graph, value)?;
    let (_, bodies) = add(&gpu, graph, (condition, kind, values.len()))?;
    for (body, value) in bodies.into_iter().zip(values) {
        write(&gpu, body, &[], cell, *value)?;
    }
    launch(&gpu, graph)?;
    Ok(gpu.read::<u32>(cell, 1)?[0])
}

fn the_body_of_a_true_condition_runs() -> CaseResult {
    if !is_there(12_030)? {
        return skip(OLD);
    }
    let found = written(IF, 1, &[5])?;
    ensure!(found == 5, "the body wrote {found}");
    pass()
}

fn the_body_of_a_false_condition_does_not() -> CaseResult {
    if !is_there(12_030)? {
        return skip(OLD);
    }
    let found = written(IF, 0, &[5])?;
    ensure!(found == 100, "the body wrote {found}");
    pass()
}

fn a_condition_has_another_body() -> CaseResult {
    if !is_there(12_080)? {
        return skip(OLD);
    }
    let found = (written(IF, 1, &[5, 6])?, written(IF, 0, &[5, 6])?);
    ensure!(found == (5, 6), "the bodies wrote {found:?}");
    pass()
}

fn a_switch_chooses_a_body() -> CaseResult {
    if !is_there(12_080)? {
        return skip(OLD);
    }
    for (value, expected) in [(0, 5), (1, 6), (2, 7), (3, 100)] {
        let found = written(SWITCH, value, &[5, 6, 7])?;
        ensure!(found == expected, "for {value} the bodies wrote {found}");
    }
    pass()
}

fn a_loop_need_not_begin() -> CaseResult {
    if !is_there(12_030)? {
        return skip(OLD);
    }
    let found = written(WHILE, 0, &[5])?;
    ensure!(found == 100, "the body wrote {found}");
    pass()
}

fn nodes_follow_the_whole_condition() -> CaseResult {
    if !is_there(12_030)? {
        return skip(OLD);
    }
    let gpu = Gpu::new()?;
    let (cell, graph) = (gpu.upload(&[0u32])?, graph(&gpu)?);
    let condition = condition(&gpu, graph, 1)?;
    let (node, bodies) = add(&gpu, graph, (condition, IF, 1))?;
    let first = write(&gpu, bodies[0], &[], cell, 1)?;
    write(&gpu, bodies[0], &[first], cell, 2)?;
    write(&gpu, graph, &[node], cell, 3)?;
    launch(&gpu, graph)?;
    ensure!(gpu.read::<u32>(cell, 1)? == [3], "what follows the node ran before its body");
    pass()
}

fn bad_nodes_are_refused() -> CaseResult {
    if !is_there(12_030)? {
        return skip(OLD);
    }
    let gpu = Gpu::new()?;
    let graph = graph(&gpu)?;
    let (condition, mut node) = (condition(&gpu, graph, 1)?, 0);
    for (kind, size) in [(IF, 0), (IF, 3), (WHILE, 2), (7, 1)] {
        let mut params = params(&gpu, condition, kind, size)?;
        gpu.cu
            .cuGraphAddNode_v2(&mut node, graph, ptr::null(), ptr::null(), 0, &mut params)
            .is(Code::INVALID_VALUE)?;
    }
    let mut place = 0;
    let context = context(&gpu)?;
    gpu.cu.cuGraphConditionalHandleCreate(ptr::null_mut(), graph, context, 1, 1).is(Code::INVALID_VALUE)?;
    gpu.cu.cuGraphConditionalHandleCreate(&mut place, graph, context, 1, 2).is(Code::INVALID_VALUE)?;
    gpu.cu.cuGraphConditionalHandleCreate(&mut place, 0, context, 1, 1).is(Code::INVALID_VALUE)?;
    ensure!(node == 0 && place == 0, "a refused call gave a handle");
    pass()
}

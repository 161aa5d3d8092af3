//! Nodes of memory operations.
//!
//! This file has unsafe code: it reads what the driver points to.

use std::ptr;

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle, OperationsNode};
use crate::gpu::Gpu;
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

area!("graph_operations":
    a_node_writes_at_each_launch,
    a_node_waits_for_another,
    a_node_tells_what_it_does,
    a_node_can_be_changed,
    an_executable_node_can_be_changed,
    bad_nodes_are_refused,
);

/// `CU_STREAM_MEM_OP_WRITE_VALUE_32`, `…_64`, and `CU_STREAM_MEM_OP_WAIT_VALUE_32`.
const WRITE_32: u64 = 2;
const WRITE_64: u64 = 5;
const WAIT_32: u64 = 1;

const fn operation(kind: u64, address: u64, value: u64) -> [u64; 6] {
    [kind, address, value, 0, 0, 0]
}

fn context(gpu: &Gpu) -> Result<Handle> {
    let mut context = 0;
    gpu.cu.cuCtxGetCurrent(&mut context).ok()?;
    Ok(context)
}

fn params(gpu: &Gpu, list: &mut [[u64; 6]]) -> Result<OperationsNode> {
    let (context, count) = (context(gpu)?, u32::try_from(list.len())?);
    Ok(OperationsNode { context, count, list: list.as_mut_ptr(), flags: 0 })
}

#[track_caller]
fn graph(gpu: &Gpu) -> Result<Handle> {
    let mut graph = 0;
    gpu.cu.cuGraphCreate(&mut graph, 0).ok()?;
    Ok(graph)
}

#[track_caller]
fn add(gpu: &Gpu, graph: Handle, after: &[Handle], list: &mut [[u64; 6]]) -> Result<Handle> {
    let (mut node, params) = (0, params(gpu, list)?);
    gpu.cu.cuGraphAddBatchMemOpNode(&mut node, graph, after.as_ptr(), after.len(), &params).ok()?;
    ensure!(node != 0, "a node has a null handle");
    Ok(node)
}

#[track_caller]
fn instantiate(gpu: &Gpu, graph: Handle) -> Result<Handle> {
    let mut exec = 0;
    gpu.cu.cuGraphInstantiateWithFlags(&mut exec, graph, 0).ok()?;
    Ok(exec)
}

#[track_caller]
fn launch(gpu: &Gpu, exec: Handle) -> Result<()> {
    gpu.cu.cuGraphLaunch(exec, 0).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    Ok(())
}

fn a_node_writes_at_each_launch() -> CaseResult {
    let gpu = Gpu::new()?;
    let (cells, graph) = (gpu.upload(&[0u32; 4])?, graph(&gpu)?);
    let mut list = [operation(WRITE_32, cells, 7), operation(WRITE_64, cells + 8, (5 << 32) | 6)];
    add(&gpu, graph, &[], &mut list)?;
    // What it was told with is the program's again.
    list.fill([0; 6]);
    let exec = instantiate(&gpu, graph)?;
    for _ in 0..3 {
        launch(&gpu, exec)?;
        ensure!(gpu.read::<u32>(cells, 4)? == [7, 0, 6, 5], "the node's values are not there");
        gpu.write(cells, &[0u32; 4])?;
    }
    pass()
}

fn a_node_waits_for_another() -> CaseResult {
    let gpu = Gpu::new()?;
    let (cells, graph) = (gpu.upload(&[0u32; 2])?, graph(&gpu)?);
    let first = add(&gpu, graph, &[], &mut [operation(WRITE_32, cells, 3)])?;
    add(&gpu, graph, &[first], &mut [operation(WAIT_32, cells, 3), operation(WRITE_32, cells + 4, 9)])?;
    launch(&gpu, instantiate(&gpu, graph)?)?;
    ensure!(gpu.read::<u32>(cells, 2)? == [3, 9], "the nodes' values are not there");
    pass()
}

#[track_caller]
fn told(gpu: &Gpu, node: Handle) -> Result<(OperationsNode, Vec<[u64; 6]>)> {
    let mut found = OperationsNode { context: 0, count: 0, list: ptr::null_mut(), flags: 7 };
    gpu.cu.cuGraphBatchMemOpNodeGetParams(node, &mut found).ok()?;
    ensure!(!found.list.is_null(), "the node's list is nowhere");
    // SAFETY: the driver's list of `count` operations.
    let list = unsafe { std::slice::from_raw_parts(found.list, found.count as usize) }.to_vec();
    Ok((found, list))
}

fn a_node_tells_what_it_does() -> CaseResult {
    let gpu = Gpu::new()?;
    let (cells, graph) = (gpu.upload(&[0u32; 2])?, graph(&gpu)?);
    let mut list = [operation(WRITE_32, cells, 7), operation(WAIT_32, cells + 4, 0)];
    let node = add(&gpu, graph, &[], &mut list)?;
    let (found, told) = told(&gpu, node)?;
    ensure!(found.context == context(&gpu)? && found.flags == 0, "the node is {found:?}");
    // The first three words are the operation, its address and the value.
    let parts = |list: &[[u64; 6]]| list.iter().map(|one| [one[0], one[1], one[2]]).collect::<Vec<_>>();
    ensure!(parts(&told) == parts(&list), "the node does {told:x?}");
    let mut kind = 0;
    gpu.cu.cuGraphNodeGetType(node, &mut kind).ok()?;
    ensure!(kind == 12, "the node is of kind {kind}");
    pass()
}

fn a_node_can_be_changed() -> CaseResult {
    let gpu = Gpu::new()?;
    let (cells, graph) = (gpu.upload(&[0u32; 2])?, graph(&gpu)?);
    let node = add(&gpu, graph, &[], &mut [operation(WRITE_32, cells, 1)])?;
    let mut list = [operation(WRITE_32, cells + 4, 2)];
    gpu.cu.cuGraphBatchMemOpNodeSetParams(node, &params(&gpu, &mut list)?).ok()?;
    ensure!(told(&gpu, node)?.1[0][..3] == list[0][..3], "the node has not changed");
    launch(&gpu, instantiate(&gpu, graph)?)?;
    ensure!(gpu.read::<u32>(cells, 2)? == [0, 2], "the node does what it did before");
    pass()
}

fn an_executable_node_can_be_changed() -> CaseResult {
    let gpu = Gpu::new()?;
    let (cells, graph) = (gpu.upload(&[0u32; 2])?, graph(&gpu)?);
    let node = add(&gpu, graph, &[], &mut [operation(WRITE_32, cells, 1)])?;
    let exec = instantiate(&gpu, graph)?;
    let mut list = [operation(WRITE_32, cells, 2)];
    gpu.cu.cuGraphExecBatchMemOpNodeSetParams(exec, node, &params(&gpu, &mut list)?).ok()?;
    launch(&gpu, exec)?;
    ensure!(gpu.read::<u32>(cells, 2)? == [2, 0], "the node does what it did before");
    ensure!(told(&gpu, node)?.1[0][2] == 1, "the graph's own node has changed");
    pass()
}

fn bad_nodes_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let (cells, graph) = (gpu.upload(&[0u32; 2])?, graph(&gpu)?);
    let mut node = 0;
    let mut refused = |params: *const OperationsNode| {
        let code = gpu.cu.cuGraphAddBatchMemOpNode(&mut node, graph, ptr::null(), 0, params);
        code.is(Code::INVALID_VALUE)
    };
    refused(ptr::null())?;
    let mut unknown = [operation(99, cells, 1)];
    refused(&params(&gpu, &mut unknown)?)?;
    let mut crooked = [operation(WRITE_32, cells + 1, 1)];
    refused(&params(&gpu, &mut crooked)?)?;
    let mut good = [operation(WRITE_32, cells, 1)];
    refused(&OperationsNode { flags: 1, ..params(&gpu, &mut good)? })?;
    ensure!(node == 0, "a refused node has a handle");
    pass()
}

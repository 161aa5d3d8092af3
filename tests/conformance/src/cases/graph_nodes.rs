//! Nodes and edges of graphs: what they are, and what can be changed.

use anyhow::ensure;

use crate::driver::{Code, Handle, HostNode, KernelNode, MemsetNode};
use crate::gpu::{Gpu, arguments, shape};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::captures::{captured, instantiated, some};
use super::graphs::{Parameters, add_host, add_kernel, add_memset, graph, run};
use super::kernels;

area!("graph_nodes":
    a_kernel_nodes_parameters_can_be_read_and_changed,
    a_node_of_an_executable_graph_changes_alone,
    lists_of_many_nodes,
    edges_are_added_and_removed,
    memset_and_host_parameters_are_kept,
    a_disabled_node_does_nothing,
    wrong_handles_are_refused,
);

fn a_kernel_nodes_parameters_can_be_read_and_changed() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let (stream, word) = (gpu.stream(1)?, gpu.upload(&[1u32])?);
    let graph = some!(captured(&gpu, stream, 0, || {
        gpu.launch_on(stream, step, shape(1, 1), arguments![word, 2u32, 3u32]).ok()
    })?);
    let (mut node, mut count) = (0, 1);
    gpu.cu.cuGraphGetNodes(graph, &mut node, &mut count).ok()?;
    let mut found = KernelNode::empty();
    gpu.cu.cuGraphKernelNodeGetParams_v2(node, &mut found).ok()?;
    ensure!(found.function == step && found.grid == [1; 3] && found.block == [1; 3], "{found:x?}");
    // SAFETY: the driver's pointers to three parameters.
    let pointers = unsafe { std::slice::from_raw_parts(found.parameters, 3) };
    // SAFETY: the first parameter has eight bytes.
    let first = unsafe { pointers[0].cast::<u64>().read_unaligned() };
    // SAFETY: the third parameter has four bytes.
    let third = unsafe { pointers[2].cast::<u32>().read_unaligned() };
    ensure!(first == word && third == 3, "{first:#x} {third}");
    let mut again = KernelNode::empty();
    gpu.cu.cuGraphKernelNodeGetParams_v2(node, &mut again).ok()?;
    // SAFETY: as above; they stay valid while the node does not change.
    ensure!(unsafe { pointers[2].cast::<u32>().read_unaligned() } == 3, "the older pointers");
    let mut changed = Parameters::new(arguments![word, 5u32, 7u32]);
    gpu.cu.cuGraphKernelNodeSetParams_v2(node, &changed.node(step)).ok()?;
    gpu.cu.cuGraphKernelNodeGetParams_v2(node, &mut again).ok()?;
    // SAFETY: the driver's pointers to three parameters.
    let third = unsafe { again.parameters.wrapping_add(2).read() };
    // SAFETY: the third has four bytes.
    let third = unsafe { third.cast::<u32>().read_unaligned() };
    ensure!(third == 7, "after the change it is {third}");
    run(&gpu, instantiated(&gpu, graph)?)?;
    ensure!(gpu.read::<u32>(word, 1)? == [12], "{:?}", gpu.read::<u32>(word, 1)?);
    pass()
}

fn a_node_of_an_executable_graph_changes_alone() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let graph = some!(graph(&gpu)?);
    let word = gpu.upload(&[1u32])?;
    let node = add_kernel(&gpu, graph, &[], step, arguments![word, 1u32, 1u32])?;
    let exec = instantiated(&gpu, graph)?;
    let mut changed = Parameters::new(arguments![word, 1u32, 100u32]);
    gpu.cu.cuGraphExecKernelNodeSetParams_v2(exec, node, &changed.node(step)).ok()?;
    run(&gpu, exec)?;
    ensure!(gpu.read::<u32>(word, 1)? == [101], "{:?}", gpu.read::<u32>(word, 1)?);
    run(&gpu, instantiated(&gpu, graph)?)?;
    ensure!(gpu.read::<u32>(word, 1)? == [102], "the graph itself has changed");
    pass()
}

fn lists_of_many_nodes() -> CaseResult {
    const NODES: usize = 5000;
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let mut nodes = Vec::new();
    for index in 0..NODES {
        let after: &[Handle] = if index == 0 { &[] } else { &nodes[..1] };
        let mut node = 0;
        gpu.cu.cuGraphAddEmptyNode(&mut node, graph, after.as_ptr(), after.len()).ok()?;
        nodes.push(node);
    }
    let (mut listed, mut count) = (vec![1; NODES + 2], NODES + 2);
    gpu.cu.cuGraphGetNodes(graph, listed.as_mut_ptr(), &mut count).ok()?;
    ensure!(count == NODES && listed[NODES..] == [0, 0], "{count} nodes");
    listed.truncate(NODES);
    listed.sort_unstable();
    let mut sorted = nodes.clone();
    sorted.sort_unstable();
    ensure!(listed == sorted, "other nodes were listed than added");
    let (mut followers, mut room) = (vec![0; NODES], NODES);
    gpu.cu
        .cuGraphNodeGetDependentNodes_v2(nodes[0], followers.as_mut_ptr(), std::ptr::null_mut(), &mut room)
        .ok()?;
    ensure!(room == NODES - 1, "{room} nodes follow the first");
    let (mut root, mut one) = (0, 1);
    gpu.cu.cuGraphGetRootNodes(graph, &mut root, &mut one).ok()?;
    ensure!(one == 1 && root == nodes[0], "the root is {root:#x}");
    run(&gpu, instantiated(&gpu, graph)?)?;
    gpu.cu.cuGraphDestroy(graph).ok()?;
    pass()
}

fn edges_are_added_and_removed() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let word = gpu.upload(&[0u32])?;
    let (first, second) = (add_memset(&gpu, graph, &[], word, 1)?, add_memset(&gpu, graph, &[], word, 2)?);
    gpu.cu.cuGraphAddDependencies_v2(graph, &second, &first, std::ptr::null(), 1).ok()?;
    let (mut from, mut to, mut count) = (0, 0, 1);
    gpu.cu.cuGraphGetEdges_v2(graph, &mut from, &mut to, std::ptr::null_mut(), &mut count).ok()?;
    ensure!(count == 1 && from == second && to == first, "{count} {from:#x} {to:#x}");
    let (mut before, mut length) = (0, 1);
    gpu.cu.cuGraphNodeGetDependencies_v2(first, &mut before, std::ptr::null_mut(), &mut length).ok()?;
    ensure!(length == 1 && before == second, "{length} {before:#x}");
    run(&gpu, instantiated(&gpu, graph)?)?;
    ensure!(gpu.read::<u32>(word, 1)? == [1], "the order of the edge");
    gpu.cu.cuGraphRemoveDependencies_v2(graph, &second, &first, std::ptr::null(), 1).ok()?;
    gpu.cu
        .cuGraphGetEdges_v2(
            graph,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &mut count,
        )
        .ok()?;
    ensure!(count == 0, "{count} edges");
    gpu.cu.cuGraphDestroyNode(first).ok()?;
    gpu.cu.cuGraphGetNodes(graph, std::ptr::null_mut(), &mut count).ok()?;
    ensure!(count == 1, "{count} nodes");
    pass()
}

fn memset_and_host_parameters_are_kept() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let word = gpu.upload(&[0u32])?;
    let set = add_memset(&gpu, graph, &[], word, 77)?;
    let mut found = MemsetNode { target: 0, pitch: 0, value: 0, element: 0, width: 0, height: 0 };
    gpu.cu.cuGraphMemsetNodeGetParams(set, &mut found).ok()?;
    ensure!(found.target == word && found.value == 77 && found.element == 4 && found.width == 1, "{found:?}");
    found.value = 78;
    gpu.cu.cuGraphMemsetNodeSetParams(set, &found).ok()?;
    let called = add_host(&gpu, graph, &[set], 4711)?;
    let mut params = HostNode { function: None, data: std::ptr::null_mut() };
    gpu.cu.cuGraphHostNodeGetParams(called, &mut params).ok()?;
    ensure!(params.data.addr() == 4711 && params.function.is_some(), "{params:?}");
    run(&gpu, instantiated(&gpu, graph)?)?;
    ensure!(gpu.read::<u32>(word, 1)? == [78], "{:?}", gpu.read::<u32>(word, 1)?);
    pass()
}

fn a_disabled_node_does_nothing() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let words = gpu.upload(&[0u32, 0])?;
    let first = add_memset(&gpu, graph, &[], words, 1)?;
    add_memset(&gpu, graph, &[first], words + 4, 1)?;
    let exec = instantiated(&gpu, graph)?;
    gpu.cu.cuGraphNodeSetEnabled(exec, first, 0).ok()?;
    let mut enabled = 7;
    gpu.cu.cuGraphNodeGetEnabled(exec, first, &mut enabled).ok()?;
    ensure!(enabled == 0, "enabled is {enabled}");
    run(&gpu, exec)?;
    ensure!(gpu.read::<u32>(words, 2)? == [0, 1], "{:?}", gpu.read::<u32>(words, 2)?);
    gpu.cu.cuGraphNodeSetEnabled(exec, first, 1).ok()?;
    run(&gpu, exec)?;
    ensure!(gpu.read::<u32>(words, 2)? == [1, 1], "{:?}", gpu.read::<u32>(words, 2)?);
    pass()
}

fn wrong_handles_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let refused = [Code::INVALID_VALUE, Code::INVALID_HANDLE];
    let (mut exec, mut count) = (0, 0);
    gpu.cu.cuGraphInstantiateWithFlags(&mut exec, 0, 0).is_one_of(&refused)?;
    gpu.cu.cuGraphLaunch(0, 0).is_one_of(&refused)?;
    gpu.cu.cuGraphDestroy(0).is_one_of(&refused)?;
    gpu.cu.cuGraphExecDestroy(0).is_one_of(&refused)?;
    gpu.cu.cuGraphGetNodes(0, std::ptr::null_mut(), &mut count).is_one_of(&refused)?;
    gpu.cu.cuGraphCreate(&mut count, 1).is(Code::INVALID_VALUE)?;
    let mut node = 0;
    gpu.cu.cuGraphAddEmptyNode(&mut node, graph, std::ptr::null(), 0).ok()?;
    gpu.cu.cuGraphAddEmptyNode(&mut node, graph, std::ptr::null(), 1).is(Code::INVALID_VALUE)?;
    pass()
}

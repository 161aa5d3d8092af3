//! Graphs that allocate and free memory.

use anyhow::{Result, ensure};

use crate::driver::{AllocationNode, AnyNode, Code, Handle, MemoryAccess, MemoryLocation, PoolProperties};
use crate::gpu::{Gpu, arguments, shape};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::captures::{captured, instantiated, some};
use super::graphs::{add_memset, graph, run};
use super::kernels;

area!("graph_memory":
    memory_comes_and_goes_at_each_launch,
    a_captured_allocation_is_a_node,
    a_captured_allocation_of_a_pool_is_the_graphs,
    what_is_not_freed_stays_and_refuses_the_next_launch,
    what_is_not_freed_can_be_freed_at_each_launch,
    another_graph_frees,
    memory_outlives_its_graph,
    graphs_that_are_gone_leave_nothing,
    parameters_are_told,
    any_kind_of_node_can_be_memory,
    memory_is_freed_once,
    graphs_with_memory_stay_whole,
    one_executable_graph_at_a_time,
    memory_nodes_cannot_be_changed,
    bad_allocations_are_refused,
    a_capture_frees_only_what_graphs_allocate,
    use_is_counted,
);

const MEM_ALLOC: i32 = 10;
const MEM_FREE: i32 = 11;
const BYTES: usize = 1 << 20;
/// `CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH`.
const FREE_ON_LAUNCH: u64 = 1;

/// Memory of the first device.
fn allocation(bytes: usize) -> AllocationNode {
    let (location, win32) = (MemoryLocation { kind: 1, id: 0 }, std::ptr::null_mut());
    let properties = PoolProperties { kind: 1, handle_types: 0, location, win32, most: 0, rest: [0; 56] };
    AllocationNode { properties, access: std::ptr::null(), access_count: 0, bytes, pointer: 0 }
}

/// A graph whose first node allocates, with the node and the address; none where there are no such nodes.
fn allocating(gpu: &Gpu) -> Result<Option<(Handle, Handle, u64)>> {
    let Some(graph) = graph(gpu)? else { return Ok(None) };
    let (mut node, mut params) = (0, allocation(BYTES));
    match gpu.cu.cuGraphAddMemAllocNode(&mut node, graph, std::ptr::null(), 0, &mut params) {
        Code::NOT_SUPPORTED => return Ok(None),
        code => code.ok()?,
    }
    ensure!(node != 0 && params.pointer != 0, "{node:#x} {:#x}", params.pointer);
    Ok(Some((graph, node, params.pointer)))
}

#[track_caller]
fn add_free(gpu: &Gpu, graph: Handle, after: &[Handle], pointer: u64) -> Result<Handle> {
    let mut node = 0;
    gpu.cu.cuGraphAddMemFreeNode(&mut node, graph, after.as_ptr(), after.len(), pointer).ok()?;
    Ok(node)
}

#[track_caller]
fn kind(gpu: &Gpu, node: Handle) -> Result<i32> {
    let mut kind = -1;
    gpu.cu.cuGraphNodeGetType(node, &mut kind).ok()?;
    Ok(kind)
}

/// Types of a graph's nodes, sorted.
fn kinds(gpu: &Gpu, graph: Handle) -> Result<Vec<i32>> {
    let (mut nodes, mut count) = ([0; 16], 16);
    gpu.cu.cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count).ok()?;
    let mut kinds = nodes[..count].iter().map(|node| kind(gpu, *node)).collect::<Result<Vec<_>>>()?;
    kinds.sort_unstable();
    Ok(kinds)
}

/// What CUDA says cannot be done, without saying by which error.
#[track_caller]
fn refused(code: Code) -> Result<()> {
    code.is_one_of(&[Code::INVALID_VALUE, Code::NOT_SUPPORTED])
}

fn memory_comes_and_goes_at_each_launch() -> CaseResult {
    let gpu = Gpu::new()?;
    let (graph, node, pointer) = some!(allocating(&gpu)?);
    let set = add_memset(&gpu, graph, &[node], pointer, 7)?;
    let free = add_free(&gpu, graph, &[set], pointer)?;
    ensure!(kind(&gpu, node)? == MEM_ALLOC && kind(&gpu, free)? == MEM_FREE, "the nodes' types");
    let exec = instantiated(&gpu, graph)?;
    for _ in 0..3 {
        run(&gpu, exec)?;
    }
    // What its own graph frees, nobody else can.
    refused(gpu.cu.cuMemFreeAsync(pointer, 0))?;
    pass()
}

/// What a capture allocates is set, used by a kernel, copied out and freed.
fn captured_round_trip(gpu: &Gpu, allocate: impl FnOnce(&mut u64, Handle) -> Code) -> CaseResult {
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let (stream, words) = (gpu.stream(1)?, gpu.upload(&[0u32; 4])?);
    let graph = some!(captured(gpu, stream, 0, || {
        let mut pointer = 0;
        allocate(&mut pointer, stream).ok()?;
        ensure!(pointer != 0, "a captured allocation is at address 0");
        gpu.cu.cuMemsetD32Async(pointer, 9, 4, stream).ok()?;
        gpu.launch_on(stream, step, shape(1, 1), arguments![pointer, 2u32, 1u32]).ok()?;
        gpu.cu.cuMemcpyDtoDAsync_v2(words, pointer, 16, stream).ok()?;
        gpu.cu.cuMemFreeAsync(pointer, stream).ok()
    })?);
    ensure!(kinds(gpu, graph)? == [0, 1, 2, MEM_ALLOC, MEM_FREE], "{:?}", kinds(gpu, graph)?);
    ensure!(gpu.read::<u32>(words, 4)? == [0; 4], "a capture ran its work");
    let exec = instantiated(gpu, graph)?;
    gpu.cu.cuGraphDestroy(graph).ok()?;
    for _ in 0..3 {
        gpu.write(words, &[0u32; 4])?;
        gpu.cu.cuGraphLaunch(exec, stream).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        ensure!(gpu.read::<u32>(words, 4)? == [19, 9, 9, 9], "{:?}", gpu.read::<u32>(words, 4)?);
    }
    gpu.cu.cuGraphExecDestroy(exec).ok()?;
    pass()
}

fn a_captured_allocation_is_a_node() -> CaseResult {
    let gpu = Gpu::new()?;
    captured_round_trip(&gpu, |pointer, stream| gpu.cu.cuMemAllocAsync(pointer, BYTES, stream))
}

fn a_captured_allocation_of_a_pool_is_the_graphs() -> CaseResult {
    const USED_HIGH: u32 = 8;
    let gpu = Gpu::new()?;
    let (mut pool, mut high) = (0, 7u64);
    gpu.cu.cuMemPoolCreate(&mut pool, &allocation(1).properties).ok()?;
    let outcome = captured_round_trip(&gpu, |pointer, stream| {
        gpu.cu.cuMemAllocFromPoolAsync(pointer, BYTES, pool, stream)
    })?;
    gpu.cu.cuMemPoolGetAttribute(pool, USED_HIGH, (&raw mut high).cast()).ok()?;
    ensure!(high == 0, "{high} bytes are the pool's");
    Ok(outcome)
}

fn what_is_not_freed_stays_and_refuses_the_next_launch() -> CaseResult {
    let gpu = Gpu::new()?;
    let (graph, node, pointer) = some!(allocating(&gpu)?);
    add_memset(&gpu, graph, &[node], pointer, 11)?;
    let exec = instantiated(&gpu, graph)?;
    for free_at_once in [false, true] {
        run(&gpu, exec)?;
        ensure!(gpu.read::<u32>(pointer, 1)? == [11], "the memory after the launch");
        gpu.cu.cuGraphLaunch(exec, 0).is(Code::INVALID_VALUE)?;
        ensure!(gpu.read::<u32>(pointer, 1)? == [11], "the memory after a refused launch");
        if free_at_once {
            gpu.cu.cuMemFree_v2(pointer).ok()?;
        } else {
            gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
        }
    }
    run(&gpu, exec)?;
    gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    pass()
}

fn what_is_not_freed_can_be_freed_at_each_launch() -> CaseResult {
    let gpu = Gpu::new()?;
    let (graph, node, pointer) = some!(allocating(&gpu)?);
    add_memset(&gpu, graph, &[node], pointer, 12)?;
    let mut exec = 0;
    gpu.cu.cuGraphInstantiateWithFlags(&mut exec, graph, FREE_ON_LAUNCH).ok()?;
    for _ in 0..3 {
        run(&gpu, exec)?;
        ensure!(gpu.read::<u32>(pointer, 1)? == [12], "{:?}", gpu.read::<u32>(pointer, 1)?);
    }
    gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
    run(&gpu, exec)?;
    ensure!(gpu.read::<u32>(pointer, 1)? == [12], "after a free in between");
    pass()
}

fn another_graph_frees() -> CaseResult {
    let gpu = Gpu::new()?;
    let (first, _, pointer) = some!(allocating(&gpu)?);
    let second = some!(graph(&gpu)?);
    let set = add_memset(&gpu, second, &[], pointer, 13)?;
    add_free(&gpu, second, &[set], pointer)?;
    // Either the owner frees it or others do.
    let mut node = 0;
    refused(gpu.cu.cuGraphAddMemFreeNode(&mut node, first, std::ptr::null(), 0, pointer))?;
    let (first, second) = (instantiated(&gpu, first)?, instantiated(&gpu, second)?);
    for _ in 0..3 {
        gpu.cu.cuGraphLaunch(first, 0).ok()?;
        gpu.cu.cuGraphLaunch(second, 0).ok()?;
    }
    gpu.cu.cuStreamSynchronize(0).ok()?;
    pass()
}

fn memory_outlives_its_graph() -> CaseResult {
    let gpu = Gpu::new()?;
    let (graph, node, pointer) = some!(allocating(&gpu)?);
    add_memset(&gpu, graph, &[node], pointer, 14)?;
    let exec = instantiated(&gpu, graph)?;
    run(&gpu, exec)?;
    gpu.cu.cuGraphExecDestroy(exec).ok()?;
    gpu.cu.cuGraphDestroy(graph).ok()?;
    ensure!(gpu.read::<u32>(pointer, 1)? == [14], "{:?}", gpu.read::<u32>(pointer, 1)?);
    gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    pass()
}

fn graphs_that_are_gone_leave_nothing() -> CaseResult {
    const LARGE: usize = 256 << 20;
    let gpu = Gpu::new()?;
    for round in 0..200u32 {
        let graph = some!(graph(&gpu)?);
        let (mut node, mut params) = (0, allocation(LARGE));
        match gpu.cu.cuGraphAddMemAllocNode(&mut node, graph, std::ptr::null(), 0, &mut params) {
            Code::NOT_SUPPORTED => return skip("memory nodes are not supported yet"),
            code => code.ok()?,
        }
        let set = add_memset(&gpu, graph, &[node], params.pointer, round)?;
        add_free(&gpu, graph, &[set], params.pointer)?;
        let exec = instantiated(&gpu, graph)?;
        run(&gpu, exec)?;
        gpu.cu.cuGraphExecDestroy(exec).ok()?;
        gpu.cu.cuGraphDestroy(graph).ok()?;
    }
    pass()
}

fn parameters_are_told() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let access = MemoryAccess { location: MemoryLocation { kind: 1, id: 0 }, flags: 3 };
    let wanted = AllocationNode { access: &raw const access, access_count: 1, ..allocation(12_345) };
    let (mut node, mut params, mut found) = (0, wanted, allocation(0));
    match gpu.cu.cuGraphAddMemAllocNode(&mut node, graph, std::ptr::null(), 0, &mut params) {
        Code::NOT_SUPPORTED => return skip("memory nodes are not supported yet"),
        code => code.ok()?,
    }
    gpu.cu.cuGraphMemAllocNodeGetParams(node, &mut found).ok()?;
    ensure!(found.pointer == params.pointer && found.bytes == 12_345, "{found:x?}");
    ensure!(found.properties.kind == 1 && found.properties.handle_types == 0, "{found:x?}");
    let place = found.properties.location;
    ensure!(place.kind == 1 && place.id == 0, "{place:?}");
    ensure!(found.access_count == 1 && !found.access.is_null(), "{found:x?}");
    // SAFETY: the node's own list has one descriptor.
    let told = unsafe { found.access.read() };
    ensure!(told.location.kind == 1 && told.location.id == 0 && told.flags == 3, "{told:?}");
    let free = add_free(&gpu, graph, &[node], params.pointer)?;
    let mut freed = 0;
    gpu.cu.cuGraphMemFreeNodeGetParams(free, &mut freed).ok()?;
    ensure!(freed == params.pointer, "{freed:#x} instead of {:#x}", params.pointer);
    gpu.cu.cuGraphMemFreeNodeGetParams(node, &mut freed).is(Code::INVALID_VALUE)?;
    gpu.cu.cuGraphMemAllocNodeGetParams(free, &mut found).is(Code::INVALID_VALUE)?;
    pass()
}

/// A node as the calls for any kind know it, its arm empty.
fn any(kind: i32) -> AnyNode {
    AnyNode { kind, reserved: [0; 3], arm: [0; 29], end: 0 }
}

/// An allocation as the calls for any kind know it.
fn any_allocation() -> AnyNode {
    let mut params = any(MEM_ALLOC);
    let arm = params.arm.as_mut_ptr().cast::<AllocationNode>();
    // SAFETY: the union is larger than its arms, and aligned for them.
    unsafe { arm.write(allocation(BYTES)) };
    params
}

fn any_kind_of_node_can_be_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let (mut node, mut free, mut params) = (0, 0, any_allocation());
    match gpu.cu.cuGraphAddNode_v2(&mut node, graph, std::ptr::null(), std::ptr::null(), 0, &mut params) {
        Code::NOT_SUPPORTED => return skip("memory nodes are not supported yet"),
        code => code.ok()?,
    }
    let pointer = params.arm[14];
    ensure!(pointer != 0 && kind(&gpu, node)? == MEM_ALLOC, "the address is {pointer:#x}");
    let set = add_memset(&gpu, graph, &[node], pointer, 15)?;
    let mut params = any(MEM_FREE);
    params.arm[0] = pointer;
    gpu.cu.cuGraphAddNode_v2(&mut free, graph, &set, std::ptr::null(), 1, &mut params).ok()?;
    ensure!(kind(&gpu, free)? == MEM_FREE, "the free node's type");
    let exec = instantiated(&gpu, graph)?;
    run(&gpu, exec)?;
    run(&gpu, exec)?;
    pass()
}

fn memory_is_freed_once() -> CaseResult {
    let gpu = Gpu::new()?;
    let (first, node, pointer) = some!(allocating(&gpu)?);
    let second = some!(graph(&gpu)?);
    add_free(&gpu, first, &[node], pointer)?;
    let plain = gpu.alloc(4096)?;
    let mut free = 0;
    for address in [pointer, plain, pointer + 512, 0] {
        gpu.cu.cuGraphAddMemFreeNode(&mut free, first, &node, 1, address).is(Code::INVALID_VALUE)?;
    }
    refused(gpu.cu.cuGraphAddMemFreeNode(&mut free, second, std::ptr::null(), 0, pointer))?;
    ensure!(kinds(&gpu, first)? == [MEM_ALLOC, MEM_FREE], "a refused node was added");
    ensure!(kinds(&gpu, second)?.is_empty(), "a refused node was added to the other graph");
    pass()
}

fn graphs_with_memory_stay_whole() -> CaseResult {
    let gpu = Gpu::new()?;
    let (graph, node, pointer) = some!(allocating(&gpu)?);
    let set = add_memset(&gpu, graph, &[node], pointer, 16)?;
    let outer = some!(super::graphs::graph(&gpu)?);
    let (mut clone, mut child) = (0, 0);
    refused(gpu.cu.cuGraphClone(&mut clone, graph))?;
    refused(gpu.cu.cuGraphAddChildGraphNode(&mut child, outer, std::ptr::null(), 0, graph))?;
    refused(gpu.cu.cuGraphDestroyNode(set))?;
    refused(gpu.cu.cuGraphDestroyNode(node))?;
    refused(gpu.cu.cuGraphRemoveDependencies_v2(graph, &node, &set, std::ptr::null(), 1))?;
    ensure!(kinds(&gpu, graph)? == [2, MEM_ALLOC], "{:?}", kinds(&gpu, graph)?);
    ensure!(kinds(&gpu, outer)?.is_empty(), "a refused child was added");
    pass()
}

fn one_executable_graph_at_a_time() -> CaseResult {
    let gpu = Gpu::new()?;
    let (graph, node, pointer) = some!(allocating(&gpu)?);
    add_free(&gpu, graph, &[node], pointer)?;
    let (first, mut second) = (instantiated(&gpu, graph)?, 0);
    refused(gpu.cu.cuGraphInstantiateWithFlags(&mut second, graph, 0))?;
    run(&gpu, first)?;
    gpu.cu.cuGraphExecDestroy(first).ok()?;
    run(&gpu, instantiated(&gpu, graph)?)?;
    pass()
}

fn memory_nodes_cannot_be_changed() -> CaseResult {
    let gpu = Gpu::new()?;
    let (graph, node, pointer) = some!(allocating(&gpu)?);
    let free = add_free(&gpu, graph, &[node], pointer)?;
    let exec = instantiated(&gpu, graph)?;
    let mut freeing = any(MEM_FREE);
    freeing.arm[0] = pointer;
    for (node, mut params) in [(node, any_allocation()), (free, freeing)] {
        refused(gpu.cu.cuGraphNodeSetParams(node, &mut params))?;
        refused(gpu.cu.cuGraphExecNodeSetParams(exec, node, &mut params))?;
    }
    run(&gpu, exec)?;
    pass()
}

fn bad_allocations_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let mut node = 0;
    let mut refuse = |mut params: AllocationNode| {
        let code = gpu.cu.cuGraphAddMemAllocNode(&mut node, graph, std::ptr::null(), 0, &mut params);
        code.is_one_of(&[Code::INVALID_VALUE, Code::INVALID_DEVICE, Code::NOT_SUPPORTED])
    };
    let plain = allocation(BYTES);
    let shareable = PoolProperties { handle_types: 1, ..plain.properties };
    refuse(AllocationNode { properties: shareable, ..plain })?;
    let elsewhere = PoolProperties { location: MemoryLocation { kind: 1, id: 1000 }, ..plain.properties };
    refuse(AllocationNode { properties: elsewhere, ..plain })?;
    let access = MemoryAccess { location: MemoryLocation { kind: 1, id: 1000 }, flags: 3 };
    refuse(AllocationNode { access: &raw const access, access_count: 1, ..plain })?;
    let null = std::ptr::null_mut();
    gpu.cu.cuGraphAddMemAllocNode(&mut node, graph, std::ptr::null(), 0, null).is(Code::INVALID_VALUE)?;
    ensure!(kinds(&gpu, graph)?.is_empty(), "a refused node was added");
    pass()
}

fn a_capture_frees_only_what_graphs_allocate() -> CaseResult {
    let gpu = Gpu::new()?;
    let (stream, mut pointer) = (gpu.stream(1)?, 0);
    gpu.cu.cuMemAllocAsync(&mut pointer, BYTES, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    match gpu.cu.cuStreamBeginCapture_v2(stream, 0) {
        Code::NOT_SUPPORTED => return skip("capture is not supported yet"),
        code => code.ok()?,
    }
    let code = gpu.cu.cuMemFreeAsync(pointer, stream);
    ensure!(code != Code::SUCCESS, "memory of a pool was freed in a capture");
    let mut graph = 0;
    let _ends_however_it_may = gpu.cu.cuStreamEndCapture(stream, &mut graph);
    // It is still there.
    gpu.cu.cuMemsetD32Async(pointer, 17, 4, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(gpu.read::<u32>(pointer, 4)? == [17; 4], "{:?}", gpu.read::<u32>(pointer, 4)?);
    gpu.cu.cuMemFreeAsync(pointer, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    pass()
}

fn use_is_counted() -> CaseResult {
    const USED: u32 = 0;
    const USED_HIGH: u32 = 1;
    const RESERVED: u32 = 2;
    const RESERVED_HIGH: u32 = 3;
    let gpu = Gpu::new()?;
    let ask = |attribute| -> Result<u64> {
        let mut value = 0u64;
        gpu.cu.cuDeviceGetGraphMemAttribute(gpu.device, attribute, (&raw mut value).cast()).ok()?;
        Ok(value)
    };
    let set = |attribute, mut value: u64| {
        gpu.cu.cuDeviceSetGraphMemAttribute(gpu.device, attribute, (&raw mut value).cast())
    };
    let (graph, _, pointer) = some!(allocating(&gpu)?);
    let exec = instantiated(&gpu, graph)?;
    run(&gpu, exec)?;
    let used = ask(USED)?;
    ensure!(used >= BYTES as u64 && ask(USED_HIGH)? >= used, "{used} bytes are used");
    ensure!(ask(RESERVED)? >= used && ask(RESERVED_HIGH)? >= used, "less is reserved than used");
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    let reserved = ask(RESERVED)?;
    gpu.cu.cuDeviceGraphMemTrim(gpu.device).ok()?;
    ensure!(ask(RESERVED)? <= reserved, "trimming has reserved memory");
    ensure!(ask(USED_HIGH)? >= used, "the highest mark has fallen by itself");
    for attribute in [USED_HIGH, RESERVED_HIGH] {
        set(attribute, 0).ok()?;
    }
    ensure!(ask(USED_HIGH)? < used, "the highest mark was reset");
    gpu.cu.cuDeviceGraphMemTrim(1000).is(Code::INVALID_DEVICE)?;
    let mut value = 0u64;
    gpu.cu.cuDeviceGetGraphMemAttribute(1000, USED, (&raw mut value).cast()).is(Code::INVALID_DEVICE)?;
    pass()
}

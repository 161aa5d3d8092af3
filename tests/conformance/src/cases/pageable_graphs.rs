//! Graphs that copy from and to memory of the program that is neither pinned nor from its heap: stack and variables.
//!
//! This file has unsafe code: the driver calls back.

use std::ffi::c_void;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use cudarc::driver::sys;

use crate::driver::Handle;
use crate::gpu::{Gpu, arguments, shape};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::captures::{captured, instantiated, some};
use super::graphs::graph;
use super::kernels;

area!("pageable_graphs":
    a_variable_on_the_stack_is_written_at_each_launch,
    a_variable_on_the_stack_is_read_at_each_launch,
    a_static_variable_is_read_and_written,
    a_graph_reads_what_it_wrote,
    a_node_tells_the_programs_own_address,
    an_executable_graph_gets_another_target,
    memory_of_an_earlier_graph_is_left_alone,
);

fn launched(gpu: &Gpu, exec: Handle, stream: Handle) -> Result<()> {
    gpu.cu.cuGraphLaunch(exec, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()
}

fn a_variable_on_the_stack_is_written_at_each_launch() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let (stream, word) = (gpu.stream(1)?, gpu.upload(&[1u32])?);
    let result = AtomicU32::new(77);
    let graph = some!(captured(&gpu, stream, 0, || {
        gpu.launch_on(stream, step, shape(1, 1), arguments![word, 2u32, 1u32]).ok()?;
        gpu.cu.cuMemcpyDtoHAsync_v2(result.as_ptr().cast(), word, 4, stream).ok()
    })?);
    let mut nodes = 0;
    gpu.cu.cuGraphGetNodes(graph, std::ptr::null_mut(), &mut nodes).ok()?;
    ensure!(nodes == 2, "the graph has {nodes} nodes");
    ensure!(result.load(Ordering::SeqCst) == 77, "a capture copies");
    let exec = instantiated(&gpu, graph)?;
    for expected in [3u32, 7, 15] {
        launched(&gpu, exec, stream)?;
        ensure!(result.load(Ordering::SeqCst) == expected, "{result:?} instead of {expected}");
    }
    for _ in 0..5 {
        result.store(0, Ordering::SeqCst);
        gpu.cu.cuGraphLaunch(exec, stream).ok()?;
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(result.load(Ordering::SeqCst) == 511, "after five launches it is {result:?}");
    gpu.cu.cuGraphExecDestroy(exec).ok()?;
    gpu.cu.cuGraphDestroy(graph).ok()?;
    pass()
}

fn a_variable_on_the_stack_is_read_at_each_launch() -> CaseResult {
    let gpu = Gpu::new()?;
    let (stream, word) = (gpu.stream(1)?, gpu.upload(&[0u32; 100])?);
    let mut source = [1u32; 100];
    let graph = some!(captured(&gpu, stream, 0, || {
        gpu.cu.cuMemcpyHtoDAsync_v2(word, black_box(&mut source).as_mut_ptr().cast(), 400, stream).ok()
    })?);
    let exec = instantiated(&gpu, graph)?;
    for value in [2u32, 3, 4] {
        black_box(&mut source)[99] = value;
        launched(&gpu, exec, stream)?;
        let found = gpu.read::<u32>(word, 100)?;
        ensure!(found[98..] == [1, value], "{:?} after {value}", &found[98..]);
    }
    pass()
}

static STATIC: [AtomicU32; 3] = [const { AtomicU32::new(5) }; 3];

fn a_static_variable_is_read_and_written() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let (stream, word) = (gpu.stream(1)?, gpu.upload(&[0u32])?);
    let graph = some!(captured(&gpu, stream, 0, || {
        gpu.cu.cuMemcpyHtoDAsync_v2(word, STATIC[0].as_ptr().cast(), 4, stream).ok()?;
        gpu.launch_on(stream, step, shape(1, 1), arguments![word, 2u32, 1u32]).ok()?;
        gpu.cu.cuMemcpyDtoHAsync_v2(STATIC[1].as_ptr().cast(), word, 4, stream).ok()
    })?);
    let exec = instantiated(&gpu, graph)?;
    for value in [10u32, 20, 30] {
        STATIC[0].store(value, Ordering::SeqCst);
        launched(&gpu, exec, stream)?;
        let found = STATIC.each_ref().map(|word| word.load(Ordering::SeqCst));
        ensure!(found == [value, 2 * value + 1, 5], "{found:?} after {value}");
    }
    pass()
}

fn a_graph_reads_what_it_wrote() -> CaseResult {
    let gpu = Gpu::new()?;
    let (stream, first, second) = (gpu.stream(1)?, gpu.upload(&[1u32; 64])?, gpu.upload(&[0u32; 64])?);
    let between = [const { AtomicU32::new(9) }; 64];
    let graph = some!(captured(&gpu, stream, 0, || {
        // A part is written, and the whole is read.
        let part = between[16].as_ptr().cast();
        gpu.cu.cuMemcpyDtoHAsync_v2(part, first, 64, stream).ok()?;
        gpu.cu.cuMemcpyHtoDAsync_v2(second, between[0].as_ptr().cast(), 256, stream).ok()
    })?);
    let exec = instantiated(&gpu, graph)?;
    for value in [3u32, 4] {
        gpu.write(first, &[value; 64])?;
        launched(&gpu, exec, stream)?;
        let found = gpu.read::<u32>(second, 64)?;
        let expected: Vec<u32> =
            (0..64).map(|index| if (16..32).contains(&index) { value } else { 9 }).collect();
        ensure!(found == expected, "{found:?} after {value}");
        let host: Vec<u32> = between.iter().map(|word| word.load(Ordering::SeqCst)).collect();
        ensure!(host == expected, "the host has {host:?} after {value}");
    }
    pass()
}

/// A copy of `bytes` bytes from the device to the host.
fn download(to: *mut c_void, from: u64, bytes: usize) -> sys::CUDA_MEMCPY3D_st {
    let mut copy = super::boxes::plain_3d();
    copy.srcMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = from;
    copy.dstMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_HOST;
    copy.dstHost = to;
    (copy.WidthInBytes, copy.Height, copy.Depth) = (bytes, 1, 1);
    copy
}

fn a_node_tells_the_programs_own_address() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let (stream, word) = (gpu.stream(1)?, gpu.upload(&[4u32, 6])?);
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(0));
    let mut node = 0;
    let copy = download(first.as_ptr().cast(), word, 4);
    gpu.cu.cuGraphAddMemcpyNode(&mut node, graph, std::ptr::null(), 0, &copy, gpu.context).ok()?;
    let mut found = super::boxes::plain_3d();
    gpu.cu.cuGraphMemcpyNodeGetParams(node, &mut found).ok()?;
    ensure!(found.dstHost == first.as_ptr().cast(), "it tells {:?} of {:?}", found.dstHost, first.as_ptr());
    launched(&gpu, instantiated(&gpu, graph)?, stream)?;
    ensure!(first.load(Ordering::SeqCst) == 4, "{first:?}");
    let copy = download(second.as_ptr().cast(), word + 4, 4);
    gpu.cu.cuGraphMemcpyNodeSetParams(node, &copy).ok()?;
    gpu.cu.cuGraphMemcpyNodeGetParams(node, &mut found).ok()?;
    ensure!(found.dstHost == second.as_ptr().cast(), "it tells {:?} after the change", found.dstHost);
    launched(&gpu, instantiated(&gpu, graph)?, stream)?;
    let both = (first.load(Ordering::SeqCst), second.load(Ordering::SeqCst));
    ensure!(both == (4, 6), "{both:?}");
    let source = gpu.upload(&[8u32])?;
    let captured = some!(captured(&gpu, stream, 0, || {
        gpu.cu.cuMemcpyDtoHAsync_v2(first.as_ptr().cast(), source, 4, stream).ok()
    })?);
    let mut count = 1;
    gpu.cu.cuGraphGetNodes(captured, &mut node, &mut count).ok()?;
    gpu.cu.cuGraphMemcpyNodeGetParams(node, &mut found).ok()?;
    let own = first.as_ptr().expose_provenance();
    let told = [found.dstHost.expose_provenance(), usize::try_from(found.dstDevice)?];
    ensure!(told.contains(&own), "a captured node tells {told:x?} of {own:x}");
    pass()
}

fn an_executable_graph_gets_another_target() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let (stream, word) = (gpu.stream(1)?, gpu.upload(&[4u32])?);
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(0));
    let mut node = 0;
    let copy = download(first.as_ptr().cast(), word, 4);
    gpu.cu.cuGraphAddMemcpyNode(&mut node, graph, std::ptr::null(), 0, &copy, gpu.context).ok()?;
    let exec = instantiated(&gpu, graph)?;
    let copy = download(second.as_ptr().cast(), word, 4);
    gpu.cu.cuGraphExecMemcpyNodeSetParams(exec, node, &copy, gpu.context).ok()?;
    launched(&gpu, exec, stream)?;
    let both = (first.load(Ordering::SeqCst), second.load(Ordering::SeqCst));
    ensure!(both == (0, 4), "{both:?}");
    pass()
}

#[inline(never)]
fn in_a_frame_of_its_own(gpu: &Gpu, stream: Handle, word: u64) -> Result<Option<Handle>> {
    let inner = AtomicU32::new(0);
    let graph = captured(gpu, stream, 0, || {
        gpu.cu.cuMemcpyDtoHAsync_v2(inner.as_ptr().cast(), word, 4, stream).ok()
    })?;
    let Some(graph) = graph else { return Ok(None) };
    let exec = instantiated(gpu, graph)?;
    launched(gpu, exec, stream)?;
    ensure!(inner.load(Ordering::SeqCst) == 4, "{inner:?}");
    Ok(Some(exec))
}

/// Uses the frame of the function before.
#[inline(never)]
fn over_the_same_stack(gpu: &Gpu, exec: Handle, stream: Handle) -> Result<()> {
    let frame = [const { AtomicU32::new(0) }; 256];
    for round in 0..3u32 {
        frame.iter().for_each(|word| word.store(round + 100, Ordering::SeqCst));
        launched(gpu, exec, stream)?;
        let same = frame.iter().all(|word| word.load(Ordering::SeqCst) == round + 100);
        ensure!(same, "round {round}: a graph that names other memory changed this");
    }
    Ok(())
}

fn memory_of_an_earlier_graph_is_left_alone() -> CaseResult {
    let gpu = Gpu::new()?;
    let (stream, word) = (gpu.stream(1)?, gpu.upload(&[4u32])?);
    let _kept = some!(in_a_frame_of_its_own(&gpu, stream, word)?);
    let other = AtomicU32::new(0);
    let graph = some!(captured(&gpu, stream, 0, || {
        gpu.cu.cuMemcpyDtoHAsync_v2(other.as_ptr().cast(), word, 4, stream).ok()
    })?);
    over_the_same_stack(&gpu, instantiated(&gpu, graph)?, stream)?;
    ensure!(other.load(Ordering::SeqCst) == 4, "{other:?}");
    pass()
}

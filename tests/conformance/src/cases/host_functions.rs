//! Functions of the program that a stream runs: host functions and callbacks.
//!
//! This file has unsafe code: the driver calls back.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle, HostNode, UpdateInfo};
use crate::gpu::{Gpu, arguments, host, shape};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::captures::{captured, instantiated, some};
use super::{graphs, kernels};

area!("host_functions":
    host_functions_run_in_order,
    the_stream_waits_for_a_host_function,
    callbacks_see_their_stream,
    an_executable_graph_keeps_its_functions,
    a_clone_keeps_its_functions,
    the_function_of_a_node_is_changed,
);

/// What host functions append to.
static DIARY: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Notes its argument.
unsafe extern "C" fn note(data: *mut c_void) {
    if let Ok(mut diary) = DIARY.lock() {
        diary.push(data.addr());
    }
}

fn host_functions_run_in_order() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    for index in 0..100 {
        let code = gpu.cu.cuLaunchHostFunc(stream, note, std::ptr::without_provenance_mut(index));
        if code == Code::NOT_SUPPORTED {
            return skip("host functions are not supported yet");
        }
        code.ok()?;
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let diary = DIARY.lock().map(|diary| diary.clone()).unwrap_or_default();
    ensure!(diary == (0..100).collect::<Vec<_>>(), "the host functions ran as {diary:?}");
    pass()
}

/// Opens the gate's flag and notes what the device had stored before.
unsafe extern "C" fn set_flag(data: *mut c_void) {
    // SAFETY: the case passes its pinned word, which lives until the stream is synchronised.
    let word = unsafe { AtomicU32::from_ptr(data.cast()) };
    word.fetch_add(1000, Ordering::SeqCst);
}

fn the_stream_waits_for_a_host_function() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let stream = gpu.stream(1)?;
    let word = gpu.pinned(4, 2)?.cast::<u32>();
    let address = u64::try_from(word.expose_provenance())?;
    let mut expected = 0u32;
    for _ in 0..20 {
        gpu.launch_on(stream, step, shape(1, 1), arguments![address, 2u32, 1u32]).ok()?;
        let code = gpu.cu.cuLaunchHostFunc(stream, set_flag, word.cast());
        if code == Code::NOT_SUPPORTED {
            return skip("host functions are not supported yet");
        }
        code.ok()?;
        expected = expected.wrapping_mul(2).wrapping_add(1001);
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(host(word, 1) == [expected], "{:?} instead of {expected}", host(word, 1));
    pass()
}

/// Notes the stream and the status.
unsafe extern "C" fn note_stream(stream: Handle, status: i32, data: *mut c_void) {
    if let Ok(mut diary) = DIARY.lock() {
        diary.extend([stream, usize::try_from(status).unwrap_or(usize::MAX), data.addr()]);
    }
}

fn callbacks_see_their_stream() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let data = std::ptr::without_provenance_mut(4711);
    let code = gpu.cu.cuStreamAddCallback(stream, note_stream, data, 0);
    if code == Code::NOT_SUPPORTED {
        return skip("callbacks are not supported yet");
    }
    code.ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let diary = DIARY.lock().map(|diary| diary.clone()).unwrap_or_default();
    ensure!(diary == [stream, 0, 4711], "the callback saw {diary:x?} of stream {stream:#x}");
    gpu.cu.cuStreamAddCallback(stream, note_stream, data, 1).is(Code::INVALID_VALUE)?;
    pass()
}

fn diary() -> Vec<usize> {
    DIARY.lock().map(|diary| diary.clone()).unwrap_or_default()
}

/// A captured graph that notes a number.
fn noting(gpu: &Gpu, stream: Handle, number: usize) -> Result<Option<Handle>> {
    captured(gpu, stream, 1, || {
        gpu.cu.cuLaunchHostFunc(stream, note, std::ptr::without_provenance_mut(number)).ok()
    })
}

fn an_executable_graph_keeps_its_functions() -> CaseResult {
    let gpu = Gpu::new()?;
    let (stream, mut exec) = (gpu.stream(1)?, 0);
    for number in 0..100 {
        let graph = some!(noting(&gpu, stream, number / 2)?);
        if exec == 0 {
            exec = instantiated(&gpu, graph)?;
        } else {
            gpu.cu.cuGraphExecUpdate_v2(exec, graph, &mut UpdateInfo::empty()).ok()?;
        }
        // The executable graph runs what it was made of, and what it was updated to.
        gpu.cu.cuGraphDestroy(graph).ok()?;
        for _ in 0..2 {
            gpu.cu.cuGraphLaunch(exec, stream).ok()?;
        }
    }
    gpu.cu.cuGraphExecDestroy(exec).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let expected: Vec<usize> = (0..200).map(|launch| launch / 4).collect();
    ensure!(diary() == expected, "{:?}", diary());
    pass()
}

fn a_clone_keeps_its_functions() -> CaseResult {
    let gpu = Gpu::new()?;
    let (stream, mut clone) = (gpu.stream(1)?, 0);
    let graph = some!(noting(&gpu, stream, 5)?);
    gpu.cu.cuGraphClone(&mut clone, graph).ok()?;
    gpu.cu.cuGraphDestroy(graph).ok()?;
    let outer = some!(graphs::graph(&gpu)?);
    let mut child = 0;
    gpu.cu.cuGraphAddChildGraphNode(&mut child, outer, std::ptr::null(), 0, clone).ok()?;
    let exec = instantiated(&gpu, clone)?;
    gpu.cu.cuGraphDestroy(clone).ok()?;
    graphs::run(&gpu, exec)?;
    gpu.cu.cuGraphExecDestroy(exec).ok()?;
    let exec = instantiated(&gpu, outer)?;
    gpu.cu.cuGraphDestroy(outer).ok()?;
    graphs::run(&gpu, exec)?;
    ensure!(diary() == [5, 5], "{:?}", diary());
    pass()
}

fn the_function_of_a_node_is_changed() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graphs::graph(&gpu)?);
    let params = |number| HostNode { function: Some(note), data: std::ptr::without_provenance_mut(number) };
    let mut node = 0;
    gpu.cu.cuGraphAddHostNode(&mut node, graph, std::ptr::null(), 0, &params(1)).ok()?;
    let first = instantiated(&gpu, graph)?;
    gpu.cu.cuGraphHostNodeSetParams(node, &params(2)).ok()?;
    let second = instantiated(&gpu, graph)?;
    let third = instantiated(&gpu, graph)?;
    gpu.cu.cuGraphExecHostNodeSetParams(third, node, &params(3)).ok()?;
    let mut found = params(0);
    gpu.cu.cuGraphHostNodeGetParams(node, &mut found).ok()?;
    ensure!(found.data.addr() == 2, "{found:?}");
    gpu.cu.cuGraphDestroy(graph).ok()?;
    for exec in [first, second, third, third, second, first] {
        graphs::run(&gpu, exec)?;
    }
    ensure!(diary() == [1, 2, 3, 3, 2, 1], "{:?}", diary());
    pass()
}

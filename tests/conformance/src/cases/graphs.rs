//! Graphs that are built node by node, and what can be done with graphs.

use std::ffi::{CString, c_void};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::driver::{Code, Handle, HostNode, KernelNode, MemsetNode, UpdateInfo};
use crate::gpu::{Argument, Gpu, arguments, host, shape};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::captures::{captured, instantiated, some};
use super::kernels;

area!("graphs":
    nodes_run_in_the_order_of_their_edges,
    an_executable_graph_takes_over_a_changed_one,
    another_shape_is_not_taken_over,
    a_clone_outlives_its_original,
    a_child_graph_is_a_part,
    host_nodes_run_in_order,
    events_are_recorded_and_waited_for,
    user_objects_end_with_their_last_graph,
    a_description_is_written,
    a_thousand_launches_in_order,
);

/// Parameters of a kernel, and the pointers to them.
pub(super) struct Parameters {
    _values: Vec<Argument>,
    pointers: Vec<*mut c_void>,
}

impl Parameters {
    pub(super) fn new(values: &[Argument]) -> Self {
        let mut values = values.to_vec();
        let pointers = values.iter_mut().map(Argument::pointer).collect();
        Self { _values: values, pointers }
    }

    /// A node of one thread.
    pub(super) fn node(&mut self, function: Handle) -> KernelNode {
        KernelNode {
            function,
            grid: [1; 3],
            block: [1; 3],
            shared: 0,
            parameters: self.pointers.as_mut_ptr(),
            extra: std::ptr::null_mut(),
            kernel: 0,
            context: 0,
        }
    }
}

pub(super) fn graph(gpu: &Gpu) -> Result<Option<Handle>> {
    let mut graph = 0;
    match gpu.cu.cuGraphCreate(&mut graph, 0) {
        Code::NOT_SUPPORTED => Ok(None),
        code => code.ok().map(|()| Some(graph)),
    }
}

pub(super) fn add_kernel(
    gpu: &Gpu,
    graph: Handle,
    after: &[Handle],
    function: Handle,
    values: &[Argument],
) -> Result<Handle> {
    let mut node = 0;
    let params = Parameters::new(values).pinned(function);
    gpu.cu.cuGraphAddKernelNode_v2(&mut node, graph, after.as_ptr(), after.len(), &params.1).ok()?;
    ensure!(node != 0, "a new node is a null handle");
    Ok(node)
}

impl Parameters {
    /// The node with what it points to.
    fn pinned(mut self, function: Handle) -> (Self, KernelNode) {
        let node = self.node(function);
        (self, node)
    }
}

pub(super) fn add_memset(
    gpu: &Gpu,
    graph: Handle,
    after: &[Handle],
    target: u64,
    value: u32,
) -> Result<Handle> {
    let mut node = 0;
    let params = MemsetNode { target, pitch: 0, value, element: 4, width: 1, height: 1 };
    gpu.cu.cuGraphAddMemsetNode(&mut node, graph, after.as_ptr(), after.len(), &params, gpu.context).ok()?;
    Ok(node)
}

pub(super) fn run(gpu: &Gpu, exec: Handle) -> Result<()> {
    gpu.cu.cuGraphLaunch(exec, 0).ok()?;
    gpu.cu.cuStreamSynchronize(0).ok()
}

fn nodes_run_in_the_order_of_their_edges() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let graph = some!(graph(&gpu)?);
    let words = gpu.upload(&[9u32, 9])?;
    let set = add_memset(&gpu, graph, &[], words, 4)?;
    let first = add_kernel(&gpu, graph, &[set], step, arguments![words, 3u32, 1u32])?;
    let second = add_kernel(&gpu, graph, &[first], step, arguments![words, 10u32, 0u32])?;
    let mut last = 0;
    gpu.cu.cuGraphAddEmptyNode(&mut last, graph, [second, set].as_ptr(), 2).ok()?;
    let exec = instantiated(&gpu, graph)?;
    for _ in 0..3 {
        run(&gpu, exec)?;
        ensure!(gpu.read::<u32>(words, 2)? == [130, 9], "{:?}", gpu.read::<u32>(words, 2)?);
    }
    let mut kind = -1;
    for (node, expected) in [(set, 2), (first, 0), (last, 5)] {
        gpu.cu.cuGraphNodeGetType(node, &mut kind).ok()?;
        ensure!(kind == expected, "the node's type is {kind} instead of {expected}");
    }
    pass()
}

fn an_executable_graph_takes_over_a_changed_one() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let (stream, word) = (gpu.stream(1)?, gpu.upload(&[0u32])?);
    let mut exec = 0;
    for value in 1..20u32 {
        let graph = some!(captured(&gpu, stream, 1, || {
            gpu.launch_on(stream, step, shape(1, 1), arguments![word, 0u32, value]).ok()?;
            gpu.launch_on(stream, step, shape(1, 1), arguments![word, 2u32, 1u32]).ok()
        })?);
        if exec == 0 {
            exec = instantiated(&gpu, graph)?;
        } else {
            let mut info = UpdateInfo::empty();
            gpu.cu.cuGraphExecUpdate_v2(exec, graph, &mut info).ok()?;
            ensure!(info.result == 0, "the update's result is {}", info.result);
        }
        gpu.cu.cuGraphDestroy(graph).ok()?;
        gpu.cu.cuGraphLaunch(exec, stream).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        ensure!(gpu.read::<u32>(word, 1)? == [value * 2 + 1], "after update {value}");
    }
    pass()
}

fn another_shape_is_not_taken_over() -> CaseResult {
    let gpu = Gpu::new()?;
    let words = gpu.upload(&[0u32, 0])?;
    let small = some!(graph(&gpu)?);
    add_memset(&gpu, small, &[], words, 1)?;
    let large = some!(graph(&gpu)?);
    let first = add_memset(&gpu, large, &[], words, 2)?;
    add_memset(&gpu, large, &[first], words + 4, 3)?;
    let exec = instantiated(&gpu, small)?;
    let mut info = UpdateInfo::empty();
    gpu.cu.cuGraphExecUpdate_v2(exec, large, &mut info).is(Code(910))?;
    ensure!(info.result == 2, "the update's result is {}", info.result);
    run(&gpu, exec)?;
    ensure!(gpu.read::<u32>(words, 2)? == [1, 0], "the executable graph has changed");
    pass()
}

fn a_clone_outlives_its_original() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let word = gpu.upload(&[0u32])?;
    let node = add_memset(&gpu, graph, &[], word, 6)?;
    let (mut clone, mut twin) = (0, 0);
    gpu.cu.cuGraphClone(&mut clone, graph).ok()?;
    gpu.cu.cuGraphNodeFindInClone(&mut twin, node, clone).ok()?;
    ensure!(clone != graph && twin != node && twin != 0, "{clone:#x} {twin:#x}");
    gpu.cu.cuGraphDestroy(graph).ok()?;
    let (mut kind, mut count, mut listed) = (-1, 1, 0);
    gpu.cu.cuGraphNodeGetType(twin, &mut kind).ok()?;
    gpu.cu.cuGraphGetNodes(clone, &mut listed, &mut count).ok()?;
    ensure!(kind == 2 && listed == twin, "{kind} {listed:#x}");
    let exec = instantiated(&gpu, clone)?;
    gpu.cu.cuGraphDestroy(clone).ok()?;
    run(&gpu, exec)?;
    ensure!(gpu.read::<u32>(word, 1)? == [6], "the clone did not run");
    pass()
}

fn a_child_graph_is_a_part() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let (outer, inner) = (some!(graph(&gpu)?), some!(graph(&gpu)?));
    let word = gpu.upload(&[0u32])?;
    add_kernel(&gpu, inner, &[], step, arguments![word, 3u32, 0u32])?;
    let set = add_memset(&gpu, outer, &[], word, 2)?;
    let (mut child, mut own) = (0, 0);
    gpu.cu.cuGraphAddChildGraphNode(&mut child, outer, &set, 1, inner).ok()?;
    gpu.cu.cuGraphDestroy(inner).ok()?;
    gpu.cu.cuGraphChildGraphNodeGetGraph(child, &mut own).ok()?;
    let mut count = 0;
    gpu.cu.cuGraphGetNodes(own, std::ptr::null_mut(), &mut count).ok()?;
    ensure!(own != inner && count == 1, "the child graph has {count} nodes");
    add_kernel(&gpu, outer, &[child], step, arguments![word, 1u32, 1u32])?;
    let exec = instantiated(&gpu, outer)?;
    run(&gpu, exec)?;
    ensure!(gpu.read::<u32>(word, 1)? == [7], "{:?}", gpu.read::<u32>(word, 1)?);
    pass()
}

/// What host nodes append to.
static DIARY: Mutex<Vec<usize>> = Mutex::new(Vec::new());

unsafe extern "C" fn note(data: *mut c_void) {
    if let Ok(mut diary) = DIARY.lock() {
        diary.push(data.addr());
    }
}

pub(super) fn add_host(gpu: &Gpu, graph: Handle, after: &[Handle], number: usize) -> Result<Handle> {
    let mut node = 0;
    let params = HostNode { function: Some(note), data: std::ptr::without_provenance_mut(number) };
    gpu.cu.cuGraphAddHostNode(&mut node, graph, after.as_ptr(), after.len(), &params).ok()?;
    Ok(node)
}

fn host_nodes_run_in_order() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let mut last = add_host(&gpu, graph, &[], 0)?;
    for number in 1..20 {
        last = add_host(&gpu, graph, &[last], number)?;
    }
    let exec = instantiated(&gpu, graph)?;
    run(&gpu, exec)?;
    run(&gpu, exec)?;
    let diary = DIARY.lock().map(|diary| diary.clone()).unwrap_or_default();
    ensure!(diary == (0..20).chain(0..20).collect::<Vec<_>>(), "{diary:?}");
    pass()
}

fn events_are_recorded_and_waited_for() -> CaseResult {
    let gpu = Gpu::new()?;
    let (recording, waiting) = (some!(graph(&gpu)?), some!(graph(&gpu)?));
    let (event, words) = (gpu.event(0)?, gpu.upload(&[0u32, 0])?);
    let set = add_memset(&gpu, recording, &[], words, 8)?;
    let (mut record, mut wait, mut found) = (0, 0, 0);
    gpu.cu.cuGraphAddEventRecordNode(&mut record, recording, &set, 1, event).ok()?;
    gpu.cu.cuGraphEventRecordNodeGetEvent(record, &mut found).ok()?;
    ensure!(found == event, "{found:#x} instead of {event:#x}");
    gpu.cu.cuGraphAddEventWaitNode(&mut wait, waiting, std::ptr::null(), 0, event).ok()?;
    add_memset(&gpu, waiting, &[wait], words + 4, 9)?;
    let (first, second) = (gpu.stream(1)?, gpu.stream(1)?);
    let (recording, waiting) = (instantiated(&gpu, recording)?, instantiated(&gpu, waiting)?);
    gpu.cu.cuGraphLaunch(recording, first).ok()?;
    gpu.cu.cuGraphLaunch(waiting, second).ok()?;
    gpu.cu.cuStreamSynchronize(second).ok()?;
    gpu.cu.cuEventQuery(event).ok()?;
    ensure!(gpu.read::<u32>(words, 2)? == [8, 9], "{:?}", gpu.read::<u32>(words, 2)?);
    pass()
}

/// Objects that have ended.
static ENDED: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());

unsafe extern "C" fn ended(_: *mut c_void) {
    if let Ok(mut count) = ENDED.0.lock() {
        *count += 1;
        ENDED.1.notify_all();
    }
}

fn user_objects_end_with_their_last_graph() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let word = gpu.upload(&[0u32])?;
    add_memset(&gpu, graph, &[], word, 1)?;
    let mut object = 0;
    gpu.cu.cuUserObjectCreate(&mut object, std::ptr::null_mut(), ended, 1, 0).is(Code::INVALID_VALUE)?;
    gpu.cu.cuUserObjectCreate(&mut object, std::ptr::null_mut(), ended, 1, 1).ok()?;
    gpu.cu.cuGraphRetainUserObject(graph, object, 1, 1).ok()?;
    let exec = instantiated(&gpu, graph)?;
    gpu.cu.cuGraphDestroy(graph).ok()?;
    run(&gpu, exec)?;
    let count = ENDED.0.lock().map(|count| *count);
    ensure!(matches!(count, Ok(0)), "the object ended before its graph");
    gpu.cu.cuGraphExecDestroy(exec).ok()?;
    // The destructor runs some time later, in a thread of the driver's.
    let count = ENDED.0.lock().map_err(|_| anyhow!("a destructor panicked"))?;
    let waited = ENDED.1.wait_timeout_while(count, Duration::from_secs(10), |count| *count == 0);
    let (count, _) = waited.map_err(|_| anyhow!("a destructor panicked"))?;
    ensure!(*count == 1, "{} objects ended", *count);
    drop(count);
    pass()
}

fn a_description_is_written() -> CaseResult {
    let gpu = Gpu::new()?;
    let graph = some!(graph(&gpu)?);
    let word = gpu.upload(&[0u32])?;
    add_memset(&gpu, graph, &[], word, 1)?;
    let path = std::env::temp_dir().join(format!("conformance-graph-{}.dot", std::process::id()));
    let name = CString::new(path.to_string_lossy().as_bytes())?;
    gpu.cu.cuGraphDebugDotPrint(graph, name.as_ptr(), 0).ok()?;
    let text = std::fs::read_to_string(&path).context("the description")?;
    std::fs::remove_file(&path)?;
    ensure!(text.contains("digraph") && text.to_uppercase().contains("MEMSET"), "{text}");
    pass()
}

fn a_thousand_launches_in_order() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let graph = some!(graph(&gpu)?);
    let word = gpu.pinned(4, 2)?.cast::<u32>();
    let address = u64::try_from(word.expose_provenance())?;
    add_kernel(&gpu, graph, &[], step, arguments![address, 3u32, 1u32])?;
    let (exec, stream) = (instantiated(&gpu, graph)?, gpu.stream(1)?);
    gpu.cu.cuGraphUpload(exec, stream).ok()?;
    let mut expected = 0u32;
    for _ in 0..1000 {
        gpu.cu.cuGraphLaunch(exec, stream).ok()?;
        gpu.launch_on(stream, step, shape(1, 1), arguments![address, 5u32, 2u32]).ok()?;
        expected = expected.wrapping_mul(3).wrapping_add(1).wrapping_mul(5).wrapping_add(2);
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(host(word, 1) == [expected], "{:?} instead of {expected}", host(word, 1));
    pass()
}

//! Streams: order, independence, the default streams, priorities.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, arguments, host, shape};
use crate::outcome::{CaseResult, pass};
use crate::probe::Probe;
use crate::registry::area;

use super::gate::Gate;
use super::kernels;

area!("streams":
    work_of_one_stream_keeps_its_order,
    a_busy_stream_is_not_ready,
    other_streams_do_not_wait,
    the_legacy_stream_waits_for_blocking_streams,
    blocking_streams_wait_for_the_legacy_stream,
    non_blocking_streams_do_not_wait_for_the_legacy_stream,
    reserved_handles_name_the_default_streams,
    per_thread_streams_are_independent,
    per_thread_entry_points_mean_the_threads_stream,
    an_event_orders_two_streams,
    a_ring_of_streams_and_events,
    an_unrecorded_event_does_not_block,
    flags_are_kept,
    bad_flags_are_refused,
    priorities_are_kept_and_clamped,
    the_context_of_a_stream,
    ids_are_unique,
    what_a_stream_is_made_with_goes_with_it,
    many_streams,
    destroy_lets_the_work_finish,
    destroyed_streams_are_refused,
    synchronize_waits,
    waiting_again_waits_for_what_came_since,
    a_copy_within_the_host_is_no_wait,
    context_synchronize_waits_for_every_stream,
    nothing_captures_at_first,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[Probe { name: "stream-destroyed", body: use_destroyed }];

fn work_of_one_stream_keeps_its_order() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    for flags in [0, 1] {
        let stream = gpu.stream(flags)?;
        let cells = gpu.upload(&[1u32, 0])?;
        let pinned = gpu.pinned(8, 0)?.cast::<u32>();
        let mut expected = 1u32;
        for index in 0..200 {
            gpu.launch_on(stream, step, shape(1, 1), arguments![cells, 3u32, index]).ok()?;
            gpu.cu.cuMemcpyDtoDAsync_v2(cells + 4, cells, 4, stream).ok()?;
            gpu.launch_on(stream, step, shape(1, 1), arguments![cells + 4, 1u32, 5u32]).ok()?;
            gpu.cu.cuMemcpyDtoDAsync_v2(cells, cells + 4, 4, stream).ok()?;
            expected = expected.wrapping_mul(3).wrapping_add(index).wrapping_add(5);
        }
        gpu.cu.cuMemcpyDtoHAsync_v2(pinned.cast(), cells, 8, stream).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        ensure!(host(pinned, 2) == [expected, expected], "{:?} instead of {expected}", host(pinned, 2));
    }
    pass()
}

fn a_busy_stream_is_not_ready() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let (stream, event) = (gpu.stream(1)?, gpu.event(0)?);
    gpu.cu.cuStreamQuery(stream).ok()?;
    gate.launch(&gpu, stream)?;
    gpu.cu.cuEventRecord(event, stream).ok()?;
    gpu.cu.cuStreamQuery(stream).is(Code::NOT_READY)?;
    gpu.cu.cuEventQuery(event).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    gpu.cu.cuStreamQuery(stream).ok()?;
    gpu.cu.cuEventQuery(event).ok()?;
    gate.check(&gpu)?;
    pass()
}

fn other_streams_do_not_wait() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    let (busy, other) = (gpu.stream(1)?, gpu.stream(1)?);
    gpu.launch_on(other, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
    gpu.cu.cuStreamSynchronize(other).ok()?;
    gate.launch(&gpu, busy)?;
    gpu.launch_on(other, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
    let pinned = gpu.pinned(4, 0)?.cast::<u32>();
    gpu.cu.cuMemcpyDtoHAsync_v2(pinned.cast(), cell, 4, other).ok()?;
    gpu.cu.cuStreamSynchronize(other).ok()?;
    ensure!(host(pinned, 1) == [3], "{:?} instead of 3", host(pinned, 1));
    gpu.cu.cuStreamQuery(busy).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuStreamSynchronize(busy).ok()?;
    gate.check(&gpu)?;
    pass()
}

fn the_legacy_stream_waits_for_blocking_streams() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let blocking = gpu.stream(0)?;
    let event = gpu.event(0)?;
    gate.launch(&gpu, blocking)?;
    gpu.cu.cuEventRecord(event, 0).ok()?;
    gpu.cu.cuEventQuery(event).is(Code::NOT_READY)?;
    gpu.cu.cuStreamQuery(0).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    gpu.cu.cuStreamQuery(blocking).ok()?;
    gate.check(&gpu)?;
    pass()
}

fn blocking_streams_wait_for_the_legacy_stream() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    let blocking = gpu.stream(0)?;
    gpu.launch_on(blocking, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
    gpu.cu.cuStreamSynchronize(blocking).ok()?;
    gate.launch(&gpu, 0)?;
    gpu.launch_on(blocking, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
    gpu.cu.cuStreamQuery(blocking).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuStreamSynchronize(blocking).ok()?;
    gpu.cu.cuStreamQuery(0).ok()?;
    gate.check(&gpu)?;
    ensure!(gpu.read::<u32>(cell, 1)? == [3], "the launches did not run");
    pass()
}

fn non_blocking_streams_do_not_wait_for_the_legacy_stream() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    let free = gpu.stream(1)?;
    gpu.launch_on(free, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
    gpu.cu.cuStreamSynchronize(free).ok()?;
    gate.launch(&gpu, 0)?;
    gpu.launch_on(free, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
    gpu.cu.cuStreamSynchronize(free).ok()?;
    gpu.cu.cuStreamQuery(0).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    gate.check(&gpu)?;
    pass()
}

const LEGACY: Handle = 1;
const PER_THREAD: Handle = 2;

fn reserved_handles_name_the_default_streams() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    for stream in [0, LEGACY, PER_THREAD] {
        gpu.launch_on(stream, step, shape(1, 1), arguments![cell, 2u32, 0u32]).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        gpu.cu.cuStreamQuery(stream).ok()?;
        let mut priority = 77;
        gpu.cu.cuStreamGetPriority(stream, &mut priority).ok()?;
        ensure!(priority == 0, "the priority of stream {stream} is {priority}");
    }
    ensure!(gpu.read::<u32>(cell, 1)? == [8], "{:?} instead of 8", gpu.read::<u32>(cell, 1)?);
    pass()
}

fn per_thread_streams_are_independent() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    gpu.launch_on(PER_THREAD, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
    gpu.cu.cuStreamSynchronize(PER_THREAD).ok()?;
    gate.launch(&gpu, PER_THREAD)?;
    gpu.cu.cuStreamQuery(PER_THREAD).is(Code::NOT_READY)?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| -> Result<()> {
                gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
                // Another thread's stream of the same name has nothing to do.
                gpu.cu.cuStreamQuery(PER_THREAD).ok()?;
                gpu.launch_on(PER_THREAD, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
                gpu.cu.cuStreamSynchronize(PER_THREAD).ok()
            })
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })?;
    gpu.cu.cuStreamQuery(PER_THREAD).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuStreamSynchronize(PER_THREAD).ok()?;
    gate.check(&gpu)?;
    ensure!(gpu.read::<u32>(cell, 1)? == [3], "the launches did not run");
    pass()
}

fn per_thread_entry_points_mean_the_threads_stream() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let cells = gpu.upload(&[0u32; 4])?;
    // Loaded before anything waits: a driver may synchronise when it loads a kernel.
    let nothing = gpu.kernel(kernels::BASIC, "nothing")?;
    let none = std::ptr::null_mut();
    gpu.cu.cuLaunchKernel_ptsz(nothing, 1, 1, 1, 1, 1, 1, 0, 0, none, none).ok()?;
    gpu.cu.cuMemsetD32Async_ptsz(cells, 9, 4, 0).ok()?;
    gpu.cu.cuStreamSynchronize_ptsz(0).ok()?;
    ensure!(gpu.read::<u32>(cells, 4)? == [9; 4], "the fill did not run");
    let (mut of_null, mut of_handle) = (0, 1);
    gpu.cu.cuStreamGetId_ptsz(0, &mut of_null).ok()?;
    gpu.cu.cuStreamGetId(PER_THREAD, &mut of_handle).ok()?;
    ensure!(of_null == of_handle, "null is stream {of_null}, the per-thread handle {of_handle}");
    // The thread's stream waits at the gate: the form without the suffix sees it through its handle.
    gate.launch(&gpu, PER_THREAD)?;
    gpu.cu.cuStreamQuery_ptsz(0).is(Code::NOT_READY)?;
    gpu.cu.cuLaunchKernel_ptsz(nothing, 1, 1, 1, 1, 1, 1, 0, 0, none, none).ok()?;
    let event = gpu.event(0)?;
    gpu.cu.cuEventRecord_ptsz(event, 0).ok()?;
    gpu.cu.cuEventQuery(event).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuEventSynchronize(event).ok()?;
    gate.check(&gpu)?;
    let mut back = [0u32; 4];
    gpu.cu.cuMemcpyHtoD_v2_ptds(cells, [1u32, 2, 3, 4].as_ptr().cast(), 16).ok()?;
    gpu.cu.cuMemcpyDtoH_v2_ptds(back.as_mut_ptr().cast(), cells, 16).ok()?;
    ensure!(back == [1, 2, 3, 4], "{back:?} came back");
    pass()
}

fn an_event_orders_two_streams() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[5u32])?;
    let (first, second, event) = (gpu.stream(1)?, gpu.stream(1)?, gpu.event(2)?);
    gpu.launch_on(second, step, shape(1, 1), arguments![cell, 1u32, 0u32]).ok()?;
    gpu.cu.cuStreamSynchronize(second).ok()?;
    gate.launch(&gpu, first)?;
    gpu.launch_on(first, step, shape(1, 1), arguments![cell, 1u32, 2u32]).ok()?;
    gpu.cu.cuEventRecord(event, first).ok()?;
    gpu.cu.cuStreamWaitEvent(second, event, 0).ok()?;
    gpu.launch_on(second, step, shape(1, 1), arguments![cell, 10u32, 0u32]).ok()?;
    gpu.cu.cuStreamQuery(second).is(Code::NOT_READY)?;
    // Recording the event again does not change what the second stream waits for.
    gpu.cu.cuEventRecord(event, gpu.stream(1)?).ok()?;
    gpu.cu.cuStreamQuery(second).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuStreamSynchronize(second).ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [70], "{:?} instead of 70", gpu.read::<u32>(cell, 1)?);
    gpu.cu.cuStreamWaitEvent(second, event, 0x100).is(Code::INVALID_VALUE)?;
    gpu.cu.cuStreamWaitEvent(second, 0, 0).is_one_of(&[Code::INVALID_HANDLE, Code::INVALID_VALUE])?;
    pass()
}

fn a_ring_of_streams_and_events() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    let streams = (0..7).map(|_| gpu.stream(1)).collect::<Result<Vec<_>>>()?;
    let event = gpu.event(2)?;
    let mut expected = 1u32;
    for round in 0..300u32 {
        let at = usize::try_from(round)? % streams.len();
        let (stream, next) = (streams[at], streams[(at + 1) % streams.len()]);
        gpu.launch_on(stream, step, shape(1, 1), arguments![cell, 3u32, round]).ok()?;
        gpu.cu.cuEventRecord(event, stream).ok()?;
        gpu.cu.cuStreamWaitEvent(next, event, 0).ok()?;
        expected = expected.wrapping_mul(3).wrapping_add(round);
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [expected], "the streams overtook one another");
    pass()
}

fn an_unrecorded_event_does_not_block() -> CaseResult {
    let gpu = Gpu::new()?;
    let (stream, event) = (gpu.stream(1)?, gpu.event(0)?);
    gpu.cu.cuStreamWaitEvent(stream, event, 0).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    gpu.cu.cuStreamWaitEvent(0, event, 0).ok()?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    pass()
}

fn flags_are_kept() -> CaseResult {
    let gpu = Gpu::new()?;
    for wanted in [0, 1] {
        let stream = gpu.stream(wanted)?;
        let mut flags = 77;
        gpu.cu.cuStreamGetFlags(stream, &mut flags).ok()?;
        ensure!(flags == wanted, "made with {wanted}, the flags are {flags}");
    }
    let mut flags = 77;
    gpu.cu.cuStreamGetFlags(0, &mut flags).ok()?;
    ensure!(flags == 0, "the default stream's flags are {flags}");
    pass()
}

fn bad_flags_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut stream = 7;
    gpu.cu.cuStreamCreate(&mut stream, 0x100).is(Code::INVALID_VALUE)?;
    gpu.cu.cuStreamCreate(&mut stream, u32::MAX).is(Code::INVALID_VALUE)?;
    gpu.cu.cuStreamCreate(std::ptr::null_mut(), 0).is(Code::INVALID_VALUE)?;
    gpu.cu.cuStreamCreateWithPriority(&mut stream, 0x100, 0).is(Code::INVALID_VALUE)?;
    pass()
}

fn priorities_are_kept_and_clamped() -> CaseResult {
    let gpu = Gpu::new()?;
    let (mut least, mut greatest) = (0, 0);
    gpu.cu.cuCtxGetStreamPriorityRange(&mut least, &mut greatest).ok()?;
    for wanted in [least, greatest, (least + greatest) / 2, greatest - 100, least + 100] {
        let (mut stream, mut priority) = (0, 77);
        gpu.cu.cuStreamCreateWithPriority(&mut stream, 1, wanted).ok()?;
        gpu.cu.cuStreamGetPriority(stream, &mut priority).ok()?;
        let expected = wanted.clamp(greatest, least);
        ensure!(priority == expected, "asked for {wanted}, the priority is {priority}");
    }
    pass()
}

fn the_context_of_a_stream() -> CaseResult {
    let gpu = Gpu::new()?;
    let own = gpu.stream(0)?;
    let mut other = 0;
    gpu.cu.cuCtxCreate_v2(&mut other, 0, gpu.device).ok()?;
    let others = gpu.stream(0)?;
    for (stream, wanted) in [(own, gpu.context), (others, other), (0, other)] {
        let mut context = 0;
        gpu.cu.cuStreamGetCtx(stream, &mut context).ok()?;
        ensure!(context == wanted, "stream {stream:#x} belongs to {context:#x} instead of {wanted:#x}");
    }
    // The streams of both contexts can be waited for, whichever is current.
    gpu.cu.cuStreamSynchronize(own).ok()?;
    gpu.cu.cuStreamSynchronize(others).ok()?;
    pass()
}

fn ids_are_unique() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut seen = Vec::new();
    let mut streams = vec![0, PER_THREAD];
    for _ in 0..20 {
        streams.push(gpu.stream(1)?);
    }
    for stream in streams {
        let (mut id, mut again) = (0, 1);
        gpu.cu.cuStreamGetId(stream, &mut id).ok()?;
        gpu.cu.cuStreamGetId(stream, &mut again).ok()?;
        ensure!(id == again, "stream {stream:#x} is {id}, then {again}");
        ensure!(!seen.contains(&id), "the id {id} is there twice");
        seen.push(id);
    }
    pass()
}

/// Flags, priority and number, by both entries of each call.
fn properties(gpu: &Gpu, stream: Handle) -> Result<(u32, i32, u64)> {
    let (mut flags, mut priority, mut id) = (77, 77, 77);
    gpu.cu.cuStreamGetFlags(stream, &mut flags).ok()?;
    gpu.cu.cuStreamGetPriority(stream, &mut priority).ok()?;
    gpu.cu.cuStreamGetId(stream, &mut id).ok()?;
    let (mut flags_again, mut id_again) = (78, 78);
    gpu.cu.cuStreamGetFlags_ptsz(stream, &mut flags_again).ok()?;
    gpu.cu.cuStreamGetId_ptsz(stream, &mut id_again).ok()?;
    ensure!((flags, id) == (flags_again, id_again), "the entries differ on {stream:#x}");
    Ok((flags, priority, id))
}

fn what_a_stream_is_made_with_goes_with_it() -> CaseResult {
    let gpu = Gpu::new()?;
    let (mut least, mut greatest) = (0, 0);
    gpu.cu.cuCtxGetStreamPriorityRange(&mut least, &mut greatest).ok()?;
    let made = |flags, priority| -> Result<(Handle, u64)> {
        let mut stream = 0;
        gpu.cu.cuStreamCreateWithPriority(&mut stream, flags, priority).ok()?;
        let first = properties(&gpu, stream)?;
        ensure!(first.0 == flags && first.1 == priority, "{stream:#x} has {first:?}");
        ensure!(properties(&gpu, stream)? == first, "{stream:#x} has other properties when asked again");
        Ok((stream, first.2))
    };
    let (kept, id) = made(1, greatest)?;
    // Handles of destroyed streams are used again.
    for round in 0..40 {
        let odd = round % 2 == 1;
        let (stream, own) = made(u32::from(odd), if odd { least } else { greatest })?;
        ensure!(own != id, "two streams are {id}");
        gpu.cu.cuStreamDestroy_v2(stream).ok()?;
    }
    // So are those of streams that go with their context.
    for round in 0..4 {
        let mut context = 0;
        gpu.cu.cuCtxCreate_v2(&mut context, 0, gpu.device).ok()?;
        made(round % 2, least)?;
        made(round % 2, greatest)?;
        gpu.cu.cuCtxDestroy_v2(context).ok()?;
    }
    ensure!(properties(&gpu, kept)? == (1, greatest, id), "the first stream has changed");
    pass()
}

fn many_streams() -> CaseResult {
    let gpu = Gpu::new()?;
    let count = gpu.kernel(kernels::BASIC, "count")?;
    let cell = gpu.upload(&[0u32])?;
    let streams = (0..200).map(|_| gpu.stream(1)).collect::<Result<Vec<_>>>()?;
    for stream in &streams {
        gpu.launch_on(*stream, count, shape(1, 64), arguments![cell]).ok()?;
    }
    for stream in &streams {
        gpu.cu.cuStreamSynchronize(*stream).ok()?;
        gpu.cu.cuStreamDestroy_v2(*stream).ok()?;
    }
    ensure!(gpu.read::<u32>(cell, 1)? == [12_800], "{:?} threads ran", gpu.read::<u32>(cell, 1)?);
    pass()
}

fn destroy_lets_the_work_finish() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    let stream = gpu.stream(1)?;
    gate.launch(&gpu, stream)?;
    gpu.launch_on(stream, step, shape(1, 1), arguments![cell, 1u32, 6u32]).ok()?;
    gpu.cu.cuStreamDestroy_v2(stream).ok()?;
    gate.open()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [7], "the work of the destroyed stream is lost");
    pass()
}

/// Uses a stream after its end, and says which call did not refuse it.
fn use_destroyed(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let device = gpu.upload(&[7u8; 16])?;
    let stream = gpu.stream(0)?;
    gpu.cu.cuStreamDestroy_v2(stream).ok()?;
    let refused =
        [Code::INVALID_HANDLE, Code::INVALID_CONTEXT, Code::INVALID_VALUE, Code::CONTEXT_IS_DESTROYED];
    gpu.cu.cuMemsetD8Async(device, 1, 16, stream).is_one_of(&refused)?;
    gpu.cu.cuStreamDestroy_v2(stream).is_one_of(&refused)?;
    gpu.cu.cuStreamSynchronize(stream).is_one_of(&refused)?;
    gpu.cu.cuStreamQuery(stream).is_one_of(&refused)?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u8>(device, 16)? == [7; 16], "a refused fill wrote to the device");
    Ok("refused".to_owned())
}

fn destroyed_streams_are_refused() -> CaseResult {
    expect_refusal("stream-destroyed")
}

/// A probe that uses a destroyed handle must be refused; a driver that crashes on it breaks no promise.
pub(crate) fn expect_refusal(probe: &str) -> CaseResult {
    let seen = crate::probe::watch(crate::probe::command(probe, &[])?)?;
    if std::os::unix::process::ExitStatusExt::signal(&seen.status).is_some() {
        return crate::outcome::skip("this driver crashes on a destroyed handle, which CUDA leaves open");
    }
    ensure!(seen.text()? == "refused", "a destroyed handle was taken");
    pass()
}

fn synchronize_waits() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let stream = gpu.stream(1)?;
    gate.launch(&gpu, stream)?;
    let (start, opened) = (Barrier::new(2), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            // The waiting thread is inside its call now, or will be: it must not return before this.
            opened.store(1, Ordering::SeqCst);
            gate.open()
        });
        start.wait();
        gpu.cu.cuStreamSynchronize(stream).ok()
    })?;
    ensure!(opened.load(Ordering::SeqCst) == 1, "synchronisation returned while the stream was busy");
    gate.check(&gpu)?;
    pass()
}

fn waiting_again_waits_for_what_came_since() -> CaseResult {
    let gpu = Gpu::new()?;
    let (stream, other) = (gpu.stream(1)?, gpu.stream(1)?);
    let device = gpu.upload(&[5u32; 4])?;
    let mut back = [0u32; 4];
    let mut wait = || {
        gpu.cu.cuMemcpyDtoHAsync_v2(back.as_mut_ptr().cast(), device, 16, stream).ok()?;
        for _ in 0..2 {
            gpu.cu.cuStreamSynchronize(stream).ok()?;
            gpu.cu.cuStreamQuery(stream).ok()?;
        }
        ensure!(back == [5; 4], "{back:?} were copied");
        Ok(())
    };

    wait()?;
    let gate = Gate::new(&gpu)?;
    let elsewhere = || {
        gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
        gate.launch(&gpu, stream)
    };
    std::thread::scope(|scope| scope.spawn(elsewhere).join().expect("no panic"))?;
    gpu.cu.cuStreamQuery(stream).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    gate.check(&gpu)?;

    // What the stream waits for was under way before it was waited for itself.
    let gate = Gate::new(&gpu)?;
    gate.launch(&gpu, other)?;
    wait()?;
    let mut event = 0;
    gpu.cu.cuEventCreate(&mut event, 0).ok()?;
    gpu.cu.cuEventRecord(event, other).ok()?;
    wait()?;
    gpu.cu.cuStreamWaitEvent(stream, event, 0).ok()?;
    gpu.cu.cuStreamQuery(stream).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    gate.check(&gpu)?;
    pass()
}

fn a_copy_within_the_host_is_no_wait() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let pinned = gpu.pinned(64, 0)?;
    host(pinned, 64).fill(9);
    let opened = AtomicU32::new(0);
    gate.launch(&gpu, 0)?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            opened.store(1, Ordering::SeqCst);
            gate.open()
        });
        // It may wait for the stream, or not.
        let mut back = [0u8; 64];
        let from = u64::try_from(pinned.expose_provenance())?;
        gpu.cu.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), from, 64).ok()?;
        ensure!(back == [9; 64], "{back:?} were copied");
        let code = gpu.cu.cuStreamQuery(0);
        ensure!(
            code == Code::NOT_READY || opened.load(Ordering::SeqCst) == 1,
            "{code:?} while the stream is busy"
        );
        Ok(())
    })?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    gate.check(&gpu)?;
    pass()
}

fn context_synchronize_waits_for_every_stream() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let streams = [gpu.stream(0)?, gpu.stream(1)?, gpu.stream(1)?];
    for stream in streams {
        gate.launch(&gpu, stream)?;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| gate.open());
        gpu.cu.cuCtxSynchronize().ok()
    })?;
    for stream in streams {
        gpu.cu.cuStreamQuery(stream).ok()?;
    }
    gate.check(&gpu)?;
    pass()
}

fn nothing_captures_at_first() -> CaseResult {
    let gpu = Gpu::new()?;
    for stream in [gpu.stream(0)?, PER_THREAD, 0] {
        let mut status = 77;
        gpu.cu.cuStreamIsCapturing(stream, &mut status).ok()?;
        ensure!(status == 0, "the capture status of stream {stream:#x} is {status}");
    }
    pass()
}

//! Events: record, wait, query, and the time between two.

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, arguments, shape, version};
use crate::outcome::{CaseResult, pass, skip};
use crate::probe::Probe;
use crate::registry::area;

use super::gate::Gate;
use super::kernels;

area!("events":
    an_unrecorded_event_is_complete,
    a_recorded_event_completes,
    time_between_two_events,
    time_has_an_order_and_a_unit,
    time_of_events_without_timing_is_refused,
    time_of_unrecorded_events_is_refused,
    time_before_completion_is_not_ready,
    the_younger_form_of_elapsed_time,
    recording_again_moves_the_event,
    synchronize_waits_for_the_record,
    blocking_events_wait_too,
    bad_flags_are_refused,
    destroyed_events_are_refused,
    destroy_of_a_pending_event,
    an_event_of_another_context_is_refused,
    many_events,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[Probe { name: "event-destroyed", body: use_destroyed }];

fn elapsed(gpu: &Gpu, start: Handle, end: Handle) -> Result<f32> {
    let mut milliseconds = -1.0;
    gpu.cu.cuEventElapsedTime(&mut milliseconds, start, end).ok()?;
    Ok(milliseconds)
}

fn an_unrecorded_event_is_complete() -> CaseResult {
    let gpu = Gpu::new()?;
    let event = gpu.event(0)?;
    gpu.cu.cuEventQuery(event).ok()?;
    gpu.cu.cuEventSynchronize(event).ok()?;
    pass()
}

fn a_recorded_event_completes() -> CaseResult {
    let gpu = Gpu::new()?;
    for flags in [0, 1, 2, 3] {
        for stream in [0, gpu.stream(0)?, gpu.stream(1)?] {
            let event = gpu.event(flags)?;
            gpu.cu.cuEventRecord(event, stream).ok()?;
            gpu.cu.cuEventSynchronize(event).ok()?;
            gpu.cu.cuEventQuery(event).ok()?;
            gpu.cu.cuEventDestroy_v2(event).ok()?;
        }
    }
    let (event, stream) = (gpu.event(0)?, gpu.stream(0)?);
    gpu.cu.cuEventRecordWithFlags(event, stream, 0).ok()?;
    gpu.cu.cuEventSynchronize(event).ok()?;
    pass()
}

fn time_between_two_events() -> CaseResult {
    let gpu = Gpu::new()?;
    let (start, end, stream) = (gpu.event(0)?, gpu.event(0)?, gpu.stream(1)?);
    let count = gpu.kernel(kernels::BASIC, "count")?;
    let cell = gpu.upload(&[0u32])?;
    gpu.cu.cuEventRecord(start, stream).ok()?;
    for _ in 0..50 {
        gpu.launch_on(stream, count, shape(64, 128), arguments![cell]).ok()?;
    }
    gpu.cu.cuEventRecord(end, stream).ok()?;
    gpu.cu.cuEventSynchronize(end).ok()?;
    let time = elapsed(&gpu, start, end)?;
    ensure!(time > 0.0 && time < 60_000.0, "fifty launches took {time} ms");
    let same = elapsed(&gpu, start, start)?;
    ensure!(same == 0.0, "an event is {same} ms from itself");
    pass()
}

fn time_has_an_order_and_a_unit() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let (start, end, stream) = (gpu.event(0)?, gpu.event(0)?, gpu.stream(1)?);
    gpu.cu.cuEventRecord(start, stream).ok()?;
    gpu.cu.cuEventSynchronize(start).ok()?;
    let before = std::time::Instant::now();
    gate.launch(&gpu, stream)?;
    // The gate stays closed for a time that both clocks measure.
    while before.elapsed().as_millis() < 50 {
        std::thread::yield_now();
    }
    gate.open()?;
    gpu.cu.cuEventRecord(end, stream).ok()?;
    gpu.cu.cuEventSynchronize(end).ok()?;
    let bound = before.elapsed().as_secs_f32() * 1000.0;
    let time = elapsed(&gpu, start, end)?;
    ensure!(time >= 40.0 && time <= bound * 1.5 + 50.0, "{time} ms by the events, {bound} ms by the host");
    let back = elapsed(&gpu, end, start)?;
    ensure!(back < 0.0, "the time backwards is {back} ms");
    pass()
}

fn time_of_events_without_timing_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let (timed, untimed) = (gpu.event(0)?, gpu.event(2)?);
    for event in [timed, untimed] {
        gpu.cu.cuEventRecord(event, 0).ok()?;
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    let mut time = -7.0;
    for (start, end) in [(timed, untimed), (untimed, timed), (untimed, untimed)] {
        gpu.cu.cuEventElapsedTime(&mut time, start, end).is(Code::INVALID_HANDLE)?;
    }
    pass()
}

fn time_of_unrecorded_events_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let (recorded, fresh) = (gpu.event(0)?, gpu.event(0)?);
    gpu.cu.cuEventRecord(recorded, 0).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    let mut time = -7.0;
    for (start, end) in [(recorded, fresh), (fresh, recorded), (fresh, fresh)] {
        gpu.cu.cuEventElapsedTime(&mut time, start, end).is(Code::INVALID_HANDLE)?;
    }
    pass()
}

fn time_before_completion_is_not_ready() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let (start, end, stream) = (gpu.event(0)?, gpu.event(0)?, gpu.stream(1)?);
    gpu.cu.cuEventRecord(start, stream).ok()?;
    gate.launch(&gpu, stream)?;
    gpu.cu.cuEventRecord(end, stream).ok()?;
    let mut time = -7.0;
    gpu.cu.cuEventElapsedTime(&mut time, start, end).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuEventSynchronize(end).ok()?;
    gpu.cu.cuEventElapsedTime(&mut time, start, end).ok()?;
    ensure!(time > 0.0, "{time} ms");
    pass()
}

fn the_younger_form_of_elapsed_time() -> CaseResult {
    if version()? < 12080 {
        return skip("cuEventElapsedTime_v2 is younger than this driver");
    }
    let gpu = Gpu::new()?;
    let (start, end) = (gpu.event(0)?, gpu.event(0)?);
    gpu.cu.cuEventRecord(start, 0).ok()?;
    gpu.cu.cuEventRecord(end, 0).ok()?;
    gpu.cu.cuEventSynchronize(end).ok()?;
    let mut time = -7.0;
    gpu.cu.cuEventElapsedTime_v2(&mut time, start, end).ok()?;
    ensure!(time >= 0.0 && time == elapsed(&gpu, start, end)?, "{time} ms");
    pass()
}

fn recording_again_moves_the_event() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let (event, stream) = (gpu.event(0)?, gpu.stream(1)?);
    gpu.cu.cuEventRecord(event, stream).ok()?;
    gpu.cu.cuEventSynchronize(event).ok()?;
    gate.launch(&gpu, stream)?;
    gpu.cu.cuEventQuery(event).ok()?;
    gpu.cu.cuEventRecord(event, stream).ok()?;
    gpu.cu.cuEventQuery(event).is(Code::NOT_READY)?;
    gate.open()?;
    gpu.cu.cuEventSynchronize(event).ok()?;
    gate.check(&gpu)?;
    pass()
}

/// Waits for an event behind a gate that another thread opens.
fn wait_for_gated(flags: u32) -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let (event, stream) = (gpu.event(flags)?, gpu.stream(1)?);
    gate.launch(&gpu, stream)?;
    gpu.cu.cuEventRecord(event, stream).ok()?;
    gpu.cu.cuEventQuery(event).is(Code::NOT_READY)?;
    std::thread::scope(|scope| {
        scope.spawn(|| gate.open());
        gpu.cu.cuEventSynchronize(event).ok()
    })?;
    gpu.cu.cuEventQuery(event).ok()?;
    gate.check(&gpu)?;
    pass()
}

fn synchronize_waits_for_the_record() -> CaseResult {
    wait_for_gated(0)
}

fn blocking_events_wait_too() -> CaseResult {
    wait_for_gated(3)
}

fn bad_flags_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut event = 7;
    gpu.cu.cuEventCreate(&mut event, 0x100).is(Code::INVALID_VALUE)?;
    // An event for other processes must not measure time.
    gpu.cu.cuEventCreate(&mut event, 4).is(Code::INVALID_VALUE)?;
    gpu.cu.cuEventCreate(std::ptr::null_mut(), 0).is(Code::INVALID_VALUE)?;
    pass()
}

/// Uses an event after its end, and says which call did not refuse it.
fn use_destroyed(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let event = gpu.event(0)?;
    gpu.cu.cuEventDestroy_v2(event).ok()?;
    let refused =
        [Code::INVALID_HANDLE, Code::INVALID_CONTEXT, Code::INVALID_VALUE, Code::CONTEXT_IS_DESTROYED];
    gpu.cu.cuEventRecord(event, 0).is_one_of(&refused)?;
    gpu.cu.cuEventQuery(event).is_one_of(&refused)?;
    gpu.cu.cuEventSynchronize(event).is_one_of(&refused)?;
    gpu.cu.cuEventDestroy_v2(event).is_one_of(&refused)?;
    gpu.cu.cuCtxSynchronize().ok()?;
    Ok("refused".to_owned())
}

fn destroyed_events_are_refused() -> CaseResult {
    super::streams::expect_refusal("event-destroyed")
}

fn destroy_of_a_pending_event() -> CaseResult {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let (event, first, second) = (gpu.event(2)?, gpu.stream(1)?, gpu.stream(1)?);
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[1u32])?;
    gate.launch(&gpu, first)?;
    gpu.launch_on(first, step, shape(1, 1), arguments![cell, 1u32, 4u32]).ok()?;
    gpu.cu.cuEventRecord(event, first).ok()?;
    gpu.cu.cuStreamWaitEvent(second, event, 0).ok()?;
    gpu.cu.cuEventDestroy_v2(event).ok()?;
    gpu.launch_on(second, step, shape(1, 1), arguments![cell, 2u32, 0u32]).ok()?;
    gate.open()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [10], "{:?} instead of 10", gpu.read::<u32>(cell, 1)?);
    pass()
}

fn an_event_of_another_context_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let event = gpu.event(0)?;
    let mut other = 0;
    gpu.cu.cuCtxCreate_v2(&mut other, 0, gpu.device).ok()?;
    let stream = gpu.stream(0)?;
    // An event can be recorded only in a stream of its own context.
    gpu.cu.cuEventRecord(event, stream).is_one_of(&[
        Code::INVALID_HANDLE,
        Code::INVALID_CONTEXT,
        Code::INVALID_VALUE,
    ])?;
    // But any stream can wait for it.
    gpu.cu.cuStreamWaitEvent(stream, event, 0).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    pass()
}

fn many_events() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let events = (0..2000).map(|_| gpu.event(2)).collect::<Result<Vec<_>>>()?;
    for event in &events {
        gpu.cu.cuEventRecord(*event, stream).ok()?;
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    for event in events {
        gpu.cu.cuEventQuery(event).ok()?;
        gpu.cu.cuEventDestroy_v2(event).ok()?;
    }
    pass()
}

//! Streams and events.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::sync::Arc;

use virtio_spec::cuda::{CUcontext, CUdevice, CUevent, CUresult, CUstream};

use super::entry::{Call, Out, exports};
use crate::driver::event::Event;
use crate::driver::handles::{kind, mint};
use crate::driver::{Driver, Result, capture};

exports! {
    context cuStreamCreate(stream: *mut CUstream, flags: u32) = create;
    context cuStreamCreateWithPriority(stream: *mut CUstream, flags: u32, priority: i32) = create_with_priority;
    init cuStreamDestroy(stream: CUstream) = destroy;
    init cuStreamDestroy_v2(stream: CUstream) = destroy;
    context cuStreamSynchronize / cuStreamSynchronize_ptsz (stream: CUstream) = synchronize;
    context cuStreamQuery / cuStreamQuery_ptsz (stream: CUstream) = query;
    context cuStreamGetPriority / cuStreamGetPriority_ptsz (stream: CUstream, priority: *mut i32) = priority;
    context cuStreamGetFlags / cuStreamGetFlags_ptsz (stream: CUstream, flags: *mut u32) = flags;
    context cuStreamGetId / cuStreamGetId_ptsz (stream: CUstream, id: *mut u64) = id;
    context cuStreamGetDevice / cuStreamGetDevice_ptsz (stream: CUstream, device: *mut CUdevice) = device;
    context cuStreamGetCtx / cuStreamGetCtx_ptsz (stream: CUstream, context: *mut CUcontext) = context;
    context cuStreamGetCtx_v2 / cuStreamGetCtx_v2_ptsz (
        stream: CUstream, context: *mut CUcontext, green: *mut u64,
    ) = context_v2;
    context cuStreamWaitEvent / cuStreamWaitEvent_ptsz (stream: CUstream, event: CUevent, flags: u32) = wait_event;
    context cuEventCreate(event: *mut CUevent, flags: u32) = event_create;
    init cuEventDestroy(event: CUevent) = event_destroy;
    init cuEventDestroy_v2(event: CUevent) = event_destroy;
    context cuEventRecord / cuEventRecord_ptsz (event: CUevent, stream: CUstream) = event_record;
    context cuEventRecordWithFlags / cuEventRecordWithFlags_ptsz (event: CUevent, stream: CUstream, flags: u32)
        = event_record_with_flags;
    init cuEventQuery(event: CUevent) = event_query;
    init cuEventSynchronize(event: CUevent) = event_synchronize;
    init cuEventElapsedTime(milliseconds: *mut f32, start: CUevent, end: CUevent) = elapsed;
    init cuEventElapsedTime_v2(milliseconds: *mut f32, start: CUevent, end: CUevent) = elapsed;
}

fn create(call: &Call, stream: Out<CUstream>, flags: u32) -> Result<()> {
    create_with_priority(call, stream, flags, 0)
}

fn create_with_priority(call: &Call, stream: Out<CUstream>, flags: u32, priority: i32) -> Result<()> {
    stream.check()?;
    let created = call.context.create_stream(call.driver(), flags, priority)?;
    stream.put(CUstream(created.handle))
}

fn destroy(driver: &Driver, stream: CUstream) -> Result<()> {
    // Its work goes on; default streams are not the program's to destroy.
    driver.streams.remove(stream.0).map(|stream| capture::forget(&stream))
}

fn synchronize(call: &Call, stream: CUstream) -> Result<()> {
    let (context, stream) = call.stream(stream)?;
    capture::refuse(&stream)?;
    context.wait_for(&stream)
}

fn query(call: &Call, stream: CUstream) -> Result<()> {
    let (context, stream) = call.stream(stream)?;
    capture::refuse(&stream)?;
    let outstanding = context.outstanding(&stream);
    context.health.check()?;
    if outstanding.is_empty() { Ok(()) } else { Err(CUresult::ERROR_NOT_READY) }
}

fn priority(call: &Call, stream: CUstream, priority: Out<i32>) -> Result<()> {
    priority.check()?;
    priority.put(call.stream(stream)?.1.priority)
}

fn flags(call: &Call, stream: CUstream, flags: Out<u32>) -> Result<()> {
    flags.check()?;
    flags.put(call.stream(stream)?.1.flags)
}

fn id(call: &Call, stream: CUstream, id: Out<u64>) -> Result<()> {
    id.check()?;
    id.put(call.stream(stream)?.1.id)
}

fn device(call: &Call, stream: CUstream, device: Out<CUdevice>) -> Result<()> {
    device.check()?;
    call.stream(stream)?;
    device.put(CUdevice(0))
}

fn context(call: &Call, stream: CUstream, context: Out<CUcontext>) -> Result<()> {
    context.check()?;
    context.put(CUcontext(call.stream(stream)?.0.handle))
}

fn context_v2(call: &Call, stream: CUstream, place: Out<CUcontext>, green: Out<u64>) -> Result<()> {
    context(call, stream, place)?;
    green.put_if_wanted(0);
    Ok(())
}

fn wait_event(call: &Call, stream: CUstream, event: CUevent, flags: u32) -> Result<()> {
    // The default, or meant for graphs that are captured.
    if flags > 1 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let (context, stream) = call.stream(stream)?;
    let event = call.driver().events.get(event.0)?;
    if capture::wait(call.driver(), &stream, &event, flags == 1)? {
        return Ok(());
    }
    if let Some(completion) = event.recorded() {
        context.submit(&stream, vec![completion], |_| Ok(()))?;
    }
    Ok(())
}

fn event_create(call: &Call, event: Out<CUevent>, flags: u32) -> Result<()> {
    event.check()?;
    let created = Event::new(mint(kind::EVENT), call.context.handle, flags)?;
    let handle = created.handle;
    call.driver().events.insert(handle, Arc::new(created));
    event.put(CUevent(handle))
}

fn event_destroy(driver: &Driver, event: CUevent) -> Result<()> {
    driver.events.remove(event.0).map(drop)
}

fn event_record(call: &Call, event: CUevent, stream: CUstream) -> Result<()> {
    event_record_with_flags(call, event, stream, 0)
}

fn event_record_with_flags(call: &Call, event: CUevent, stream: CUstream, flags: u32) -> Result<()> {
    if flags > 1 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let event = call.driver().events.get(event.0)?;
    let (context, stream) = call.stream(stream)?;
    if event.context != context.handle {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    if capture::record(call.driver(), &stream, &event, flags == 1)? {
        return Ok(());
    }
    event.record(context.submit(&stream, Vec::new(), |_| Ok(()))?);
    Ok(())
}

/// The event, if its context is well.
fn find(driver: &Driver, event: CUevent) -> Result<Arc<Event>> {
    let event = driver.events.get(event.0)?;
    if let Some(context) = driver.contexts.find(event.context) {
        context.health.check()?;
    }
    Ok(event)
}

fn event_query(driver: &Driver, event: CUevent) -> Result<()> {
    let found = find(driver, event)?;
    capture::check_event(&found)?;
    let ended = found.recorded().is_none_or(|completion| completion.end().is_some());
    find(driver, event)?;
    if ended { Ok(()) } else { Err(CUresult::ERROR_NOT_READY) }
}

fn event_synchronize(driver: &Driver, event: CUevent) -> Result<()> {
    let found = find(driver, event)?;
    capture::check_event(&found)?;
    if let Some(completion) = found.recorded() {
        completion.wait();
    }
    find(driver, event).map(drop)
}

fn elapsed(driver: &Driver, milliseconds: Out<f32>, start: CUevent, end: CUevent) -> Result<()> {
    milliseconds.check()?;
    let (start, end) = (find(driver, start)?, find(driver, end)?);
    milliseconds.put(start.elapsed(&end)?)
}

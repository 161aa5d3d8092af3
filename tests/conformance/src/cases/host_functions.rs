//! Functions of the program that a stream runs: host functions and callbacks.
//!
//! This file has unsafe code: the driver calls back.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::ensure;

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, arguments, host, shape};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::kernels;

area!("host_functions":
    host_functions_run_in_order,
    the_stream_waits_for_a_host_function,
    callbacks_see_their_stream,
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

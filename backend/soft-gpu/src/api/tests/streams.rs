//! Streams, events and the order of work.

use super::*;

/// Runs on a stream's thread and waits for the test to let it go.
extern "C" fn hold(gate: *mut c_void) {
    let gate = unsafe { &*gate.cast::<Mutex<()>>() };
    drop(gate.lock());
}

extern "C" fn count(counter: *mut c_void) {
    let counter = unsafe { &*counter.cast::<AtomicU32>() };
    counter.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn work_is_queued_and_queries_say_so() {
    let gpu = Fixture::new();
    let (stream, event) = (gpu.stream(1), gpu.event());
    let gate = Mutex::new(());
    let closed = gate.lock();
    let place = (&raw const gate).cast_mut().cast();
    assert_eq!(unsafe { cuLaunchHostFunc(stream, Some(hold), place) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuEventRecord(event, stream) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuStreamQuery(stream) }, CUresult::ERROR_NOT_READY);
    assert_eq!(unsafe { cuEventQuery(event) }, CUresult::ERROR_NOT_READY);
    drop(closed);
    assert_eq!(unsafe { cuEventSynchronize(event) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuStreamSynchronize(stream) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuStreamQuery(stream) }, CUresult::SUCCESS);
}

#[test]
fn the_default_stream_waits_for_blocking_streams_only() {
    let gpu = Fixture::new();
    let (blocking, free) = (gpu.stream(0), gpu.stream(1));
    let gates = [Mutex::new(()), Mutex::new(())];
    let closed = [gates[0].lock(), gates[1].lock()];
    for (stream, gate) in [(blocking, &gates[0]), (free, &gates[1])] {
        let place = std::ptr::from_ref(gate).cast_mut().cast();
        assert_eq!(unsafe { cuLaunchHostFunc(stream, Some(hold), place) }, CUresult::SUCCESS);
    }
    let counter = AtomicU32::new(0);
    let place = (&raw const counter).cast_mut().cast();
    assert_eq!(unsafe { cuLaunchHostFunc(CUstream(0), Some(count), place) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuStreamQuery(CUstream(0)) }, CUresult::ERROR_NOT_READY);
    let [first, second] = closed;
    drop(first);
    assert_eq!(unsafe { cuStreamSynchronize(CUstream(0)) }, CUresult::SUCCESS);
    assert_eq!(counter.load(Ordering::SeqCst), 1);
    assert_eq!(unsafe { cuStreamQuery(free) }, CUresult::ERROR_NOT_READY);
    drop(second);
    assert_eq!(unsafe { cuCtxSynchronize() }, CUresult::SUCCESS);
}

#[test]
fn a_stream_waits_for_another_streams_event() {
    let gpu = Fixture::new();
    let (first, second, event) = (gpu.stream(1), gpu.stream(1), gpu.event());
    let gate = Mutex::new(());
    let closed = gate.lock();
    let place = (&raw const gate).cast_mut().cast();
    assert_eq!(unsafe { cuLaunchHostFunc(first, Some(hold), place) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuEventRecord(event, first) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuStreamWaitEvent(second, event, 0) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuStreamQuery(second) }, CUresult::ERROR_NOT_READY);
    drop(closed);
    assert_eq!(unsafe { cuStreamSynchronize(second) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuEventQuery(event) }, CUresult::SUCCESS);
}

#[test]
fn elapsed_time_needs_two_recorded_timed_events() {
    let gpu = Fixture::new();
    let (start, end) = (gpu.event(), gpu.event());
    let mut milliseconds = -1.0;
    let elapsed = |milliseconds: &mut f32| unsafe { cuEventElapsedTime(milliseconds, start, end) };
    assert_eq!(elapsed(&mut milliseconds), CUresult::ERROR_INVALID_HANDLE);
    for event in [start, end] {
        assert_eq!(unsafe { cuEventRecord(event, CUstream(0)) }, CUresult::SUCCESS);
    }
    assert_eq!(unsafe { cuEventSynchronize(end) }, CUresult::SUCCESS);
    assert_eq!(elapsed(&mut milliseconds), CUresult::SUCCESS);
    assert!(milliseconds >= 0.0, "{milliseconds}");
    drop(gpu);
}

#[test]
fn a_copy_from_pageable_memory_takes_the_values_of_the_call() {
    let gpu = Fixture::new();
    let stream = gpu.stream(1);
    let gate = Mutex::new(());
    let closed = gate.lock();
    let place = (&raw const gate).cast_mut().cast();
    assert_eq!(unsafe { cuLaunchHostFunc(stream, Some(hold), place) }, CUresult::SUCCESS);
    let target = gpu.alloc(8);
    let mut values = [1_u32, 2];
    let queued = unsafe { cuMemcpyHtoDAsync_v2(target, values.as_ptr().cast(), 8, stream) };
    assert_eq!(queued, CUresult::SUCCESS);
    values.fill(9);
    drop(closed);
    assert_eq!(unsafe { cuStreamSynchronize(stream) }, CUresult::SUCCESS);
    assert_eq!(gpu.read(target, 2), [1, 2]);
    assert_eq!(values, [9, 9]);
}

#[test]
fn the_driver_cannot_be_called_from_a_host_function() {
    extern "C" fn call(result: *mut c_void) {
        let answer = unsafe { cuCtxSynchronize() };
        unsafe { &*result.cast::<AtomicU32>() }.store(answer.0, Ordering::SeqCst);
    }
    let gpu = Fixture::new();
    let result = AtomicU32::new(0);
    let place = (&raw const result).cast_mut().cast();
    assert_eq!(unsafe { cuLaunchHostFunc(CUstream(0), Some(call), place) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuCtxSynchronize() }, CUresult::SUCCESS);
    assert_eq!(CUresult(result.load(Ordering::SeqCst)), CUresult::ERROR_NOT_PERMITTED);
    drop(gpu);
}

#[test]
fn threads_work_side_by_side_in_one_context() {
    let gpu = Fixture::new();
    let (context, function) = (gpu.0, gpu.function(STORE, c"store"));
    let work = &|number: u32| {
        assert_eq!(unsafe { cuCtxSetCurrent(context) }, CUresult::SUCCESS);
        let stream = gpu.stream(number % 2);
        for round in 0..50 {
            let value = number << 16 | round;
            let mut host = null_mut();
            assert_eq!(unsafe { cuMemHostAlloc(&raw mut host, 4096, 0) }, CUresult::SUCCESS);
            let pinned = CUdeviceptr(host.expose_provenance() as u64);
            let device = gpu.upload(&[0, 0]);
            assert_eq!(launch(function, stream, device, value), CUresult::SUCCESS);
            let copied = unsafe { cuMemcpyAsync(CUdeviceptr(device.0 + 4), device, 4, stream) };
            assert_eq!(copied, CUresult::SUCCESS);
            assert_eq!(launch(function, stream, pinned, value + 1), CUresult::SUCCESS);
            assert_eq!(unsafe { cuStreamSynchronize(stream) }, CUresult::SUCCESS);
            assert_eq!(gpu.read(device, 2), [value, value]);
            assert_eq!(unsafe { host.cast::<u32>().read() }, value + 1);
            assert_eq!(unsafe { cuMemFree_v2(device) }, CUresult::SUCCESS);
            assert_eq!(unsafe { cuMemFreeHost(host) }, CUresult::SUCCESS);
        }
        assert_eq!(unsafe { cuStreamDestroy_v2(stream) }, CUresult::SUCCESS);
    };
    std::thread::scope(|scope| {
        for number in 1..=4 {
            scope.spawn(move || work(number));
        }
    });
}

#[test]
fn a_threads_own_stream_orders_itself_with_the_default_stream() {
    let gpu = Fixture::new();
    let gate = Mutex::new(());
    let closed = gate.lock();
    let place = (&raw const gate).cast_mut().cast();
    assert_eq!(unsafe { cuLaunchHostFunc_ptsz(CUstream(0), Some(hold), place) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuStreamQuery(CUstream::PER_THREAD) }, CUresult::ERROR_NOT_READY);
    assert_eq!(unsafe { cuStreamQuery_ptsz(CUstream(0)) }, CUresult::ERROR_NOT_READY);
    assert_eq!(unsafe { cuStreamQuery(CUstream(0)) }, CUresult::ERROR_NOT_READY);
    drop(closed);
    assert_eq!(unsafe { cuStreamSynchronize(CUstream::LEGACY) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuStreamQuery(CUstream::PER_THREAD) }, CUresult::SUCCESS);
    drop(gpu);
}

const ENDLESS: &CStr = cr#"
.version 7.0
.target sm_52
.address_size 64
.visible .entry endless(.param .u64 p, .param .u32 value)
{
again:
    bra again;
}
"#;

#[test]
fn an_endless_kernel_does_not_outlive_its_context() {
    let gpu = Fixture::new();
    let (endless, store) = (gpu.function(ENDLESS, c"endless"), gpu.function(STORE, c"store"));
    let (stream, other) = (gpu.stream(1), Fixture::new());
    let memory = other.upload(&[1]);
    assert_eq!(unsafe { cuCtxSetCurrent(gpu.0) }, CUresult::SUCCESS);
    assert_eq!(launch(endless, stream, CUdeviceptr(0), 0), CUresult::SUCCESS);
    assert_eq!(launch(store, stream, CUdeviceptr(0), 0), CUresult::SUCCESS, "what waits behind it ends too");
    let start = std::time::Instant::now();
    drop(gpu);
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(unsafe { cuCtxSetCurrent(other.0) }, CUresult::SUCCESS);
    assert_eq!(other.read(memory, 1), [1], "another context is not harmed");
}

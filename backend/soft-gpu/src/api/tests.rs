//! The driver through its C functions, called as a program calls them.
//!
//! Tests share one process and one device, so each works in a context of its own.

#![allow(clippy::undocumented_unsafe_blocks, reason = "every call is with valid places of the test's own")]

use std::collections::HashSet;
use std::ffi::{CStr, CString, c_void};
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_spec::calls;
use virtio_spec::cuda::*;

use super::{
    contexts::*, copies::*, devices::*, functions::*, launches::*, lookup, memory::*, modules::*, streams::*,
};

/// A context that is current until the end of a test.
struct Fixture(CUcontext);

impl Fixture {
    fn new() -> Self {
        let mut context = CUcontext(0);
        assert_eq!(unsafe { cuInit(0) }, CUresult::SUCCESS);
        assert_eq!(unsafe { cuCtxCreate_v2(&raw mut context, 0, CUdevice(0)) }, CUresult::SUCCESS);
        Self(context)
    }

    fn alloc(&self, bytes: usize) -> CUdeviceptr {
        let mut pointer = CUdeviceptr(0);
        assert_eq!(unsafe { cuMemAlloc_v2(&raw mut pointer, bytes) }, CUresult::SUCCESS);
        pointer
    }

    fn upload(&self, values: &[u32]) -> CUdeviceptr {
        let pointer = self.alloc(size_of_val(values));
        let copied = unsafe { cuMemcpyHtoD_v2(pointer, values.as_ptr().cast(), size_of_val(values)) };
        assert_eq!(copied, CUresult::SUCCESS);
        pointer
    }

    fn read(&self, pointer: CUdeviceptr, count: usize) -> Vec<u32> {
        let mut values = vec![0; count];
        let copied = unsafe { cuMemcpyDtoH_v2(values.as_mut_ptr().cast(), pointer, count * 4) };
        assert_eq!(copied, CUresult::SUCCESS);
        values
    }

    fn module(&self, source: &CStr) -> CUmodule {
        let mut module = CUmodule(0);
        let loaded = unsafe { cuModuleLoadData(&raw mut module, source.as_ptr().cast()) };
        assert_eq!(loaded, CUresult::SUCCESS);
        module
    }

    fn function(&self, source: &CStr, name: &CStr) -> CUfunction {
        let mut function = CUfunction(0);
        let found = unsafe { cuModuleGetFunction(&raw mut function, self.module(source), name.as_ptr()) };
        assert_eq!(found, CUresult::SUCCESS);
        function
    }

    fn stream(&self, flags: u32) -> CUstream {
        let mut stream = CUstream(0);
        assert_eq!(unsafe { cuStreamCreate(&raw mut stream, flags) }, CUresult::SUCCESS);
        stream
    }

    fn event(&self) -> CUevent {
        let mut event = CUevent(0);
        assert_eq!(unsafe { cuEventCreate(&raw mut event, 0) }, CUresult::SUCCESS);
        event
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = unsafe { cuCtxDestroy_v2(self.0) };
    }
}

const STORE: &CStr = cr#"
.version 7.0
.target sm_52
.address_size 64
.visible .global .align 4 .u32 counter = 7;
.visible .entry store(.param .u64 p, .param .u32 value)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    ld.param.u32 %r1, [value];
    cvta.to.global.u64 %rd2, %rd1;
    st.global.u32 [%rd2], %r1;
    ret;
}
"#;

fn launch(function: CUfunction, stream: CUstream, pointer: CUdeviceptr, value: u32) -> CUresult {
    let (mut pointer, mut value) = (pointer, value);
    let mut params = [(&raw mut pointer).cast::<c_void>(), (&raw mut value).cast()];
    unsafe { cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, params.as_mut_ptr(), null_mut()) }
}

#[test]
fn every_symbol_of_libcuda_is_exported_once() {
    let mut exported = HashSet::new();
    for entry in lookup::entries() {
        assert!(exported.insert(entry.name), "{} twice", entry.name);
    }
    for call in calls::all() {
        assert!(exported.contains(call.name), "{}", call.name);
        if let Some(suffix) = call.per_thread {
            assert!(exported.contains(format!("{}{}", call.name, suffix.suffix()).as_str()), "{}", call.name);
        }
    }
}

#[test]
fn a_kernel_writes_memory_and_sees_its_parameters() {
    let gpu = Fixture::new();
    let function = gpu.function(STORE, c"store");
    let pointer = gpu.upload(&[1, 2, 3]);
    assert_eq!(launch(function, CUstream(0), CUdeviceptr(pointer.0 + 4), 99), CUresult::SUCCESS);
    assert_eq!(gpu.read(pointer, 3), [1, 99, 3]);
}

#[test]
fn parameters_come_from_a_buffer_too() {
    let gpu = Fixture::new();
    let function = gpu.function(STORE, c"store");
    let pointer = gpu.upload(&[0]);
    let mut buffer = [0_u8; 12];
    buffer[..8].copy_from_slice(&pointer.0.to_le_bytes());
    buffer[8..].copy_from_slice(&5_u32.to_le_bytes());
    let mut size = buffer.len();
    let tag = std::ptr::without_provenance_mut;
    let mut extra = [tag(1), buffer.as_mut_ptr().cast::<c_void>(), tag(2), (&raw mut size).cast(), tag(0)];
    let launched =
        unsafe { cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, CUstream(0), null_mut(), extra.as_mut_ptr()) };
    assert_eq!(launched, CUresult::SUCCESS);
    assert_eq!(gpu.read(pointer, 1), [5]);
}

#[test]
fn an_illegal_address_ends_the_context_and_no_other() {
    let gpu = Fixture::new();
    let function = gpu.function(STORE, c"store");
    let pointer = gpu.upload(&[1]);
    assert_eq!(launch(function, CUstream(0), CUdeviceptr(pointer.0 + 4), 1), CUresult::SUCCESS);
    let sticky = CUresult::ERROR_ILLEGAL_ADDRESS;
    assert_eq!(unsafe { cuCtxSynchronize() }, sticky);
    assert_eq!(unsafe { cuMemFree_v2(pointer) }, sticky);
    assert_eq!(launch(function, CUstream(0), pointer, 1), sticky);
    let other = Fixture::new();
    let memory = other.upload(&[4]);
    assert_eq!(other.read(memory, 1), [4]);
}

#[test]
fn bad_launches_are_refused_at_once() {
    let gpu = Fixture::new();
    let function = gpu.function(STORE, c"store");
    let run = |grid: u32, block: u32, shared: u32, function| unsafe {
        let mut params = [null_mut(), null_mut()];
        cuLaunchKernel(
            function,
            grid,
            1,
            1,
            block,
            1,
            1,
            shared,
            CUstream(0),
            params.as_mut_ptr(),
            null_mut(),
        )
    };
    assert_eq!(run(0, 1, 0, function), CUresult::ERROR_INVALID_VALUE);
    assert_eq!(run(1, 2048, 0, function), CUresult::ERROR_INVALID_VALUE);
    assert_eq!(run(1, 1, 1 << 30, function), CUresult::ERROR_INVALID_VALUE);
    assert_eq!(run(1, 1, 100 << 10, function), CUresult::ERROR_INVALID_VALUE);
    assert_eq!(run(1, 1, 0, CUfunction(0)), CUresult::ERROR_INVALID_HANDLE);
    assert_eq!(run(1, 1, 0, CUfunction(0x1234)), CUresult::ERROR_INVALID_HANDLE);
    let too_large =
        unsafe { cuLaunchCooperativeKernel(function, 100_000, 1, 1, 1024, 1, 1, 0, CUstream(0), null_mut()) };
    assert_ne!(too_large, CUresult::SUCCESS);
}

#[test]
fn variables_have_their_first_values() {
    let gpu = Fixture::new();
    let module = gpu.module(STORE);
    let (mut pointer, mut bytes) = (CUdeviceptr(0), 0);
    let found =
        unsafe { cuModuleGetGlobal_v2(&raw mut pointer, &raw mut bytes, module, c"counter".as_ptr()) };
    assert_eq!((found, bytes), (CUresult::SUCCESS, 4));
    assert_eq!(gpu.read(pointer, 1), [7]);
    let absent = unsafe { cuModuleGetGlobal_v2(null_mut(), null_mut(), module, c"absent".as_ptr()) };
    assert_eq!(absent, CUresult::ERROR_NOT_FOUND);
    assert_eq!(unsafe { cuModuleUnload(module) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuModuleUnload(module) }, CUresult::ERROR_INVALID_HANDLE);
}

#[test]
fn the_compiler_says_what_is_wrong() {
    let gpu = Fixture::new();
    let mut log = vec![0_u8; 512];
    let mut names = [CUjit_option::ERROR_LOG_BUFFER, CUjit_option::ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(log.len())];
    let source = CString::new(STORE.to_str().unwrap().replace("st.global.u32", "frobnicate.u32")).unwrap();
    let mut module = CUmodule(0);
    let loaded = unsafe {
        cuModuleLoadDataEx(
            &raw mut module,
            source.as_ptr().cast(),
            2,
            names.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    let said = String::from_utf8_lossy(&log[..values[1].addr()]).into_owned();
    assert_eq!(loaded, CUresult::ERROR_INVALID_PTX);
    assert!(said.contains("frobnicate") && said.contains("line 13"), "{said}");
    drop(gpu);
}

#[test]
fn libraries_load_without_a_context_and_serve_each() {
    assert_eq!(unsafe { cuInit(0) }, CUresult::SUCCESS);
    let mut library = CUlibrary(0);
    let image = STORE.as_ptr().cast();
    let loaded = unsafe {
        cuLibraryLoadData(&raw mut library, image, null_mut(), null_mut(), 0, null_mut(), null_mut(), 0)
    };
    assert_eq!(loaded, CUresult::SUCCESS);
    let mut kernel = CUkernel(0);
    assert_eq!(unsafe { cuLibraryGetKernel(&raw mut kernel, library, c"store".as_ptr()) }, CUresult::SUCCESS);
    for value in [3, 4] {
        let gpu = Fixture::new();
        let pointer = gpu.upload(&[0]);
        // A kernel in a function's place.
        assert_eq!(launch(CUfunction(kernel.0), CUstream(0), pointer, value), CUresult::SUCCESS);
        assert_eq!(gpu.read(pointer, 1), [value]);
    }
    let mut offset = [0, 0];
    let told = unsafe { cuKernelGetParamInfo(kernel, 1, &raw mut offset[0], &raw mut offset[1]) };
    assert_eq!((told, offset), (CUresult::SUCCESS, [8, 4]));
    assert_eq!(unsafe { cuLibraryUnload(library) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuLibraryUnload(library) }, CUresult::ERROR_INVALID_HANDLE);
}

#[test]
fn linked_parts_become_a_module() {
    let gpu = Fixture::new();
    let mut state = CUlinkState(0);
    assert_eq!(unsafe { cuLinkCreate_v2(0, null_mut(), null_mut(), &raw mut state) }, CUresult::SUCCESS);
    let mut source = STORE.to_bytes_with_nul().to_vec();
    let data = source.as_mut_ptr().cast();
    let added = unsafe {
        cuLinkAddData_v2(
            state,
            CUjitInputType::PTX,
            data,
            source.len(),
            c"a".as_ptr(),
            0,
            null_mut(),
            null_mut(),
        )
    };
    assert_eq!(added, CUresult::SUCCESS);
    let (mut image, mut bytes) = (null_mut(), 0);
    assert_eq!(unsafe { cuLinkComplete(state, &raw mut image, &raw mut bytes) }, CUresult::SUCCESS);
    let mut module = CUmodule(0);
    assert_eq!(unsafe { cuModuleLoadData(&raw mut module, image) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuLinkDestroy(state) }, CUresult::SUCCESS);
    drop(gpu);
}

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
fn rows_are_copied_with_their_pitches() {
    let gpu = Fixture::new();
    let source = gpu.upload(&(0..64).collect::<Vec<_>>());
    let mut rows = [0_u32; 9];
    let mut copy = CUDA_MEMCPY2D {
        srcXInBytes: 4,
        srcY: 1,
        srcMemoryType: CUmemorytype::DEVICE,
        srcHost: std::ptr::null(),
        srcDevice: source,
        srcArray: CUarray(0),
        srcPitch: 32,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: CUmemorytype::HOST,
        dstHost: rows.as_mut_ptr().cast(),
        dstDevice: CUdeviceptr(0),
        dstArray: CUarray(0),
        dstPitch: 12,
        WidthInBytes: 12,
        Height: 3,
    };
    assert_eq!(unsafe { cuMemcpy2D_v2(&raw const copy) }, CUresult::SUCCESS);
    assert_eq!(rows, [9, 10, 11, 17, 18, 19, 25, 26, 27]);
    copy.srcPitch = 8;
    assert_eq!(unsafe { cuMemcpy2D_v2(&raw const copy) }, CUresult::ERROR_INVALID_VALUE);
}

#[test]
fn fills_are_aligned_and_bounded() {
    let gpu = Fixture::new();
    let pointer = gpu.upload(&[0; 8]);
    assert_eq!(unsafe { cuMemsetD32_v2(CUdeviceptr(pointer.0 + 4), 0x0102_0304, 2) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuMemsetD2D8_v2(CUdeviceptr(pointer.0 + 16), 8, 0xff, 2, 2) }, CUresult::SUCCESS);
    assert_eq!(gpu.read(pointer, 8), [0, 0x0102_0304, 0x0102_0304, 0, 0xffff, 0, 0xffff, 0]);
    let refused = CUresult::ERROR_INVALID_VALUE;
    assert_eq!(unsafe { cuMemsetD32_v2(CUdeviceptr(pointer.0 + 2), 0, 1) }, refused);
    assert_eq!(unsafe { cuMemsetD8_v2(pointer, 0, 33) }, refused);
}

#[test]
fn pointers_tell_what_they_are() {
    let gpu = Fixture::new();
    let device = gpu.alloc(1000);
    let mut kind = CUmemorytype(0);
    let ask = |kind: &mut CUmemorytype, pointer| unsafe {
        cuPointerGetAttribute(std::ptr::from_mut(kind).cast(), CUpointer_attribute::MEMORY_TYPE, pointer)
    };
    assert_eq!(ask(&mut kind, CUdeviceptr(device.0 + 999)), CUresult::SUCCESS);
    assert_eq!(kind, CUmemorytype::DEVICE);
    assert_eq!(ask(&mut kind, CUdeviceptr(device.0 + 1000)), CUresult::ERROR_INVALID_VALUE);
    let mut host = null_mut();
    assert_eq!(unsafe { cuMemHostAlloc(&raw mut host, 100, 0) }, CUresult::SUCCESS);
    let pinned = CUdeviceptr(host.expose_provenance() as u64);
    assert_eq!((ask(&mut kind, pinned), kind), (CUresult::SUCCESS, CUmemorytype::HOST));
    assert_eq!(unsafe { cuMemFreeHost(host) }, CUresult::SUCCESS);
    assert_eq!(ask(&mut kind, pinned), CUresult::ERROR_INVALID_VALUE);
}

#[test]
fn the_primary_context_keeps_its_handle_and_loses_its_memory() {
    assert_eq!(unsafe { cuInit(0) }, CUresult::SUCCESS);
    let (mut first, mut second) = (CUcontext(0), CUcontext(0));
    assert_eq!(unsafe { cuDevicePrimaryCtxRetain(&raw mut first, CUdevice(0)) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuCtxSetCurrent(first) }, CUresult::SUCCESS);
    let mut pointer = CUdeviceptr(0);
    assert_eq!(unsafe { cuMemAlloc_v2(&raw mut pointer, 64) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuDevicePrimaryCtxRelease_v2(CUdevice(0)) }, CUresult::SUCCESS);
    assert_eq!(unsafe { cuMemAlloc_v2(&raw mut pointer, 64) }, CUresult::ERROR_CONTEXT_IS_DESTROYED);
    assert_eq!(unsafe { cuDevicePrimaryCtxRetain(&raw mut second, CUdevice(0)) }, CUresult::SUCCESS);
    assert_eq!(first, second);
    assert_eq!(unsafe { cuMemFree_v2(pointer) }, CUresult::ERROR_INVALID_VALUE);
    assert_eq!(unsafe { cuDevicePrimaryCtxRelease_v2(CUdevice(0)) }, CUresult::SUCCESS);
    let once_more = unsafe { cuDevicePrimaryCtxRelease_v2(CUdevice(0)) };
    assert_eq!(once_more, CUresult::ERROR_INVALID_CONTEXT);
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
fn attributes_of_functions_can_be_raised_to_the_devices_limit() {
    let gpu = Fixture::new();
    let function = gpu.function(STORE, c"store");
    let set = |value| unsafe {
        cuFuncSetAttribute(function, CUfunction_attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES, value)
    };
    assert_eq!(set(200 << 10), CUresult::SUCCESS);
    assert_eq!(set(228 << 10), CUresult::ERROR_INVALID_VALUE);
    let mut value = 0;
    let attribute = CUfunction_attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES;
    assert_eq!(unsafe { cuFuncGetAttribute(&raw mut value, attribute, function) }, CUresult::SUCCESS);
    assert_eq!(value, 200 << 10);
    let mut blocks = 0;
    let counted = unsafe { cuOccupancyMaxActiveBlocksPerMultiprocessor(&raw mut blocks, function, 1024, 0) };
    assert_eq!((counted, blocks), (CUresult::SUCCESS, 2));
    drop(gpu);
}

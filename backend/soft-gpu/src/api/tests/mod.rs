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

mod memory;
mod streams;

use super::{
    contexts::*, copies::*, devices::*, functions::*, launches::*, lookup, managed::*, memory::*, modules::*,
    streams::*,
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

//! Modules, libraries and the linker.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Modules, libraries and the linker.
#[calls(group = 0x06)]
pub trait Modules {
    #[call(op = 0x01, since = 11070, guest, no_context)]
    fn cuModuleGetLoadingMode(mode: *mut CUmoduleLoadingMode);
    #[call(op = 0x02, since = 2000, custom)]
    fn cuModuleLoad(module: *mut CUmodule, fname: *const core::ffi::c_char);
    #[call(op = 0x03, since = 2000, custom)]
    fn cuModuleLoadData(module: *mut CUmodule, image: *const core::ffi::c_void);
    #[call(op = 0x04, since = 2010, custom)]
    fn cuModuleLoadDataEx(
        module: *mut CUmodule,
        image: *const core::ffi::c_void,
        num_options: u32,
        options: *mut CUjit_option,
        option_values: *mut *mut core::ffi::c_void,
    );
    #[call(op = 0x05, since = 2000, custom)]
    fn cuModuleLoadFatBinary(module: *mut CUmodule, fat_cubin: *const core::ffi::c_void);
    #[call(op = 0x06, since = 2000, custom)]
    fn cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const core::ffi::c_char);
    #[call(op = 0x07, since = 6050, custom)]
    fn cuLinkCreate_v2(
        num_options: u32,
        options: *mut CUjit_option,
        option_values: *mut *mut core::ffi::c_void,
        state_out: *mut CUlinkState,
    );
    #[call(op = 0x08, since = 6050, custom, no_context)]
    fn cuLinkAddData_v2(
        state: CUlinkState,
        kind: CUjitInputType,
        data: *mut core::ffi::c_void,
        size: usize,
        name: *const core::ffi::c_char,
        num_options: u32,
        options: *mut CUjit_option,
        option_values: *mut *mut core::ffi::c_void,
    );
    #[call(op = 0x09, since = 6050, custom, no_context)]
    fn cuLinkAddFile_v2(
        state: CUlinkState,
        kind: CUjitInputType,
        path: *const core::ffi::c_char,
        num_options: u32,
        options: *mut CUjit_option,
        option_values: *mut *mut core::ffi::c_void,
    );
    #[call(op = 0x0a, since = 5050, custom, no_context)]
    fn cuLinkComplete(state: CUlinkState, cubin_out: *mut *mut core::ffi::c_void, size_out: *mut usize);
    #[call(op = 0x0b, since = 5050, wire, custom, no_context)]
    fn cuLinkDestroy(#[destroy] state: CUlinkState);
    #[call(op = 0x0c, since = 12000, custom)]
    fn cuLibraryGetKernel(p_kernel: *mut CUkernel, library: CUlibrary, name: *const core::ffi::c_char);
    #[call(op = 0x0d, since = 12000, custom)]
    fn cuKernelGetFunction(p_func: *mut CUfunction, kernel: CUkernel);
    #[call(op = 0x0e, since = 12000, custom, no_context)]
    fn cuLibraryLoadData(
        library: *mut CUlibrary,
        code: *const core::ffi::c_void,
        jit_options: *mut CUjit_option,
        jit_options_values: *mut *mut core::ffi::c_void,
        num_jit_options: u32,
        library_options: *mut CUlibraryOption,
        library_option_values: *mut *mut core::ffi::c_void,
        num_library_options: u32,
    );
    #[call(op = 0x0f, since = 12000, custom, no_context)]
    fn cuLibraryLoadFromFile(
        library: *mut CUlibrary,
        file_name: *const core::ffi::c_char,
        jit_options: *mut CUjit_option,
        jit_options_values: *mut *mut core::ffi::c_void,
        num_jit_options: u32,
        library_options: *mut CUlibraryOption,
        library_option_values: *mut *mut core::ffi::c_void,
        num_library_options: u32,
    );
    #[call(op = 0x10, since = 2000, wire, custom)]
    fn cuModuleUnload(#[destroy] module: CUmodule);
    #[call(op = 0x11, since = 12000, wire, custom, no_context)]
    fn cuLibraryUnload(#[destroy] library: CUlibrary);
    #[call(op = 0x12, since = 3020, wire, custom, no_context)]
    fn cuModuleGetGlobal_v2(
        #[out(optional)] pointer: *mut CUdeviceptr,
        #[out(optional)] bytes: *mut usize,
        module: CUmodule,
        #[text] name: *const core::ffi::c_char,
    );
    #[call(op = 0x13, since = 12000, wire, custom)]
    fn cuLibraryGetGlobal(
        #[out(optional)] pointer: *mut CUdeviceptr,
        #[out(optional)] bytes: *mut usize,
        library: CUlibrary,
        #[text] name: *const core::ffi::c_char,
    );
    #[call(op = 0x14, since = 12000, wire, custom)]
    fn cuLibraryGetModule(#[mint] p_mod: *mut CUmodule, library: CUlibrary);
    #[call(op = 0x15, since = 12040, wire, no_context)]
    fn cuModuleGetFunctionCount(#[out] count: *mut u32, module: CUmodule);
    #[call(op = 0x16, since = 12040, wire, no_context)]
    fn cuLibraryGetKernelCount(#[out] count: *mut u32, lib: CUlibrary);
    #[call(op = 0x17, since = 12050, guest, no_context)]
    fn cuKernelGetLibrary(p_lib: *mut CUlibrary, kernel: CUkernel);
    #[call(op = 0x18, since = 12040, custom, no_context)]
    fn cuLibraryEnumerateKernels(kernels: *mut CUkernel, num_kernels: u32, lib: CUlibrary);
    #[call(op = 0x19, since = 12000, wire, custom, no_context)]
    fn cuLibraryGetManaged(
        #[out(optional)] pointer: *mut CUdeviceptr,
        #[out(optional)] bytes: *mut usize,
        library: CUlibrary,
        #[text] name: *const core::ffi::c_char,
    );
    #[call(op = 0x1a, since = 12000, unsupported)]
    fn cuLibraryGetUnifiedFunction();
    #[call(op = 0x1b, since = 5050, unsupported)]
    fn cuLinkAddData();
    #[call(op = 0x1c, since = 5050, unsupported)]
    fn cuLinkAddFile();
    #[call(op = 0x1d, since = 5050, unsupported)]
    fn cuLinkCreate();
    #[call(op = 0x1e, since = 12040, custom)]
    fn cuModuleEnumerateFunctions(functions: *mut CUfunction, num_functions: u32, module: CUmodule);
    #[call(op = 0x1f, since = 2000, unsupported)]
    fn cuModuleGetGlobal();
}

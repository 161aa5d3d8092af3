//! A kernel that never ends is stopped by the bound on its steps. In a process of its own: the bound is read once, from
//! the environment.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

// Links the library's C functions, which are what is tested.
use soft_gpu as _;

unsafe extern "C" {
    fn cuInit(flags: u32) -> u32;
    fn cuCtxCreate_v2(context: *mut u64, flags: u32, device: i32) -> u32;
    fn cuCtxSynchronize() -> u32;
    fn cuModuleLoadData(module: *mut u64, image: *const c_void) -> u32;
    fn cuModuleGetFunction(function: *mut u64, module: u64, name: *const c_char) -> u32;
    fn cuLaunchKernel(
        function: u64,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        shared: u32,
        stream: u64,
        params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> u32;
}

const ENDLESS: &CStr = c"
.version 7.0
.target sm_52
.address_size 64
.visible .entry endless()
{
again:
    bra again;
}
";

/// `CUDA_ERROR_LAUNCH_TIMEOUT`.
const TIMEOUT: u32 = 702;

#[test]
fn an_endless_kernel_is_stopped_and_its_context_ends() {
    // SAFETY: this process has no other thread that reads the environment.
    unsafe { std::env::set_var("SOFT_GPU_MAX_STEPS", "100000") };
    let (mut context, mut module, mut function) = (0, 0, 0);
    // SAFETY: no argument is a pointer.
    assert_eq!(unsafe { cuInit(0) }, 0);
    // SAFETY: a place for a handle.
    assert_eq!(unsafe { cuCtxCreate_v2(&raw mut context, 0, 0) }, 0);
    // SAFETY: a place for a handle, and a text.
    assert_eq!(unsafe { cuModuleLoadData(&raw mut module, ENDLESS.as_ptr().cast()) }, 0);
    // SAFETY: a place for a handle, and a text.
    assert_eq!(unsafe { cuModuleGetFunction(&raw mut function, module, c"endless".as_ptr()) }, 0);
    let launch = || {
        // SAFETY: the kernel has no parameters.
        unsafe { cuLaunchKernel(function, 2, 1, 1, 32, 1, 1, 0, 0, null_mut(), null_mut()) }
    };
    assert_eq!(launch(), 0);
    // SAFETY: no argument.
    assert_eq!(unsafe { cuCtxSynchronize() }, TIMEOUT);
    assert_eq!(launch(), TIMEOUT);
}

//! Launches.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Launches.
#[calls(group = 0x08)]
pub trait Launches {
    #[call(op = 0x01, since = 4000, custom, ptsz)]
    fn cuLaunchKernel(
        f: CUfunction,
        grid_dim_x: u32,
        grid_dim_y: u32,
        grid_dim_z: u32,
        block_dim_x: u32,
        block_dim_y: u32,
        block_dim_z: u32,
        shared_mem_bytes: u32,
        stream: CUstream,
        kernel_params: *mut *mut core::ffi::c_void,
        extra: *mut *mut core::ffi::c_void,
    );
    #[call(op = 0x02, since = 11060, custom, ptsz)]
    fn cuLaunchKernelEx(
        config: *const CUlaunchConfig,
        f: CUfunction,
        kernel_params: *mut *mut core::ffi::c_void,
        extra: *mut *mut core::ffi::c_void,
    );
    #[call(op = 0x03, since = 9000, custom, ptsz)]
    fn cuLaunchCooperativeKernel(
        f: CUfunction,
        grid_dim_x: u32,
        grid_dim_y: u32,
        grid_dim_z: u32,
        block_dim_x: u32,
        block_dim_y: u32,
        block_dim_z: u32,
        shared_mem_bytes: u32,
        stream: CUstream,
        kernel_params: *mut *mut core::ffi::c_void,
    );
    #[call(op = 0x04, since = 2000, unsupported)]
    fn cuFuncSetBlockShape();
    #[call(op = 0x05, since = 2000, unsupported)]
    fn cuFuncSetSharedSize();
    #[call(op = 0x06, since = 2000, unsupported)]
    fn cuLaunch();
    #[call(op = 0x07, since = 9000, unsupported)]
    fn cuLaunchCooperativeKernelMultiDevice();
    #[call(op = 0x08, since = 2000, unsupported)]
    fn cuLaunchGrid();
    #[call(op = 0x09, since = 2000, unsupported)]
    fn cuLaunchGridAsync();
    #[call(op = 0x0a, since = 10000, custom, ptsz)]
    fn cuLaunchHostFunc(stream: CUstream, function: CUhostFn, data: *mut core::ffi::c_void);
    #[call(op = 0x0b, since = 2000, unsupported)]
    fn cuParamSetSize();
    #[call(op = 0x0c, since = 2000, unsupported)]
    fn cuParamSetf();
    #[call(op = 0x0d, since = 2000, unsupported)]
    fn cuParamSeti();
    #[call(op = 0x0e, since = 2000, unsupported)]
    fn cuParamSetv();
    #[call(op = 0x0f, since = 5000, custom, ptsz)]
    fn cuStreamAddCallback(
        stream: CUstream,
        callback: CUstreamCallback,
        data: *mut core::ffi::c_void,
        flags: u32,
    );
}

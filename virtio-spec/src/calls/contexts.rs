//! Primary and explicit contexts, their stacks and limits.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Primary and explicit contexts, their stacks and limits.
#[calls(group = 0x02)]
pub trait Contexts {
    #[call(op = 0x01, since = 7000, custom, no_context)]
    fn cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice);
    #[call(op = 0x02, since = 7000, custom, no_context)]
    fn cuDevicePrimaryCtxRelease(device: CUdevice);
    #[call(op = 0x03, since = 11000, custom, no_context)]
    fn cuDevicePrimaryCtxRelease_v2(device: CUdevice);
    #[call(op = 0x04, since = 7000, custom, no_context)]
    fn cuDevicePrimaryCtxReset(device: CUdevice);
    #[call(op = 0x05, since = 11000, custom, no_context)]
    fn cuDevicePrimaryCtxReset_v2(device: CUdevice);
    #[call(op = 0x06, since = 7000, custom, no_context)]
    fn cuDevicePrimaryCtxGetState(device: CUdevice, flags: *mut u32, active: *mut i32);
    #[call(op = 0x07, since = 7000, custom, no_context)]
    fn cuDevicePrimaryCtxSetFlags(device: CUdevice, flags: u32);
    #[call(op = 0x08, since = 11000, custom, no_context)]
    fn cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: u32);
    #[call(op = 0x09, since = 2000, unsupported)]
    fn cuCtxCreate();
    #[call(op = 0x0a, since = 3020, custom, no_context)]
    fn cuCtxCreate_v2(context: *mut CUcontext, flags: u32, device: CUdevice);
    #[call(op = 0x0b, since = 11040, custom, no_context)]
    fn cuCtxCreate_v3(
        context: *mut CUcontext,
        params_array: *mut CUexecAffinityParam,
        num_params: i32,
        flags: u32,
        device: CUdevice,
    );
    #[call(op = 0x0c, since = 12050, custom, no_context)]
    fn cuCtxCreate_v4(
        context: *mut CUcontext,
        ctx_create_params: *mut CUctxCreateParams,
        flags: u32,
        device: CUdevice,
    );
    #[call(op = 0x0d, since = 2000, custom, no_context)]
    fn cuCtxAttach(context: *mut CUcontext, flags: u32);
    #[call(op = 0x0e, since = 2000, custom, no_context)]
    fn cuCtxDetach(context: CUcontext);
    #[call(op = 0x0f, since = 2000, custom, no_context)]
    fn cuCtxDestroy(context: CUcontext);
    #[call(op = 0x10, since = 4000, wire, custom, no_context)]
    fn cuCtxDestroy_v2(#[destroy] context: CUcontext);
    #[call(op = 0x11, since = 2000, guest, no_context)]
    fn cuCtxPushCurrent(context: CUcontext);
    #[call(op = 0x12, since = 4000, guest, no_context)]
    fn cuCtxPushCurrent_v2(context: CUcontext);
    #[call(op = 0x13, since = 2000, guest, no_context)]
    fn cuCtxPopCurrent(context: *mut CUcontext);
    #[call(op = 0x14, since = 4000, guest, no_context)]
    fn cuCtxPopCurrent_v2(context: *mut CUcontext);
    #[call(op = 0x15, since = 4000, guest, no_context)]
    fn cuCtxSetCurrent(context: CUcontext);
    #[call(op = 0x16, since = 4000, guest, no_context)]
    fn cuCtxGetCurrent(context: *mut CUcontext);
    #[call(op = 0x17, since = 2000, guest, no_context)]
    fn cuCtxGetDevice(device: *mut CUdevice);
    #[call(op = 0x18, since = 13000, guest, no_context)]
    fn cuCtxGetDevice_v2(device: *mut CUdevice, context: CUcontext);
    #[call(op = 0x19, since = 7000, guest, no_context)]
    fn cuCtxGetFlags(flags: *mut u32);
    #[call(op = 0x1a, since = 12000, guest, no_context)]
    fn cuCtxGetId(context: CUcontext, ctx_id: *mut u64);
    #[call(op = 0x1b, since = 3020, guest, no_context)]
    fn cuCtxGetApiVersion(context: CUcontext, version: *mut u32);
    #[call(op = 0x1c, since = 5050, guest, no_context)]
    fn cuCtxGetStreamPriorityRange(least_priority: *mut i32, greatest_priority: *mut i32);
    #[call(op = 0x1d, since = 11040, guest, no_context)]
    fn cuCtxGetExecAffinity(p_exec_affinity: *mut CUexecAffinityParam, kind: CUexecAffinityType);
    #[call(op = 0x1e, since = 2000, wire, custom, blocks_gpu)]
    fn cuCtxSynchronize();
    #[call(op = 0x1f, since = 13000, custom, no_context)]
    fn cuCtxSynchronize_v2(context: CUcontext);
    #[call(op = 0x20, since = 3010, wire, custom)]
    fn cuCtxSetLimit(limit: CUlimit, value: usize);
    #[call(op = 0x21, since = 3020, wire, custom)]
    fn cuCtxSetCacheConfig(config: CUfunc_cache);
    #[call(op = 0x22, since = 4020, wire, custom)]
    fn cuCtxSetSharedMemConfig(config: CUsharedconfig);
    #[call(op = 0x23, since = 11000, wire)]
    fn cuCtxResetPersistingL2Cache();
    #[call(op = 0x24, since = 12010, wire)]
    fn cuCtxSetFlags(flags: u32);
    #[call(op = 0x25, since = 3010, wire, custom)]
    fn cuCtxGetLimit(#[out] pvalue: *mut usize, limit: CUlimit);
    #[call(op = 0x26, since = 3020, wire)]
    fn cuCtxGetCacheConfig(#[out] pconfig: *mut CUfunc_cache);
    #[call(op = 0x27, since = 4020, wire)]
    fn cuCtxGetSharedMemConfig(#[out] p_config: *mut CUsharedconfig);
}

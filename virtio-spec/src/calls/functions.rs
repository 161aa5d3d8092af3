//! Functions, kernels, their attributes, and occupancy.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Functions, kernels, their attributes, and occupancy.
#[calls(group = 0x07)]
pub trait Functions {
    #[call(op = 0x01, since = 12030, guest, no_context)]
    fn cuKernelGetName(name: *mut *const core::ffi::c_char, function: CUkernel);
    #[call(op = 0x02, since = 12030, guest, no_context)]
    fn cuFuncGetName(name: *mut *const core::ffi::c_char, function: CUfunction);
    #[call(op = 0x03, since = 11000, guest, no_context)]
    fn cuFuncGetModule(module: *mut CUmodule, function: CUfunction);
    #[call(op = 0x04, since = 12040, guest, no_context)]
    fn cuFuncGetParamInfo(
        func: CUfunction,
        param_index: usize,
        param_offset: *mut usize,
        param_size: *mut usize,
    );
    #[call(op = 0x05, since = 12040, guest, no_context)]
    fn cuKernelGetParamInfo(
        kernel: CUkernel,
        param_index: usize,
        param_offset: *mut usize,
        param_size: *mut usize,
    );
    #[call(op = 0x06, since = 12040, guest, no_context)]
    fn cuFuncIsLoaded(state: *mut CUfunctionLoadingState, function: CUfunction);
    #[call(op = 0x07, since = 2020, wire, custom)]
    fn cuFuncGetAttribute(#[out] value: *mut i32, attrib: CUfunction_attribute, function: CUfunction);
    #[call(op = 0x08, since = 12000, wire, custom, no_context)]
    fn cuKernelGetAttribute(
        #[out] value: *mut i32,
        attrib: CUfunction_attribute,
        kernel: CUkernel,
        device: CUdevice,
    );
    #[call(op = 0x09, since = 9000, wire, custom)]
    fn cuFuncSetAttribute(function: CUfunction, attrib: CUfunction_attribute, value: i32);
    #[call(op = 0x0a, since = 12000, wire, custom, no_context)]
    fn cuKernelSetAttribute(attrib: CUfunction_attribute, val: i32, kernel: CUkernel, device: CUdevice);
    #[call(op = 0x0b, since = 3000, wire, custom)]
    fn cuFuncSetCacheConfig(function: CUfunction, config: CUfunc_cache);
    #[call(op = 0x0c, since = 4020, wire, custom)]
    fn cuFuncSetSharedMemConfig(function: CUfunction, config: CUsharedconfig);
    #[call(op = 0x0d, since = 12040, wire)]
    fn cuFuncLoad(function: CUfunction);
    #[call(op = 0x0e, since = 12000, wire, custom, no_context)]
    fn cuKernelSetCacheConfig(kernel: CUkernel, config: CUfunc_cache, device: CUdevice);
    #[call(op = 0x0f, since = 6050, wire, custom)]
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        #[out] num_blocks: *mut i32,
        func: CUfunction,
        block_size: i32,
        dynamic_smem_size: usize,
    );
    #[call(op = 0x10, since = 7000, wire, custom)]
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        #[out] num_blocks: *mut i32,
        func: CUfunction,
        block_size: i32,
        dynamic_smem_size: usize,
        flags: u32,
    );
    #[call(op = 0x11, since = 10020, wire)]
    fn cuOccupancyAvailableDynamicSMemPerBlock(
        #[out] dynamic_smem_size: *mut usize,
        func: CUfunction,
        num_blocks: i32,
        block_size: i32,
    );
    #[call(op = 0x12, since = 6050, custom)]
    fn cuOccupancyMaxPotentialBlockSize(
        min_grid_size: *mut i32,
        block_size: *mut i32,
        func: CUfunction,
        block_size_to_dynamic_smem_size: CUoccupancyB2DSize,
        dynamic_smem_size: usize,
        block_size_limit: i32,
    );
    #[call(op = 0x13, since = 7000, custom)]
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        min_grid_size: *mut i32,
        block_size: *mut i32,
        func: CUfunction,
        block_size_to_dynamic_smem_size: CUoccupancyB2DSize,
        dynamic_smem_size: usize,
        block_size_limit: i32,
        flags: u32,
    );
    #[call(op = 0x14, since = 11070, custom)]
    fn cuOccupancyMaxActiveClusters(num_clusters: *mut i32, func: CUfunction, config: *const CUlaunchConfig);
    #[call(op = 0x15, since = 11070, custom)]
    fn cuOccupancyMaxPotentialClusterSize(
        cluster_size: *mut i32,
        func: CUfunction,
        config: *const CUlaunchConfig,
    );
}

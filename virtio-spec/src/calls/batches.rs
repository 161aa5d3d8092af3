//! Batched memory operations, tensor maps and multicast.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Batched memory operations, tensor maps and multicast.
#[calls(group = 0x19)]
pub trait Batches {
    #[call(op = 0x01, since = 12060, unsupported, ptsz)]
    fn cuMemBatchDecompressAsync();
    #[call(op = 0x02, since = 12080, custom, ptsz)]
    fn cuMemcpy3DBatchAsync(
        num_ops: usize,
        op_list: *const CUDA_MEMCPY3D_BATCH_OP,
        fail_idx: *mut usize,
        flags: u64,
        stream: CUstream,
    );
    #[call(op = 0x03, since = 13000, custom, ptsz)]
    fn cuMemcpy3DBatchAsync_v2(
        num_ops: usize,
        op_list: *const CUDA_MEMCPY3D_BATCH_OP,
        flags: u64,
        stream: CUstream,
    );
    #[call(op = 0x04, since = 12080, custom, ptsz)]
    fn cuMemcpyBatchAsync(
        dsts: *const CUdeviceptr,
        srcs: *const CUdeviceptr,
        sizes: *const usize,
        count: usize,
        attrs: *const CUmemcpyAttributes,
        attrs_idxs: *const usize,
        num_attrs: usize,
        fail_idx: *mut usize,
        stream: CUstream,
    );
    #[call(op = 0x05, since = 13000, custom, ptsz)]
    fn cuMemcpyBatchAsync_v2(
        dsts: *const CUdeviceptr,
        srcs: *const CUdeviceptr,
        sizes: *const usize,
        count: usize,
        attrs: *const CUmemcpyAttributes,
        attrs_idxs: *const usize,
        num_attrs: usize,
        stream: CUstream,
    );
    #[call(op = 0x06, since = 12010, unsupported)]
    fn cuMulticastAddDevice();
    #[call(op = 0x07, since = 12010, unsupported)]
    fn cuMulticastBindAddr();
    #[call(op = 0x08, since = 12010, unsupported)]
    fn cuMulticastBindMem();
    #[call(op = 0x09, since = 12010, unsupported)]
    fn cuMulticastCreate();
    #[call(op = 0x0a, since = 12010, unsupported)]
    fn cuMulticastGetGranularity();
    #[call(op = 0x0b, since = 12010, unsupported)]
    fn cuMulticastUnbind();
    #[call(op = 0x0c, since = 8000, wire, custom, ptsz)]
    fn cuStreamBatchMemOp(
        stream: CUstream,
        count: u32,
        #[input(count = count)] param_array: *const CUstreamBatchMemOpParams,
        flags: u32,
    );
    #[call(op = 0x0d, since = 11070, wire, custom, ptsz)]
    fn cuStreamBatchMemOp_v2(
        stream: CUstream,
        count: u32,
        #[input(count = count)] param_array: *const CUstreamBatchMemOpParams,
        flags: u32,
    );
    #[call(op = 0x0e, since = 8000, wire, custom, ptsz)]
    fn cuStreamWaitValue32(stream: CUstream, addr: CUdeviceptr, value: u32, flags: u32);
    #[call(op = 0x0f, since = 11070, wire, custom, ptsz)]
    fn cuStreamWaitValue32_v2(stream: CUstream, addr: CUdeviceptr, value: u32, flags: u32);
    #[call(op = 0x10, since = 9000, wire, custom, ptsz)]
    fn cuStreamWaitValue64(stream: CUstream, addr: CUdeviceptr, value: u64, flags: u32);
    #[call(op = 0x11, since = 11070, wire, custom, ptsz)]
    fn cuStreamWaitValue64_v2(stream: CUstream, addr: CUdeviceptr, value: u64, flags: u32);
    #[call(op = 0x12, since = 8000, wire, custom, ptsz)]
    fn cuStreamWriteValue32(stream: CUstream, addr: CUdeviceptr, value: u32, flags: u32);
    #[call(op = 0x13, since = 11070, wire, custom, ptsz)]
    fn cuStreamWriteValue32_v2(stream: CUstream, addr: CUdeviceptr, value: u32, flags: u32);
    #[call(op = 0x14, since = 9000, wire, custom, ptsz)]
    fn cuStreamWriteValue64(stream: CUstream, addr: CUdeviceptr, value: u64, flags: u32);
    #[call(op = 0x15, since = 11070, wire, custom, ptsz)]
    fn cuStreamWriteValue64_v2(stream: CUstream, addr: CUdeviceptr, value: u64, flags: u32);
    #[call(op = 0x16, since = 12000, custom)]
    fn cuTensorMapEncodeIm2col(
        tensor_map: *mut CUtensorMap,
        data_type: CUtensorMapDataType,
        rank: u32,
        address: *mut core::ffi::c_void,
        dimensions: *const u64,
        strides: *const u64,
        lower_corner: *const i32,
        upper_corner: *const i32,
        channels: u32,
        pixels: u32,
        element_strides: *const u32,
        interleave: CUtensorMapInterleave,
        swizzle: CUtensorMapSwizzle,
        l2_promotion: CUtensorMapL2promotion,
        fill: CUtensorMapFloatOOBfill,
    );
    #[call(op = 0x17, since = 12080, custom)]
    fn cuTensorMapEncodeIm2colWide(
        tensor_map: *mut CUtensorMap,
        data_type: CUtensorMapDataType,
        rank: u32,
        address: *mut core::ffi::c_void,
        dimensions: *const u64,
        strides: *const u64,
        lower_width: i32,
        upper_width: i32,
        channels: u32,
        pixels: u32,
        element_strides: *const u32,
        interleave: CUtensorMapInterleave,
        mode: CUtensorMapIm2ColWideMode,
        swizzle: CUtensorMapSwizzle,
        l2_promotion: CUtensorMapL2promotion,
        fill: CUtensorMapFloatOOBfill,
    );
    #[call(op = 0x18, since = 12000, custom)]
    fn cuTensorMapEncodeTiled(
        tensor_map: *mut CUtensorMap,
        data_type: CUtensorMapDataType,
        rank: u32,
        address: *mut core::ffi::c_void,
        dimensions: *const u64,
        strides: *const u64,
        box_dimensions: *const u32,
        element_strides: *const u32,
        interleave: CUtensorMapInterleave,
        swizzle: CUtensorMapSwizzle,
        l2_promotion: CUtensorMapL2promotion,
        fill: CUtensorMapFloatOOBfill,
    );
    #[call(op = 0x19, since = 12000, custom)]
    fn cuTensorMapReplaceAddress(tensor_map: *mut CUtensorMap, address: *mut core::ffi::c_void);
}

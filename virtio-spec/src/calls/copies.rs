//! Copies of linear memory.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Copies of linear memory.
#[calls(group = 0x04)]
pub trait Copies {
    #[call(op = 0x01, since = 4000, custom, ptds)]
    fn cuMemcpy(dst: CUdeviceptr, src: CUdeviceptr, byte_count: usize);
    #[call(op = 0x02, since = 4000, custom, ptsz)]
    fn cuMemcpyAsync(dst: CUdeviceptr, src: CUdeviceptr, byte_count: usize, stream: CUstream);
    #[call(op = 0x03, since = 4000, custom, ptds)]
    fn cuMemcpyPeer(
        dst_device: CUdeviceptr,
        dst_context: CUcontext,
        src_device: CUdeviceptr,
        src_context: CUcontext,
        byte_count: usize,
    );
    #[call(op = 0x04, since = 4000, custom, ptsz)]
    fn cuMemcpyPeerAsync(
        dst_device: CUdeviceptr,
        dst_context: CUcontext,
        src_device: CUdeviceptr,
        src_context: CUcontext,
        byte_count: usize,
        stream: CUstream,
    );
    #[call(op = 0x05, since = 3020, custom, ptds)]
    fn cuMemcpyHtoD_v2(dst_device: CUdeviceptr, src_host: *const core::ffi::c_void, byte_count: usize);
    #[call(op = 0x06, since = 3020, custom, ptds)]
    fn cuMemcpyDtoH_v2(dst_host: *mut core::ffi::c_void, src_device: CUdeviceptr, byte_count: usize);
    #[call(op = 0x07, since = 3020, custom, ptds)]
    fn cuMemcpyDtoD_v2(dst_device: CUdeviceptr, src_device: CUdeviceptr, byte_count: usize);
    #[call(op = 0x08, since = 3020, custom, ptsz)]
    fn cuMemcpyHtoDAsync_v2(
        dst_device: CUdeviceptr,
        src_host: *const core::ffi::c_void,
        byte_count: usize,
        stream: CUstream,
    );
    #[call(op = 0x09, since = 3020, custom, ptsz)]
    fn cuMemcpyDtoHAsync_v2(
        dst_host: *mut core::ffi::c_void,
        src_device: CUdeviceptr,
        byte_count: usize,
        stream: CUstream,
    );
    #[call(op = 0x0a, since = 3020, custom, ptsz)]
    fn cuMemcpyDtoDAsync_v2(
        dst_device: CUdeviceptr,
        src_device: CUdeviceptr,
        byte_count: usize,
        stream: CUstream,
    );
    #[call(op = 0x0b, since = 3020, custom, ptds)]
    fn cuMemcpy2D_v2(p_copy: *const CUDA_MEMCPY2D);
    #[call(op = 0x0c, since = 3020, custom, ptds)]
    fn cuMemcpy2DUnaligned_v2(p_copy: *const CUDA_MEMCPY2D);
    #[call(op = 0x0d, since = 3020, custom, ptsz)]
    fn cuMemcpy2DAsync_v2(p_copy: *const CUDA_MEMCPY2D, stream: CUstream);
    #[call(op = 0x0e, since = 3020, custom, ptds)]
    fn cuMemcpy3D_v2(p_copy: *const CUDA_MEMCPY3D);
    #[call(op = 0x0f, since = 3020, custom, ptsz)]
    fn cuMemcpy3DAsync_v2(p_copy: *const CUDA_MEMCPY3D, stream: CUstream);
    #[call(op = 0x10, since = 4000, custom, ptds)]
    fn cuMemcpy3DPeer(p_copy: *const CUDA_MEMCPY3D_PEER);
    #[call(op = 0x11, since = 4000, custom, ptsz)]
    fn cuMemcpy3DPeerAsync(p_copy: *const CUDA_MEMCPY3D_PEER, stream: CUstream);
    #[call(op = 0x12, since = 2000, unsupported)]
    fn cuMemcpy2D();
    #[call(op = 0x13, since = 2000, unsupported)]
    fn cuMemcpy2DAsync();
    #[call(op = 0x14, since = 2000, unsupported)]
    fn cuMemcpy2DUnaligned();
    #[call(op = 0x15, since = 2000, unsupported)]
    fn cuMemcpy3D();
    #[call(op = 0x16, since = 2000, unsupported)]
    fn cuMemcpy3DAsync();
    #[call(op = 0x17, since = 2000, unsupported)]
    fn cuMemcpyDtoD();
    #[call(op = 0x18, since = 3000, unsupported)]
    fn cuMemcpyDtoDAsync();
    #[call(op = 0x19, since = 2000, unsupported)]
    fn cuMemcpyDtoH();
    #[call(op = 0x1a, since = 2000, unsupported)]
    fn cuMemcpyDtoHAsync();
    #[call(op = 0x1b, since = 2000, unsupported)]
    fn cuMemcpyHtoD();
    #[call(op = 0x1c, since = 2000, unsupported)]
    fn cuMemcpyHtoDAsync();
}

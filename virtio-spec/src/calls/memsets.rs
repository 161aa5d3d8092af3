//! Memsets of linear memory.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Memsets of linear memory.
#[calls(group = 0x05)]
pub trait Memsets {
    #[call(op = 0x01, since = 3020, wire, custom, ptds)]
    fn cuMemsetD8_v2(dst_device: CUdeviceptr, uc: u8, n: usize);
    #[call(op = 0x02, since = 3020, wire, custom, ptds)]
    fn cuMemsetD16_v2(dst_device: CUdeviceptr, us: u16, n: usize);
    #[call(op = 0x03, since = 3020, wire, custom, ptds)]
    fn cuMemsetD32_v2(dst_device: CUdeviceptr, ui: u32, n: usize);
    #[call(op = 0x04, since = 3020, wire, custom, ptds)]
    fn cuMemsetD2D8_v2(dst_device: CUdeviceptr, dst_pitch: usize, uc: u8, width: usize, height: usize);
    #[call(op = 0x05, since = 3020, wire, custom, ptds)]
    fn cuMemsetD2D16_v2(dst_device: CUdeviceptr, dst_pitch: usize, us: u16, width: usize, height: usize);
    #[call(op = 0x06, since = 3020, wire, custom, ptds)]
    fn cuMemsetD2D32_v2(dst_device: CUdeviceptr, dst_pitch: usize, ui: u32, width: usize, height: usize);
    #[call(op = 0x07, since = 3020, wire, custom, ptsz)]
    fn cuMemsetD8Async(dst_device: CUdeviceptr, uc: u8, n: usize, stream: CUstream);
    #[call(op = 0x08, since = 3020, wire, custom, ptsz)]
    fn cuMemsetD16Async(dst_device: CUdeviceptr, us: u16, n: usize, stream: CUstream);
    #[call(op = 0x09, since = 3020, wire, custom, ptsz)]
    fn cuMemsetD32Async(dst_device: CUdeviceptr, ui: u32, n: usize, stream: CUstream);
    #[call(op = 0x0a, since = 3020, wire, custom, ptsz)]
    fn cuMemsetD2D8Async(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        uc: u8,
        width: usize,
        height: usize,
        stream: CUstream,
    );
    #[call(op = 0x0b, since = 3020, wire, custom, ptsz)]
    fn cuMemsetD2D16Async(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        us: u16,
        width: usize,
        height: usize,
        stream: CUstream,
    );
    #[call(op = 0x0c, since = 3020, wire, custom, ptsz)]
    fn cuMemsetD2D32Async(
        dst_device: CUdeviceptr,
        dst_pitch: usize,
        ui: u32,
        width: usize,
        height: usize,
        stream: CUstream,
    );
    #[call(op = 0x0d, since = 2000, unsupported)]
    fn cuMemsetD16();
    #[call(op = 0x0e, since = 2000, unsupported)]
    fn cuMemsetD2D16();
    #[call(op = 0x0f, since = 2000, unsupported)]
    fn cuMemsetD2D32();
    #[call(op = 0x10, since = 2000, unsupported)]
    fn cuMemsetD2D8();
    #[call(op = 0x11, since = 2000, unsupported)]
    fn cuMemsetD32();
    #[call(op = 0x12, since = 2000, unsupported)]
    fn cuMemsetD8();
}

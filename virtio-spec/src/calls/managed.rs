//! Managed memory.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Managed memory.
#[calls(group = 0x16)]
pub trait Managed {
    #[call(op = 0x01, since = 8000, guest)]
    fn cuMemAdvise(dev_ptr: CUdeviceptr, count: usize, advice: u32, device: CUdevice);
    #[call(op = 0x02, since = 12020, guest)]
    fn cuMemAdvise_v2(dev_ptr: CUdeviceptr, count: usize, advice: u32, location: CUmemLocation);
    #[call(op = 0x03, since = 6000, custom)]
    fn cuMemAllocManaged(dptr: *mut CUdeviceptr, bytesize: usize, flags: u32);
    #[call(op = 0x04, since = 13000, unsupported, ptsz)]
    fn cuMemDiscardAndPrefetchBatchAsync();
    #[call(op = 0x05, since = 13000, unsupported, ptsz)]
    fn cuMemDiscardBatchAsync();
    #[call(op = 0x06, since = 8000, guest, ptsz)]
    fn cuMemPrefetchAsync(dev_ptr: CUdeviceptr, count: usize, dst_device: CUdevice, stream: CUstream);
    #[call(op = 0x07, since = 12020, guest, ptsz)]
    fn cuMemPrefetchAsync_v2(
        dev_ptr: CUdeviceptr,
        count: usize,
        location: CUmemLocation,
        flags: u32,
        stream: CUstream,
    );
    #[call(op = 0x08, since = 13000, unsupported, ptsz)]
    fn cuMemPrefetchBatchAsync();
    #[call(op = 0x09, since = 8000, guest)]
    fn cuMemRangeGetAttribute(
        data: *mut core::ffi::c_void,
        data_size: usize,
        attribute: u32,
        dev_ptr: CUdeviceptr,
        count: usize,
    );
    #[call(op = 0x0a, since = 8000, guest)]
    fn cuMemRangeGetAttributes(
        data: *mut *mut core::ffi::c_void,
        data_sizes: *mut usize,
        attributes: *mut u32,
        num_attributes: usize,
        dev_ptr: CUdeviceptr,
        count: usize,
    );
    #[call(op = 0x0b, since = 6000, guest, ptsz)]
    fn cuStreamAttachMemAsync(stream: CUstream, dptr: CUdeviceptr, length: usize, flags: u32);
}

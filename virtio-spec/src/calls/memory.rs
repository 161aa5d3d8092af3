//! Device and pinned memory, and what a pointer is.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Device and pinned memory, and what a pointer is.
#[calls(group = 0x03)]
pub trait Memory {
    #[call(op = 0x01, since = 4000, guest, no_context)]
    fn cuPointerGetAttribute(data: *mut core::ffi::c_void, attribute: CUpointer_attribute, ptr: CUdeviceptr);
    #[call(op = 0x02, since = 7000, guest, no_context)]
    fn cuPointerGetAttributes(
        num_attributes: u32,
        attributes: *mut CUpointer_attribute,
        data: *mut *mut core::ffi::c_void,
        ptr: CUdeviceptr,
    );
    #[call(op = 0x03, since = 2030, guest, no_context)]
    fn cuMemHostGetFlags(p_flags: *mut u32, p: *mut core::ffi::c_void);
    #[call(op = 0x04, since = 3020, wire, custom)]
    fn cuMemAlloc_v2(#[out] pointer: *mut CUdeviceptr, bytesize: usize);
    #[call(op = 0x05, since = 3020, wire, custom)]
    fn cuMemAllocPitch_v2(
        #[out] pointer: *mut CUdeviceptr,
        #[out] p_pitch: *mut usize,
        width_in_bytes: usize,
        height: usize,
        element_size_bytes: u32,
    );
    #[call(op = 0x06, since = 3020, wire, custom, blocks_gpu)]
    fn cuMemFree_v2(pointer: CUdeviceptr);
    #[call(op = 0x07, since = 3020, wire)]
    fn cuMemGetInfo_v2(#[out] free: *mut usize, #[out] total: *mut usize);
    #[call(op = 0x08, since = 3020, wire, custom, no_context)]
    fn cuMemGetAddressRange_v2(
        #[out(optional)] pbase: *mut CUdeviceptr,
        #[out(optional)] psize: *mut usize,
        pointer: CUdeviceptr,
    );
    #[call(op = 0x09, since = 3020, custom)]
    fn cuMemAllocHost_v2(pp: *mut *mut core::ffi::c_void, bytesize: usize);
    #[call(op = 0x0a, since = 2000, custom)]
    fn cuMemFreeHost(p: *mut core::ffi::c_void);
    #[call(op = 0x0b, since = 2020, custom)]
    fn cuMemHostAlloc(pp: *mut *mut core::ffi::c_void, bytesize: usize, flags: u32);
    #[call(op = 0x0c, since = 3020, custom)]
    fn cuMemHostGetDevicePointer_v2(pointer: *mut CUdeviceptr, p: *mut core::ffi::c_void, flags: u32);
    #[call(op = 0x0d, since = 6050, custom)]
    fn cuMemHostRegister_v2(p: *mut core::ffi::c_void, bytesize: usize, flags: u32);
    #[call(op = 0x0e, since = 4000, custom)]
    fn cuMemHostUnregister(p: *mut core::ffi::c_void);
    #[call(op = 0x0f, since = 6000, guest, no_context)]
    fn cuPointerSetAttribute(
        value: *const core::ffi::c_void,
        attribute: CUpointer_attribute,
        ptr: CUdeviceptr,
    );
    #[call(op = 0x10, since = 11020, wire, custom, ptsz)]
    fn cuMemAllocAsync(#[out] pointer: *mut CUdeviceptr, bytesize: usize, stream: CUstream);
    #[call(op = 0x11, since = 11020, wire, custom, posted, ptsz)]
    fn cuMemFreeAsync(pointer: CUdeviceptr, stream: CUstream);
    #[call(op = 0x12, since = 2000, unsupported)]
    fn cuMemAlloc();
    #[call(op = 0x13, since = 2000, unsupported)]
    fn cuMemAllocHost();
    #[call(op = 0x14, since = 2000, unsupported)]
    fn cuMemAllocPitch();
    #[call(op = 0x15, since = 2000, unsupported)]
    fn cuMemFree();
    #[call(op = 0x16, since = 2000, unsupported)]
    fn cuMemGetAddressRange();
    #[call(op = 0x17, since = 0, unsupported)]
    fn cuMemGetAttribute();
    #[call(op = 0x18, since = 0, unsupported)]
    fn cuMemGetAttribute_v2();
    #[call(op = 0x19, since = 2000, unsupported)]
    fn cuMemGetInfo();
    #[call(op = 0x1a, since = 2020, unsupported)]
    fn cuMemHostGetDevicePointer();
    #[call(op = 0x1b, since = 4000, unsupported)]
    fn cuMemHostRegister();
}

//! Virtual memory management.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Virtual memory management.
#[calls(group = 0x12)]
pub trait VirtualMemory {
    #[call(op = 0x01, since = 10020, wire, custom, no_context)]
    fn cuMemAddressFree(ptr: CUdeviceptr, size: usize);
    #[call(op = 0x02, since = 10020, custom, no_context)]
    fn cuMemAddressReserve(
        ptr: *mut CUdeviceptr,
        size: usize,
        alignment: usize,
        addr: CUdeviceptr,
        flags: u64,
    );
    #[call(op = 0x03, since = 10020, custom, no_context)]
    fn cuMemCreate(
        handle: *mut CUmemGenericAllocationHandle,
        size: usize,
        prop: *const CUmemAllocationProp,
        flags: u64,
    );
    #[call(op = 0x04, since = 10020, custom, no_context)]
    fn cuMemExportToShareableHandle(
        shareable_handle: *mut core::ffi::c_void,
        handle: CUmemGenericAllocationHandle,
        handle_type: CUmemAllocationHandleType,
        flags: u64,
    );
    #[call(op = 0x05, since = 10020, wire, custom, no_context)]
    fn cuMemGetAccess(#[out] flags: *mut u64, #[input] location: *const CUmemLocation, ptr: CUdeviceptr);
    #[call(op = 0x06, since = 10020, custom, no_context)]
    fn cuMemGetAllocationGranularity(
        granularity: *mut usize,
        prop: *const CUmemAllocationProp,
        option: CUmemAllocationGranularity_flags,
    );
    #[call(op = 0x07, since = 10020, guest, no_context)]
    fn cuMemGetAllocationPropertiesFromHandle(
        prop: *mut CUmemAllocationProp,
        handle: CUmemGenericAllocationHandle,
    );
    #[call(op = 0x08, since = 11070, unsupported)]
    fn cuMemGetHandleForAddressRange();
    #[call(op = 0x09, since = 10020, custom, no_context)]
    fn cuMemImportFromShareableHandle(
        handle: *mut CUmemGenericAllocationHandle,
        os_handle: *mut core::ffi::c_void,
        handle_type: CUmemAllocationHandleType,
    );
    #[call(op = 0x0a, since = 10020, wire, custom, no_context)]
    fn cuMemMap(
        ptr: CUdeviceptr,
        size: usize,
        offset: usize,
        handle: CUmemGenericAllocationHandle,
        flags: u64,
    );
    #[call(op = 0x0b, since = 10020, wire, custom, no_context)]
    fn cuMemRelease(#[destroy] handle: CUmemGenericAllocationHandle);
    #[call(op = 0x0c, since = 11000, guest, no_context)]
    fn cuMemRetainAllocationHandle(handle: *mut CUmemGenericAllocationHandle, addr: *mut core::ffi::c_void);
    #[call(op = 0x0d, since = 10020, wire, custom, no_context, blocks_gpu)]
    fn cuMemSetAccess(
        ptr: CUdeviceptr,
        size: usize,
        #[input(count = count)] desc: *const CUmemAccessDesc,
        count: usize,
    );
    #[call(op = 0x0e, since = 10020, wire, custom, no_context, blocks_gpu)]
    fn cuMemUnmap(ptr: CUdeviceptr, size: usize);
}

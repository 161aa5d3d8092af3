//! Memory pools.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Memory pools.
#[calls(group = 0x11)]
pub trait Pools {
    #[call(op = 0x01, since = 11020, wire, custom, no_context)]
    fn cuDeviceGetDefaultMemPool(#[mint] pool_out: *mut CUmemoryPool, dev: CUdevice);
    #[call(op = 0x02, since = 11020, custom, no_context)]
    fn cuDeviceGetMemPool(pool: *mut CUmemoryPool, dev: CUdevice);
    #[call(op = 0x03, since = 11020, wire, custom, no_context)]
    fn cuDeviceSetMemPool(dev: CUdevice, pool: CUmemoryPool);
    #[call(op = 0x04, since = 11020, wire, custom, blocks_driver, ptsz)]
    fn cuMemAllocFromPoolAsync(
        #[out] pointer: *mut CUdeviceptr,
        bytesize: usize,
        pool: CUmemoryPool,
        stream: CUstream,
    );
    #[call(op = 0x05, since = 13000, custom, no_context)]
    fn cuMemGetDefaultMemPool(
        pool_out: *mut CUmemoryPool,
        location: *mut CUmemLocation,
        allocation_type: CUmemAllocationType,
    );
    #[call(op = 0x06, since = 13000, custom, no_context)]
    fn cuMemGetMemPool(
        pool: *mut CUmemoryPool,
        location: *mut CUmemLocation,
        allocation_type: CUmemAllocationType,
    );
    #[call(op = 0x07, since = 11020, custom, no_context)]
    fn cuMemPoolCreate(pool: *mut CUmemoryPool, pool_props: *const CUmemPoolProps);
    #[call(op = 0x08, since = 11020, wire, custom, no_context)]
    fn cuMemPoolDestroy(#[destroy] pool: CUmemoryPool);
    #[call(op = 0x09, since = 11020, custom, no_context)]
    fn cuMemPoolExportPointer(share_data_out: *mut CUmemPoolPtrExportData, ptr: CUdeviceptr);
    #[call(op = 0x0a, since = 11020, custom, no_context)]
    fn cuMemPoolExportToShareableHandle(
        handle_out: *mut core::ffi::c_void,
        pool: CUmemoryPool,
        handle_type: CUmemAllocationHandleType,
        flags: u64,
    );
    #[call(op = 0x0b, since = 11020, wire, custom, no_context)]
    fn cuMemPoolGetAccess(
        #[out] flags: *mut CUmemAccess_flags,
        mem_pool: CUmemoryPool,
        #[input] location: *const CUmemLocation,
    );
    #[call(op = 0x0c, since = 11020, custom, no_context)]
    fn cuMemPoolGetAttribute(pool: CUmemoryPool, attr: CUmemPool_attribute, value: *mut core::ffi::c_void);
    #[call(op = 0x0d, since = 11020, custom, no_context)]
    fn cuMemPoolImportFromShareableHandle(
        pool_out: *mut CUmemoryPool,
        handle: *mut core::ffi::c_void,
        handle_type: CUmemAllocationHandleType,
        flags: u64,
    );
    #[call(op = 0x0e, since = 11020, custom)]
    fn cuMemPoolImportPointer(
        ptr_out: *mut CUdeviceptr,
        pool: CUmemoryPool,
        share_data: *mut CUmemPoolPtrExportData,
    );
    #[call(op = 0x0f, since = 11020, wire, custom, no_context)]
    fn cuMemPoolSetAccess(
        pool: CUmemoryPool,
        #[input(count = count)] map: *const CUmemAccessDesc,
        count: usize,
    );
    #[call(op = 0x10, since = 11020, custom, no_context)]
    fn cuMemPoolSetAttribute(pool: CUmemoryPool, attr: CUmemPool_attribute, value: *mut core::ffi::c_void);
    #[call(op = 0x11, since = 11020, wire, custom, no_context, blocks_driver)]
    fn cuMemPoolTrimTo(pool: CUmemoryPool, min_bytes_to_keep: usize);
    #[call(op = 0x12, since = 13000, custom, no_context)]
    fn cuMemSetMemPool(
        location: *mut CUmemLocation,
        allocation_type: CUmemAllocationType,
        pool: CUmemoryPool,
    );
}

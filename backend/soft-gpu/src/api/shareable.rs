//! Physical memory and pools for other processes, as descriptors.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;
use std::os::fd::{IntoRawFd, RawFd};

use virtio_spec::cuda::{
    CUdeviceptr, CUmemAllocationHandleType, CUmemGenericAllocationHandle, CUmemPoolPtrExportData,
    CUmemoryPool, CUresult,
};

use super::entry::{Call, In, Out, exports};
use crate::driver::{Driver, Result};

exports! {
    init cuMemExportToShareableHandle(
        place: *mut c_void, handle: CUmemGenericAllocationHandle, kind: CUmemAllocationHandleType, flags: u64,
    ) = export;
    init cuMemImportFromShareableHandle(
        place: *mut CUmemGenericAllocationHandle, os_handle: *mut c_void, kind: CUmemAllocationHandleType,
    ) = import;
    init cuMemPoolExportToShareableHandle(
        place: *mut c_void, pool: CUmemoryPool, kind: CUmemAllocationHandleType, flags: u64,
    ) = export_pool;
    init cuMemPoolImportFromShareableHandle(
        place: *mut CUmemoryPool, os_handle: *mut c_void, kind: CUmemAllocationHandleType, flags: u64,
    ) = import_pool;
    init cuMemPoolExportPointer(data: *mut CUmemPoolPtrExportData, pointer: CUdeviceptr) = export_pointer;
    context cuMemPoolImportPointer(
        pointer: *mut CUdeviceptr, pool: CUmemoryPool, data: *const CUmemPoolPtrExportData,
    ) = import_pointer;
}

/// Descriptors are the only handles that this system has.
fn check(kind: CUmemAllocationHandleType, flags: u64) -> Result<()> {
    match kind {
        CUmemAllocationHandleType::POSIX_FILE_DESCRIPTOR if flags == 0 => Ok(()),
        CUmemAllocationHandleType::WIN32
        | CUmemAllocationHandleType::WIN32_KMT
        | CUmemAllocationHandleType::FABRIC => Err(CUresult::ERROR_NOT_SUPPORTED),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

/// The descriptor in a parameter that is a pointer on other systems.
fn descriptor(os_handle: *mut c_void) -> Result<RawFd> {
    RawFd::try_from(os_handle.addr()).map_err(|_| CUresult::ERROR_INVALID_VALUE)
}

fn export(
    driver: &Driver,
    place: Out<c_void>,
    handle: CUmemGenericAllocationHandle,
    kind: CUmemAllocationHandleType,
    flags: u64,
) -> Result<()> {
    let place = place.of::<RawFd>();
    place.check()?;
    check(kind, flags)?;
    place.put(driver.virtual_memory.export(handle.0)?.into_raw_fd())
}

fn import(
    driver: &Driver,
    place: Out<CUmemGenericAllocationHandle>,
    os_handle: *mut c_void,
    kind: CUmemAllocationHandleType,
) -> Result<()> {
    place.check()?;
    check(kind, 0)?;
    place.put(CUmemGenericAllocationHandle(driver.virtual_memory.import(descriptor(os_handle)?)?))
}

fn export_pool(
    driver: &Driver,
    place: Out<c_void>,
    pool: CUmemoryPool,
    kind: CUmemAllocationHandleType,
    flags: u64,
) -> Result<()> {
    let place = place.of::<RawFd>();
    place.check()?;
    check(kind, flags)?;
    place.put(driver.export_pool(pool.0)?.into_raw_fd())
}

fn import_pool(
    driver: &Driver,
    place: Out<CUmemoryPool>,
    os_handle: *mut c_void,
    kind: CUmemAllocationHandleType,
    flags: u64,
) -> Result<()> {
    place.check()?;
    check(kind, flags)?;
    place.put(CUmemoryPool(driver.import_pool(descriptor(os_handle)?)?))
}

fn export_pointer(driver: &Driver, data: Out<CUmemPoolPtrExportData>, pointer: CUdeviceptr) -> Result<()> {
    data.check()?;
    data.put(driver.export_pooled(pointer.0)?)
}

fn import_pointer(
    call: &Call,
    pointer: Out<CUdeviceptr>,
    pool: CUmemoryPool,
    data: In<CUmemPoolPtrExportData>,
) -> Result<()> {
    pointer.check()?;
    let start = call.driver().import_pooled(pool.0, &data.get()?, call.context.handle)?;
    pointer.put(CUdeviceptr(start))
}

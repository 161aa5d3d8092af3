//! Virtual memory management.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;

use virtio_spec::cuda::{
    CUdevice, CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationGranularity_flags,
    CUmemAllocationHandleType, CUmemAllocationProp, CUmemAllocationType, CUmemGenericAllocationHandle,
    CUmemLocation, CUmemLocationType, CUresult,
};

use super::entry::{In, List, Out, check_device, exports};
use crate::driver::allocation::Kind;
use crate::driver::virtual_memory::GRANULARITY;
use crate::driver::{Driver, Result};

exports! {
    init cuMemAddressReserve(
        pointer: *mut CUdeviceptr, bytes: usize, alignment: usize, hint: CUdeviceptr, flags: u64,
    ) = reserve;
    init cuMemAddressFree(pointer: CUdeviceptr, bytes: usize) = free;
    init cuMemCreate(
        handle: *mut CUmemGenericAllocationHandle, bytes: usize, properties: *const CUmemAllocationProp, flags: u64,
    ) = create;
    init cuMemRelease(handle: CUmemGenericAllocationHandle) = release;
    init cuMemMap(
        pointer: CUdeviceptr, bytes: usize, offset: usize, handle: CUmemGenericAllocationHandle, flags: u64,
    ) = map;
    init cuMemUnmap(pointer: CUdeviceptr, bytes: usize) = unmap;
    init cuMemSetAccess(pointer: CUdeviceptr, bytes: usize, access: *const CUmemAccessDesc, count: usize) = set_access;
    init cuMemGetAccess(flags: *mut u64, location: *const CUmemLocation, pointer: CUdeviceptr) = get_access;
    init cuMemGetAllocationGranularity(
        bytes: *mut usize, properties: *const CUmemAllocationProp, option: CUmemAllocationGranularity_flags,
    ) = granularity;
    init cuMemGetAllocationPropertiesFromHandle(
        properties: *mut CUmemAllocationProp, handle: CUmemGenericAllocationHandle,
    ) = properties_of;
    init cuMemRetainAllocationHandle(handle: *mut CUmemGenericAllocationHandle, address: *mut c_void) = retain;
}

/// Refuses places that are not the device.
pub(super) fn check_location(location: CUmemLocation) -> Result<()> {
    match CUmemLocationType(location.kind) {
        CUmemLocationType::DEVICE => check_device(CUdevice(location.id)),
        CUmemLocationType::HOST | CUmemLocationType::HOST_NUMA | CUmemLocationType::HOST_NUMA_CURRENT => {
            Err(CUresult::ERROR_NOT_SUPPORTED)
        }
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

/// Refuses handles of other systems.
pub(super) fn check_handle_types(types: CUmemAllocationHandleType) -> Result<()> {
    match types.0 & !CUmemAllocationHandleType::POSIX_FILE_DESCRIPTOR.0 {
        0 => Ok(()),
        _ => Err(CUresult::ERROR_NOT_SUPPORTED),
    }
}

fn check_properties(properties: &CUmemAllocationProp) -> Result<()> {
    if properties.allocation_type != CUmemAllocationType::PINNED {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    check_handle_types(properties.requestedHandleTypes)?;
    check_location(properties.location)
}

fn reserve(
    driver: &Driver,
    pointer: Out<CUdeviceptr>,
    bytes: usize,
    alignment: usize,
    hint: CUdeviceptr,
    flags: u64,
) -> Result<()> {
    pointer.check()?;
    if flags != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let start = driver.virtual_memory.reserve(bytes as u64, alignment as u64, hint.0)?;
    pointer.put(CUdeviceptr(start))
}

fn free(driver: &Driver, pointer: CUdeviceptr, bytes: usize) -> Result<()> {
    driver.virtual_memory.free(pointer.0, bytes as u64)
}

fn create(
    driver: &Driver,
    handle: Out<CUmemGenericAllocationHandle>,
    bytes: usize,
    properties: In<CUmemAllocationProp>,
    flags: u64,
) -> Result<()> {
    handle.check()?;
    let properties = properties.get()?;
    if flags != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    check_properties(&properties)?;
    let made = driver.virtual_memory.create(bytes as u64, properties)?;
    handle.put(CUmemGenericAllocationHandle(made))
}

fn release(driver: &Driver, handle: CUmemGenericAllocationHandle) -> Result<()> {
    driver.virtual_memory.release(handle.0)
}

fn map(
    driver: &Driver,
    pointer: CUdeviceptr,
    bytes: usize,
    offset: usize,
    handle: CUmemGenericAllocationHandle,
    flags: u64,
) -> Result<()> {
    if flags != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    driver.virtual_memory.map(pointer.0, bytes as u64, offset as u64, handle.0)
}

fn unmap(driver: &Driver, pointer: CUdeviceptr, bytes: usize) -> Result<()> {
    driver.virtual_memory.unmap(pointer.0, bytes as u64)
}

/// What a list of descriptors says of the device: of several the last counts.
pub(super) fn wanted_access(list: &[CUmemAccessDesc]) -> Result<CUmemAccess_flags> {
    for one in list {
        check_location(one.location)?;
        if one.flags.c_name().is_none() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
    }
    list.last().map(|last| last.flags).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn set_access(
    driver: &Driver,
    pointer: CUdeviceptr,
    bytes: usize,
    access: List<CUmemAccessDesc>,
    count: usize,
) -> Result<()> {
    let flags = wanted_access(&access.get(count)?)?;
    driver.virtual_memory.set_access(pointer.0, bytes as u64, flags.0)
}

fn get_access(
    driver: &Driver,
    flags: Out<u64>,
    location: In<CUmemLocation>,
    pointer: CUdeviceptr,
) -> Result<()> {
    flags.check()?;
    check_location(location.get()?)?;
    let found = driver.memory.find(pointer.0).filter(|found| found.kind == Kind::Mapped);
    flags.put(u64::from(found.ok_or(CUresult::ERROR_INVALID_VALUE)?.flags))
}

fn granularity(
    _: &Driver,
    bytes: Out<usize>,
    properties: In<CUmemAllocationProp>,
    option: CUmemAllocationGranularity_flags,
) -> Result<()> {
    bytes.check()?;
    check_properties(&properties.get()?)?;
    if option.c_name().is_none() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    bytes.put(usize::try_from(GRANULARITY).unwrap_or(usize::MAX))
}

fn properties_of(
    driver: &Driver,
    properties: Out<CUmemAllocationProp>,
    handle: CUmemGenericAllocationHandle,
) -> Result<()> {
    properties.put(driver.virtual_memory.properties(handle.0)?)
}

fn retain(driver: &Driver, handle: Out<CUmemGenericAllocationHandle>, address: *mut c_void) -> Result<()> {
    handle.check()?;
    let found = driver.virtual_memory.retain(address.expose_provenance() as u64)?;
    handle.put(CUmemGenericAllocationHandle(found))
}

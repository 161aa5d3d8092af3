//! Memory pools.
//!
//! Unsafe code: values of attributes, whose types depend on the attribute.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;

use virtio_spec::cuda::{
    CUdevice, CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationType, CUmemLocation,
    CUmemLocationType, CUmemPool_attribute, CUmemPoolProps, CUmemoryPool, CUresult, CUstream,
};

use super::entry::{Call, In, List, Out, check_device, exports};
use super::virtual_memory::{check_handle_types, check_location, wanted_access};
use crate::driver::{Driver, Result};

exports! {
    init cuDeviceGetDefaultMemPool(pool: *mut CUmemoryPool, device: CUdevice) = default_pool;
    init cuDeviceGetMemPool(pool: *mut CUmemoryPool, device: CUdevice) = current_pool;
    init cuDeviceSetMemPool(device: CUdevice, pool: CUmemoryPool) = set_pool;
    init cuMemGetDefaultMemPool(
        pool: *mut CUmemoryPool, location: *const CUmemLocation, kind: CUmemAllocationType,
    ) = default_pool_at;
    init cuMemGetMemPool(
        pool: *mut CUmemoryPool, location: *const CUmemLocation, kind: CUmemAllocationType,
    ) = current_pool_at;
    init cuMemSetMemPool(location: *const CUmemLocation, kind: CUmemAllocationType, pool: CUmemoryPool) = set_pool_at;
    init cuMemPoolCreate(pool: *mut CUmemoryPool, properties: *const CUmemPoolProps) = create;
    init cuMemPoolDestroy(pool: CUmemoryPool) = destroy;
    init cuMemPoolTrimTo(pool: CUmemoryPool, bytes: usize) = trim;
    init cuMemPoolGetAttribute(pool: CUmemoryPool, attribute: CUmemPool_attribute, value: *mut c_void) = attribute;
    init cuMemPoolSetAttribute(pool: CUmemoryPool, attribute: CUmemPool_attribute, value: *mut c_void)
        = set_attribute;
    init cuMemPoolSetAccess(pool: CUmemoryPool, access: *const CUmemAccessDesc, count: usize) = set_access;
    init cuMemPoolGetAccess(flags: *mut CUmemAccess_flags, pool: CUmemoryPool, location: *const CUmemLocation)
        = get_access;
    context cuMemAllocFromPoolAsync / cuMemAllocFromPoolAsync_ptsz (
        pointer: *mut CUdeviceptr, bytes: usize, pool: CUmemoryPool, stream: CUstream,
    ) = alloc;
}

fn default_pool(driver: &Driver, place: Out<CUmemoryPool>, device: CUdevice) -> Result<()> {
    place.check()?;
    check_device(device)?;
    place.put(CUmemoryPool(driver.pools.default_pool().handle))
}

fn current_pool(driver: &Driver, place: Out<CUmemoryPool>, device: CUdevice) -> Result<()> {
    place.check()?;
    check_device(device)?;
    place.put(CUmemoryPool(driver.pools.current().handle))
}

fn set_pool(driver: &Driver, device: CUdevice, pool: CUmemoryPool) -> Result<()> {
    check_device(device)?;
    driver.pools.set_current(driver.pools.get(pool.0)?);
    Ok(())
}

/// The device of a place; there are no pools elsewhere.
fn device_at(location: In<CUmemLocation>, kind: CUmemAllocationType) -> Result<CUdevice> {
    let location = location.get()?;
    if kind.c_name().is_none() || kind == CUmemAllocationType::INVALID {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if kind != CUmemAllocationType::PINNED || location.kind != CUmemLocationType::DEVICE.0 {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    Ok(CUdevice(location.id))
}

fn default_pool_at(
    driver: &Driver,
    place: Out<CUmemoryPool>,
    location: In<CUmemLocation>,
    kind: CUmemAllocationType,
) -> Result<()> {
    default_pool(driver, place, device_at(location, kind)?)
}

fn current_pool_at(
    driver: &Driver,
    place: Out<CUmemoryPool>,
    location: In<CUmemLocation>,
    kind: CUmemAllocationType,
) -> Result<()> {
    current_pool(driver, place, device_at(location, kind)?)
}

fn set_pool_at(
    driver: &Driver,
    location: In<CUmemLocation>,
    kind: CUmemAllocationType,
    pool: CUmemoryPool,
) -> Result<()> {
    set_pool(driver, device_at(location, kind)?, pool)
}

fn create(driver: &Driver, place: Out<CUmemoryPool>, properties: In<CUmemPoolProps>) -> Result<()> {
    place.check()?;
    let properties = properties.get()?;
    if properties.allocType != CUmemAllocationType::PINNED || properties.reserved != [0; 54] {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    check_handle_types(properties.handleTypes)?;
    check_location(properties.location)?;
    let pool = driver.pools.create(properties.maxSize as u64, properties.handleTypes, None)?;
    place.put(CUmemoryPool(pool.handle))
}

fn destroy(driver: &Driver, pool: CUmemoryPool) -> Result<()> {
    driver.pools.destroy(pool.0)
}

fn trim(driver: &Driver, pool: CUmemoryPool, _bytes: usize) -> Result<()> {
    driver.pools.get(pool.0).map(drop)
}

fn attribute(
    driver: &Driver,
    pool: CUmemoryPool,
    attribute: CUmemPool_attribute,
    value: *mut c_void,
) -> Result<()> {
    let pool = driver.pools.get(pool.0)?;
    if value.is_null() || attribute.c_name().is_none() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let found = pool.attribute(&driver.memory, attribute)?;
    if attribute.is_int() {
        // SAFETY: the program's place for this attribute has 4 bytes.
        unsafe { value.cast::<u32>().write_unaligned(u32::try_from(found).unwrap_or(u32::MAX)) };
    } else {
        // SAFETY: the program's place for this attribute has 8 bytes.
        unsafe { value.cast::<u64>().write_unaligned(found) };
    }
    Ok(())
}

fn set_attribute(
    driver: &Driver,
    pool: CUmemoryPool,
    attribute: CUmemPool_attribute,
    value: *mut c_void,
) -> Result<()> {
    let pool = driver.pools.get(pool.0)?;
    if value.is_null() || attribute.c_name().is_none() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let wanted = if attribute.is_int() {
        // SAFETY: the program's value of this attribute has 4 bytes.
        u64::from(unsafe { value.cast::<u32>().read_unaligned() })
    } else {
        // SAFETY: the program's value of this attribute has 8 bytes.
        unsafe { value.cast::<u64>().read_unaligned() }
    };
    pool.set_attribute(&driver.memory, attribute, wanted)
}

/// The device cannot be kept from its own pools.
fn set_access(
    driver: &Driver,
    pool: CUmemoryPool,
    access: List<CUmemAccessDesc>,
    count: usize,
) -> Result<()> {
    driver.pools.get(pool.0)?;
    match wanted_access(&access.get(count)?)? {
        CUmemAccess_flags::PROT_READWRITE => Ok(()),
        _ => Err(CUresult::ERROR_INVALID_DEVICE),
    }
}

fn get_access(
    driver: &Driver,
    flags: Out<CUmemAccess_flags>,
    pool: CUmemoryPool,
    location: In<CUmemLocation>,
) -> Result<()> {
    flags.check()?;
    driver.pools.get(pool.0)?;
    check_location(location.get()?)?;
    flags.put(CUmemAccess_flags::PROT_READWRITE)
}

fn alloc(
    call: &Call,
    pointer: Out<CUdeviceptr>,
    bytes: usize,
    pool: CUmemoryPool,
    stream: CUstream,
) -> Result<()> {
    let pool = call.driver().pools.get(pool.0)?;
    super::memory::alloc_async(call, pointer, bytes, &pool, stream)
}

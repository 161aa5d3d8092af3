//! Memory pools.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_void;

use virtio_spec::codec::Scalar;
use virtio_spec::cuda::{
    CUdevice, CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationType, CUmemLocation,
    CUmemLocationType, CUmemPool_attribute, CUmemPoolProps, CUmemoryPool, CUresult, CUstream,
};
use virtio_spec::handle::Kind;
use virtio_spec::requests::{MemoryProperties, PoolAttribute, PoolCreate, PoolValue, opcode};

use super::shareable::forget_unused;
pub(crate) use super::shareable::{
    cuMemPoolExportPointer, cuMemPoolExportToShareableHandle, cuMemPoolImportFromShareableHandle,
    cuMemPoolImportPointer,
};
use super::virtual_memory::{check_handle_types, descriptors, host_location};
use super::{give, outcome};
use crate::device::devices;
use crate::entry::{Flavour, status};
use crate::exports::pools::{
    wire_cuDeviceSetMemPool, wire_cuMemAllocFromPoolAsync, wire_cuMemPoolDestroy, wire_cuMemPoolGetAccess,
    wire_cuMemPoolSetAccess, wire_cuMemPoolTrimTo,
};
use crate::graph::capture;
use crate::handles;
use crate::memory::{self, pools};
use crate::wire::Request;

/// Pools are checked here, because CUDA has another error for a bad one than for a bad handle.
pub(super) fn check(pool: CUmemoryPool) -> Result<(), CUresult> {
    if handles::check(&[Kind::Pool], pool.0) { Ok(()) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

pub(crate) unsafe fn cuDeviceGetDefaultMemPool(pool_out: *mut CUmemoryPool, dev: CUdevice) -> CUresult {
    if pool_out.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's place for a handle.
    status(pools::default_of(dev).and_then(|pool| unsafe { give(pool_out, CUmemoryPool(pool)) }))
}

pub(crate) unsafe fn cuDeviceGetMemPool(pool: *mut CUmemoryPool, dev: CUdevice) -> CUresult {
    if pool.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's place for a handle.
    status(pools::current_of(dev).and_then(|found| unsafe { give(pool, CUmemoryPool(found)) }))
}

pub(crate) unsafe fn cuDeviceSetMemPool(dev: CUdevice, pool: CUmemoryPool) -> CUresult {
    let set = || -> Result<(), CUresult> {
        let place = devices()?.host_ordinal(dev)?;
        check(pool)?;
        // SAFETY: no pointers.
        outcome(unsafe { wire_cuDeviceSetMemPool(CUdevice::from_u64(u64::from(place)), pool) })?;
        pools::set(place, pool.0);
        Ok(())
    };
    status(set())
}

/// The device of a place, for the forms that take one.
///
/// # Safety
/// `location` is null, or a structure.
unsafe fn device_of(location: *const CUmemLocation, kind: CUmemAllocationType) -> Result<CUdevice, CUresult> {
    if location.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let location = unsafe { location.read() };
    match (CUmemLocationType(location.kind), kind) {
        (CUmemLocationType::DEVICE, CUmemAllocationType::PINNED) => Ok(CUdevice(location.id)),
        _ if kind.c_name().is_none() || kind == CUmemAllocationType::INVALID => {
            Err(CUresult::ERROR_INVALID_VALUE)
        }
        // Pools of the host and of managed memory.
        _ => Err(CUresult::ERROR_NOT_SUPPORTED),
    }
}

pub(crate) unsafe fn cuMemGetDefaultMemPool(
    pool_out: *mut CUmemoryPool,
    location: *mut CUmemLocation,
    allocation_type: CUmemAllocationType,
) -> CUresult {
    // SAFETY: the same contract.
    match unsafe { device_of(location, allocation_type) } {
        // SAFETY: the same contract.
        Ok(device) => unsafe { cuDeviceGetDefaultMemPool(pool_out, device) },
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuMemGetMemPool(
    pool: *mut CUmemoryPool,
    location: *mut CUmemLocation,
    allocation_type: CUmemAllocationType,
) -> CUresult {
    // SAFETY: the same contract.
    match unsafe { device_of(location, allocation_type) } {
        // SAFETY: the same contract.
        Ok(device) => unsafe { cuDeviceGetMemPool(pool, device) },
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuMemSetMemPool(
    location: *mut CUmemLocation,
    allocation_type: CUmemAllocationType,
    pool: CUmemoryPool,
) -> CUresult {
    // SAFETY: the same contract.
    match unsafe { device_of(location, allocation_type) } {
        // SAFETY: no pointers.
        Ok(device) => unsafe { cuDeviceSetMemPool(device, pool) },
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuMemPoolCreate(pool: *mut CUmemoryPool, pool_props: *const CUmemPoolProps) -> CUresult {
    if pool.is_null() || pool_props.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's structure.
    let given = unsafe { pool_props.read() };
    let create = || -> Result<u64, CUresult> {
        if given.allocType != CUmemAllocationType::PINNED
            || !given.win32SecurityAttributes.is_null()
            || given.reserved != [0; 54]
        {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        check_handle_types(given.handleTypes)?;
        let properties = MemoryProperties {
            device: host_location(given.location)?.id.cast_unsigned(),
            handle_types: given.handleTypes.0,
            compression: 0,
            rdma: 0,
            usage: given.usage,
            reserved: 0,
        };
        let minted = handles::mint(Kind::Pool)?;
        let asked = Request::start(opcode::POOL_CREATE, 0).and_then(|mut request| {
            request.structure(&PoolCreate { pool: minted, max_bytes: given.maxSize as u64, properties });
            request.answer().map(|_| ())
        });
        if asked.is_err() {
            handles::release(Kind::Pool, minted);
        }
        asked.map(|()| minted)
    };
    // SAFETY: the application's place for a handle.
    status(create().and_then(|made| unsafe { give(pool, CUmemoryPool(made)) }))
}

pub(crate) unsafe fn cuMemPoolDestroy(pool: CUmemoryPool) -> CUresult {
    // The default pools are CUDA's own.
    if check(pool).is_err() || pools::is_default(pool.0) {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: no pointers.
    let result = unsafe { wire_cuMemPoolDestroy(pool) };
    if result == CUresult::SUCCESS {
        pools::destroyed(pool.0);
    }
    forget_unused();
    result
}

pub(crate) unsafe fn cuMemPoolTrimTo(pool: CUmemoryPool, min_bytes_to_keep: usize) -> CUresult {
    match check(pool) {
        // SAFETY: no pointers.
        Ok(()) => unsafe { wire_cuMemPoolTrimTo(pool, min_bytes_to_keep) },
        Err(error) => error,
    }
}

/// Asks for an attribute, or sets it.
fn attribute(pool: CUmemoryPool, attribute: CUmemPool_attribute, set: Option<u64>) -> Result<u64, CUresult> {
    check(pool)?;
    if attribute.c_name().is_none() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let mut request = Request::start(opcode::POOL_ATTRIBUTE, 0)?;
    request.structure(&PoolAttribute {
        pool: pool.0,
        attribute: attribute.0,
        set: u32::from(set.is_some()),
        value: set.unwrap_or(0),
    });
    Ok(request.answer()?.take::<PoolValue>()?.value)
}

pub(crate) unsafe fn cuMemPoolGetAttribute(
    pool: CUmemoryPool,
    attr: CUmemPool_attribute,
    value: *mut c_void,
) -> CUresult {
    if value.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    status(attribute(pool, attr, None).map(|found| {
        if attr.is_int() {
            // SAFETY: the application's place for an `int`, by CUDA's documentation of this attribute.
            unsafe { value.cast::<i32>().write(i32::from_u64(found)) };
        } else {
            // SAFETY: the application's place for a 64-bit number, by CUDA's documentation of this attribute.
            unsafe { value.cast::<u64>().write(found) };
        }
    }))
}

pub(crate) unsafe fn cuMemPoolSetAttribute(
    pool: CUmemoryPool,
    attr: CUmemPool_attribute,
    value: *mut c_void,
) -> CUresult {
    if value.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let wanted = if attr.is_int() {
        // SAFETY: the application's `int`, by CUDA's documentation of this attribute.
        unsafe { value.cast::<i32>().read() }.to_u64()
    } else {
        // SAFETY: the application's 64-bit number, by CUDA's documentation of this attribute.
        unsafe { value.cast::<u64>().read() }
    };
    status(attribute(pool, attr, Some(wanted)).map(|_| ()))
}

pub(crate) unsafe fn cuMemPoolSetAccess(
    pool: CUmemoryPool,
    map: *const CUmemAccessDesc,
    count: usize,
) -> CUresult {
    // SAFETY: the application's list.
    let list = check(pool).and_then(|()| unsafe { descriptors(map, count) });
    match list {
        // SAFETY: a list of this function.
        Ok((_, list)) => unsafe { wire_cuMemPoolSetAccess(pool, list.as_ptr(), list.len()) },
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuMemPoolGetAccess(
    flags: *mut CUmemAccess_flags,
    mem_pool: CUmemoryPool,
    location: *const CUmemLocation,
) -> CUresult {
    if location.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's structure.
    let place = check(mem_pool).and_then(|()| host_location(unsafe { location.read() }));
    match place {
        // SAFETY: the application's place for the flags, and a structure of this function.
        Ok(place) => unsafe { wire_cuMemPoolGetAccess(flags, mem_pool, &raw const place) },
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuMemAllocFromPoolAsync(
    pointer: *mut CUdeviceptr,
    bytesize: usize,
    pool: CUmemoryPool,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    if let Err(error) = check(pool) {
        return error;
    }
    // SAFETY: the same contract.
    let result = unsafe { wire_cuMemAllocFromPoolAsync(pointer, bytesize, pool, stream, flavour) };
    // In a capture it is the graph's, and not the pool's.
    if result == CUresult::SUCCESS && !capture::took(flavour.stream(stream)) {
        // SAFETY: the call has written it.
        let start = unsafe { pointer.read() }.0;
        memory::insert_pooled(start, bytesize as u64, pool.0);
    }
    result
}

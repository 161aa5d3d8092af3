//! Virtual memory management.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_void;

use virtio_spec::codec::Scalar;
use virtio_spec::cuda::{
    CUdevice, CUdeviceptr, CUmemAccessDesc, CUmemAllocationGranularity_flags, CUmemAllocationHandleType,
    CUmemAllocationProp, CUmemAllocationType, CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType,
    CUresult,
};
use virtio_spec::handle::Kind;
use virtio_spec::requests::{Granularity, MemoryCreate, MemoryGranularity, MemoryProperties, opcode};

use super::shareable::forget_unused;
pub(crate) use super::shareable::{cuMemExportToShareableHandle, cuMemImportFromShareableHandle};
use super::{give, outcome};
use crate::device::devices;
use crate::entry::status;
use crate::exports::virtual_memory::{
    wire_cuMemAddressFree, wire_cuMemGetAccess, wire_cuMemMap, wire_cuMemSetAccess, wire_cuMemUnmap,
};
use crate::handles;
use crate::memory::reserved::{self, Properties};
use crate::wire::Request;

/// Descriptors in one call: one for each device, and a few for hosts.
const MAX_DESCRIPTORS: usize = 64;

/// A place as the worker numbers it. Only devices are places.
pub(super) fn host_location(location: CUmemLocation) -> Result<CUmemLocation, CUresult> {
    match CUmemLocationType(location.kind) {
        CUmemLocationType::DEVICE => {
            let ordinal = devices()?.host_ordinal(CUdevice(location.id))?;
            Ok(CUmemLocation { id: i32::from_u64(u64::from(ordinal)), ..location })
        }
        CUmemLocationType::HOST | CUmemLocationType::HOST_NUMA | CUmemLocationType::HOST_NUMA_CURRENT => {
            Err(CUresult::ERROR_NOT_SUPPORTED)
        }
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

/// As what memory may be shared: descriptors only.
pub(super) fn check_handle_types(types: CUmemAllocationHandleType) -> Result<(), CUresult> {
    match types.0 & !CUmemAllocationHandleType::POSIX_FILE_DESCRIPTOR.0 {
        0 => Ok(()),
        _ => Err(CUresult::ERROR_NOT_SUPPORTED),
    }
}

/// What memory is to be, as it travels and as the program said it.
///
/// # Safety
/// `prop` is null, or a structure.
unsafe fn properties(prop: *const CUmemAllocationProp) -> Result<(MemoryProperties, Properties), CUresult> {
    if prop.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let given = unsafe { prop.read() };
    if given.allocation_type != CUmemAllocationType::PINNED {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    check_handle_types(given.requestedHandleTypes)?;
    let place = host_location(given.location)?;
    let kept = Properties::new(&given).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let travelling = MemoryProperties {
        device: place.id.cast_unsigned(),
        handle_types: given.requestedHandleTypes.0,
        compression: given.allocFlags.compressionType,
        rdma: given.allocFlags.gpuDirectRDMACapable,
        usage: given.allocFlags.usage,
        reserved: 0,
    };
    Ok((travelling, kept))
}

pub(crate) unsafe fn cuMemAddressReserve(
    ptr: *mut CUdeviceptr,
    size: usize,
    alignment: usize,
    addr: CUdeviceptr,
    flags: u64,
) -> CUresult {
    if ptr.is_null() || flags != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let place = reserved::reserve(size as u64, alignment as u64, addr.0, flags);
    // SAFETY: the application's place for an address.
    status(place.and_then(|place| unsafe { give(ptr, CUdeviceptr(place)) }))
}

pub(crate) unsafe fn cuMemAddressFree(ptr: CUdeviceptr, size: usize) -> CUresult {
    // SAFETY: no pointers.
    status(reserved::free(ptr.0, size as u64, || unsafe { wire_cuMemAddressFree(ptr, size) }))
}

pub(crate) unsafe fn cuMemCreate(
    handle: *mut CUmemGenericAllocationHandle,
    size: usize,
    prop: *const CUmemAllocationProp,
    flags: u64,
) -> CUresult {
    if handle.is_null() || size == 0 || flags != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let create = || -> Result<u64, CUresult> {
        // SAFETY: the application's structure.
        let (properties, kept) = unsafe { properties(prop) }?;
        forget_unused();
        let minted = handles::mint(Kind::Allocation)?;
        let asked = Request::start(opcode::MEMORY_CREATE, 0).and_then(|mut request| {
            request.structure(&MemoryCreate { handle: minted, length: size as u64, flags, properties });
            request.answer().map(|_| ())
        });
        match asked {
            Ok(()) => {
                reserved::created(minted, kept);
                Ok(minted)
            }
            Err(error) => {
                handles::release(Kind::Allocation, minted);
                Err(error)
            }
        }
    };
    // SAFETY: the application's place for a handle.
    status(create().and_then(|made| unsafe { give(handle, CUmemGenericAllocationHandle(made)) }))
}

pub(crate) unsafe fn cuMemGetAccess(
    flags: *mut u64,
    location: *const CUmemLocation,
    ptr: CUdeviceptr,
) -> CUresult {
    if location.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's structure.
    match host_location(unsafe { location.read() }) {
        // SAFETY: the application's place for the flags, and a structure of this function.
        Ok(place) => unsafe { wire_cuMemGetAccess(flags, &raw const place, ptr) },
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuMemGetAllocationGranularity(
    granularity: *mut usize,
    prop: *const CUmemAllocationProp,
    option: CUmemAllocationGranularity_flags,
) -> CUresult {
    if granularity.is_null() || option.c_name().is_none() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let ask = || -> Result<usize, CUresult> {
        // SAFETY: the application's structure.
        let (properties, _) = unsafe { properties(prop) }?;
        let mut request = Request::start(opcode::MEMORY_GRANULARITY, 0)?;
        request.structure(&MemoryGranularity { properties, option: option.0, reserved: 0 });
        let bytes = request.answer()?.take::<Granularity>()?.bytes;
        usize::try_from(bytes).map_err(|_| CUresult::ERROR_UNKNOWN)
    };
    // SAFETY: the application's place for a number.
    status(ask().and_then(|bytes| unsafe { give(granularity, bytes) }))
}

pub(crate) unsafe fn cuMemGetAllocationPropertiesFromHandle(
    prop: *mut CUmemAllocationProp,
    handle: CUmemGenericAllocationHandle,
) -> CUresult {
    let found = reserved::properties(handle.0);
    // SAFETY: the application's place for the structure.
    status(found.and_then(|found| unsafe { give(prop, *found.as_given()) }))
}

pub(crate) unsafe fn cuMemMap(
    ptr: CUdeviceptr,
    size: usize,
    offset: usize,
    handle: CUmemGenericAllocationHandle,
    flags: u64,
) -> CUresult {
    // SAFETY: no pointers.
    let ask = || unsafe { wire_cuMemMap(ptr, size, offset, handle, flags) };
    status(reserved::map(ptr.0, size as u64, handle.0, ask))
}

pub(crate) unsafe fn cuMemUnmap(ptr: CUdeviceptr, size: usize) -> CUresult {
    // SAFETY: no pointers.
    status(reserved::unmap(ptr.0, size as u64, || unsafe { wire_cuMemUnmap(ptr, size) }))
}

pub(crate) unsafe fn cuMemRelease(handle: CUmemGenericAllocationHandle) -> CUresult {
    let released = reserved::release(handle.0);
    forget_unused();
    status(released)
}

pub(crate) unsafe fn cuMemRetainAllocationHandle(
    handle: *mut CUmemGenericAllocationHandle,
    addr: *mut c_void,
) -> CUresult {
    if handle.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let found = reserved::retain(addr.expose_provenance() as u64);
    // SAFETY: the application's place for a handle.
    status(found.and_then(|found| unsafe { give(handle, CUmemGenericAllocationHandle(found)) }))
}

/// The application's access descriptors, and the same for the worker.
///
/// # Safety
/// `desc` is null, or has `count` elements.
pub(super) unsafe fn descriptors(
    desc: *const CUmemAccessDesc,
    count: usize,
) -> Result<(Vec<CUmemAccessDesc>, Vec<CUmemAccessDesc>), CUresult> {
    if desc.is_null() || count == 0 || count > MAX_DESCRIPTORS {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let given = unsafe { std::slice::from_raw_parts(desc, count) }.to_vec();
    let translated = given.iter().map(|one| {
        let location = host_location(one.location)?;
        Ok(CUmemAccessDesc { location, ..*one })
    });
    Ok((given.clone(), translated.collect::<Result<_, CUresult>>()?))
}

pub(crate) unsafe fn cuMemSetAccess(
    ptr: CUdeviceptr,
    size: usize,
    desc: *const CUmemAccessDesc,
    count: usize,
) -> CUresult {
    let set = || -> Result<(), CUresult> {
        // SAFETY: the application's list.
        let (given, translated) = unsafe { descriptors(desc, count) }?;
        // SAFETY: a list of this function.
        outcome(unsafe { wire_cuMemSetAccess(ptr, size, translated.as_ptr(), translated.len()) })?;
        for one in given {
            reserved::set_access(ptr.0, size as u64, one.location.id, one.flags.0);
        }
        Ok(())
    };
    status(set())
}

//! Virtual memory management: the requests with structures of CUDA's, which are built here of plain numbers.
//!
//! Unsafe code: calls of the driver.

use virtio_spec::{
    codec::Scalar,
    cuda::{
        CUdeviceptr, CUmemAllocationFlags, CUmemAllocationGranularity_flags, CUmemAllocationHandleType,
        CUmemAllocationProp, CUmemAllocationType, CUmemGenericAllocationHandle, CUmemLocation,
        CUmemLocationType, CUresult,
    },
    handle::Kind,
    requests::{
        AddressReserve, AddressReserved, Granularity, MemoryCreate, MemoryGranularity, MemoryProperties,
    },
    window,
};

use super::{Invocation, handles::Object, ok};

/// A device as a place of memory.
pub(super) fn location(device: u32) -> Result<CUmemLocation, CUresult> {
    let id = i32::try_from(device).map_err(|_| CUresult::ERROR_INVALID_DEVICE)?;
    Ok(CUmemLocation { kind: CUmemLocationType::DEVICE.0, id })
}

/// As what memory can be passed on: descriptors only.
pub(super) fn handle_types(bits: u32) -> Result<CUmemAllocationHandleType, CUresult> {
    match bits & !CUmemAllocationHandleType::POSIX_FILE_DESCRIPTOR.0 {
        0 => Ok(CUmemAllocationHandleType(bits)),
        _ => Err(CUresult::ERROR_NOT_SUPPORTED),
    }
}

/// The properties as CUDA's structure.
fn properties(given: &MemoryProperties) -> Result<CUmemAllocationProp, CUresult> {
    if given.reserved != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    Ok(CUmemAllocationProp {
        allocation_type: CUmemAllocationType::PINNED,
        requestedHandleTypes: handle_types(given.handle_types)?,
        location: location(given.device)?,
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: CUmemAllocationFlags {
            compressionType: given.compression,
            gpuDirectRDMACapable: given.rdma,
            usage: given.usage,
            reserved: [0; 4],
        },
    })
}

/// Room for CUDA's structure.
pub(super) fn empty_properties() -> CUmemAllocationProp {
    CUmemAllocationProp {
        allocation_type: CUmemAllocationType::INVALID,
        requestedHandleTypes: CUmemAllocationHandleType::NONE,
        location: CUmemLocation::default(),
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: CUmemAllocationFlags::default(),
    }
}

/// CUDA's structure as it travels: memory of a device, which is all that a guest can have.
pub(super) fn to_wire(found: &CUmemAllocationProp) -> Result<MemoryProperties, CUresult> {
    if found.allocation_type != CUmemAllocationType::PINNED
        || found.location.kind != CUmemLocationType::DEVICE.0
    {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    Ok(MemoryProperties {
        device: u32::try_from(found.location.id).map_err(|_| CUresult::ERROR_INVALID_DEVICE)?,
        handle_types: found.requestedHandleTypes.0,
        compression: found.allocFlags.compressionType,
        rdma: found.allocFlags.gpuDirectRDMACapable,
        usage: found.allocFlags.usage,
        reserved: 0,
    })
}

/// Whether a range lies where the guest process keeps addresses free for the device.
pub(super) fn is_in_window(address: u64, length: u64) -> bool {
    let inside = |start: u64, end: u64| {
        address >= start && address.checked_add(length).is_some_and(|last| last <= end)
    };
    inside(window::PINNED_END, window::END) || inside(window::LOW_START, window::LOW_END)
}

pub(super) fn reserve(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: AddressReserve = call.structure()?;
    call.end_of_parameters()?;
    let size = |value| usize::try_from(value).map_err(|_| CUresult::ERROR_INVALID_VALUE);
    let (length, alignment) = (size(request.length)?, size(request.alignment)?);
    if !is_in_window(request.address, request.length) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let functions = &call.driver().virtual_memory;
    let reserve = functions.cuMemAddressReserve.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let free = functions.cuMemAddressFree.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut place = CUdeviceptr::default();
    let wanted = CUdeviceptr(request.address);
    // SAFETY: room for one address; the driver takes free addresses only.
    ok(call.in_driver(|| unsafe { reserve(&raw mut place, length, alignment, wanted, request.flags) }))?;
    if !is_in_window(place.0, request.length) {
        log::warn!("a range of {length:#x} bytes came to lie at {:#x}, outside the window", place.0);
        // SAFETY: reserved just now, and nobody knows of it. The error below says all that the guest has to know.
        let _result = unsafe { free(place, length) };
        return Err(CUresult::ERROR_OUT_OF_MEMORY);
    }
    call.put(&AddressReserved { address: place.0 })
}

pub(super) fn create(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: MemoryCreate = call.structure()?;
    call.end_of_parameters()?;
    call.check_free(Kind::Allocation, request.handle)?;
    let length = usize::try_from(request.length).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    let properties = properties(&request.properties)?;
    let create = call.driver().virtual_memory.cuMemCreate.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut made = CUmemGenericAllocationHandle::default();
    // SAFETY: room for one handle; the structure holds no pointer.
    ok(call.in_driver(|| unsafe { create(&raw mut made, length, &raw const properties, request.flags) }))?;
    let object = Object { raw: made.to_u64(), parent: 0, context: 0 };
    call.session().handles.insert(Kind::Allocation, request.handle, object)
}

pub(super) fn granularity(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: MemoryGranularity = call.structure()?;
    call.end_of_parameters()?;
    let properties = properties(&request.properties)?;
    let functions = &call.driver().virtual_memory;
    let ask = functions.cuMemGetAllocationGranularity.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let option = CUmemAllocationGranularity_flags(request.option);
    let mut bytes = 0_usize;
    // SAFETY: room for one number; the structure holds no pointer.
    ok(call.in_driver(|| unsafe { ask(&raw mut bytes, &raw const properties, option) }))?;
    call.put(&Granularity { bytes: bytes as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_window_are_taken() {
        assert!(is_in_window(window::RESERVE_START, 1 << 40));
        assert!(is_in_window(window::LOW_START, window::LOW_END - window::LOW_START));
        assert!(!is_in_window(window::PINNED_START, 4096), "the guest's pinned memory lies there");
        assert!(!is_in_window(window::END - 4096, 8192));
        assert!(!is_in_window(0x7f00_0000_0000, 4096));
        assert!(!is_in_window(window::RESERVE_START, u64::MAX));
        assert!(!is_in_window(0, 4096));
    }

    #[test]
    fn properties_have_no_unknown_bits() {
        let given =
            MemoryProperties { device: 0, handle_types: 1, compression: 0, rdma: 0, usage: 0, reserved: 0 };
        assert!(properties(&given).is_ok());
        assert_eq!(
            properties(&MemoryProperties { handle_types: 8, ..given }).err(),
            Some(CUresult::ERROR_NOT_SUPPORTED)
        );
        assert!(properties(&MemoryProperties { reserved: 1, ..given }).is_err());
        assert!(properties(&MemoryProperties { device: u32::MAX, ..given }).is_err());
    }
}

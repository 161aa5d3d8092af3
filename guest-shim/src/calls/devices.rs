//! Initialization, versions, errors and device queries: answered without the device.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::{CStr, c_char, c_void};

use virtio_spec::codec::Scalar;
use virtio_spec::cuda::{
    CUarray_format, CUdevice, CUdevice_attribute, CUdevprop, CUdriverProcAddressQueryResult,
    CUexecAffinityType, CUresult, CUuuid,
};

use super::{give, give_if_wanted};
use crate::device::{self, devices};
use crate::entry::{self, status};
use crate::exports::devices::wire_cuDeviceGetTexture1DLinearMaxWidth;
use crate::proc_address::{self, Found};
use crate::process;

pub(crate) unsafe fn cuInit(flags: u32) -> CUresult {
    if flags != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    entry::silence_panics();
    status(process::initialise_once(|| devices()?.init_result()))
}

pub(crate) unsafe fn cuDriverGetVersion(driver_version: *mut i32) -> CUresult {
    let version = devices().map_or(device::VERSION, |devices| devices.version());
    // SAFETY: the application's place for an i32.
    status(unsafe { give(driver_version, i32::from_u64(u64::from(version))) })
}

/// # Safety
/// `text` is null, or valid for writing.
unsafe fn error_text(found: Option<&'static CStr>, text: *mut *const c_char) -> CUresult {
    let pointer = found.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: as the caller promises.
    let given = unsafe { give(text, pointer) };
    status(given.and(found.map(|_| ()).ok_or(CUresult::ERROR_INVALID_VALUE)))
}

pub(crate) unsafe fn cuGetErrorName(error: CUresult, text: *mut *const c_char) -> CUresult {
    // SAFETY: the application's place for a pointer.
    unsafe { error_text(error.error_name(), text) }
}

pub(crate) unsafe fn cuGetErrorString(error: CUresult, text: *mut *const c_char) -> CUresult {
    // SAFETY: the application's place for a pointer.
    unsafe { error_text(error.error_string(), text) }
}

/// # Safety
/// `symbol` is null or NUL-terminated.
unsafe fn lookup(symbol: *const c_char, version: i32, flags: u64) -> Result<Found, CUresult> {
    if symbol.is_null() || flags & !proc_address::FLAGS != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let version = u32::try_from(version).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    // SAFETY: as the caller promises.
    let name = unsafe { CStr::from_ptr(symbol) };
    Ok(name.to_str().map_or(Found::Nothing, |name| proc_address::find(name, version, flags)))
}

pub(crate) unsafe fn cuGetProcAddress(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    driver_version: i32,
    flags: u64,
) -> CUresult {
    // SAFETY: the application's string.
    let found = unsafe { lookup(symbol, driver_version, flags) };
    status(found.and_then(|found| match found {
        // SAFETY: the application's place for a pointer.
        Found::Function(function) => unsafe { give(pfn, function as *mut c_void) },
        Found::Nothing | Found::Later => Err(CUresult::ERROR_NOT_FOUND),
    }))
}

pub(crate) unsafe fn cuGetProcAddress_v2(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    driver_version: i32,
    flags: u64,
    symbol_found: *mut CUdriverProcAddressQueryResult,
) -> CUresult {
    // SAFETY: the application's string.
    let found = match unsafe { lookup(symbol, driver_version, flags) } {
        Ok(found) => found,
        Err(error) => return error,
    };
    let (pointer, state) = match found {
        Found::Function(function) => (function as *mut c_void, CUdriverProcAddressQueryResult::SUCCESS),
        Found::Nothing => (std::ptr::null_mut(), CUdriverProcAddressQueryResult::SYMBOL_NOT_FOUND),
        Found::Later => (std::ptr::null_mut(), CUdriverProcAddressQueryResult::VERSION_NOT_SUFFICIENT),
    };
    // SAFETY: the application's place for a pointer.
    let given = unsafe { give(pfn, pointer) };
    // SAFETY: the application's place for a state, or null.
    unsafe { give_if_wanted(symbol_found, state) };
    status(given)
}

pub(crate) unsafe fn cuDeviceGet(device: *mut CUdevice, ordinal: i32) -> CUresult {
    let wanted = CUdevice(ordinal);
    // SAFETY: the application's place for a device.
    status(devices().and_then(|all| all.record(wanted)).and_then(|_| unsafe { give(device, wanted) }))
}

pub(crate) unsafe fn cuDeviceGetCount(count: *mut i32) -> CUresult {
    // SAFETY: the application's place for a number.
    status(devices().and_then(|all| unsafe { give(count, i32::from_u64(all.count() as u64)) }))
}

/// Writes as much of a text as there is room for, and its NUL.
///
/// # Safety
/// `place` is null, or has `room` bytes.
unsafe fn give_text(text: &[u8], place: *mut c_char, room: i32) -> Result<(), CUresult> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let room = usize::try_from(room).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    if place.is_null() || room == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let length = text.len().min(room - 1);
    // SAFETY: fewer bytes than there is room for.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), place, length) };
    // SAFETY: inside the room.
    unsafe { place.wrapping_add(length).write(0) };
    Ok(())
}

pub(crate) unsafe fn cuDeviceGetName(name: *mut c_char, len: i32, device: CUdevice) -> CUresult {
    // SAFETY: the application's buffer.
    status(
        devices()
            .and_then(|all| all.record(device))
            .and_then(|record| unsafe { give_text(&record.name, name, len) }),
    )
}

pub(crate) unsafe fn cuDeviceGetUuid(uuid: *mut CUuuid, device: CUdevice) -> CUresult {
    let found = devices().and_then(|all| all.record(device));
    // SAFETY: the application's place for a UUID.
    status(found.and_then(|record| unsafe { give(uuid, CUuuid { bytes: record.uuid }) }))
}

pub(crate) unsafe fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, device: CUdevice) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuDeviceGetUuid(uuid, device) }
}

pub(crate) unsafe fn cuDeviceGetLuid(
    _luid: *mut c_char,
    _device_node_mask: *mut u32,
    _device: CUdevice,
) -> CUresult {
    CUresult::ERROR_NOT_SUPPORTED
}

pub(crate) unsafe fn cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice) -> CUresult {
    let found = devices().and_then(|all| all.record(device));
    // SAFETY: the application's place for a number.
    status(found.and_then(|record| unsafe { give(bytes, usize::from_u64(record.total_memory)) }))
}

pub(crate) unsafe fn cuDeviceGetAttribute(
    value: *mut i32,
    attrib: CUdevice_attribute,
    device: CUdevice,
) -> CUresult {
    let found = devices().and_then(|all| all.attribute(device, attrib.0));
    // SAFETY: the application's place for a number.
    status(found.and_then(|found| unsafe { give(value, found) }))
}

pub(crate) unsafe fn cuDeviceComputeCapability(
    major: *mut i32,
    minor: *mut i32,
    device: CUdevice,
) -> CUresult {
    let both = devices().and_then(|all| {
        Ok((
            all.attribute(device, CUdevice_attribute::COMPUTE_CAPABILITY_MAJOR.0)?,
            all.attribute(device, CUdevice_attribute::COMPUTE_CAPABILITY_MINOR.0)?,
        ))
    });
    status(both.and_then(|both| {
        // SAFETY: the application's place for a number.
        unsafe { give(major, both.0) }?;
        // SAFETY: the application's place for a number.
        unsafe { give(minor, both.1) }
    }))
}

pub(crate) unsafe fn cuDeviceGetProperties(prop: *mut CUdevprop, device: CUdevice) -> CUresult {
    let properties = || {
        let all = devices()?;
        let get = |attribute: CUdevice_attribute| all.attribute(device, attribute.0);
        Ok(CUdevprop {
            maxThreadsPerBlock: get(CUdevice_attribute::MAX_THREADS_PER_BLOCK)?,
            maxThreadsDim: [
                get(CUdevice_attribute::MAX_BLOCK_DIM_X)?,
                get(CUdevice_attribute::MAX_BLOCK_DIM_Y)?,
                get(CUdevice_attribute::MAX_BLOCK_DIM_Z)?,
            ],
            maxGridSize: [
                get(CUdevice_attribute::MAX_GRID_DIM_X)?,
                get(CUdevice_attribute::MAX_GRID_DIM_Y)?,
                get(CUdevice_attribute::MAX_GRID_DIM_Z)?,
            ],
            sharedMemPerBlock: get(CUdevice_attribute::MAX_SHARED_MEMORY_PER_BLOCK)?,
            totalConstantMemory: get(CUdevice_attribute::TOTAL_CONSTANT_MEMORY)?,
            SIMDWidth: get(CUdevice_attribute::WARP_SIZE)?,
            memPitch: get(CUdevice_attribute::MAX_PITCH)?,
            regsPerBlock: get(CUdevice_attribute::MAX_REGISTERS_PER_BLOCK)?,
            clockRate: get(CUdevice_attribute::CLOCK_RATE)?,
            textureAlign: get(CUdevice_attribute::TEXTURE_ALIGNMENT)?,
        })
    };
    // SAFETY: the application's place for the structure.
    status(properties().and_then(|properties| unsafe { give(prop, properties) }))
}

pub(crate) unsafe fn cuDeviceGetByPCIBusId(device: *mut CUdevice, pci_bus_id: *const c_char) -> CUresult {
    if pci_bus_id.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's string.
    let text = unsafe { CStr::from_ptr(pci_bus_id) }.to_string_lossy();
    let Some(wanted) = bus_address(&text) else { return CUresult::ERROR_INVALID_VALUE };
    let found = devices().and_then(|all| {
        all.find(|record| {
            let own = record.pci_bus_id.split(|byte| *byte == 0).next().unwrap_or_default();
            bus_address(&String::from_utf8_lossy(own)) == Some(wanted)
        })
        .ok_or(CUresult::ERROR_INVALID_DEVICE)
    });
    // SAFETY: the application's place for a device.
    status(found.and_then(|found| unsafe { give(device, found) }))
}

/// Domain, bus, device and function of `[domain:]bus:device[.function]`.
fn bus_address(text: &str) -> Option<[u32; 4]> {
    let hex = |part: &str| u32::from_str_radix(part, 16).ok();
    let (place, function) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<&str> = place.split(':').collect();
    match parts.as_slice() {
        [domain, bus, device] => Some([hex(domain)?, hex(bus)?, hex(device)?, hex(function)?]),
        [bus, device] => Some([0, hex(bus)?, hex(device)?, hex(function)?]),
        _ => None,
    }
}

pub(crate) unsafe fn cuDeviceGetPCIBusId(pci_bus_id: *mut c_char, len: i32, device: CUdevice) -> CUresult {
    let found = devices().and_then(|all| all.record(device));
    status(found.and_then(|record| {
        let length = record.pci_bus_id.iter().position(|byte| *byte == 0).unwrap_or(record.pci_bus_id.len());
        // Half an address is of no use.
        if usize::try_from(len).is_ok_and(|room| room > length) {
            // SAFETY: the application's buffer.
            unsafe { give_text(&record.pci_bus_id, pci_bus_id, len) }
        } else {
            Err(CUresult::ERROR_INVALID_VALUE)
        }
    }))
}

pub(crate) unsafe fn cuDeviceGetExecAffinitySupport(
    value: *mut i32,
    _kind: CUexecAffinityType,
    device: CUdevice,
) -> CUresult {
    // SAFETY: the application's place for a number.
    status(devices().and_then(|all| all.record(device)).and_then(|_| unsafe { give(value, 0) }))
}

pub(crate) unsafe fn cuDeviceGetTexture1DLinearMaxWidth(
    max_width_in_elements: *mut usize,
    format: CUarray_format,
    num_channels: u32,
    device: CUdevice,
) -> CUresult {
    match devices().and_then(|devices| devices.host_ordinal(device)) {
        Ok(place) => {
            let place = CUdevice::from_u64(u64::from(place));
            // SAFETY: the same contract.
            unsafe {
                wire_cuDeviceGetTexture1DLinearMaxWidth(max_width_in_elements, format, num_channels, place)
            }
        }
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::bus_address;

    #[test]
    fn bus_addresses_have_several_forms() {
        assert_eq!(bus_address("0000:3b:00.0"), Some([0, 0x3b, 0, 0]));
        assert_eq!(bus_address("3B:00.0"), Some([0, 0x3b, 0, 0]));
        assert_eq!(bus_address("00000000:3b:00"), Some([0, 0x3b, 0, 0]));
        assert_eq!(bus_address("3b"), None);
        assert_eq!(bus_address("xx:00.0"), None);
    }
}

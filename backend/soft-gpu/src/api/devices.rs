//! Initialization, versions, errors and device queries.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::{CString, c_char};

use virtio_spec::cuda::{
    CUdevice, CUdevice_P2PAttribute, CUdevice_attribute, CUdevprop, CUexecAffinityType, CUresult, CUuuid,
};

use super::entry::{Out, Text, check_device, exports};
use crate::driver::attributes::{self, DRIVER_VERSION, NAME, PCI_BUS, SM, UUID};
use crate::driver::{Driver, Result, driver};

exports! {
    free cuInit(flags: u32) = initialize;
    free cuDriverGetVersion(version: *mut i32) = driver_version;
    free cuGetErrorName(error: CUresult, text: *mut *const c_char) = error_name;
    free cuGetErrorString(error: CUresult, text: *mut *const c_char) = error_string;
    init cuDeviceGet(device: *mut CUdevice, ordinal: i32) = get;
    init cuDeviceGetCount(count: *mut i32) = count;
    init cuDeviceGetName(name: *mut c_char, length: i32, device: CUdevice) = name;
    init cuDeviceGetUuid(uuid: *mut CUuuid, device: CUdevice) = uuid;
    init cuDeviceGetUuid_v2(uuid: *mut CUuuid, device: CUdevice) = uuid;
    init cuDeviceGetLuid(luid: *mut c_char, mask: *mut u32, device: CUdevice) = luid;
    init cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice) = total_memory;
    init cuDeviceGetAttribute(value: *mut i32, attribute: CUdevice_attribute, device: CUdevice) = attribute;
    init cuDeviceComputeCapability(major: *mut i32, minor: *mut i32, device: CUdevice) = capability;
    init cuDeviceGetProperties(properties: *mut CUdevprop, device: CUdevice) = properties;
    init cuDeviceGetByPCIBusId(device: *mut CUdevice, text: *const c_char) = by_pci_bus_id;
    init cuDeviceGetPCIBusId(text: *mut c_char, length: i32, device: CUdevice) = pci_bus_id;
    init cuDeviceGetExecAffinitySupport(value: *mut i32, kind: CUexecAffinityType, device: CUdevice)
        = affinity_support;
    init cuDeviceCanAccessPeer(can: *mut i32, device: CUdevice, peer: CUdevice) = can_access_peer;
    init cuDeviceGetP2PAttribute(
        value: *mut i32, attribute: CUdevice_P2PAttribute, device: CUdevice, peer: CUdevice,
    ) = peer_attribute;
    init cuProfilerStart() = profile;
    init cuProfilerStop() = profile;
}

fn initialize(flags: u32) -> Result<()> {
    if flags != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if !driver().is_visible() {
        return Err(CUresult::ERROR_NO_DEVICE);
    }
    driver().initialize()
}

fn driver_version(version: Out<i32>) -> Result<()> {
    version.put(DRIVER_VERSION)
}

fn give_text(text: Out<*const c_char>, found: Option<&'static std::ffi::CStr>) -> Result<()> {
    text.put(found.map_or(std::ptr::null(), std::ffi::CStr::as_ptr))?;
    if found.is_some() { Ok(()) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

fn error_name(error: CUresult, text: Out<*const c_char>) -> Result<()> {
    give_text(text, error.error_name())
}

fn error_string(error: CUresult, text: Out<*const c_char>) -> Result<()> {
    give_text(text, error.error_string())
}

fn get(_: &Driver, device: Out<CUdevice>, ordinal: i32) -> Result<()> {
    device.check()?;
    check_device(CUdevice(ordinal))?;
    device.put(CUdevice(ordinal))
}

fn count(_: &Driver, count: Out<i32>) -> Result<()> {
    count.put(1)
}

/// Writes a text to a buffer of the program, cut to its length.
fn put_text(text: &str, buffer: *mut c_char, length: i32) -> Result<()> {
    let length = usize::try_from(length).unwrap_or(0);
    if buffer.is_null() || length == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let cut = text.get(..length - 1).unwrap_or(text);
    let cut = CString::new(cut).unwrap_or_default();
    let bytes = cut.as_bytes_with_nul();
    // SAFETY: the program's buffer has `length` bytes, and these are not more.
    unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    Ok(())
}

fn name(_: &Driver, buffer: *mut c_char, length: i32, device: CUdevice) -> Result<()> {
    check_device(device)?;
    put_text(NAME, buffer, length)
}

fn uuid(_: &Driver, uuid: Out<CUuuid>, device: CUdevice) -> Result<()> {
    check_device(device)?;
    uuid.put(UUID)
}

fn luid(_: &Driver, _luid: Out<c_char>, _mask: Out<u32>, device: CUdevice) -> Result<()> {
    check_device(device)?;
    // Windows only.
    Err(CUresult::ERROR_NOT_SUPPORTED)
}

fn total_memory(_: &Driver, bytes: Out<usize>, device: CUdevice) -> Result<()> {
    check_device(device)?;
    bytes.put(usize::try_from(attributes::total_memory()).unwrap_or(usize::MAX))
}

fn attribute(_: &Driver, value: Out<i32>, attribute: CUdevice_attribute, device: CUdevice) -> Result<()> {
    value.check()?;
    check_device(device)?;
    value.put(attributes::attribute(attribute).ok_or(CUresult::ERROR_INVALID_VALUE)?)
}

fn capability(_: &Driver, major: Out<i32>, minor: Out<i32>, device: CUdevice) -> Result<()> {
    major.check()?;
    minor.check()?;
    check_device(device)?;
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    major.put(number(SM / 10))?;
    minor.put(number(SM % 10))
}

fn properties(_: &Driver, properties: Out<CUdevprop>, device: CUdevice) -> Result<()> {
    check_device(device)?;
    properties.put(attributes::properties())
}

fn by_pci_bus_id(_: &Driver, device: Out<CUdevice>, text: Text) -> Result<()> {
    device.check()?;
    let text = std::str::from_utf8(text.bytes()?).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    let parse = |part: &str| i32::from_str_radix(part, 16).ok();
    let parsed = (|| {
        // [domain:]bus:slot[.function]
        let (text, function) = text.split_once('.').unwrap_or((text, "0"));
        let mut parts = text.rsplit(':');
        let (slot, bus) = (parse(parts.next()?)?, parse(parts.next()?)?);
        let domain = parse(parts.next().unwrap_or("0"))?;
        parts.next().is_none().then_some((domain, bus, slot, parse(function)?))
    })();
    match parsed {
        Some((0, PCI_BUS, 0, 0)) => device.put(CUdevice(0)),
        Some(_) => Err(CUresult::ERROR_INVALID_DEVICE),
        None => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

fn pci_bus_id(_: &Driver, buffer: *mut c_char, length: i32, device: CUdevice) -> Result<()> {
    check_device(device)?;
    put_text(&format!("0000:{PCI_BUS:02X}:00.0"), buffer, length)
}

fn affinity_support(_: &Driver, value: Out<i32>, kind: CUexecAffinityType, device: CUdevice) -> Result<()> {
    value.check()?;
    check_device(device)?;
    if kind != CUexecAffinityType(0) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    value.put(0)
}

fn can_access_peer(_: &Driver, can: Out<i32>, device: CUdevice, peer: CUdevice) -> Result<()> {
    can.check()?;
    check_device(device)?;
    check_device(peer)?;
    can.put(0)
}

fn peer_attribute(
    _: &Driver,
    value: Out<i32>,
    _attribute: CUdevice_P2PAttribute,
    device: CUdevice,
    peer: CUdevice,
) -> Result<()> {
    value.check()?;
    check_device(device)?;
    check_device(peer)?;
    // Documented: the two devices must differ, and there is one.
    Err(CUresult::ERROR_INVALID_DEVICE)
}

/// There is nothing to profile, and programs that bracket their work need not care.
fn profile(_: &Driver) -> Result<()> {
    Ok(())
}

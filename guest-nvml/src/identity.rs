//! Which devices there are, and what each is.

use std::ffi::c_char;

use virtio_spec::management::Fixed;

use crate::abi::{Error, Handle, PciInfo, PciInfoExt, PciInfoV1, version};
use crate::entry::Place;
use crate::state::{Device, parse_pci};

/// `NVML_DEVICE_ARCH_*` by the compute capability's first and second number.
const fn architecture(major: u32, minor: u32) -> Option<u32> {
    Some(match (major, minor) {
        (3, _) => 2,
        (5, _) => 3,
        (6, _) => 4,
        (7, 0..=4) => 5,
        (7, _) => 6,
        (8, 9) => 8,
        (8, _) => 7,
        (9, _) => 9,
        (10 | 12, _) => 10,
        _ => return None,
    })
}

/// A text in an array of a structure, with its NUL.
fn array<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    for (place, byte) in array.iter_mut().take(N.saturating_sub(1)).zip(text.bytes()) {
        *place = byte.cast_signed();
    }
    array
}

fn pci_info(device: Device<'_>) -> Result<PciInfo, Error> {
    let [domain, bus, slot] = device.pci().ok_or(Error::NOT_SUPPORTED)?;
    Ok(PciInfo {
        legacy: array(&format!("{domain:04X}:{bus:02X}:{slot:02X}.0")),
        domain,
        bus,
        device: slot,
        pci_device: device.fixed(Fixed::PciDevice).unwrap_or(0),
        pci_subsystem: device.fixed(Fixed::PciSubsystem).unwrap_or(0),
        bus_id: array(&format!("{domain:08X}:{bus:02X}:{slot:02X}.0")),
    })
}

nvml! {
    /// Devices of this guest.
    [nvmlDeviceGetCount_v2 nvmlDeviceGetCount](count: Place<u32>) = |session| {
        count.put(u32::try_from(session.records.devices.len()).map_err(|_| Error::UNKNOWN)?)
    };
    /// The device at a place.
    [nvmlDeviceGetHandleByIndex_v2 nvmlDeviceGetHandleByIndex](index: u32, device: Place<Handle>) = |session| {
        device.check()?.put(session.device_at(index as usize)?.handle())
    };
    /// The device with a UUID.
    [nvmlDeviceGetHandleByUUID](uuid: Place<c_char>, device: Place<Handle>) = |session| {
        let wanted = uuid.text()?;
        device.check()?;
        let found = session.devices().find(|device| device.uuid().eq_ignore_ascii_case(&wanted));
        device.put(found.ok_or(Error::NOT_FOUND)?.handle())
    };
    /// The device at a place on the bus.
    [nvmlDeviceGetHandleByPciBusId_v2 nvmlDeviceGetHandleByPciBusId](place: Place<c_char>, device: Place<Handle>) =
        |session| {
            let wanted = parse_pci(&place.text()?).ok_or(Error::INVALID_ARGUMENT)?;
            device.check()?;
            let found = session.devices().find(|device| device.pci() == Some(wanted));
            device.put(found.ok_or(Error::NOT_FOUND)?.handle())
        };
    /// The place of a device.
    [nvmlDeviceGetIndex](device: Handle, index: Place<u32>) = |session| {
        index.put(u32::try_from(session.device(device)?.place).map_err(|_| Error::UNKNOWN)?)
    };
    /// What `cuDeviceGetName` tells.
    [nvmlDeviceGetName](device: Handle, out: Place<c_char>, length: u32) = |session| {
        out.put_text(length, &session.device(device)?.name())
    };
    /// What `cuDeviceGetUuid` tells.
    [nvmlDeviceGetUUID](device: Handle, out: Place<c_char>, length: u32) = |session| {
        out.put_text(length, &session.device(device)?.uuid())
    };
    /// The number of the host's device node means nothing here: devices are counted.
    [nvmlDeviceGetMinorNumber](device: Handle, out: Place<u32>) = |session| {
        out.put(u32::try_from(session.device(device)?.place).map_err(|_| Error::UNKNOWN)?)
    };
    /// The product line.
    [nvmlDeviceGetBrand](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::Brand).unwrap_or(0))
    };
    /// The generation of GPUs.
    [nvmlDeviceGetArchitecture](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?;
        let derived = || architecture(device.attribute(75).ok()?, device.attribute(76).ok()?);
        out.put(device.fixed(Fixed::Architecture).ok().or_else(derived).unwrap_or(u32::MAX))
    };
    /// What CUDA's attributes tell.
    [nvmlDeviceGetCudaComputeCapability](device: Handle, major: Place<i32>, minor: Place<i32>) = |session| {
        let device = session.device(device)?;
        let (major, minor) = (major.check()?, minor.check()?);
        major.put(device.attribute(75)?.cast_signed())?;
        minor.put(device.attribute(76)?.cast_signed())
    };
    /// CUDA cores.
    [nvmlDeviceGetNumGpuCores](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::Cores)?)
    };
    /// How the device is attached.
    [nvmlDeviceGetBusType](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::BusType)?)
    };
    /// Bits of the memory's bus.
    [nvmlDeviceGetMemoryBusWidth](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.attribute(37)?)
    };
    /// The place on the host's bus, as CUDA tells it.
    [nvmlDeviceGetPciInfo_v3](device: Handle, out: Place<PciInfo>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(pci_info(device)?)
    };
    /// The same without the second text: their structure was shorter.
    [nvmlDeviceGetPciInfo_v2 nvmlDeviceGetPciInfo](device: Handle, out: Place<PciInfoV1>) = |session| {
        let device = session.device(device)?;
        out.check()?;
        let PciInfo { legacy, domain, bus, device, pci_device, pci_subsystem, .. } = pci_info(device)?;
        out.put(PciInfoV1 { legacy, domain, bus, device, pci_device, pci_subsystem })
    };
    /// The same with the device's class: a 3D controller.
    [nvmlDeviceGetPciInfoExt](device: Handle, out: Place<PciInfoExt>) = |session| {
        let device = session.device(device)?;
        let wanted = Place::<u32>::of(out).get()?;
        if wanted != version::<PciInfoExt>(1) {
            return Err(Error::ARGUMENT_VERSION_MISMATCH);
        }
        let PciInfo { domain, bus, device, pci_device, pci_subsystem, bus_id, .. } = pci_info(device)?;
        out.put(PciInfoExt {
            version: wanted, domain, bus, device, pci_device, pci_subsystem, base_class: 3, sub_class: 2, bus_id,
        })
    };
    /// Each device is a board of its own.
    [nvmlDeviceGetMultiGpuBoard](device: Handle, out: Place<u32>) = |session| {
        session.device(device)?;
        out.put(0)
    };
    /// A device is on the same board as itself alone.
    [nvmlDeviceOnSameBoard](first: Handle, second: Handle, out: Place<i32>) = |session| {
        let same = session.device(first)?.place == session.device(second)?.place;
        out.put(same.into())
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_follow_from_compute_capabilities() {
        for (capability, number) in
            [((7, 0), 5), ((7, 5), 6), ((8, 0), 7), ((8, 6), 7), ((8, 9), 8), ((9, 0), 9), ((10, 0), 10)]
        {
            assert_eq!(architecture(capability.0, capability.1), Some(number), "{capability:?}");
        }
        assert_eq!(architecture(99, 0), None);
    }

    #[test]
    fn texts_of_structures_end_with_a_nul() {
        assert_eq!(array::<4>("abcdef"), [97, 98, 99, 0]);
        assert_eq!(array::<4>("a"), [97, 0, 0, 0]);
    }
}

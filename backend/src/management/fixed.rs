//! What stays the same: written into the device information by the discovery process.

use virtio_spec::{
    info::{self, DeviceRecord},
    management::{Fixed, HOST_OFFSET, HostRecord, Quantities},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::nvml::{Device, Nvml};

/// Adds what the host's NVML knows. Without one, or for devices that it does not know (a software GPU), nothing is added.
pub(crate) fn describe(information: &mut [u8]) {
    let Some(nvml) = Nvml::start() else { return };
    let record_bytes = usize::try_from(info::RECORD_BYTES).unwrap_or(usize::MAX);
    let mut found = false;
    for bytes in information.chunks_mut(record_bytes).skip(1) {
        let Ok((record, _)) = DeviceRecord::mut_from_prefix(bytes) else { return };
        if let Some(device) = nvml.device(&record.uuid) {
            record.management = quantities(&nvml, device);
            found = true;
        }
    }
    if !found {
        return;
    }
    let host = HostRecord {
        driver: nvml.text("nvmlSystemGetDriverVersion").unwrap_or([0; 80]),
        management: nvml.text("nvmlSystemGetNVMLVersion").unwrap_or([0; 80]),
    };
    if let Some(place) =
        information.get_mut(HOST_OFFSET..).and_then(|rest| rest.get_mut(..size_of_val(&host)))
    {
        place.copy_from_slice(host.as_bytes());
    }
}

fn quantities(nvml: &Nvml, device: Device) -> Quantities {
    let mut quantities = Quantities::default();
    for which in Fixed::ALL {
        if let Some(value) = value(nvml, device, which) {
            quantities.set_fixed(which, value);
        }
    }
    quantities
}

fn value(nvml: &Nvml, device: Device, which: Fixed) -> Option<u64> {
    let number = |name: &str| nvml.number(device, name);
    let clock = |domain| nvml.number_of(device, "nvmlDeviceGetMaxClockInfo", domain);
    let threshold = |kind| nvml.number_of(device, "nvmlDeviceGetTemperatureThreshold", kind);
    let power = |first: bool| {
        let [least, most] = nvml.pair(device, "nvmlDeviceGetPowerManagementLimitConstraints")?;
        Some(if first { least } else { most })
    };
    match which {
        Fixed::Architecture => number("nvmlDeviceGetArchitecture"),
        Fixed::Brand => number("nvmlDeviceGetBrand"),
        Fixed::BusType => number("nvmlDeviceGetBusType"),
        Fixed::Cores => number("nvmlDeviceGetNumGpuCores"),
        Fixed::PciDevice => nvml.pci(device).map(|[identity, _]| identity.into()),
        Fixed::PciSubsystem => nvml.pci(device).map(|[_, subsystem]| subsystem.into()),
        Fixed::PcieGenerationMax => number("nvmlDeviceGetMaxPcieLinkGeneration"),
        Fixed::PcieWidthMax => number("nvmlDeviceGetMaxPcieLinkWidth"),
        Fixed::PcieGenerationOfDevice => number("nvmlDeviceGetGpuMaxPcieLinkGeneration"),
        Fixed::PowerLimit => number("nvmlDeviceGetPowerManagementLimit"),
        Fixed::PowerLimitDefault => number("nvmlDeviceGetPowerManagementDefaultLimit"),
        Fixed::PowerLimitMin => power(true),
        Fixed::PowerLimitMax => power(false),
        Fixed::PowerLimitEnforced => number("nvmlDeviceGetEnforcedPowerLimit"),
        Fixed::ClockGraphicsMax => clock(0),
        Fixed::ClockProcessorsMax => clock(1),
        Fixed::ClockMemoryMax => clock(2),
        Fixed::ClockVideoMax => clock(3),
        Fixed::ShutdownTemperature => threshold(0),
        Fixed::SlowdownTemperature => threshold(1),
        Fixed::MemoryTemperatureMax => threshold(2),
        Fixed::GpuTemperatureMax => threshold(3),
        Fixed::Bar1Total => nvml.bar1(device).map(|[total, ..]| total),
        Fixed::Fans => number("nvmlDeviceGetNumFans"),
        Fixed::ErrorCorrection => nvml.pair(device, "nvmlDeviceGetEccMode").map(|[current, _]| current),
        Fixed::Persistence => number("nvmlDeviceGetPersistenceMode"),
    }
}

//! What management software (NVML) asks of a device, beyond what CUDA tells.
//!
//! What stays the same is part of the device information: [`HostRecord`] in the header's page, [`Quantities`] by
//! [`Fixed`] in each device's record. What changes is asked for with STATUS ([`StatusReply`]), which needs no session:
//! the device answers from its memory, and says AGAIN while it has nothing fresh.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// Where [`HostRecord`] lies in the device information.
pub const HOST_OFFSET: usize = 64;

/// Processes that one answer lists at most.
pub const MAX_PROCESSES: usize = 1024;

/// What is known of the host's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct HostRecord {
    /// Version of the host's driver as NVML tells it, e.g. `580.95.05`; NUL-terminated, empty if there is none.
    pub driver: [u8; 80],
    /// Version of the host's NVML, in the same manner.
    pub management: [u8; 80],
}
assert_layout!(HostRecord, 160, driver: 0, management: 80);

/// Numbers of which each may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Quantities {
    /// Bit `i`: `values[i]` is known.
    pub known: u64,
    /// By index of [`Fixed`] or [`Live`].
    pub values: [u64; 63],
}
assert_layout!(Quantities, 512, known: 0, values: 8);

impl Default for Quantities {
    fn default() -> Self {
        Self { known: 0, values: [0; 63] }
    }
}

impl Quantities {
    fn value(&self, index: u32) -> Option<u64> {
        let value = self.values.get(index as usize)?;
        (self.known >> index & 1 == 1).then_some(*value)
    }

    fn set_value(&mut self, index: u32, value: u64) {
        if let Some(slot) = self.values.get_mut(index as usize) {
            *slot = value;
            self.known |= 1 << index;
        }
    }

    /// A number that stays the same, if it is known.
    #[must_use]
    pub fn fixed(&self, which: Fixed) -> Option<u64> {
        self.value(which as u32)
    }

    /// Notes a number that stays the same.
    pub fn set_fixed(&mut self, which: Fixed, value: u64) {
        self.set_value(which as u32, value);
    }

    /// A number that changes, if it is known.
    #[must_use]
    pub fn live(&self, which: Live) -> Option<u64> {
        self.value(which as u32)
    }

    /// Notes a number that changes.
    pub fn set_live(&mut self, which: Live, value: u64) {
        self.set_value(which as u32, value);
    }
}

/// Indices of what stays the same. Numbers without a unit are NVML's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Fixed {
    /// `nvmlDeviceArchitecture_t`.
    Architecture = 0,
    /// `nvmlBrandType_t`.
    Brand = 1,
    /// `nvmlBusType_t`.
    BusType = 2,
    /// CUDA cores.
    Cores = 3,
    /// The host's device and vendor: `pciDeviceId`.
    PciDevice = 4,
    /// `pciSubSystemId`.
    PciSubsystem = 5,
    /// PCIe generation of device and slot.
    PcieGenerationMax = 6,
    /// PCIe lanes of device and slot.
    PcieWidthMax = 7,
    /// PCIe generation of the device alone.
    PcieGenerationOfDevice = 8,
    /// Milliwatts.
    PowerLimit = 9,
    /// Milliwatts.
    PowerLimitDefault = 10,
    /// Milliwatts.
    PowerLimitMin = 11,
    /// Milliwatts.
    PowerLimitMax = 12,
    /// Milliwatts.
    PowerLimitEnforced = 13,
    /// MHz.
    ClockGraphicsMax = 14,
    /// MHz.
    ClockProcessorsMax = 15,
    /// MHz.
    ClockMemoryMax = 16,
    /// MHz.
    ClockVideoMax = 17,
    /// Degrees Celsius.
    ShutdownTemperature = 18,
    /// Degrees Celsius.
    SlowdownTemperature = 19,
    /// Degrees Celsius.
    MemoryTemperatureMax = 20,
    /// Degrees Celsius.
    GpuTemperatureMax = 21,
    /// Bytes.
    Bar1Total = 22,
    /// Fans.
    Fans = 23,
    /// 1: error correction of memory is on.
    ErrorCorrection = 24,
    /// 1: the persistence mode is on.
    Persistence = 25,
}

impl Fixed {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::Architecture,
        Self::Brand,
        Self::BusType,
        Self::Cores,
        Self::PciDevice,
        Self::PciSubsystem,
        Self::PcieGenerationMax,
        Self::PcieWidthMax,
        Self::PcieGenerationOfDevice,
        Self::PowerLimit,
        Self::PowerLimitDefault,
        Self::PowerLimitMin,
        Self::PowerLimitMax,
        Self::PowerLimitEnforced,
        Self::ClockGraphicsMax,
        Self::ClockProcessorsMax,
        Self::ClockMemoryMax,
        Self::ClockVideoMax,
        Self::ShutdownTemperature,
        Self::SlowdownTemperature,
        Self::MemoryTemperatureMax,
        Self::GpuTemperatureMax,
        Self::Bar1Total,
        Self::Fans,
        Self::ErrorCorrection,
        Self::Persistence,
    ];
}

/// Indices of what changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Live {
    /// Bytes.
    MemoryFree = 0,
    /// Percent.
    GpuUtilization = 1,
    /// Percent.
    MemoryUtilization = 2,
    /// Percent.
    EncoderUtilization = 3,
    /// Percent.
    DecoderUtilization = 4,
    /// Degrees Celsius.
    Temperature = 5,
    /// Milliwatts.
    Power = 6,
    /// Millijoules since the host's driver was loaded.
    Energy = 7,
    /// MHz.
    ClockGraphics = 8,
    /// MHz.
    ClockProcessors = 9,
    /// MHz.
    ClockMemory = 10,
    /// MHz.
    ClockVideo = 11,
    /// Percent.
    FanSpeed = 12,
    /// `nvmlPstates_t`.
    PerformanceState = 13,
    /// Bits of `nvmlClocksEventReasons`.
    ClockReasons = 14,
    /// PCIe generation now.
    PcieGeneration = 15,
    /// PCIe lanes now.
    PcieWidth = 16,
    /// KB/s from the device.
    PcieSent = 17,
    /// KB/s to the device.
    PcieReceived = 18,
    /// Bytes.
    Bar1Used = 19,
    /// Degrees Celsius.
    MemoryTemperature = 20,
}

impl Live {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::MemoryFree,
        Self::GpuUtilization,
        Self::MemoryUtilization,
        Self::EncoderUtilization,
        Self::DecoderUtilization,
        Self::Temperature,
        Self::Power,
        Self::Energy,
        Self::ClockGraphics,
        Self::ClockProcessors,
        Self::ClockMemory,
        Self::ClockVideo,
        Self::FanSpeed,
        Self::PerformanceState,
        Self::ClockReasons,
        Self::PcieGeneration,
        Self::PcieWidth,
        Self::PcieSent,
        Self::PcieReceived,
        Self::Bar1Used,
        Self::MemoryTemperature,
    ];
}

/// Reply to STATUS; [`Quantities`] by [`Live`] for each device follow, then [`ProcessUse`] for each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StatusReply {
    /// Generation of the device information that the devices' order belongs to.
    pub generation: u32,
    /// Devices that follow.
    pub device_count: u32,
    /// Processes that follow, at most [`MAX_PROCESSES`].
    pub process_count: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(StatusReply, 16, generation: 0, device_count: 4, process_count: 8, reserved: 12);

/// What a process of the asking VM, or of the asking user of the local socket, takes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ProcessUse {
    /// Place of the device in the device information.
    pub device: u32,
    /// Process ID, as the session's maker gave it.
    pub process: u32,
    /// Bytes of device memory; all ones if unknown.
    pub memory: u64,
    /// Percent of the device's time; all ones if unknown.
    pub utilization: u32,
    /// Zero.
    pub reserved: u32,
}
assert_layout!(ProcessUse, 24, device: 0, process: 4, memory: 8, utilization: 16, reserved: 20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_numbers_are_not_zero() {
        let mut numbers = Quantities::default();
        assert_eq!(numbers.live(Live::Power), None);
        numbers.set_live(Live::Power, 0);
        assert_eq!(numbers.live(Live::Power), Some(0));
        assert_eq!(numbers.live(Live::Temperature), None);
    }

    #[test]
    fn lists_name_each_index_once() {
        for (place, which) in (0..).zip(Fixed::ALL) {
            assert_eq!(which as u32, place);
        }
        for (place, which) in (0..).zip(Live::ALL) {
            assert_eq!(which as u32, place);
        }
    }
}

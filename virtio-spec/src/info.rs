//! The device information: what `cuInit` and device queries are answered from, without a session.
//!
//! [`InfoHeader`] at offset 0 ([`crate::management::HostRecord`] behind it), then one [`DeviceRecord`] for each device at multiples of [`RECORD_BYTES`] from
//! [`RECORD_BYTES`] on. The driver reads it once over `controlq` and maps it read-only into every process that asks.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{assert_layout, limits, management::Quantities};

/// Bytes of the header and of each device's record.
pub const RECORD_BYTES: u32 = 4096;

/// Bytes of the whole information for the greatest number of devices.
pub const MAX_BYTES: u32 = RECORD_BYTES * (1 + limits::MAX_DEVICES);

/// First four bytes: `VCIN`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"VCIN");

/// Device attributes in a record: indices of `CUdevice_attribute` below this number.
pub const ATTRIBUTE_COUNT: usize = 256;

/// Head of the device information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct InfoHeader {
    /// [`MAGIC`].
    pub magic: u32,
    /// Protocol version.
    pub version: u32,
    /// Generation, as in the configuration space.
    pub generation: u32,
    /// Devices that follow.
    pub device_count: u32,
    /// What `cuDriverGetVersion` reports on the host, e.g. 13000.
    pub driver_version: u32,
    /// What `cuInit` returned on the host (a `CUresult`); devices follow only if it is zero.
    pub init_result: u32,
    /// Zero.
    pub reserved: [u32; 10],
}
assert_layout!(InfoHeader, 64, magic: 0, version: 4, generation: 8, device_count: 12, driver_version: 16,
    init_result: 20, reserved: 24);

/// What is known of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DeviceRecord {
    /// `cuDeviceGetName`, NUL-terminated.
    pub name: [u8; 256],
    /// `cuDeviceGetUuid`.
    pub uuid: [u8; 16],
    /// `cuDeviceTotalMem`, bytes.
    pub total_memory: u64,
    /// `cuCtxGetStreamPriorityRange`: least and greatest.
    pub stream_priority: [i32; 2],
    /// `cuDeviceGetPCIBusId`, NUL-terminated, e.g. `0000:3b:00.0`.
    pub pci_bus_id: [u8; 32],
    /// Bit `i % 64` of word `i / 64`: attribute `i` is known.
    pub attributes_known: [u64; ATTRIBUTE_COUNT / 64],
    /// `cuDeviceGetAttribute`, by index.
    pub attributes: [i32; ATTRIBUTE_COUNT],
    /// What management software asks for besides, by [`crate::management::Fixed`].
    pub management: Quantities,
    /// Zero.
    pub reserved: [u64; 276],
}
assert_layout!(DeviceRecord, 4096, name: 0, uuid: 256, total_memory: 272, stream_priority: 280, pci_bus_id: 288,
    attributes_known: 320, attributes: 352, management: 1376, reserved: 1888);

impl DeviceRecord {
    /// The value of an attribute, if the host's driver knows it.
    #[must_use]
    pub fn attribute(&self, index: usize) -> Option<i32> {
        let word = self.attributes_known.get(index / 64)?;
        if word >> (index % 64) & 1 == 0 {
            return None;
        }
        self.attributes.get(index).copied()
    }

    /// Notes the value of an attribute; an index beyond the record is left out.
    pub fn set_attribute(&mut self, index: usize, value: i32) {
        if let (Some(word), Some(slot)) =
            (self.attributes_known.get_mut(index / 64), self.attributes.get_mut(index))
        {
            *word |= 1 << (index % 64);
            *slot = value;
        }
    }
}

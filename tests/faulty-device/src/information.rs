//! The device information: one device that nobody has built.

use virtio_spec::device::PROTOCOL_VERSION;
use virtio_spec::info::{DeviceRecord, InfoHeader, MAGIC, RECORD_BYTES};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Bytes of the information.
pub(crate) const BYTES: u32 = 2 * RECORD_BYTES;

const DRIVER_VERSION: u32 = 13_000;

/// `CU_DEVICE_ATTRIBUTE_…`, and what the device says.
const ATTRIBUTES: [(usize, i32); 8] =
    [(1, 1024), (2, 1024), (3, 1024), (4, 64), (10, 32), (16, 1), (75, 9), (76, 0)];

/// As it should be.
pub(crate) fn sound(generation: u32) -> Vec<u8> {
    let mut record = DeviceRecord::new_zeroed();
    record.name.iter_mut().zip(b"Faulty Device").for_each(|(to, from)| *to = *from);
    record.pci_bus_id.iter_mut().zip(b"0000:0f:00.0").for_each(|(to, from)| *to = *from);
    record.uuid = [0xfa; 16];
    record.total_memory = 1 << 30;
    for (index, value) in ATTRIBUTES {
        record.set_attribute(index, value);
    }
    bytes(generation, 1, &record)
}

/// All of it as large as it can be, and no text that ends.
pub(crate) fn extreme(generation: u32) -> Vec<u8> {
    let mut record = DeviceRecord::new_zeroed();
    record.name = [0xff; 256];
    record.pci_bus_id = [0xff; 32];
    record.uuid = [0xff; 16];
    record.total_memory = u64::MAX;
    record.stream_priority = [i32::MIN, i32::MAX];
    record.attributes_known = [u64::MAX; 4];
    record.attributes = [i32::MAX; 256];
    bytes(generation, u32::MAX, &record)
}

fn bytes(generation: u32, device_count: u32, record: &DeviceRecord) -> Vec<u8> {
    let header = InfoHeader {
        magic: MAGIC,
        version: PROTOCOL_VERSION,
        generation,
        device_count,
        driver_version: DRIVER_VERSION,
        init_result: 0,
        reserved: [0; 10],
    };
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(RECORD_BYTES as usize, 0);
    bytes.extend_from_slice(record.as_bytes());
    bytes
}

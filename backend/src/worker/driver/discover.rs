//! What the device information is made of: the driver's answers to every device query.
//!
//! Runs in a short-lived worker, so that the processes which live on have never touched the driver.
//!
//! Unsafe code: calls of the driver.

use virtio_spec::{
    cuda::{CUcontext, CUdevice, CUdevice_attribute, CUresult, CUuuid},
    device, info,
    info::{DeviceRecord, InfoHeader},
    limits,
};
use zerocopy::{FromZeros, IntoBytes};

use super::Driver;

/// Asks the driver for everything that [`virtio_spec::info`] holds. The generation is left zero for the supervisor.
pub(crate) fn discover(driver: &Driver) -> Vec<u8> {
    let mut header = InfoHeader::new_zeroed();
    header.magic = info::MAGIC;
    header.version = device::PROTOCOL_VERSION;
    let init = driver.initialise();
    header.init_result = init.0;
    if let Some(get_version) = driver.devices.cuDriverGetVersion {
        let mut version = 0_i32;
        // SAFETY: room for one number.
        if unsafe { get_version(&raw mut version) } == CUresult::SUCCESS {
            header.driver_version = u32::try_from(version).unwrap_or(0);
        }
    }
    let records = if init == CUresult::SUCCESS { records(driver) } else { Vec::new() };
    header.device_count = u32::try_from(records.len()).unwrap_or(0);

    let mut bytes = vec![0; info::RECORD_BYTES as usize];
    if let Some(head) = bytes.get_mut(..size_of::<InfoHeader>()) {
        head.copy_from_slice(header.as_bytes());
    }
    for record in &records {
        bytes.extend_from_slice(record.as_bytes());
    }
    bytes
}

fn records(driver: &Driver) -> Vec<DeviceRecord> {
    let Some(get_count) = driver.devices.cuDeviceGetCount else { return Vec::new() };
    let mut count = 0_i32;
    // SAFETY: room for one number.
    if unsafe { get_count(&raw mut count) } != CUresult::SUCCESS {
        return Vec::new();
    }
    let most = i32::try_from(limits::MAX_DEVICES).unwrap_or(i32::MAX);
    (0..count.min(most)).filter_map(|ordinal| record(driver, ordinal)).collect()
}

fn record(driver: &Driver, ordinal: i32) -> Option<DeviceRecord> {
    let devices = &driver.devices;
    let mut record = DeviceRecord::new_zeroed();
    let mut device = CUdevice::default();
    // SAFETY: room for one device.
    if unsafe { devices.cuDeviceGet?(&raw mut device, ordinal) } != CUresult::SUCCESS {
        return None;
    }
    let name_bytes = i32::try_from(record.name.len()).ok()?;
    // SAFETY: the length given is that of the array.
    unsafe { devices.cuDeviceGetName?(record.name.as_mut_ptr().cast(), name_bytes, device) };
    let mut uuid = CUuuid::default();
    // SAFETY: room for one UUID.
    unsafe { devices.cuDeviceGetUuid_v2.or(devices.cuDeviceGetUuid)?(&raw mut uuid, device) };
    record.uuid = uuid.bytes;
    let mut total = 0_usize;
    // SAFETY: room for one number.
    unsafe { devices.cuDeviceTotalMem_v2?(&raw mut total, device) };
    record.total_memory = total as u64;
    let bus_bytes = i32::try_from(record.pci_bus_id.len()).ok()?;
    // SAFETY: the length given is that of the array.
    unsafe { devices.cuDeviceGetPCIBusId?(record.pci_bus_id.as_mut_ptr().cast(), bus_bytes, device) };
    for index in 1..info::ATTRIBUTE_COUNT {
        let mut value = 0_i32;
        let attribute = CUdevice_attribute(u32::try_from(index).ok()?);
        // SAFETY: room for one number.
        if unsafe { devices.cuDeviceGetAttribute?(&raw mut value, attribute, device) } == CUresult::SUCCESS {
            record.set_attribute(index, value);
        }
    }
    record.stream_priority = stream_priority(driver, device).unwrap_or_default();
    Some(record)
}

/// Least and greatest stream priority, which CUDA tells only inside a context.
fn stream_priority(driver: &Driver, device: CUdevice) -> Option<[i32; 2]> {
    let contexts = &driver.contexts;
    let mut context = CUcontext::default();
    // SAFETY: room for one handle.
    if unsafe { contexts.cuDevicePrimaryCtxRetain?(&raw mut context, device) } != CUresult::SUCCESS {
        return None;
    }
    // SAFETY: the context was retained just now.
    unsafe { contexts.cuCtxSetCurrent?(context) };
    let (mut least, mut greatest) = (0_i32, 0_i32);
    // SAFETY: room for two numbers.
    let result = unsafe { contexts.cuCtxGetStreamPriorityRange?(&raw mut least, &raw mut greatest) };
    // SAFETY: no argument.
    unsafe { contexts.cuCtxSetCurrent?(CUcontext::default()) };
    // SAFETY: retained above.
    unsafe { contexts.cuDevicePrimaryCtxRelease_v2?(device) };
    (result == CUresult::SUCCESS).then_some([least, greatest])
}

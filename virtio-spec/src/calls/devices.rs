//! Initialization, versions, errors and device queries.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Initialization, versions, errors and device queries.
#[calls(group = 0x01)]
pub trait Devices {
    #[call(op = 0x01, since = 2000, guest, before_init, no_context)]
    fn cuInit(flags: u32);
    #[call(op = 0x02, since = 2020, guest, before_init, no_context)]
    fn cuDriverGetVersion(driver_version: *mut i32);
    #[call(op = 0x03, since = 6000, guest, before_init, no_context)]
    fn cuGetErrorName(error: CUresult, text: *mut *const core::ffi::c_char);
    #[call(op = 0x04, since = 6000, guest, before_init, no_context)]
    fn cuGetErrorString(error: CUresult, text: *mut *const core::ffi::c_char);
    #[call(op = 0x05, since = 11030, guest, before_init, no_context)]
    fn cuGetProcAddress(
        symbol: *const core::ffi::c_char,
        pfn: *mut *mut core::ffi::c_void,
        driver_version: i32,
        flags: u64,
    );
    #[call(op = 0x06, since = 12000, guest, before_init, no_context)]
    fn cuGetProcAddress_v2(
        symbol: *const core::ffi::c_char,
        pfn: *mut *mut core::ffi::c_void,
        driver_version: i32,
        flags: u64,
        symbol_found: *mut CUdriverProcAddressQueryResult,
    );
    #[call(op = 0x07, since = 2000, guest, no_context)]
    fn cuDeviceGet(device: *mut CUdevice, ordinal: i32);
    #[call(op = 0x08, since = 2000, guest, no_context)]
    fn cuDeviceGetCount(count: *mut i32);
    #[call(op = 0x09, since = 2000, guest, no_context)]
    fn cuDeviceGetName(name: *mut core::ffi::c_char, len: i32, device: CUdevice);
    #[call(op = 0x0a, since = 9020, guest, no_context)]
    fn cuDeviceGetUuid(uuid: *mut CUuuid, device: CUdevice);
    #[call(op = 0x0b, since = 11040, guest, no_context)]
    fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, device: CUdevice);
    #[call(op = 0x0c, since = 10000, guest, no_context)]
    fn cuDeviceGetLuid(luid: *mut core::ffi::c_char, device_node_mask: *mut u32, device: CUdevice);
    #[call(op = 0x0d, since = 3020, guest, no_context)]
    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice);
    #[call(op = 0x0e, since = 2000, guest, no_context)]
    fn cuDeviceGetAttribute(value: *mut i32, attrib: CUdevice_attribute, device: CUdevice);
    #[call(op = 0x0f, since = 2000, guest, no_context)]
    fn cuDeviceComputeCapability(major: *mut i32, minor: *mut i32, device: CUdevice);
    #[call(op = 0x10, since = 2000, guest, no_context)]
    fn cuDeviceGetProperties(prop: *mut CUdevprop, device: CUdevice);
    #[call(op = 0x11, since = 4010, guest, no_context)]
    fn cuDeviceGetByPCIBusId(device: *mut CUdevice, pci_bus_id: *const core::ffi::c_char);
    #[call(op = 0x12, since = 4010, guest, no_context)]
    fn cuDeviceGetPCIBusId(pci_bus_id: *mut core::ffi::c_char, len: i32, device: CUdevice);
    #[call(op = 0x13, since = 11040, guest, no_context)]
    fn cuDeviceGetExecAffinitySupport(value: *mut i32, kind: CUexecAffinityType, device: CUdevice);
    #[call(op = 0x14, since = 13000, unsupported)]
    fn cuDeviceGetHostAtomicCapabilities();
    #[call(op = 0x15, since = 11010, wire, custom, no_context)]
    fn cuDeviceGetTexture1DLinearMaxWidth(
        #[out] max_width_in_elements: *mut usize,
        format: CUarray_format,
        num_channels: u32,
        device: CUdevice,
    );
    #[call(op = 0x16, since = 2000, unsupported)]
    fn cuDeviceTotalMem();
    #[call(op = 0x17, since = 11030, unsupported)]
    fn cuFlushGPUDirectRDMAWrites();
}

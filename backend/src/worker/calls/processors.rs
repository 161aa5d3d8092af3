//! Where a device's multiprocessors lie, from a private table of the host's driver: cuBLASLt plans clusters by it.
//!
//! Unsafe code: calls of the driver through a table of addresses.

use std::ffi::c_void;

use virtio_spec::{
    codec::Scalar,
    cuda::{CUdevice, CUdevice_attribute, CUresult, CUuuid},
    requests::ProcessorLayout,
};

use super::{Invocation, ok};

/// The table `1734dc26-800d-4745-8726-c0f1e7dd8bca`, in memory order.
static TABLE: CUuuid = CUuuid {
    bytes: [0x17, 0x34, 0xdc, 0x26, 0x80, 0x0d, 0x47, 0x45, 0x87, 0x26, 0xc0, 0xf1, 0xe7, 0xdd, 0x8b, 0xca],
};
/// Slots of the table as driver 580 has it, and their bytes.
const SLOTS: usize = 17;
const BYTES: usize = SLOTS * size_of::<*const c_void>();
/// Slot that makes the two lists for the current context's device.
const MAKE: usize = 4;
/// Slot that frees them.
const FREE: usize = 13;
/// More multiprocessors than any device has.
const MOST: i32 = 1024;

type Make = unsafe extern "C" fn(*mut *mut u8, *mut *mut u8) -> CUresult;
type Free = unsafe extern "C" fn(*mut u8, *mut u8) -> CUresult;

pub(super) fn layout(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    call.end_of_parameters()?;
    call.set_current()?;
    let count = processors(call)?;
    let table = table(call)?;
    let [make, free] = [MAKE, FREE].map(|slot| table.get(slot).copied().unwrap_or(std::ptr::null()));
    if make.is_null() || free.is_null() {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    // SAFETY: what the slot is on drivers whose table has this size.
    let make = unsafe { std::mem::transmute::<*const c_void, Make>(make) };
    // SAFETY: as above.
    let free = unsafe { std::mem::transmute::<*const c_void, Free>(free) };
    let (mut first, mut second) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: places for two addresses.
    ok(unsafe { make(&raw mut first, &raw mut second) })?;
    if first.is_null() || second.is_null() {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    // SAFETY: the driver makes lists with a byte for each multiprocessor and more.
    let lists = [first, second].map(|list| unsafe { std::slice::from_raw_parts(list, count) }.to_vec());
    // SAFETY: made above, and not used any more.
    ok(unsafe { free(first, second) })?;
    call.put(&ProcessorLayout { count: u32::try_from(count).unwrap_or(0), reserved: 0 })?;
    for list in lists {
        call.put_bytes(&list)?;
    }
    Ok(())
}

/// Multiprocessors of the current context's device.
fn processors(call: &Invocation<'_>) -> Result<usize, CUresult> {
    let missing = CUresult::ERROR_NOT_SUPPORTED;
    let get_device = call.driver().contexts.cuCtxGetDevice.ok_or(missing)?;
    let get_attribute = call.driver().devices.cuDeviceGetAttribute.ok_or(missing)?;
    let mut device = CUdevice::from_u64(0);
    // SAFETY: a place for a device.
    ok(unsafe { get_device(&raw mut device) })?;
    let mut count = 0;
    // SAFETY: a place for a number.
    ok(unsafe { get_attribute(&raw mut count, CUdevice_attribute::MULTIPROCESSOR_COUNT, device) })?;
    usize::try_from(count.min(MOST)).map_err(|_| missing)
}

/// The table's slots, if the driver has the table with the size that is known.
fn table(call: &Invocation<'_>) -> Result<&'static [*const c_void], CUresult> {
    let get = call.driver().tools.cuGetExportTable.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut table: *const c_void = std::ptr::null();
    // SAFETY: a place for an address, and an identifier.
    ok(unsafe { get(&raw mut table, &raw const TABLE) })?;
    if table.is_null() {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    // SAFETY: a table begins with its size in bytes.
    let bytes = unsafe { table.cast::<usize>().read() };
    if bytes < BYTES {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    // SAFETY: the table has at least as many slots, and is the driver's own for ever.
    Ok(unsafe { std::slice::from_raw_parts(table.cast(), SLOTS) })
}

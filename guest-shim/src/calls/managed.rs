//! Managed memory.
//!
//! Moving it to a device, and advice that names one, are refused as by every device that says it has no concurrent
//! managed access.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_void;

use virtio_spec::cuda::{CUdevice, CUdeviceptr, CUmemLocation, CUresult, CUstream};

use super::give;
use crate::device::devices;
use crate::entry::{Flavour, status};
use crate::memory::copy::is_stream;
use crate::memory::managed::{self, Advice, NOWHERE};

/// The host, where a device is asked for: `CU_DEVICE_CPU`.
const HOST: i32 = -1;
/// `CU_MEM_LOCATION_TYPE_DEVICE`; the host and its nodes are above.
const DEVICE_LOCATION: u32 = 1;
const LAST_LOCATION: u32 = 4;
/// `CU_MEM_ATTACH_SINGLE`; global is 1, host is 2.
const ATTACH_SINGLE: u32 = 4;

pub(crate) unsafe fn cuMemAllocManaged(dptr: *mut CUdeviceptr, bytesize: usize, flags: u32) -> CUresult {
    if dptr.is_null() || !matches!(flags, 1 | 2) {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let allocated = managed::allocate(bytesize as u64);
    // SAFETY: the application's place for an address.
    status(allocated.and_then(|address| unsafe { give(dptr, CUdeviceptr(address)) }))
}

/// The end of managed memory that a call is about.
fn end_of(start: CUdeviceptr, count: usize) -> Result<u64, CUresult> {
    if count == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    managed::end_of(start.0, count as u64).ok_or(CUresult::ERROR_INVALID_VALUE)
}

/// A place that must be the host: no device keeps managed memory for itself.
fn check_host(device: i32) -> Result<(), CUresult> {
    if device == HOST {
        return Ok(());
    }
    devices()?.record(CUdevice(device))?;
    Err(CUresult::ERROR_INVALID_DEVICE)
}

/// A location as the older forms name it.
fn place_of(location: CUmemLocation) -> Result<i32, CUresult> {
    match location.kind {
        DEVICE_LOCATION => Ok(location.id),
        2..=LAST_LOCATION => Ok(HOST),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

fn advise(start: CUdeviceptr, count: usize, advice: u32, device: i32) -> Result<(), CUresult> {
    let end = end_of(start, count)?;
    if !(1..=6).contains(&advice) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // Where it is preferred is taken back, and that it is mostly read is said, without a place.
    if matches!(advice, 3 | 5 | 6) {
        check_host(device)?;
    }
    managed::advise(start.0, end, |said: &mut Advice| match advice {
        1 | 2 => said.read_mostly = advice == 1,
        3 => said.preferred = HOST,
        4 => said.preferred = NOWHERE,
        _ => said.accessed_by_host = advice == 5,
    });
    Ok(())
}

pub(crate) unsafe fn cuMemAdvise(
    dev_ptr: CUdeviceptr,
    count: usize,
    advice: u32,
    device: CUdevice,
) -> CUresult {
    status(advise(dev_ptr, count, advice, device.0))
}

pub(crate) unsafe fn cuMemAdvise_v2(
    dev_ptr: CUdeviceptr,
    count: usize,
    advice: u32,
    location: CUmemLocation,
) -> CUresult {
    // Only advice that is about a place looks at it.
    let place = if matches!(advice, 3 | 5 | 6) { place_of(location) } else { Ok(HOST) };
    status(place.and_then(|place| advise(dev_ptr, count, advice, place)))
}

fn prefetch(start: CUdeviceptr, count: usize, device: i32, stream: CUstream) -> Result<(), CUresult> {
    if !is_stream(stream.0) {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    end_of(start, count)?;
    check_host(device)
}

pub(crate) unsafe fn cuMemPrefetchAsync(
    dev_ptr: CUdeviceptr,
    count: usize,
    dst_device: CUdevice,
    stream: CUstream,
    _flavour: Flavour,
) -> CUresult {
    status(prefetch(dev_ptr, count, dst_device.0, stream))
}

pub(crate) unsafe fn cuMemPrefetchAsync_v2(
    dev_ptr: CUdeviceptr,
    count: usize,
    location: CUmemLocation,
    flags: u32,
    stream: CUstream,
    _flavour: Flavour,
) -> CUresult {
    if flags != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    status(place_of(location).and_then(|place| prefetch(dev_ptr, count, place, stream)))
}

/// The words of a range's attribute, of which the caller wants `words`.
fn range_attribute(
    attribute: u32,
    start: CUdeviceptr,
    count: usize,
    words: usize,
) -> Result<Vec<i32>, CUresult> {
    const HOST_LOCATION: i32 = 2;
    const NO_LOCATION: i32 = 0;
    let said = managed::said(start.0, end_of(start, count)?);
    let all = |holds: fn(&Advice) -> bool| !said.is_empty() && said.iter().all(holds);
    let preferred = if all(|said| said.preferred == HOST) { HOST } else { NOWHERE };
    let mut values = match attribute {
        1 => vec![i32::from(all(|said| said.read_mostly))],
        2 => vec![preferred],
        3 => vec![if all(|said| said.accessed_by_host) { HOST } else { NOWHERE }],
        // Nothing is ever moved ahead.
        4 => vec![NOWHERE],
        5 => vec![if preferred == HOST { HOST_LOCATION } else { NO_LOCATION }],
        6 | 8 => vec![0],
        7 => vec![NO_LOCATION],
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    };
    // Only who uses it directly is a list; what is left of it says that there is nobody else.
    if words == 0 || (words != 1 && attribute != 3) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    values.resize(words, NOWHERE);
    Ok(values)
}

/// # Safety
/// `data` is null, or has room for `data_size` bytes.
unsafe fn give_range_attribute(
    data: *mut c_void,
    data_size: usize,
    attribute: u32,
    start: CUdeviceptr,
    count: usize,
) -> Result<(), CUresult> {
    if data.is_null() || !data_size.is_multiple_of(4) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let values = range_attribute(attribute, start, count, data_size / 4)?;
    // SAFETY: as the caller promises; there are as many values as words were asked for.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), data.cast(), data_size) };
    Ok(())
}

pub(crate) unsafe fn cuMemRangeGetAttribute(
    data: *mut c_void,
    data_size: usize,
    attribute: u32,
    dev_ptr: CUdeviceptr,
    count: usize,
) -> CUresult {
    // SAFETY: the application's place for the attribute.
    status(unsafe { give_range_attribute(data, data_size, attribute, dev_ptr, count) })
}

pub(crate) unsafe fn cuMemRangeGetAttributes(
    data: *mut *mut c_void,
    data_sizes: *mut usize,
    attributes: *mut u32,
    num_attributes: usize,
    dev_ptr: CUdeviceptr,
    count: usize,
) -> CUresult {
    if data.is_null() || data_sizes.is_null() || attributes.is_null() || num_attributes == 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    for index in 0..num_attributes {
        // SAFETY: an element of the application's array.
        let place = unsafe { data.wrapping_add(index).read() };
        // SAFETY: an element of the application's array.
        let size = unsafe { data_sizes.wrapping_add(index).read() };
        // SAFETY: an element of the application's array.
        let attribute = unsafe { attributes.wrapping_add(index).read() };
        // SAFETY: the application's place for the attribute.
        if let Err(error) = unsafe { give_range_attribute(place, size, attribute, dev_ptr, count) } {
            return error;
        }
    }
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuStreamAttachMemAsync(
    stream: CUstream,
    dptr: CUdeviceptr,
    length: usize,
    flags: u32,
    _flavour: Flavour,
) -> CUresult {
    if !is_stream(stream.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // To one stream that is not the default one, to all, or to the host; and all of the memory.
    let known = matches!(flags, 1 | 2) || (flags == ATTACH_SINGLE && stream.0 > 2);
    let whole = managed::at(dptr.0).is_some_and(|range| length == 0 || length as u64 == range.length);
    if known && whole { CUresult::SUCCESS } else { CUresult::ERROR_INVALID_VALUE }
}

//! Managed memory: device memory that the host uses as well.
//!
//! The device says that host and kernels must not use it at the same time, so that advice about where it should lie, and
//! moving it ahead, is for the host's side only, as on such devices.
//!
//! Unsafe code: the program's places for attributes.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;
use std::sync::Mutex;

use virtio_spec::cuda::{CUdeviceptr, CUmemLocation, CUresult, CUstream};

use super::entry::{Call, List, Out, exports};
use crate::driver::Result;
use crate::driver::allocation::Kind;
use crate::driver::queue::lock;

exports! {
    context cuMemAllocManaged(pointer: *mut CUdeviceptr, bytes: usize, flags: u32) = alloc;
    context cuStreamAttachMemAsync / cuStreamAttachMemAsync_ptsz (
        stream: CUstream, pointer: CUdeviceptr, bytes: usize, flags: u32,
    ) = attach;
    context cuMemPrefetchAsync / cuMemPrefetchAsync_ptsz (
        pointer: CUdeviceptr, bytes: usize, device: i32, stream: CUstream,
    ) = prefetch;
    context cuMemPrefetchAsync_v2 / cuMemPrefetchAsync_v2_ptsz (
        pointer: CUdeviceptr, bytes: usize, location: CUmemLocation, flags: u32, stream: CUstream,
    ) = prefetch_to;
    context cuMemAdvise(pointer: CUdeviceptr, bytes: usize, advice: u32, device: i32) = advise;
    context cuMemRangeGetAttribute(
        data: *mut c_void, size: usize, attribute: u32, pointer: CUdeviceptr, bytes: usize,
    ) = range_attribute;
    context cuMemRangeGetAttributes(
        data: *const *mut c_void, sizes: *const usize, attributes: *const u32, count: usize, pointer: CUdeviceptr,
        bytes: usize,
    ) = range_attributes;
    context cuMemAdvise_v2(pointer: CUdeviceptr, bytes: usize, advice: u32, location: CUmemLocation) = advise_for;
}

/// A location's kind that means a device.
const DEVICE: u32 = 1;
/// The device's number that means the host.
const HOST: i32 = -1;

fn alloc(call: &Call, pointer: Out<CUdeviceptr>, bytes: usize, flags: u32) -> Result<()> {
    pointer.check()?;
    // For all streams, or for the host until a stream is attached.
    if !matches!(flags, 1 | 2) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let start = call.driver().memory.allocate(bytes as u64, 1, Kind::Managed, call.context.handle)?;
    pointer.put(CUdeviceptr(start))
}

/// Refuses what is not all managed memory.
fn check(call: &Call, pointer: CUdeviceptr, bytes: usize) -> Result<()> {
    match call.driver().memory.find(pointer.0) {
        Some(found) if found.is_managed() && bytes as u64 <= found.rest(pointer.0) => Ok(()),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

fn attach(call: &Call, stream: CUstream, pointer: CUdeviceptr, bytes: usize, flags: u32) -> Result<()> {
    if !matches!(flags, 1 | 2 | 4) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    call.stream(stream)?;
    check(call, pointer, bytes)
}

fn prefetch(call: &Call, pointer: CUdeviceptr, bytes: usize, device: i32, stream: CUstream) -> Result<()> {
    call.stream(stream)?;
    check(call, pointer, bytes)?;
    if device == HOST { Ok(()) } else { Err(CUresult::ERROR_INVALID_DEVICE) }
}

/// The device's number in the older form of these calls.
fn device_of(location: CUmemLocation) -> i32 {
    if location.kind == DEVICE { location.id } else { HOST }
}

fn prefetch_to(
    call: &Call,
    pointer: CUdeviceptr,
    bytes: usize,
    location: CUmemLocation,
    flags: u32,
    stream: CUstream,
) -> Result<()> {
    if flags != 0 || !(1..=4).contains(&location.kind) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    prefetch(call, pointer, bytes, device_of(location), stream)
}

fn advise(call: &Call, pointer: CUdeviceptr, bytes: usize, advice: u32, device: i32) -> Result<()> {
    // Without a place: read mostly, set and unset, and preferred location, unset.
    const ANYWHERE: [u32; 3] = [1, 2, 4];
    if !(1..=6).contains(&advice) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    check(call, pointer, bytes)?;
    if !ANYWHERE.contains(&advice) && device != HOST {
        return Err(CUresult::ERROR_INVALID_DEVICE);
    }
    let allocation = call.driver().memory.find(pointer.0).map_or(0, |found| found.id);
    let said = Said { allocation, start: pointer.0, end: pointer.0 + bytes as u64, advice };
    lock(&SAID).push(said);
    Ok(())
}

/// One piece of advice.
#[derive(Clone, Copy)]
struct Said {
    /// Number of the allocation, so that later ones at its address begin without advice.
    allocation: u64,
    start: u64,
    end: u64,
    advice: u32,
}

/// All advice of the process, in the order in which it was given.
static SAID: Mutex<Vec<Said>> = Mutex::new(Vec::new());

/// Whether the last word on every byte of a range, by advice that sets and advice that unsets, is that it is set.
fn holds(call: &Call, pointer: CUdeviceptr, bytes: usize, set: u32, unset: u32) -> bool {
    let Some(allocation) = call.driver().memory.find(pointer.0).map(|found| found.id) else { return false };
    let said = lock(&SAID);
    let about: Vec<_> = said
        .iter()
        .filter(|said| said.allocation == allocation && (said.advice == set || said.advice == unset))
        .collect();
    let end = pointer.0 + bytes as u64;
    // What was last said changes at borders only.
    let borders = about.iter().flat_map(|said| [said.start, said.end]).chain([pointer.0]);
    let mut inside = borders.filter(|border| (pointer.0..end).contains(border));
    inside.all(|byte| {
        let last = about.iter().rev().find(|said| (said.start..said.end).contains(&byte));
        last.is_some_and(|last| last.advice == set)
    })
}

fn range_attribute(
    call: &Call,
    data: *mut c_void,
    size: usize,
    attribute: u32,
    pointer: CUdeviceptr,
    bytes: usize,
) -> Result<()> {
    const NOWHERE: i32 = -2;
    const HOST_LOCATION: i32 = 2;
    const ACCESSED_BY: u32 = 3;
    if data.is_null() || size == 0 || !size.is_multiple_of(4) || (size != 4 && attribute != ACCESSED_BY) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    check(call, pointer, bytes)?;
    let at_host = holds(call, pointer, bytes, 3, 4);
    let value = match attribute {
        1 => i32::from(holds(call, pointer, bytes, 1, 2)),
        2 => {
            if at_host {
                HOST
            } else {
                NOWHERE
            }
        }
        ACCESSED_BY => {
            if holds(call, pointer, bytes, 5, 6) {
                HOST
            } else {
                NOWHERE
            }
        }
        4 => NOWHERE,
        5 => {
            if at_host {
                HOST_LOCATION
            } else {
                0
            }
        }
        6..=8 => 0,
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    };
    for index in 0..size / 4 {
        let value = if index == 0 { value } else { NOWHERE };
        // SAFETY: not NULL, so `size` bytes by CUDA's documentation.
        unsafe { data.cast::<i32>().wrapping_add(index).write_unaligned(value) };
    }
    Ok(())
}

fn range_attributes(
    call: &Call,
    data: List<*mut c_void>,
    sizes: List<usize>,
    attributes: List<u32>,
    count: usize,
    pointer: CUdeviceptr,
    bytes: usize,
) -> Result<()> {
    let (data, sizes, attributes) = (data.get(count)?, sizes.get(count)?, attributes.get(count)?);
    for ((data, size), attribute) in data.into_iter().zip(sizes).zip(attributes) {
        range_attribute(call, data, size, attribute, pointer, bytes)?;
    }
    Ok(())
}

fn advise_for(
    call: &Call,
    pointer: CUdeviceptr,
    bytes: usize,
    advice: u32,
    location: CUmemLocation,
) -> Result<()> {
    advise(call, pointer, bytes, advice, device_of(location))
}

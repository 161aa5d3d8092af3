//! Managed memory: device memory that the host uses as well.
//!
//! The device says that host and kernels must not use it at the same time, so that advice about where it should lie, and
//! moving it ahead, is for the host's side only, as on such devices.

#![allow(non_snake_case, reason = "CUDA's own names")]

use virtio_spec::cuda::{CUdeviceptr, CUmemLocation, CUresult, CUstream};

use super::entry::{Call, Out, exports};
use crate::driver::Result;
use crate::driver::memory::Kind;

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
        Some(found) if found.kind == Kind::Managed && bytes as u64 <= found.rest(pointer.0) => Ok(()),
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
    // Read mostly, preferred location, accessed by: each set and unset.
    const READ_MOSTLY: [u32; 2] = [1, 2];
    if !(1..=6).contains(&advice) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    check(call, pointer, bytes)?;
    if READ_MOSTLY.contains(&advice) || device == HOST { Ok(()) } else { Err(CUresult::ERROR_INVALID_DEVICE) }
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

//! Device and pinned memory, and what a pointer is.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_void;

use virtio_spec::calls::memory::rows;
use virtio_spec::cuda::{CUdeviceptr, CUpointer_attribute, CUresult, CUstream};
use virtio_spec::window;

use super::{give, give_if_wanted, outcome, shareable};
use crate::context;
use crate::entry::{Flavour, Row, status};
use crate::exports::contexts::wire_cuCtxSynchronize;
use crate::exports::memory::{
    wire_cuMemAlloc_v2, wire_cuMemAllocAsync, wire_cuMemAllocPitch_v2, wire_cuMemFree_v2,
    wire_cuMemFreeAsync, wire_cuMemGetAddressRange_v2,
};
use crate::graph::capture;
use crate::memory::attributes::{self, Value};
use crate::memory::{self, Kind, copy, kept, managed, pinned, pools, registered};
use crate::wire::Request;

/// An address of the application as a number.
fn address(pointer: *const c_void) -> u64 {
    pointer.expose_provenance() as u64
}

fn pointer(address: u64) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// Writes an attribute's value.
///
/// # Safety
/// `place` has as many bytes as the attribute.
unsafe fn give_value(value: Value, place: *mut c_void) {
    // SAFETY: as the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(value.value.to_le_bytes().as_ptr(), place.cast(), value.bytes) };
}

pub(crate) unsafe fn cuPointerGetAttribute(
    data: *mut c_void,
    attribute: CUpointer_attribute,
    ptr: CUdeviceptr,
) -> CUresult {
    if data.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's place for the attribute.
    status(attributes::get(attribute, ptr.0).map(|value| unsafe { give_value(value, data) }))
}

pub(crate) unsafe fn cuPointerGetAttributes(
    num_attributes: u32,
    attributes: *mut CUpointer_attribute,
    data: *mut *mut c_void,
    ptr: CUdeviceptr,
) -> CUresult {
    if num_attributes == 0 || attributes.is_null() || data.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    for index in 0..num_attributes as usize {
        // SAFETY: an element of the application's array.
        let attribute = unsafe { attributes.wrapping_add(index).read() };
        // SAFETY: an element of the application's array.
        let place = unsafe { data.wrapping_add(index).read() };
        if place.is_null() {
            return CUresult::ERROR_INVALID_VALUE;
        }
        match attributes::get_or_none(attribute, ptr.0) {
            // SAFETY: the application's place for the attribute.
            Ok(value) => unsafe { give_value(value, place) },
            Err(error) => return error,
        }
    }
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuPointerSetAttribute(
    value: *const c_void,
    attribute: CUpointer_attribute,
    ptr: CUdeviceptr,
) -> CUresult {
    // Synchronous memory operations are the only attribute that can be set.
    if value.is_null() || attribute != CUpointer_attribute::SYNC_MEMOPS {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's number.
    let wanted = unsafe { value.cast::<u32>().read() } != 0;
    if memory::set_synchronous(ptr.0, wanted) { CUresult::SUCCESS } else { CUresult::ERROR_INVALID_VALUE }
}

/// Notes device memory that was just allocated at `*place`.
///
/// # Safety
/// `place` was just written.
unsafe fn note(place: *const CUdeviceptr, length: u64) {
    // SAFETY: as the caller promises.
    let start = unsafe { place.read() }.0;
    memory::insert(start, length, Kind::Device, start, context::current().unwrap_or(0));
}

pub(crate) unsafe fn cuMemAlloc_v2(pointer: *mut CUdeviceptr, bytesize: usize) -> CUresult {
    if !pointer.is_null()
        && let Some(address) = kept::take(bytesize as u64)
    {
        // SAFETY: the application's place for an address.
        unsafe { pointer.write(CUdeviceptr(address)) };
        // SAFETY: just written.
        unsafe { note(pointer, bytesize as u64) };
        return CUresult::SUCCESS;
    }
    // SAFETY: the same contract.
    let mut result = unsafe { wire_cuMemAlloc_v2(pointer, bytesize) };
    if result == CUresult::ERROR_OUT_OF_MEMORY && kept::give_back() {
        // SAFETY: the same contract.
        result = unsafe { wire_cuMemAlloc_v2(pointer, bytesize) };
    }
    if result == CUresult::SUCCESS {
        // SAFETY: the call has written it.
        unsafe { note(pointer, bytesize as u64) };
        // SAFETY: as above.
        kept::allocated(unsafe { pointer.read() }.0, bytesize as u64, context::current().unwrap_or(0));
    }
    result
}

pub(crate) unsafe fn cuMemAllocPitch_v2(
    pointer: *mut CUdeviceptr,
    p_pitch: *mut usize,
    width_in_bytes: usize,
    height: usize,
    element_size_bytes: u32,
) -> CUresult {
    // SAFETY: the same contract.
    let result =
        unsafe { wire_cuMemAllocPitch_v2(pointer, p_pitch, width_in_bytes, height, element_size_bytes) };
    if result == CUresult::SUCCESS {
        // SAFETY: the call has written it.
        let pitch = unsafe { p_pitch.read() } as u64;
        // SAFETY: the call has written it.
        unsafe { note(pointer, pitch.saturating_mul(height as u64)) };
    }
    result
}

pub(crate) unsafe fn cuMemFree_v2(pointer: CUdeviceptr) -> CUresult {
    if let Some(range) = managed::at(pointer.0).filter(|range| range.kind == Kind::Managed) {
        // SAFETY: no pointers.
        return status(managed::free(&range, || outcome(unsafe { wire_cuCtxSynchronize() })));
    }
    let range = memory::find(pointer.0).filter(|range| range.start == pointer.0);
    if let Some(range) = range
        && context::required().is_ok()
        && kept::put(&range)
    {
        memory::remove(pointer.0);
        return CUresult::SUCCESS;
    }
    if range.is_none() {
        kept::surrender(pointer.0);
    }
    // SAFETY: no pointers of the process.
    let result = unsafe { wire_cuMemFree_v2(pointer) };
    if result == CUresult::SUCCESS && range.is_some_and(|range| range.kind.is_device()) {
        memory::remove(pointer.0);
        kept::exclude(pointer.0);
        shareable::freed(pointer.0);
    }
    result
}

pub(crate) unsafe fn cuMemGetAddressRange_v2(
    pbase: *mut CUdeviceptr,
    psize: *mut usize,
    pointer: CUdeviceptr,
) -> CUresult {
    // The host's driver knows it as a part of something larger.
    if let Some(range) = memory::find(pointer.0).filter(|range| range.kind.is_managed()) {
        // SAFETY: the application's places, or null.
        unsafe { give_if_wanted(pbase, CUdeviceptr(range.start)) };
        // SAFETY: as above.
        unsafe { give_if_wanted(psize, usize::try_from(range.length).unwrap_or(usize::MAX)) };
        return CUresult::SUCCESS;
    }
    kept::surrender(pointer.0);
    // SAFETY: the same contract.
    unsafe { wire_cuMemGetAddressRange_v2(pbase, psize, pointer) }
}

pub(crate) unsafe fn cuMemAllocAsync(
    pointer: *mut CUdeviceptr,
    bytesize: usize,
    stream: CUstream,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    let result = unsafe { wire_cuMemAllocAsync(pointer, bytesize, stream, flavour) };
    // In a capture it is the graph's: how long it lives, the device knows.
    if result == CUresult::SUCCESS && !capture::took(flavour.stream(stream)) {
        let pool = context::current_context().and_then(|context| pools::known(context.device));
        // SAFETY: the call has written it.
        memory::insert_pooled(unsafe { pointer.read() }.0, bytesize as u64, pool.unwrap_or(0));
    }
    result
}

/// Frees in a stream's order what only the device knows, and says what it says.
fn free_unknown(pointer: CUdeviceptr, stream: CUstream, flavour: Flavour) -> Result<(), CUresult> {
    let mut request = Request::new(const { Row::of(&rows::cuMemFreeAsync) }, flavour.is_per_thread())?;
    request.scalar(pointer.0);
    request.handle(stream.0);
    request.answer().map(|_| ())
}

pub(crate) unsafe fn cuMemFreeAsync(pointer: CUdeviceptr, stream: CUstream, flavour: Flavour) -> CUresult {
    if !copy::is_stream(stream.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    let freed = |kind| matches!(kind, Kind::Device | Kind::Pooled { .. });
    match memory::find(pointer.0) {
        Some(range) if range.start == pointer.0 && freed(range.kind) => {}
        // A graph's, perhaps.
        None if window::is_device(pointer.0) => {
            kept::surrender(pointer.0);
            return status(free_unknown(pointer, stream, flavour));
        }
        _ => return CUresult::ERROR_INVALID_VALUE,
    }
    // SAFETY: no pointers of the process.
    let result = unsafe { wire_cuMemFreeAsync(pointer, stream, flavour) };
    if result == CUresult::SUCCESS {
        memory::remove(pointer.0);
        kept::exclude(pointer.0);
        shareable::freed(pointer.0);
    }
    result
}

pub(crate) unsafe fn cuMemAllocHost_v2(pp: *mut *mut c_void, bytesize: usize) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuMemHostAlloc(pp, bytesize, 0) }
}

pub(crate) unsafe fn cuMemHostAlloc(pp: *mut *mut c_void, bytesize: usize, flags: u32) -> CUresult {
    if pp.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let allocated = pinned::allocate(bytesize as u64, flags);
    // SAFETY: the application's place for a pointer.
    status(allocated.and_then(|address| unsafe { give(pp, pointer(address)) }))
}

pub(crate) unsafe fn cuMemFreeHost(p: *mut c_void) -> CUresult {
    if p.is_null() {
        return CUresult::SUCCESS;
    }
    // SAFETY: no pointers.
    status(pinned::free(address(p), || outcome(unsafe { wire_cuCtxSynchronize() })))
}

pub(crate) unsafe fn cuMemHostGetFlags(p_flags: *mut u32, p: *mut c_void) -> CUresult {
    let flags = match memory::find(address(p)).map(|range| range.kind) {
        // Portable and mapped, as with unified addressing all pinned memory is.
        Some(Kind::Pinned { flags }) => Ok(flags | 2),
        Some(Kind::Registered { flags, region }) => Ok(flags | if region.is_some() { 2 } else { 0 }),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    };
    // SAFETY: the application's place for a number.
    status(flags.and_then(|flags| unsafe { give(p_flags, flags) }))
}

pub(crate) unsafe fn cuMemHostGetDevicePointer_v2(
    pointer: *mut CUdeviceptr,
    p: *mut c_void,
    flags: u32,
) -> CUresult {
    if flags != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let found = memory::find(address(p))
        .filter(|range| !range.kind.is_device() && range.kind != Kind::Managed && range.device_pointer != 0)
        .map(|range| range.device_pointer + (address(p) - range.start))
        .ok_or(CUresult::ERROR_INVALID_VALUE);
    // SAFETY: the application's place for an address.
    status(found.and_then(|found| unsafe { give(pointer, CUdeviceptr(found)) }))
}

pub(crate) unsafe fn cuMemHostRegister_v2(p: *mut c_void, bytesize: usize, flags: u32) -> CUresult {
    status(registered::register(address(p), bytesize as u64, flags))
}

pub(crate) unsafe fn cuMemHostUnregister(p: *mut c_void) -> CUresult {
    status(registered::unregister(address(p)))
}

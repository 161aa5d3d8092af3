//! Device and pinned memory, and what a pointer is.
//!
//! Unsafe code: the results of pointer attributes, whose types depend on the attribute.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;

use virtio_spec::cuda::{CUdeviceptr, CUmemorytype, CUpointer_attribute as Attribute, CUresult, CUstream};

use super::entry::{Call, Out, exports};
use crate::driver::allocation::{Allocation, Kind};
use crate::driver::graph::{Graph, Op};
use crate::driver::graph_memory::Wanted;
use crate::driver::pool::Pool;
use crate::driver::queue::Health;
use crate::driver::{Driver, Result, capture, driver};

exports! {
    context cuMemGetInfo_v2(free: *mut usize, total: *mut usize) = info;
    context cuMemAlloc_v2(pointer: *mut CUdeviceptr, bytes: usize) = alloc;
    context cuMemAllocPitch_v2(
        pointer: *mut CUdeviceptr, pitch: *mut usize, width: usize, height: usize, element: u32,
    ) = alloc_pitch;
    context cuMemFree_v2(pointer: CUdeviceptr) = free;
    init cuMemGetAddressRange_v2(base: *mut CUdeviceptr, bytes: *mut usize, pointer: CUdeviceptr) = address_range;
    context cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize) = alloc_host;
    context cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: u32) = host_alloc;
    context cuMemFreeHost(pointer: *mut c_void) = free_host;
    context cuMemHostGetDevicePointer_v2(pointer: *mut CUdeviceptr, host: *mut c_void, flags: u32)
        = host_device_pointer;
    context cuMemHostGetFlags(flags: *mut u32, host: *mut c_void) = host_flags;
    context cuMemHostRegister(pointer: *mut c_void, bytes: usize, flags: u32) = register;
    context cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, flags: u32) = register;
    context cuMemHostUnregister(pointer: *mut c_void) = unregister;
    init cuPointerGetAttribute(data: *mut c_void, attribute: Attribute, pointer: CUdeviceptr) = attribute;
    init cuPointerGetAttributes(
        count: u32, attributes: *mut Attribute, data: *mut *mut c_void, pointer: CUdeviceptr,
    ) = attributes;
    init cuPointerSetAttribute(data: *const c_void, attribute: Attribute, pointer: CUdeviceptr) = set_attribute;
    context cuMemAllocAsync / cuMemAllocAsync_ptsz (
        pointer: *mut CUdeviceptr, bytes: usize, stream: CUstream,
    ) = alloc_current;
    context cuMemFreeAsync / cuMemFreeAsync_ptsz (pointer: CUdeviceptr, stream: CUstream) = free_async;
}

/// Bytes that a pitch is a multiple of.
const PITCH: usize = 512;

fn info(call: &Call, free: Out<usize>, total: Out<usize>) -> Result<()> {
    free.check()?;
    total.check()?;
    free.put(usize::try_from(call.driver().memory.free_bytes()).unwrap_or(usize::MAX))?;
    total.put(usize::try_from(crate::driver::attributes::total_memory()).unwrap_or(usize::MAX))
}

fn alloc(call: &Call, pointer: Out<CUdeviceptr>, bytes: usize) -> Result<()> {
    capture::check_unsafe()?;
    pointer.check()?;
    let start = call.driver().memory.allocate(bytes as u64, 1, Kind::Device, call.context.handle)?;
    pointer.put(CUdeviceptr(start))
}

fn alloc_pitch(
    call: &Call,
    pointer: Out<CUdeviceptr>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
    element: u32,
) -> Result<()> {
    pointer.check()?;
    pitch.check()?;
    if width == 0 || height == 0 || !matches!(element, 4 | 8 | 16) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let row = width.checked_next_multiple_of(PITCH).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let bytes = row.checked_mul(height).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
    alloc(call, pointer, bytes)?;
    pitch.put(row)
}

fn free(call: &Call, pointer: CUdeviceptr) -> Result<()> {
    capture::check_unsafe()?;
    if pointer == CUdeviceptr(0) {
        return Ok(());
    }
    if let Some(allocation) = call.driver().graph_memory.find(pointer.0) {
        allocation.let_go()?;
        call.driver().idle();
        call.driver().graph_memory.end(&allocation);
        return call.context.health.check();
    }
    let kinds = [Kind::Device, Kind::Pool, Kind::ImportedPool, Kind::Managed];
    call.driver().release(pointer.0, &kinds, CUresult::ERROR_INVALID_VALUE)?;
    call.context.health.check()
}

fn address_range(
    driver: &Driver,
    base: Out<CUdeviceptr>,
    bytes: Out<usize>,
    pointer: CUdeviceptr,
) -> Result<()> {
    let found = driver.memory.find(pointer.0).ok_or(CUresult::ERROR_NOT_FOUND)?;
    base.put_if_wanted(CUdeviceptr(found.start));
    bytes.put_if_wanted(usize::try_from(found.length).unwrap_or(usize::MAX));
    Ok(())
}

fn pointer_to(address: u64) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

fn address_of(pointer: *const c_void) -> u64 {
    pointer.expose_provenance() as u64
}

fn alloc_host(call: &Call, pointer: Out<*mut c_void>, bytes: usize) -> Result<()> {
    host_alloc(call, pointer, bytes, 0)
}

fn host_alloc(call: &Call, pointer: Out<*mut c_void>, bytes: usize, flags: u32) -> Result<()> {
    capture::check_unsafe()?;
    // Portable, mapped, write-combined.
    const KNOWN: u32 = 7;
    const MAPPED: u32 = 2;
    pointer.check()?;
    if flags & !KNOWN != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // With unified addressing all pinned memory is mapped.
    let memory = &call.driver().memory;
    let start = memory.allocate_pinned(bytes as u64, flags | MAPPED, call.context.handle)?;
    pointer.put(pointer_to(start))
}

fn free_host(call: &Call, pointer: *mut c_void) -> Result<()> {
    call.driver().release(address_of(pointer), &[Kind::Pinned], CUresult::ERROR_INVALID_VALUE)?;
    call.context.health.check()
}

/// The pinned or registered range that contains a host address.
fn pinned(call: &Call, host: *const c_void) -> Result<Allocation> {
    let found = call.driver().memory.find(address_of(host));
    found.filter(|found| !found.is_device()).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn host_device_pointer(call: &Call, pointer: Out<CUdeviceptr>, host: *mut c_void, flags: u32) -> Result<()> {
    pointer.check()?;
    if flags != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    pinned(call, host)?;
    pointer.put(CUdeviceptr(address_of(host)))
}

fn host_flags(call: &Call, flags: Out<u32>, host: *mut c_void) -> Result<()> {
    flags.check()?;
    flags.put(pinned(call, host)?.flags)
}

fn register(call: &Call, pointer: *mut c_void, bytes: usize, flags: u32) -> Result<()> {
    // Portable, mapped, read-only. Memory of another device cannot be used.
    const KNOWN: u32 = 0xf;
    const IO_MEMORY: u32 = 4;
    if flags & !KNOWN != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if flags & IO_MEMORY != 0 {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    call.driver().memory.register(address_of(pointer), bytes as u64, flags, call.context.handle)
}

fn unregister(call: &Call, pointer: *mut c_void) -> Result<()> {
    if pointer.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let absent = CUresult::ERROR_HOST_MEMORY_NOT_REGISTERED;
    call.driver().release(address_of(pointer), &[Kind::Registered], absent)?;
    call.context.health.check()
}

/// A pointer attribute's value, by the width in which it is written.
#[derive(Clone, Copy)]
enum Value {
    Word(u32),
    Long(u64),
}

fn value(attribute: Attribute, address: u64, found: &Allocation) -> Result<Value> {
    let device = found.is_device();
    Ok(match attribute {
        Attribute::CONTEXT => Value::Long(found.context),
        Attribute::MEMORY_TYPE => {
            Value::Word(if device { CUmemorytype::DEVICE.0 } else { CUmemorytype::HOST.0 })
        }
        Attribute::DEVICE_POINTER => Value::Long(address),
        Attribute::HOST_POINTER if !device || found.is_managed() => Value::Long(address),
        Attribute::IS_MANAGED => Value::Word(u32::from(found.is_managed())),
        Attribute::SYNC_MEMOPS => Value::Word(u32::from(found.sync_memops)),
        Attribute::BUFFER_ID => Value::Long(found.id),
        Attribute::RANGE_START_ADDR if found.kind == Kind::Mapped => {
            Value::Long(driver().virtual_memory.around(address).map_or(found.start, |(start, _)| start))
        }
        Attribute::RANGE_SIZE if found.kind == Kind::Mapped => {
            Value::Long(driver().virtual_memory.around(address).map_or(found.length, |(_, length)| length))
        }
        Attribute::ALLOWED_HANDLE_TYPES if found.kind == Kind::Mapped => {
            Value::Long(driver().virtual_memory.handle_types(address))
        }
        Attribute::ACCESS_FLAGS if found.kind == Kind::Mapped => Value::Word(found.flags),
        Attribute::MEMPOOL_HANDLE if found.kind == Kind::Pool => {
            Value::Long(driver().pools.numbered(found.flags).map_or(0, |pool| pool.handle))
        }
        Attribute::ALLOWED_HANDLE_TYPES if found.kind == Kind::Pool => {
            let pool = driver().pools.numbered(found.flags);
            Value::Long(pool.map_or(0, |pool| u64::from(pool.handle_types.0)))
        }
        Attribute::RANGE_START_ADDR | Attribute::MAPPING_BASE_ADDR => Value::Long(found.start),
        Attribute::RANGE_SIZE | Attribute::MAPPING_SIZE => Value::Long(found.length),
        Attribute::MAPPED => Value::Word(1),
        Attribute::IS_LEGACY_CUDA_IPC_CAPABLE => Value::Word(u32::from(found.kind == Kind::Device)),
        Attribute::DEVICE_ORDINAL
        | Attribute::IS_GPU_DIRECT_RDMA_CAPABLE
        | Attribute::IS_HW_DECOMPRESS_CAPABLE => Value::Word(0),
        Attribute::ALLOWED_HANDLE_TYPES | Attribute::MEMPOOL_HANDLE => Value::Long(0),
        // Read and write.
        Attribute::ACCESS_FLAGS => Value::Word(3),
        Attribute::MEMORY_BLOCK_ID => Value::Long(found.id),
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    })
}

/// Writes a value where the program wants it.
fn write(data: *mut c_void, value: Value) {
    match value {
        // SAFETY: the program's place for this attribute has 4 bytes.
        Value::Word(word) => unsafe { data.cast::<u32>().write_unaligned(word) },
        // SAFETY: the program's place for this attribute has 8 bytes.
        Value::Long(long) => unsafe { data.cast::<u64>().write_unaligned(long) },
    }
}

fn attribute(driver: &Driver, data: *mut c_void, attribute: Attribute, pointer: CUdeviceptr) -> Result<()> {
    if data.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    match driver.memory.find(pointer.0) {
        Some(found) => write(data, value(attribute, pointer.0, &found)?),
        None => write(data, reserved(driver, attribute, pointer.0).ok_or(CUresult::ERROR_INVALID_VALUE)?),
    }
    Ok(())
}

fn attributes(
    driver: &Driver,
    count: u32,
    attributes: *mut Attribute,
    data: *mut *mut c_void,
    pointer: CUdeviceptr,
) -> Result<()> {
    if count == 0 || attributes.is_null() || data.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let found = driver.memory.find(pointer.0);
    for index in 0..count as usize {
        // SAFETY: the program's list has `count` elements.
        let place = unsafe { attributes.add(index) };
        // SAFETY: as above.
        let attribute = unsafe { place.read() };
        // SAFETY: the program's list has `count` elements.
        let place = unsafe { data.add(index) };
        // SAFETY: as above.
        let place = unsafe { place.read() };
        if place.is_null() || attribute.c_name().is_none() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let value = match &found {
            // What this pointer lacks is told as zero, in this form of the call.
            Some(found) => value(attribute, pointer.0, found).unwrap_or(Value::Long(0)),
            None => reserved(driver, attribute, pointer.0).unwrap_or_else(|| unknown(attribute)),
        };
        write(place, value);
    }
    Ok(())
}

/// What is known of an address that is only reserved.
fn reserved(driver: &Driver, attribute: Attribute, address: u64) -> Option<Value> {
    let (start, length) = driver.virtual_memory.around(address)?;
    match attribute {
        Attribute::RANGE_START_ADDR => Some(Value::Long(start)),
        Attribute::RANGE_SIZE => Some(Value::Long(length)),
        Attribute::MAPPED => Some(Value::Word(0)),
        _ => None,
    }
}

/// What an address that the driver does not know is told to be.
fn unknown(attribute: Attribute) -> Value {
    match attribute {
        Attribute::MEMORY_TYPE
        | Attribute::SYNC_MEMOPS
        | Attribute::IS_MANAGED
        | Attribute::IS_LEGACY_CUDA_IPC_CAPABLE
        | Attribute::MAPPED
        | Attribute::IS_GPU_DIRECT_RDMA_CAPABLE
        | Attribute::IS_HW_DECOMPRESS_CAPABLE
        | Attribute::ACCESS_FLAGS => Value::Word(0),
        // No device: -2.
        Attribute::DEVICE_ORDINAL => Value::Word(u32::MAX - 1),
        _ => Value::Long(0),
    }
}

fn set_attribute(
    driver: &Driver,
    data: *const c_void,
    attribute: Attribute,
    pointer: CUdeviceptr,
) -> Result<()> {
    if data.is_null() || attribute != Attribute::SYNC_MEMOPS {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the value of this attribute has 4 bytes.
    let value = unsafe { data.cast::<u32>().read_unaligned() };
    driver.memory.set_sync_memops(pointer.0, value != 0)
}

fn alloc_current(call: &Call, pointer: Out<CUdeviceptr>, bytes: usize, stream: CUstream) -> Result<()> {
    alloc_async(call, pointer, bytes, &call.driver().pools.current(), stream)
}

pub(super) fn alloc_async(
    call: &Call,
    pointer: Out<CUdeviceptr>,
    bytes: usize,
    pool: &Pool,
    stream: CUstream,
) -> Result<()> {
    pointer.check()?;
    let (driver, (_, stream)) = (call.driver(), call.stream(stream)?);
    let mut start = 0;
    let is_captured = capture::add_to(driver, &stream, |graph| {
        let most = usize::try_from(pool.most).unwrap_or(usize::MAX);
        let wanted = Wanted { length: bytes as u64, most, usage: 0, access: Vec::new() };
        let made = driver.reserve_for(graph.handle, wanted)?;
        start = made.start;
        Ok(Op::Allocate(made))
    })?;
    if !is_captured {
        start = driver.allocate_from(pool, bytes as u64, call.context.handle)?;
    }
    pointer.put(CUdeviceptr(start))
}

fn free_async(call: &Call, pointer: CUdeviceptr, stream: CUstream) -> Result<()> {
    let (context, stream) = call.stream(stream)?;
    let of_graph = call.driver().graph_memory.find(pointer.0);
    let node = |_: &Graph| of_graph.clone().map(Op::Free).ok_or(CUresult::ERROR_INVALID_VALUE);
    if capture::add_to(call.driver(), &stream, node)? {
        return Ok(());
    }
    if let Some(allocation) = of_graph {
        allocation.let_go()?;
        context.submit(&stream, Vec::new(), move |_: &Health| {
            driver().graph_memory.end(&allocation);
            Ok(())
        })?;
        return Ok(());
    }
    let kinds = &[Kind::Device, Kind::Pool, Kind::ImportedPool];
    let found = call.driver().memory.find_start(pointer.0, kinds);
    found.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    context.submit(&stream, Vec::new(), move |_: &Health| {
        // Freed twice, perhaps: then the first counts.
        let _ = driver().memory.release(pointer.0, kinds);
        Ok(())
    })?;
    Ok(())
}

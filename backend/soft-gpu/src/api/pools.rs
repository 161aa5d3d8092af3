//! The device's one memory pool, whose memory is that of `cuMemAllocAsync`. It keeps nothing that was freed, so that its
//! attributes are remembered and steer nothing.
//!
//! Unsafe code: values of attributes, whose types depend on the attribute.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;
use std::sync::Mutex;

use virtio_spec::cuda::{CUdevice, CUdeviceptr, CUmemoryPool, CUresult, CUstream};

use super::entry::{Call, Out, check_device, exports};
use crate::driver::handles::{kind, mint};
use crate::driver::memory::Kind;
use crate::driver::queue::lock;
use crate::driver::{Driver, Result};

exports! {
    init cuDeviceGetDefaultMemPool(pool: *mut CUmemoryPool, device: CUdevice) = default_pool;
    init cuDeviceGetMemPool(pool: *mut CUmemoryPool, device: CUdevice) = default_pool;
    init cuDeviceSetMemPool(device: CUdevice, pool: CUmemoryPool) = set_pool;
    init cuMemPoolTrimTo(pool: CUmemoryPool, bytes: usize) = trim;
    init cuMemPoolGetAttribute(pool: CUmemoryPool, attribute: u32, value: *mut c_void) = attribute;
    init cuMemPoolSetAttribute(pool: CUmemoryPool, attribute: u32, value: *mut c_void) = set_attribute;
    context cuMemAllocFromPoolAsync / cuMemAllocFromPoolAsync_ptsz (
        pointer: *mut CUdeviceptr, bytes: usize, pool: CUmemoryPool, stream: CUstream,
    ) = alloc;
}

/// The device's one pool.
fn pool() -> CUmemoryPool {
    static POOL: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| mint(kind::POOL));
    CUmemoryPool(*POOL)
}

fn check(handle: CUmemoryPool) -> Result<()> {
    if handle == pool() { Ok(()) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

fn default_pool(_: &Driver, place: Out<CUmemoryPool>, device: CUdevice) -> Result<()> {
    place.check()?;
    check_device(device)?;
    place.put(pool())
}

fn set_pool(_: &Driver, device: CUdevice, handle: CUmemoryPool) -> Result<()> {
    check_device(device)?;
    check(handle)
}

fn trim(_: &Driver, handle: CUmemoryPool, _bytes: usize) -> Result<()> {
    check(handle)
}

/// Whether the pool may reuse memory in three ways, and the bytes that it may keep.
static SETTINGS: Mutex<[u64; 4]> = Mutex::new([1, 1, 1, 0]);

/// Attributes 1 to 3 are numbers of 4 bytes, the others of 8.
fn is_word(attribute: u32) -> bool {
    attribute < 4
}

fn attribute(driver: &Driver, handle: CUmemoryPool, attribute: u32, value: *mut c_void) -> Result<()> {
    check(handle)?;
    let found = match attribute {
        1..=4 => lock(&SETTINGS).get(attribute as usize - 1).copied().unwrap_or(0),
        // Reserved and used, now and at most: the pool has what is in use.
        5..=8 => driver.memory.used(Kind::Pool),
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    };
    if value.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if is_word(attribute) {
        // SAFETY: the program's place for this attribute has 4 bytes.
        unsafe { value.cast::<u32>().write_unaligned(u32::try_from(found).unwrap_or(u32::MAX)) };
    } else {
        // SAFETY: the program's place for this attribute has 8 bytes.
        unsafe { value.cast::<u64>().write_unaligned(found) };
    }
    Ok(())
}

fn set_attribute(_: &Driver, handle: CUmemoryPool, attribute: u32, value: *mut c_void) -> Result<()> {
    check(handle)?;
    if value.is_null() || !(1..=8).contains(&attribute) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let wanted = if is_word(attribute) {
        // SAFETY: the program's value of this attribute has 4 bytes.
        u64::from(unsafe { value.cast::<u32>().read_unaligned() })
    } else {
        // SAFETY: the program's value of this attribute has 8 bytes.
        unsafe { value.cast::<u64>().read_unaligned() }
    };
    match lock(&SETTINGS).get_mut(attribute as usize - 1) {
        Some(setting) => *setting = wanted,
        // The highest marks can be reset, and what is in use cannot be set.
        None if matches!(attribute, 6 | 8) && wanted == 0 => {}
        None => return Err(CUresult::ERROR_INVALID_VALUE),
    }
    Ok(())
}

fn alloc(
    call: &Call,
    pointer: Out<CUdeviceptr>,
    bytes: usize,
    handle: CUmemoryPool,
    stream: CUstream,
) -> Result<()> {
    check(handle)?;
    super::memory::alloc_async(call, pointer, bytes, stream)
}

//! Memory pools: enough that programs which ask for the default one find out that only its simple form is there.

#![allow(non_snake_case, reason = "CUDA's own names")]

use virtio_spec::cuda::{CUdevice, CUdeviceptr, CUmemoryPool, CUresult, CUstream};

use super::entry::{Call, Out, check_device, exports};
use crate::driver::handles::{kind, mint};
use crate::driver::{Driver, Result};

exports! {
    init cuDeviceGetDefaultMemPool(pool: *mut CUmemoryPool, device: CUdevice) = default_pool;
    init cuDeviceGetMemPool(pool: *mut CUmemoryPool, device: CUdevice) = default_pool;
    init cuDeviceSetMemPool(device: CUdevice, pool: CUmemoryPool) = set_pool;
    init cuMemPoolTrimTo(pool: CUmemoryPool, bytes: usize) = trim;
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

//! Memory pools, and stream-ordered allocations from them.

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle, MemoryAccess, MemoryLocation, PoolProperties};
use crate::gpu::{Gpu, arguments, threads};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::kernels;

area!("pools":
    the_default_pool_is_always_the_same,
    the_current_pool_can_be_set,
    pools_of_places,
    memory_of_a_pool_is_memory,
    memory_of_the_current_pool,
    attributes_begin_as_documented,
    settings_are_kept,
    use_is_counted,
    bad_attributes_are_refused,
    bad_pools_are_refused,
    a_pool_has_a_bound,
    trimming_is_harmless,
    the_default_pool_cannot_be_destroyed,
    memory_outlives_its_pool,
    a_destroyed_current_pool_gives_way_to_the_default,
    access_of_the_own_device,
    pointers_name_their_pool,
    many_allocations_on_two_streams,
    any_way_to_free,
);

const RELEASE_THRESHOLD: u32 = 4;
const RESERVED_CURRENT: u32 = 5;
const USED_CURRENT: u32 = 7;
const USED_HIGH: u32 = 8;

fn location(kind: u32, id: i32) -> MemoryLocation {
    MemoryLocation { kind, id }
}

/// Pinned memory of the first device.
fn properties() -> PoolProperties {
    let win32 = std::ptr::null_mut();
    PoolProperties { kind: 1, handle_types: 0, location: location(1, 0), win32, most: 0, rest: [0; 56] }
}

#[track_caller]
fn create(gpu: &Gpu) -> Result<Handle> {
    let mut pool = 0;
    gpu.cu.cuMemPoolCreate(&mut pool, &properties()).ok()?;
    ensure!(pool != 0, "a pool has a null handle");
    Ok(pool)
}

#[track_caller]
fn default_pool(gpu: &Gpu) -> Result<Handle> {
    let mut pool = 0;
    gpu.cu.cuDeviceGetDefaultMemPool(&mut pool, gpu.device).ok()?;
    ensure!(pool != 0, "the default pool has a null handle");
    Ok(pool)
}

fn current_pool(gpu: &Gpu) -> Result<Handle> {
    let mut pool = 0;
    gpu.cu.cuDeviceGetMemPool(&mut pool, gpu.device).ok()?;
    Ok(pool)
}

/// One attribute; 64 bits of which the driver writes what the attribute has.
fn ask(gpu: &Gpu, pool: Handle, attribute: u32) -> Result<u64> {
    let mut value = 0u64;
    gpu.cu.cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()).ok()?;
    Ok(value)
}

fn set(gpu: &Gpu, pool: Handle, attribute: u32, mut value: u64) -> Code {
    gpu.cu.cuMemPoolSetAttribute(pool, attribute, (&raw mut value).cast())
}

#[track_caller]
fn take(gpu: &Gpu, bytes: usize, pool: Handle, stream: Handle) -> Result<u64> {
    let mut pointer = 0;
    gpu.cu.cuMemAllocFromPoolAsync(&mut pointer, bytes, pool, stream).ok()?;
    ensure!(pointer != 0, "memory of a pool is at address 0");
    Ok(pointer)
}

fn the_default_pool_is_always_the_same() -> CaseResult {
    let gpu = Gpu::new()?;
    ensure!(gpu.attribute(115)? == 1, "memory pools are not supported");
    let pool = default_pool(&gpu)?;
    ensure!(default_pool(&gpu)? == pool, "there are two default pools");
    ensure!(current_pool(&gpu)? == pool, "the default pool is not the current one at first");
    let mut none = 7;
    gpu.cu.cuDeviceGetDefaultMemPool(&mut none, 1000).is(Code::INVALID_DEVICE)?;
    gpu.cu.cuDeviceGetMemPool(std::ptr::null_mut(), gpu.device).is(Code::INVALID_VALUE)?;
    pass()
}

fn the_current_pool_can_be_set() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = create(&gpu)?;
    ensure!(pool != default_pool(&gpu)?, "a new pool is the default pool");
    gpu.cu.cuDeviceSetMemPool(gpu.device, pool).ok()?;
    ensure!(current_pool(&gpu)? == pool, "the pool that was set is not the current one");
    gpu.cu.cuDeviceSetMemPool(gpu.device, default_pool(&gpu)?).ok()?;
    ensure!(current_pool(&gpu)? == default_pool(&gpu)?, "the default pool cannot be set again");
    pass()
}

fn pools_of_places() -> CaseResult {
    let gpu = Gpu::new()?;
    if crate::gpu::version()? < 13_000 {
        return crate::outcome::skip("the driver is older than CUDA 13.0");
    }
    let (mut pool, mut here) = (0, location(1, gpu.device));
    gpu.cu.cuMemGetDefaultMemPool(&mut pool, &mut here, 1).ok()?;
    ensure!(pool == default_pool(&gpu)?, "the device's default pool has two handles");
    let own = create(&gpu)?;
    gpu.cu.cuMemSetMemPool(&mut here, 1, own).ok()?;
    gpu.cu.cuMemGetMemPool(&mut pool, &mut here, 1).ok()?;
    ensure!(pool == own && current_pool(&gpu)? == own, "the pool that was set is not the current one");
    gpu.cu.cuMemGetMemPool(&mut pool, &mut here, 0).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemGetMemPool(&mut pool, std::ptr::null_mut(), 1).is(Code::INVALID_VALUE)?;
    pass()
}

fn memory_of_a_pool_is_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let (pool, stream) = (create(&gpu)?, gpu.stream(1)?);
    let count = 10_000;
    let pointer = take(&gpu, count * 4, pool, stream)?;
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    let shape = threads(count);
    gpu.launch_on(stream, ramp, shape, arguments![pointer, 3u32, u32::try_from(count)?]).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let expected: Vec<u32> = (3..).take(count).collect();
    ensure!(gpu.read::<u32>(pointer, count)? == expected, "the kernel's values are not there");
    gpu.cu.cuMemFreeAsync(pointer, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    gpu.cu.cuMemPoolDestroy(pool).ok()?;
    pass()
}

fn memory_of_the_current_pool() -> CaseResult {
    let gpu = Gpu::new()?;
    let (pool, mut pointer) = (create(&gpu)?, 0);
    gpu.cu.cuDeviceSetMemPool(gpu.device, pool).ok()?;
    gpu.cu.cuMemAllocAsync(&mut pointer, 1 << 20, 0).ok()?;
    ensure!(ask(&gpu, pool, USED_CURRENT)? >= 1 << 20, "the memory is not of the pool that was set");
    gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
    pass()
}

fn attributes_begin_as_documented() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = create(&gpu)?;
    for attribute in [1, 2, 3] {
        ensure!(ask(&gpu, pool, attribute)? == 1, "attribute {attribute} of a new pool");
    }
    for attribute in 4..=8 {
        ensure!(ask(&gpu, pool, attribute)? == 0, "attribute {attribute} of a new pool");
    }
    pass()
}

fn settings_are_kept() -> CaseResult {
    let gpu = Gpu::new()?;
    let (first, second) = (create(&gpu)?, create(&gpu)?);
    for attribute in [1, 2, 3] {
        set(&gpu, first, attribute, 0).ok()?;
        ensure!(ask(&gpu, first, attribute)? == 0, "attribute {attribute} was set");
        ensure!(ask(&gpu, second, attribute)? == 1, "attribute {attribute} of another pool");
    }
    // An `int` has four bytes: nothing behind it is written.
    let mut place = [u32::MAX; 2];
    gpu.cu.cuMemPoolGetAttribute(first, 1, place.as_mut_ptr().cast()).ok()?;
    ensure!(place == [0, u32::MAX], "{place:x?}");
    // What programs set that want to keep everything.
    for threshold in [1 << 30, u64::MAX] {
        set(&gpu, first, RELEASE_THRESHOLD, threshold).ok()?;
        ensure!(ask(&gpu, first, RELEASE_THRESHOLD)? == threshold, "the threshold was set");
    }
    ensure!(ask(&gpu, second, RELEASE_THRESHOLD)? == 0, "the threshold of another pool");
    pass()
}

fn use_is_counted() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = create(&gpu)?;
    let pointers = (0..4).map(|_| take(&gpu, 1 << 20, pool, 0)).collect::<Result<Vec<_>>>()?;
    let used = ask(&gpu, pool, USED_CURRENT)?;
    ensure!((4 << 20..8 << 20).contains(&used), "{used} bytes are used");
    ensure!(ask(&gpu, pool, RESERVED_CURRENT)? >= used, "less is reserved than used");
    for pointer in pointers {
        gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
    }
    gpu.cu.cuStreamSynchronize(0).ok()?;
    ensure!(ask(&gpu, pool, USED_CURRENT)? == 0, "freed memory is counted");
    ensure!(ask(&gpu, pool, USED_HIGH)? == used, "the highest mark is not what was used");
    set(&gpu, pool, USED_HIGH, 0).ok()?;
    ensure!(ask(&gpu, pool, USED_HIGH)? == 0, "the highest mark was reset");
    pass()
}

fn bad_attributes_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = create(&gpu)?;
    let mut value = 0u64;
    for attribute in [0, 1000, u32::MAX] {
        let code = gpu.cu.cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast());
        code.is(Code::INVALID_VALUE)?;
        set(&gpu, pool, attribute, 0).is(Code::INVALID_VALUE)?;
    }
    set(&gpu, pool, USED_CURRENT, 0).is(Code::INVALID_VALUE)?;
    set(&gpu, pool, USED_HIGH, 5).is(Code::INVALID_VALUE)?;
    pass()
}

fn bad_pools_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut pool = 7;
    let mut refuse = |properties: PoolProperties, codes: &[Code]| {
        gpu.cu.cuMemPoolCreate(&mut pool, &properties).is_one_of(codes)
    };
    refuse(PoolProperties { kind: 0, ..properties() }, &[Code::INVALID_VALUE])?;
    refuse(PoolProperties { location: location(0, 0), ..properties() }, &[Code::INVALID_VALUE])?;
    let elsewhere = PoolProperties { location: location(1, 1000), ..properties() };
    refuse(elsewhere, &[Code::INVALID_DEVICE, Code::INVALID_VALUE])?;
    gpu.cu.cuMemPoolCreate(std::ptr::null_mut(), &properties()).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemPoolCreate(&mut pool, std::ptr::null()).is(Code::INVALID_VALUE)?;
    let mut pointer = 7;
    gpu.cu.cuMemAllocFromPoolAsync(&mut pointer, 4096, 0, 0).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemPoolDestroy(0).is(Code::INVALID_VALUE)?;
    gpu.cu.cuDeviceSetMemPool(gpu.device, 0).is(Code::INVALID_VALUE)?;
    pass()
}

fn a_pool_has_a_bound() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut pool = 0;
    gpu.cu.cuMemPoolCreate(&mut pool, &PoolProperties { most: 64 << 20, ..properties() }).ok()?;
    let pointer = take(&gpu, 16 << 20, pool, 0)?;
    let mut more = 7;
    gpu.cu.cuMemAllocFromPoolAsync(&mut more, 128 << 20, pool, 0).is(Code::OUT_OF_MEMORY)?;
    gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
    pass()
}

fn trimming_is_harmless() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = default_pool(&gpu)?;
    let kept = take(&gpu, 4096, pool, 0)?;
    gpu.write(kept, &[5u32; 16])?;
    let pointer = take(&gpu, 32 << 20, pool, 0)?;
    gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    gpu.cu.cuMemPoolTrimTo(pool, 0).ok()?;
    ensure!(gpu.read::<u32>(kept, 16)? == [5; 16], "memory in use was trimmed");
    gpu.cu.cuMemFreeAsync(kept, 0).ok()?;
    pass()
}

fn the_default_pool_cannot_be_destroyed() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = default_pool(&gpu)?;
    gpu.cu.cuMemPoolDestroy(pool).is(Code::INVALID_VALUE)?;
    take(&gpu, 4096, pool, 0)?;
    pass()
}

fn memory_outlives_its_pool() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = create(&gpu)?;
    let pointer = take(&gpu, 4096, pool, 0)?;
    gpu.write(pointer, &[5u32; 16])?;
    gpu.cu.cuMemPoolDestroy(pool).ok()?;
    ensure!(gpu.read::<u32>(pointer, 16)? == [5; 16], "the memory went with its pool");
    gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    pass()
}

fn a_destroyed_current_pool_gives_way_to_the_default() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = create(&gpu)?;
    gpu.cu.cuDeviceSetMemPool(gpu.device, pool).ok()?;
    gpu.cu.cuMemPoolDestroy(pool).ok()?;
    ensure!(current_pool(&gpu)? == default_pool(&gpu)?, "the current pool is a destroyed one");
    let mut pointer = 0;
    gpu.cu.cuMemAllocAsync(&mut pointer, 4096, 0).ok()?;
    pass()
}

fn access_of_the_own_device() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = create(&gpu)?;
    let mut flags = 7;
    gpu.cu.cuMemPoolGetAccess(&mut flags, pool, &location(1, 0)).ok()?;
    ensure!(flags == 3, "the device's access to its own pool is {flags}");
    let access = MemoryAccess { location: location(1, 0), flags: 3 };
    gpu.cu.cuMemPoolSetAccess(pool, &access, 1).ok()?;
    let access = MemoryAccess { location: location(1, 0), flags: 0 };
    let refused = [Code::INVALID_DEVICE, Code::INVALID_VALUE, Code::NOT_SUPPORTED];
    gpu.cu.cuMemPoolSetAccess(pool, &access, 1).is_one_of(&refused)?;
    pass()
}

fn pointers_name_their_pool() -> CaseResult {
    const MEMORY_TYPE: i32 = 2;
    const RANGE_SIZE: i32 = 12;
    const POOL: i32 = 17;
    let gpu = Gpu::new()?;
    let pool = create(&gpu)?;
    let ask = |attribute, pointer| -> Result<u64> {
        let mut value = 0u64;
        gpu.cu.cuPointerGetAttribute((&raw mut value).cast(), attribute, pointer).ok()?;
        Ok(value)
    };
    let pointer = take(&gpu, 100_000, pool, 0)?;
    ensure!(ask(POOL, pointer + 100)? == u64::try_from(pool)?, "the pool of a pointer");
    ensure!(ask(MEMORY_TYPE, pointer)? == 2, "the kind of memory");
    ensure!(ask(RANGE_SIZE, pointer)? >= 100_000, "the bytes of a range");
    let mut other = 0;
    gpu.cu.cuMemAllocAsync(&mut other, 4096, 0).ok()?;
    ensure!(ask(POOL, other)? == u64::try_from(default_pool(&gpu)?)?, "the pool of a pointer without one");
    let plain = gpu.alloc(4096)?;
    let mut value = 7u64;
    let code = gpu.cu.cuPointerGetAttribute((&raw mut value).cast(), POOL, plain);
    ensure!(code != Code::SUCCESS || value == 0, "memory without a pool has the pool {value:#x}");
    pass()
}

fn many_allocations_on_two_streams() -> CaseResult {
    let gpu = Gpu::new()?;
    let (pool, streams) = (create(&gpu)?, [gpu.stream(1)?, gpu.stream(1)?]);
    let mut live = Vec::new();
    for round in 0..200u32 {
        let stream = streams[round as usize % 2];
        let pointer = take(&gpu, 4096 + 512 * round as usize, pool, stream)?;
        gpu.cu.cuMemsetD32Async(pointer, round, 1024, stream).ok()?;
        live.push((pointer, round, stream));
        if round % 3 == 2 {
            let (pointer, _, stream) = live.remove(round as usize % live.len());
            gpu.cu.cuMemFreeAsync(pointer, stream).ok()?;
        }
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    for (pointer, value, stream) in live {
        ensure!(gpu.read::<u32>(pointer, 1024)? == [value; 1024], "allocation {value} lost its values");
        gpu.cu.cuMemFreeAsync(pointer, stream).ok()?;
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(ask(&gpu, pool, USED_CURRENT)? == 0, "freed memory is counted");
    pass()
}

fn any_way_to_free() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = create(&gpu)?;
    // Memory of a pool can be freed at once, and other memory in a stream's order.
    let pointer = take(&gpu, 4096, pool, 0)?;
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    gpu.cu.cuMemFreeAsync(pointer, 0).is(Code::INVALID_VALUE)?;
    pass()
}

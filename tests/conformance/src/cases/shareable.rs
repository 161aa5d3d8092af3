//! Physical memory and pools that another process gets as descriptors.
//!
//! This file has unsafe code: descriptors that the driver makes.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use anyhow::{Context, Result, ensure};

use crate::descriptors::{Counter, fetch};
use crate::driver::{
    Code, Handle, IpcHandle, MemoryAccess, MemoryLocation, MemoryProperties, PoolProperties,
};
use crate::gpu::{Gpu, arguments, threads};
use crate::outcome::{CaseResult, pass, skip};
use crate::probe::{Probe, ask};
use crate::registry::area;

use super::kernels;

area!("shareable":
    the_attributes_say_that_it_is_there,
    another_process_uses_the_memory,
    a_descriptor_keeps_the_memory,
    memory_comes_back_with_the_last_descriptor,
    descriptors_that_are_closed_do_not_add_up,
    the_own_process_may_import,
    an_import_can_be_passed_on,
    bad_exports_are_refused,
    what_is_no_handle_is_refused,
    another_process_uses_a_pools_memory,
    an_imported_pool_gives_no_memory,
    bad_exports_of_pools_are_refused,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[
    Probe { name: "shareable-memory", body: use_memory },
    Probe { name: "shareable-guess", body: guess },
    Probe { name: "shareable-pool", body: use_pool },
];

/// `CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR`.
const DESCRIPTOR: u32 = 1;
const COUNT: usize = 1000;

const DEVICE: MemoryLocation = MemoryLocation { kind: 1, id: 0 };
const ACCESS: MemoryAccess = MemoryAccess { location: DEVICE, flags: 3 };

/// Pinned memory of the first device.
fn properties(handle_types: u32) -> MemoryProperties {
    MemoryProperties { kind: 1, handle_types, location: DEVICE, win32: ptr::null_mut(), flags: [0; 8] }
}

fn granularity(gpu: &Gpu) -> Result<usize> {
    let mut bytes = 0;
    gpu.cu.cuMemGetAllocationGranularity(&mut bytes, &properties(DESCRIPTOR), 0).ok()?;
    Ok(bytes)
}

/// Memory that may be passed on.
#[track_caller]
fn create(gpu: &Gpu, bytes: usize) -> Result<u64> {
    let mut handle = 0;
    gpu.cu.cuMemCreate(&mut handle, bytes, &properties(DESCRIPTOR), 0).ok()?;
    Ok(handle)
}

/// Maps memory somewhere.
#[track_caller]
fn map(gpu: &Gpu, handle: u64, bytes: usize) -> Result<u64> {
    let mut pointer = 0;
    gpu.cu.cuMemAddressReserve(&mut pointer, bytes, 0, 0, 0).ok()?;
    gpu.cu.cuMemMap(pointer, bytes, 0, handle, 0).ok()?;
    gpu.cu.cuMemSetAccess(pointer, bytes, &ACCESS, 1).ok()?;
    Ok(pointer)
}

/// The place for a descriptor, and what was written there.
fn place(number: &mut i32) -> *mut c_void {
    ptr::from_mut(number).cast()
}

fn owned(number: i32) -> Result<OwnedFd> {
    ensure!(number >= 0, "the descriptor is {number}");
    // SAFETY: the driver has made it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[track_caller]
fn export(gpu: &Gpu, handle: u64) -> Result<OwnedFd> {
    let mut number = -1;
    gpu.cu.cuMemExportToShareableHandle(place(&mut number), handle, DESCRIPTOR, 0).ok()?;
    owned(number)
}

fn os_handle(number: i32) -> *mut c_void {
    ptr::without_provenance_mut(usize::try_from(number).unwrap_or(usize::MAX))
}

#[track_caller]
fn import(gpu: &Gpu, descriptor: &OwnedFd) -> Result<u64> {
    let mut handle = 0;
    gpu.cu.cuMemImportFromShareableHandle(&mut handle, os_handle(descriptor.as_raw_fd()), DESCRIPTOR).ok()?;
    ensure!(handle != 0, "memory has a null handle");
    Ok(handle)
}

fn the_attributes_say_that_it_is_there() -> CaseResult {
    let gpu = Gpu::new()?;
    ensure!(gpu.attribute(103)? == 1, "memory cannot be passed on in descriptors");
    ensure!(gpu.attribute(119)? & 1 == 1, "pools cannot be passed on in descriptors");
    pass()
}

/// Adds what it finds in another process's memory, and writes something else.
fn use_memory(arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let descriptor = fetch(arguments.first().context("a socket")?)?;
    let handle = import(&gpu, &descriptor)?;
    drop(descriptor);
    let mut told = properties(0);
    gpu.cu.cuMemGetAllocationPropertiesFromHandle(&mut told, handle).ok()?;
    ensure!(told.kind == 1 && told.location == DEVICE, "the memory is {told:?}");
    let bytes = granularity(&gpu)?;
    let pointer = map(&gpu, handle, bytes)?;
    gpu.cu.cuMemRelease(handle).ok()?;
    let sum = gpu.read::<u32>(pointer, COUNT)?.iter().sum::<u32>();
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    gpu.run(ramp, threads(COUNT), arguments![pointer, 100u32, u32::try_from(COUNT)?])?;
    gpu.cu.cuMemUnmap(pointer, bytes).ok()?;
    gpu.cu.cuMemAddressFree(pointer, bytes).ok()?;
    Ok(sum.to_string())
}

fn another_process_uses_the_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = granularity(&gpu)?;
    let handle = create(&gpu, bytes)?;
    let pointer = map(&gpu, handle, bytes)?;
    gpu.write(pointer, &[3u32; COUNT])?;
    let counter = Counter::open(export(&gpu, handle)?, 2)?;
    ensure!(
        ask("shareable-memory", &[&counter.place()], &[])? == "3000",
        "the other process sees other values"
    );
    let expected: Vec<u32> = (100..).take(COUNT).collect();
    ensure!(gpu.read::<u32>(pointer, COUNT)? == expected, "the other process's values are not there");
    gpu.write(pointer, &[5u32; COUNT])?;
    ensure!(
        ask("shareable-memory", &[&counter.place()], &[])? == "5000",
        "the other process sees old values"
    );
    gpu.cu.cuMemRelease(handle).ok()?;
    gpu.cu.cuMemUnmap(pointer, bytes).ok()?;
    pass()
}

fn a_descriptor_keeps_the_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = granularity(&gpu)?;
    let handle = create(&gpu, bytes)?;
    let pointer = map(&gpu, handle, bytes)?;
    gpu.write(pointer, &[7u32; COUNT])?;
    let counter = Counter::open(export(&gpu, handle)?, 1)?;
    gpu.cu.cuMemUnmap(pointer, bytes).ok()?;
    gpu.cu.cuMemRelease(handle).ok()?;
    gpu.cu.cuMemRelease(create(&gpu, bytes)?).ok()?;
    ensure!(ask("shareable-memory", &[&counter.place()], &[])? == "7000", "the memory is another");
    pass()
}

fn memory_comes_back_with_the_last_descriptor() -> CaseResult {
    const BYTES: usize = 256 << 20;
    let gpu = Gpu::new()?;
    let free = || -> Result<usize> {
        let (mut free, mut total) = (0, 0);
        gpu.cu.cuMemGetInfo_v2(&mut free, &mut total).ok()?;
        Ok(free)
    };
    // What the driver takes for itself the first time.
    drop(export(&gpu, create(&gpu, granularity(&gpu)?)?)?);
    let before = free()?;
    let handle = create(&gpu, BYTES)?;
    let (first, second) = (export(&gpu, handle)?, export(&gpu, handle)?);
    gpu.cu.cuMemRelease(handle).ok()?;
    // A driver in software may count what the process itself holds only, so that it is free already.
    drop(first);
    drop(second);
    // Any call that makes memory.
    gpu.cu.cuMemRelease(create(&gpu, granularity(&gpu)?)?).ok()?;
    ensure!(free()? + BYTES / 2 > before, "the memory is not free again");
    pass()
}

fn descriptors_that_are_closed_do_not_add_up() -> CaseResult {
    let gpu = Gpu::new()?;
    let handle = create(&gpu, granularity(&gpu)?)?;
    // More than may be open at once.
    for _ in 0..8500 {
        drop(export(&gpu, handle)?);
    }
    gpu.cu.cuMemRelease(handle).ok()?;
    pass()
}

fn the_own_process_may_import() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = granularity(&gpu)?;
    let handle = create(&gpu, bytes)?;
    let descriptor = export(&gpu, handle)?;
    let again = import(&gpu, &descriptor)?;
    let (one, other) = (map(&gpu, handle, bytes)?, map(&gpu, again, bytes)?);
    ensure!(one != other, "two mappings are at one address");
    gpu.write(one, &[9u32; COUNT])?;
    ensure!(gpu.read::<u32>(other, COUNT)? == [9; COUNT], "the memory is another");
    gpu.cu.cuMemRelease(handle).ok()?;
    gpu.cu.cuMemRelease(again).ok()?;
    for pointer in [one, other] {
        gpu.cu.cuMemUnmap(pointer, bytes).ok()?;
    }
    pass()
}

fn an_import_can_be_passed_on() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = granularity(&gpu)?;
    let handle = create(&gpu, bytes)?;
    let again = import(&gpu, &export(&gpu, handle)?)?;
    let Ok(passed_on) = export(&gpu, again) else {
        return skip("what was imported cannot be exported again");
    };
    let third = import(&gpu, &passed_on)?;
    let pointer = map(&gpu, third, bytes)?;
    gpu.write(pointer, &[4u32; COUNT])?;
    for held in [handle, again, third] {
        gpu.cu.cuMemRelease(held).ok()?;
    }
    ensure!(gpu.read::<u32>(pointer, COUNT)? == [4; COUNT], "the memory is gone");
    pass()
}

fn bad_exports_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = granularity(&gpu)?;
    let handle = create(&gpu, bytes)?;
    let mut number = -1;
    let refused = [Code::INVALID_VALUE, Code::NOT_SUPPORTED, Code::NOT_PERMITTED];
    let mut export =
        |handle, kind, flags| gpu.cu.cuMemExportToShareableHandle(place(&mut number), handle, kind, flags);
    export(handle, DESCRIPTOR, 1).is(Code::INVALID_VALUE)?;
    for kind in [0, 2, 4, 8, 3] {
        export(handle, kind, 0).is_one_of(&refused)?;
    }
    let mut own = 0;
    gpu.cu.cuMemCreate(&mut own, bytes, &properties(0), 0).ok()?;
    export(own, DESCRIPTOR, 0).is_one_of(&refused)?;
    gpu.cu.cuMemRelease(handle).ok()?;
    gpu.cu.cuMemExportToShareableHandle(ptr::null_mut(), own, DESCRIPTOR, 0).is(Code::INVALID_VALUE)?;
    ensure!(number == -1, "a refused export wrote {number}");
    pass()
}

/// Imports what nobody has given it.
fn guess(_arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let file = OwnedFd::from(tempfile::tempfile()?);
    let (socket, _other) = std::os::unix::net::UnixStream::pair()?;
    let socket = OwnedFd::from(socket);
    for number in [-1, 1 << 20, file.as_raw_fd(), socket.as_raw_fd()] {
        let mut handle = 0;
        let code = gpu.cu.cuMemImportFromShareableHandle(&mut handle, os_handle(number), DESCRIPTOR);
        ensure!(code != Code::SUCCESS, "descriptor {number} is memory");
        let mut pool = 0;
        let code = gpu.cu.cuMemPoolImportFromShareableHandle(&mut pool, os_handle(number), DESCRIPTOR, 0);
        ensure!(code != Code::SUCCESS, "descriptor {number} is a pool");
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    Ok("refused".to_owned())
}

fn what_is_no_handle_is_refused() -> CaseResult {
    ensure!(ask("shareable-guess", &[], &[])? == "refused", "a descriptor of something else was taken");
    let gpu = Gpu::new()?;
    let descriptor = export(&gpu, create(&gpu, granularity(&gpu)?)?)?;
    let number = os_handle(descriptor.as_raw_fd());
    let (mut handle, mut pool) = (0, 0);
    gpu.cu.cuMemImportFromShareableHandle(ptr::null_mut(), number, DESCRIPTOR).is(Code::INVALID_VALUE)?;
    let refused = [Code::INVALID_VALUE, Code::NOT_SUPPORTED, Code::NOT_PERMITTED];
    gpu.cu.cuMemImportFromShareableHandle(&mut handle, number, 0).is_one_of(&refused)?;
    let code = gpu.cu.cuMemPoolImportFromShareableHandle(&mut pool, number, DESCRIPTOR, 0);
    ensure!(code != Code::SUCCESS, "memory is a pool");
    pass()
}

/// A pool that may be passed on.
#[track_caller]
fn pool(gpu: &Gpu, handle_types: u32) -> Result<Handle> {
    let win32 = ptr::null_mut();
    let properties =
        PoolProperties { kind: 1, handle_types, location: DEVICE, win32, most: 0, rest: [0; 56] };
    let mut pool = 0;
    gpu.cu.cuMemPoolCreate(&mut pool, &properties).ok()?;
    Ok(pool)
}

#[track_caller]
fn export_pool(gpu: &Gpu, pool: Handle) -> Result<OwnedFd> {
    let mut number = -1;
    gpu.cu.cuMemPoolExportToShareableHandle(place(&mut number), pool, DESCRIPTOR, 0).ok()?;
    owned(number)
}

#[track_caller]
fn import_pool(gpu: &Gpu, descriptor: &OwnedFd) -> Result<Handle> {
    let (mut pool, number) = (0, os_handle(descriptor.as_raw_fd()));
    gpu.cu.cuMemPoolImportFromShareableHandle(&mut pool, number, DESCRIPTOR, 0).ok()?;
    ensure!(pool != 0, "a pool has a null handle");
    Ok(pool)
}

#[track_caller]
fn take(gpu: &Gpu, pool: Handle, bytes: usize) -> Result<u64> {
    let mut pointer = 0;
    gpu.cu.cuMemAllocFromPoolAsync(&mut pointer, bytes, pool, 0).ok()?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    Ok(pointer)
}

/// Reads and writes memory of another process's pool.
fn use_pool(arguments: &[String]) -> Result<String> {
    let gpu = Gpu::new()?;
    let pool = import_pool(&gpu, &fetch(arguments.first().context("a socket")?)?)?;
    gpu.cu.cuMemPoolSetAccess(pool, &ACCESS, 1).ok()?;
    let mut data = super::sharing::from_text(arguments.get(1).context("a pointer")?)?;
    let mut pointer = 0;
    gpu.cu.cuMemPoolImportPointer(&mut pointer, pool, &mut data).ok()?;
    let sum = gpu.read::<u32>(pointer, COUNT)?.iter().sum::<u32>();
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    gpu.run(ramp, threads(COUNT), arguments![pointer, 100u32, u32::try_from(COUNT)?])?;
    let mut more = 0;
    let code = gpu.cu.cuMemAllocFromPoolAsync(&mut more, 4096, pool, 0);
    ensure!(code != Code::SUCCESS, "another process's pool gave memory");
    gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    gpu.cu.cuMemPoolDestroy(pool).ok()?;
    Ok(sum.to_string())
}

fn another_process_uses_a_pools_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = pool(&gpu, DESCRIPTOR)?;
    let (_before, pointer) = (take(&gpu, pool, 400)?, take(&gpu, pool, COUNT * 4)?);
    gpu.write(pointer, &[3u32; COUNT])?;
    let counter = Counter::open(export_pool(&gpu, pool)?, 1)?;
    let mut data = IpcHandle([0; 64]);
    gpu.cu.cuMemPoolExportPointer(&mut data, pointer).ok()?;
    let told = ask("shareable-pool", &[&counter.place(), &super::sharing::to_text(&data)], &[])?;
    ensure!(told == "3000", "the other process sees {told}");
    let expected: Vec<u32> = (100..).take(COUNT).collect();
    ensure!(gpu.read::<u32>(pointer, COUNT)? == expected, "the other process's values are not there");
    gpu.cu.cuMemFreeAsync(pointer, 0).ok()?;
    gpu.cu.cuMemPoolDestroy(pool).ok()?;
    pass()
}

fn an_imported_pool_gives_no_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let pool = pool(&gpu, DESCRIPTOR)?;
    let imported = import_pool(&gpu, &export_pool(&gpu, pool)?)?;
    ensure!(imported != pool, "an imported pool is the pool itself");
    let mut pointer = 0;
    let code = gpu.cu.cuMemAllocFromPoolAsync(&mut pointer, 4096, imported, 0);
    ensure!(code != Code::SUCCESS, "an imported pool gave memory");
    let mut data = IpcHandle([0; 64]);
    let code = gpu.cu.cuMemPoolImportPointer(&mut pointer, imported, &mut data);
    ensure!(code != Code::SUCCESS, "zeros lead to memory at {pointer:#x}");
    pass()
}

fn bad_exports_of_pools_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let (shared, own) = (pool(&gpu, DESCRIPTOR)?, pool(&gpu, 0)?);
    let mut number = -1;
    let refused = [Code::INVALID_VALUE, Code::NOT_SUPPORTED, Code::NOT_PERMITTED];
    gpu.cu.cuMemPoolExportToShareableHandle(place(&mut number), own, DESCRIPTOR, 0).is_one_of(&refused)?;
    for kind in [0, 2, 4] {
        gpu.cu.cuMemPoolExportToShareableHandle(place(&mut number), shared, kind, 0).is_one_of(&refused)?;
    }
    gpu.cu
        .cuMemPoolExportToShareableHandle(place(&mut number), shared, DESCRIPTOR, 1)
        .is(Code::INVALID_VALUE)?;
    gpu.cu
        .cuMemPoolExportToShareableHandle(ptr::null_mut(), shared, DESCRIPTOR, 0)
        .is(Code::INVALID_VALUE)?;
    ensure!(number == -1, "a refused export wrote {number}");
    let mut data = IpcHandle([0; 64]);
    for pointer in [take(&gpu, own, 4096)?, gpu.alloc(4096)?, 0] {
        gpu.cu.cuMemPoolExportPointer(&mut data, pointer).is_one_of(&refused)?;
    }
    pass()
}

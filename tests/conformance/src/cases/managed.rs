//! Managed memory, as host and kernels use it in turns.
//!
//! What needs access by both at once is asked only of devices that promise it (attribute 89).

use anyhow::{Result, ensure};

use crate::driver::Code;
use crate::gpu::{Gpu, arguments, host, shape, threads};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::kernels;

area!("managed":
    host_and_kernels_take_turns,
    attributes_of_a_managed_pointer,
    copies_and_fills,
    many_pieces_and_large_ones,
    wrong_calls,
    advice_is_remembered,
    prefetch_as_the_device_promises,
    attached_to_streams,
);

/// `CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY`.
const MANAGED_MEMORY: i32 = 83;
/// `CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS`.
const CONCURRENT: i32 = 89;
/// `CU_MEM_ATTACH_GLOBAL`.
const GLOBAL: u32 = 1;
const HOST: i32 = -1;

fn allocate(gpu: &Gpu, bytes: usize) -> Result<u64> {
    let mut pointer = 0;
    gpu.cu.cuMemAllocManaged(&mut pointer, bytes, GLOBAL).ok()?;
    ensure!(pointer != 0, "managed memory is at address 0");
    Ok(pointer)
}

fn on_host<T: Copy>(pointer: u64, count: usize) -> Result<&'static mut [T]> {
    Ok(host(std::ptr::with_exposed_provenance_mut(usize::try_from(pointer)?), count))
}

fn host_and_kernels_take_turns() -> CaseResult {
    let gpu = Gpu::new()?;
    ensure!(gpu.attribute(MANAGED_MEMORY)? == 1, "attribute 83 is not 1");
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    let pointer = allocate(&gpu, 40_000)?;
    let cell = on_host::<u32>(pointer, 10_000)?;
    cell[0] = 5;
    gpu.run(step, shape(1, 1), arguments![pointer, 3u32, 1u32])?;
    ensure!(cell[0] == 16, "the host sees {} instead of 16", cell[0]);
    for round in 0..20u32 {
        gpu.launch_on(0, step, shape(1, 1), arguments![pointer, 1u32, 1u32]).ok()?;
        gpu.launch_on(0, step, shape(1, 1), arguments![pointer, 1u32, 1u32]).ok()?;
        gpu.cu.cuStreamSynchronize(0).ok()?;
        ensure!(cell[0] == 18 + 3 * round, "round {round}: the host sees {}", cell[0]);
        cell[0] += 1;
    }
    gpu.run(ramp, threads(10_000), arguments![pointer, 7u32, 10_000u32])?;
    let expected: Vec<u32> = (7..10_007).collect();
    ensure!(*cell == expected[..], "the host does not see what the kernel wrote");
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    pass()
}

fn attribute<T: Default>(gpu: &Gpu, number: i32, pointer: u64) -> Result<T> {
    let mut value = T::default();
    gpu.cu.cuPointerGetAttribute((&raw mut value).cast(), number, pointer).ok()?;
    Ok(value)
}

fn attributes_of_a_managed_pointer() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = allocate(&gpu, 10_000)?;
    let inside = pointer + 1234;
    ensure!(attribute::<u32>(&gpu, 2, inside)? == 2, "the memory type is not the device's");
    ensure!(attribute::<u32>(&gpu, 8, inside)? == 1, "it is not managed");
    ensure!(attribute::<u64>(&gpu, 3, inside)? == inside, "the device pointer is another");
    ensure!(attribute::<u64>(&gpu, 4, inside)? == inside, "the host pointer is another");
    ensure!(attribute::<u64>(&gpu, 11, inside)? == pointer, "the range starts elsewhere");
    ensure!(attribute::<usize>(&gpu, 12, inside)? == 10_000, "the range has another length");
    let (mut base, mut bytes) = (0, 0);
    gpu.cu.cuMemGetAddressRange_v2(&mut base, &mut bytes, inside).ok()?;
    ensure!((base, bytes) == (pointer, 10_000), "the range is {base:#x}, {bytes} bytes");
    let other = gpu.alloc(16)?;
    ensure!(attribute::<u32>(&gpu, 8, other)? == 0, "device memory is managed");
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    let mut value = 0u32;
    let gone = gpu.cu.cuPointerGetAttribute((&raw mut value).cast(), 8, inside);
    ensure!(gone == Code::INVALID_VALUE, "freed memory: {gone:?}");
    pass()
}

fn copies_and_fills() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = 100_000usize;
    let (one, two) = (allocate(&gpu, bytes)?, allocate(&gpu, bytes)?);
    let source = super::copies::pattern(bytes, 5);
    gpu.write(one, &source)?;
    ensure!(*on_host::<u8>(one, bytes)? == source[..], "an upload is not what the host sees");
    gpu.cu.cuMemcpyDtoD_v2(two, one, bytes).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(*on_host::<u8>(two, bytes)? == source[..], "a copy on the device is not what the host sees");
    gpu.cu.cuMemsetD8_v2(two + 10, 0xA5, 20).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(on_host::<u8>(two, bytes)?[10..30] == [0xA5; 20], "a fill is not what the host sees");
    let device = gpu.alloc(bytes)?;
    on_host::<u8>(one, bytes)?.fill(9);
    gpu.cu.cuMemcpy(device, one, bytes).ok()?;
    ensure!(gpu.read::<u8>(device, bytes)? == vec![9; bytes], "the device does not read what the host wrote");
    ensure!(gpu.read::<u8>(two, 30)?[10..] == [0xA5; 20], "a download is another");
    pass()
}

fn many_pieces_and_large_ones() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let sizes = (0..120usize).map(|index| 4 + index * 331 % 5000).chain([3 << 20, 9 << 20]);
    let pieces = sizes.map(|bytes| Ok((allocate(&gpu, bytes)?, bytes))).collect::<Result<Vec<_>>>()?;
    for (pointer, bytes) in &pieces {
        on_host::<u8>(*pointer, *bytes)?.fill(0);
        gpu.launch_on(0, step, shape(1, 1), arguments![*pointer, 1u32, 77u32]).ok()?;
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    for (pointer, bytes) in pieces {
        let seen = on_host::<u32>(pointer, bytes / 4)?;
        ensure!(seen[0] == 77 && seen[1..].iter().all(|word| *word == 0), "a piece of {bytes} bytes differs");
        gpu.cu.cuMemFree_v2(pointer).ok()?;
    }
    pass()
}

fn wrong_calls() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut pointer = 0;
    for flags in [0, 3, 4, 8] {
        let code = gpu.cu.cuMemAllocManaged(&mut pointer, 64, flags);
        ensure!(code == Code::INVALID_VALUE, "flags {flags}: {code:?}");
    }
    let empty = gpu.cu.cuMemAllocManaged(&mut pointer, 0, GLOBAL);
    ensure!(empty == Code::INVALID_VALUE, "no bytes: {empty:?}");
    let nowhere = gpu.cu.cuMemAllocManaged(std::ptr::null_mut(), 64, GLOBAL);
    ensure!(nowhere == Code::INVALID_VALUE, "no place: {nowhere:?}");
    let pointer = allocate(&gpu, 64)?;
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    let twice = gpu.cu.cuMemFree_v2(pointer);
    ensure!(twice == Code::INVALID_VALUE, "freed twice: {twice:?}");
    pass()
}

/// One word of a range's attribute.
fn said(gpu: &Gpu, number: i32, pointer: u64, bytes: usize) -> Result<i32> {
    let mut value = 77;
    gpu.cu.cuMemRangeGetAttribute((&raw mut value).cast(), 4, number, pointer, bytes).ok()?;
    Ok(value)
}

fn advice_is_remembered() -> CaseResult {
    let gpu = Gpu::new()?;
    // Of whole pages, so that every driver keeps it as it was said.
    let bytes = 4usize << 20;
    let pointer = allocate(&gpu, bytes)?;
    ensure!(said(&gpu, 1, pointer, bytes)? == 0, "it is mostly read from the start");
    ensure!(said(&gpu, 2, pointer, bytes)? == -2, "it has a preferred place from the start");
    gpu.cu.cuMemAdvise(pointer, bytes / 2, 1, HOST).ok()?;
    ensure!(said(&gpu, 1, pointer, bytes / 2)? == 1, "read-mostly was forgotten");
    ensure!(said(&gpu, 1, pointer, bytes)? == 0, "read-mostly is said of all for a half");
    gpu.cu.cuMemAdvise(pointer, bytes, 3, HOST).ok()?;
    ensure!(said(&gpu, 2, pointer, bytes)? == HOST, "the host is not preferred");
    gpu.cu.cuMemAdvise(pointer, bytes, 4, HOST).ok()?;
    ensure!(said(&gpu, 2, pointer, bytes)? == -2, "the preferred place was not taken back");
    let mut list = [5; 3];
    gpu.cu.cuMemAdvise(pointer, bytes, 5, HOST).ok()?;
    gpu.cu.cuMemRangeGetAttribute(list.as_mut_ptr().cast(), 12, 3, pointer, bytes).ok()?;
    ensure!(list == [HOST, -2, -2], "accessed by {list:?}");
    let wrong = gpu.cu.cuMemAdvise(pointer, bytes, 99, HOST);
    ensure!(wrong == Code::INVALID_VALUE, "advice 99: {wrong:?}");
    pass()
}

fn prefetch_as_the_device_promises() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = 2usize << 20;
    let pointer = allocate(&gpu, bytes)?;
    on_host::<u8>(pointer, bytes)?.fill(3);
    let stream = gpu.stream(1)?;
    let code = gpu.cu.cuMemPrefetchAsync(pointer, bytes, gpu.device, stream);
    let preferred = gpu.cu.cuMemAdvise(pointer, bytes, 3, gpu.device);
    let expected = if gpu.attribute(CONCURRENT)? == 1 { Code::SUCCESS } else { Code::INVALID_DEVICE };
    ensure!(code == expected && preferred == expected, "prefetch: {code:?}, advice: {preferred:?}");
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(on_host::<u8>(pointer, bytes)?.iter().all(|byte| *byte == 3), "the values changed");
    pass()
}

fn attached_to_streams() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let pointer = allocate(&gpu, 4096)?;
    for flags in [4, 2, 1] {
        gpu.cu.cuStreamAttachMemAsync(stream, pointer, 0, flags).ok()?;
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let wrong = gpu.cu.cuStreamAttachMemAsync(stream, pointer, 0, 16);
    ensure!(wrong == Code::INVALID_VALUE, "flags 16: {wrong:?}");
    if gpu.attribute(CONCURRENT)? == 1 {
        return skip("memory that is not managed may be attached to a stream of this device");
    }
    let plain = gpu.alloc(64)?;
    let wrong = gpu.cu.cuStreamAttachMemAsync(stream, plain, 0, 4);
    ensure!(wrong == Code::INVALID_VALUE, "device memory: {wrong:?}");
    pass()
}

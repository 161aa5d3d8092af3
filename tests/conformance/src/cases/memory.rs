//! Device memory, pinned memory, registered memory, and what pointers say about themselves.
//!
//! This file has unsafe code: it maps pages.

use anyhow::{Result, ensure};

use crate::driver::Code;
use crate::gpu::{Gpu, arguments, host, threads};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::kernels;

area!("memory":
    alloc_is_aligned_and_disjoint,
    free_of_null_is_nothing,
    double_free_is_refused,
    free_inside_an_allocation_is_refused,
    free_of_host_memory_is_refused,
    zero_bytes_are_refused,
    too_many_bytes_are_refused,
    null_places_are_refused,
    freed_memory_comes_back,
    info_counts_what_is_allocated,
    pitch_is_aligned_and_wide_enough,
    bad_pitch_requests_are_refused,
    address_range_of_an_allocation,
    address_range_of_nothing_is_refused,
    many_small_allocations,
    free_from_another_thread,
    pinned_memory_is_usable,
    pinned_flags_are_kept,
    bad_pinned_flags_are_refused,
    pinned_device_pointer_is_the_host_pointer,
    pinned_double_free_is_refused,
    kernel_writes_to_mapped_memory,
    kernel_reads_mapped_memory,
    register_makes_memory_usable,
    register_for_reading,
    register_twice_is_refused,
    unregister_of_unknown_is_refused,
    register_bad_requests_are_refused,
    registered_memory_survives_unregister,
    managed_memory_is_shared,
    stream_ordered_memory,
);

fn alloc_is_aligned_and_disjoint() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for bytes in [1usize, 3, 256, 4096, 65537, 1 << 20] {
        let pointer = gpu.alloc(bytes)?;
        ensure!(pointer % 256 == 0, "{bytes} bytes are at {pointer:#x}");
        let end = pointer + u64::try_from(bytes)?;
        let clash = ranges.iter().find(|(start, stop)| pointer < *stop && *start < end);
        ensure!(clash.is_none(), "{pointer:#x}..{end:#x} overlaps {clash:#x?}");
        ranges.push((pointer, end));
    }
    for (pointer, _) in ranges {
        gpu.cu.cuMemFree_v2(pointer).ok()?;
    }
    pass()
}

fn free_of_null_is_nothing() -> CaseResult {
    Gpu::new()?.cu.cuMemFree_v2(0).ok()?;
    pass()
}

fn double_free_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let (pointer, kept) = (gpu.alloc(4096)?, gpu.upload(&[42u32])?);
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    gpu.cu.cuMemFree_v2(pointer).is(Code::INVALID_VALUE)?;
    ensure!(gpu.read::<u32>(kept, 1)? == [42], "other memory changed");
    pass()
}

fn free_inside_an_allocation_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[42u32; 1024])?;
    gpu.cu.cuMemFree_v2(pointer + 256).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemFree_v2(pointer + 1).is(Code::INVALID_VALUE)?;
    ensure!(gpu.read::<u32>(pointer, 1024)? == [42; 1024], "the refused free changed the memory");
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    pass()
}

fn free_of_host_memory_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut local = 7u32;
    let address = (&raw mut local).expose_provenance();
    gpu.cu.cuMemFree_v2(u64::try_from(address)?).is(Code::INVALID_VALUE)?;
    gpu.cu
        .cuMemFreeHost((&raw mut local).cast())
        .is_one_of(&[Code::INVALID_VALUE, Code::HOST_MEMORY_NOT_REGISTERED])?;
    ensure!(local == 7, "the refused free wrote {local}");
    pass()
}

fn zero_bytes_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut pointer = 7;
    gpu.cu.cuMemAlloc_v2(&mut pointer, 0).is(Code::INVALID_VALUE)?;
    pass()
}

fn too_many_bytes_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut total = 0;
    gpu.cu.cuDeviceTotalMem_v2(&mut total, gpu.device).ok()?;
    for bytes in [total + (1 << 30), 1 << 46, 1 << 62, usize::MAX - 4096, usize::MAX] {
        let mut pointer = 7;
        // Sizes that overflow the driver's rounding are refused as invalid by some drivers.
        let refused = [Code::OUT_OF_MEMORY, Code::INVALID_VALUE];
        gpu.cu.cuMemAlloc_v2(&mut pointer, bytes).is_one_of(if bytes > 1 << 60 {
            &refused
        } else {
            &refused[..1]
        })?;
    }
    let pointer = gpu.upload(&[9u32])?;
    ensure!(gpu.read::<u32>(pointer, 1)? == [9], "the context is not usable after a refused allocation");
    pass()
}

fn null_places_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    gpu.cu.cuMemAlloc_v2(std::ptr::null_mut(), 16).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemHostAlloc(std::ptr::null_mut(), 16, 0).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemAllocPitch_v2(std::ptr::null_mut(), &mut 0, 16, 16, 4).is(Code::INVALID_VALUE)?;
    pass()
}

fn freed_memory_comes_back() -> CaseResult {
    let gpu = Gpu::new()?;
    let (mut free, mut total) = (0, 0);
    gpu.cu.cuMemGetInfo_v2(&mut free, &mut total).ok()?;
    // A third of what is free, thirty times over: only possible when each free takes effect.
    let bytes = (free / 3).min(256 << 20);
    for round in 0..30 {
        let mut pointer = 0;
        let code = gpu.cu.cuMemAlloc_v2(&mut pointer, bytes);
        ensure!(code == Code::SUCCESS, "round {round} of {bytes} bytes: {code:?}");
        gpu.cu.cuMemFree_v2(pointer).ok()?;
    }
    pass()
}

fn info_counts_what_is_allocated() -> CaseResult {
    let gpu = Gpu::new()?;
    let info = || -> Result<(usize, usize)> {
        let (mut free, mut total) = (0, 0);
        gpu.cu.cuMemGetInfo_v2(&mut free, &mut total).ok()?;
        Ok((free, total))
    };
    let (before, total) = info()?;
    let mut of_device = 0;
    gpu.cu.cuDeviceTotalMem_v2(&mut of_device, gpu.device).ok()?;
    ensure!(total == of_device, "{total} bytes by the context, {of_device} by the device");
    ensure!(before <= total, "{before} of {total} bytes are free");
    let bytes = (64 << 20).min(before / 4);
    // Others may use the device at the same time and hide what is looked for: one clear view is enough.
    for _ in 0..20 {
        let (before, _) = info()?;
        let pointer = gpu.alloc(bytes)?;
        let (during, _) = info()?;
        gpu.cu.cuMemFree_v2(pointer).ok()?;
        let (after, _) = info()?;
        let close = |from: usize, to: usize| from > to && (from - to).abs_diff(bytes) <= bytes / 16;
        if close(before, during) && close(after, during) {
            return pass();
        }
    }
    anyhow::bail!("taking and giving back {bytes} bytes did not show in twenty tries")
}

fn pitch_is_aligned_and_wide_enough() -> CaseResult {
    let gpu = Gpu::new()?;
    for (width, height) in [(1usize, 1usize), (100, 7), (512, 3), (513, 3), (4000, 10)] {
        let (mut pointer, mut pitch) = (0, 0);
        gpu.cu.cuMemAllocPitch_v2(&mut pointer, &mut pitch, width, height, 4).ok()?;
        ensure!(pitch >= width && pitch % 32 == 0, "a width of {width} got the pitch {pitch}");
        ensure!(pitch < width + 4096, "a width of {width} got the pitch {pitch}");
        let bytes = vec![7u8; pitch * height];
        gpu.write(pointer, &bytes)?;
        ensure!(gpu.read::<u8>(pointer, pitch * height)? == bytes, "the whole pitched range holds no values");
        gpu.cu.cuMemFree_v2(pointer).ok()?;
    }
    pass()
}

fn bad_pitch_requests_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let (mut pointer, mut pitch) = (7, 7);
    for (width, height, element) in [(0, 1, 4), (1, 0, 4), (16, 16, 3), (16, 16, 0), (16, 16, 32)] {
        gpu.cu
            .cuMemAllocPitch_v2(&mut pointer, &mut pitch, width, height, element)
            .is(Code::INVALID_VALUE)?;
    }
    pass()
}

fn address_range_of_an_allocation() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(100_000)?;
    for offset in [0, 1, 50_000, 99_999] {
        let (mut base, mut bytes) = (0, 0);
        gpu.cu.cuMemGetAddressRange_v2(&mut base, &mut bytes, pointer + offset).ok()?;
        ensure!((base, bytes) == (pointer, 100_000), "offset {offset} lies in {bytes} bytes at {base:#x}");
    }
    // Each place is optional.
    let mut bytes = 0;
    gpu.cu.cuMemGetAddressRange_v2(std::ptr::null_mut(), &mut bytes, pointer).ok()?;
    ensure!(bytes == 100_000, "{bytes} bytes");
    let mut base = 0;
    gpu.cu.cuMemGetAddressRange_v2(&mut base, std::ptr::null_mut(), pointer + 5).ok()?;
    ensure!(base == pointer, "at {base:#x} instead of {pointer:#x}");
    pass()
}

fn address_range_of_nothing_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(4096)?;
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    let refused = [Code::NOT_FOUND, Code::INVALID_VALUE];
    let (mut base, mut bytes) = (7, 7);
    gpu.cu.cuMemGetAddressRange_v2(&mut base, &mut bytes, pointer).is_one_of(&refused)?;
    gpu.cu.cuMemGetAddressRange_v2(&mut base, &mut bytes, 0).is_one_of(&refused)?;
    gpu.cu.cuMemGetAddressRange_v2(&mut base, &mut bytes, 0x1234).is_one_of(&refused)?;
    ensure!([0, 7].contains(&base) && [0, 7].contains(&bytes), "a refused call wrote {base:#x}, {bytes}");
    pass()
}

fn many_small_allocations() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointers = (0..1000u32).map(|index| gpu.upload(&[index, !index])).collect::<Result<Vec<_>>>()?;
    for (index, pointer) in (0u32..).zip(&pointers) {
        ensure!(gpu.read::<u32>(*pointer, 2)? == [index, !index], "allocation {index} lost its values");
    }
    for pointer in pointers {
        gpu.cu.cuMemFree_v2(pointer).ok()?;
    }
    pass()
}

fn free_from_another_thread() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(4096)?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
                gpu.cu.cuMemFree_v2(pointer).ok()
            })
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })?;
    gpu.cu.cuMemFree_v2(pointer).is(Code::INVALID_VALUE)?;
    pass()
}

fn pinned_memory_is_usable() -> CaseResult {
    let gpu = Gpu::new()?;
    for bytes in [1usize, 4096, 4097, 1 << 20, 5 << 20] {
        let pointer = gpu.pinned(bytes, 0)?;
        let slice = host(pointer, bytes);
        for (index, byte) in slice.iter_mut().enumerate() {
            *byte = u8::try_from(index % 251)?;
        }
        let device = gpu.alloc(bytes)?;
        gpu.cu.cuMemcpyHtoD_v2(device, pointer.cast(), bytes).ok()?;
        let back: Vec<u8> = gpu.read(device, bytes)?;
        ensure!(back.as_slice() == slice, "{bytes} pinned bytes changed on the way");
        gpu.cu.cuMemFreeHost(pointer.cast()).ok()?;
        gpu.cu.cuMemFree_v2(device).ok()?;
    }
    let mut plain = std::ptr::null_mut();
    gpu.cu.cuMemAllocHost_v2(&mut plain, 100).ok()?;
    host(plain.cast::<u8>(), 100).fill(3);
    gpu.cu.cuMemFreeHost(plain).ok()?;
    pass()
}

fn pinned_flags_are_kept() -> CaseResult {
    let gpu = Gpu::new()?;
    for flags in 0..8u32 {
        let pointer = gpu.pinned(4096, flags)?;
        let mut told = 77;
        gpu.cu.cuMemHostGetFlags(&mut told, pointer.cast()).ok()?;
        // With unified addressing every allocation is mapped (2), and drivers report that.
        ensure!(told & !2 == flags & !2, "allocated with {flags}, the flags are {told}");
        gpu.cu.cuMemFreeHost(pointer.cast()).ok()?;
    }
    let mut local = 0u32;
    gpu.cu.cuMemHostGetFlags(&mut 0, (&raw mut local).cast()).is(Code::INVALID_VALUE)?;
    pass()
}

fn bad_pinned_flags_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut pointer = std::ptr::null_mut();
    gpu.cu.cuMemHostAlloc(&mut pointer, 4096, 0x100).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemHostAlloc(&mut pointer, 4096, u32::MAX).is(Code::INVALID_VALUE)?;
    // Nothing at all is documented as refused; driver 580 answers a null pointer.
    let code = gpu.cu.cuMemHostAlloc(&mut pointer, 0, 0);
    code.is_one_of(&[Code::INVALID_VALUE, Code::SUCCESS])?;
    ensure!(pointer.is_null() || code == Code::SUCCESS, "a refused call wrote {pointer:?}");
    pass()
}

fn pinned_device_pointer_is_the_host_pointer() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.pinned(8192, 2)?;
    let mut device = 0;
    gpu.cu.cuMemHostGetDevicePointer_v2(&mut device, pointer.cast(), 0).ok()?;
    let address = u64::try_from(pointer.expose_provenance())?;
    ensure!(device == address, "the host pointer {address:#x} is {device:#x} for the device");
    let mut inner = 0;
    gpu.cu.cuMemHostGetDevicePointer_v2(&mut inner, pointer.wrapping_add(100).cast(), 0).ok()?;
    ensure!(inner == address + 100, "100 bytes further the device's pointer is {inner:#x}");
    gpu.cu.cuMemHostGetDevicePointer_v2(&mut device, pointer.cast(), 1).is(Code::INVALID_VALUE)?;
    let mut local = 0u32;
    gpu.cu.cuMemHostGetDevicePointer_v2(&mut device, (&raw mut local).cast(), 0).is(Code::INVALID_VALUE)?;
    pass()
}

fn pinned_double_free_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.pinned(4096, 0)?;
    gpu.cu.cuMemFreeHost(pointer.wrapping_add(16).cast()).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemFreeHost(pointer.cast()).ok()?;
    gpu.cu.cuMemFreeHost(pointer.cast()).is(Code::INVALID_VALUE)?;
    pass()
}

fn kernel_writes_to_mapped_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let count = 5000;
    let pointer = gpu.pinned(count * 4, 2)?.cast::<u32>();
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    let address = u64::try_from(pointer.expose_provenance())?;
    gpu.run(ramp, threads(count), arguments![address, 1000u32, u32::try_from(count)?])?;
    let expected: Vec<u32> = (1000..).take(count).collect();
    ensure!(host(pointer, count) == expected.as_slice(), "the kernel's values are not in host memory");
    pass()
}

fn kernel_reads_mapped_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let count = 3000usize;
    let pointer = gpu.pinned(count * 4, 2)?.cast::<u32>();
    for (index, value) in (0u32..).zip(host(pointer, count)) {
        *value = index * 3;
    }
    let address = u64::try_from(pointer.expose_provenance())?;
    let out = gpu.alloc(count * 4)?;
    let add = gpu.kernel(kernels::BASIC, "add_u32")?;
    gpu.run(add, threads(count), arguments![address, address, out, u32::try_from(count)?])?;
    let expected: Vec<u32> = (0u32..).take(count).map(|index| index * 6).collect();
    ensure!(gpu.read::<u32>(out, count)? == expected, "the kernel read other values than the host wrote");
    pass()
}

/// Page-aligned memory of the program's own, zeroed.
fn own_pages(bytes: usize) -> Result<*mut u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new private mapping wherever the kernel likes.
    let pointer = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    ensure!(pointer != libc::MAP_FAILED, "no memory of {bytes} bytes");
    Ok(pointer.cast())
}

fn register_makes_memory_usable() -> CaseResult {
    let gpu = Gpu::new()?;
    let (bytes, count) = (64 << 10, (64 << 10) / 4);
    let pointer = own_pages(bytes)?;
    host(pointer, bytes).fill(1);
    gpu.cu.cuMemHostRegister_v2(pointer.cast(), bytes, 2).ok()?;
    let mut device = 0;
    gpu.cu.cuMemHostGetDevicePointer_v2(&mut device, pointer.cast(), 0).ok()?;
    if gpu.attribute(91)? == 1 {
        let address = u64::try_from(pointer.expose_provenance())?;
        ensure!(device == address, "the host pointer {address:#x} is {device:#x} for the device");
    }
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    gpu.run(ramp, threads(count), arguments![device, 7u32, u32::try_from(count)?])?;
    let expected: Vec<u32> = (7..).take(count).collect();
    ensure!(
        host(pointer.cast::<u32>(), count) == expected.as_slice(),
        "the kernel's values are not in host memory"
    );
    gpu.cu.cuMemHostUnregister(pointer.cast()).ok()?;
    pass()
}

fn register_for_reading() -> CaseResult {
    const READ_ONLY: u32 = 8;
    let gpu = Gpu::new()?;
    // CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED
    if gpu.attribute(113)? != 1 {
        return skip("the device does not take memory for reading");
    }
    let (bytes, count) = (64 << 10, (64 << 10) / 4);
    let pointer = own_pages(bytes)?;
    for (value, word) in (0..).zip(host(pointer.cast::<u32>(), count)) {
        *word = value;
    }
    gpu.cu.cuMemHostRegister_v2(pointer.cast(), bytes, READ_ONLY).ok()?;
    let device = gpu.alloc(bytes)?;
    gpu.cu.cuMemcpyHtoD_v2(device, pointer.cast(), bytes).ok()?;
    let expected: Vec<u32> = (0..).take(count).collect();
    ensure!(gpu.read::<u32>(device, count)? == expected, "other values arrived");
    gpu.cu.cuMemHostUnregister(pointer.cast()).ok()?;
    ensure!(host(pointer.cast::<u32>(), count) == expected.as_slice(), "the process's memory changed");
    pass()
}

fn register_twice_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = own_pages(16384)?;
    gpu.cu.cuMemHostRegister_v2(pointer.cast(), 16384, 0).ok()?;
    gpu.cu.cuMemHostRegister_v2(pointer.cast(), 16384, 0).is(Code::HOST_MEMORY_ALREADY_REGISTERED)?;
    gpu.cu
        .cuMemHostRegister_v2(pointer.wrapping_add(4096).cast(), 4096, 0)
        .is(Code::HOST_MEMORY_ALREADY_REGISTERED)?;
    gpu.cu.cuMemHostUnregister(pointer.cast()).ok()?;
    gpu.cu.cuMemHostRegister_v2(pointer.cast(), 16384, 0).ok()?;
    pass()
}

fn unregister_of_unknown_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = own_pages(16384)?;
    gpu.cu.cuMemHostUnregister(pointer.cast()).is(Code::HOST_MEMORY_NOT_REGISTERED)?;
    gpu.cu.cuMemHostRegister_v2(pointer.cast(), 16384, 0).ok()?;
    gpu.cu.cuMemHostUnregister(pointer.cast()).ok()?;
    gpu.cu.cuMemHostUnregister(pointer.cast()).is(Code::HOST_MEMORY_NOT_REGISTERED)?;
    // Memory that the driver allocated was never registered.
    let pinned = gpu.pinned(4096, 0)?;
    gpu.cu
        .cuMemHostUnregister(pinned.cast())
        .is_one_of(&[Code::HOST_MEMORY_NOT_REGISTERED, Code::INVALID_VALUE])?;
    pass()
}

fn register_bad_requests_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = own_pages(16384)?;
    gpu.cu.cuMemHostRegister_v2(pointer.cast(), 0, 0).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemHostRegister_v2(std::ptr::null_mut(), 4096, 0).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemHostRegister_v2(pointer.cast(), 4096, 0x100).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemHostUnregister(pointer.cast()).is(Code::HOST_MEMORY_NOT_REGISTERED)?;
    pass()
}

fn registered_memory_survives_unregister() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = own_pages(8192)?;
    host(pointer, 8192).fill(0x5A);
    gpu.cu.cuMemHostRegister_v2(pointer.cast(), 8192, 0).ok()?;
    let device = gpu.alloc(8192)?;
    gpu.cu.cuMemcpyHtoD_v2(device, pointer.cast(), 8192).ok()?;
    gpu.cu.cuMemsetD8_v2(device, 0xA5, 4096).ok()?;
    gpu.cu.cuMemcpyDtoH_v2(pointer.cast(), device, 8192).ok()?;
    gpu.cu.cuMemHostUnregister(pointer.cast()).ok()?;
    let slice = host(pointer, 8192);
    ensure!(slice[..4096].iter().all(|byte| *byte == 0xA5), "the copied half is lost");
    ensure!(slice[4096..].iter().all(|byte| *byte == 0x5A), "the other half is lost");
    slice.fill(1);
    ensure!(slice.iter().all(|byte| *byte == 1), "the memory is not writable any more");
    pass()
}

fn managed_memory_is_shared() -> CaseResult {
    let gpu = Gpu::new()?;
    let count = 10_000usize;
    let mut pointer = 0;
    let code = gpu.cu.cuMemAllocManaged(&mut pointer, 4 * count, 1);
    if gpu.attribute(83)? == 0 || code == Code::NOT_SUPPORTED {
        code.is(Code::NOT_SUPPORTED)?;
        return skip("managed memory is not supported");
    }
    code.ok()?;
    let memory = host(std::ptr::with_exposed_provenance_mut::<u32>(usize::try_from(pointer)?), count);
    memory.fill(7);
    let (add, ramp) = (gpu.kernel(kernels::BASIC, "add_u32")?, gpu.kernel(kernels::BASIC, "fill_ramp")?);
    let out = gpu.alloc(4 * count)?;
    gpu.run(add, threads(count), arguments![pointer, pointer, out, u32::try_from(count)?])?;
    ensure!(gpu.read::<u32>(out, count)? == vec![14; count], "the kernel did not see the host's values");
    gpu.run(ramp, threads(count), arguments![pointer, 5u32, u32::try_from(count)?])?;
    let expected: Vec<u32> = (5..).take(count).collect();
    ensure!(memory == expected.as_slice(), "the host does not see the kernel's values");
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    pass()
}

fn stream_ordered_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let (stream, count) = (gpu.stream(1)?, 5000usize);
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    let back = gpu.pinned(4 * count, 0)?.cast::<u32>();
    for round in 0..20u32 {
        let mut pointer = 0;
        let code = gpu.cu.cuMemAllocAsync(&mut pointer, 4 * count, stream);
        if gpu.attribute(115)? == 0 || code == Code::NOT_SUPPORTED {
            code.is(Code::NOT_SUPPORTED)?;
            return skip("memory pools are not supported");
        }
        code.ok()?;
        gpu.launch_on(stream, ramp, threads(count), arguments![pointer, round, u32::try_from(count)?])
            .ok()?;
        gpu.cu.cuMemcpyDtoHAsync_v2(back.cast(), pointer, 4 * count, stream).ok()?;
        gpu.cu.cuMemFreeAsync(pointer, stream).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        let expected: Vec<u32> = (round..).take(count).collect();
        ensure!(host(back, count) == expected.as_slice(), "round {round} has other values");
    }
    pass()
}

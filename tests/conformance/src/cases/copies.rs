//! Copies of linear memory in every direction.
//!
//! This file has unsafe code: it maps a file.

use std::ffi::c_void;

use anyhow::{Result, ensure};

use crate::driver::Code;
use crate::gpu::{Gpu, arguments, host, shape};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;
use crate::runner::slow_factor;

area!("copies":
    round_trips_of_many_sizes,
    zero_bytes_are_nothing,
    unaligned_offsets_touch_only_their_range,
    device_to_device,
    device_to_device_async,
    any_direction_by_address,
    any_direction_by_address_async,
    pageable_source_may_change_after_async,
    pinned_async_both_ways,
    async_from_and_to_every_kind_of_host_memory,
    read_only_source,
    a_large_copy,
    large_copies_touch_only_their_range,
    many_small_async_copies_keep_their_order,
    staged_copies_are_not_mixed_up,
    many_reads_at_once,
    out_of_range_is_refused,
    freed_memory_is_refused,
    null_host_pointers_are_refused,
    copies_between_contexts,
);

/// Bytes that differ at every place and for every seed.
pub(crate) fn pattern(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// The address of host memory as a number.
fn address<T>(pointer: *const T) -> Result<u64> {
    Ok(u64::try_from(pointer.expose_provenance())?)
}

/// The sizes at which drivers change their way of copying.
const SIZES: &[usize] = &[
    1,
    2,
    3,
    4,
    7,
    8,
    63,
    64,
    65,
    255,
    4095,
    4096,
    4097,
    65535,
    65536,
    65537,
    1 << 20,
    (1 << 20) + 1,
    5_000_011,
];

fn round_trips_of_many_sizes() -> CaseResult {
    let gpu = Gpu::new()?;
    for (seed, bytes) in (0u32..).zip(SIZES) {
        let source = pattern(*bytes, seed);
        let device = gpu.alloc(*bytes)?;
        gpu.write(device, &source)?;
        let mut back = vec![0xEEu8; bytes + 64];
        gpu.cu.cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), device, *bytes).ok()?;
        ensure!(back[..*bytes] == source[..], "{bytes} bytes changed on the way");
        ensure!(
            back[*bytes..].iter().all(|byte| *byte == 0xEE),
            "a copy of {bytes} bytes wrote past its end"
        );
        gpu.cu.cuMemFree_v2(device).ok()?;
    }
    pass()
}

fn zero_bytes_are_nothing() -> CaseResult {
    let gpu = Gpu::new()?;
    let device = gpu.upload(&[7u8; 16])?;
    let mut local = [3u8; 16];
    gpu.cu.cuMemcpyHtoD_v2(device, local.as_ptr().cast(), 0).ok()?;
    gpu.cu.cuMemcpyDtoH_v2(local.as_mut_ptr().cast(), device, 0).ok()?;
    gpu.cu.cuMemcpyDtoD_v2(device, device + 8, 0).ok()?;
    gpu.cu.cuMemcpyHtoDAsync_v2(device, local.as_ptr().cast(), 0, 0).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(
        local == [3; 16] && gpu.read::<u8>(device, 16)? == [7; 16],
        "a copy of nothing changed something"
    );
    pass()
}

fn unaligned_offsets_touch_only_their_range() -> CaseResult {
    let gpu = Gpu::new()?;
    let size = 20_000usize;
    let source = pattern(size, 3);
    let device = gpu.alloc(size)?;
    for (from, to, bytes) in
        [(1usize, 3usize, 5usize), (13, 1, 4096), (7, 4095, 8193), (3, 9, 1), (1, 2, 12_345)]
    {
        gpu.cu.cuMemsetD8_v2(device, 0xCC, size).ok()?;
        let target = device + u64::try_from(to)?;
        gpu.cu.cuMemcpyHtoD_v2(target, source[from..].as_ptr().cast(), bytes).ok()?;
        let back: Vec<u8> = gpu.read(device, size)?;
        ensure!(
            back[to..to + bytes] == source[from..from + bytes],
            "{bytes} bytes from {from} to {to} changed"
        );
        ensure!(back[..to].iter().all(|byte| *byte == 0xCC), "{bytes} bytes to {to} wrote before the start");
        ensure!(
            back[to + bytes..].iter().all(|byte| *byte == 0xCC),
            "{bytes} bytes to {to} wrote past the end"
        );
        let mut part = vec![0x11u8; bytes + 2];
        gpu.cu.cuMemcpyDtoH_v2(part[1..].as_mut_ptr().cast(), target, bytes).ok()?;
        ensure!(part[1..=bytes] == source[from..from + bytes], "{bytes} bytes from {to} back changed");
        ensure!(
            part.first() == Some(&0x11) && part.last() == Some(&0x11),
            "a copy back wrote beyond its range"
        );
    }
    pass()
}

fn device_to_device() -> CaseResult {
    let gpu = Gpu::new()?;
    for bytes in [1usize, 3, 4096, (1 << 20) + 1] {
        let source = pattern(bytes, 9);
        let (first, second) = (gpu.upload(&source)?, gpu.upload(&vec![0u8; bytes + 1])?);
        gpu.cu.cuMemcpyDtoD_v2(second, first, bytes).ok()?;
        let back: Vec<u8> = gpu.read(second, bytes + 1)?;
        ensure!(back[..bytes] == source[..] && back[bytes] == 0, "{bytes} bytes changed on the way");
        ensure!(gpu.read::<u8>(first, bytes)? == source, "the source changed");
    }
    pass()
}

fn device_to_device_async() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let source = pattern(300_001, 4);
    let (first, second) = (gpu.upload(&source)?, gpu.alloc(300_001)?);
    gpu.cu.cuMemcpyDtoDAsync_v2(second, first, 300_001, stream).ok()?;
    gpu.cu.cuMemsetD8Async(first, 0, 300_001, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(gpu.read::<u8>(second, 300_001)? == source, "the copy is not what the source was");
    ensure!(gpu.read::<u8>(first, 300_001)? == vec![0; 300_001], "the fill after the copy is lost");
    pass()
}

fn any_direction_by_address() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = 70_000usize;
    let source = pattern(bytes, 5);
    let (first, second) = (gpu.alloc(bytes)?, gpu.alloc(bytes)?);
    let pinned = gpu.pinned(bytes, 0)?;
    let mut plain = vec![0u8; bytes];
    gpu.cu.cuMemcpy(first, address(source.as_ptr())?, bytes).ok()?;
    gpu.cu.cuMemcpy(second, first, bytes).ok()?;
    gpu.cu.cuMemcpy(address(pinned)?, second, bytes).ok()?;
    gpu.cu.cuMemcpy(address(plain.as_mut_ptr())?, address(pinned)?, bytes).ok()?;
    ensure!(plain == source, "the bytes changed on the way");
    pass()
}

fn any_direction_by_address_async() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = 70_000usize;
    let stream = gpu.stream(0)?;
    let source = pattern(bytes, 6);
    let (first, second) = (gpu.alloc(bytes)?, gpu.alloc(bytes)?);
    let pinned = gpu.pinned(bytes, 0)?;
    gpu.cu.cuMemcpyAsync(first, address(source.as_ptr())?, bytes, stream).ok()?;
    gpu.cu.cuMemcpyAsync(second, first, bytes, stream).ok()?;
    gpu.cu.cuMemcpyAsync(address(pinned)?, second, bytes, stream).ok()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(host(pinned, bytes) == source.as_slice(), "the bytes changed on the way");
    pass()
}

fn pageable_source_may_change_after_async() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    for bytes in [4usize, 1000, 70_000, 3 << 20] {
        let expected = pattern(bytes, 8);
        let mut source = expected.clone();
        let device = gpu.alloc(bytes)?;
        gpu.cu.cuMemcpyHtoDAsync_v2(device, source.as_ptr().cast(), bytes, stream).ok()?;
        source.fill(0xFF);
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        ensure!(gpu.read::<u8>(device, bytes)? == expected, "{bytes} bytes were read after the call");
        gpu.cu.cuMemFree_v2(device).ok()?;
    }
    pass()
}

fn pinned_async_both_ways() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    for bytes in [4usize, 4096, 70_001, 4 << 20] {
        let (out, back) = (gpu.pinned(bytes, 0)?, gpu.pinned(bytes + 16, 0)?);
        let source = pattern(bytes, 2);
        host(out, bytes).copy_from_slice(&source);
        let device = gpu.alloc(bytes)?;
        gpu.cu.cuMemcpyHtoDAsync_v2(device, out.cast(), bytes, stream).ok()?;
        gpu.cu.cuMemcpyDtoHAsync_v2(back.wrapping_add(3).cast(), device, bytes, stream).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        let whole = host(back, bytes + 16);
        ensure!(whole[3..bytes + 3] == source[..], "{bytes} bytes changed on the way");
        ensure!(
            whole[..3] == [0; 3] && whole[bytes + 3..] == [0; 13],
            "{bytes} bytes were not all that was written"
        );
    }
    pass()
}

fn async_from_and_to_every_kind_of_host_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let device = gpu.alloc(4096)?;
    let on_stack = [0x21u8; 4096];
    let on_heap = vec![0x22u8; 4096];
    static CONSTANT: [u8; 4096] = [0x23; 4096];
    for (source, expected) in
        [(on_stack.as_ptr(), 0x21u8), (on_heap.as_ptr(), 0x22), (CONSTANT.as_ptr(), 0x23)]
    {
        gpu.cu.cuMemcpyHtoDAsync_v2(device, source.cast(), 4096, stream).ok()?;
        let mut stack_back = [0u8; 4096];
        let mut heap_back = vec![0u8; 4096];
        gpu.cu.cuMemcpyDtoHAsync_v2(stack_back.as_mut_ptr().cast(), device, 4096, stream).ok()?;
        gpu.cu.cuMemcpyDtoHAsync_v2(heap_back.as_mut_ptr().cast(), device, 4096, stream).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        ensure!(
            stack_back == [expected; 4096] && heap_back == [expected; 4096],
            "{expected:#x} changed on the way"
        );
    }
    pass()
}

fn read_only_source() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = 3 * 4096;
    let file = std::env::current_exe()?;
    let content = std::fs::read(&file)?;
    let expected = &content[..bytes];
    let open = std::fs::File::open(&file)?;
    use std::os::fd::AsRawFd;
    // SAFETY: a new private read-only mapping wherever the kernel likes, of a file longer than that.
    let mapped = unsafe {
        libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_PRIVATE, open.as_raw_fd(), 0)
    };
    ensure!(mapped != libc::MAP_FAILED, "this program cannot be mapped");
    let device = gpu.alloc(bytes)?;
    gpu.cu.cuMemcpyHtoD_v2(device, mapped, bytes).ok()?;
    ensure!(gpu.read::<u8>(device, bytes)? == expected, "the mapped file changed on the way");
    gpu.cu.cuMemsetD8_v2(device, 0, bytes).ok()?;
    gpu.cu.cuMemcpyHtoDAsync_v2(device, mapped, bytes, 0).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(
        gpu.read::<u8>(device, bytes)? == expected,
        "the mapped file changed on the way of an async copy"
    );
    pass()
}

fn a_large_copy() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = if slow_factor() > 1 { 9 << 20 } else { 64 << 20 } + 13;
    let source = pattern(bytes, 1);
    let device = gpu.alloc(bytes)?;
    gpu.write(device, &source)?;
    ensure!(gpu.read::<u8>(device, bytes)? == source, "{bytes} bytes changed on the way");
    pass()
}

/// Copies so many bytes to the device and back, and looks at what came.
pub(crate) fn there_and_back(gpu: &Gpu, device: u64, bytes: usize, seed: u32) -> Result<()> {
    let source = pattern(bytes, seed);
    gpu.write(device, &source)?;
    ensure!(gpu.read::<u8>(device, bytes)? == source, "{bytes} bytes changed on the way");
    Ok(())
}

fn large_copies_touch_only_their_range() -> CaseResult {
    let gpu = Gpu::new()?;
    let room = 14 << 20;
    let (device, source) = (gpu.alloc(room)?, pattern(room, 7));
    let untouched = |bytes: &[u8], value: u8| bytes.iter().all(|byte| *byte == value);
    for (from, to, bytes) in [
        (0usize, 0usize, 8usize << 20),
        (1, 3, (8 << 20) + 1),
        (4095, 17, (9 << 20) - 1),
        (13, 4097, 12_345_679),
    ] {
        let end = to + bytes;
        gpu.cu.cuMemsetD8_v2(device, 0xCC, room).ok()?;
        gpu.write(device + u64::try_from(to)?, &source[from..from + bytes])?;
        let mut back = vec![0x11u8; room];
        let inside = device + u64::try_from(to)?;
        gpu.cu.cuMemcpyDtoH_v2(back[from..].as_mut_ptr().cast(), inside, bytes).ok()?;
        ensure!(back[from..from + bytes] == source[from..from + bytes], "{bytes} bytes from {from} to {to}");
        ensure!(untouched(&back[..from], 0x11), "{bytes} bytes to the host wrote before the start");
        ensure!(untouched(&back[from + bytes..], 0x11), "{bytes} bytes to the host wrote past the end");
        ensure!(untouched(&gpu.read(device, to)?, 0xCC), "{bytes} bytes to {to} wrote before the start");
        let after: Vec<u8> = gpu.read(device + u64::try_from(end)?, room - end)?;
        ensure!(untouched(&after, 0xCC), "{bytes} bytes to {to} wrote past the end");
    }
    pass()
}

fn many_small_async_copies_keep_their_order() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let device = gpu.upload(&[0u32; 64])?;
    let pinned = gpu.pinned(4 * 1024, 0)?.cast::<u32>();
    for (index, word) in (0u32..).zip(host(pinned, 1024)) {
        *word = index;
    }
    for index in 0..1024usize {
        let target = device + 4 * u64::try_from(index % 64)?;
        let source = pinned.wrapping_add(index).cast::<c_void>();
        gpu.cu.cuMemcpyHtoDAsync_v2(target, source, 4, stream).ok()?;
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let expected: Vec<u32> = (960..1024).collect();
    ensure!(gpu.read::<u32>(device, 64)? == expected, "a later copy was overtaken by an earlier one");
    pass()
}

fn staged_copies_are_not_mixed_up() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(super::kernels::BASIC, "step")?;
    let (stream, slot, count) = (gpu.stream(1)?, 50_000usize, 150usize);
    let (device, cell) = (gpu.alloc(slot * count)?, gpu.upload(&[0u32])?);
    let mut source = vec![0u8; slot];
    // One buffer is the source of all copies and changes after each: what is in flight must not.
    for index in 0..count {
        for _ in 0..5 {
            gpu.launch_on(stream, step, shape(1, 1), arguments![cell, 1u32, 1u32]).ok()?;
        }
        let seed = u32::try_from(index)?;
        source.copy_from_slice(&pattern(slot, seed));
        let bytes = slot - index;
        let target = device + u64::try_from(index * slot)?;
        gpu.cu.cuMemcpyHtoDAsync_v2(target, source.as_ptr().cast(), bytes, stream).ok()?;
    }
    source.fill(0xFF);
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    for index in 0..count {
        let back: Vec<u8> = gpu.read(device + u64::try_from(index * slot)?, slot - index)?;
        let expected = pattern(slot, u32::try_from(index)?);
        ensure!(back[..] == expected[..slot - index], "copy {index} has other bytes");
    }
    pass()
}

fn many_reads_at_once() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    let sizes: Vec<usize> = (0..60).map(|index| 1 + index * 7919 % 200_000).collect();
    let sources: Vec<Vec<u8>> = (0u32..).zip(&sizes).map(|(seed, bytes)| pattern(*bytes, seed)).collect();
    let devices = sources.iter().map(|source| gpu.upload(source)).collect::<Result<Vec<_>>>()?;
    let mut targets: Vec<Vec<u8>> = sizes.iter().map(|bytes| vec![0; *bytes]).collect();
    for (target, device) in targets.iter_mut().zip(&devices) {
        let bytes = target.len();
        gpu.cu.cuMemcpyDtoHAsync_v2(target.as_mut_ptr().cast(), *device, bytes, stream).ok()?;
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    for (index, (target, source)) in targets.iter().zip(&sources).enumerate() {
        ensure!(target == source, "read {index} of {} bytes has other bytes", source.len());
    }
    pass()
}

fn out_of_range_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    // An allocation of many pages, since small ones may share a mapping with others.
    let bytes = 32 << 20;
    let device = gpu.alloc(bytes)?;
    let mut local = vec![7u8; 64];
    let end = device + u64::try_from(bytes)?;
    for target in [end - 32, 0x10, 0xdead_beef_0000] {
        gpu.cu.cuMemcpyHtoD_v2(target, local.as_ptr().cast(), 64).is(Code::INVALID_VALUE)?;
        gpu.cu.cuMemcpyDtoH_v2(local.as_mut_ptr().cast(), target, 64).is(Code::INVALID_VALUE)?;
        gpu.cu.cuMemcpyDtoD_v2(device, target, 64).is(Code::INVALID_VALUE)?;
    }
    ensure!(local.iter().all(|byte| *byte == 7), "a refused copy wrote to the host");
    gpu.write(device, &[1u8; 64])?;
    ensure!(gpu.read::<u8>(device, 64)? == [1; 64], "the context is not usable after a refused copy");
    pass()
}

fn freed_memory_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = 32 << 20;
    let device = gpu.alloc(bytes)?;
    gpu.cu.cuMemFree_v2(device).ok()?;
    let mut local = [7u8; 64];
    gpu.cu.cuMemcpyHtoD_v2(device, local.as_ptr().cast(), 64).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemcpyDtoH_v2(local.as_mut_ptr().cast(), device, 64).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemsetD8_v2(device, 0, 64).is(Code::INVALID_VALUE)?;
    ensure!(local == [7; 64], "a refused copy wrote to the host");
    gpu.cu.cuCtxSynchronize().ok()?;
    pass()
}

fn null_host_pointers_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let device = gpu.upload(&[7u8; 16])?;
    gpu.cu.cuMemcpyHtoD_v2(device, std::ptr::null(), 16).is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemcpyDtoH_v2(std::ptr::null_mut(), device, 16).is(Code::INVALID_VALUE)?;
    ensure!(gpu.read::<u8>(device, 16)? == [7; 16], "a refused copy wrote to the device");
    pass()
}

fn copies_between_contexts() -> CaseResult {
    let gpu = Gpu::new()?;
    let source = gpu.upload(&[1u32, 2, 3, 4])?;
    let mut other = 0;
    gpu.cu.cuCtxCreate_v2(&mut other, 0, gpu.device).ok()?;
    let target = gpu.upload(&[0u32; 4])?;
    gpu.cu.cuMemcpyPeer(target, other, source, gpu.context, 16).ok()?;
    ensure!(gpu.read::<u32>(target, 4)? == [1, 2, 3, 4], "the bytes changed on the way");
    pass()
}

//! More of pinned and registered memory: many small pieces, odd places, shared pages.
//!
//! This file has unsafe code: it maps pages.

use std::os::fd::AsRawFd;

use anyhow::{Result, ensure};

use crate::driver::Code;
use crate::gpu::{Gpu, arguments, host, shape, threads};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::copies::pattern;
use super::gate::Gate;
use super::kernels;

area!("pinned":
    many_small_pieces,
    pieces_of_every_size,
    free_waits_for_copies,
    memory_for_every_context,
    registered_at_an_odd_address,
    registered_shared_memory,
    registered_heap_memory,
    a_large_registered_range,
    host_and_device_take_turns,
);

/// An address as the device knows it.
fn number<T>(pointer: *mut T) -> Result<u64> {
    Ok(u64::try_from(pointer.expose_provenance())?)
}

fn many_small_pieces() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let mut pieces = Vec::new();
    for index in 0..300usize {
        let bytes = 4 + index * 37 % 9000;
        let pointer = gpu.pinned(bytes, 2)?;
        let (start, end) = (number(pointer)?, number(pointer.wrapping_add(bytes))?);
        let clash = pieces.iter().find(|(from, to, _)| start < *to && *from < end);
        ensure!(clash.is_none(), "{start:#x}..{end:#x} overlaps {clash:x?}");
        pieces.push((start, end, pointer.cast::<u32>()));
    }
    for (start, _, pointer) in &pieces {
        host(*pointer, 1)[0] = 5;
        gpu.launch_on(0, step, shape(1, 1), arguments![*start, 3u32, 1u32]).ok()?;
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    // Freed in another order than they came.
    for turn in 0..3 {
        for (index, (_, _, pointer)) in pieces.iter().enumerate().filter(|(index, _)| index % 3 == turn) {
            ensure!(host(*pointer, 1) == [16], "piece {index} holds {:?}", host(*pointer, 1));
            gpu.cu.cuMemFreeHost(pointer.cast()).ok()?;
        }
    }
    pass()
}

fn pieces_of_every_size() -> CaseResult {
    let gpu = Gpu::new()?;
    for bytes in [1usize, 4095, 4096, 65_536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 9 << 20] {
        let pointer = gpu.pinned(bytes, 2)?;
        let source = pattern(bytes, 3);
        let device = gpu.upload(&source)?;
        gpu.cu.cuMemcpyDtoH_v2(pointer.cast(), device, bytes).ok()?;
        ensure!(host(pointer, bytes) == source.as_slice(), "{bytes} bytes changed on the way");
        // The last byte is the device's too.
        gpu.cu.cuMemsetD8_v2(number(pointer.wrapping_add(bytes - 1))?, 0xA5, 1).ok()?;
        gpu.cu.cuCtxSynchronize().ok()?;
        ensure!(host(pointer, bytes).last() == Some(&0xA5), "the last of {bytes} bytes is not the device's");
        gpu.cu.cuMemFreeHost(pointer.cast()).ok()?;
        gpu.cu.cuMemFree_v2(device).ok()?;
    }
    pass()
}

fn free_waits_for_copies() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    for round in 0..20 {
        let bytes = 1 << 20;
        let source = pattern(bytes, round);
        let (pinned, device) = (gpu.pinned(bytes, 0)?, gpu.alloc(bytes)?);
        host(pinned, bytes).copy_from_slice(&source);
        gpu.cu.cuMemcpyHtoDAsync_v2(device, pinned.cast(), bytes, stream).ok()?;
        gpu.cu.cuMemFreeHost(pinned.cast()).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        ensure!(gpu.read::<u8>(device, bytes)? == source, "round {round}: the copy read freed memory");
        gpu.cu.cuMemFree_v2(device).ok()?;
    }
    pass()
}

fn memory_for_every_context() -> CaseResult {
    let gpu = Gpu::new()?;
    // Portable: for all contexts of the process.
    let pointer = gpu.pinned(4096, 3)?.cast::<u32>();
    host(pointer, 4)[0] = 5;
    let mut other = 0;
    gpu.cu.cuCtxCreate_v2(&mut other, 0, gpu.device).ok()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    gpu.run(step, shape(1, 1), arguments![number(pointer)?, 2u32, 1u32])?;
    ensure!(host(pointer, 1) == [11], "{:?} instead of 11", host(pointer, 1));
    let device = gpu.alloc(4)?;
    gpu.cu.cuMemcpyHtoD_v2(device, pointer.cast(), 4).ok()?;
    ensure!(gpu.read::<u32>(device, 1)? == [11], "the other context cannot copy from it");
    pass()
}

fn registered_at_an_odd_address() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut buffer = vec![0x11u8; 40_000];
    let (offset, bytes) = (4096 + 12 - buffer.as_ptr().addr() % 4, 20_003usize);
    let pointer = buffer[offset..].as_mut_ptr();
    gpu.cu.cuMemHostRegister_v2(pointer.cast(), bytes, 2).ok()?;
    let mut device = 0;
    gpu.cu.cuMemHostGetDevicePointer_v2(&mut device, pointer.cast(), 0).ok()?;
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    gpu.run(ramp, threads(5000), arguments![device, 9u32, 5000u32])?;
    gpu.cu.cuMemHostUnregister(pointer.cast()).ok()?;
    let expected: Vec<u8> = (9..5009u32).flat_map(u32::to_le_bytes).collect();
    ensure!(buffer[offset..offset + 20_000] == expected[..], "the kernel's values are not in the buffer");
    let outside = buffer[..offset].iter().chain(&buffer[offset + 20_000..]);
    ensure!(outside.clone().all(|byte| *byte == 0x11), "bytes around the range changed");
    pass()
}

fn registered_shared_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let (bytes, count) = (1usize << 20, (1usize << 20) / 4);
    let file = crate::runner::capture_file()?;
    file.set_len(u64::try_from(bytes)?)?;
    let map = || -> Result<*mut u8> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new shared mapping of the file's whole length wherever the kernel likes.
        let pointer = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        ensure!(pointer != libc::MAP_FAILED, "the file cannot be mapped");
        Ok(pointer.cast())
    };
    let (first, second) = (map()?, map()?);
    let code = gpu.cu.cuMemHostRegister_v2(first.cast(), bytes, 2);
    if code == Code::NOT_SUPPORTED {
        // A transport that can share only memory of its own must refuse, rather than part the mappings.
        host(first, bytes).fill(9);
        ensure!(
            host(second, bytes).iter().all(|byte| *byte == 9),
            "a refused registration parted two mappings"
        );
        return skip("this driver cannot register memory that others share");
    }
    code.ok()?;
    let mut device = 0;
    gpu.cu.cuMemHostGetDevicePointer_v2(&mut device, first.cast(), 0).ok()?;
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    gpu.run(ramp, threads(count), arguments![device, 3u32, u32::try_from(count)?])?;
    let expected: Vec<u32> = (3..).take(count).collect();
    ensure!(host(second.cast::<u32>(), count) == expected.as_slice(), "the other mapping shows other values");
    host(second, bytes).fill(7);
    let out = gpu.alloc(bytes)?;
    gpu.cu.cuMemcpyHtoD_v2(out, first.cast(), bytes).ok()?;
    ensure!(gpu.read::<u8>(out, bytes)? == vec![7; bytes], "the device read older values");
    gpu.cu.cuMemHostUnregister(first.cast()).ok()?;
    pass()
}

fn registered_heap_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let stream = gpu.stream(1)?;
    // Several buffers of the heap, as programs that pin their tensors have them.
    let mut buffers: Vec<Vec<u8>> = (0..8).map(|seed| pattern(300_000, seed)).collect();
    for buffer in &mut buffers {
        gpu.cu.cuMemHostRegister_v2(buffer.as_mut_ptr().cast(), buffer.len(), 0).ok()?;
    }
    let devices = (0..8).map(|_| gpu.alloc(300_000)).collect::<Result<Vec<_>>>()?;
    for (buffer, device) in buffers.iter().zip(&devices) {
        gpu.cu.cuMemcpyHtoDAsync_v2(*device, buffer.as_ptr().cast(), buffer.len(), stream).ok()?;
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    for (buffer, device) in buffers.iter_mut().zip(devices) {
        gpu.cu.cuMemHostUnregister(buffer.as_mut_ptr().cast()).ok()?;
        ensure!(gpu.read::<u8>(device, 300_000)? == *buffer, "a registered buffer changed on the way");
    }
    pass()
}

fn a_large_registered_range() -> CaseResult {
    let gpu = Gpu::new()?;
    let bytes = 24usize << 20;
    let mut buffer = pattern(bytes, 77);
    gpu.cu.cuMemHostRegister_v2(buffer.as_mut_ptr().cast(), bytes, 0).ok()?;
    let device = gpu.alloc(bytes)?;
    gpu.cu.cuMemcpyHtoDAsync_v2(device, buffer.as_ptr().cast(), bytes, 0).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    let plain: Vec<u8> = gpu.read(device, bytes)?;
    ensure!(plain == buffer, "the range changed on the way");
    gpu.cu.cuMemsetD8_v2(device, 0x3C, bytes).ok()?;
    gpu.cu.cuMemcpyDtoHAsync_v2(buffer.as_mut_ptr().cast(), device, bytes, 0).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    gpu.cu.cuMemHostUnregister(buffer.as_mut_ptr().cast()).ok()?;
    ensure!(buffer.iter().all(|byte| *byte == 0x3C), "the range changed on the way back");
    pass()
}

fn host_and_device_take_turns() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.pinned(4096, 2)?.cast::<u32>();
    host(cell, 1)[0] = 1;
    let mut expected = 1u32;
    for round in 0..100u32 {
        gpu.run(step, shape(1, 1), arguments![number(cell)?, 3u32, round])?;
        expected = expected.wrapping_mul(3).wrapping_add(round);
        ensure!(host(cell, 1) == [expected], "round {round}: the host sees {:?}", host(cell, 1));
        host(cell, 1)[0] = expected ^ 0x5A5A;
        expected ^= 0x5A5A;
    }
    // And while a kernel runs: the gate is nothing else.
    let gate = Gate::new(&gpu)?;
    let stream = gpu.stream(1)?;
    gate.launch(&gpu, stream)?;
    gate.open()?;
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    gate.check(&gpu)?;
    pass()
}

//! Launches: shapes, parameters, shared memory, cooperation.
//!
//! This file has unsafe code: arguments are overwritten behind the driver's back, and a C structure starts as zeros.

use std::ffi::c_void;

use anyhow::{Result, ensure};
use cudarc::driver::sys::{CUlaunchAttribute_st, CUlaunchAttributeID, CUlaunchConfig_st};

use crate::driver::{Code, Handle};
use crate::gpu::{Argument, Gpu, Shape, arguments, shape, threads};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::bad_launches::{MAX_DYNAMIC_SHARED, launch_by_buffer};
use super::kernels;

area!("launches":
    adds_two_vectors,
    fused_multiply_add,
    no_parameters,
    every_thread_of_every_shape,
    a_grid_of_many_blocks,
    parameters_of_every_width,
    parameters_are_taken_at_the_call,
    a_structure_by_value,
    four_kilobytes_of_parameters,
    parameters_in_one_buffer,
    static_shared_memory,
    dynamic_shared_memory,
    much_shared_memory_needs_the_attribute,
    a_cooperative_grid_waits_for_itself,
    a_cooperative_grid_too_large_is_refused,
    launch_by_configuration,
    launch_by_configuration_with_attributes,
    launch_records_an_event,
    a_kernel_handle_serves_as_a_function,
    thousands_of_launches,
);

/// `CU_EVENT_DISABLE_TIMING`.
const EVENT_DISABLE_TIMING: u32 = 2;

fn adds_two_vectors() -> CaseResult {
    let gpu = Gpu::new()?;
    let add = gpu.kernel(kernels::BASIC, "add_u32")?;
    for count in [1usize, 31, 32, 33, 127, 128, 129, 100_000] {
        let a: Vec<u32> = (0u32..).take(count).map(|index| index.wrapping_mul(2_654_435_761)).collect();
        let b: Vec<u32> = (0u32..).take(count).map(|index| index.wrapping_mul(40_503) ^ 0x5555).collect();
        let (pa, pb) = (gpu.upload(&a)?, gpu.upload(&b)?);
        let out = gpu.upload(&vec![0xEEEE_EEEEu32; count + 200])?;
        gpu.run(add, threads(count), arguments![pa, pb, out, u32::try_from(count)?])?;
        let back: Vec<u32> = gpu.read(out, count + 200)?;
        let expected: Vec<u32> = a.iter().zip(&b).map(|(x, y)| x.wrapping_add(*y)).collect();
        ensure!(back[..count] == expected[..], "a sum of {count} is wrong");
        ensure!(back[count..].iter().all(|word| *word == 0xEEEE_EEEE), "a sum of {count} wrote past its end");
    }
    pass()
}

fn fused_multiply_add() -> CaseResult {
    let gpu = Gpu::new()?;
    let saxpy = gpu.kernel(kernels::BASIC, "saxpy")?;
    let count = 10_000usize;
    let a = 1.1f32;
    let x: Vec<f32> = (0u16..).take(count).map(|index| f32::from(index) * 0.37 - 1000.0).collect();
    let y: Vec<f32> = (0u16..).take(count).map(|index| 3.0e-3 * f32::from(index) + 0.1).collect();
    let (px, py, out) = (gpu.upload(&x)?, gpu.upload(&y)?, gpu.alloc(4 * count)?);
    gpu.run(saxpy, threads(count), arguments![a, px, py, out, u32::try_from(count)?])?;
    let back: Vec<f32> = gpu.read(out, count)?;
    for (index, value) in back.iter().enumerate() {
        // One rounding, as the instruction promises: exact equality.
        let expected = a.mul_add(x[index], y[index]);
        ensure!(value.to_bits() == expected.to_bits(), "element {index} is {value} instead of {expected}");
    }
    pass()
}

fn no_parameters() -> CaseResult {
    let gpu = Gpu::new()?;
    let nothing = gpu.kernel(kernels::BASIC, "nothing")?;
    gpu.run(nothing, shape(1, 1), &[])?;
    gpu.run(nothing, shape(1000, 256), &[])?;
    pass()
}

fn every_thread_of_every_shape() -> CaseResult {
    let gpu = Gpu::new()?;
    let coordinates = gpu.kernel(kernels::LAUNCH, "coordinates")?;
    let shapes = [
        ((1, 1, 1), (1, 1, 1)),
        ((3, 1, 1), (33, 1, 1)),
        ((2, 3, 4), (5, 6, 7)),
        ((1, 7, 1), (1, 64, 1)),
        ((1, 1, 9), (2, 2, 64)),
        ((5, 2, 1), (17, 3, 2)),
    ];
    let pack = |(x, y, z): (u32, u32, u32)| x | y << 8 | z << 16;
    for (grid, block) in shapes {
        let count = usize::try_from(grid.0 * grid.1 * grid.2 * block.0 * block.1 * block.2)?;
        let out = gpu.upload(&vec![0xEEEE_EEEEu32; 4 * count])?;
        gpu.run(coordinates, Shape { grid, block, shared: 0 }, arguments![out])?;
        let back: Vec<u32> = gpu.read(out, 4 * count)?;
        let mut places = back.chunks(4);
        for z in 0..grid.2 {
            for y in 0..grid.1 {
                for x in 0..grid.0 {
                    for c in 0..block.2 {
                        for b in 0..block.1 {
                            for a in 0..block.0 {
                                let told = places.next().unwrap_or_default();
                                let expected = [pack((x, y, z)), pack((a, b, c)), pack(grid), pack(block)];
                                ensure!(
                                    told == expected,
                                    "{grid:?} × {block:?}: {told:x?} instead of {expected:x?}"
                                );
                            }
                        }
                    }
                }
            }
        }
        gpu.cu.cuMemFree_v2(out).ok()?;
    }
    pass()
}

fn a_grid_of_many_blocks() -> CaseResult {
    let gpu = Gpu::new()?;
    let count = gpu.kernel(kernels::BASIC, "count")?;
    let counter = gpu.upload(&[0u32])?;
    gpu.run(count, shape(70_000, 1), arguments![counter])?;
    ensure!(gpu.read::<u32>(counter, 1)? == [70_000], "{:?} threads ran", gpu.read::<u32>(counter, 1)?);
    gpu.run(count, Shape { grid: (3, 300, 40), block: (1, 1, 1), shared: 0 }, arguments![counter])?;
    ensure!(gpu.read::<u32>(counter, 1)? == [106_000], "{:?} threads ran", gpu.read::<u32>(counter, 1)?);
    pass()
}

fn parameters_of_every_width() -> CaseResult {
    let gpu = Gpu::new()?;
    let mixed = gpu.kernel(kernels::LAUNCH, "mixed")?;
    let out = gpu.upload(&[0u64; 7])?;
    let list = arguments![
        0xABu8,
        0xCDEFu16,
        0x1234_5678u32,
        0x9Au8,
        0x0123_4567_89AB_CDEFu64,
        1.5f32,
        -2.25f64,
        out
    ];
    gpu.run(mixed, shape(1, 1), list)?;
    let back: Vec<u64> = gpu.read(out, 7)?;
    let expected = [
        0xAB,
        0xCDEF,
        0x1234_5678,
        0x9A,
        0x0123_4567_89AB_CDEF,
        u64::from(1.5f32.to_bits()),
        (-2.25f64).to_bits(),
    ];
    ensure!(back == expected, "{back:x?} instead of {expected:x?}");
    pass()
}

fn parameters_are_taken_at_the_call() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let cell = gpu.upload(&[0u32])?;
    let mut expected = 0u32;
    for index in 0..500u32 {
        let (mut pointer, mut multiply, mut add) = (cell, 3u32, index);
        let mut list: [*mut c_void; 3] =
            [(&raw mut pointer).cast(), (&raw mut multiply).cast(), (&raw mut add).cast()];
        let none = std::ptr::null_mut();
        gpu.cu.cuLaunchKernel(step, 1, 1, 1, 1, 1, 1, 0, 0, list.as_mut_ptr(), none).ok()?;
        expected = expected.wrapping_mul(3).wrapping_add(index);
        ensure!((pointer, multiply, add) == (cell, 3, index), "the driver wrote into a parameter");
        // What the places hold from here on must not matter.
        for place in list {
            // SAFETY: each place is one of the variables above, none of which is smaller than that.
            unsafe { place.cast::<u32>().write_volatile(0xFFFF) };
        }
    }
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [expected], "{:?} instead of {expected}", gpu.read::<u32>(cell, 1)?);
    pass()
}

fn a_structure_by_value() -> CaseResult {
    let gpu = Gpu::new()?;
    let structure = gpu.kernel(kernels::LAUNCH, "structure")?;
    let mut bytes = [0x77u8; 24];
    bytes[0] = 0xA1;
    bytes[4..8].copy_from_slice(&0xB2B2_B2B2u32.to_le_bytes());
    bytes[8..16].copy_from_slice(&0xC3C3_C3C3_C3C3_C3C3u64.to_le_bytes());
    bytes[16..18].copy_from_slice(&0xD4D4u16.to_le_bytes());
    bytes[20..24].copy_from_slice(&1.25f32.to_le_bytes());
    let out = gpu.upload(&[0u64; 5])?;
    gpu.run(structure, shape(1, 1), &[Argument::bytes(&bytes), out.into()])?;
    let back: Vec<u64> = gpu.read(out, 5)?;
    let expected = [0xA1, 0xB2B2_B2B2, 0xC3C3_C3C3_C3C3_C3C3, 0xD4D4, u64::from(1.25f32.to_bits())];
    ensure!(back == expected, "{back:x?} instead of {expected:x?}");
    pass()
}

fn four_kilobytes_of_parameters() -> CaseResult {
    let gpu = Gpu::new()?;
    let large = gpu.kernel(kernels::LAUNCH, "large")?;
    let words: Vec<u32> = (0..1022u32).map(|index| index.wrapping_mul(0x9E37_79B9)).collect();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let out = gpu.upload(&[0u32; 1022])?;
    gpu.run(large, threads(1022), &[Argument::bytes(&bytes), out.into()])?;
    ensure!(gpu.read::<u32>(out, 1022)? == words, "the parameter's words changed on the way");
    pass()
}

fn parameters_in_one_buffer() -> CaseResult {
    let gpu = Gpu::new()?;
    let ramp = gpu.kernel(kernels::BASIC, "fill_ramp")?;
    let out = gpu.upload(&[0u32; 300])?;
    let mut buffer = Vec::new();
    buffer.extend_from_slice(&out.to_le_bytes());
    buffer.extend_from_slice(&40u32.to_le_bytes());
    buffer.extend_from_slice(&300u32.to_le_bytes());
    launch_by_buffer(&gpu, ramp, threads(300), &mut buffer, 16).ok()?;
    buffer.fill(0xFF);
    gpu.cu.cuCtxSynchronize().ok()?;
    let expected: Vec<u32> = (40..340).collect();
    ensure!(gpu.read::<u32>(out, 300)? == expected, "the buffer's parameters did not arrive");
    pass()
}

fn static_shared_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let reverse = gpu.kernel(kernels::LAUNCH, "reverse_static")?;
    let words: Vec<u32> = (0..128 * 20).collect();
    let cells = gpu.upload(&words)?;
    gpu.run(reverse, shape(20, 128), arguments![cells])?;
    let expected: Vec<u32> = words.chunks(128).flat_map(|block| block.iter().rev().copied()).collect();
    ensure!(gpu.read::<u32>(cells, 128 * 20)? == expected, "the blocks are not reversed");
    pass()
}

fn dynamic_shared_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let reverse = gpu.kernel(kernels::LAUNCH, "reverse_dynamic")?;
    let size = gpu.upload(&[0u32])?;
    for block in [1u32, 32, 100, 256, 1024] {
        let words: Vec<u32> = (0..block * 3).collect();
        let cells = gpu.upload(&words)?;
        let shape = Shape { grid: (3, 1, 1), block: (block, 1, 1), shared: block * 4 };
        gpu.run(reverse, shape, arguments![cells, size])?;
        let expected: Vec<u32> =
            words.chunks(usize::try_from(block)?).flat_map(|block| block.iter().rev().copied()).collect();
        ensure!(gpu.read::<u32>(cells, expected.len())? == expected, "blocks of {block} are not reversed");
        let told = gpu.read::<u32>(size, 1)?;
        ensure!(told == [block * 4], "the kernel saw {told:?} bytes of shared memory, not {}", block * 4);
    }
    pass()
}

fn much_shared_memory_needs_the_attribute() -> CaseResult {
    let gpu = Gpu::new()?;
    let most = u32::try_from(gpu.attribute(97)?)?;
    if most <= 49152 {
        return skip("this device has no more than 48 KiB of shared memory in a block");
    }
    let last_word = gpu.kernel(kernels::LAUNCH, "last_word")?;
    let out = gpu.upload(&[0u32])?;
    let with = |bytes| Shape { grid: (1, 1, 1), block: (1, 1, 1), shared: bytes };
    gpu.run(last_word, with(49152), arguments![out, 49152u32])?;
    gpu.launch_on(0, last_word, with(49156), arguments![out, 49156u32]).is(Code::INVALID_VALUE)?;
    gpu.write(out, &[0u32])?;
    gpu.cu.cuFuncSetAttribute(last_word, MAX_DYNAMIC_SHARED, i32::try_from(most)?).ok()?;
    gpu.run(last_word, with(most), arguments![out, most])?;
    ensure!(gpu.read::<u32>(out, 1)? == [4711], "the last word of {most} bytes does not hold its value");
    pass()
}

/// A cooperative launch of the grid barrier.
fn launch_barrier(gpu: &Gpu, function: Handle, blocks: u32, block: u32) -> Result<(Code, u64)> {
    let length = usize::try_from(blocks)?;
    let mut counter = gpu.upload(&[0u32])?;
    let mut slots = gpu.upload(&vec![0u32; length])?;
    let mut out = gpu.upload(&vec![0u32; length])?;
    let mut list: [*mut c_void; 3] =
        [(&raw mut counter).cast(), (&raw mut slots).cast(), (&raw mut out).cast()];
    let code = gpu.cu.cuLaunchCooperativeKernel(function, blocks, 1, 1, block, 1, 1, 0, 0, list.as_mut_ptr());
    Ok((code, out))
}

/// How many blocks of this size are resident at once.
fn resident(gpu: &Gpu, function: Handle, block: i32) -> Result<u32> {
    let mut per_processor = 0;
    gpu.cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut per_processor, function, block, 0).ok()?;
    Ok(u32::try_from(per_processor * gpu.attribute(16)?)?)
}

fn a_cooperative_grid_waits_for_itself() -> CaseResult {
    let gpu = Gpu::new()?;
    if gpu.attribute(95)? == 0 {
        return skip("this device has no cooperative launches");
    }
    let barrier = gpu.kernel(kernels::LAUNCH, "grid_barrier")?;
    let most = resident(&gpu, barrier, 64)?.min(500);
    for blocks in [1, 2, most] {
        let (code, out) = launch_barrier(&gpu, barrier, blocks, 64)?;
        code.ok()?;
        gpu.cu.cuCtxSynchronize().ok()?;
        let back: Vec<u32> = gpu.read(out, usize::try_from(blocks)?)?;
        let sum = blocks * (blocks + 1) / 2;
        ensure!(back.iter().all(|value| *value == sum), "{blocks} blocks: {back:?} instead of {sum}");
    }
    pass()
}

fn a_cooperative_grid_too_large_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    if gpu.attribute(95)? == 0 {
        return skip("this device has no cooperative launches");
    }
    let barrier = gpu.kernel(kernels::LAUNCH, "grid_barrier")?;
    let most = resident(&gpu, barrier, 1024)?;
    let (code, out) = launch_barrier(&gpu, barrier, most + 1, 1024)?;
    code.is(Code::COOPERATIVE_LAUNCH_TOO_LARGE)?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(out, 1)? == [0], "a refused launch ran");
    let (code, _) = launch_barrier(&gpu, barrier, most, 1024)?;
    code.ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    pass()
}

/// A launch configuration of one dimension, without attributes.
fn configuration(blocks: u32, block: u32) -> CUlaunchConfig_st {
    CUlaunchConfig_st {
        gridDimX: blocks,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: block,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: std::ptr::null_mut(),
        attrs: std::ptr::null_mut(),
        numAttrs: 0,
    }
}

fn launch_by_configuration() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let mut cell = gpu.upload(&[5u32])?;
    let (mut multiply, mut add) = (10u32, 3u32);
    let mut list: [*mut c_void; 3] =
        [(&raw mut cell).cast(), (&raw mut multiply).cast(), (&raw mut add).cast()];
    let none = std::ptr::null_mut();
    gpu.cu.cuLaunchKernelEx(&configuration(1, 1), step, list.as_mut_ptr(), none).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [53], "{:?} instead of 53", gpu.read::<u32>(cell, 1)?);
    gpu.cu.cuLaunchKernelEx(&configuration(0, 1), step, list.as_mut_ptr(), none).is(Code::INVALID_VALUE)?;
    gpu.cu.cuLaunchKernelEx(std::ptr::null(), step, list.as_mut_ptr(), none).is(Code::INVALID_VALUE)?;
    gpu.cu.cuLaunchKernelEx(&configuration(1, 1), 0, list.as_mut_ptr(), none).is(Code::INVALID_HANDLE)?;
    ensure!(gpu.read::<u32>(cell, 1)? == [53], "a refused launch ran");
    pass()
}

/// A launch attribute whose value is one 32-bit number.
fn attribute_of(id: CUlaunchAttributeID, value: i32) -> CUlaunchAttribute_st {
    // SAFETY: all bytes zero is a valid value of this C structure, whose first identifier is 0.
    let mut attribute: CUlaunchAttribute_st = unsafe { std::mem::zeroed() };
    attribute.id = id;
    attribute.value.cooperative = value;
    attribute
}

/// CUDA wants an event without timing (`CU_EVENT_DISABLE_TIMING`), and records it when the kernel's blocks have ended.
fn launch_records_an_event() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let mut cell = gpu.upload(&[5u32])?;
    let (mut multiply, mut add) = (10u32, 3u32);
    let mut list: [*mut c_void; 3] =
        [(&raw mut cell).cast(), (&raw mut multiply).cast(), (&raw mut add).cast()];
    let none = std::ptr::null_mut();
    let event = gpu.event(EVENT_DISABLE_TIMING)?;
    let mut attribute = attribute_of(CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT, 0);
    attribute.value.launchCompletionEvent.event = std::ptr::with_exposed_provenance_mut(event);
    let mut config = configuration(1, 1);
    (config.attrs, config.numAttrs) = (&raw mut attribute, 1);
    // Twice: a shape that has succeeded takes another way.
    for expected in [53, 533] {
        gpu.cu.cuLaunchKernelEx(&config, step, list.as_mut_ptr(), none).ok()?;
        gpu.cu.cuEventSynchronize(event).ok()?;
        gpu.cu.cuCtxSynchronize().ok()?;
        ensure!(
            gpu.read::<u32>(cell, 1)? == [expected],
            "{:?} instead of {expected}",
            gpu.read::<u32>(cell, 1)?
        );
    }
    gpu.cu.cuEventDestroy_v2(event).ok()?;
    pass()
}

fn launch_by_configuration_with_attributes() -> CaseResult {
    let gpu = Gpu::new()?;
    if gpu.attribute(95)? == 0 {
        return skip("this device has no cooperative launches");
    }
    let barrier = gpu.kernel(kernels::LAUNCH, "grid_barrier")?;
    let most = resident(&gpu, barrier, 1024)?;
    let mut attributes = [
        attribute_of(CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_IGNORE, 0),
        attribute_of(CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE, 1),
    ];
    for (blocks, wanted) in [(most + 1, Code::COOPERATIVE_LAUNCH_TOO_LARGE), (2, Code::SUCCESS)] {
        let mut counter = gpu.upload(&[0u32])?;
        let mut slots = gpu.upload(&vec![0u32; usize::try_from(blocks)?])?;
        let mut out = gpu.upload(&vec![0u32; usize::try_from(blocks)?])?;
        let mut list: [*mut c_void; 3] =
            [(&raw mut counter).cast(), (&raw mut slots).cast(), (&raw mut out).cast()];
        let mut config = configuration(blocks, 1024);
        config.attrs = attributes.as_mut_ptr();
        config.numAttrs = 2;
        gpu.cu.cuLaunchKernelEx(&config, barrier, list.as_mut_ptr(), std::ptr::null_mut()).is(wanted)?;
        gpu.cu.cuCtxSynchronize().ok()?;
        let expected = if wanted == Code::SUCCESS { [3, 3] } else { [0, 0] };
        ensure!(gpu.read::<u32>(out, 2)? == expected, "{blocks} blocks: {:?}", gpu.read::<u32>(out, 2)?);
    }
    pass()
}

fn a_kernel_handle_serves_as_a_function() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = std::ffi::CString::new(kernels::BASIC)?;
    let (mut library, mut kernel) = (0, 0);
    let (no_options, no_values) = (std::ptr::null_mut(), std::ptr::null_mut());
    gpu.cu
        .cuLibraryLoadData(
            &mut library,
            text.as_ptr().cast(),
            no_options,
            no_values,
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        )
        .ok()?;
    gpu.cu.cuLibraryGetKernel(&mut kernel, library, c"step".as_ptr()).ok()?;
    let cell = gpu.upload(&[5u32])?;
    gpu.run(kernel, shape(1, 1), arguments![cell, 2u32, 1u32])?;
    let mut function = 0;
    gpu.cu.cuKernelGetFunction(&mut function, kernel).ok()?;
    gpu.run(function, shape(1, 1), arguments![cell, 2u32, 1u32])?;
    ensure!(gpu.read::<u32>(cell, 1)? == [23], "{:?} instead of 23", gpu.read::<u32>(cell, 1)?);
    pass()
}

fn thousands_of_launches() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let stream = gpu.stream(1)?;
    let cell = gpu.upload(&[0u32])?;
    let mut expected = 0u32;
    for index in 0..5000u32 {
        gpu.launch_on(stream, step, shape(1, 1), arguments![cell, 5u32, index]).ok()?;
        expected = expected.wrapping_mul(5).wrapping_add(index);
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(gpu.read::<u32>(cell, 1)? == [expected], "launches were lost or changed their order");
    pass()
}

//! Functions: attributes, parameter layouts, occupancy.
//!
//! This file has unsafe code: the driver calls back.

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, arguments, shape};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::kernels;

area!("functions":
    attributes_are_plausible,
    static_shared_memory_is_counted,
    attributes_are_set_and_read,
    bad_attribute_requests_are_refused,
    parameter_layout,
    parameter_layout_ends,
    cache_configuration_is_a_preference,
    lazily_loaded_functions,
    blocks_in_a_multiprocessor,
    shared_memory_limits_the_blocks,
    occupancy_follows_what_is_set,
    bad_occupancy_requests_are_refused,
    the_best_block_size,
    the_best_block_size_with_dynamic_memory,
    dynamic_memory_that_is_left,
);

fn attribute(gpu: &Gpu, function: Handle, attribute: i32) -> Result<i32> {
    let mut value = -77;
    gpu.cu.cuFuncGetAttribute(&mut value, attribute, function).ok()?;
    Ok(value)
}

fn attributes_are_plausible() -> CaseResult {
    let gpu = Gpu::new()?;
    let add = gpu.kernel(kernels::BASIC, "add_u32")?;
    ensure!(attribute(&gpu, add, 0)? == 1024, "blocks have at most {} threads", attribute(&gpu, add, 0)?);
    ensure!(attribute(&gpu, add, 1)? == 0, "{} bytes of static shared memory", attribute(&gpu, add, 1)?);
    ensure!(attribute(&gpu, add, 3)? == 0, "{} bytes of local memory", attribute(&gpu, add, 3)?);
    ensure!((1..=255).contains(&attribute(&gpu, add, 4)?), "{} registers", attribute(&gpu, add, 4)?);
    let (isa, binary) = (attribute(&gpu, add, 5)?, attribute(&gpu, add, 6)?);
    let device = 10 * gpu.attribute(75)? + gpu.attribute(76)?;
    // The virtual architecture of the text (5.2) or its version (7.0), as drivers tell it.
    ensure!((52..=device.max(70)).contains(&isa), "the PTX version is {isa}");
    ensure!(binary <= device && binary >= 50, "the binary is for {binary}, the device is {device}");
    ensure!((0..=1).contains(&attribute(&gpu, add, 7)?), "the cache mode is {}", attribute(&gpu, add, 7)?);
    let local = gpu.kernel(kernels::WARP, "local_array")?;
    ensure!(attribute(&gpu, local, 3)? >= 64, "{} bytes of local memory", attribute(&gpu, local, 3)?);
    pass()
}

fn static_shared_memory_is_counted() -> CaseResult {
    let gpu = Gpu::new()?;
    let reverse = gpu.kernel(kernels::LAUNCH, "reverse_static")?;
    ensure!(attribute(&gpu, reverse, 1)? == 512, "{} bytes", attribute(&gpu, reverse, 1)?);
    pass()
}

fn attributes_are_set_and_read() -> CaseResult {
    let gpu = Gpu::new()?;
    let function = gpu.kernel(kernels::LAUNCH, "reverse_dynamic")?;
    for value in [0, 1024, 49152] {
        gpu.cu.cuFuncSetAttribute(function, 8, value).ok()?;
        ensure!(attribute(&gpu, function, 8)? == value, "set to {value}: {}", attribute(&gpu, function, 8)?);
    }
    for value in [-1, 0, 50, 100] {
        gpu.cu.cuFuncSetAttribute(function, 9, value).ok()?;
        ensure!(attribute(&gpu, function, 9)? == value, "set to {value}: {}", attribute(&gpu, function, 9)?);
    }
    pass()
}

fn bad_attribute_requests_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let function = gpu.kernel(kernels::BASIC, "add_u32")?;
    let mut value = -77;
    gpu.cu.cuFuncGetAttribute(&mut value, 5000, function).is(Code::INVALID_VALUE)?;
    gpu.cu.cuFuncGetAttribute(&mut value, -1, function).is(Code::INVALID_VALUE)?;
    ensure!(value == -77, "a refused call wrote {value}");
    gpu.cu.cuFuncSetAttribute(function, 0, 128).is(Code::INVALID_VALUE)?;
    gpu.cu.cuFuncSetAttribute(function, 4, 16).is(Code::INVALID_VALUE)?;
    gpu.cu.cuFuncSetAttribute(function, 8, 1 << 30).is(Code::INVALID_VALUE)?;
    gpu.cu.cuFuncSetAttribute(function, 9, 101).is(Code::INVALID_VALUE)?;
    gpu.cu.cuFuncSetAttribute(function, 9, -2).is(Code::INVALID_VALUE)?;
    gpu.cu.cuFuncGetAttribute(&mut value, 0, 0).is_one_of(&[Code::INVALID_HANDLE, Code::INVALID_VALUE])?;
    ensure!(attribute(&gpu, function, 0)? == 1024, "a refused call changed the attribute");
    pass()
}

/// The offsets and sizes of a function's parameters.
fn layout(gpu: &Gpu, function: Handle) -> Result<Vec<(usize, usize)>> {
    let mut places = Vec::new();
    for index in 0..100 {
        let (mut offset, mut bytes) = (7, 7);
        let code = gpu.cu.cuFuncGetParamInfo(function, index, &mut offset, &mut bytes);
        if code == Code::INVALID_VALUE {
            return Ok(places);
        }
        code.ok()?;
        places.push((offset, bytes));
    }
    anyhow::bail!("the parameters do not end: {places:?}");
}

fn parameter_layout() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::LAUNCH)?;
    let expected: [(&str, &[(usize, usize)]); 4] = [
        ("mixed", &[(0, 1), (2, 2), (4, 4), (8, 1), (16, 8), (24, 4), (32, 8), (40, 8)]),
        ("structure", &[(0, 24), (24, 8)]),
        ("large", &[(0, 4088), (4088, 8)]),
        ("last_word", &[(0, 8), (8, 4)]),
    ];
    for (name, expected) in expected {
        let told = layout(&gpu, gpu.function(module, name)?)?;
        ensure!(told == expected, "{name}: {told:?} instead of {expected:?}");
    }
    pass()
}

fn parameter_layout_ends() -> CaseResult {
    let gpu = Gpu::new()?;
    let nothing = gpu.kernel(kernels::BASIC, "nothing")?;
    ensure!(layout(&gpu, nothing)?.is_empty(), "no parameters: {:?}", layout(&gpu, nothing)?);
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let mut offset = 0;
    // The size's place is optional.
    gpu.cu.cuFuncGetParamInfo(step, 1, &mut offset, std::ptr::null_mut()).ok()?;
    ensure!(offset == 8, "the second parameter is at {offset}");
    gpu.cu.cuFuncGetParamInfo(step, usize::MAX, &mut offset, &mut 0).is(Code::INVALID_VALUE)?;
    pass()
}

fn cache_configuration_is_a_preference() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    for config in 0..4 {
        gpu.cu.cuFuncSetCacheConfig(step, config).ok()?;
    }
    let cell = gpu.upload(&[1u32])?;
    gpu.run(step, shape(1, 1), arguments![cell, 1u32, 1u32])?;
    ensure!(gpu.read::<u32>(cell, 1)? == [2], "the launch did not run");
    pass()
}

fn lazily_loaded_functions() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let mut state = 77;
    gpu.cu.cuFuncIsLoaded(&mut state, step).ok()?;
    ensure!([0, 1].contains(&state), "the loading state is {state}");
    gpu.cu.cuFuncLoad(step).ok()?;
    gpu.cu.cuFuncIsLoaded(&mut state, step).ok()?;
    ensure!(state == 1, "a loaded function's state is {state}");
    pass()
}

fn blocks(gpu: &Gpu, function: Handle, size: i32, shared: usize) -> Result<i32> {
    let (mut plain, mut flagged) = (-77, -78);
    gpu.cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut plain, function, size, shared).ok()?;
    gpu.cu
        .cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&mut flagged, function, size, shared, 0)
        .ok()?;
    ensure!(plain == flagged, "{plain} blocks, and {flagged} with no flags");
    Ok(plain)
}

fn blocks_in_a_multiprocessor() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let (threads, most) = (gpu.attribute(39)?, gpu.attribute(106)?);
    let mut before = i32::MAX;
    for size in [32, 64, 128, 256, 512, 1024] {
        let told = blocks(&gpu, step, size, 0)?;
        ensure!(told >= 1 && told <= most && told * size <= threads, "{told} blocks of {size} threads");
        ensure!(told <= before, "{told} blocks of {size}, {before} of half of that");
        before = told;
    }
    // Such a small kernel is limited by nothing but threads.
    ensure!(
        blocks(&gpu, step, 1024, 0)? == threads / 1024,
        "{} blocks of 1024",
        blocks(&gpu, step, 1024, 0)?
    );
    pass()
}

fn shared_memory_limits_the_blocks() -> CaseResult {
    let gpu = Gpu::new()?;
    let function = gpu.kernel(kernels::LAUNCH, "reverse_dynamic")?;
    let in_processor = usize::try_from(gpu.attribute(81)?)?;
    let (none, much) = (blocks(&gpu, function, 32, 0)?, blocks(&gpu, function, 32, 48 << 10)?);
    ensure!(much < none, "{much} blocks with 48 KiB each, {none} with none");
    ensure!(
        usize::try_from(much)? <= in_processor / (48 << 10),
        "{much} blocks with 48 KiB in {in_processor} bytes"
    );
    ensure!(much >= 1, "no block with 48 KiB");
    pass()
}

fn occupancy_follows_what_is_set() -> CaseResult {
    const MAX_DYNAMIC_SHARED_SIZE_BYTES: i32 = 8;
    const PREFER_SHARED: i32 = 1;
    let gpu = Gpu::new()?;
    let function = gpu.kernel(kernels::LAUNCH, "reverse_dynamic")?;
    let much = usize::try_from(gpu.attribute(97)?)?;
    let ask = || {
        let mut count = -77;
        let code = gpu.cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, function, 32, much);
        (code, count)
    };
    // More than a block may have unless it is asked for: no block, or an error.
    let (before, again) = (ask(), ask());
    ensure!(before == again, "{before:?}, and the same question again {again:?}");
    gpu.cu.cuFuncSetAttribute(function, MAX_DYNAMIC_SHARED_SIZE_BYTES, i32::try_from(much)?).ok()?;
    let after = ask();
    ensure!(after.0 == Code::SUCCESS && after.1 >= 1, "with {much} bytes allowed: {after:?}");
    for set in
        [gpu.cu.cuFuncSetCacheConfig(function, PREFER_SHARED), gpu.cu.cuCtxSetCacheConfig(PREFER_SHARED)]
    {
        set.ok()?;
        let preferring = ask();
        ensure!(preferring == after, "{after:?}, and {preferring:?} where shared memory is preferred");
    }
    pass()
}

fn bad_occupancy_requests_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let mut count = -77;
    for size in [0, -1] {
        gpu.cu
            .cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, step, size, 0)
            .is(Code::INVALID_VALUE)?;
    }
    // A block that is too big has no place: told as zero blocks or as an error.
    let code = gpu.cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, step, 2048, 0);
    code.is_one_of(&[Code::SUCCESS, Code::INVALID_VALUE])?;
    ensure!(code != Code::SUCCESS || count == 0, "{count} blocks of 2048 threads");
    gpu.cu
        .cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, 0, 32, 0)
        .is_one_of(&[Code::INVALID_HANDLE, Code::INVALID_VALUE])?;
    pass()
}

fn the_best_block_size() -> CaseResult {
    let gpu = Gpu::new()?;
    let step = gpu.kernel(kernels::BASIC, "step")?;
    let (mut grid, mut block) = (0, 0);
    gpu.cu.cuOccupancyMaxPotentialBlockSize(&mut grid, &mut block, step, None, 0, 0).ok()?;
    ensure!(block > 0 && block <= 1024 && block % 32 == 0, "the best block has {block} threads");
    let expected = blocks(&gpu, step, block, 0)? * gpu.attribute(16)?;
    ensure!(grid == expected, "a grid of {grid} instead of {expected}");
    gpu.cu.cuOccupancyMaxPotentialBlockSize(&mut grid, &mut block, step, None, 0, 128).ok()?;
    ensure!(block > 0 && block <= 128, "at most 128 was asked, the best block has {block} threads");
    pass()
}

/// Sixty-four bytes of dynamic memory for each thread.
unsafe extern "C" fn sixty_four_each(threads: i32) -> usize {
    usize::try_from(threads).unwrap_or(0) * 64
}

fn the_best_block_size_with_dynamic_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let function = gpu.kernel(kernels::LAUNCH, "reverse_dynamic")?;
    let (mut grid, mut block) = (0, 0);
    gpu.cu
        .cuOccupancyMaxPotentialBlockSize(&mut grid, &mut block, function, Some(sixty_four_each), 0, 0)
        .ok()?;
    // 48 KiB of 64 bytes are 768 threads.
    ensure!(block > 0 && block <= 768, "the best block has {block} threads");
    let memory = usize::try_from(block)? * 64;
    let expected = blocks(&gpu, function, block, memory)? * gpu.attribute(16)?;
    ensure!(grid == expected, "a grid of {grid} instead of {expected}");
    pass()
}

fn dynamic_memory_that_is_left() -> CaseResult {
    let gpu = Gpu::new()?;
    let function = gpu.kernel(kernels::LAUNCH, "reverse_dynamic")?;
    let (mut one, mut two) = (0, 0);
    gpu.cu.cuOccupancyAvailableDynamicSMemPerBlock(&mut one, function, 1, 128).ok()?;
    gpu.cu.cuOccupancyAvailableDynamicSMemPerBlock(&mut two, function, 2, 128).ok()?;
    let most = usize::try_from(gpu.attribute(81)?)?;
    ensure!(
        one > 0 && one <= most && two > 0 && two <= one,
        "{one} bytes for one block, {two} for each of two"
    );
    pass()
}

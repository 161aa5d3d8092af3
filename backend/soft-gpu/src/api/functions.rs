//! Functions, kernels, their attributes, and occupancy.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_char;
use std::sync::Arc;

use virtio_spec::cuda::{
    CUdevice, CUfunc_cache, CUfunction, CUfunction_attribute, CUfunctionLoadingState, CUkernel, CUlibrary,
    CUmodule, CUoccupancyB2DSize, CUresult, CUsharedconfig,
};

use super::entry::{Call, Out, check_device, exports};
use crate::driver::attributes::{MULTIPROCESSORS, blocks_per_multiprocessor, shared_for_blocks};
use crate::driver::compile::KernelInfo;
use crate::driver::launch::resolve;
use crate::driver::module::Function;
use crate::driver::{Driver, Result};

exports! {
    init cuKernelGetName(name: *mut *const c_char, kernel: CUkernel) = kernel_name;
    init cuFuncGetName(name: *mut *const c_char, function: CUfunction) = function_name;
    init cuKernelGetLibrary(library: *mut CUlibrary, kernel: CUkernel) = kernel_library;
    init cuFuncGetModule(module: *mut CUmodule, function: CUfunction) = function_module;
    context cuKernelGetFunction(function: *mut CUfunction, kernel: CUkernel) = kernel_function;
    init cuFuncGetParamInfo(function: CUfunction, index: usize, offset: *mut usize, bytes: *mut usize)
        = function_param;
    init cuKernelGetParamInfo(kernel: CUkernel, index: usize, offset: *mut usize, bytes: *mut usize)
        = kernel_param;
    init cuFuncIsLoaded(state: *mut CUfunctionLoadingState, function: CUfunction) = is_loaded;
    context cuFuncLoad(function: CUfunction) = load;
    context cuFuncGetAttribute(value: *mut i32, attribute: CUfunction_attribute, function: CUfunction)
        = function_attribute;
    context cuFuncSetAttribute(function: CUfunction, attribute: CUfunction_attribute, value: i32)
        = set_function_attribute;
    init cuKernelGetAttribute(
        value: *mut i32, attribute: CUfunction_attribute, kernel: CUkernel, device: CUdevice,
    ) = kernel_attribute;
    init cuKernelSetAttribute(
        attribute: CUfunction_attribute, value: i32, kernel: CUkernel, device: CUdevice,
    ) = set_kernel_attribute;
    context cuFuncSetCacheConfig(function: CUfunction, config: CUfunc_cache) = set_cache_config;
    init cuKernelSetCacheConfig(kernel: CUkernel, config: CUfunc_cache, device: CUdevice)
        = set_kernel_cache_config;
    context cuFuncSetSharedMemConfig(function: CUfunction, config: CUsharedconfig) = set_shared_config;
    context cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: *mut i32, function: CUfunction, size: i32, shared: usize,
    ) = max_blocks;
    context cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: *mut i32, function: CUfunction, size: i32, shared: usize, flags: u32,
    ) = max_blocks_with_flags;
    context cuOccupancyAvailableDynamicSMemPerBlock(
        bytes: *mut usize, function: CUfunction, blocks: i32, size: i32,
    ) = available_shared;
    context cuOccupancyMaxPotentialBlockSize(
        grid: *mut i32, block: *mut i32, function: CUfunction, dynamic: CUoccupancyB2DSize, shared: usize,
        limit: i32,
    ) = potential_block_size;
    context cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: *mut i32, block: *mut i32, function: CUfunction, dynamic: CUoccupancyB2DSize, shared: usize,
        limit: i32, flags: u32,
    ) = potential_block_size_with_flags;
}

/// Kernels are taken in a function's place.
fn find(call: &Call, function: CUfunction) -> Result<Arc<Function>> {
    resolve(call.driver(), &call.context, function.0)
}

fn kernel_name(driver: &Driver, name: Out<*const c_char>, kernel: CUkernel) -> Result<()> {
    name.check()?;
    name.put(driver.kernels.get(kernel.0)?.info.name.as_ptr())
}

/// What is known of a function or kernel without a context.
fn info_of<T>(driver: &Driver, handle: u64, ask: impl Fn(&KernelInfo) -> T) -> Result<T> {
    match driver.functions.find(handle) {
        Some(function) => Ok(ask(&function.info)),
        None => Ok(ask(&driver.kernels.get(handle)?.info)),
    }
}

fn function_name(driver: &Driver, name: Out<*const c_char>, function: CUfunction) -> Result<()> {
    name.check()?;
    name.put(info_of(driver, function.0, |info| info.name.as_ptr())?)
}

fn kernel_library(driver: &Driver, library: Out<CUlibrary>, kernel: CUkernel) -> Result<()> {
    library.check()?;
    library.put(CUlibrary(driver.kernels.get(kernel.0)?.library.handle))
}

fn function_module(driver: &Driver, module: Out<CUmodule>, function: CUfunction) -> Result<()> {
    module.check()?;
    module.put(CUmodule(driver.functions.get(function.0)?.module.handle))
}

fn kernel_function(call: &Call, function: Out<CUfunction>, kernel: CUkernel) -> Result<()> {
    function.check()?;
    let found = call.driver().kernels.get(kernel.0)?.function(call.driver(), &call.context)?;
    function.put(CUfunction(found.handle))
}

fn put_param(info: &KernelInfo, index: usize, offset: Out<usize>, bytes: Out<usize>) -> Result<()> {
    offset.check()?;
    let param = info.params.get(index).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    offset.put(param.offset as usize)?;
    bytes.put_if_wanted(param.size as usize);
    Ok(())
}

fn function_param(
    driver: &Driver,
    function: CUfunction,
    index: usize,
    offset: Out<usize>,
    bytes: Out<usize>,
) -> Result<()> {
    info_of(driver, function.0, |info| put_param(info, index, offset, bytes))?
}

fn kernel_param(
    driver: &Driver,
    kernel: CUkernel,
    index: usize,
    offset: Out<usize>,
    bytes: Out<usize>,
) -> Result<()> {
    put_param(&driver.kernels.get(kernel.0)?.info, index, offset, bytes)
}

fn is_loaded(driver: &Driver, state: Out<CUfunctionLoadingState>, function: CUfunction) -> Result<()> {
    state.check()?;
    driver.functions.get(function.0)?;
    state.put(CUfunctionLoadingState::LOADED)
}

fn load(call: &Call, function: CUfunction) -> Result<()> {
    find(call, function).map(drop)
}

fn function_attribute(
    call: &Call,
    value: Out<i32>,
    attribute: CUfunction_attribute,
    function: CUfunction,
) -> Result<()> {
    value.check()?;
    let function = find(call, function)?;
    value.put(function.settings.get(&function.info, attribute)?)
}

fn set_function_attribute(
    call: &Call,
    function: CUfunction,
    attribute: CUfunction_attribute,
    value: i32,
) -> Result<()> {
    let function = find(call, function)?;
    function.settings.set(&function.info, attribute, value)
}

fn kernel_attribute(
    driver: &Driver,
    value: Out<i32>,
    attribute: CUfunction_attribute,
    kernel: CUkernel,
    device: CUdevice,
) -> Result<()> {
    value.check()?;
    let kernel = driver.kernels.get(kernel.0)?;
    check_device(device)?;
    value.put(kernel.settings.get(&kernel.info, attribute)?)
}

fn set_kernel_attribute(
    driver: &Driver,
    attribute: CUfunction_attribute,
    value: i32,
    kernel: CUkernel,
    device: CUdevice,
) -> Result<()> {
    let kernel = driver.kernels.get(kernel.0)?;
    check_device(device)?;
    kernel.settings.set(&kernel.info, attribute, value)
}

/// A preference, without an effect here.
fn set_cache_config(call: &Call, function: CUfunction, config: CUfunc_cache) -> Result<()> {
    find(call, function)?;
    config.c_name().map(drop).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn set_kernel_cache_config(
    driver: &Driver,
    kernel: CUkernel,
    config: CUfunc_cache,
    device: CUdevice,
) -> Result<()> {
    driver.kernels.get(kernel.0)?;
    check_device(device)?;
    config.c_name().map(drop).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn set_shared_config(call: &Call, function: CUfunction, config: CUsharedconfig) -> Result<()> {
    find(call, function)?;
    config.c_name().map(drop).ok_or(CUresult::ERROR_INVALID_VALUE)
}

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn max_blocks(call: &Call, blocks: Out<i32>, function: CUfunction, size: i32, shared: usize) -> Result<()> {
    max_blocks_with_flags(call, blocks, function, size, shared, 0)
}

fn max_blocks_with_flags(
    call: &Call,
    blocks: Out<i32>,
    function: CUfunction,
    size: i32,
    shared: usize,
    flags: u32,
) -> Result<()> {
    blocks.check()?;
    let function = find(call, function)?;
    let size = u32::try_from(size).ok().filter(|size| *size > 0).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    // The default, or without assumptions about a global cache that is not there.
    if flags > 1 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    blocks.put(signed(blocks_per_multiprocessor(&function.info, size, shared as u64)))
}

fn available_shared(
    call: &Call,
    bytes: Out<usize>,
    function: CUfunction,
    blocks: i32,
    size: i32,
) -> Result<()> {
    bytes.check()?;
    let function = find(call, function)?;
    let positive = |value: i32| u32::try_from(value).ok().filter(|value| *value > 0);
    let (Some(blocks), Some(size)) = (positive(blocks), positive(size)) else {
        return Err(CUresult::ERROR_INVALID_VALUE);
    };
    let shared = shared_for_blocks(&function.info, blocks);
    if blocks_per_multiprocessor(&function.info, size, u64::from(shared)) < blocks {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    bytes.put(shared as usize)
}

fn potential_block_size(
    call: &Call,
    grid: Out<i32>,
    block: Out<i32>,
    function: CUfunction,
    dynamic: CUoccupancyB2DSize,
    shared: usize,
    limit: i32,
) -> Result<()> {
    potential_block_size_with_flags(call, grid, block, function, dynamic, shared, limit, 0)
}

#[expect(clippy::too_many_arguments, reason = "CUDA's own signature")]
fn potential_block_size_with_flags(
    call: &Call,
    grid: Out<i32>,
    block: Out<i32>,
    function: CUfunction,
    dynamic: CUoccupancyB2DSize,
    shared: usize,
    limit: i32,
    flags: u32,
) -> Result<()> {
    grid.check()?;
    block.check()?;
    if flags > 1 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let function = find(call, function)?;
    let limit = u32::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(1024);
    let most = limit.min(function.info.max_threads);
    let bytes = |size: u32| match dynamic {
        // SAFETY: the program's function, which takes a block size.
        Some(bytes) => unsafe { bytes(signed(size)) as u64 },
        None => shared as u64,
    };
    // The largest of the sizes with which the most threads are active.
    let sizes = (1..=most.div_ceil(32)).rev().map(|warps| (warps * 32).min(most));
    let may_have = u64::from(function.settings.max_dynamic());
    let counted = sizes.map(|size| (size, bytes(size))).filter(|(_, bytes)| *bytes <= may_have);
    let counted = counted.map(|(size, bytes)| (size, blocks_per_multiprocessor(&function.info, size, bytes)));
    let best = counted.fold(
        (0, 0),
        |best: (u32, u32), (size, blocks)| {
            if blocks * size > best.0 * best.1 { (size, blocks) } else { best }
        },
    );
    grid.put(signed(best.1 * MULTIPROCESSORS))?;
    block.put(signed(best.0))
}

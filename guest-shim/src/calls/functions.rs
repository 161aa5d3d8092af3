//! Functions, kernels and occupancy.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_char;

use virtio_spec::codec::Scalar;
use virtio_spec::cuda::{
    CUdevice, CUdevice_attribute, CUfunc_cache, CUfunction, CUfunction_attribute, CUfunctionLoadingState,
    CUkernel, CUlaunchConfig, CUmodule, CUoccupancyB2DSize, CUresult, CUsharedconfig,
};
use virtio_spec::handle::{Handle, Kind};
use virtio_spec::requests::opcode;

use super::{give, give_if_wanted};
use crate::code::function;
use crate::code::launch::{self, Order};
use crate::code::occupancy::{self, Shape};
use crate::context;
use crate::device::devices;
use crate::entry::status;
use crate::exports::functions::{
    wire_cuFuncGetAttribute, wire_cuFuncSetAttribute, wire_cuFuncSetCacheConfig,
    wire_cuFuncSetSharedMemConfig, wire_cuKernelGetAttribute, wire_cuKernelSetAttribute,
    wire_cuKernelSetCacheConfig, wire_cuOccupancyMaxActiveBlocksPerMultiprocessor,
    wire_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags,
};

/// # Safety
/// `place` is null, or valid for writing.
unsafe fn give_name(place: *mut *const c_char, handle: u64) -> CUresult {
    // SAFETY: as the caller promises. The name lives as long as the function.
    status(function::find(handle).and_then(|found| unsafe { give(place, found.name.as_ptr()) }))
}

pub(crate) unsafe fn cuKernelGetName(name: *mut *const c_char, function: CUkernel) -> CUresult {
    // SAFETY: the same contract.
    unsafe { give_name(name, function.0) }
}

pub(crate) unsafe fn cuFuncGetName(name: *mut *const c_char, function: CUfunction) -> CUresult {
    let found = function::find(function.0);
    // The function of a kernel has the kernel's name.
    let named = match found {
        Ok(found) if Handle::from_u64(found.parent).is_some_and(|parent| parent.kind == Kind::Kernel) => {
            found.parent
        }
        _ => function.0,
    };
    // SAFETY: the same contract.
    unsafe { give_name(name, named) }
}

pub(crate) unsafe fn cuFuncGetModule(module: *mut CUmodule, function: CUfunction) -> CUresult {
    let parent = function::find(function.0).and_then(|found| match Handle::from_u64(found.parent) {
        Some(Handle { kind: Kind::Module, .. }) => Ok(found.parent),
        Some(Handle { kind: Kind::Kernel, .. }) => {
            let library = function::find(found.parent)?.parent;
            super::modules::library_module(library)
        }
        Some(Handle { kind: Kind::Library, .. }) => super::modules::library_module(found.parent),
        _ => Err(CUresult::ERROR_INVALID_HANDLE),
    });
    // SAFETY: the application's place for a module.
    status(parent.and_then(|handle| unsafe { give(module, CUmodule(handle)) }))
}

/// # Safety
/// Both places are null, or valid for writing.
unsafe fn give_parameter(handle: u64, index: usize, offset: *mut usize, size: *mut usize) -> CUresult {
    let found = function::with_parameters(handle)
        .and_then(|found| found.parameters.get(index).copied().ok_or(CUresult::ERROR_INVALID_VALUE));
    status(found.and_then(|parameter| {
        // SAFETY: as the caller promises.
        unsafe { give(offset, parameter.offset as usize) }?;
        // SAFETY: as the caller promises.
        unsafe { give_if_wanted(size, parameter.size as usize) };
        Ok(())
    }))
}

pub(crate) unsafe fn cuFuncGetParamInfo(
    func: CUfunction,
    param_index: usize,
    param_offset: *mut usize,
    param_size: *mut usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { give_parameter(func.0, param_index, param_offset, param_size) }
}

pub(crate) unsafe fn cuKernelGetParamInfo(
    kernel: CUkernel,
    param_index: usize,
    param_offset: *mut usize,
    param_size: *mut usize,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { give_parameter(kernel.0, param_index, param_offset, param_size) }
}

pub(crate) unsafe fn cuFuncIsLoaded(state: *mut CUfunctionLoadingState, function: CUfunction) -> CUresult {
    // A function is loaded when it is looked up, because its parameters are asked for.
    let found = function::find(function.0);
    // SAFETY: the application's place for the state.
    status(found.and_then(|_| unsafe { give(state, CUfunctionLoadingState::LOADED) }))
}

pub(crate) unsafe fn cuFuncGetAttribute(
    value: *mut i32,
    attrib: CUfunction_attribute,
    function: CUfunction,
) -> CUresult {
    match function::find(function.0).map(|found| found.attribute(attrib.0)) {
        // SAFETY: the application's place for a number.
        Ok(Some(known)) => status(unsafe { give(value, known) }),
        Ok(None) => {
            // SAFETY: the same contract.
            let result = unsafe { wire_cuFuncGetAttribute(value, attrib, function) };
            // SAFETY: the call's own place for a number.
            unsafe { learn(function.0, attrib, result, value) };
            result
        }
        Err(error) => error,
    }
}

/// Notes an attribute that the device has just told.
///
/// # Safety
/// `value` was written if the result is success.
unsafe fn learn(handle: u64, attribute: CUfunction_attribute, result: CUresult, value: *const i32) {
    if let (CUresult::SUCCESS, Ok(found)) = (result, function::find(handle)) {
        // SAFETY: as the caller promises.
        found.attribute_is(attribute.0, unsafe { value.read() });
    }
}

/// A device as the worker numbers it.
fn host_device(device: CUdevice) -> Result<CUdevice, CUresult> {
    devices()?.host_ordinal(device).map(|ordinal| CUdevice::from_u64(u64::from(ordinal)))
}

pub(crate) unsafe fn cuKernelGetAttribute(
    value: *mut i32,
    attrib: CUfunction_attribute,
    kernel: CUkernel,
    device: CUdevice,
) -> CUresult {
    let host = match host_device(device) {
        Ok(host) => host,
        Err(error) => return error,
    };
    match function::find(kernel.0).map(|found| found.attribute(attrib.0)) {
        // The attributes that came with the kernel are those of device 0.
        // SAFETY: the application's place for a number.
        Ok(Some(known)) if host == CUdevice::default() => status(unsafe { give(value, known) }),
        Ok(_) => {
            // SAFETY: the same contract.
            let result = unsafe { wire_cuKernelGetAttribute(value, attrib, kernel, host) };
            if host == CUdevice::default() {
                // SAFETY: the call's own place for a number.
                unsafe { learn(kernel.0, attrib, result, value) };
            }
            result
        }
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuFuncSetAttribute(
    function: CUfunction,
    attrib: CUfunction_attribute,
    value: i32,
) -> CUresult {
    // Libraries set the same before each launch.
    if function::find(function.0).is_ok_and(|found| found.is_set_to(attrib.0, value)) {
        return CUresult::SUCCESS;
    }
    // SAFETY: no pointers.
    let result = unsafe { wire_cuFuncSetAttribute(function, attrib, value) };
    function::attribute_was_set(function.0, attrib.0, Some(value).filter(|_| result == CUresult::SUCCESS));
    result
}

pub(crate) unsafe fn cuKernelSetAttribute(
    attrib: CUfunction_attribute,
    val: i32,
    kernel: CUkernel,
    device: CUdevice,
) -> CUresult {
    let host = match host_device(device) {
        Ok(host) => host,
        Err(error) => return error,
    };
    let is_first = host == CUdevice::default();
    if is_first && function::find(kernel.0).is_ok_and(|found| found.is_set_to(attrib.0, val)) {
        return CUresult::SUCCESS;
    }
    // SAFETY: no pointers.
    let result = unsafe { wire_cuKernelSetAttribute(attrib, val, kernel, host) };
    let is_known = is_first && result == CUresult::SUCCESS;
    function::attribute_was_set(kernel.0, attrib.0, Some(val).filter(|_| is_known));
    result
}

pub(crate) unsafe fn cuKernelSetCacheConfig(
    kernel: CUkernel,
    config: CUfunc_cache,
    device: CUdevice,
) -> CUresult {
    match host_device(device) {
        // SAFETY: no pointers.
        Ok(host) => deciding(|| unsafe { wire_cuKernelSetCacheConfig(kernel, config, host) }),
        Err(error) => error,
    }
}

/// A call after which the device may decide otherwise about launches.
pub(super) fn deciding(call: impl FnOnce() -> CUresult) -> CUresult {
    let result = call();
    function::changed();
    result
}

pub(crate) unsafe fn cuFuncSetCacheConfig(function: CUfunction, config: CUfunc_cache) -> CUresult {
    // SAFETY: no pointers.
    deciding(|| unsafe { wire_cuFuncSetCacheConfig(function, config) })
}

pub(crate) unsafe fn cuFuncSetSharedMemConfig(function: CUfunction, config: CUsharedconfig) -> CUresult {
    // SAFETY: no pointers.
    deciding(|| unsafe { wire_cuFuncSetSharedMemConfig(function, config) })
}

/// # Safety
/// `place` is null, or valid for writing; so is what `ask` is given.
unsafe fn blocks(
    place: *mut i32,
    function: CUfunction,
    shape: Shape,
    ask: impl FnOnce(*mut i32) -> CUresult,
) -> CUresult {
    if place.is_null() {
        return ask(place);
    }
    let known = occupancy::blocks(function.0, shape, || {
        let mut blocks = 0;
        super::outcome(ask(&raw mut blocks)).map(|()| blocks)
    });
    // SAFETY: as the caller promises.
    status(known.and_then(|blocks| unsafe { give(place, blocks) }))
}

pub(crate) unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    num_blocks: *mut i32,
    func: CUfunction,
    block_size: i32,
    dynamic_smem_size: usize,
) -> CUresult {
    let shape = Shape { block: block_size, shared_bytes: dynamic_smem_size, flags: 0 };
    // SAFETY: the same contract, for the application's place and for one of this call.
    let ask = |place: *mut i32| unsafe {
        wire_cuOccupancyMaxActiveBlocksPerMultiprocessor(place, func, block_size, dynamic_smem_size)
    };
    // SAFETY: the application's place for a number.
    unsafe { blocks(num_blocks, func, shape, ask) }
}

pub(crate) unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    num_blocks: *mut i32,
    func: CUfunction,
    block_size: i32,
    dynamic_smem_size: usize,
    flags: u32,
) -> CUresult {
    let shape = Shape { block: block_size, shared_bytes: dynamic_smem_size, flags };
    // SAFETY: the same contract, for the application's place and for one of this call.
    let ask = |place: *mut i32| unsafe {
        wire_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
            place,
            func,
            block_size,
            dynamic_smem_size,
            flags,
        )
    };
    // SAFETY: the application's place for a number.
    unsafe { blocks(num_blocks, func, shape, ask) }
}

pub(crate) unsafe fn cuOccupancyMaxPotentialBlockSize(
    min_grid_size: *mut i32,
    block_size: *mut i32,
    func: CUfunction,
    block_size_to_dynamic_smem_size: CUoccupancyB2DSize,
    dynamic_smem_size: usize,
    block_size_limit: i32,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe {
        cuOccupancyMaxPotentialBlockSizeWithFlags(
            min_grid_size,
            block_size,
            func,
            block_size_to_dynamic_smem_size,
            dynamic_smem_size,
            block_size_limit,
            0,
        )
    }
}

pub(crate) unsafe fn cuOccupancyMaxPotentialBlockSizeWithFlags(
    min_grid_size: *mut i32,
    block_size: *mut i32,
    func: CUfunction,
    block_size_to_dynamic_smem_size: CUoccupancyB2DSize,
    dynamic_smem_size: usize,
    block_size_limit: i32,
    flags: u32,
) -> CUresult {
    if min_grid_size.is_null() || block_size.is_null() || block_size_limit < 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let shared = |size: i32| match block_size_to_dynamic_smem_size {
        // SAFETY: the application's function, which CUDA calls with block sizes.
        Some(of_block) => unsafe { of_block(size) },
        None => dynamic_smem_size,
    };
    let best = || -> Result<(i32, i32), CUresult> {
        let device = context::current_context()?.device;
        let all = devices()?;
        let get = |attribute: CUdevice_attribute| all.attribute(device, attribute.0);
        let warp = get(CUdevice_attribute::WARP_SIZE)?.max(1);
        let resident = get(CUdevice_attribute::MAX_THREADS_PER_MULTIPROCESSOR)?;
        let processors = get(CUdevice_attribute::MULTIPROCESSOR_COUNT)?;
        let mut most = get(CUdevice_attribute::MAX_THREADS_PER_BLOCK)?;
        let of_function = |attribute| {
            let mut value = 0;
            // SAFETY: a local place.
            super::outcome(unsafe { cuFuncGetAttribute(&raw mut value, attribute, func) }).map(|()| value)
        };
        most = most.min(of_function(CUfunction_attribute::MAX_THREADS_PER_BLOCK)?);
        let room = of_function(CUfunction_attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES)?;
        let room = usize::try_from(room).unwrap_or(0);
        if block_size_limit > 0 {
            most = most.min(block_size_limit);
        }
        let (mut best_threads, mut best_size, mut best_blocks) = (0, 0, 0);
        // Larger blocks first: of equal occupancies the largest block is the answer.
        let mut rounded = (most + warp - 1) / warp * warp;
        while rounded > 0 {
            let size = rounded.min(most);
            rounded -= warp;
            let dynamic = shared(size);
            // A block that could not be launched is no answer.
            if dynamic > room {
                continue;
            }
            let mut blocks = 0;
            // SAFETY: a local place.
            let asked = unsafe {
                cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
                    &raw mut blocks,
                    func,
                    size,
                    dynamic,
                    flags,
                )
            };
            super::outcome(asked)?;
            let threads = blocks.saturating_mul(size);
            if threads > best_threads {
                (best_threads, best_size, best_blocks) = (threads, size, blocks);
            }
            if threads >= resident {
                break;
            }
        }
        Ok((best_blocks.saturating_mul(processors), best_size))
    };
    status(best().map(|(grid, block)| {
        // SAFETY: not null; the application's place for a number.
        unsafe { min_grid_size.write(grid) };
        // SAFETY: not null; the application's place for a number.
        unsafe { block_size.write(block) };
    }))
}

/// # Safety
/// `place` and `config` are null or valid.
unsafe fn clusters(
    place: *mut i32,
    function: CUfunction,
    config: *const CUlaunchConfig,
    question: u32,
) -> CUresult {
    if place.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: as the caller promises.
    let order = unsafe { Order::of_config(config, function.0) };
    let count = order.and_then(|order| launch::clusters(&order, question));
    // SAFETY: as the caller promises.
    status(count.and_then(|count| unsafe { super::give(place, count) }))
}

pub(crate) unsafe fn cuOccupancyMaxActiveClusters(
    num_clusters: *mut i32,
    func: CUfunction,
    config: *const CUlaunchConfig,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { clusters(num_clusters, func, config, opcode::ACTIVE_CLUSTERS) }
}

pub(crate) unsafe fn cuOccupancyMaxPotentialClusterSize(
    cluster_size: *mut i32,
    func: CUfunction,
    config: *const CUlaunchConfig,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { clusters(cluster_size, func, config, opcode::CLUSTER_SIZE) }
}

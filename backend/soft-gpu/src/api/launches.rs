//! Launches, and functions of the program that streams call.
//!
//! Unsafe code: the program's parameters, attributes and functions.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::c_void;
use std::sync::Arc;

use virtio_spec::cuda::{
    CUevent, CUfunction, CUlaunchAttribute, CUlaunchAttributeID, CUlaunchConfig, CUresult, CUstream,
};

use super::entry::{Call, In, callback, exports};
use crate::driver::graph::Op;
use crate::driver::launch::{Shape, gather, launch, resolve};
use crate::driver::queue::Health;
use crate::driver::{Result, capture};

/// A function of the program for a stream.
type HostFunction = Option<unsafe extern "C" fn(*mut c_void)>;
/// A function of the program for a stream, with the stream and what came of its work.
type StreamCallback = Option<unsafe extern "C" fn(CUstream, CUresult, *mut c_void)>;

exports! {
    context cuLaunchKernel / cuLaunchKernel_ptsz (
        function: CUfunction, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32,
        shared: u32, stream: CUstream, params: *mut *mut c_void, extra: *mut *mut c_void,
    ) = kernel;
    context cuLaunchKernelEx / cuLaunchKernelEx_ptsz (
        config: *const CUlaunchConfig, function: CUfunction, params: *mut *mut c_void, extra: *mut *mut c_void,
    ) = kernel_ex;
    context cuLaunchCooperativeKernel / cuLaunchCooperativeKernel_ptsz (
        function: CUfunction, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32,
        shared: u32, stream: CUstream, params: *mut *mut c_void,
    ) = cooperative;
    context cuLaunchHostFunc / cuLaunchHostFunc_ptsz (
        stream: CUstream, function: HostFunction, data: *mut c_void,
    ) = host_function;
    context cuStreamAddCallback / cuStreamAddCallback_ptsz (
        stream: CUstream, function: StreamCallback, data: *mut c_void, flags: u32,
    ) = add_callback;
}

fn submit(
    call: &Call,
    function: CUfunction,
    shape: Shape,
    stream: CUstream,
    (params, extra): (*mut *mut c_void, *mut *mut c_void),
    event: Option<CUevent>,
) -> Result<()> {
    let driver = call.driver();
    let function = resolve(driver, &call.context, function.0)?;
    let (context, stream) = call.stream(stream)?;
    let event = event.map(|event| driver.events.get(event.0)).transpose()?;
    // SAFETY: the program gives this function's parameters as CUDA demands.
    let params = unsafe { gather(&function, params, extra) }?;
    let done = launch(&context, &stream, &function, shape, params)?;
    if let (Some(event), Some(done)) = (event, done) {
        event.record(done);
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "CUDA's own signature")]
fn kernel(
    call: &Call,
    function: CUfunction,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared: u32,
    stream: CUstream,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Result<()> {
    let shape = Shape {
        grid: [grid_x, grid_y, grid_z],
        block: [block_x, block_y, block_z],
        dynamic_shared: shared,
        cooperative: false,
    };
    submit(call, function, shape, stream, (params, extra), None)
}

#[expect(clippy::too_many_arguments, reason = "CUDA's own signature")]
fn cooperative(
    call: &Call,
    function: CUfunction,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared: u32,
    stream: CUstream,
    params: *mut *mut c_void,
) -> Result<()> {
    let shape = Shape {
        grid: [grid_x, grid_y, grid_z],
        block: [block_x, block_y, block_z],
        dynamic_shared: shared,
        cooperative: true,
    };
    submit(call, function, shape, stream, (params, std::ptr::null_mut()), None)
}

/// The 32-bit number at an index of an attribute's value.
fn number(attribute: &CUlaunchAttribute, index: usize) -> u32 {
    let long = attribute.value.get(index / 2).copied().unwrap_or(0).to_le_bytes();
    let [a, b, c, d, e, f, g, h] = long;
    u32::from_le_bytes(if index.is_multiple_of(2) { [a, b, c, d] } else { [e, f, g, h] })
}

/// The program's list of attributes.
fn attributes(config: &CUlaunchConfig) -> Result<&[CUlaunchAttribute]> {
    if config.numAttrs == 0 {
        return Ok(&[]);
    }
    if config.attrs.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program's list has `numAttrs` elements.
    Ok(unsafe { std::slice::from_raw_parts(config.attrs, config.numAttrs as usize) })
}

fn kernel_ex(
    call: &Call,
    config: In<CUlaunchConfig>,
    function: CUfunction,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Result<()> {
    let config = config.get()?;
    let mut shape = Shape {
        grid: [config.gridDimX, config.gridDimY, config.gridDimZ],
        block: [config.blockDimX, config.blockDimY, config.blockDimZ],
        dynamic_shared: config.sharedMemBytes,
        cooperative: false,
    };
    let mut event = None;
    for attribute in attributes(&config)? {
        match attribute.id {
            CUlaunchAttributeID::COOPERATIVE => shape.cooperative = number(attribute, 0) != 0,
            CUlaunchAttributeID::CLUSTER_DIMENSION | CUlaunchAttributeID::PREFERRED_CLUSTER_DIMENSION => {
                let sizes = [0, 1, 2].map(|index| number(attribute, index));
                if sizes.contains(&0) {
                    return Err(CUresult::ERROR_INVALID_VALUE);
                }
                if sizes != [1; 3] {
                    return Err(CUresult::ERROR_NOT_SUPPORTED);
                }
            }
            // Recorded at the kernel's end: later than it may be, never too early.
            CUlaunchAttributeID::PROGRAMMATIC_EVENT | CUlaunchAttributeID::LAUNCH_COMPLETION_EVENT => {
                event = attribute.value.first().map(|handle| CUevent(*handle));
            }
            CUlaunchAttributeID::DEVICE_UPDATABLE_KERNEL_NODE => {
                if number(attribute, 0) != 0 {
                    return Err(CUresult::ERROR_NOT_SUPPORTED);
                }
            }
            // Hints about speed.
            CUlaunchAttributeID::IGNORE
            | CUlaunchAttributeID::ACCESS_POLICY_WINDOW
            | CUlaunchAttributeID::SYNCHRONIZATION_POLICY
            | CUlaunchAttributeID::CLUSTER_SCHEDULING_POLICY_PREFERENCE
            | CUlaunchAttributeID::PROGRAMMATIC_STREAM_SERIALIZATION
            | CUlaunchAttributeID::PRIORITY
            | CUlaunchAttributeID::MEM_SYNC_DOMAIN_MAP
            | CUlaunchAttributeID::MEM_SYNC_DOMAIN
            | CUlaunchAttributeID::PREFERRED_SHARED_MEMORY_CARVEOUT
            | CUlaunchAttributeID::NVLINK_UTIL_CENTRIC_SCHEDULING => {}
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        }
    }
    submit(call, function, shape, config.hStream, (params, extra), event)
}

/// A pointer of the program that only its own function looks behind.
struct Opaque(*mut c_void);

// SAFETY: the driver only hands the pointer back; what it leads to is the program's matter.
unsafe impl Send for Opaque {}

/// A function of the program as a node of a graph.
pub(super) fn host_node(function: HostFunction, data: *mut c_void) -> Op {
    let data = data.expose_provenance();
    let replay = Arc::new(move |_: &Health| {
        if let Some(function) = function {
            // SAFETY: the program's function, with what it is to be told.
            callback(|| unsafe { function(std::ptr::with_exposed_provenance_mut(data)) });
        }
        Ok(())
    });
    Op::Host { function, data, replay }
}

fn host_function(call: &Call, stream: CUstream, function: HostFunction, data: *mut c_void) -> Result<()> {
    let function = function.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let (context, stream) = call.stream(stream)?;
    if capture::add(call.driver(), &stream, || Ok(host_node(Some(function), data)))? {
        return Ok(());
    }
    let data = Opaque(data);
    context.submit(&stream, Vec::new(), move |health: &Health| {
        let data = data;
        if health.check().is_ok() {
            // SAFETY: the program's function, with what it is to be told.
            callback(|| unsafe { function(data.0) });
        }
        Ok(())
    })?;
    Ok(())
}

fn add_callback(
    call: &Call,
    handle: CUstream,
    function: StreamCallback,
    data: *mut c_void,
    flags: u32,
) -> Result<()> {
    let function = function.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    if flags != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let (context, stream) = call.stream(handle)?;
    capture::refuse(&stream)?;
    let data = Opaque(data);
    context.submit(&stream, Vec::new(), move |health: &Health| {
        let data = data;
        let status = health.check().err().unwrap_or(CUresult::SUCCESS);
        // SAFETY: the program's function, with what it is to be told.
        callback(|| unsafe { function(handle, status, data.0) });
        Ok(())
    })?;
    Ok(())
}

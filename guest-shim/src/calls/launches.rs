//! Launches.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::c_void;
use std::sync::OnceLock;

use virtio_spec::cuda::{CUfunction, CUhostFn, CUlaunchConfig, CUresult, CUstream, CUstreamCallback};
use virtio_spec::graph_requests::{HostFunction, opcode};
use virtio_spec::requests::launch_flags;

use crate::code::launch::{self, Order};
use crate::context;
use crate::entry::{Flavour, status};
use crate::exports::streams::wire_cuStreamSynchronize;
use crate::graph::host_calls::{self, Life};
use crate::graph::{capture, request};
use crate::memory::copy::is_stream;

/// Whether each launch is waited for, as a program that is debugged may ask.
fn is_blocking() -> bool {
    static BLOCKING: OnceLock<bool> = OnceLock::new();
    *BLOCKING.get_or_init(|| std::env::var("CUDA_LAUNCH_BLOCKING").is_ok_and(|value| value.trim() == "1"))
}

/// # Safety
/// As CUDA's documentation says of a launch's parameters.
unsafe fn run(
    order: Order,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
    flavour: Flavour,
) -> CUresult {
    let stream = CUstream(order.stream);
    // SAFETY: as the caller promises.
    let launched = status(unsafe { launch::launch(order, parameters, extra) });
    if launched == CUresult::SUCCESS && is_blocking() {
        // SAFETY: no pointers.
        return unsafe { wire_cuStreamSynchronize(stream, flavour) };
    }
    launched
}

pub(crate) unsafe fn cuLaunchKernel(
    f: CUfunction,
    grid_dim_x: u32,
    grid_dim_y: u32,
    grid_dim_z: u32,
    block_dim_x: u32,
    block_dim_y: u32,
    block_dim_z: u32,
    shared_mem_bytes: u32,
    stream: CUstream,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
    flavour: Flavour,
) -> CUresult {
    let order = Order {
        function: f.0,
        grid: [grid_dim_x, grid_dim_y, grid_dim_z],
        block: [block_dim_x, block_dim_y, block_dim_z],
        shared_bytes: shared_mem_bytes,
        stream: flavour.stream(stream),
        flags: 0,
        attributes: Vec::new(),
    };
    // SAFETY: the same contract.
    unsafe { run(order, kernel_params, extra, flavour) }
}

pub(crate) unsafe fn cuLaunchKernelEx(
    config: *const CUlaunchConfig,
    f: CUfunction,
    kernel_params: *mut *mut c_void,
    extra: *mut *mut c_void,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the application's structure.
    match unsafe { Order::of_config(config, f.0) } {
        Ok(mut order) => {
            order.stream = flavour.stream(CUstream(order.stream));
            // SAFETY: the same contract.
            unsafe { run(order, kernel_params, extra, flavour) }
        }
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuLaunchCooperativeKernel(
    f: CUfunction,
    grid_dim_x: u32,
    grid_dim_y: u32,
    grid_dim_z: u32,
    block_dim_x: u32,
    block_dim_y: u32,
    block_dim_z: u32,
    shared_mem_bytes: u32,
    stream: CUstream,
    kernel_params: *mut *mut c_void,
    flavour: Flavour,
) -> CUresult {
    let order = Order {
        function: f.0,
        grid: [grid_dim_x, grid_dim_y, grid_dim_z],
        block: [block_dim_x, block_dim_y, block_dim_z],
        shared_bytes: shared_mem_bytes,
        stream: flavour.stream(stream),
        flags: launch_flags::COOPERATIVE,
        attributes: Vec::new(),
    };
    // SAFETY: the same contract.
    unsafe { run(order, kernel_params, std::ptr::null_mut(), flavour) }
}

/// Has a stream run a function of the program.
fn host_function(number: Result<u64, CUresult>, stream: u64, callback: bool, flags: u32) -> CUresult {
    let send = |number| {
        context::required()?;
        let mut request = request(opcode::HOST_FUNCTION)?.with_room(0);
        request.structure(&HostFunction { stream, number, callback: u32::from(callback), flags });
        if is_stream(stream) && flags == 0 { request.post() } else { request.answer().map(|_| ()) }
    };
    let run = || {
        let number = number?;
        let sent = send(number);
        if sent.is_err() {
            host_calls::forget(number);
        }
        sent
    };
    status(run())
}

pub(crate) unsafe fn cuLaunchHostFunc(
    stream: CUstream,
    function: CUhostFn,
    data: *mut c_void,
    flavour: Flavour,
) -> CUresult {
    let stream = flavour.stream(stream);
    let number = host_calls::host_function(function, data, Life::Once);
    let result = host_function(number, stream, false, 0);
    // In a capture the device tells when the graph is gone.
    if result == CUresult::SUCCESS
        && capture::took(stream)
        && let Ok(number) = number
    {
        host_calls::is_captured(number);
    }
    result
}

pub(crate) unsafe fn cuStreamAddCallback(
    stream: CUstream,
    callback: CUstreamCallback,
    data: *mut c_void,
    flags: u32,
    flavour: Flavour,
) -> CUresult {
    let number = host_calls::callback(callback, stream, data);
    host_function(number, flavour.stream(stream), true, flags)
}

//! A client that others wrote: the crate cudarc, through its safe interface.
//!
//! It looks for `libcuda.so` before `libcuda.so.1`, so its programs run with a folder in front of the
//! loader's path in which both names are the library under test.
//!
//! This file has unsafe code: it launches kernels by the crate's unsafe interface.

use std::sync::Arc;

use anyhow::{Result, ensure};
use cudarc::driver::{CudaContext, CudaFunction, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

use crate::driver::driver;
use crate::outcome::{CaseResult, pass};
use crate::probe::{Probe, command, watch};
use crate::registry::area;
use crate::runner::{links_to, search_path};

use super::kernels;

area!("client":
    a_device_is_described,
    copies_go_out_and_come_back,
    a_kernel_is_loaded_and_launched,
    streams_fork_and_join,
    events_measure,
    errors_are_told,
);

/// The helper programs of this area.
pub(crate) const PROBES: &[Probe] = &[
    Probe { name: "client-describe", body: describe },
    Probe { name: "client-copies", body: copies },
    Probe { name: "client-launch", body: launch },
    Probe { name: "client-streams", body: streams },
    Probe { name: "client-events", body: events },
    Probe { name: "client-errors", body: errors },
];

/// Runs one of the programs with the library under its two names.
fn run(probe: &str) -> CaseResult {
    let links = links_to(&driver()?.path()?)?;
    let mut command = command(probe, &[])?;
    command.env("LD_LIBRARY_PATH", search_path(links.path()));
    let told = watch(command)?.text()?;
    ensure!(told == "well", "the program says {told:?}");
    pass()
}

fn well() -> Result<String> {
    Ok("well".to_owned())
}

fn a_device_is_described() -> CaseResult {
    run("client-describe")
}

fn describe(_arguments: &[String]) -> Result<String> {
    let count = CudaContext::device_count()?;
    ensure!(count >= 1, "{count} devices");
    let context = CudaContext::new(0)?;
    ensure!(!context.name()?.is_empty(), "the device has no name");
    ensure!(context.ordinal() == 0, "the ordinal is {}", context.ordinal());
    let (major, _) = context.compute_capability()?;
    ensure!(major >= 5, "the compute capability is {major}");
    ensure!(context.uuid()?.bytes != [0; 16], "the UUID is all zeros");
    let (free, total) = context.mem_get_info()?;
    ensure!(free <= total && total > 0, "{free} of {total} bytes are free");
    well()
}

fn copies_go_out_and_come_back() -> CaseResult {
    run("client-copies")
}

fn copies(_arguments: &[String]) -> Result<String> {
    let context = CudaContext::new(0)?;
    let stream = context.default_stream();
    let source: Vec<f64> = (0..10_000).map(|index| f64::from(index) * 0.5).collect();
    let device = stream.clone_htod(&source)?;
    let second = stream.clone_dtod(&device)?;
    ensure!(stream.clone_dtoh(&second)? == source, "the values changed on the way");
    let zeros = stream.alloc_zeros::<u32>(1000)?;
    ensure!(stream.clone_dtoh(&zeros)? == vec![0; 1000], "fresh memory is not zero");
    let part = stream.clone_dtoh(&device.slice(10..20))?;
    ensure!(part == source[10..20], "a slice came back as {part:?}");
    well()
}

/// The context and one function of the basic kernels.
fn function(name: &str) -> Result<(Arc<CudaContext>, CudaFunction)> {
    let context = CudaContext::new(0)?;
    let module = context.load_module(Ptx::from_src(kernels::BASIC))?;
    Ok((context, module.load_function(name)?))
}

fn a_kernel_is_loaded_and_launched() -> CaseResult {
    run("client-launch")
}

fn launch(_arguments: &[String]) -> Result<String> {
    let (context, saxpy) = function("saxpy")?;
    let stream = context.default_stream();
    let count = 5000u16;
    let x: Vec<f32> = (0..count).map(f32::from).collect();
    let y: Vec<f32> = (0..count).map(|index| f32::from(index) * -0.25).collect();
    let (a, n) = (1.5f32, u32::from(count));
    let (dx, dy) = (stream.clone_htod(&x)?, stream.clone_htod(&y)?);
    let mut out = stream.alloc_zeros::<f32>(usize::from(count))?;
    let mut builder = stream.launch_builder(&saxpy);
    builder.arg(&a).arg(&dx).arg(&dy).arg(&mut out).arg(&n);
    // SAFETY: the arguments are those of the kernel, and the buffers have n elements.
    unsafe { builder.launch(LaunchConfig::for_num_elems(n)) }?;
    let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| a.mul_add(*x, *y)).collect();
    ensure!(stream.clone_dtoh(&out)? == expected, "the sums are wrong");
    well()
}

fn streams_fork_and_join() -> CaseResult {
    run("client-streams")
}

fn streams(_arguments: &[String]) -> Result<String> {
    let (context, step) = function("step")?;
    let main = context.default_stream();
    let mut cell = main.clone_htod(&[1u32])?;
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    let mut expected = 1u32;
    for round in 0..10u32 {
        let side = main.fork()?;
        let (multiply, add) = (3u32, round);
        for stream in [&side, &main] {
            if Arc::ptr_eq(stream, &main) {
                main.join(&side)?;
            }
            let mut builder = stream.launch_builder(&step);
            builder.arg(&mut cell).arg(&multiply).arg(&add);
            // SAFETY: the arguments are those of the kernel, which one thread runs.
            unsafe { builder.launch(config) }?;
            expected = expected.wrapping_mul(3).wrapping_add(round);
        }
    }
    ensure!(main.clone_dtoh(&cell)? == [expected], "the streams overtook one another");
    well()
}

fn events_measure() -> CaseResult {
    run("client-events")
}

fn events(_arguments: &[String]) -> Result<String> {
    let context = CudaContext::new(0)?;
    let stream = context.new_stream()?;
    let flags = Some(cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT);
    let start = stream.record_event(flags)?;
    let _memory = stream.alloc_zeros::<u8>(1 << 20)?;
    let end = stream.record_event(flags)?;
    end.synchronize()?;
    let time = start.elapsed_ms(&end)?;
    ensure!((0.0..10_000.0).contains(&time), "{time} ms");
    well()
}

fn errors_are_told() -> CaseResult {
    run("client-errors")
}

fn errors(_arguments: &[String]) -> Result<String> {
    let context = CudaContext::new(0)?;
    let Err(error) = context.load_module(Ptx::from_src("this is no PTX")) else {
        anyhow::bail!("nonsense was loaded");
    };
    ensure!(error.to_string().contains("CUDA_ERROR"), "the error is {error}");
    let module = context.load_module(Ptx::from_src(kernels::BASIC))?;
    let Err(error) = module.load_function("no_such_kernel") else {
        anyhow::bail!("a missing function was found");
    };
    ensure!(error.to_string().contains("CUDA_ERROR_NOT_FOUND"), "the error is {error}");
    well()
}

//! One process of several that [`crate::compare`] starts: it does one small program, and then what it is told.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libcuda::gpu::{Gpu, host};
use serde::{Deserialize, Serialize};

use crate::kernels::Kernels;
use crate::process::monotonic;
use crate::series::print_line;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[arg(long)]
    library: PathBuf,
    /// Read commands after the first kernel
    #[arg(long)]
    obey: bool,
}

/// What a process says when its first kernel is done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    /// The moment, on the clock that all processes share.
    pub(crate) done: u64,
    /// The device's name.
    pub(crate) device: String,
    /// The driver's version, as 1000 × major + 10 × minor of CUDA.
    pub(crate) cuda: i32,
    /// The library's file, behind all links.
    pub(crate) library: PathBuf,
}

/// What a process has done of a command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Launches, or bytes.
    pub(crate) amount: f64,
    /// The moment of its begin, on the clock that all processes share.
    pub(crate) begin: u64,
    /// The moment of its end.
    pub(crate) end: u64,
}

/// What a process can be told: launch kernels, or copy to the device from pinned memory, for so many milliseconds; or make
/// copies that are answered at once, after some waits that take longer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Launch { milliseconds: u64 },
    Copy { milliseconds: u64 },
    Answers { copies: u32 },
}

/// Launches between two looks at the clock.
const LAUNCHES: usize = 500;
/// Launches that are waited for, one by one, before the answers: with the driver in software each takes longer than a client
/// spins, so that it has given up spinning then.
const LONG_WAITS: u32 = 20;
/// Bytes of one copy.
const COPY: usize = 16 << 20;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (gpu, kernels) = first_kernel(&arguments.library)?;
    let done = monotonic();
    kernels.check()?;
    let library = gpu.cu.path()?;
    let library = library.canonicalize().unwrap_or(library);
    print_line(&Started { done, device: device_name(gpu)?, cuda: libcuda::gpu::version()?, library })?;
    if !arguments.obey {
        return Ok(());
    }
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line.context("standard input")?).context("an order")?;
        let done = match order {
            Order::Launch { milliseconds } => launch(gpu, &kernels, Duration::from_millis(milliseconds))?,
            Order::Copy { milliseconds } => copy(gpu, Duration::from_millis(milliseconds))?,
            Order::Answers { copies } => answers(gpu, &kernels, copies)?,
        };
        print_line(&done)?;
    }
    Ok(())
}

/// Driver, context, module, one launch, and its end.
fn first_kernel(library: &Path) -> Result<(Gpu, Kernels)> {
    libcuda::driver_at(library)?;
    let gpu = Gpu::new()?;
    let kernels = Kernels::load(gpu)?;
    kernels.count(0)?;
    gpu.cu.cuStreamSynchronize(0).ok()?;
    Ok((gpu, kernels))
}

fn device_name(gpu: Gpu) -> Result<String> {
    let mut name = [0; 256];
    gpu.cu.cuDeviceGetName(name.as_mut_ptr(), 256, gpu.device).ok()?;
    libcuda::text(name.as_ptr()).context("the device's name")
}

fn launch(gpu: Gpu, kernels: &Kernels, time: Duration) -> Result<Done> {
    let stream = gpu.stream(1)?;
    let (begin, start) = (monotonic(), Instant::now());
    let mut launches = 0;
    while start.elapsed() < time {
        for _ in 0..LAUNCHES {
            kernels.count(stream)?;
        }
        launches += LAUNCHES;
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    let end = monotonic();
    kernels.check()?;
    gpu.cu.cuStreamDestroy_v2(stream).ok()?;
    Ok(Done { amount: launches as f64, begin, end })
}

fn answers(gpu: Gpu, kernels: &Kernels, copies: u32) -> Result<Done> {
    let stream = gpu.stream(1)?;
    let place = gpu.alloc(4)?;
    let begin = monotonic();
    for _ in 0..LONG_WAITS {
        kernels.count(stream)?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
    }
    for number in 0..copies {
        gpu.cu.cuMemcpyHtoD_v2(place, (&raw const number).cast(), 4).ok()?;
    }
    let end = monotonic();
    kernels.check()?;
    ensure!(gpu.read::<u32>(place, 1)? == [copies.saturating_sub(1)], "what was copied last is not there");
    gpu.cu.cuMemFree_v2(place).ok()?;
    gpu.cu.cuStreamDestroy_v2(stream).ok()?;
    Ok(Done { amount: f64::from(copies), begin, end })
}

fn copy(gpu: Gpu, time: Duration) -> Result<Done> {
    let device = gpu.alloc(COPY)?;
    let pointer = gpu.pinned(COPY, 0)?;
    let words = host(pointer.cast::<u32>(), COPY / 4);
    words.iter_mut().zip(1..).for_each(|(word, number)| *word = number);
    let (begin, start) = (monotonic(), Instant::now());
    let mut copies = 0_usize;
    while start.elapsed() < time {
        gpu.cu.cuMemcpyHtoD_v2(device, pointer.cast(), COPY).ok()?;
        copies += 1;
    }
    let end = monotonic();
    ensure!(copies > 0, "no copy in {} ms", time.as_millis());
    if gpu.read::<u32>(device, COPY / 4)? != words {
        bail!("what was copied is not there");
    }
    gpu.cu.cuMemFree_v2(device).ok()?;
    gpu.cu.cuMemFreeHost(pointer.cast()).ok()?;
    Ok(Done { amount: (copies * COPY) as f64, begin, end })
}

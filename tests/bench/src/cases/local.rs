//! Calls that ask for what a client knows already: through the device they must be answered where they are asked.

use anyhow::{Result, ensure};

use super::{Bench, Case};
use crate::series::Series;

pub(super) const CASES: &[Case] = &[Case {
    name: "local",
    what: "questions that need nobody else: current context, its device, attributes of device, function and stream",
    body: questions,
}];

/// Calls in one sample: each takes some nanoseconds.
const BATCH: usize = 1000;
const SAMPLES: usize = 200;

/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`.
const MULTIPROCESSORS: i32 = 16;
/// `CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK`.
const THREADS_PER_BLOCK: i32 = 0;

fn questions(bench: &Bench) -> Result<Vec<Series>> {
    let (cu, gpu) = (bench.gpu.cu, bench.gpu);
    let mut context = 0;
    let current =
        bench.calls("local/cuCtxGetCurrent", SAMPLES, BATCH, || cu.cuCtxGetCurrent(&mut context).ok())?;
    ensure!(context == gpu.context, "another context is current");
    let mut device = -1;
    let device_of =
        bench.calls("local/cuCtxGetDevice", SAMPLES, BATCH, || cu.cuCtxGetDevice(&mut device).ok())?;
    ensure!(device == gpu.device, "another device is current");
    let mut count = 0;
    let attribute = bench.calls("local/cuDeviceGetAttribute", SAMPLES, BATCH, || {
        cu.cuDeviceGetAttribute(&mut count, MULTIPROCESSORS, gpu.device).ok()
    })?;
    ensure!(count > 0, "{count} multiprocessors");
    let mut threads = 0;
    let function = bench.calls("local/cuFuncGetAttribute", SAMPLES, BATCH, || {
        cu.cuFuncGetAttribute(&mut threads, THREADS_PER_BLOCK, bench.kernels.count).ok()
    })?;
    ensure!(threads > 0, "{threads} threads per block");
    let stream = gpu.stream(1)?;
    let mut flags = 0;
    let stream_flags = bench
        .calls("local/cuStreamGetFlags", SAMPLES, BATCH, || cu.cuStreamGetFlags(stream, &mut flags).ok())?;
    ensure!(flags == 1, "a stream's flags are {flags}");
    cu.cuStreamDestroy_v2(stream).ok()?;
    Ok(vec![current, device_of, attribute, function, stream_flags])
}

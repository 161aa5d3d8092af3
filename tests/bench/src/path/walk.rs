//! The process that is counted: it makes each call of [`super::PATHS`] so often that what first calls do is done, says that it is
//! ready, and then makes it between marks.
//!
//! This file has unsafe code: the marks are instructions that stop the process for its tracer.

use std::arch::asm;

use anyhow::Result;
use libcuda::gpu::Gpu;

use super::{Kind, PATHS, WalkArguments};
use crate::kernels::Kernels;

/// Calls before those that are counted: as many as the lane's rings have places, so that all have been gone through.
const FIRST_CALLS: usize = 300;

/// Stops for the tracer, which goes on behind this instruction.
#[inline(always)]
fn mark() {
    // SAFETY: it changes nothing; its signal is the tracer's, without which this process is not started.
    unsafe { asm!("int3", options(nomem, nostack)) };
}

pub(crate) fn run(arguments: &WalkArguments) -> Result<()> {
    libcuda::driver_at(&arguments.library)?;
    let gpu = Gpu::new()?;
    let kernels = Kernels::load(gpu)?;
    let (cu, stream) = (gpu.cu, gpu.stream(1)?);
    let pointer = gpu.alloc(4)?;
    let (mut word, mut address, mut context, mut threads) = (7_u32, 0, 0, 0);
    let word: *mut u32 = &raw mut word;
    let synchronize = || cu.cuStreamSynchronize(stream).ok();

    let mut launch = || kernels.count(stream);
    let mut launch_and_wait = || kernels.count(stream).and_then(|()| synchronize());
    let mut to_device = || cu.cuMemcpyHtoD_v2(pointer, word.cast(), 4).ok();
    let mut to_host = || cu.cuMemcpyDtoH_v2(word.cast(), pointer, 4).ok();
    let mut allocate = || {
        cu.cuMemAlloc_v2(&mut address, 4096).ok()?;
        cu.cuMemFree_v2(address).ok()
    };
    let mut current = || cu.cuCtxGetCurrent(&mut context).ok();
    let mut attribute = || cu.cuFuncGetAttribute(&mut threads, 0, kernels.count).ok();
    let calls: [&mut dyn FnMut() -> Result<()>; PATHS.len()] = [
        &mut launch,
        &mut launch_and_wait,
        &mut to_device,
        &mut to_host,
        &mut allocate,
        &mut current,
        &mut attribute,
    ];

    for (path, call) in PATHS.iter().zip(calls) {
        for _ in 0..FIRST_CALLS {
            call()?;
            // A posted call leaves the lane full behind it otherwise.
            if path.kind == Kind::Posted {
                synchronize()?;
            }
        }
        mark();
        if path.kind == Kind::Posted {
            // The one that kicks the worker, which is held.
            call()?;
        }
        for _ in 0..path.kind.calls() {
            mark();
            let result = call();
            mark();
            result?;
        }
    }
    kernels.check()
}

//! A kernel that waits for the host: how cases keep a stream busy without a sleep.
//!
//! This file has unsafe code: host and device share an atomic word.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use crate::driver::Handle;
use crate::gpu::{Gpu, arguments, shape};
use crate::runner::slow_factor;

use super::kernels;

/// Nanoseconds after which a waiting kernel gives up: the case has failed by then.
const PATIENCE: u64 = 10_000_000_000;

/// A kernel that keeps its stream busy until the host lets it go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate {
    function: Handle,
    /// The flag's address: pinned memory that both sides know by one number.
    flag: u64,
    /// Where the kernel stores what it saw of the flag.
    pub(crate) seen: u64,
}

impl Gate {
    /// A closed gate.
    pub(crate) fn new(gpu: &Gpu) -> Result<Self> {
        let function = gpu.kernel(kernels::LAUNCH, "wait_for_flag")?;
        // The first launch may load code, which may wait for other work: not while a case watches.
        let flag = u64::try_from(gpu.pinned(4096, 2)?.expose_provenance())?;
        let gate = Self { function, flag, seen: gpu.upload(&[77u32])? };
        gate.open()?;
        gate.launch(gpu, 0)?;
        gpu.cu.cuCtxSynchronize().ok()?;
        gate.store(0)?;
        gpu.write(gate.seen, &[77u32])?;
        Ok(gate)
    }

    fn store(&self, value: u32) -> Result<()> {
        let flag = std::ptr::with_exposed_provenance_mut(usize::try_from(self.flag)?);
        // SAFETY: the flag is pinned memory of the case, aligned, and only accessed as an atomic.
        let flag = unsafe { AtomicU32::from_ptr(flag) };
        flag.store(value, Ordering::SeqCst);
        Ok(())
    }

    /// Makes the stream wait at the gate.
    pub(crate) fn launch(&self, gpu: &Gpu, stream: Handle) -> Result<()> {
        let patience = PATIENCE * u64::from(slow_factor());
        gpu.launch_on(stream, self.function, shape(1, 1), arguments![self.flag, self.seen, patience]).ok()
    }

    /// Lets all waiting streams go on.
    pub(crate) fn open(&self) -> Result<()> {
        self.store(1)
    }

    /// Checks that the kernel saw the gate open, rather than losing its patience.
    pub(crate) fn check(&self, gpu: &Gpu) -> Result<()> {
        let seen = gpu.read::<u32>(self.seen, 1)?;
        ensure!(seen == [1], "the kernel at the gate saw {seen:?}");
        Ok(())
    }
}

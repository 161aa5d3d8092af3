//! The kernels that are launched, of one thread each: what is measured is the way to them.

use std::cell::Cell;
use std::ffi::c_void;

use anyhow::{Result, ensure};
use libcuda::gpu::Gpu;
use libcuda::{Code, Handle};

/// A counter on the device and the kernels that go with it.
#[derive(Debug)]
pub(crate) struct Kernels {
    gpu: Gpu,
    /// The kernel that counts.
    pub(crate) count: Handle,
    nothing: Handle,
    counter: u64,
    launched: Cell<u32>,
}

impl Kernels {
    /// Loads them, with a counter at zero.
    pub(crate) fn load(gpu: Gpu) -> Result<Self> {
        let module = gpu.module(include_str!("kernels.ptx"))?;
        Ok(Self {
            gpu,
            count: gpu.function(module, "count")?,
            nothing: gpu.function(module, "nothing")?,
            counter: gpu.upload(&[0_u32])?,
            launched: Cell::new(0),
        })
    }

    /// Launches the kernel that counts.
    pub(crate) fn count(&self, stream: Handle) -> Result<()> {
        let mut counter = self.counter;
        let mut parameters = [(&raw mut counter).cast::<c_void>()];
        self.note(1);
        self.launch(self.count, stream, parameters.as_mut_ptr()).ok()
    }

    /// Launches the kernel that does nothing.
    pub(crate) fn nothing(&self, stream: Handle) -> Result<()> {
        self.launch(self.nothing, stream, std::ptr::null_mut()).ok()
    }

    /// Notes that so many kernels that count will run, other than by [`Kernels::count`]; negative to take some back.
    pub(crate) fn note(&self, more: i32) {
        self.launched.set(self.launched.get().wrapping_add_signed(more));
    }

    /// Waits for everything and checks that each kernel that counts has run once.
    pub(crate) fn check(&self) -> Result<()> {
        self.gpu.cu.cuCtxSynchronize().ok()?;
        let counted = self.gpu.read::<u32>(self.counter, 1)?;
        let launched = self.launched.get();
        ensure!(counted == [launched], "{launched} kernels were launched, and {counted:?} have counted");
        Ok(())
    }

    /// Takes the counter as it is, after a failure.
    pub(crate) fn start_over(&self) -> Result<()> {
        self.gpu.cu.cuCtxSynchronize().ok()?;
        let counted = self.gpu.read::<u32>(self.counter, 1)?;
        self.launched.set(counted.first().copied().unwrap_or_default());
        Ok(())
    }

    fn launch(&self, function: Handle, stream: Handle, parameters: *mut *mut c_void) -> Code {
        let none = std::ptr::null_mut();
        self.gpu.cu.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, none)
    }
}

//! Runs linked PTX on the CPU.
//!
//! A *launch* is shared out to worker threads block by block, in block index order. A *block* has
//! its shared memory and its warps; a *warp* is a resumable state of 32 lanes with a program counter
//! each, so that it can be left at a barrier, in a spin loop or after an instruction quantum, and be
//! taken up again. Read in this order: `image`, `launch`, `block`, `warp`, `step`, `memory`, `alu`.
//!
//! Unsafe code is in `access` and `memory` (device memory), and in `alu::float` (processor features).

mod access;
pub(crate) mod alu;
mod atomic;
mod block;
mod call;
mod collective;
mod fault;
mod image;
mod launch;
mod memory;
mod printf;
mod step;
mod texture;
pub(crate) mod view;
mod warp;

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use fault::{Fault, FaultKind};
pub use image::Image;
pub use view::View;

/// A live stretch of device memory: addresses `start .. start + length`, which lie at `host`.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// First device address.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Where the first byte is in this process.
    pub host: NonNull<u8>,
    /// Kernels may write it.
    pub writable: bool,
}

// SAFETY: an extent is plain data; the memory behind it is only touched by atomic accesses.
unsafe impl Send for Extent {}
// SAFETY: as above.
unsafe impl Sync for Extent {}

/// What a kernel needs of the device around it. The driver layer implements it.
///
/// # Safety
/// [`Device::lookup`] must only return extents that are mapped (readable, and writable where they say
/// so), and they must stay mapped until [`run`] returns: workers remember extents for the whole
/// launch. Their memory may be accessed by other threads at any time.
pub unsafe trait Device: Sync {
    /// The live allocation that contains `address`, or `None`: then the access is an illegal address.
    fn lookup(&self, address: u64) -> Option<Extent>;

    /// `printf` output of a kernel, formatted.
    fn print(&self, text: &[u8]);

    /// `malloc` in a kernel: the address of `size` bytes aligned to 16, or 0. [`Device::lookup`] must know it.
    fn malloc(&self, size: u64) -> u64;

    /// `free` in a kernel of what [`Device::malloc`] returned; false if it did not return `address`.
    fn free(&self, address: u64) -> bool;

    /// The texture or surface of a number, if there is one. Its memory is what [`Device::lookup`] says of its addresses.
    fn view(&self, object: u64) -> Option<Arc<View>>;
}

/// Ends a running launch from another thread.
#[derive(Debug, Default)]
pub struct CancelToken(AtomicBool);

impl CancelToken {
    /// A token that nobody has cancelled.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Makes the launch end soon, with [`FaultKind::Cancelled`].
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`CancelToken::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bounds on one launch.
#[derive(Clone, Copy, Debug)]
pub struct LaunchLimits {
    /// Warp instructions of the whole grid before it is stopped with [`FaultKind::Timeout`].
    pub steps: u64,
    /// Bytes of local memory (stack) of one thread.
    pub stack_bytes: u32,
    /// Worker threads; 0 means one per available CPU core.
    pub workers: usize,
}

impl Default for LaunchLimits {
    fn default() -> Self {
        Self { steps: 1 << 40, stack_bytes: 512 << 10, workers: 0 }
    }
}

/// One kernel launch. The caller has checked it against the function's attributes and the device's
/// limits; [`run`] checks again what it needs for its own safety.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Index of the kernel in [`crate::ptx::Module::functions`] of the image's module.
    pub entry: usize,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z; at most 1,024 together.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// Parameter buffer, laid out as the function's `params` say.
    pub params: &'a [u8],
    /// All blocks must be resident at once (cooperative launch).
    pub cooperative: bool,
    /// What `%gridid` reads.
    pub grid_id: u64,
    /// What `%nsmid` reads; blocks are spread over that many.
    pub multiprocessors: u32,
    /// Bounds.
    pub limits: LaunchLimits,
}

/// Runs a kernel to its end on several CPU threads. Memory that it wrote is visible to the caller
/// afterwards.
///
/// # Errors
/// The first fault of any thread of the grid; what other threads had written until then stays.
pub fn run(
    image: &Image,
    launch: &Launch<'_>,
    device: &dyn Device,
    cancel: &CancelToken,
) -> Result<(), Fault> {
    launch::run(image, launch, device, cancel)
}

#[cfg(test)]
mod tests;

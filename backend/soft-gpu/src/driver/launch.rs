//! Launches: what is checked before one is queued, and how it runs.
//!
//! Unsafe code: reading the program's parameters, and the promise to the engine about memory.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use virtio_spec::cuda::CUresult;

use super::allocation::Kind;
use super::attributes::{MAX_BLOCK, MAX_GRID, MULTIPROCESSORS, blocks_per_multiprocessor};
use super::capture;
use super::context::Context;
use super::graph::{KernelParams, Op, Replay};
use super::module::Function;
use super::pages::host;
use super::queue::{Completion, Health, Stream, lock};
use super::{Driver, Result, driver};
use crate::exec::{self, CancelToken, Device, Extent, Fault, FaultKind, Launch, LaunchLimits, View};

/// Steps after which a kernel is stopped; `SOFT_GPU_MAX_STEPS` overrides it.
const MAX_STEPS: u64 = 1 << 40;

static STEPS: LazyLock<u64> = LazyLock::new(|| {
    std::env::var("SOFT_GPU_MAX_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(MAX_STEPS)
});

/// Threads of one launch. Asked once: the answer takes longer than a small kernel.
static WORKERS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// Shape of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub(crate) dynamic_shared: u32,
    pub(crate) cooperative: bool,
}

/// Refuses what the device or the function cannot do.
fn check(function: &Function, shape: &Shape) -> Result<()> {
    let within = |value: [u32; 3], most: [u32; 3]| {
        value.iter().zip(most).all(|(&value, most)| (1..=most).contains(&value))
    };
    if !within(shape.grid, MAX_GRID) || !within(shape.block, MAX_BLOCK) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let threads = shape.block.iter().map(|&count| u64::from(count)).product::<u64>();
    let info = &function.info;
    if threads > u64::from(info.max_threads) || info.required.is_some_and(|required| required != shape.block)
    {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if shape.dynamic_shared > function.settings.max_dynamic() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if shape.cooperative {
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        let resident = u64::from(blocks_per_multiprocessor(info, threads, u64::from(shape.dynamic_shared)))
            * u64::from(MULTIPROCESSORS);
        if shape.grid.iter().map(|&count| u64::from(count)).product::<u64>() > resident {
            return Err(CUresult::ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
        }
    }
    Ok(())
}

/// Copies a launch's parameters into one buffer.
///
/// # Safety
/// `params` and `extra` are as CUDA demands for this function: a pointer to each parameter, or a tagged list.
pub(crate) unsafe fn gather(
    function: &Function,
    params: *const *mut c_void,
    extra: *const *mut c_void,
) -> Result<Vec<u8>> {
    let info = &function.info;
    if !extra.is_null() {
        if !params.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the caller's.
        return unsafe { gather_buffer(info.param_bytes, extra) };
    }
    let mut buffer = vec![0; info.param_bytes];
    if info.params.is_empty() {
        return Ok(buffer);
    }
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    for (index, param) in info.params.iter().enumerate() {
        // SAFETY: there is a pointer for each parameter.
        let place = unsafe { params.add(index) };
        // SAFETY: as above.
        let value = unsafe { place.read() };
        let start = param.offset as usize;
        let target = buffer.get_mut(start..start.saturating_add(param.size as usize));
        let target = target.ok_or(CUresult::ERROR_INVALID_IMAGE)?;
        if value.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the pointer leads to a value of the parameter's size.
        unsafe { target.as_mut_ptr().copy_from_nonoverlapping(value.cast(), target.len()) };
    }
    Ok(buffer)
}

/// # Safety
/// `extra` is a list of tags and pointers that ends with the end's tag.
unsafe fn gather_buffer(bytes: usize, extra: *const *mut c_void) -> Result<Vec<u8>> {
    const END: usize = 0;
    const BUFFER_POINTER: usize = 1;
    const BUFFER_SIZE: usize = 2;
    let (mut data, mut size) = (std::ptr::null::<u8>(), None);
    let mut at = 0;
    loop {
        // SAFETY: the end was not read yet.
        let place = unsafe { extra.add(at) };
        // SAFETY: as above.
        let tag = unsafe { place.read() }.addr();
        if tag == END {
            break;
        }
        // SAFETY: a tag is followed by its pointer.
        let place = unsafe { extra.add(at + 1) };
        // SAFETY: as above.
        let value = unsafe { place.read() };
        match tag {
            BUFFER_POINTER => data = value.cast(),
            BUFFER_SIZE if !value.is_null() => {
                // SAFETY: the pointer of this tag leads to a size.
                size = Some(unsafe { value.cast::<usize>().read() });
            }
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        }
        at += 2;
    }
    let mut buffer = vec![0; bytes];
    let size = size.unwrap_or(0);
    // The end of the last parameter may be padded, or left out if it is padding.
    if (size > 0 && data.is_null()) || size > bytes.next_multiple_of(16) || size < bytes {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if bytes > 0 {
        // SAFETY: the program's buffer has `size` bytes, which are not fewer than these.
        unsafe { buffer.as_mut_ptr().copy_from_nonoverlapping(data, bytes) };
    }
    Ok(buffer)
}

/// Checks a launch; what it does when its turn comes, any number of times.
pub(crate) fn replay(
    context: &Context,
    function: &Arc<Function>,
    shape: Shape,
    params: Arc<KernelParams>,
) -> Result<Replay> {
    check(function, &shape)?;
    if function.module.context != context.handle {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    let function = Arc::clone(function);
    let limits = *lock(&context.limits);
    let gpu = Gpu { context: context.handle, heap: limits.heap() };
    Ok(Arc::new(move |health: &Health| {
        run(&function, &shape, params.bytes(), &gpu, limits.stack(), &health.cancel)
    }))
}

/// A launch as a node of a graph.
pub(crate) fn node(context: &Context, function: &Arc<Function>, shape: Shape, params: Vec<u8>) -> Result<Op> {
    let params = Arc::new(KernelParams::new(params, function));
    let replay = replay(context, function, shape, Arc::clone(&params))?;
    Ok(Op::Kernel { function: Arc::clone(function), shape, params, replay })
}

/// Checks a launch and queues it; nothing ends where it is captured.
pub(crate) fn launch(
    context: &Context,
    stream: &Arc<Stream>,
    function: &Arc<Function>,
    shape: Shape,
    params: Vec<u8>,
) -> Result<Option<Arc<Completion>>> {
    if capture::is_capturing(stream) {
        capture::add(driver(), stream, || node(context, function, shape, params))?;
        return Ok(None);
    }
    capture::refuse(stream)?;
    check(function, &shape)?;
    if function.module.context != context.handle || stream.context != context.handle {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    let function = Arc::clone(function);
    let limits = *lock(&context.limits);
    let gpu = Gpu { context: context.handle, heap: limits.heap() };
    let done = context.submit(stream, Vec::new(), move |health: &Health| {
        if health.check().is_err() {
            return Ok(());
        }
        run(&function, &shape, &params, &gpu, limits.stack(), &health.cancel)
    })?;
    Ok(Some(done))
}

fn run(
    function: &Function,
    shape: &Shape,
    params: &[u8],
    gpu: &Gpu,
    stack: u64,
    cancel: &CancelToken,
) -> Result<()> {
    static GRIDS: AtomicU64 = AtomicU64::new(1);
    let default = LaunchLimits::default();
    let launch = Launch {
        entry: function.info.index,
        grid: shape.grid,
        block: shape.block,
        dynamic_shared: shape.dynamic_shared,
        params,
        cooperative: shape.cooperative,
        grid_id: GRIDS.fetch_add(1, Ordering::Relaxed),
        multiprocessors: MULTIPROCESSORS,
        limits: LaunchLimits {
            steps: *STEPS,
            stack_bytes: u32::try_from(stack).unwrap_or(u32::MAX).max(default.stack_bytes),
            workers: *WORKERS,
        },
    };
    exec::run(&function.module.image, &launch, gpu, cancel).map_err(|fault| {
        report(&fault);
        result_of(fault.kind)
    })
}

/// Tells a person who asked for it (`SOFT_GPU_VERBOSE`) what a kernel did.
fn report(fault: &Fault) {
    static VERBOSE: LazyLock<bool> = LazyLock::new(|| std::env::var_os("SOFT_GPU_VERBOSE").is_some());
    if *VERBOSE {
        eprintln!("soft-gpu: {fault}");
    }
}

fn result_of(kind: FaultKind) -> CUresult {
    match kind {
        FaultKind::IllegalAddress => CUresult::ERROR_ILLEGAL_ADDRESS,
        FaultKind::MisalignedAddress => CUresult::ERROR_MISALIGNED_ADDRESS,
        FaultKind::InvalidAddressSpace => CUresult::ERROR_INVALID_ADDRESS_SPACE,
        FaultKind::InvalidPc => CUresult::ERROR_INVALID_PC,
        FaultKind::IllegalInstruction => CUresult::ERROR_ILLEGAL_INSTRUCTION,
        FaultKind::Trap | FaultKind::StackOverflow | FaultKind::Cancelled => CUresult::ERROR_LAUNCH_FAILED,
        FaultKind::Assert => CUresult::ERROR_ASSERT,
        FaultKind::Timeout => CUresult::ERROR_LAUNCH_TIMEOUT,
        FaultKind::OutOfResources => CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES,
    }
}

/// The device as a kernel of one context sees it.
struct Gpu {
    context: u64,
    heap: u64,
}

// SAFETY: extents are live ranges of the table. Device memory lies in a window that is never unmapped; other ranges are
// unmapped only when all work that began before they left the table has ended (`Driver::release`).
unsafe impl Device for Gpu {
    fn lookup(&self, address: u64) -> Option<Extent> {
        let found = driver().memory.find(address)?;
        if !found.is_for(self.context) {
            return None;
        }
        Some(Extent {
            start: found.start,
            length: found.length,
            host: NonNull::new(host(found.start))?,
            writable: found.is_writable(),
        })
    }

    fn print(&self, text: &[u8]) {
        /// Blocks print from several threads at once; unserialised, lines were seen to overwrite each other in a file.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _held = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = text;
        while !rest.is_empty() {
            // SAFETY: the bytes are readable; descriptor 1 is where a kernel's printf goes.
            let written = unsafe { libc::write(1, rest.as_ptr().cast(), rest.len()) };
            match usize::try_from(written) {
                Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
                _ => return,
            }
        }
    }

    fn malloc(&self, size: u64) -> u64 {
        let memory = &driver().memory;
        if memory.used_by(self.context, Kind::Heap).saturating_add(size) > self.heap {
            return 0;
        }
        memory.allocate(size, 16, Kind::Heap, self.context).unwrap_or(0)
    }

    fn free(&self, address: u64) -> bool {
        driver().memory.release(address, &[Kind::Heap]).is_ok()
    }

    fn view(&self, object: u64) -> Option<Arc<View>> {
        let found = driver().textures.find(object).or_else(|| driver().surfaces.find(object))?;
        (found.context == self.context).then(|| Arc::clone(&found.seen))
    }
}

/// The function that a handle of either kind means in a context.
pub(crate) fn resolve(driver: &Driver, context: &Context, handle: u64) -> Result<Arc<Function>> {
    match driver.functions.find(handle) {
        Some(function) => Ok(function),
        None => driver.kernels.get(handle)?.function(driver, context),
    }
}

//! A launch: blocks handed out in index order to worker threads.
//!
//! A worker normally has one block and runs it to its end. If the block only waits for others (it
//! polls memory), the worker starts the next one as well and runs them in turn, so that blocks which
//! wait for later ones still get on. All blocks of a cooperative launch are started at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::block::{Block, Progress};
use super::memory::Global;
use super::{CancelToken, Device, Fault, FaultKind, Image, Launch};
use crate::ptx::{Function, FunctionKind};

/// Shared memory that one block can have.
const SHARED_LIMIT: u64 = 228 << 10;
/// Registers of all blocks that must be resident at once, in bytes.
const REGISTER_LIMIT: u64 = 4 << 30;
/// Blocks that one worker of a launch that is not cooperative has at a time, at most.
const RESIDENT: usize = 256;

/// What all workers of a launch share.
pub(super) struct Grid<'g> {
    pub(super) image: &'g Image,
    pub(super) launch: &'g Launch<'g>,
    pub(super) entry_pc: u32,
    pub(super) slots: u32,
    pub(super) local: u32,
    pub(super) shared_bytes: usize,
    symbols: Vec<u64>,
    blocks: u64,
    next: AtomicU64,
    steps: AtomicU64,
    stop: AtomicBool,
    fault: Mutex<Option<Fault>>,
    cancel: &'g CancelToken,
    begun: Instant,
}

impl Grid<'_> {
    /// Value of a symbol.
    #[inline(always)]
    pub(super) fn symbol(&self, symbol: u32) -> u64 {
        self.symbols.get(symbol as usize).copied().unwrap_or(0)
    }

    /// The clock counter: nanoseconds, as if at one gigahertz.
    pub(super) fn clock(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The global timer, in nanoseconds.
    pub(super) fn time() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }

    fn fail(&self, fault: Fault) {
        let mut first = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(fault);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// A fault of the launch as a whole.
    fn ended(&self, kind: FaultKind, detail: &str) -> Fault {
        fault(kind, self.launch, self.image, detail)
    }

    /// Takes the next block that has not been started.
    fn next_block(&self) -> Option<u64> {
        if self.next.load(Ordering::Relaxed) >= self.blocks {
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|block| *block < self.blocks)
    }

    /// Charges a block's instructions; false when the launch must end.
    fn goes_on(&self, steps: u64) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            return false;
        }
        if self.cancel.is_cancelled() {
            self.fail(self.ended(FaultKind::Cancelled, "cancelled"));
            return false;
        }
        let left =
            self.steps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(steps));
        if left.is_err() {
            self.fail(self.ended(FaultKind::Timeout, "the launch reached its limit of instructions"));
        }
        left.is_ok()
    }

    /// A worker. An error of the engine itself ends the launch, not the process.
    fn work(&self, device: &dyn Device, share: usize) {
        let run = || self.run_blocks(device, share);
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            self.fail(self.ended(FaultKind::IllegalInstruction, "internal error of the engine"));
        }
    }

    fn run_blocks(&self, device: &dyn Device, share: usize) {
        let mut global = Global::new(device);
        let mut resident: Vec<Block> = Vec::new();
        let mut idle: Vec<Block> = Vec::new();
        let mut wanted = share;
        loop {
            while resident.len() < wanted.max(1) {
                let Some(index) = self.next_block() else { break };
                let mut block = idle.pop().unwrap_or_else(Block::new);
                block.start(self, index);
                resident.push(block);
            }
            if resident.is_empty() {
                return;
            }
            let mut all_wait = true;
            let mut index = 0;
            while let Some(block) = resident.get_mut(index) {
                let progress = block.run(self, &mut global);
                let steps = block.take_steps();
                match progress {
                    Err(fault) => return self.fail(fault),
                    Ok(_) if !self.goes_on(steps) => return,
                    Ok(Progress::Finished) => {
                        idle.push(resident.remove(index));
                        all_wait = false;
                        continue;
                    }
                    Ok(Progress::Waiting) => {}
                    Ok(Progress::Busy) => all_wait = false,
                }
                index += 1;
            }
            if all_wait {
                wanted = (resident.len() + 1).min(RESIDENT.max(share));
                std::thread::yield_now();
            } else {
                wanted = share;
            }
        }
    }
}

fn fault(kind: FaultKind, launch: &Launch<'_>, image: &Image, detail: &str) -> Fault {
    let function = image.module().functions.get(launch.entry);
    Fault {
        kind,
        function: function.map(|f| f.name.clone()).unwrap_or_default(),
        line: 0,
        block: [0; 3],
        thread: [0; 3],
        detail: detail.into(),
    }
}

/// Checks what the engine relies on; the shared memory of a block and the number of blocks.
fn check(function: Option<&Function>, launch: &Launch<'_>) -> Result<(u64, u64), &'static str> {
    let function = function.filter(|f| f.kind == FunctionKind::Entry).ok_or("there is no such kernel")?;
    let threads = launch.block.iter().try_fold(1u64, |all, n| all.checked_mul(u64::from(*n)));
    if !threads.is_some_and(|threads| (1..=1024).contains(&threads)) {
        return Err("a block has 1 to 1024 threads");
    }
    let blocks = launch.grid.iter().try_fold(1u64, |all, n| all.checked_mul(u64::from(*n)));
    let blocks = blocks.filter(|blocks| *blocks > 0).ok_or("a grid has at least one block")?;
    let shared = u64::from(function.static_shared) + u64::from(launch.dynamic_shared);
    if shared > SHARED_LIMIT {
        return Err("more shared memory than a block can have");
    }
    if launch.params.len() < usize::try_from(function.param_bytes).unwrap_or(usize::MAX) {
        return Err("fewer parameter bytes than the kernel has");
    }
    if u64::from(function.local.next_multiple_of(16)) > u64::from(launch.limits.stack_bytes) {
        return Err("more local memory than a thread can have");
    }
    Ok((shared, blocks))
}

/// See [`super::run`].
pub(super) fn run(
    image: &Image,
    launch: &Launch<'_>,
    device: &dyn Device,
    cancel: &CancelToken,
) -> Result<(), Fault> {
    let function = image.module().functions.get(launch.entry);
    let (shared, blocks) =
        check(function, launch).map_err(|detail| fault(FaultKind::OutOfResources, launch, image, detail))?;
    let routine = image.functions.get(launch.entry);
    let warps = launch.block.iter().map(|n| u64::from(*n)).product::<u64>().div_ceil(32);
    let registers = warps * routine.map_or(0, |routine| u64::from(routine.slots)) * 256;
    let together = if launch.cooperative { blocks } else { 1 };
    if registers.saturating_mul(together) > REGISTER_LIMIT {
        return Err(fault(FaultKind::OutOfResources, launch, image, "too many registers"));
    }
    let grid = Grid {
        image,
        launch,
        entry_pc: routine.map_or(u32::MAX, |routine| routine.start),
        slots: routine.map_or(0, |routine| routine.slots),
        local: routine.map_or(0, |routine| routine.local),
        shared_bytes: usize::try_from(shared).unwrap_or(0),
        symbols: image.symbol_values(launch.entry),
        blocks,
        next: AtomicU64::new(0),
        steps: AtomicU64::new(launch.limits.steps),
        stop: AtomicBool::new(false),
        fault: Mutex::new(None),
        cancel,
        begun: Instant::now(),
    };
    let workers = match launch.limits.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let workers = workers.min(usize::try_from(blocks).unwrap_or(usize::MAX));
    let share = if launch.cooperative {
        usize::try_from(blocks).unwrap_or(usize::MAX).div_ceil(workers.max(1))
    } else {
        1
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            let worker = std::thread::Builder::new().name("soft-gpu".into());
            // Fewer workers are slower, not wrong.
            let _ = worker.spawn_scoped(scope, || grid.work(device, share));
        }
        grid.work(device, share);
    });
    let first = grid.fault.into_inner().unwrap_or_else(PoisonError::into_inner);
    first.map_or(Ok(()), Err)
}

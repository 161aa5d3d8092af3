//! What every C export does first: no panic leaves it, and nothing is answered that must not be.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use virtio_spec::calls::{Blocks, Call};
use virtio_spec::cuda::{CUresult, CUstream};

use crate::{mirror, output, process, trace};

/// Which of a call's two entries was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// The plain one: the null stream is the legacy stream.
    Legacy,
    /// The one with a suffix: the null stream is the thread's own.
    PerThread,
}

impl Flavour {
    /// Whether the null stream is the thread's own.
    pub(crate) const fn is_per_thread(self) -> bool {
        matches!(self, Self::PerThread)
    }

    /// The stream that a call means by this value: by null the thread's own, if that is the null stream.
    pub(crate) const fn stream(self, stream: CUstream) -> u64 {
        if stream.0 == 0 && self.is_per_thread() { CUstream::PER_THREAD.0 } else { stream.0 }
    }
}

/// What a call's way through the shim depends on, of its row in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Number on the wire.
    pub(crate) opcode: u32,
    /// May be called before `cuInit`.
    pub(crate) before_init: bool,
    /// Fails when the thread has no current context.
    pub(crate) needs_context: bool,
    /// Waits for work on the GPU.
    pub(crate) synchronises: bool,
    /// May give the GPU work: it is posted, or about a stream.
    pub(crate) gives_work: bool,
    /// May give the GPU work that uses the program's memory.
    pub(crate) uses_memory: bool,
}

impl Row {
    /// Of a row.
    pub(crate) const fn of(call: &Call) -> Self {
        Self {
            opcode: call.opcode,
            before_init: call.before_init,
            needs_context: call.needs_context,
            synchronises: matches!(call.blocks, Blocks::Gpu),
            gives_work: !matches!(call.blocks, Blocks::Gpu) && (call.posted || call.per_thread.is_some()),
            // Copies, memsets, launches, graphs and batches.
            uses_memory: matches!(call.opcode >> 8, 0x04 | 0x05 | 0x08 | 0x13 | 0x19),
        }
    }
}

/// Calls to functions that are not supported, for the log.
static UNSUPPORTED: AtomicU64 = AtomicU64::new(0);

/// A result as it came over the wire.
pub(crate) const fn result(number: u32) -> CUresult {
    CUresult(number)
}

/// A call's result as CUDA returns it.
pub(crate) fn status(outcome: Result<(), CUresult>) -> CUresult {
    outcome.err().unwrap_or(CUresult::SUCCESS)
}

/// Runs a call's body behind the checks that all calls share.
pub(crate) fn call(row: Row, name: &'static str, body: impl FnOnce() -> CUresult) -> CUresult {
    if !row.before_init
        && let Err(error) = process::check_initialised()
    {
        return error;
    }
    // The body's locks are taken over when a panic has poisoned them, and tables change in single steps.
    let guarded = || {
        let mirrored = mirror::is_active();
        if mirrored {
            mirror::before(row);
        }
        let result = body();
        if mirrored {
            mirror::after();
        }
        output::deliver();
        result
    };
    trace::call(name, || catch_unwind(AssertUnwindSafe(guarded)).unwrap_or(CUresult::ERROR_UNKNOWN))
}

/// Answers a call that is exported but not supported.
pub(crate) fn unsupported(row: Row, name: &'static str) -> CUresult {
    call(row, name, || {
        UNSUPPORTED.fetch_add(1, Ordering::Relaxed);
        CUresult::ERROR_NOT_SUPPORTED
    })
}

/// Keeps a panic of the shim off the program's standard error. This library's copy of the standard library is its own,
/// so the hook of a program that is written in Rust stays as it is.
#[cfg(not(test))]
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

#[cfg(test)]
pub(crate) fn silence_panics() {}

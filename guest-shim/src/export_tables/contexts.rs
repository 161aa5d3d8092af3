//! Questions about contexts that libraries ask beside the public ones.

use virtio_spec::cuda::{CUcontext, CUresult, CUstream};

use super::answered;
use super::table::{Slot, Table};
use crate::calls::{give, outcome};
use crate::context;
use crate::exports::streams::cuStreamGetId;
use crate::memory::copy::is_stream;

/// `CU_STREAM_LEGACY`.
const LEGACY: u64 = 1;

/// Slot 2 of the tools' thread-local storage: the thread's current context. cuBLAS asks at each call.
unsafe extern "C" fn current(place: *mut CUcontext) -> CUresult {
    answered("thread-storage[2]", || {
        let current = context::current().unwrap_or(0);
        // SAFETY: the caller's place for a context.
        unsafe { give(place, CUcontext(current)) }
    })
}

/// The tools' thread-local storage.
pub(super) fn thread_table<const TABLE: usize>() -> Table {
    Table::sized::<TABLE>(3, &[(2, current as *const () as Slot)])
}

/// Slot 2 of the context checks: whether a context can be used; a runtime asks when it starts in a context,
/// synchronises, or changes device. `unusable` is 0: a context that cannot be used answers so at each call.
unsafe extern "C" fn check(_context: CUcontext, unusable: *mut u32, _details: *mut Slot) -> CUresult {
    answered("context-checks[2]", || {
        // SAFETY: the caller's place for a number.
        unsafe { give(unusable, 0) }
    })
}

/// Slot 3 of the context checks: asked once for each runtime; 0 on every driver.
extern "C" fn global_check() -> u32 {
    0
}

/// The context checks.
pub(super) fn check_table<const TABLE: usize>() -> Table {
    let functions = [(2, check as *const () as Slot), (3, global_check as *const () as Slot)];
    Table::sized::<TABLE>(15, &functions)
}

/// Slot 4 of the tools' contexts: a context's number, as `cuCtxGetId` answers. cuBLAS asks at each call.
unsafe extern "C" fn number(context: CUcontext, place: *mut u64) -> CUresult {
    answered("tools-contexts[4]", || {
        let handle = match context.0 {
            0 => context::required()?,
            handle => handle,
        };
        let context = context::find(handle).ok_or(CUresult::ERROR_INVALID_CONTEXT)?;
        // SAFETY: the caller's place for a number.
        unsafe { give(place, context.id) }
    })
}

/// Slot 51 of the tools' contexts: what a stream's handle stands for in a context, for slot 39. cuBLAS asks for the
/// stream that it was given.
unsafe extern "C" fn stream(context: CUcontext, stream: CUstream, place: *mut CUstream) -> CUresult {
    answered("tools-contexts[51]", || {
        if context::find(context.0).is_none() {
            return Err(CUresult::ERROR_INVALID_CONTEXT);
        }
        if !is_stream(stream.0) {
            return Err(CUresult::ERROR_INVALID_HANDLE);
        }
        let meant = if stream.0 == 0 { LEGACY } else { stream.0 };
        // SAFETY: the caller's place for a stream.
        unsafe { give(place, CUstream(meant)) }
    })
}

/// Slot 39 of the tools' contexts: a stream's number in its context, as `cuStreamGetId` answers.
unsafe extern "C" fn stream_number(context: CUcontext, stream: CUstream, place: *mut u64) -> CUresult {
    answered("tools-contexts[39]", || {
        context::with(context.0, || {
            // SAFETY: the caller's place for a number.
            outcome(unsafe { cuStreamGetId(stream, place) })
        })
    })
}

/// The tools' contexts.
pub(super) fn tools_table<const TABLE: usize>() -> Table {
    Table::sized::<TABLE>(
        93,
        &[
            (4, number as *const () as Slot),
            (39, stream_number as *const () as Slot),
            (51, stream as *const () as Slot),
        ],
    )
}

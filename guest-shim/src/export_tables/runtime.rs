//! What a runtime needs before and beside the public calls.

use std::cell::UnsafeCell;
use std::ffi::c_void;

use virtio_spec::cuda::{CUcontext, CUdevice, CUmodule, CUresult};

use super::answered;
use super::table::{Slot, Table};
use crate::calls::{give, modules, outcome};
use crate::context;

/// Slot 1: a module of what `nvcc` put into a program, its wrapper.
unsafe extern "C" fn module_of_wrapper(module: *mut CUmodule, wrapper: *const c_void) -> CUresult {
    // SAFETY: a program's own wrapper, and its place for a module.
    answered("runtime[1]", || outcome(unsafe { modules::cuModuleLoadData(module, wrapper) }))
}

/// Slot 6, of runtime 11.8: as slot 1; the last three are null or zero.
unsafe extern "C" fn module_of_wrapper_with(
    module: *mut CUmodule,
    wrapper: *const c_void,
    _: *mut c_void,
    _: *mut c_void,
    _: u32,
) -> CUresult {
    // SAFETY: as in slot 1.
    unsafe { module_of_wrapper(module, wrapper) }
}

/// Slot 7, of runtime 11.8, before it unloads a module: nothing has to be done.
extern "C" fn before_unload(_: usize) {}

/// Slot 8: a module of a container without its wrapper.
unsafe extern "C" fn module_of_container(
    container: *const c_void,
    module: *mut CUmodule,
    _: *mut c_void,
    _: *mut c_void,
    _: u32,
) -> CUresult {
    // SAFETY: a program's own container, and its place for a module.
    answered("runtime[8]", || outcome(unsafe { modules::cuModuleLoadData(module, container) }))
}

/// Slot 2, once for each device: the handle that the device's primary context has, or will have. It is not retained.
unsafe extern "C" fn primary_context(place: *mut CUcontext, device: CUdevice) -> CUresult {
    answered("runtime[2]", || {
        let context = context::primary(device)?;
        // SAFETY: the caller's place for a context.
        unsafe { give(place, CUcontext(context.handle)) }
    })
}

/// Slot 12, of runtime 13: loads the compilers. Those of the host's driver are loaded when they are needed.
extern "C" fn load_compilers() -> CUresult {
    CUresult::SUCCESS
}

/// The runtime's interface.
pub(super) fn table<const TABLE: usize>() -> Table {
    Table::sized::<TABLE>(
        13,
        &[
            (1, module_of_wrapper as *const () as Slot),
            (2, primary_context as *const () as Slot),
            (6, module_of_wrapper_with as *const () as Slot),
            (7, before_unload as *const () as Slot),
            (8, module_of_container as *const () as Slot),
            // Empty in the driver too.
            (10, std::ptr::null()),
            (12, load_compilers as *const () as Slot),
        ],
    )
}

/// Memory that tools read what they watch from, and that nobody writes here: with no tool, no call is watched.
#[repr(transparent)]
struct Watched<const N: usize>(UnsafeCell<[u32; N]>);

// SAFETY: this library neither reads nor writes it; runtimes read it as the driver's own.
unsafe impl<const N: usize> Sync for Watched<N> {}

static WATCHED_CALLS: Watched<1024> = Watched(UnsafeCell::new([0; 1024]));
static WATCHED_DOMAINS: Watched<14> = Watched(UnsafeCell::new([0; 14]));

/// # Safety
/// `place` and `count` are null or valid for writing.
unsafe fn give_watched<const N: usize>(
    watched: &'static Watched<N>,
    place: *mut *mut c_void,
    count: *mut usize,
) {
    // SAFETY: as the caller promises.
    let given = unsafe { give(place, watched.0.get().cast()) };
    if given.is_ok() {
        // SAFETY: as the caller promises. A runtime that wants no count has asked for the address alone.
        let _ = unsafe { give(count, N) };
    }
}

/// Slot 2 of the tools' hooks, once for each runtime: which calls are watched, and how many there are.
unsafe extern "C" fn watched_calls(place: *mut *mut c_void, count: *mut usize) {
    // SAFETY: the caller's places.
    unsafe { give_watched(&WATCHED_CALLS, place, count) };
}

/// Slot 6 of the tools' hooks, once for each runtime.
unsafe extern "C" fn watched_domains(place: *mut *mut c_void, count: *mut usize) {
    // SAFETY: the caller's places.
    unsafe { give_watched(&WATCHED_DOMAINS, place, count) };
}

/// Slots 1, 3, 4 and 5 of the tools' hooks: runtime 12.8 calls one when the driver lacks a function that it can do
/// without.
extern "C" fn nothing() -> CUresult {
    CUresult::SUCCESS
}

/// The tools' hooks in a runtime.
pub(super) fn hooks_table<const TABLE: usize>() -> Table {
    let nothing = nothing as *const () as Slot;
    Table::sized::<TABLE>(
        7,
        &[
            (1, nothing),
            (2, watched_calls as *const () as Slot),
            (3, nothing),
            (4, nothing),
            (5, nothing),
            (6, watched_domains as *const () as Slot),
        ],
    )
}

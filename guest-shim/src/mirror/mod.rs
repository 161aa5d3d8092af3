//! Memory that program and device cannot share, mirrored: each has its own, and changed bytes are brought over at the
//! moments at which CUDA makes one see what the other wrote.
//!
//! `variables`: managed variables of modules, which lie in the worker. `shadows`: memory of the process that graphs copy and
//! that cannot become the device's. `compare`: what has changed. `place`: the process's memory, read and written.
//!
//! The moments: before a call that may give the GPU work ([`before`]) what the program changed goes to the device; after a
//! call that waited ([`after`]) what the device changed comes back; around a function of the program that a stream runs
//! ([`around_host_function`]) both happen. Only bytes that differ from what was last known to be the same on both sides
//! are written, because the other side may be writing the rest just now.
//!
//! Lock order: the mirror's lock, then that of the pinned arena, then a lane's.

mod compare;
mod place;
mod shadows;
mod variables;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::calls::graphs;
use virtio_spec::cuda::CUresult;

use crate::entry::Row;
use crate::session;
use shadows::Shadows;
use variables::Variables;

/// Whether anything is mirrored.
static ACTIVE: AtomicBool = AtomicBool::new(false);

struct Mirror {
    variables: Variables,
    shadows: Shadows,
}

static MIRROR: Mutex<Mirror> = Mutex::new(Mirror { variables: Variables::NONE, shadows: Shadows::NONE });

thread_local! {
    /// Whether the call that the thread is in has waited for the GPU.
    static WAITED: Cell<bool> = const { Cell::new(false) };
}

/// A launch of a graph is when the device uses shadows.
const GRAPH_LAUNCH: u32 = graphs::rows::cuGraphLaunch.opcode;

fn lock() -> MutexGuard<'static, Mirror> {
    MIRROR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether anything is mirrored: all that calls of other programs ask.
pub(crate) fn is_active() -> bool {
    ACTIVE.load(Ordering::Relaxed)
}

/// Changes what is mirrored.
fn change<R>(body: impl FnOnce(&mut Mirror) -> R) -> R {
    let mut mirror = lock();
    let result = body(&mut mirror);
    ACTIVE.store(!mirror.variables.is_empty() || !mirror.shadows.is_empty(), Ordering::Relaxed);
    result
}

/// Whether the other side can be asked. What fails here the call itself will tell.
fn is_usable() -> bool {
    session::existing().is_some_and(|session| session.check().is_ok())
}

/// Before a call.
pub(crate) fn before(row: Row) {
    WAITED.set(false);
    if row.gives_work && is_usable() {
        let mut mirror = lock();
        mirror.variables.to_device();
        if row.opcode == GRAPH_LAUNCH {
            mirror.shadows.to_device();
        }
    }
}

/// The call that the thread is in has waited for work of the GPU.
pub(crate) fn waited() {
    if is_active() {
        WAITED.set(true);
    }
}

/// What a query says: that work is done is as good as having waited for it.
pub(crate) fn seen(answer: CUresult) -> CUresult {
    if answer == CUresult::SUCCESS {
        waited();
    }
    answer
}

/// After a call.
pub(crate) fn after() {
    if WAITED.replace(false) && is_usable() {
        let mut mirror = lock();
        mirror.variables.to_program();
        mirror.shadows.to_program();
    }
}

/// Runs a function of the program for which a stream waits.
pub(crate) fn around_host_function(function: impl FnOnce()) {
    if is_active() && is_usable() {
        let mut mirror = lock();
        mirror.variables.to_program();
        mirror.shadows.to_program();
    }
    function();
    if is_active() && is_usable() {
        let mut mirror = lock();
        mirror.variables.to_device();
        mirror.shadows.to_device();
    }
}

/// A variable that the program has asked for, and whose memory is managed: from now on the host's code can use it. `owner`
/// is the module or library that it came with.
pub(crate) fn variable(address: u64, length: u64, owner: u64, context: u64) -> Result<(), CUresult> {
    change(|mirror| mirror.variables.add(address, length, owner, context))
}

/// Forgets variables whose module or library is gone.
pub(crate) fn forget_unloaded() {
    if is_active() {
        change(|mirror| mirror.variables.forget_unloaded());
    }
}

/// Forgets what a context had that is gone.
pub(crate) fn forget_context(context: u64) {
    if is_active() {
        change(|mirror| {
            mirror.variables.forget_context(context);
            mirror.shadows.forget_context(context);
        });
    }
}

/// The address of memory that the device reaches in place of `length` bytes of the process, for as long as there is any
/// graph.
pub(crate) fn shadow(address: u64, length: u64, written: bool) -> Result<u64, CUresult> {
    change(|mirror| mirror.shadows.add(address, length, written))
}

/// The program's own address for one that a graph's node names.
pub(crate) fn as_given(address: u64) -> u64 {
    if is_active() { lock().shadows.as_given(address) } else { address }
}

/// Whether there are shadows.
pub(crate) fn has_shadows() -> bool {
    is_active() && !lock().shadows.is_empty()
}

/// Gives all shadows back. No graph is left, and none runs.
pub(crate) fn drop_shadows() {
    change(|mirror| {
        mirror.shadows.to_program();
        mirror.shadows.drop_all();
    });
}

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

use virtio_spec::calls::{contexts, graphs};
use virtio_spec::cuda::CUresult;

use crate::entry::Row;
use crate::exports::contexts::wire_cuCtxSynchronize;
use crate::graph::capture;
use crate::{context, session};
use shadows::Shadows;
pub(crate) use variables::Origin;
use variables::Variables;

/// Whether anything is mirrored.
static ACTIVE: AtomicBool = AtomicBool::new(false);

struct Mirror {
    variables: Variables,
    shadows: Shadows,
    /// Calls that may give the GPU work: begun so far, and not ended yet.
    begun: u64,
    under_way: u64,
    /// [`Mirror::begun`] when the GPU was last known to have nothing to do, with all that it wrote brought back.
    idle: Option<u64>,
}

static MIRROR: Mutex<Mirror> = Mutex::new(Mirror {
    variables: Variables::NONE,
    shadows: Shadows::NONE,
    begun: 0,
    under_way: 0,
    idle: None,
});

/// The call that a thread is in.
#[derive(Clone, Copy)]
struct Now {
    /// It has waited for the GPU.
    waited: bool,
    /// It is counted as one that may give the GPU work.
    works: bool,
    /// It waits for all work of the only context, and no other call gave any when it began: [`Mirror::begun`] then.
    idles: Option<u64>,
}

impl Now {
    const NOTHING: Self = Self { waited: false, works: false, idles: None };
}

thread_local!(static NOW: Cell<Now> = const { Cell::new(Now::NOTHING) });

/// What waits for all work of a context.
const WAIT_FOR_ALL: u32 = contexts::rows::cuCtxSynchronize.opcode;
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
    let mut now = Now::NOTHING;
    if row.uses_memory && is_usable() {
        let mut mirror = lock();
        let is_idle = mirror.idle == Some(mirror.begun);
        mirror.begun += 1;
        mirror.under_way += 1;
        now.works = true;
        mirror.variables.push(is_idle);
        if row.opcode == GRAPH_LAUNCH {
            mirror.shadows.push();
        }
    } else if row.opcode == WAIT_FOR_ALL && context::current().is_some() && context::is_alone() {
        let mirror = lock();
        now.idles = (mirror.under_way == 0).then_some(mirror.begun);
    }
    NOW.set(now);
}

/// The call that the thread is in has waited for work of the GPU.
pub(crate) fn waited() {
    if is_active() {
        NOW.set(Now { waited: true, ..NOW.get() });
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
    let now = NOW.replace(Now::NOTHING);
    let came_back = now.waited && is_usable();
    if !now.works && !came_back {
        return;
    }
    let mut mirror = lock();
    mirror.under_way -= u64::from(now.works);
    if came_back {
        let complete = mirror.variables.pull();
        mirror.shadows.pull();
        if complete && now.idles.is_some() {
            mirror.idle = now.idles;
        }
    }
}

/// Runs a function of the program for which a stream waits.
pub(crate) fn around_host_function(function: impl FnOnce()) {
    if is_active() && is_usable() {
        let mut mirror = lock();
        mirror.variables.pull();
        mirror.shadows.pull();
    }
    function();
    if is_active() && is_usable() {
        let mut mirror = lock();
        mirror.variables.push(false);
        mirror.shadows.push();
    }
}

/// A variable that the program has asked for, and whose memory is managed: from now on the host's code can use it.
pub(crate) fn variable(address: u64, length: u64, origin: Origin<'_>) -> Result<(), CUresult> {
    change(|mirror| {
        // A program often writes much of a variable before it does anything else: that goes over in few pieces if the
        // GPU is known to be idle. CUDA may wait here too, as it does when it loads code late.
        if mirror.variables.is_empty() && context::is_alone() && !capture::is_active() {
            let has_context = context::required().is_ok();
            // SAFETY: no pointers.
            let idle = !has_context || unsafe { wire_cuCtxSynchronize() } == CUresult::SUCCESS;
            mirror.idle = Some(mirror.begun).filter(|_| idle && mirror.under_way == 0);
        }
        mirror.variables.add(address, length, origin)
    })
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
        mirror.shadows.pull();
        mirror.shadows.drop_all();
    });
}

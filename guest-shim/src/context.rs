//! Contexts: each thread's stack of them, primary contexts and their reference counts.
//!
//! Stacks live here alone; a request names the context that is current in its thread. A primary context's handle is
//! there before the context is, and stays the same.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use virtio_spec::cuda::{CUdevice, CUresult};
use virtio_spec::handle::Kind;
use virtio_spec::requests::{PrimaryContext, PrimaryOperation, opcode};

use crate::calls::stream_properties;
use crate::graph::capture;
use crate::session::{self, Session};
use crate::wire::Request;
use crate::{code, device, handles, memory, mirror};

/// What is known of a context.
#[derive(Debug)]
pub(crate) struct Context {
    /// Its handle.
    pub(crate) handle: u64,
    /// Its device, as the process sees it.
    pub(crate) device: CUdevice,
    /// What `cuCtxGetId` answers.
    pub(crate) id: u64,
    /// Whether it is its device's primary context.
    pub(crate) primary: bool,
    /// `CUctx_flags`.
    pub(crate) flags: AtomicU32,
    /// [`Session::work`] when all work of the context was last known to be done.
    done: AtomicU64,
    /// [`Session::kernels`] then.
    kernels_done: AtomicU64,
    /// Limits that the device has told, by `CUlimit`, in the epoch of the first number.
    limits: Mutex<(u64, HashMap<u32, usize>)>,
    /// `cuCtxAttach` calls without a `cuCtxDetach`, and one for the creation.
    pub(crate) attachments: AtomicU32,
}

#[derive(Debug)]
struct Primary {
    context: Arc<Context>,
    references: u32,
}

static CONTEXTS: RwLock<Option<HashMap<u64, Arc<Context>>>> = RwLock::new(None);
static PRIMARIES: Mutex<Vec<(i32, Primary)>> = Mutex::new(Vec::new());
static IDS: AtomicU64 = AtomicU64::new(1);
/// Counts up whenever a context becomes usable or stops being so; what a thread knows of its current context is only
/// valid for the epoch in which it was looked up.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// Contexts that have ceased to be.
static REMOVALS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The context that the thread found last, and [`REMOVALS`] then.
    static RECENT: RefCell<Option<(u64, Arc<Context>)>> = const { RefCell::new(None) };
    static STACK: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    static CHECKED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    static CAPTURE_MODE: Cell<u32> = const { Cell::new(0) };
}

fn primaries() -> MutexGuard<'static, Vec<(i32, Primary)>> {
    PRIMARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `read` makes of the context with this handle, if it is the one that the thread found last. `read` looks for no
/// context itself.
fn recent<T>(removals: u64, handle: u64, read: impl FnOnce(&Arc<Context>) -> T) -> Option<T> {
    let read = |found: &RefCell<Option<(u64, Arc<Context>)>>| {
        let found = found.try_borrow().ok()?;
        let (since, context) = found.as_ref()?;
        (*since == removals && context.handle == handle).then(|| read(context))
    };
    RECENT.try_with(read).ok().flatten()
}

/// What `read` makes of the context with this handle. It counts no users of it, which all threads would do at one place.
pub(crate) fn look<T>(handle: u64, read: impl Fn(&Context) -> T) -> Option<T> {
    recent(REMOVALS.load(Ordering::Acquire), handle, |context| read(context))
        .or_else(|| find(handle).map(|context| read(&context)))
}

/// The context with this handle: a live explicit one, or a primary one, active or not.
pub(crate) fn find(handle: u64) -> Option<Arc<Context>> {
    let removals = REMOVALS.load(Ordering::Acquire);
    if let Some(context) = recent(removals, handle, Arc::clone) {
        return Some(context);
    }
    let context = CONTEXTS.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(&handle).cloned()?;
    // A thread without its locals searches each time.
    let _ = RECENT.try_with(|found| found.replace(Some((removals, Arc::clone(&context)))));
    Some(context)
}

fn add(device: CUdevice, primary: bool, flags: u32) -> Result<Arc<Context>, CUresult> {
    let context = Arc::new(Context {
        handle: handles::mint(Kind::Context)?,
        device,
        id: IDS.fetch_add(1, Ordering::Relaxed),
        primary,
        flags: AtomicU32::new(flags),
        done: AtomicU64::new(u64::MAX),
        kernels_done: AtomicU64::new(u64::MAX),
        limits: Mutex::default(),
        attachments: AtomicU32::new(1),
    });
    let mut contexts = CONTEXTS.write().unwrap_or_else(PoisonError::into_inner);
    contexts.get_or_insert_default().insert(context.handle, Arc::clone(&context));
    Ok(context)
}

/// The thread's current context, usable or not.
pub(crate) fn current() -> Option<u64> {
    STACK.try_with(|stack| stack.borrow().last().copied()).ok().flatten()
}

/// The thread's current context, which a call needs.
pub(crate) fn required() -> Result<u64, CUresult> {
    let handle = current().ok_or(CUresult::ERROR_INVALID_CONTEXT)?;
    let epoch = EPOCH.load(Ordering::Acquire);
    if CHECKED.try_with(Cell::get) == Ok((handle, epoch)) {
        return Ok(handle);
    }
    let context = find(handle).ok_or(CUresult::ERROR_CONTEXT_IS_DESTROYED)?;
    if context.primary && !is_active(context.device) {
        return Err(CUresult::ERROR_CONTEXT_IS_DESTROYED);
    }
    // A thread without its locals looks again at the next call.
    let _ = CHECKED.try_with(|checked| checked.set((handle, epoch)));
    Ok(handle)
}

/// What `read` makes of the thread's current context.
pub(crate) fn look_at_current<T>(read: impl Fn(&Context) -> T) -> Result<T, CUresult> {
    let handle = current().ok_or(CUresult::ERROR_INVALID_CONTEXT)?;
    look(handle, read).ok_or(CUresult::ERROR_CONTEXT_IS_DESTROYED)
}

/// What is known of the thread's current context.
pub(crate) fn current_context() -> Result<Arc<Context>, CUresult> {
    let handle = current().ok_or(CUresult::ERROR_INVALID_CONTEXT)?;
    find(handle).ok_or(CUresult::ERROR_CONTEXT_IS_DESTROYED)
}

/// Whether a thread that waits for the GPU in its current context may look for it all the time, as CUDA does unless the
/// context asks to yield or to block.
pub(crate) fn spins() -> bool {
    const YIELD: u32 = 2;
    const BLOCKING: u32 = 4;
    current_context().is_ok_and(|context| context.flags.load(Ordering::Relaxed) & (YIELD | BLOCKING) == 0)
}

/// Makes a context current on top of the thread's stack.
pub(crate) fn push(handle: u64) -> Result<(), CUresult> {
    find(handle).ok_or(CUresult::ERROR_INVALID_CONTEXT)?;
    STACK.with(|stack| stack.borrow_mut().push(handle));
    Ok(())
}

/// Takes the thread's current context off its stack.
pub(crate) fn pop() -> Result<u64, CUresult> {
    STACK.with(|stack| stack.borrow_mut().pop()).ok_or(CUresult::ERROR_INVALID_CONTEXT)
}

/// Replaces the top of the thread's stack; 0 only takes it off.
pub(crate) fn set(handle: u64) -> Result<(), CUresult> {
    if handle != 0 {
        find(handle).ok_or(CUresult::ERROR_INVALID_CONTEXT)?;
    }
    STACK.with(|stack| {
        let mut stack = stack.borrow_mut();
        stack.pop();
        if handle != 0 {
            stack.push(handle);
        }
    });
    Ok(())
}

/// Runs `body` with a context as the thread's current one.
pub(crate) fn with<T>(handle: u64, body: impl FnOnce() -> Result<T, CUresult>) -> Result<T, CUresult> {
    if current() == Some(handle) {
        return body();
    }
    push(handle)?;
    let outcome = body();
    pop()?;
    outcome
}

/// The thread's stream capture mode.
pub(crate) fn capture_mode() -> u32 {
    CAPTURE_MODE.try_with(Cell::get).unwrap_or(0)
}

/// Sets the thread's stream capture mode and returns the one before.
pub(crate) fn exchange_capture_mode(mode: u32) -> u32 {
    CAPTURE_MODE.with(|current| current.replace(mode))
}

impl Context {
    /// The limits that are known. A primary context that was reset has those of a new one.
    fn limits(&self) -> MutexGuard<'_, (u64, HashMap<u32, usize>)> {
        let epoch = EPOCH.load(Ordering::Acquire);
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if limits.0 != epoch {
            *limits = (epoch, HashMap::new());
        }
        limits
    }

    /// A limit that does not have to be asked for.
    pub(crate) fn limit(&self, limit: u32) -> Option<usize> {
        self.limits().1.get(&limit).copied()
    }

    /// Notes a limit as the device has told it.
    pub(crate) fn limit_is(&self, limit: u32, value: usize) {
        self.limits().1.insert(limit, value);
    }

    /// A limit was set: one may change another.
    pub(crate) fn forget_limits(&self) {
        self.limits().1.clear();
    }
}

/// The session, if calls may be answered without asking anybody: it is alive, no stream captures (which could forbid a
/// call, or be ended by one), no memory is mirrored (what another thread waited for may still be on its way), and no error
/// is waiting for the thread.
fn quiet_session() -> Option<&'static Session> {
    let session = session::existing().filter(|_| !capture::is_active() && !mirror::is_active())?;
    (session.check_alive().is_ok() && !session.lane().has_deferred_error()).then_some(session)
}

/// Whether a call that gives the GPU nothing to do and waits for nothing may be answered here for a context.
pub(crate) fn is_quiet(handle: u64) -> bool {
    look(handle, |_| ()).is_some() && quiet_session().is_some()
}

/// Whether a context has no work that could be waited for: everything that was sent before its last synchronisation is
/// done, and nothing was sent since.
pub(crate) fn is_idle(handle: u64) -> bool {
    let Some(session) = session::existing() else { return false };
    let is_done = |context: &Context| context.done.load(Ordering::Acquire) == session.work();
    look(handle, is_done) == Some(true) && quiet_session().is_some()
}

/// Whether a copy that first waits for a context's work has nothing to wait for: since its last synchronisation there
/// were such copies at most ([`Session::note_copy`]).
pub(crate) fn needs_no_barrier(handle: u64) -> bool {
    let Some(session) = session::existing() else { return false };
    let is_done = |context: &Context| context.kernels_done.load(Ordering::Acquire) == session.kernels();
    look(handle, is_done) == Some(true) && quiet_session().is_some()
}

/// Whether there is no context but the thread's current one, if it has one.
pub(crate) fn is_alone() -> bool {
    let contexts = CONTEXTS.read().unwrap_or_else(PoisonError::into_inner);
    let own = current();
    let mut others = contexts.iter().flat_map(HashMap::values).filter(|context| Some(context.handle) != own);
    !others.any(|context| !context.primary || is_active(context.device))
}

/// Waits for a context's work by `wait`, unless there is none.
pub(crate) fn synchronise(handle: u64, wait: impl FnOnce() -> CUresult) -> CUresult {
    if is_idle(handle) {
        return CUresult::SUCCESS;
    }
    let sent = session::existing().map(|session| (session.kernels(), session.work()));
    let result = wait();
    if let (CUresult::SUCCESS, Some((kernels, work)), Some(context)) = (result, sent, find(handle)) {
        context.kernels_done.store(kernels, Ordering::Release);
        context.done.store(work, Ordering::Release);
    }
    result
}

/// Makes an explicit context known, once it exists.
pub(crate) fn created(handle: u64, device: CUdevice, flags: u32) -> Result<(), CUresult> {
    let context = Arc::new(Context {
        handle,
        device,
        id: IDS.fetch_add(1, Ordering::Relaxed),
        primary: false,
        flags: AtomicU32::new(flags),
        done: AtomicU64::new(u64::MAX),
        kernels_done: AtomicU64::new(u64::MAX),
        limits: Mutex::default(),
        attachments: AtomicU32::new(1),
    });
    CONTEXTS.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(handle, context);
    push(handle)
}

/// Forgets an explicit context that exists no more. Where it is current in other threads, it stays on their stacks and
/// their calls answer that it is destroyed.
pub(crate) fn destroyed(handle: u64) {
    CONTEXTS.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().remove(&handle);
    REMOVALS.fetch_add(1, Ordering::Release);
    forget_contents(handle);
    if current() == Some(handle) {
        // It was there a moment ago, in this thread.
        let _ = pop();
    }
}

fn forget_contents(handle: u64) {
    #[cfg(feature = "export-tables")]
    crate::export_tables::storage::forget_context(handle);
    EPOCH.fetch_add(1, Ordering::AcqRel);
    handles::release_children(handle);
    stream_properties::forget_gone();
    memory::forget_context(handle);
    code::forget_context(handle);
}

/// The primary context of a device: its handle exists before it does.
pub(crate) fn primary(device: CUdevice) -> Result<Arc<Context>, CUresult> {
    device::devices()?.record(device)?;
    let mut primaries = primaries();
    let number = device::number(device);
    if let Some((_, primary)) = primaries.iter().find(|(other, _)| *other == number) {
        return Ok(Arc::clone(&primary.context));
    }
    let context = add(device, true, 0)?;
    primaries.push((number, Primary { context: Arc::clone(&context), references: 0 }));
    Ok(context)
}

/// Whether a device's primary context is there.
pub(crate) fn is_active(device: CUdevice) -> bool {
    let number = device::number(device);
    primaries().iter().any(|(other, primary)| *other == number && primary.references > 0)
}

fn ask(context: &Context, operation: PrimaryOperation, flags: u32) -> Result<(), CUresult> {
    let mut request = Request::start(opcode::PRIMARY_CONTEXT, 0)?;
    request.structure(&PrimaryContext {
        context: context.handle,
        device: device::devices()?.host_ordinal(context.device)?,
        operation: operation as u32,
        flags,
        reserved: 0,
    });
    request.answer().map(|_| ())
}

/// Counts a user of a device's primary context, which the first one makes.
pub(crate) fn retain(device: CUdevice) -> Result<u64, CUresult> {
    let context = primary(device)?;
    let number = device::number(device);
    let mut primaries = primaries();
    let primary =
        primaries.iter_mut().find(|(other, _)| *other == number).ok_or(CUresult::ERROR_INVALID_DEVICE)?;
    if primary.1.references == 0 {
        let flags = context.flags.load(Ordering::Relaxed);
        if flags != 0 {
            ask(&context, PrimaryOperation::SetFlags, flags)?;
        }
        ask(&context, PrimaryOperation::Retain, 0)?;
        EPOCH.fetch_add(1, Ordering::AcqRel);
    }
    primary.1.references += 1;
    Ok(context.handle)
}

/// Takes a user off; the last one ends the context.
pub(crate) fn release(device: CUdevice) -> Result<(), CUresult> {
    let context = primary(device)?;
    let number = device::number(device);
    let last = {
        let mut primaries = primaries();
        let primary =
            primaries.iter_mut().find(|(other, _)| *other == number).ok_or(CUresult::ERROR_INVALID_DEVICE)?;
        primary.1.references = primary.1.references.checked_sub(1).ok_or(CUresult::ERROR_INVALID_CONTEXT)?;
        primary.1.references == 0
    };
    if last {
        let outcome = ask(&context, PrimaryOperation::Release, 0);
        forget_contents(context.handle);
        outcome?;
    }
    Ok(())
}

/// Ends a device's primary context whoever uses it.
pub(crate) fn reset(device: CUdevice) -> Result<(), CUresult> {
    let context = primary(device)?;
    if !is_active(device) {
        return Ok(());
    }
    ask(&context, PrimaryOperation::Reset, 0)?;
    // The device's own reference and handle go too: the next user makes the context again.
    let _ = ask(&context, PrimaryOperation::Release, 0);
    let number = device::number(device);
    if let Some((_, primary)) = primaries().iter_mut().find(|(other, _)| *other == number) {
        primary.references = 0;
    }
    forget_contents(context.handle);
    Ok(())
}

/// Sets the flags with which a device's primary context is made, or which it has from now on.
pub(crate) fn set_flags(device: CUdevice, flags: u32) -> Result<(), CUresult> {
    let context = primary(device)?;
    if is_active(device) {
        ask(&context, PrimaryOperation::SetFlags, flags)?;
    }
    context.flags.store(flags, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use virtio_spec::codec::Scalar;

    use super::*;

    #[test]
    fn a_thread_has_a_stack_of_its_own() {
        let first = add(CUdevice::from_u64(0), false, 0).expect("a context").handle;
        let second = add(CUdevice::from_u64(0), false, 0).expect("a context").handle;
        push(first).expect("known");
        push(second).expect("known");

        let elsewhere = std::thread::spawn(current).join().expect("the thread ends");

        assert_eq!(elsewhere, None);
        assert_eq!(pop(), Ok(second));
        set(second).expect("known");
        assert_eq!(pop(), Ok(second));
        assert_eq!(pop(), Err(CUresult::ERROR_INVALID_CONTEXT));
    }

    #[test]
    fn a_destroyed_context_stays_on_other_stacks_and_says_so() {
        let handle = add(CUdevice::from_u64(0), false, 0).expect("a context").handle;
        push(handle).expect("known");
        assert_eq!(required(), Ok(handle));

        std::thread::spawn(move || destroyed(handle)).join().expect("the thread ends");

        assert_eq!(current(), Some(handle));
        assert_eq!(required(), Err(CUresult::ERROR_CONTEXT_IS_DESTROYED));
        assert_eq!(push(handle), Err(CUresult::ERROR_INVALID_CONTEXT));
        pop().expect("it is still there");
    }
}

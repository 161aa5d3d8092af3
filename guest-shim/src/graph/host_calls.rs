//! Functions of the program that the device has due: host functions, callbacks, destructors of user objects.
//!
//! A function is a number to the device. One thread, made at first use, asks the device what is due and runs it.
//!
//! Unsafe code: calls of the program's functions.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::cuda::{CUhostFn, CUresult, CUstream, CUstreamCallback};
use virtio_spec::graph_requests::{HostDue, HostNext, host_due, opcode};

use crate::session::{self, Session};
use crate::wire::Request;

/// How long the device may wait with an answer: for ever, or not long where other threads need the lane.
const PATIENT: u64 = 60_000;
const IMPATIENT: u64 = 1;
/// Stack of the thread in bytes, as a program's own threads have it.
const STACK: usize = 8 << 20;

/// A function with what it is to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Function {
    Host { function: usize, data: usize },
    Callback { function: usize, stream: u64, data: usize },
}

#[derive(Default)]
struct Functions {
    last: u64,
    by_number: HashMap<u64, (Function, bool)>,
    /// Functions of graphs, which may run any number of times.
    kept: HashMap<Function, u64>,
    /// User objects: destructor and data.
    objects: HashMap<u64, (usize, usize)>,
    has_thread: bool,
}

static FUNCTIONS: Mutex<Option<Functions>> = Mutex::new(None);

thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });

fn lock() -> MutexGuard<'static, Option<Functions>> {
    FUNCTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the calling thread runs a function of the program that must not call CUDA.
pub(crate) fn is_inside() -> bool {
    INSIDE.try_with(Cell::get).unwrap_or(false)
}

/// The number of a function; one that is kept may run more than once.
fn number(function: Function, keep: bool) -> Result<u64, CUresult> {
    let mut guard = lock();
    let functions = guard.get_or_insert_default();
    start(functions)?;
    if let Some(known) = functions.kept.get(&function).filter(|_| keep) {
        return Ok(*known);
    }
    functions.last += 1;
    let number = functions.last;
    functions.by_number.insert(number, (function, keep));
    if keep {
        functions.kept.insert(function, number);
    }
    Ok(number)
}

/// The number of a host function.
pub(crate) fn host_function(function: CUhostFn, data: *mut c_void, keep: bool) -> Result<u64, CUresult> {
    let function = function.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let function = (function as *const ()).expose_provenance();
    number(Function::Host { function, data: data.expose_provenance() }, keep)
}

/// The number of a stream's callback.
pub(crate) fn callback(
    callback: CUstreamCallback,
    stream: CUstream,
    data: *mut c_void,
    keep: bool,
) -> Result<u64, CUresult> {
    let function = callback.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let function = (function as *const ()).expose_provenance();
    number(Function::Callback { function, stream: stream.0, data: data.expose_provenance() }, keep)
}

/// Forgets a function that will not run.
pub(crate) fn forget(number: u64) {
    let mut guard = lock();
    let functions = guard.get_or_insert_default();
    if functions.by_number.get(&number).is_some_and(|(_, keep)| !keep) {
        functions.by_number.remove(&number);
    }
}

/// The host function with a number.
pub(crate) fn host_function_of(number: u64) -> Option<(CUhostFn, *mut c_void)> {
    match lock().as_ref()?.by_number.get(&number)?.0 {
        Function::Host { function, data } => {
            Some((host_function_at(function), std::ptr::with_exposed_provenance_mut(data)))
        }
        Function::Callback { .. } => None,
    }
}

fn host_function_at(address: usize) -> CUhostFn {
    // SAFETY: the address of a function of this type, or zero.
    unsafe { std::mem::transmute::<*const (), CUhostFn>(std::ptr::with_exposed_provenance(address)) }
}

/// A new user object's number.
pub(crate) fn user_object(destroy: CUhostFn, data: *mut c_void) -> Result<u64, CUresult> {
    let destroy = destroy.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let mut guard = lock();
    let functions = guard.get_or_insert_default();
    start(functions)?;
    functions.last += 1;
    // As other handles, it is no small constant, and aligned.
    let number = functions.last << 4 | 1 << 62;
    let entry = ((destroy as *const ()).expose_provenance(), data.expose_provenance());
    functions.objects.insert(number, entry);
    Ok(number)
}

/// Forgets a user object that was not made after all.
pub(crate) fn forget_user_object(number: u64) {
    lock().get_or_insert_default().objects.remove(&number);
}

/// Makes the thread, unless there is one.
fn start(functions: &mut Functions) -> Result<(), CUresult> {
    if functions.has_thread {
        return Ok(());
    }
    let session = session::get()?;
    let builder = std::thread::Builder::new().name("cuda-host-calls".into()).stack_size(STACK);
    // Signals are for the program's own threads.
    let before = block_signals();
    let started = builder.spawn(move || serve(session));
    restore_signals(&before);
    started.map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)?;
    functions.has_thread = true;
    Ok(())
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: a set of signals is plain data.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    let mut before = all;
    // SAFETY: room for a set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: two sets.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before) };
    before
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: the set that was there before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

/// Asks what is due and runs it, until the session ends.
fn serve(session: &'static Session) {
    let own = session.reserve_lane();
    let mut done = 0;
    loop {
        let milliseconds = if own { PATIENT } else { IMPATIENT };
        let mut request = Request::begin(session, opcode::HOST_NEXT, 0);
        request.structure(&HostNext { done, milliseconds });
        let Ok(due) = request.answer().and_then(|mut response| response.take::<HostDue>()) else { return };
        run(due);
        done = due.ticket;
    }
}

fn run(due: HostDue) {
    INSIDE.set(true);
    match due.due {
        host_due::FUNCTION | host_due::CALLBACK => run_function(due),
        host_due::DESTRUCTOR => {
            let found = lock().get_or_insert_default().objects.remove(&due.number);
            if let Some((destroy, data)) = found
                && let Some(destroy) = host_function_at(destroy)
            {
                // SAFETY: the program's destructor with its object.
                unsafe { destroy(std::ptr::with_exposed_provenance_mut(data)) };
            }
        }
        _ => {}
    }
    INSIDE.set(false);
}

fn run_function(due: HostDue) {
    let found = {
        let mut guard = lock();
        let functions = guard.get_or_insert_default();
        let found = functions.by_number.get(&due.number).copied();
        if matches!(found, Some((_, false))) {
            functions.by_number.remove(&due.number);
        }
        found
    };
    match found {
        Some((Function::Host { function, data }, _)) => {
            if let Some(function) = host_function_at(function) {
                // SAFETY: the program's function, with what it is to be given.
                unsafe { function(std::ptr::with_exposed_provenance_mut(data)) };
            }
        }
        Some((Function::Callback { function, stream, data }, _)) => {
            let function: *const () = std::ptr::with_exposed_provenance(function);
            // SAFETY: the address of a function of this type.
            let function = unsafe { std::mem::transmute::<*const (), CUstreamCallback>(function) };
            let data = std::ptr::with_exposed_provenance_mut(data);
            if let Some(function) = function {
                // SAFETY: the program's function, with what it is to be given.
                unsafe { function(CUstream(stream), crate::entry::result(due.status), data) };
            }
        }
        None => {}
    }
}

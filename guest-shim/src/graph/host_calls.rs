//! Functions of the program that the device has due: host functions, callbacks, destructors of user objects.
//!
//! A function is a number to the device. One thread, made at first use, asks the device what is due and runs it. The number
//! of a graph's function is known until the device tells that the graph is gone, with all that was made of it.
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
use crate::{mirror, threads};

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

/// How long a function's number is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Until the function has run.
    Once,
    /// Until the device tells that no graph has it any more.
    Graph,
    /// For good: nobody tells what becomes of a function that was given to an executable graph.
    Ever,
}

#[derive(Default)]
struct Functions {
    last: u64,
    by_number: HashMap<u64, (Function, Life)>,
    /// Functions whose numbers are known for good, each by one.
    ever: HashMap<Function, u64>,
    /// User objects: destructor and data.
    objects: HashMap<u64, (usize, usize)>,
    has_thread: bool,
}

impl Functions {
    /// The number of a function.
    fn number(&mut self, function: Function, life: Life) -> u64 {
        if let Some(known) = self.ever.get(&function).filter(|_| life == Life::Ever) {
            return *known;
        }
        self.last += 1;
        self.by_number.insert(self.last, (function, life));
        if life == Life::Ever {
            self.ever.insert(function, self.last);
        }
        self.last
    }

    /// The function that is to run now.
    fn due(&mut self, number: u64) -> Option<Function> {
        let (function, life) = *self.by_number.get(&number)?;
        if life == Life::Once {
            self.by_number.remove(&number);
        }
        Some(function)
    }

    /// Forgets a function unless its number is known for good.
    fn forget(&mut self, number: u64) {
        if self.by_number.get(&number).is_some_and(|(_, life)| *life != Life::Ever) {
            self.by_number.remove(&number);
        }
    }
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

/// The number of a function.
fn number(function: Function, life: Life) -> Result<u64, CUresult> {
    let mut guard = lock();
    let functions = guard.get_or_insert_default();
    start(functions)?;
    Ok(functions.number(function, life))
}

/// The number of a host function.
pub(crate) fn host_function(function: CUhostFn, data: *mut c_void, life: Life) -> Result<u64, CUresult> {
    let function = function.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let function = (function as *const ()).expose_provenance();
    number(Function::Host { function, data: data.expose_provenance() }, life)
}

/// The number of a stream's callback, which no graph can have.
pub(crate) fn callback(
    callback: CUstreamCallback,
    stream: CUstream,
    data: *mut c_void,
) -> Result<u64, CUresult> {
    let function = callback.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let function = (function as *const ()).expose_provenance();
    number(Function::Callback { function, stream: stream.0, data: data.expose_provenance() }, Life::Once)
}

/// Notes that a function became a part of a graph, where it may run any number of times.
pub(crate) fn is_captured(number: u64) {
    if let Some((_, life)) = lock().get_or_insert_default().by_number.get_mut(&number) {
        *life = Life::Graph;
    }
}

/// Forgets a function that will not run.
pub(crate) fn forget(number: u64) {
    lock().get_or_insert_default().forget(number);
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
    threads::start("cuda-host-calls", STACK, move || serve(session))
        .map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)?;
    functions.has_thread = true;
    Ok(())
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
        host_due::FUNCTION | host_due::CALLBACK => mirror::around_host_function(|| run_function(due)),
        host_due::DESTRUCTOR => {
            let found = {
                let mut guard = lock();
                let functions = guard.get_or_insert_default();
                // An object of the program, or a function that graphs had.
                functions.forget(due.number);
                functions.objects.remove(&due.number)
            };
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
    let found = lock().get_or_insert_default().due(due.number);
    match found {
        Some(Function::Host { function, data }) => {
            if let Some(function) = host_function_at(function) {
                // SAFETY: the program's function, with what it is to be given.
                unsafe { function(std::ptr::with_exposed_provenance_mut(data)) };
            }
        }
        Some(Function::Callback { function, stream, data }) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Function = Function::Host { function: 16, data: 1 };
    const SECOND: Function = Function::Host { function: 16, data: 2 };

    #[test]
    fn a_streams_function_is_known_until_it_has_run() {
        let mut functions = Functions::default();
        let number = functions.number(FIRST, Life::Once);
        assert_eq!(functions.due(number), Some(FIRST));
        assert_eq!(functions.due(number), None);
    }

    #[test]
    fn a_graphs_function_is_known_until_its_own_graph_is_gone() {
        let mut functions = Functions::default();
        let first = functions.number(FIRST, Life::Graph);
        let again = functions.number(FIRST, Life::Graph);
        assert_ne!(first, again, "two graphs, of which each ends by itself");
        for _ in 0..3 {
            assert_eq!(functions.due(first), Some(FIRST));
        }
        functions.forget(first);
        assert_eq!((functions.due(first), functions.due(again)), (None, Some(FIRST)));
    }

    #[test]
    fn what_is_known_for_good_has_one_number() {
        let mut functions = Functions::default();
        let number = functions.number(FIRST, Life::Ever);
        assert_eq!(functions.number(FIRST, Life::Ever), number);
        assert_ne!(functions.number(SECOND, Life::Ever), number);
        functions.forget(number);
        assert_eq!(functions.due(number), Some(FIRST));
    }
}

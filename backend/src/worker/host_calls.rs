//! Functions of the program that the driver calls back: each is run by a thread of the guest, and the driver's thread
//! waits for it here.
//!
//! The guest's thread asks for the next one by a request that waits ([`next`]), and tells by the following one that it
//! has run. [`close`] lets every waiter go, so that neither the end of a session nor its context's waits for a guest
//! that is not there any more. A worker serves one session, so there is one post office in the process.
//!
//! Unsafe code: functions that the driver calls.

use std::{
    collections::{HashSet, VecDeque},
    ffi::c_void,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use virtio_spec::{
    cuda::{CUresult, CUstream},
    graph_requests::{HostDue, host_due},
};

/// Longest wait for something to be due; then the guest asks again.
const LONGEST: Duration = Duration::from_secs(60);

struct Post {
    waiting: VecDeque<HostDue>,
    /// Tickets of functions that the driver's threads wait for.
    tickets: HashSet<u64>,
    last_ticket: u64,
    closed: bool,
}

static POST: Mutex<Option<Post>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, Option<Post>> {
    POST.lock().unwrap_or_else(PoisonError::into_inner)
}

fn post(guard: &mut Option<Post>) -> &mut Post {
    guard.get_or_insert_with(|| Post {
        waiting: VecDeque::new(),
        tickets: HashSet::new(),
        last_ticket: 0,
        closed: false,
    })
}

/// Has the guest run a function, and returns when it has.
fn run(number: u64, due: u32, status: u32) {
    let mut guard = lock();
    let post_office = post(&mut guard);
    if post_office.closed {
        return;
    }
    post_office.last_ticket = post_office.last_ticket.wrapping_add(1);
    let ticket = post_office.last_ticket;
    post_office.tickets.insert(ticket);
    post_office.waiting.push_back(HostDue { ticket, number, due, status });
    CHANGED.notify_all();
    while guard.as_ref().is_some_and(|post| !post.closed && post.tickets.contains(&ticket)) {
        guard = CHANGED.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}

/// What is due next, after the function with this ticket has run (0: none). Nothing, if it is long in coming.
pub(crate) fn next(done: u64, longest: Duration) -> HostDue {
    let deadline = Instant::now() + longest.min(LONGEST);
    let mut guard = lock();
    if post(&mut guard).tickets.remove(&done) {
        CHANGED.notify_all();
    }
    loop {
        let office = post(&mut guard);
        if let Some(due) = office.waiting.pop_front() {
            return due;
        }
        let nothing = HostDue { ticket: 0, number: 0, due: host_due::NOTHING, status: 0 };
        let left = deadline.saturating_duration_since(Instant::now());
        if office.closed || left.is_zero() {
            return nothing;
        }
        (guard, _) = CHANGED.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Nobody runs functions any more, and nobody waits for them.
pub(crate) fn close() {
    post(&mut lock()).closed = true;
    CHANGED.notify_all();
}

fn number(data: *mut c_void) -> u64 {
    data.addr() as u64
}

/// A host function of a stream or graph; its data is its number.
pub(crate) unsafe extern "C" fn function(data: *mut c_void) {
    run(number(data), host_due::FUNCTION, 0);
}

/// A stream's callback; its data is its number.
pub(crate) unsafe extern "C" fn callback(_stream: CUstream, status: CUresult, data: *mut c_void) {
    run(number(data), host_due::CALLBACK, status.0);
}

/// A user object's destructor; its data is the object's number.
pub(crate) unsafe extern "C" fn destructor(data: *mut c_void) {
    let due = HostDue { ticket: 0, number: number(data), due: host_due::DESTRUCTOR, status: 0 };
    post(&mut lock()).waiting.push_back(due);
    CHANGED.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_returns_when_the_guest_has_run_it_or_is_gone() {
        let first = std::thread::spawn(|| run(7, host_due::FUNCTION, 0));
        let due = next(0, LONGEST);
        assert_eq!((due.number, due.due), (7, host_due::FUNCTION));
        assert!(!first.is_finished(), "nobody has run it yet");
        // SAFETY: the data is a number.
        unsafe { destructor(std::ptr::without_provenance_mut(9)) };
        let due = next(due.ticket, LONGEST);
        assert_eq!((due.ticket, due.number, due.due), (0, 9, host_due::DESTRUCTOR));
        first.join().expect("it returns");

        let second = std::thread::spawn(|| run(8, host_due::CALLBACK, 700));
        let due = next(0, LONGEST);
        assert_eq!((due.number, due.status), (8, 700));
        close();
        second.join().expect("it returns");
        assert_eq!(next(due.ticket, LONGEST).due, host_due::NOTHING);
        run(10, host_due::FUNCTION, 0);
    }
}

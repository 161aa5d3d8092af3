//! The stream that a thread has waited for last: to wait for it again, with no work sent by anybody since, needs nobody.
//!
//! Programs wait for a stream after each copy from the device, which has waited for it itself, and libraries once more.
//! What is known of whole contexts is [`context::is_idle`].

use std::cell::Cell;

use crate::context;
use crate::session::{self, Session};

/// A stream that had nothing to do.
#[derive(Clone, Copy, Debug)]
struct Done {
    /// 0, which is none, until there was one.
    context: u64,
    stream: u64,
    /// [`Session::work`] of which all that is the stream's was done.
    work: u64,
}

impl Done {
    const fn holds(self, context: u64, stream: u64, work: u64) -> bool {
        self.work == work && self.stream == stream && self.context == context && context != 0
    }
}

/// What a thread knows.
struct Thread {
    done: Cell<Done>,
    /// Requests of the thread that gave the GPU work.
    sent: Cell<u64>,
}

thread_local! {
    static THREAD: Thread =
        const { Thread { done: Cell::new(Done { context: 0, stream: 0, work: 0 }), sent: Cell::new(0) } };
}

/// The thread has sent a request that gives the GPU work, and that is counted.
pub(crate) fn sent() {
    // A thread that ends waits for nothing any more.
    let _ = THREAD.try_with(|thread| thread.sent.set(thread.sent.get().wrapping_add(1)));
}

/// Whether nothing is under way in a stream, with this context current.
pub(crate) fn is_idle(context: u64, stream: u64) -> bool {
    let Some(work) = session::existing().map(Session::work) else { return false };
    let holds = |thread: &Thread| thread.done.get().holds(context, stream, work);
    THREAD.try_with(holds).is_ok_and(|holds| holds && context::is_quiet(context))
}

/// A wait for a stream, from before its request.
pub(crate) struct Wait {
    /// All work that was sent before, less what of it was the thread's own.
    others: Option<u64>,
}

impl Wait {
    /// A wait begins. Work that another thread sends from here on may be missed by it.
    pub(crate) fn begin() -> Self {
        let work = session::existing().map(Session::work);
        let own = |thread: &Thread| work.map(|work| work.wrapping_sub(thread.sent.get()));
        Self { others: THREAD.try_with(own).ok().flatten() }
    }

    /// It is over, with success and this context current: all that was sent before, and by the thread itself since, is done.
    pub(crate) fn succeeded(self, context: u64, stream: u64) {
        let Some(others) = self.others else { return };
        // A thread that ends knows nothing any more.
        let _ = THREAD.try_with(|thread| {
            thread.done.set(Done { context, stream, work: others.wrapping_add(thread.sent.get()) });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_idle_until_anybody_sends_work() {
        let done = Done { context: 1, stream: 7, work: 40 };
        assert!(done.holds(1, 7, 40));
        for (context, stream, work) in [(2, 7, 40), (1, 8, 40), (1, 7, 41)] {
            assert!(!done.holds(context, stream, work));
        }
        assert!(!Done { context: 0, stream: 0, work: 0 }.holds(0, 0, 0), "at first");
    }

    #[test]
    fn what_the_thread_sends_during_its_own_wait_is_waited_for() {
        let wait = Wait { others: Some(40) };
        sent();
        let own = THREAD.with(|thread| thread.sent.get());
        wait.succeeded(1, 7);
        assert!(THREAD.with(|thread| thread.done.get()).holds(1, 7, 40 + own));
    }

    #[test]
    fn nothing_is_known_without_a_session() {
        Wait::begin().succeeded(1, 7);
        assert!(!is_idle(1, 7));
    }
}

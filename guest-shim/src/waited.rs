//! The stream that a thread has waited for last: to wait for it again, with no work sent by anybody since, needs nobody.
//!
//! Programs wait for a stream after each copy from the device, which has waited for it itself, and libraries once more.
//! What is known of whole contexts is [`context::is_idle`].

use std::cell::Cell;

use crate::context;
use crate::session;

/// A stream that had nothing to do.
#[derive(Clone, Copy, Debug)]
struct Done {
    context: u64,
    stream: u64,
    /// [`session::Session::work`] of which all that is the stream's was done.
    work: u64,
}

impl Done {
    const fn holds(self, context: u64, stream: u64, work: u64) -> bool {
        self.context == context && self.stream == stream && self.work == work
    }
}

thread_local! {
    static DONE: Cell<Option<Done>> = const { Cell::new(None) };
    /// Requests of the thread that gave the GPU work.
    static SENT: Cell<u64> = const { Cell::new(0) };
}

/// The thread has sent a request that gives the GPU work, and that is counted.
pub(crate) fn sent() {
    // A thread that ends waits for nothing any more.
    let _ = SENT.try_with(|sent| sent.set(sent.get().wrapping_add(1)));
}

/// Whether nothing is under way in a stream of the current context, which [`Wait::succeeded`] said of it.
pub(crate) fn is_idle(context: u64, stream: u64) -> bool {
    let Some(done) = DONE.try_with(Cell::get).ok().flatten() else { return false };
    let work = session::existing().map(session::Session::work);
    work.is_some_and(|work| done.holds(context, stream, work)) && context::is_quiet(context)
}

/// A wait for a stream, from before its request.
pub(crate) struct Wait {
    /// All work that was sent before, and what of it was the thread's own.
    before: Option<(u64, u64)>,
}

impl Wait {
    /// A wait begins. Work that another thread sends from here on may be missed by it.
    pub(crate) fn begin() -> Self {
        let own = SENT.try_with(Cell::get).ok();
        Self { before: session::existing().map(session::Session::work).zip(own) }
    }

    /// It is over, with success: all that was sent before, and by the thread itself since, is done.
    pub(crate) fn succeeded(self, stream: u64) {
        let Some((work, own)) = self.before else { return };
        let Ok(now) = SENT.try_with(Cell::get) else { return };
        let Some(context) = context::current() else { return };
        let work = work.wrapping_add(now.wrapping_sub(own));
        let _ = DONE.try_with(|done| done.set(Some(Done { context, stream, work })));
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
    }

    #[test]
    fn nothing_is_known_without_a_session() {
        Wait::begin().succeeded(7);
        assert!(!is_idle(0, 7));
    }
}

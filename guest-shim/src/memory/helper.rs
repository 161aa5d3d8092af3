//! A thread that copies a chunk of a large copy while the calling thread copies another: two copy half again as fast as one
//! (docs/performance.md).
//!
//! It is started by the first large copy of a process that may use enough processors. Between the chunks of a copy it looks
//! for the next one for a moment; otherwise it sleeps. One copy at a time has it, and keeps it until it has finished what it
//! was given.
//!
//! Unsafe code: copies with another's promises.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

use super::bulk::Rows;
use crate::session::spin::{self, Spin};
use crate::threads;

/// Stack of the thread in bytes.
const STACK: usize = 128 << 10;
/// How long it looks for the next chunk before it sleeps, and a copy for the end of one: copying a chunk takes 100 µs.
const LOOKING: Duration = Duration::from_micros(200);

/// The thread's side.
#[derive(Debug)]
struct Helper {
    /// What it is to copy. The lock is a leaf that is held for a moment, even by the holder of a lane.
    given: Mutex<Option<Rows>>,
    /// Whether it has something to copy or copies; changed with `given` locked.
    is_busy: AtomicBool,
    changed: Condvar,
    /// Held by the copy that has it.
    taken: Mutex<()>,
}

/// The helper of one copy.
#[derive(Debug)]
pub(super) struct Lease {
    helper: &'static Helper,
    _alone: MutexGuard<'static, ()>,
}

/// The helper, if the process has one and nobody else uses it.
pub(super) fn take() -> Option<Lease> {
    static HELPER: Helper = Helper::new();
    static STARTED: OnceLock<bool> = OnceLock::new();
    // One for the calling thread and one for this, and two for the device and the host.
    let has_one = STARTED.get_or_init(|| spin::has_processors_to_spare() && HELPER.start());
    if *has_one { HELPER.take() } else { None }
}

/// Looks for a while whether `done`; who looked in vain sleeps.
fn look(done: impl Fn() -> bool) {
    let _ = Spin::of(LOOKING).until(done);
}

impl Helper {
    const fn new() -> Self {
        Self {
            given: Mutex::new(None),
            is_busy: AtomicBool::new(false),
            changed: Condvar::new(),
            taken: Mutex::new(()),
        }
    }

    /// Starts the thread; false if there can be none.
    fn start(&'static self) -> bool {
        threads::start("vcompute-copy", STACK, || self.serve()).is_ok()
    }

    fn take(&'static self) -> Option<Lease> {
        let alone = match self.taken.try_lock() {
            Ok(alone) => alone,
            // Whoever panicked has waited for what it gave.
            Err(TryLockError::Poisoned(alone)) => alone.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Lease { helper: self, _alone: alone })
    }

    fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    fn given(&self) -> MutexGuard<'_, Option<Rows>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until something has changed, perhaps what is waited for.
    fn wait<'a>(&self, given: MutexGuard<'a, Option<Rows>>) -> MutexGuard<'a, Option<Rows>> {
        self.changed.wait(given).unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies what is given, for good. Nothing in it panics.
    fn serve(&self) {
        loop {
            look(|| self.is_busy());
            let mut given = self.given();
            let rows = loop {
                match given.take() {
                    Some(rows) => break rows,
                    None => given = self.wait(given),
                }
            };
            drop(given);
            // SAFETY: the giver's promises, which hold until it sees that the helper is not busy.
            unsafe { rows.copy() };
            let given = self.given();
            self.is_busy.store(false, Ordering::Release);
            drop(given);
            self.changed.notify_one();
        }
    }
}

impl Lease {
    /// Whether it has nothing to do.
    pub(super) fn is_free(&self) -> bool {
        !self.helper.is_busy()
    }

    /// Gives it rows to copy, while it is free.
    ///
    /// # Safety
    /// As for [`Rows::copy`], until it is free again; and this value is dropped, not forgotten.
    pub(super) unsafe fn give(&self, rows: Rows) {
        let mut given = self.helper.given();
        debug_assert!(self.is_free());
        *given = Some(rows);
        self.helper.is_busy.store(true, Ordering::Release);
        drop(given);
        self.helper.changed.notify_one();
    }

    /// Waits until it is free.
    pub(super) fn wait(&self) {
        look(|| self.is_free());
        let mut given = self.helper.given();
        while !self.is_free() {
            given = self.helper.wait(given);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Whatever has happened to the copy, its memory is not left before nobody uses it.
        self.wait();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::bulk::Direction;
    use super::*;

    /// A helper of a test's own, however few processors there are.
    pub(in crate::memory) fn forced() -> Lease {
        let helper: &'static Helper = Box::leak(Box::new(Helper::new()));
        assert!(helper.start());
        helper.take().expect("nobody else has it")
    }

    fn rows(from: &[u8], to: &mut [u8]) -> Rows {
        Rows {
            from: from.as_ptr(),
            from_pitch: 0,
            to: to.as_mut_ptr(),
            to_pitch: 0,
            width: from.len(),
            count: 1,
            direction: Direction::ToDevice,
        }
    }

    #[test]
    fn what_is_given_is_copied_whether_it_looks_or_sleeps() {
        let lease = forced();
        for round in 0..50_u8 {
            let (source, mut target) = (vec![round; 100_000], vec![255; 100_000]);
            // SAFETY: both live until it is free again.
            unsafe { lease.give(rows(&source, &mut target)) };
            lease.wait();
            assert!(lease.is_free() && target == source, "round {round}");
            if round % 10 == 0 {
                std::thread::sleep(2 * LOOKING);
            }
        }
    }

    #[test]
    fn one_copy_at_a_time_has_it_and_leaves_it_free() {
        let lease = forced();
        let helper = lease.helper;
        assert!(helper.take().is_none());
        let (source, mut target) = (vec![7; 4 << 20], vec![0; 4 << 20]);
        // SAFETY: both live until the lease is dropped.
        unsafe { lease.give(rows(&source, &mut target)) };
        drop(lease);
        assert!(!helper.is_busy() && target == source);
        assert!(helper.take().is_some());
    }

    #[test]
    fn a_panic_waits_for_it_too() {
        let lease = forced();
        let helper = lease.helper;
        let (source, mut target) = (vec![9; 4 << 20], vec![0; 4 << 20]);
        let rows = rows(&source, &mut target);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // SAFETY: both live until the lease is dropped.
            unsafe { lease.give(rows) };
            let _lease = lease;
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err() && !helper.is_busy() && target == source);
        assert!(helper.take().is_some());
    }
}

//! Model of a lane with both its sides: `RUSTFLAGS="--cfg loom" cargo test -p guest-shim --test worker_model`.
//!
//! Both sides publish and ask to be told by `virtio_spec::notify`. What is around it is written out here: the guest's as in
//! `src/session/lane.rs`, the worker's as in `backend/src/worker/lanes/lane.rs` (`run`) and `queue.rs` there.
//!
//! A kick is an eventfd that the worker's shell reads, and `unpark` of the lane's thread, which is never lost. Neither
//! side has the backstop of 100 ms here: a lost wake-up is a deadlock, which loom reports.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU16, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use virtio_spec::notify;

/// `FUTEX_WAIT` and `FUTEX_WAKE`.
#[derive(Default)]
struct Futex {
    lock: Mutex<()>,
    woken: Condvar,
}

impl Futex {
    fn wait(&self, word: &AtomicU16, expected: u16) {
        let guard = self.lock.lock().expect("not poisoned");
        if word.load(Ordering::Relaxed) == expected {
            drop(self.woken.wait(guard).expect("not poisoned"));
        }
    }

    fn wake(&self) {
        let _guard = self.lock.lock().expect("not poisoned");
        self.woken.notify_all();
    }
}

/// `park` and `unpark`.
#[derive(Default)]
struct Parking {
    token: Mutex<bool>,
    changed: Condvar,
}

impl Parking {
    fn park(&self) {
        let mut token = self.token.lock().expect("not poisoned");
        while !*token {
            token = self.changed.wait(token).expect("not poisoned");
        }
        *token = false;
    }

    fn unpark(&self) {
        *self.token.lock().expect("not poisoned") = true;
        self.changed.notify_one();
    }
}

/// Half of a ring: the index of one side, and up to where the other side wants not to be woken.
struct Half {
    index: AtomicU16,
    event: AtomicU16,
}

impl Half {
    fn new(start: u16) -> Self {
        Self { index: AtomicU16::new(start), event: AtomicU16::new(start.wrapping_sub(1)) }
    }
}

struct Lane {
    available: Half,
    used: Half,
    kick: Parking,
    futex: Futex,
}

/// The worker's lane: executes `requests`, and sleeps whenever there is none.
fn worker(lane: &Lane, start: u16, requests: u16) {
    let end = start.wrapping_add(requests);
    let mut next = start;
    loop {
        while lane.available.index.load(Ordering::Acquire) != next {
            let old = next;
            next = next.wrapping_add(1);
            if notify::publish(&lane.used.index, &lane.used.event, old, next) {
                lane.futex.wake();
            }
        }
        if next == end {
            return;
        }
        if notify::arm(&lane.available.index, &lane.available.event, next.wrapping_add(1)) {
            lane.kick.park();
        }
    }
}

/// A guest thread: makes `requests` available, then waits for the last of them; or for each, before the next.
fn both_sides(start: u16, requests: u16, wait_for_each: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let lane = Arc::new(Lane {
            available: Half::new(start),
            used: Half::new(start),
            kick: Parking::default(),
            futex: Futex::default(),
        });
        let serving = {
            let lane = Arc::clone(&lane);
            thread::spawn(move || worker(&lane, start, requests))
        };
        for step in 0..requests {
            let old = start.wrapping_add(step);
            let new = old.wrapping_add(1);
            if notify::publish(&lane.available.index, &lane.available.event, old, new) {
                lane.kick.unpark();
            }
            if !wait_for_each && step + 1 < requests {
                continue;
            }
            loop {
                let seen = lane.used.index.load(Ordering::Acquire);
                if notify::reached(seen, new) || !notify::arm(&lane.used.index, &lane.used.event, new) {
                    break;
                }
                lane.futex.wait(&lane.used.index, seen);
            }
        }
        serving.join().expect("the worker ends");
    });
}

#[test]
fn one_request() {
    both_sides(0, 1, true);
}

#[test]
fn one_after_the_other() {
    both_sides(0, 2, true);
}

#[test]
fn two_at_once() {
    both_sides(0, 2, false);
}

#[test]
fn indices_that_wrap() {
    both_sides(u16::MAX, 2, true);
}

//! Model of the sleep and wake-up protocol: `RUSTFLAGS="--cfg loom" cargo test -p guest-shim --test notify_model`.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU16, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use virtio_spec::notify;

/// What FUTEX_WAIT and FUTEX_WAKE (or WAIT and an interrupt) do: the sleeper looks at the word under the lock that the
/// waker takes.
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

struct Ring {
    index: AtomicU16,
    event: AtomicU16,
    payload: loom::cell::UnsafeCell<u32>,
    futex: Futex,
}

// SAFETY: `payload` is written before `index` is published and read after it was seen; loom checks that claim.
unsafe impl Sync for Ring {}

/// The producer publishes `steps` entries, one by one; the waiter sleeps until the last of them. A lost wake-up is a
/// deadlock, which loom reports.
fn sleeper_is_woken(start: u16, steps: u16) {
    loom::model(move || {
        let ring = Arc::new(Ring {
            index: AtomicU16::new(start),
            event: AtomicU16::new(start.wrapping_sub(1)),
            payload: loom::cell::UnsafeCell::new(0),
            futex: Futex::default(),
        });
        let producer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                for step in 0..steps {
                    let old = start.wrapping_add(step);
                    let new = old.wrapping_add(1);
                    if step + 1 == steps {
                        // SAFETY: nobody reads before the last index is published.
                        ring.payload.with_mut(|payload| unsafe { *payload = 7 });
                    }
                    if notify::publish(&ring.index, &ring.event, old, new) {
                        ring.futex.wake();
                    }
                }
            })
        };
        let target = start.wrapping_add(steps);
        loop {
            let seen = ring.index.load(Ordering::Acquire);
            if notify::reached(seen, target) || !notify::arm(&ring.index, &ring.event, target) {
                break;
            }
            ring.futex.wait(&ring.index, seen);
        }
        // SAFETY: the last index was seen with acquire ordering.
        assert_eq!(ring.payload.with(|payload| unsafe { *payload }), 7);
        producer.join().expect("the producer ends");
    });
}

#[test]
fn one_entry() {
    sleeper_is_woken(0, 1);
}

#[test]
fn the_last_of_two_entries() {
    sleeper_is_woken(0, 2);
}

#[test]
fn indices_that_wrap() {
    sleeper_is_woken(u16::MAX, 2);
}

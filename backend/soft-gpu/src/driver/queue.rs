//! Streams: ordered queues of work, each served by a thread of its own while it has work.
//!
//! A piece of work names the completions that it follows. They always belong to work that was submitted before, so
//! that waiting for them ends.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Result;
use super::capture::Joined;
use crate::exec::CancelToken;
use virtio_spec::cuda::CUresult;

/// How long a stream's thread stays when it has nothing to do.
const LINGER: Duration = Duration::from_millis(200);

/// Stack of a stream's thread, in bytes: host functions run on it.
const STACK_BYTES: usize = 8 << 20;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a piece of work ended.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    end: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Completion {
    /// Waits for the end.
    pub(crate) fn wait(&self) {
        let mut end = lock(&self.end);
        while end.is_none() {
            end = self.changed.wait(end).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the end until `deadline`; whether it has come.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        let mut end = lock(&self.end);
        while end.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (end, _) = self.changed.wait_timeout(end, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// The time of the end, once it has come.
    pub(crate) fn end(&self) -> Option<Instant> {
        *lock(&self.end)
    }

    fn finish(&self) {
        *lock(&self.end) = Some(Instant::now());
        self.changed.notify_all();
    }
}

/// Finishes a completion however its work ends.
struct Finish(Arc<Completion>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// A context's error that no later call gets past, and what ends its kernels; shared by its streams.
#[derive(Debug, Default)]
pub(crate) struct Health {
    error: AtomicU32,
    /// Of every launch in the context.
    pub(crate) cancel: CancelToken,
}

impl Health {
    /// The error, if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        match CUresult(self.error.load(Ordering::Acquire)) {
            CUresult::SUCCESS => Ok(()),
            error => Err(error),
        }
    }

    /// Records the first error.
    pub(crate) fn fail(&self, error: CUresult) {
        let _ = self.error.compare_exchange(0, error.0, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// What a stream orders itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The default stream: with every blocking stream.
    Legacy,
    /// With the default stream.
    Blocking,
    /// With nothing.
    NonBlocking,
}

pub(crate) type Work = Box<dyn FnOnce(&Health) -> Result<()> + Send>;

struct Item {
    after: Vec<Arc<Completion>>,
    work: Work,
    done: Arc<Completion>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    last: Option<Arc<Completion>>,
    /// A thread waits for items.
    served: bool,
    /// The thread that submitted it runs the last item.
    busy: bool,
}

/// Values of attributes, by number.
pub(crate) type Attributes = BTreeMap<u32, [u64; 8]>;

/// A stream.
pub(crate) struct Stream {
    /// Its handle.
    pub(crate) handle: u64,
    /// Unique in the process.
    pub(crate) id: u64,
    /// Handle of its context.
    pub(crate) context: u64,
    /// `CUstream_flags`.
    pub(crate) flags: u32,
    /// Lower is more urgent. All streams progress at once, so nothing follows from it.
    pub(crate) priority: i32,
    /// What the program has set (`CUstreamAttrID`); nothing follows from it either.
    pub(crate) attributes: Mutex<Attributes>,
    /// What it orders itself with.
    pub(crate) order: Order,
    /// Its part in a capture, if it has one.
    pub(crate) capture: Mutex<Option<Joined>>,
    health: Arc<Health>,
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).field("order", &self.order).finish_non_exhaustive()
    }
}

impl Stream {
    pub(crate) fn new(
        (handle, id, context): (u64, u64, u64),
        flags: u32,
        priority: i32,
        order: Order,
        health: Arc<Health>,
    ) -> Arc<Self> {
        Arc::new(Self {
            handle,
            id,
            context,
            flags,
            priority,
            order,
            attributes: Mutex::default(),
            capture: Mutex::default(),
            health,
            queue: Mutex::default(),
            wake: Condvar::new(),
        })
    }

    /// The completion of the work that was submitted last, unless it has ended.
    pub(crate) fn outstanding(&self) -> Option<Arc<Completion>> {
        lock(&self.queue).last.clone().filter(|last| last.end().is_none())
    }

    /// Adds work that begins when all before it in the stream, and all of `after`, has ended. The work is told the
    /// context's health; the error that it returns, if any, ends the context.
    pub(crate) fn push(self: &Arc<Self>, after: Vec<Arc<Completion>>, work: Work) -> Result<Arc<Completion>> {
        let done = Arc::new(Completion::default());
        let mut queue = lock(&self.queue);
        if !queue.served {
            let stream = Arc::clone(self);
            std::thread::Builder::new()
                .name(format!("stream-{}", self.id))
                .stack_size(STACK_BYTES)
                .spawn(move || stream.serve())
                .map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)?;
            queue.served = true;
        }
        queue.items.push_back(Item { after, work, done: Arc::clone(&done) });
        queue.last = Some(Arc::clone(&done));
        self.wake.notify_one();
        Ok(done)
    }

    /// Takes the stream for work of the calling thread, if it has nothing to do.
    pub(crate) fn take(&self) -> Option<Taken<'_>> {
        let mut queue = lock(&self.queue);
        if queue.busy || queue.last.as_ref().is_some_and(|last| last.end().is_none()) {
            return None;
        }
        let done = Arc::new(Completion::default());
        queue.last = Some(Arc::clone(&done));
        queue.busy = true;
        Some(Taken { stream: self, done })
    }

    fn serve(&self) {
        while let Some(item) = self.next() {
            self.execute(&item.after, item.work, item.done);
        }
    }

    fn execute(&self, after: &[Arc<Completion>], work: Work, done: Arc<Completion>) {
        let finish = Finish(done);
        for completion in after {
            completion.wait();
        }
        match std::panic::catch_unwind(AssertUnwindSafe(|| work(&self.health))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.health.fail(error),
            Err(_) => self.health.fail(CUresult::ERROR_UNKNOWN),
        }
        drop(finish);
    }

    /// The next piece of work; `None` once there has been none for a while: then nobody serves the stream.
    fn next(&self) -> Option<Item> {
        let mut queue = lock(&self.queue);
        loop {
            if !queue.busy
                && let Some(item) = queue.items.pop_front()
            {
                return Some(item);
            }
            let (guard, waited) =
                self.wake.wait_timeout(queue, LINGER).unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            if waited.timed_out() && !queue.busy && queue.items.is_empty() {
                queue.served = false;
                return None;
            }
        }
    }
}

/// A stream whose next work the calling thread does.
pub(crate) struct Taken<'a> {
    stream: &'a Stream,
    done: Arc<Completion>,
}

impl Taken<'_> {
    /// Does work that follows `after`.
    pub(crate) fn run(self, after: &[Arc<Completion>], work: Work) {
        self.stream.execute(after, work, Arc::clone(&self.done));
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        lock(&self.stream.queue).busy = false;
        self.stream.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(order: Order) -> Arc<Stream> {
        Stream::new((16, 1, 0), 0, 0, order, Arc::default())
    }

    #[test]
    fn work_runs_in_the_order_of_its_submission() {
        let stream = stream(Order::Blocking);
        let seen = Arc::new(Mutex::new(Vec::new()));
        for number in 0..100 {
            let seen = Arc::clone(&seen);
            let work = Box::new(move |_: &Health| {
                lock(&seen).push(number);
                Ok(())
            });
            stream.push(Vec::new(), work).unwrap();
        }
        if let Some(last) = stream.outstanding() {
            last.wait();
        }
        assert_eq!(*lock(&seen), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn work_waits_for_what_it_follows() {
        let (first, second) = (stream(Order::NonBlocking), stream(Order::NonBlocking));
        let gate = Arc::new(Completion::default());
        let before = first.push(vec![Arc::clone(&gate)], Box::new(|_| Ok(()))).unwrap();
        let after = second.push(vec![Arc::clone(&before)], Box::new(|_| Ok(()))).unwrap();
        assert!(before.end().is_none() && after.end().is_none());
        gate.finish();
        after.wait();
        assert!(before.end() <= after.end());
    }

    #[test]
    fn an_idle_stream_can_be_taken_and_a_busy_one_cannot() {
        let stream = stream(Order::Blocking);
        let taken = stream.take().unwrap();
        assert!(stream.take().is_none());
        let queued = stream.push(Vec::new(), Box::new(|_| Ok(()))).unwrap();
        assert!(queued.end().is_none());
        taken.run(&[], Box::new(|_| Ok(())));
        queued.wait();
        assert!(stream.take().is_some());
    }

    #[test]
    fn the_first_error_stays() {
        let stream = stream(Order::Blocking);
        stream.push(Vec::new(), Box::new(|_| Err(CUresult::ERROR_ILLEGAL_ADDRESS))).unwrap();
        stream.push(Vec::new(), Box::new(|_| Err(CUresult::ERROR_ASSERT))).unwrap().wait();
        assert_eq!(stream.health.check(), Err(CUresult::ERROR_ILLEGAL_ADDRESS));
    }

    #[test]
    fn a_panic_in_work_does_not_stop_the_stream() {
        let stream = stream(Order::Blocking);
        stream.push(Vec::new(), Box::new(|_| panic!("on purpose"))).unwrap();
        stream.push(Vec::new(), Box::new(|_| Ok(()))).unwrap().wait();
        assert_eq!(stream.health.check(), Err(CUresult::ERROR_UNKNOWN));
    }
}

//! Contexts: what threads work in, and the order of the work of their streams.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use virtio_spec::cuda::{CUresult, CUstream};

use super::handles::{kind, mint};
use super::queue::{Completion, Health, Order, Stream, lock};
use super::{Driver, Result, driver};

/// Most urgent stream priority; 0 is the least urgent.
pub(crate) const GREATEST_PRIORITY: i32 = -5;

/// How long the work of a context that is being destroyed may take before its kernels are stopped.
const LAST_WORK: Duration = Duration::from_secs(1);

/// Flags that a context can have: scheduling, map host, local memory, core dumps, synchronous copies.
const KNOWN_FLAGS: u32 = 0xff;

/// `CU_CTX_LMEM_RESIZE_TO_MAX` and `CU_CTX_MAP_HOST`: accepted, without an effect here.
const SCHEDULE_MASK: u32 = 7;

/// What the next calls of a context use as limits, in bytes (see [`Limits::get`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    values: [u64; 7],
}

impl Default for Limits {
    fn default() -> Self {
        // Stack, printf, heap, depth and pending launches of dynamic parallelism, L2 granularity, persisting L2.
        Self { values: [1024, 1 << 20, 8 << 20, 2, 2048, 64, 0] }
    }
}

impl Limits {
    /// One limit by its number; `CUDA_ERROR_UNSUPPORTED_LIMIT` for what the device lacks.
    pub(crate) fn get(&self, limit: u32) -> Result<u64> {
        match self.values.get(limit as usize) {
            Some(value) => Ok(*value),
            None if limit < 10 => Err(CUresult::ERROR_UNSUPPORTED_LIMIT),
            None => Err(CUresult::ERROR_INVALID_VALUE),
        }
    }

    /// Sets one limit.
    pub(crate) fn set(&mut self, limit: u32, value: u64) -> Result<()> {
        self.get(limit)?;
        let value = match limit {
            0 if value > 512 << 10 => return Err(CUresult::ERROR_INVALID_VALUE),
            0 => value.max(16).next_multiple_of(16),
            5 if value > 128 => return Err(CUresult::ERROR_INVALID_VALUE),
            _ => value,
        };
        if let Some(place) = self.values.get_mut(limit as usize) {
            *place = value;
        }
        Ok(())
    }

    /// Bytes of each thread's stack.
    pub(crate) fn stack(&self) -> u64 {
        self.values[0]
    }

    /// Bytes that `malloc` of kernels may have in use.
    pub(crate) fn heap(&self) -> u64 {
        self.values[2]
    }
}

/// Numbers of contexts and streams, unique in the process.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A context.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) handle: u64,
    /// `cuCtxGetId`.
    pub(crate) id: u64,
    /// Made by `cuCtxCreate…`, not the device's own.
    pub(crate) explicit: bool,
    /// `cuCtxGetApiVersion`.
    pub(crate) api_version: u32,
    pub(crate) flags: AtomicU32,
    pub(crate) limits: Mutex<Limits>,
    pub(crate) cache_config: AtomicU32,
    pub(crate) shared_config: AtomicU32,
    pub(crate) health: Arc<Health>,
    legacy: Arc<Stream>,
    /// All streams but the legacy one; also the lock that makes submissions one after the other.
    streams: Mutex<Vec<Arc<Stream>>>,
}

/// Whether flags name at most one way of waiting, and nothing unknown.
pub(crate) fn check_flags(flags: u32) -> Result<()> {
    if flags & !KNOWN_FLAGS != 0 || !matches!(flags & SCHEDULE_MASK, 0 | 1 | 2 | 4) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    Ok(())
}

impl Context {
    fn new(handle: u64, explicit: bool, api_version: u32, flags: u32) -> Arc<Self> {
        let health = Arc::<Health>::default();
        let legacy =
            Stream::new((CUstream::LEGACY.0, next_id(), handle), 0, 0, Order::Legacy, Arc::clone(&health));
        Arc::new(Self {
            handle,
            id: next_id(),
            explicit,
            api_version,
            flags: AtomicU32::new(flags),
            limits: Mutex::default(),
            cache_config: AtomicU32::new(0),
            shared_config: AtomicU32::new(0),
            health,
            legacy,
            streams: Mutex::default(),
        })
    }

    /// An explicit context, current on the calling thread.
    pub(crate) fn create(driver: &Driver, api_version: u32, flags: u32) -> Result<Arc<Self>> {
        check_flags(flags)?;
        let context = Self::new(mint(kind::CONTEXT), true, api_version, flags);
        driver.contexts.insert(context.handle, Arc::clone(&context));
        push_current(context.handle);
        Ok(context)
    }

    /// A new stream.
    pub(crate) fn create_stream(&self, driver: &Driver, flags: u32, priority: i32) -> Result<Arc<Stream>> {
        let order = match flags {
            0 => Order::Blocking,
            1 => Order::NonBlocking,
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        };
        self.health.check()?;
        let numbers = (mint(kind::STREAM), next_id(), self.handle);
        let priority = priority.clamp(GREATEST_PRIORITY, 0);
        let stream = Stream::new(numbers, flags, priority, order, Arc::clone(&self.health));
        lock(&self.streams).push(Arc::clone(&stream));
        driver.streams.insert(stream.handle, Arc::clone(&stream));
        Ok(stream)
    }

    /// The stream that a handle means in this context. The null stream is the calling thread's own in the `_ptsz`
    /// and `_ptds` functions.
    pub(crate) fn stream(&self, handle: CUstream, per_thread: bool) -> Result<Arc<Stream>> {
        match handle {
            CUstream(0) if !per_thread => Ok(Arc::clone(&self.legacy)),
            CUstream::LEGACY => Ok(Arc::clone(&self.legacy)),
            CUstream(0) | CUstream::PER_THREAD => Ok(self.own_stream()),
            CUstream(handle) => driver().streams.get(handle),
        }
    }

    /// The calling thread's own default stream. The thread holds it; it ends with the thread.
    fn own_stream(&self) -> Arc<Stream> {
        OWN_STREAMS.with_borrow_mut(|own| {
            if let Some(stream) = own.get(&self.id) {
                return Arc::clone(stream);
            }
            let live = driver().contexts.all();
            own.retain(|id, _| live.iter().any(|context| context.id == *id));
            let numbers = (CUstream::PER_THREAD.0, next_id(), self.handle);
            let stream = Stream::new(numbers, 0, 0, Order::Blocking, Arc::clone(&self.health));
            own.insert(self.id, Arc::clone(&stream));
            lock(&self.streams).push(Arc::clone(&stream));
            stream
        })
    }

    /// What work of a stream must follow besides the stream's own: what default and blocking streams owe each other.
    fn follow(&self, streams: &mut Vec<Arc<Stream>>, stream: &Stream, after: &mut Vec<Arc<Completion>>) {
        streams.retain(|known| {
            let outstanding = known.outstanding();
            let kept = outstanding.is_some();
            if stream.order == Order::Legacy && known.order == Order::Blocking {
                after.extend(outstanding);
            }
            // Nobody can name a stream that is held only here.
            kept || Arc::strong_count(known) > 1
        });
        if stream.order == Order::Blocking {
            after.extend(self.legacy.outstanding());
        }
    }

    /// Submits work to a stream of this context, in CUDA's order: it follows what was submitted to the stream before,
    /// what `after` names, and what default and blocking streams owe each other.
    pub(crate) fn submit(
        &self,
        stream: &Arc<Stream>,
        mut after: Vec<Arc<Completion>>,
        work: impl FnOnce(&Health) -> Result<()> + Send + 'static,
    ) -> Result<Arc<Completion>> {
        self.health.check()?;
        let mut streams = lock(&self.streams);
        self.follow(&mut streams, stream, &mut after);
        stream.push(after, Box::new(work))
    }

    /// Submits work and waits for its end; the calling thread does it where the stream has nothing else to do.
    pub(crate) fn run(
        &self,
        stream: &Arc<Stream>,
        work: impl FnOnce(&Health) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.health.check()?;
        let mut after = Vec::new();
        let mut streams = lock(&self.streams);
        self.follow(&mut streams, stream, &mut after);
        if let Some(taken) = stream.take() {
            drop(streams);
            taken.run(&after, Box::new(work));
        } else {
            let done = stream.push(after, Box::new(work))?;
            drop(streams);
            done.wait();
        }
        self.health.check()
    }

    /// The end of all that the context has been given so far.
    pub(crate) fn mark_all(&self) -> Result<Arc<Completion>> {
        let streams = lock(&self.streams).clone();
        let after = streams.iter().filter_map(|stream| stream.outstanding()).collect();
        self.submit(&self.legacy, after, |_| Ok(()))
    }

    /// Whatever the context is given from now on follows a completion.
    pub(crate) fn hold_all(&self, completion: &Arc<Completion>) -> Result<()> {
        let streams = lock(&self.streams).clone();
        for stream in streams.iter().chain([&self.legacy]) {
            self.submit(stream, vec![Arc::clone(completion)], |_| Ok(()))?;
        }
        Ok(())
    }

    /// What a stream must be waited for: its own work and, for the default stream, that of all blocking ones.
    pub(crate) fn outstanding(&self, stream: &Arc<Stream>) -> Vec<Arc<Completion>> {
        let mut outstanding: Vec<_> = stream.outstanding().into_iter().collect();
        if stream.order == Order::Legacy {
            let streams = lock(&self.streams);
            let blocking = streams.iter().filter(|known| known.order == Order::Blocking);
            outstanding.extend(blocking.filter_map(|known| known.outstanding()));
        }
        outstanding
    }

    /// Waits for a stream.
    pub(crate) fn wait_for(&self, stream: &Arc<Stream>) -> Result<()> {
        for completion in self.outstanding(stream) {
            completion.wait();
        }
        self.health.check()
    }

    /// Waits for all work, whatever comes of it.
    pub(crate) fn drain(&self) {
        let streams = lock(&self.streams).clone();
        for stream in streams.iter().chain([&self.legacy]) {
            if let Some(last) = stream.outstanding() {
                last.wait();
            }
        }
    }

    /// Waits for all work of a context that is being destroyed, but not for kernels that do not end: those that run
    /// after [`LAST_WORK`] are stopped.
    pub(crate) fn end(&self) {
        let deadline = Instant::now() + LAST_WORK;
        let streams = lock(&self.streams).clone();
        let mut outstanding = streams.iter().chain([&self.legacy]).filter_map(|stream| stream.outstanding());
        if !outstanding.all(|last| last.wait_until(deadline)) {
            self.health.fail(CUresult::ERROR_LAUNCH_FAILED);
            self.health.cancel.cancel();
        }
        self.drain();
    }

    /// Waits for all work.
    pub(crate) fn synchronize(&self) -> Result<()> {
        self.drain();
        self.health.check()
    }
}

/// The device's own context.
#[derive(Debug, Default)]
pub(crate) struct Primary {
    /// Always the same, once there is one.
    handle: u64,
    retained: u32,
    flags: u32,
    context: Option<Arc<Context>>,
}

impl Primary {
    /// One more user.
    pub(crate) fn retain(&mut self, driver: &Driver) -> Arc<Context> {
        if self.handle == 0 {
            self.handle = mint(kind::CONTEXT);
        }
        self.retained += 1;
        let (handle, flags) = (self.handle, self.flags);
        let context = self.context.get_or_insert_with(|| {
            let context = Context::new(handle, false, 3020, flags);
            driver.contexts.insert(handle, Arc::clone(&context));
            context
        });
        Arc::clone(context)
    }

    /// One user less.
    pub(crate) fn release(&mut self, driver: &Driver) -> Result<()> {
        self.retained = self.retained.checked_sub(1).ok_or(CUresult::ERROR_INVALID_CONTEXT)?;
        if self.retained == 0 {
            self.reset(driver);
        }
        Ok(())
    }

    /// No user any more: memory, streams and all else are gone.
    pub(crate) fn reset(&mut self, driver: &Driver) {
        self.retained = 0;
        if let Some(context) = self.context.take() {
            driver.destroy_context(&context);
        }
    }

    /// Flags, and whether there are users.
    pub(crate) fn state(&self) -> (u32, bool) {
        (self.flags, self.context.is_some())
    }

    /// Sets the flags, also of a context in use.
    pub(crate) fn set_flags(&mut self, flags: u32) -> Result<()> {
        check_flags(flags)?;
        self.flags = flags;
        if let Some(context) = &self.context {
            context.flags.store(flags, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Remembers what `cuCtxSetFlags` did to the context.
    pub(crate) fn follow_flags(&mut self, context: &Context) {
        if context.handle == self.handle {
            self.flags = context.flags.load(Ordering::Relaxed);
        }
    }
}

thread_local! {
    /// Handles of the thread's contexts; the last is current.
    static STACK: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };

    /// The thread's own default streams, by the numbers of their contexts.
    static OWN_STREAMS: RefCell<HashMap<u64, Arc<Stream>>> = RefCell::default();
}

/// Handle of the thread's current context, or 0.
pub(crate) fn current_handle() -> u64 {
    STACK.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// The thread's current context.
pub(crate) fn current(driver: &Driver) -> Result<Arc<Context>> {
    match current_handle() {
        0 => Err(CUresult::ERROR_INVALID_CONTEXT),
        handle => driver.contexts.find(handle).ok_or(CUresult::ERROR_CONTEXT_IS_DESTROYED),
    }
}

/// Makes a context current.
pub(crate) fn push_current(handle: u64) {
    STACK.with_borrow_mut(|stack| stack.push(handle));
}

/// Ends the current context's turn.
pub(crate) fn pop_current() -> Result<u64> {
    STACK.with_borrow_mut(Vec::pop).ok_or(CUresult::ERROR_INVALID_CONTEXT)
}

/// Replaces the current context; 0 ends its turn.
pub(crate) fn set_current(handle: u64) {
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        if handle != 0 {
            stack.push(handle);
        }
    });
}

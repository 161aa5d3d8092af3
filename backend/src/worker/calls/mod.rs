//! The calls of a session: decoding, checking, calling the host's driver, encoding.
//!
//! Read [`Invocation`] first: one request on its way through. Generated calls are in [`generated`]; hand-written ones
//! in `arrays`, `copy`, `exchange`, `image`, `image_find`, `function`, `launch`, `context`, `host_memory`, `link`, `names`,
//! `processors`, `pools`,
//! `printed`, `sharing`, `tensor_maps` and `virtual_memory`, each named after its request in [`virtio_spec::requests`].
//! Those of [`virtio_spec::graph_requests`] are in `graph` (graphs as a whole), `graph_names` (their handles), `graph_node`
//! (adding and changing nodes), `graph_params` (asking about them), `graph_memory`, `graph_operations` and
//! `graph_condition` (kinds of nodes), `capture` and `host_function`.
//!
//! A guest can be wrong or hostile: what it sent was copied once before it comes here, and every number, length and
//! handle is checked before use. A wrong one is a CUDA error of that call.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod arrays;
mod capture;
mod context;
mod copy;
mod exchange;
mod function;
mod generated;
mod graph;
mod graph_condition;
mod graph_memory;
mod graph_names;
mod graph_node;
mod graph_operations;
mod graph_params;
pub(crate) mod handles;
mod host_function;
mod host_memory;
mod image;
mod image_find;
mod launch;
mod link;
mod names;
mod pools;
mod printed;
mod processors;
mod sharing;
mod tensor_maps;
mod virtual_memory;

use std::{
    collections::HashMap,
    ffi::CString,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use virtio_spec::{
    codec,
    cuda::{CUcontext, CUresult, CUstream},
    graph_requests::opcode as graph_opcode,
    handle::Kind,
    limits,
    requests::opcode,
    session::{Layout, RequestHeader, request_flags},
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use self::{
    graph::Graphs,
    handles::{Handles, Object, Recent},
    image::{Complete, Image},
    link::Link,
};
use super::{
    driver::Driver,
    memory::{Hold, Regions, SessionMemory},
};

/// What all lanes of a session share.
pub(crate) struct Session {
    pub(crate) memory: Arc<SessionMemory>,
    pub(crate) layout: Layout,
    pub(crate) regions: Arc<Regions>,
    pub(crate) driver: Arc<Driver>,
    pub(crate) handles: Handles,
    pub(crate) images: Mutex<HashMap<u64, Image>>,
    /// Images of loaded libraries, by the library's handle: the driver reads them for as long as it has the library.
    libraries: Mutex<HashMap<u64, Complete>>,
    pub(crate) links: Mutex<HashMap<u64, Link>>,
    /// Ranges that CUDA knows as pinned memory, by address: the context in which each was made known, and its hold.
    pub(crate) registered: Mutex<HashMap<u64, (u64, Hold)>>,
    /// Graphs, captures, and what they name.
    pub(crate) graphs: Graphs,
    initialised: std::sync::OnceLock<CUresult>,
}

impl Session {
    pub(crate) fn new(
        memory: Arc<SessionMemory>,
        layout: Layout,
        regions: Arc<Regions>,
        driver: Arc<Driver>,
    ) -> Self {
        Self {
            memory,
            layout,
            regions,
            driver,
            handles: Handles::new(),
            images: Mutex::new(HashMap::new()),
            libraries: Mutex::new(HashMap::new()),
            links: Mutex::new(HashMap::new()),
            registered: Mutex::new(HashMap::new()),
            graphs: Graphs::default(),
            initialised: std::sync::OnceLock::new(),
        }
    }

    fn libraries(&self) -> MutexGuard<'_, HashMap<u64, Complete>> {
        self.libraries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when nothing on the GPU can write to the guest's memory: at once for a session that has registered none,
    /// since staging is used only by requests that wait.
    pub(crate) fn quiesce(&self) {
        if self.registered.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return;
        }
        let contexts = &self.driver.contexts;
        let (Some(set), Some(synchronize)) = (contexts.cuCtxSetCurrent, contexts.cuCtxSynchronize) else {
            return;
        };
        for object in self.handles.all(Kind::Context) {
            // SAFETY: the context is in the session's table, so it is alive.
            if unsafe { set(codec::Scalar::from_u64(object.raw)) } == CUresult::SUCCESS {
                // SAFETY: no arguments. An error is the guest's, who sees it at its own next call.
                let _result = unsafe { synchronize() };
            }
        }
        // SAFETY: no context is current in this thread from here on, as before.
        let _result = unsafe { set(CUcontext::default()) };
    }

    /// Calls `cuInit` before the first request of the session.
    fn initialise(&self) -> Result<(), CUresult> {
        ok(*self.initialised.get_or_init(|| self.driver.initialise()))
    }
}

/// `CUDA_SUCCESS` as `Ok`.
pub(crate) fn ok(result: CUresult) -> Result<(), CUresult> {
    if result == CUresult::SUCCESS { Ok(()) } else { Err(result) }
}

/// Whether the driver prints what kernels have printed before such a request returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// It does not.
    None,
    /// It does.
    Flushed,
    /// It does, and the program has waited for everything, so nothing may be overlooked.
    All,
}

const CONTEXT_DESTROY: u32 = virtio_spec::calls::contexts::rows::cuCtxDestroy_v2.opcode;

/// What becomes of kernels' output at such a request.
pub(crate) fn output_of(code: u32) -> Output {
    use virtio_spec::calls::{contexts, events, memory, streams};

    const SYNCHRONIZE: u32 = contexts::rows::cuCtxSynchronize.opcode;
    const STREAM: u32 = streams::rows::cuStreamSynchronize.opcode;
    const EVENT: u32 = events::rows::cuEventSynchronize.opcode;
    const FREE: u32 = memory::rows::cuMemFree_v2.opcode;
    match code {
        SYNCHRONIZE | CONTEXT_DESTROY | opcode::PRIMARY_CONTEXT | opcode::OUTPUT_READ => Output::All,
        STREAM | EVENT | FREE | opcode::COPY | opcode::COPY_ARRAY => Output::Flushed,
        _ => Output::None,
    }
}

/// Whether such a request does nothing but wait for the GPU.
pub(crate) fn only_waits(code: u32) -> bool {
    use virtio_spec::calls::{contexts, events, streams};

    const SYNCHRONIZE: u32 = contexts::rows::cuCtxSynchronize.opcode;
    const STREAM: u32 = streams::rows::cuStreamSynchronize.opcode;
    const EVENT: u32 = events::rows::cuEventSynchronize.opcode;
    matches!(code, SYNCHRONIZE | STREAM | EVENT | graph_opcode::HOST_NEXT)
}

/// What a lane's host thread keeps between requests.
pub(crate) struct LaneState {
    /// Number of the lane.
    pub(crate) lane: u32,
    /// The context that is current in this host thread, as the guest's handle and the driver's.
    current: (u64, CUcontext),
    /// `CUstreamCaptureMode` of this host thread.
    capture_mode: u32,
    /// Set while the thread is inside the driver, for the lanes that wait for it.
    pub(crate) in_driver: Arc<AtomicBool>,
    /// CUDA has been told of the lane's staging.
    staging_is_known: bool,
    recent: Recent,
}

impl LaneState {
    pub(crate) fn new(lane: u32, in_driver: Arc<AtomicBool>) -> Self {
        Self {
            lane,
            current: (0, CUcontext::default()),
            capture_mode: 0,
            in_driver,
            staging_is_known: false,
            recent: Recent::new(),
        }
    }
}

/// One request on its way through: its parameters are read in order, its results written in order.
pub(crate) struct Invocation<'a> {
    session: &'a Session,
    lane: &'a mut LaneState,
    header: RequestHeader,
    parameters: &'a [u8],
    results: &'a mut Vec<u8>,
    /// Bytes that the response may have.
    room: usize,
}

impl<'a> Invocation<'a> {
    pub(crate) fn new(
        session: &'a Session,
        lane: &'a mut LaneState,
        header: RequestHeader,
        parameters: &'a [u8],
        results: &'a mut Vec<u8>,
        room: usize,
    ) -> Self {
        Self { session, lane, header, parameters, results, room }
    }

    /// Runs the request. Results are meaningful for `CUDA_SUCCESS`, and for loads and links also on failure.
    pub(crate) fn run(mut self) -> CUresult {
        self.dispatch().err().unwrap_or(CUresult::SUCCESS)
    }

    fn dispatch(&mut self) -> Result<(), CUresult> {
        self.session.initialise()?;
        self.take_capture_mode()?;
        match self.header.opcode {
            opcode::COPY => copy::run(self),
            opcode::COPY_ARRAY => copy::run_with_arrays(self),
            opcode::MANAGED_QUERY => exchange::is_managed(self),
            opcode::MANAGED_READ => exchange::read_managed(self),
            opcode::EXCHANGE => exchange::run(self),
            opcode::MIPMAP_LEVEL => arrays::level(self),
            opcode::VIEW_CREATE => arrays::view(self),
            opcode::ARRAY_DESTROY => arrays::destroy(self),
            opcode::IMAGE_CHUNK => image::chunk(self),
            opcode::IMAGE_FIND => image_find::find(self),
            opcode::IMAGE_PROOF => image_find::prove(self),
            opcode::LOAD => image::load(self),
            opcode::GET_FUNCTION => function::get(self),
            opcode::ENUMERATE => names::enumerate(self),
            opcode::PROCESSOR_LAYOUT => processors::layout(self),
            opcode::LAUNCH => launch::run(self),
            opcode::ACTIVE_CLUSTERS | opcode::CLUSTER_SIZE => launch::clusters(self),
            opcode::HOST_REGISTER => host_memory::register(self),
            opcode::HOST_UNREGISTER => host_memory::unregister(self),
            opcode::PRIMARY_CONTEXT => context::primary(self),
            opcode::CONTEXT_CREATE => context::create(self),
            CONTEXT_DESTROY => context::destroy(self),
            opcode::LINK_CREATE => link::create(self),
            opcode::LINK_ADD => link::add(self),
            opcode::LINK_COMPLETE => link::complete(self),
            opcode::LINK_READ => link::read(self),
            opcode::OUTPUT_READ => printed::read(self),
            opcode::ADDRESS_RESERVE => virtual_memory::reserve(self),
            opcode::MEMORY_CREATE => virtual_memory::create(self),
            opcode::MEMORY_GRANULARITY => virtual_memory::granularity(self),
            graph_opcode::GRAPH_CALL => graph::call(self),
            graph_opcode::GRAPH_NODE => graph_node::node(self),
            graph_opcode::GRAPH_NODE_GET => graph_params::get(self),
            graph_opcode::GRAPH_LIST => graph::list(self),
            graph_opcode::GRAPH_EDGES => graph::edges(self),
            graph_opcode::GRAPH_INSTANTIATE => graph::instantiate(self),
            graph_opcode::GRAPH_UPDATE => graph::update(self),
            graph_opcode::GRAPH_TEXT => graph::text(self),
            graph_opcode::GRAPH_CONDITION => graph_condition::create(self),
            graph_opcode::GRAPH_MEMORY => graph_memory::attribute(self),
            graph_opcode::CAPTURE_BEGIN => capture::begin(self),
            graph_opcode::CAPTURE_END => capture::end(self),
            graph_opcode::CAPTURE_INFO => capture::info(self),
            graph_opcode::CAPTURE_DEPENDENCIES => capture::dependencies(self),
            graph_opcode::HOST_FUNCTION => host_function::launch(self),
            graph_opcode::HOST_NEXT => host_function::next(self),
            graph_opcode::USER_OBJECT => host_function::user_object(self),
            opcode::POOL_CREATE => pools::create(self),
            opcode::POOL_ATTRIBUTE => pools::attribute(self),
            opcode::TENSOR_MAP => tensor_maps::encode(self),
            opcode::SHARE => sharing::share(self),
            opcode::SHARE_OPEN => sharing::open(self),
            opcode::SHARE_FORGET => sharing::forget(self),
            other => generated::dispatch(other, self).unwrap_or(Err(CUresult::ERROR_NOT_SUPPORTED)),
        }
    }

    /// The host's driver.
    pub(crate) fn driver(&self) -> &'a Driver {
        &self.session.driver
    }

    /// The session.
    pub(crate) fn session(&self) -> &'a Session {
        self.session
    }

    /// The call came through a per-thread entry.
    pub(crate) fn per_thread(&self) -> bool {
        self.header.flags & request_flags::PER_THREAD_STREAM != 0
    }

    /// Number of the call.
    pub(crate) fn opcode(&self) -> u32 {
        self.header.opcode
    }

    /// Handle of the guest thread's current context, 0 if it has none.
    pub(crate) fn context(&self) -> u64 {
        self.header.context
    }

    /// Makes the guest thread's context current in this host thread.
    pub(crate) fn set_current(&mut self) -> Result<(), CUresult> {
        let handle = self.header.context;
        if handle == 0 {
            return Err(CUresult::ERROR_INVALID_CONTEXT);
        }
        let Ok(raw) = self.raw(Kind::Context, handle) else {
            self.lane.current = (0, CUcontext::default());
            return Err(CUresult::ERROR_CONTEXT_IS_DESTROYED);
        };
        let raw: CUcontext = codec::Scalar::from_u64(raw);
        if self.lane.current != (handle, raw) {
            let set = self.driver().contexts.cuCtxSetCurrent.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            // SAFETY: the context is in the session's table, so it is alive.
            ok(unsafe { set(raw) })?;
            self.lane.current = (handle, raw);
        }
        Ok(())
    }

    /// Makes the guest thread's context current if it has one that is there, for calls that need none but may use it.
    pub(crate) fn prefer_current(&mut self) {
        if self.header.context != 0 {
            // The call itself says what is wrong, if anything is.
            let _ = self.set_current();
        }
    }

    /// Forgets which context is current: the driver may have changed it.
    pub(crate) fn forget_current(&mut self) {
        self.lane.current = (0, CUcontext::default());
    }

    /// Runs a call of the driver; meanwhile other lanes do not wait long for this one.
    pub(crate) fn in_driver<R>(&self, call: impl FnOnce() -> R) -> R {
        self.lane.in_driver.store(true, Ordering::Relaxed);
        let result = call();
        self.lane.in_driver.store(false, Ordering::Relaxed);
        result
    }

    /// Number of the lane that carries the request.
    pub(crate) fn lane(&self) -> u32 {
        self.lane.lane
    }

    // Parameters, in order.

    /// The next `length` bytes and their padding.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], CUresult> {
        let padded = length.checked_next_multiple_of(8).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let (head, rest) = self.parameters.split_at_checked(padded).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        self.parameters = rest;
        head.get(..length).ok_or(CUresult::ERROR_INVALID_VALUE)
    }

    /// The next structure.
    pub(crate) fn structure<T: FromBytes>(&mut self) -> Result<T, CUresult> {
        let bytes = self.bytes(size_of::<T>())?;
        T::read_from_bytes(bytes).map_err(|_| CUresult::ERROR_INVALID_VALUE)
    }

    /// The next number.
    pub(crate) fn scalar(&mut self) -> Result<u64, CUresult> {
        self.structure()
    }

    /// The next `count` elements.
    #[inline]
    pub(crate) fn values<T: FromBytes>(&mut self, count: u64) -> Result<Vec<T>, CUresult> {
        // Most launches have no attributes.
        if count == 0 {
            return Ok(Vec::new());
        }
        let count = usize::try_from(count).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        let length = count.checked_mul(size_of::<T>()).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let bytes = self.bytes(length)?;
        let values = bytes.chunks_exact(size_of::<T>()).map(T::read_from_bytes);
        values.collect::<Result<_, _>>().map_err(|_| CUresult::ERROR_INVALID_VALUE)
    }

    /// The next name: its length, then its bytes.
    pub(crate) fn text(&mut self) -> Result<CString, CUresult> {
        let length = self.scalar()?;
        self.text_of(length)
    }

    /// The next name, of this many bytes with its NUL.
    pub(crate) fn text_of(&mut self, length: u64) -> Result<CString, CUresult> {
        let length = usize::try_from(length).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        if length > limits::MAX_NAME_BYTES as usize {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let bytes = self.bytes(length)?;
        CString::from_vec_with_nul(bytes.to_vec()).map_err(|_| CUresult::ERROR_INVALID_VALUE)
    }

    /// Refuses a request that is longer than its call needs.
    pub(crate) fn end_of_parameters(&self) -> Result<(), CUresult> {
        if self.parameters.is_empty() { Ok(()) } else { Err(CUresult::ERROR_INVALID_VALUE) }
    }

    // Handles.

    /// The driver's object behind a handle. Null and the named streams stand for themselves; a function may be a kernel.
    pub(crate) fn handle(&self, kind: Kind, value: u64) -> Result<u64, CUresult> {
        match kind {
            Kind::Stream if value == 0 && self.per_thread() => Ok(CUstream::PER_THREAD.0),
            Kind::Stream if value <= CUstream::PER_THREAD.0 => Ok(value),
            Kind::Function if value.to_be_bytes().first() == Some(&(Kind::Kernel as u8)) => {
                self.raw(Kind::Kernel, value)
            }
            Kind::Context => self.raw(kind, value).map_err(|_| CUresult::ERROR_INVALID_CONTEXT),
            _ => self.raw(kind, value),
        }
    }

    #[inline]
    fn raw(&self, kind: Kind, value: u64) -> Result<u64, CUresult> {
        self.session.handles.raw(&self.lane.recent, kind, value)
    }

    /// Whether the guest may mint this handle.
    pub(crate) fn check_free(&self, kind: Kind, value: u64) -> Result<(), CUresult> {
        self.session.handles.check_free(kind, value)
    }

    /// Puts the driver's new object behind a minted handle.
    pub(crate) fn insert(&self, kind: Kind, value: u64, raw: u64) -> Result<(), CUresult> {
        self.insert_child(kind, value, raw, 0)
    }

    /// The same for an object that belongs to another one.
    pub(crate) fn insert_child(&self, kind: Kind, value: u64, raw: u64, parent: u64) -> Result<(), CUresult> {
        self.session.handles.insert(kind, value, Object { raw, parent, context: self.header.context })
    }

    /// Takes a destroyed handle out.
    pub(crate) fn remove(&self, kind: Kind, value: u64) {
        // Before the handle is free for a library that brings an image of its own.
        let image = if kind == Kind::Library { self.session.libraries().remove(&value) } else { None };
        self.session.handles.remove(kind, value);
        drop(image);
    }

    // Results, in order.

    /// Room for `count` elements that the driver will write, within what a response may hold.
    pub(crate) fn room<T: FromZeros>(&self, count: u64) -> Result<Vec<T>, CUresult> {
        let count = usize::try_from(count).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        let length = count.checked_mul(size_of::<T>()).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        if length > self.room_left() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        Ok((0..count).map(|_| T::new_zeroed()).collect())
    }

    /// Bytes that the response still has room for.
    pub(crate) fn room_left(&self) -> usize {
        self.room.saturating_sub(self.results.len())
    }

    /// Adds bytes and their padding to the response.
    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), CUresult> {
        let padded = bytes.len().checked_next_multiple_of(8).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        if padded > self.room_left() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        self.results.extend_from_slice(bytes);
        self.results.resize(self.results.len().next_multiple_of(8), 0);
        Ok(())
    }

    /// Adds a value to the response.
    pub(crate) fn put<T: IntoBytes + Immutable>(&mut self, value: &T) -> Result<(), CUresult> {
        self.put_bytes(value.as_bytes())
    }

    /// Adds elements to the response.
    pub(crate) fn put_values<T: IntoBytes + Immutable>(&mut self, values: &[T]) -> Result<(), CUresult> {
        self.put_bytes(values.as_bytes())
    }
}

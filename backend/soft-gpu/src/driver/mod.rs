//! The driver's state and what happens to it; the C functions in [`crate::api`] are a thin skin over this.
//!
//! Read in this order: `handles`, `context` (contexts and their streams), `queue` (how a stream works), `pages`,
//! `allocation`, `memory`, `virtual_memory`, `pool`, `sharing`, `copy`, `array`, `image` and `compile` (from bytes to code),
//! `module`, `library`, `launch`, `attributes`; `graph`, `graph_exec`, `graph_memory`, `conditional` and
//! `capture`.
//!
//! Locks are taken in this order: an executable graph's launches, a context's order of work, a stream's queue, a table; and
//! none is held while work runs.

pub(crate) mod allocation;
pub(crate) mod array;
pub(crate) mod attributes;
pub(crate) mod capture;
pub(crate) mod compile;
pub(crate) mod conditional;
pub(crate) mod context;
pub(crate) mod copy;
pub(crate) mod event;
pub(crate) mod graph;
pub(crate) mod graph_exec;
pub(crate) mod graph_memory;
pub(crate) mod handles;
pub(crate) mod image;
pub(crate) mod jit;
pub(crate) mod launch;
pub(crate) mod library;
pub(crate) mod link;
mod lz4;
pub(crate) mod memory;
pub(crate) mod module;
pub(crate) mod pages;
pub(crate) mod pool;
pub(crate) mod queue;
mod ranges;
pub(crate) mod sharing;
pub(crate) mod virtual_memory;
mod visible;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use virtio_spec::cuda::CUresult;

use allocation::{Allocation, Kind};
use array::{Array, Mipmapped, Object};
use conditional::Condition;
use context::{Context, Primary};
use event::Event;
use graph::{Graph, Node, UserObject};
use graph_exec::Exec;
use graph_memory::GraphMemory;
use handles::Table;
use library::{Kernel, Library};
use link::Linker;
use memory::Memory;
use module::{Function, Module};
use pool::Pools;
use queue::Stream;
use sharing::Imports;
use virtual_memory::VirtualMemory;

/// What a call ends with.
pub(crate) type Result<T> = core::result::Result<T, CUresult>;

/// Everything that the process has of the device.
#[derive(Default)]
pub(crate) struct Driver {
    /// Process that initialized the driver, 0 before that.
    process: AtomicU32,
    visible: OnceLock<bool>,
    pub(crate) primary: Mutex<Primary>,
    pub(crate) memory: Memory,
    pub(crate) virtual_memory: VirtualMemory,
    pub(crate) pools: Pools,
    pub(crate) imports: Imports,
    pub(crate) contexts: Table<Context>,
    pub(crate) streams: Table<Stream>,
    pub(crate) events: Table<Event>,
    pub(crate) modules: Table<Module>,
    pub(crate) functions: Table<Function>,
    pub(crate) libraries: Table<Library>,
    pub(crate) kernels: Table<Kernel>,
    pub(crate) linkers: Table<Linker>,
    pub(crate) arrays: Table<Array>,
    pub(crate) mipmapped: Table<Mipmapped>,
    pub(crate) textures: Table<Object>,
    pub(crate) surfaces: Table<Object>,
    pub(crate) graphs: Table<Graph>,
    pub(crate) nodes: Table<Node>,
    pub(crate) conditions: Table<Condition>,
    pub(crate) execs: Table<Exec>,
    pub(crate) graph_memory: GraphMemory,
    pub(crate) user_objects: Table<UserObject>,
}

/// The process's driver.
pub(crate) fn driver() -> &'static Driver {
    static DRIVER: LazyLock<Driver> = LazyLock::new(Driver::default);
    &DRIVER
}

impl Driver {
    /// `cuInit`. A child of the process that did it cannot: the driver's threads are not there.
    pub(crate) fn initialize(&self) -> Result<()> {
        let own = std::process::id();
        match self.process.compare_exchange(0, own, Ordering::AcqRel, Ordering::Acquire) {
            Err(other) if other != own => Err(CUresult::ERROR_NOT_INITIALIZED),
            _ => Ok(()),
        }
    }

    /// Whether `CUDA_VISIBLE_DEVICES` leaves the device visible, as it was when first asked.
    pub(crate) fn is_visible(&self) -> bool {
        *self.visible.get_or_init(|| match std::env::var_os("CUDA_VISIBLE_DEVICES") {
            None => true,
            Some(value) => visible::is_visible(&value.to_string_lossy()),
        })
    }

    /// Whether calls are possible.
    pub(crate) fn check_initialized(&self) -> Result<()> {
        if self.process.load(Ordering::Acquire) == std::process::id() {
            Ok(())
        } else {
            Err(CUresult::ERROR_NOT_INITIALIZED)
        }
    }

    /// Waits for all work that any context was given so far.
    pub(crate) fn idle(&self) {
        for context in self.contexts.all() {
            context.drain();
        }
    }

    /// Ends a range of memory, after the work that was given before.
    pub(crate) fn release(&self, start: u64, kinds: &[Kind], absent: CUresult) -> Result<()> {
        self.memory.find_start(start, kinds).ok_or(absent)?;
        self.idle();
        let taken = self.memory.take(start, kinds).ok_or(absent)?;
        self.reclaim(&[taken]);
        Ok(())
    }

    /// Gives memory back that is off the table already.
    fn reclaim(&self, taken: &[Allocation]) {
        if taken.iter().any(|allocation| !allocation.is_device()) {
            // Another thread's work may have begun just before.
            self.idle();
        }
        for allocation in taken {
            self.memory.reclaim(allocation);
        }
    }

    /// Ends a context and all that belongs to it.
    pub(crate) fn destroy_context(&self, context: &Arc<Context>) {
        let handle = context.handle;
        if self.contexts.remove(handle).is_err() {
            return;
        }
        context.end();
        self.streams.retain(|stream| stream.context != handle);
        self.events.retain(|event| event.context != handle);
        self.functions.retain(|function| function.module.context != handle);
        self.modules.retain(|module| module.context != handle);
        self.arrays.retain(|array| array.context != handle);
        self.mipmapped.retain(|mipmapped| mipmapped.context != handle);
        self.textures.retain(|object| object.context != handle);
        self.surfaces.retain(|object| object.context != handle);
        for library in self.libraries.all() {
            library.forget_context(handle);
        }
        let taken = self.memory.take_context(handle);
        self.reclaim(&taken);
        self.graph_memory.forget(handle);
    }
}

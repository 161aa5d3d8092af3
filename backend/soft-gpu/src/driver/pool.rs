//! Memory pools. A pool keeps nothing that was freed, so that what it has reserved is what is in use, and its settings
//! are remembered and steer nothing.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use virtio_spec::cuda::{CUmemAllocationHandleType, CUmemPool_attribute as Attribute, CUresult};

use super::handles::{Table, kind, mint};
use super::memory::Memory;
use super::queue::lock;
use super::{Driver, Result};

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) handle: u64,
    /// What its allocations are marked with.
    number: u32,
    /// Most bytes that it may have; 0 for no bound of its own.
    pub(crate) most: u64,
    pub(crate) handle_types: CUmemAllocationHandleType,
    /// The memory of the process whose pool it is, if that is another one.
    pub(crate) origin: Option<OwnedFd>,
    /// Whether it may reuse memory in three ways, and the bytes that it may keep.
    settings: Mutex<[u64; 4]>,
    /// The most that was in use, as it was last reset: reserved and used.
    high: [AtomicU64; 2],
}

impl Pool {
    fn new(
        number: u32,
        most: u64,
        handle_types: CUmemAllocationHandleType,
        origin: Option<OwnedFd>,
    ) -> Arc<Self> {
        let settings = Mutex::new([1, 1, 1, 0]);
        Arc::new(Self {
            handle: mint(kind::POOL),
            number,
            most,
            handle_types,
            origin,
            settings,
            high: Default::default(),
        })
    }

    /// Takes memory.
    pub(crate) fn allocate(&self, memory: &Memory, length: u64, context: u64) -> Result<u64> {
        // As CUDA's documentation says: nothing is taken from another process's pool.
        if self.origin.is_some() {
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        let used = memory.used_by_pool(self.number);
        if self.most != 0 && used.checked_add(length).is_none_or(|wanted| wanted > self.most) {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
        let start = memory.allocate_pooled(length, context, self.number)?;
        let used = memory.used_by_pool(self.number);
        for high in &self.high {
            high.fetch_max(used, Ordering::Relaxed);
        }
        Ok(start)
    }

    /// One attribute.
    pub(crate) fn attribute(&self, memory: &Memory, attribute: Attribute) -> Result<u64> {
        let [reserved, used] = &self.high;
        Ok(match attribute {
            Attribute::RESERVED_MEM_CURRENT | Attribute::USED_MEM_CURRENT => memory.used_by_pool(self.number),
            Attribute::RESERVED_MEM_HIGH => reserved.load(Ordering::Relaxed),
            Attribute::USED_MEM_HIGH => used.load(Ordering::Relaxed),
            setting => {
                let index = usize::try_from(setting.0).unwrap_or(0).wrapping_sub(1);
                lock(&self.settings).get(index).copied().ok_or(CUresult::ERROR_INVALID_VALUE)?
            }
        })
    }

    /// Sets one attribute. What is in use cannot be set, and its highest marks only to zero.
    pub(crate) fn set_attribute(&self, memory: &Memory, attribute: Attribute, value: u64) -> Result<()> {
        let [reserved, used] = &self.high;
        let now = || memory.used_by_pool(self.number);
        match attribute {
            Attribute::RESERVED_MEM_HIGH if value == 0 => reserved.store(now(), Ordering::Relaxed),
            Attribute::USED_MEM_HIGH if value == 0 => used.store(now(), Ordering::Relaxed),
            setting => {
                let index = usize::try_from(setting.0).unwrap_or(0).wrapping_sub(1);
                let mut settings = lock(&self.settings);
                *settings.get_mut(index).ok_or(CUresult::ERROR_INVALID_VALUE)? = value;
            }
        }
        Ok(())
    }
}

/// The pools, and which of them the device's allocations come from.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    all: Table<Pool>,
    default: OnceLock<Arc<Pool>>,
    current: Mutex<Option<Arc<Pool>>>,
    numbers: AtomicU64,
}

impl Pools {
    /// The device's own pool, whose number is 0.
    pub(crate) fn default_pool(&self) -> Arc<Pool> {
        let make = || {
            let pool = Pool::new(0, 0, CUmemAllocationHandleType::NONE, None);
            self.all.insert(pool.handle, Arc::clone(&pool));
            pool
        };
        Arc::clone(self.default.get_or_init(make))
    }

    /// The pool that allocations without one come from.
    pub(crate) fn current(&self) -> Arc<Pool> {
        lock(&self.current).clone().unwrap_or_else(|| self.default_pool())
    }

    /// Has allocations without a pool come from this one.
    pub(crate) fn set_current(&self, pool: Arc<Pool>) {
        *lock(&self.current) = Some(pool);
    }

    /// A new pool.
    pub(crate) fn create(
        &self,
        most: u64,
        handle_types: CUmemAllocationHandleType,
        origin: Option<OwnedFd>,
    ) -> Result<Arc<Pool>> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let number = u32::try_from(number).map_err(|_| CUresult::ERROR_OUT_OF_MEMORY)?;
        let pool = Pool::new(number, most, handle_types, origin);
        self.all.insert(pool.handle, Arc::clone(&pool));
        Ok(pool)
    }

    /// The pool with a handle.
    pub(crate) fn get(&self, handle: u64) -> Result<Arc<Pool>> {
        self.all.find(handle).ok_or(CUresult::ERROR_INVALID_VALUE)
    }

    /// The pool with a number.
    pub(crate) fn numbered(&self, number: u32) -> Option<Arc<Pool>> {
        self.all.all().into_iter().find(|pool| pool.number == number)
    }

    /// Ends a pool; what was taken from it stays until it is freed.
    pub(crate) fn destroy(&self, handle: u64) -> Result<()> {
        if self.get(handle)?.number == 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        self.all.remove(handle)?;
        let mut current = lock(&self.current);
        if current.as_ref().is_some_and(|pool| pool.handle == handle) {
            *current = None;
        }
        Ok(())
    }
}

impl Driver {
    /// Memory of a pool for a context.
    pub(crate) fn allocate_from(&self, pool: &Pool, length: u64, context: u64) -> Result<u64> {
        pool.allocate(&self.memory, length, context)
    }
}

//! Memory that graphs allocate: an allocation has its address from the making of its node on, and memory behind it from a
//! launch until it is freed.
//!
//! Whether an allocation may be freed, or its graph launched again, follows from the order of the calls; memory comes and
//! goes when the work is done.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use virtio_spec::cuda::{CUgraphMem_attribute as Attribute, CUmemAccessDesc, CUresult};

use super::allocation::Kind;
use super::graph::Op;
use super::queue::lock;
use super::{Driver, Result, driver};

/// What an allocation node was described with.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) length: u64,
    pub(crate) most: usize,
    pub(crate) usage: u16,
    pub(crate) access: Vec<CUmemAccessDesc>,
}

/// An allocation of a graph.
#[derive(Debug)]
pub(crate) struct GraphAllocation {
    pub(crate) start: u64,
    pub(crate) wanted: Wanted,
    /// Handle of the graph whose node allocates it.
    owner: u64,
    /// Handles of the graphs that have a node which frees it.
    freed_by: Mutex<Vec<u64>>,
    /// A launch has left it, and no call since has freed it.
    left: AtomicBool,
}

impl GraphAllocation {
    /// Whether a graph may get a node that frees it: once in each graph, and in the owner or in others.
    pub(crate) fn check_free_in(&self, graph: u64) -> Result<()> {
        let freed_by = lock(&self.freed_by);
        let refused =
            freed_by.iter().any(|other| *other == graph || *other == self.owner || graph == self.owner);
        if refused { Err(CUresult::ERROR_INVALID_VALUE) } else { Ok(()) }
    }

    /// Notes that a graph has a node that frees it.
    pub(crate) fn freed_in(&self, graph: u64) {
        lock(&self.freed_by).push(graph);
    }

    /// Frees what a launch has left, in the order of calls.
    pub(crate) fn let_go(&self) -> Result<()> {
        if self.left.swap(false, Ordering::AcqRel) { Ok(()) } else { Err(CUresult::ERROR_INVALID_VALUE) }
    }
}

impl Drop for GraphAllocation {
    fn drop(&mut self) {
        let driver = driver();
        lock(&driver.graph_memory.known).remove(&self.start);
        driver.memory.give_range(self.start, self.wanted.length);
    }
}

/// The memory of graphs.
#[derive(Debug, Default)]
pub(crate) struct GraphMemory {
    /// Every allocation that has an address.
    known: Mutex<BTreeMap<u64, Weak<GraphAllocation>>>,
    /// Those with memory, which outlives their graphs, and the contexts that they are in.
    live: Mutex<HashMap<u64, (Arc<GraphAllocation>, u64)>>,
    /// The most that was in use, as it was last reset: used and reserved.
    high: [AtomicU64; 2],
}

impl GraphMemory {
    /// The allocation that begins at an address.
    pub(crate) fn find(&self, start: u64) -> Option<Arc<GraphAllocation>> {
        lock(&self.known).get(&start).and_then(Weak::upgrade)
    }

    /// Whether all of a range lies in one allocation, with memory behind it or not.
    pub(crate) fn contains(&self, address: u64, length: u64) -> bool {
        let found = lock(&self.known).range(..=address).next_back().and_then(|(_, known)| known.upgrade());
        let end = address.checked_add(length);
        found.is_some_and(|found| end.is_some_and(|end| end <= found.start + found.wanted.length))
    }

    /// Puts memory behind an allocation.
    pub(crate) fn begin(&self, allocation: &Arc<GraphAllocation>, context: u64) -> Result<()> {
        driver().memory.allocate_at(allocation.start, allocation.wanted.length, context)?;
        lock(&self.live).insert(allocation.start, (Arc::clone(allocation), context));
        let used = self.used();
        for high in &self.high {
            high.fetch_max(used, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes the memory behind an allocation away.
    pub(crate) fn end(&self, allocation: &GraphAllocation) {
        // It may be gone with its context.
        let _ = driver().memory.release(allocation.start, &[Kind::Graph]);
        let ended = lock(&self.live).remove(&allocation.start);
        drop(ended);
    }

    /// A context is gone, and its memory with it.
    pub(crate) fn forget(&self, context: u64) {
        let gone: Vec<_> = lock(&self.live).extract_if(|_, (_, of)| *of == context).collect();
        drop(gone);
    }

    fn used(&self) -> u64 {
        lock(&self.live).values().map(|(allocation, _)| allocation.wanted.length).sum()
    }

    /// One attribute. Nothing is kept that is not in use.
    pub(crate) fn attribute(&self, attribute: Attribute) -> Result<u64> {
        let [used, reserved] = &self.high;
        match attribute {
            Attribute::USED_MEM_CURRENT | Attribute::RESERVED_MEM_CURRENT => Ok(self.used()),
            Attribute::USED_MEM_HIGH => Ok(used.load(Ordering::Relaxed)),
            Attribute::RESERVED_MEM_HIGH => Ok(reserved.load(Ordering::Relaxed)),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    }

    /// Resets a highest mark, which is all that can be set.
    pub(crate) fn set_attribute(&self, attribute: Attribute, value: u64) -> Result<()> {
        let [used, reserved] = &self.high;
        let mark = match attribute {
            Attribute::USED_MEM_HIGH if value == 0 => used,
            Attribute::RESERVED_MEM_HIGH if value == 0 => reserved,
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        };
        mark.store(self.used(), Ordering::Relaxed);
        Ok(())
    }
}

impl Driver {
    /// A new allocation of a graph: an address, without memory.
    pub(crate) fn reserve_for(&self, graph: u64, wanted: Wanted) -> Result<Arc<GraphAllocation>> {
        let start = self.memory.take_range(wanted.length)?;
        let (freed_by, left) = (Mutex::default(), AtomicBool::new(false));
        let made = Arc::new(GraphAllocation { start, wanted, owner: graph, freed_by, left });
        lock(&self.graph_memory.known).insert(start, Arc::downgrade(&made));
        Ok(made)
    }
}

/// What launches of a graph do with memory beyond their own end.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    /// Allocations that a launch leaves.
    leaves: Vec<Arc<GraphAllocation>>,
    /// Allocations of other graphs that a launch frees.
    frees: Vec<Arc<GraphAllocation>>,
}

impl Balance {
    /// What some nodes do together.
    pub(crate) fn of<'a>(ops: impl Iterator<Item = &'a Op> + Clone) -> Self {
        let allocated = ops.clone().filter_map(|op| match op {
            Op::Allocate(allocation) => Some(allocation),
            _ => None,
        });
        let freed = ops.filter_map(|op| match op {
            Op::Free(allocation) => Some(allocation),
            _ => None,
        });
        let without = |list: Vec<&Arc<GraphAllocation>>, others: &[&Arc<GraphAllocation>]| {
            let kept = list.into_iter().filter(|one| !others.iter().any(|other| other.start == one.start));
            kept.cloned().collect()
        };
        let (allocated, freed): (Vec<_>, Vec<_>) = (allocated.collect(), freed.collect());
        Self { leaves: without(allocated.clone(), &freed), frees: without(freed, &allocated) }
    }

    /// Notes a launch. What earlier ones have left refuses it, or is to be freed first, which is returned.
    pub(crate) fn launch(&self, may_free: bool) -> Result<Vec<Arc<GraphAllocation>>> {
        let is_left = |allocation: &&Arc<GraphAllocation>| allocation.left.load(Ordering::Acquire);
        let before: Vec<_> = self.leaves.iter().filter(is_left).cloned().collect();
        if !may_free && !before.is_empty() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        for allocation in &self.frees {
            allocation.let_go()?;
        }
        for allocation in &self.leaves {
            allocation.left.store(true, Ordering::Release);
        }
        Ok(before)
    }
}

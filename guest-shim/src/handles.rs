//! Handles that the application sees, minted here ([`virtio_spec::handle`]).
//!
//! A table for each kind says which indices are in use, in which generation, and in which context they were made: when
//! a context goes, what was made in it goes too.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::cuda::CUresult;
use virtio_spec::handle::{Handle, Kind, MAX_GENERATION, MAX_INDEX};
use virtio_spec::limits::MAX_HANDLES;

use crate::context;

/// Kinds, and an unused place for number 0.
const KINDS: usize = 19;
/// Freed indices that are kept back before one is used again, so that a stale handle is recognised for long.
const RESERVE: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    generation: u32,
    /// Context in which it was made, 0 if that does not matter.
    parent: u64,
    live: bool,
}

#[derive(Debug)]
struct Table {
    entries: Vec<Entry>,
    free: VecDeque<u32>,
    live: u32,
}

static TABLES: [Mutex<Table>; KINDS] =
    [const { Mutex::new(Table { entries: Vec::new(), free: VecDeque::new(), live: 0 }) }; KINDS];

/// Handles that were found live by one thread are not looked up again until any handle is given back.
const RECENT: usize = 16;
static RELEASES: AtomicU64 = AtomicU64::new(0);
thread_local! {
    /// Handles, and the number of releases when they were live.
    static RECENTLY_LIVE: [Cell<(u64, u64)>; RECENT] = const { [const { Cell::new((0, 0)) }; RECENT] };
}

fn table(kind: Kind) -> MutexGuard<'static, Table> {
    // In bounds: a kind's number is below `KINDS`, which a test keeps true.
    TABLES[kind as usize % KINDS].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kinds of objects that end with the context in which they were made.
const OF_CONTEXT: [Kind; 9] = [
    Kind::Module,
    Kind::Function,
    Kind::Stream,
    Kind::Event,
    Kind::Link,
    Kind::Array,
    Kind::MipmappedArray,
    Kind::Texture,
    Kind::Surface,
];

impl Table {
    fn find(&mut self, handle: Handle) -> Option<&mut Entry> {
        self.entries
            .get_mut(handle.index as usize)
            .filter(|entry| entry.live && entry.generation == handle.generation)
    }

    fn free(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.live = false;
            RELEASES.fetch_add(1, Ordering::Release);
            entry.generation = (entry.generation + 1) & MAX_GENERATION;
            self.live -= 1;
            self.free.push_back(index);
        }
    }
}

/// A new handle.
pub(crate) fn mint(kind: Kind) -> Result<u64, CUresult> {
    let parent = if OF_CONTEXT.contains(&kind) { context::current().unwrap_or(0) } else { 0 };
    let mut table = table(kind);
    if table.live >= MAX_HANDLES {
        return Err(CUresult::ERROR_OUT_OF_MEMORY);
    }
    let reused = if table.free.len() > RESERVE { table.free.pop_front() } else { None };
    let index = match reused {
        Some(index) => index,
        None => {
            let index = u32::try_from(table.entries.len()).map_err(|_| CUresult::ERROR_OUT_OF_MEMORY)?;
            if index > MAX_INDEX {
                return Err(CUresult::ERROR_OUT_OF_MEMORY);
            }
            table.entries.push(Entry { generation: 0, parent: 0, live: false });
            index
        }
    };
    table.live += 1;
    let entry = table.entries.get_mut(index as usize).ok_or(CUresult::ERROR_UNKNOWN)?;
    entry.live = true;
    entry.parent = parent;
    Ok(Handle { kind, generation: entry.generation, index }.to_u64())
}

/// Gives a handle back. One that is not live is left alone.
pub(crate) fn release(kind: Kind, value: u64) {
    if let Some(handle) = Handle::from_u64(value).filter(|handle| handle.kind == kind) {
        let mut table = table(kind);
        if table.find(handle).is_some() {
            table.free(handle.index);
        }
    }
}

/// Whether the value is a live handle of one of the kinds.
pub(crate) fn check(kinds: &[Kind], value: u64) -> bool {
    let Some(handle) = Handle::from_u64(value).filter(|handle| kinds.contains(&handle.kind)) else {
        return false;
    };
    let releases = RELEASES.load(Ordering::Acquire);
    let place = handle.index as usize % RECENT;
    if RECENTLY_LIVE.try_with(|recent| recent[place].get()) == Ok((value, releases)) {
        return true;
    }
    let is_live = table(handle.kind).find(handle).is_some();
    if is_live {
        // A thread without its locals looks again each time.
        let _ = RECENTLY_LIVE.try_with(|recent| recent[place].set((value, releases)));
    }
    is_live
}

/// The context in which a live object was made.
pub(crate) fn parent(value: u64) -> Option<u64> {
    let handle = Handle::from_u64(value)?;
    table(handle.kind).find(handle).map(|entry| entry.parent)
}

/// Gives back everything that was made in a context.
pub(crate) fn release_children(context: u64) {
    for kind in OF_CONTEXT {
        let mut table = table(kind);
        let gone: Vec<u32> = (0_u32..)
            .zip(&table.entries)
            .filter(|(_, entry)| entry.live && entry.parent == context)
            .map(|(index, _)| index)
            .collect();
        for index in gone {
            table.free(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_table() {
        assert!((0..=u8::MAX).filter_map(Kind::from_u8).all(|kind| (kind as usize) < KINDS));
    }

    #[test]
    fn a_released_handle_is_not_valid_and_not_minted_again() {
        let first = mint(Kind::Pool).expect("a handle");
        assert!(check(&[Kind::Pool], first));
        assert!(!check(&[Kind::Graph], first), "the kind is checked");

        release(Kind::Pool, first);

        assert!(!check(&[Kind::Pool], first));
        let later: Vec<u64> = (0..200).map(|_| mint(Kind::Pool).expect("a handle")).collect();
        assert!(!later.contains(&first));
        for handle in later {
            release(Kind::Pool, handle);
        }
        let again: Vec<u64> = (0..200).map(|_| mint(Kind::Pool).expect("a handle")).collect();
        assert!(!again.contains(&first), "the index may be the same, the generation is not");
    }

    #[test]
    fn values_that_are_no_handles_are_refused() {
        for value in [0, 1, 2, u64::MAX, 0x7f00_1234_5670] {
            assert!(!check(&[Kind::Stream, Kind::Event], value));
        }
    }
}

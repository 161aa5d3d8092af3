//! Device memory, pinned memory, and which addresses are whose.
//!
//! Device memory is a window of ordinary memory of the process, so a device address is also the host's. It is mapped from
//! a file without a name, which other processes can map too. What is an
//! allocation is decided by the table alone: every access of a kernel and every copy is looked up in it.
//!
//! Unsafe code: mapping of memory, and filling what was freed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use super::Result;
use super::allocation::{Allocation, Kind};
use super::pages::{PAGE, host, is_mapped, map, map_shared, nameless_file, punch};
use super::queue::lock;
use super::ranges::Ranges;
use virtio_spec::cuda::CUresult;

/// Memory of the device, in bytes.
pub(crate) const TOTAL: u64 = 4 << 30;

/// Addresses for it: more, so that freed ranges rest before they are used again.
const WINDOW: u64 = 4 * TOTAL;

/// Allocations begin at multiples of this.
const ALIGN: u64 = 512;

/// Bytes between allocations that belong to none.
const GAP: u64 = 512;

/// `CU_MEMHOSTREGISTER_PORTABLE`.
const REGISTER_PORTABLE: u32 = 1;

/// What freed memory is overwritten with.
const POISON: u8 = 0xd5;

struct Window {
    start: u64,
    /// What the window is mapped from, so that other processes can map parts of it.
    file: OwnedFd,
    ranges: Mutex<Ranges>,
    used: AtomicU64,
}

/// All memory that the driver knows.
#[derive(Default)]
pub(crate) struct Memory {
    window: OnceLock<Option<Window>>,
    table: RwLock<BTreeMap<u64, Allocation>>,
    ids: AtomicU64,
}

/// Gives whole pages back to the system and overwrites the rest.
fn discard(window: &Window, start: u64, length: u64) {
    let (first, last) = (start.next_multiple_of(PAGE), (start + length) & !(PAGE - 1));
    let fill = |from: u64, to: u64| {
        if let Ok(count) = usize::try_from(to.saturating_sub(from)) {
            // SAFETY: the range lies in the window, which stays mapped, and belongs to no allocation.
            unsafe { host(from).write_bytes(POISON, count) };
        }
    };
    if first >= last {
        fill(start, start + length);
        return;
    }
    fill(start, first);
    fill(last, start + length);
    punch(&window.file, first - window.start, last - first);
}

/// Bytes that an allocation of so many takes.
fn reserved_for(length: u64) -> Result<u64> {
    if length == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let reserved = length.checked_next_multiple_of(ALIGN).filter(|&reserved| reserved <= TOTAL);
    reserved.ok_or(CUresult::ERROR_OUT_OF_MEMORY)
}

impl Memory {
    fn window(&self) -> Result<&Window> {
        let map_window = || {
            let file = nameless_file(WINDOW)?;
            let start = map_shared(&file, 0, WINDOW)?;
            Some(Window {
                start,
                file,
                ranges: Mutex::new(Ranges::new(start, WINDOW)),
                used: AtomicU64::new(0),
            })
        };
        self.window.get_or_init(map_window).as_ref().ok_or(CUresult::ERROR_OUT_OF_MEMORY)
    }

    /// Free bytes of the device.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.window().map_or(0, |window| TOTAL - window.used.load(Ordering::Relaxed))
    }

    /// Whether an address can only be device memory, live or not.
    pub(crate) fn in_window(&self, address: u64) -> bool {
        let window = self.window.get().and_then(Option::as_ref);
        window.is_some_and(|window| (window.start..window.start + WINDOW).contains(&address))
    }

    fn insert(&self, start: u64, length: u64, reserved: u64, kind: Kind, (context, flags): (u64, u32)) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let allocation = Allocation { start, length, kind, context, flags, id, sync_memops: false, reserved };
        self.table.write().unwrap_or_else(PoisonError::into_inner).insert(start, allocation);
    }

    /// Takes device memory; its contents are undefined.
    pub(crate) fn allocate(&self, length: u64, align: u64, kind: Kind, context: u64) -> Result<u64> {
        self.allocate_marked(length, align, kind, (context, 0))
    }

    /// Takes memory for a pool.
    pub(crate) fn allocate_pooled(&self, length: u64, context: u64, pool: u32) -> Result<u64> {
        self.allocate_marked(length, 1, Kind::Pool, (context, pool))
    }

    /// Takes addresses without memory.
    pub(crate) fn take_range(&self, length: u64) -> Result<u64> {
        let reserved = reserved_for(length)?;
        let taken = lock(&self.window()?.ranges).take(reserved + GAP, ALIGN);
        taken.ok_or(CUresult::ERROR_OUT_OF_MEMORY)
    }

    /// Gives addresses back that were taken without memory.
    pub(crate) fn give_range(&self, start: u64, length: u64) {
        if let (Ok(window), Ok(reserved)) = (self.window(), reserved_for(length)) {
            lock(&window.ranges).give(start, reserved + GAP);
        }
    }

    /// Puts memory of a graph at addresses that were taken for it.
    pub(crate) fn allocate_at(&self, start: u64, length: u64, context: u64) -> Result<()> {
        let reserved = reserved_for(length)?;
        self.take_bytes(reserved)?;
        self.insert(start, length, reserved, Kind::Graph, (context, 0));
        Ok(())
    }

    fn allocate_marked(&self, length: u64, align: u64, kind: Kind, marks: (u64, u32)) -> Result<u64> {
        let reserved = reserved_for(length)?;
        let window = self.window()?;
        let mut ranges = lock(&window.ranges);
        if window.used.load(Ordering::Relaxed) + reserved > TOTAL {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
        let start = ranges.take(reserved + GAP, align.max(ALIGN)).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
        window.used.fetch_add(reserved, Ordering::Relaxed);
        drop(ranges);
        self.insert(start, length, reserved, kind, marks);
        Ok(start)
    }

    /// Maps pinned memory, zeroed.
    pub(crate) fn allocate_pinned(&self, length: u64, flags: u32, context: u64) -> Result<u64> {
        if length == 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let reserved = length.checked_next_multiple_of(PAGE).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
        let start = map(reserved).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
        self.insert(start, length, reserved, Kind::Pinned, (context, flags));
        Ok(start)
    }

    /// Makes memory of the program usable by kernels.
    pub(crate) fn register(&self, start: u64, length: u64, flags: u32, context: u64) -> Result<()> {
        let end = start.checked_add(length).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        if start == 0 || length == 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let before = table.range(..end).next_back().map(|(_, allocation)| *allocation);
        drop(table);
        if let Some(before) = before
            && before.start + before.length > start
        {
            return Err(if before.is_device() {
                CUresult::ERROR_INVALID_VALUE
            } else {
                CUresult::ERROR_HOST_MEMORY_ALREADY_REGISTERED
            });
        }
        if !is_mapped(start, length) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        self.insert(start, length, 0, Kind::Registered, (context, flags));
        Ok(())
    }

    /// The live range that contains an address.
    pub(crate) fn find(&self, address: u64) -> Option<Allocation> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let (_, allocation) = table.range(..=address).next_back()?;
        (allocation.rest(address) > 0).then_some(*allocation)
    }

    /// Whether all of a range lies in one live range, or in mappings side by side that the device may use.
    pub(crate) fn contains(&self, address: u64, length: u64) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let Some(end) = address.checked_add(length) else { return false };
        let mut at = address;
        loop {
            let Some((_, found)) = table.range(..=at).next_back() else { return false };
            let rest = found.rest(at);
            if rest == 0 || found.kind == Kind::Mapped && found.flags == 0 {
                return false;
            }
            at += rest;
            if at >= end {
                return true;
            }
            if found.kind != Kind::Mapped {
                return false;
            }
        }
    }

    /// Takes memory of the device without an address.
    pub(crate) fn take_bytes(&self, length: u64) -> Result<()> {
        let window = self.window()?;
        let _one_at_a_time = lock(&window.ranges);
        if window.used.load(Ordering::Relaxed).checked_add(length).is_none_or(|used| used > TOTAL) {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
        window.used.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// Gives memory back that was taken without an address.
    pub(crate) fn give_bytes(&self, length: u64) {
        if let Ok(window) = self.window() {
            window.used.fetch_sub(length, Ordering::Relaxed);
        }
    }

    /// The window's file.
    pub(crate) fn file(&self) -> Result<&OwnedFd> {
        self.window().map(|window| &window.file)
    }

    /// The window's file, and where in it an allocation is.
    pub(crate) fn place_in_file(&self, allocation: &Allocation) -> Option<(&OwnedFd, u64)> {
        let window = self.window().ok()?;
        Some((&window.file, allocation.start.checked_sub(window.start)?))
    }

    /// Maps `length` bytes of another process's window.
    pub(crate) fn import(
        &self,
        file: &OwnedFd,
        offset: u64,
        length: u64,
        kind: Kind,
        context: u64,
    ) -> Result<u64> {
        let inside = offset % PAGE;
        let reserved = length
            .checked_add(inside)
            .and_then(|bytes| bytes.checked_next_multiple_of(PAGE))
            .ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let first = map_shared(file, offset - inside, reserved).ok_or(CUresult::ERROR_MAP_FAILED)?;
        self.insert(first + inside, length, reserved, kind, (context, 0));
        Ok(first + inside)
    }

    /// Makes a mapping known, which nothing may use yet.
    pub(crate) fn insert_mapping(&self, start: u64, length: u64) {
        self.insert(start, length, 0, Kind::Mapped, (0, 0));
    }

    /// Sets what the device may do with the mappings that begin in a range.
    pub(crate) fn set_access(&self, start: u64, length: u64, flags: u32) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for (_, found) in table.range_mut(start..start.saturating_add(length)) {
            if found.kind == Kind::Mapped {
                found.flags = flags;
            }
        }
    }

    /// Sets `CU_POINTER_ATTRIBUTE_SYNC_MEMOPS`.
    pub(crate) fn set_sync_memops(&self, address: u64, value: bool) -> Result<()> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        match table.range_mut(..=address).next_back() {
            Some((_, allocation)) if allocation.rest(address) > 0 => {
                allocation.sync_memops = value;
                Ok(())
            }
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    }

    /// The live range that begins at `start`, if it is of one of `kinds`.
    pub(crate) fn find_start(&self, start: u64, kinds: &[Kind]) -> Option<Allocation> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(&start).copied().filter(|found| kinds.contains(&found.kind))
    }

    /// Takes a live range off the table: nothing that begins from now on finds it.
    pub(crate) fn take(&self, start: u64, kinds: &[Kind]) -> Option<Allocation> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let found = table.get(&start).copied().filter(|found| kinds.contains(&found.kind))?;
        table.remove(&start);
        Some(found)
    }

    /// Takes off the table all that a context made. Memory of the program that was made known for all contexts stays known, as
    /// NVIDIA's driver 580 was seen to have it.
    pub(crate) fn take_context(&self, context: u64) -> Vec<Allocation> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let stays = |allocation: &Allocation| {
            allocation.kind == Kind::Registered && allocation.flags & REGISTER_PORTABLE != 0
        };
        let goes = |allocation: &&Allocation| allocation.context == context && !stays(allocation);
        let taken: Vec<_> = table.values().filter(goes).copied().collect();
        for allocation in &taken {
            table.remove(&allocation.start);
        }
        taken
    }

    /// Ends device memory, whose window stays mapped whatever still runs.
    pub(crate) fn release(&self, start: u64, kinds: &[Kind]) -> Result<()> {
        let taken = self.take(start, kinds).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        self.reclaim(&taken);
        Ok(())
    }

    /// Gives the memory of a range back that was taken off the table, and that nothing uses any more.
    pub(crate) fn reclaim(&self, allocation: &Allocation) {
        match allocation.kind {
            // Their pages are another owner's.
            Kind::Registered | Kind::Mapped => {}
            Kind::Imported | Kind::ImportedPool => {
                let first = allocation.start & !(PAGE - 1);
                if let Ok(length) = usize::try_from(allocation.reserved) {
                    // SAFETY: mapped by `import` with this length, and in no table any more.
                    unsafe { libc::munmap(host(first).cast(), length) };
                }
            }
            Kind::Pinned => {
                if let Ok(length) = usize::try_from(allocation.reserved) {
                    // SAFETY: mapped by `allocate_pinned` with this length, and in no table any more.
                    unsafe { libc::munmap(host(allocation.start).cast(), length) };
                }
            }
            _ => {
                if let Ok(window) = self.window() {
                    discard(window, allocation.start, allocation.reserved);
                    if allocation.kind != Kind::Graph {
                        lock(&window.ranges).give(allocation.start, allocation.reserved + GAP);
                    }
                    window.used.fetch_sub(allocation.reserved, Ordering::Relaxed);
                }
            }
        }
    }

    /// Bytes of a pool.
    pub(crate) fn used_by_pool(&self, pool: u32) -> u64 {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let of_pool = table.values().filter(|found| found.kind == Kind::Pool && found.flags == pool);
        of_pool.map(|found| found.length).sum()
    }

    /// Bytes of one kind that a context has.
    pub(crate) fn used_by(&self, context: u64, kind: Kind) -> u64 {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table
            .values()
            .filter(|allocation| allocation.context == context && allocation.kind == kind)
            .map(|allocation| allocation.length)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_range_is_gone_and_its_bytes_are_free_again() {
        let memory = Memory::default();
        let before = memory.free_bytes();
        let start = memory.allocate(100_000, 1, Kind::Device, 1).unwrap();
        assert!(memory.contains(start + 50_000, 50_000) && !memory.contains(start + 50_000, 50_001));
        assert!(memory.free_bytes() <= before - 100_000);
        assert!(memory.release(start + 512, &[Kind::Device]).is_err());
        memory.release(start, &[Kind::Device]).unwrap();
        assert!(memory.find(start).is_none() && memory.release(start, &[Kind::Device]).is_err());
        assert_eq!(memory.free_bytes(), before);
    }

    #[test]
    fn allocations_never_touch() {
        let memory = Memory::default();
        let first = memory.allocate(512, 1, Kind::Device, 1).unwrap();
        let second = memory.allocate(512, 1, Kind::Device, 1).unwrap();
        assert!(second >= first + 512 + GAP);
        assert!(memory.find(first + 512).is_none());
    }

    #[test]
    fn more_than_there_is_is_refused() {
        let memory = Memory::default();
        for length in [TOTAL + 1, u64::MAX, u64::MAX - 10] {
            let refused = memory.allocate(length, 1, Kind::Device, 1).err();
            assert_eq!(refused, Some(CUresult::ERROR_OUT_OF_MEMORY));
        }
        assert_eq!(memory.allocate(0, 1, Kind::Device, 1).err(), Some(CUresult::ERROR_INVALID_VALUE));
    }

    #[test]
    fn a_context_takes_its_memory_with_it() {
        let memory = Memory::default();
        let before = memory.free_bytes();
        let mine = memory.allocate(1 << 20, 1, Kind::Device, 1).unwrap();
        let other = memory.allocate(1 << 20, 1, Kind::Device, 2).unwrap();
        let pinned = memory.allocate_pinned(10_000, 0, 1).unwrap();
        for allocation in memory.take_context(1) {
            memory.reclaim(&allocation);
        }
        assert!(memory.find(mine).is_none() && memory.find(pinned).is_none() && memory.find(other).is_some());

        let programs = [0_u8; 8];
        let start = programs.as_ptr().addr() as u64;
        for (flags, stays) in [(0, false), (REGISTER_PORTABLE, true)] {
            memory.register(start, 8, flags, 1).unwrap();
            assert!(
                memory.take_context(1).len() == usize::from(!stays) && memory.find(start).is_some() == stays
            );
        }
        assert_eq!(memory.free_bytes(), before - (1 << 20));
    }

    #[test]
    fn registering_twice_or_what_is_not_there_is_refused() {
        let memory = Memory::default();
        let data = vec![0_u8; 64 << 10];
        let start = data.as_ptr().expose_provenance() as u64;
        memory.register(start, 32 << 10, 0, 1).unwrap();
        let again = memory.register(start + 100, 10, 0, 1).err();
        assert_eq!(again, Some(CUresult::ERROR_HOST_MEMORY_ALREADY_REGISTERED));
        assert_eq!(memory.register(PAGE, PAGE, 0, 1).err(), Some(CUresult::ERROR_INVALID_VALUE));
        memory.release(start, &[Kind::Registered]).unwrap();
        memory.register(start + 100, 10, 0, 1).unwrap();
    }
}

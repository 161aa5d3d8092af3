//! What an address is: device memory, pinned memory of the process, or anything else.
//!
//! Read in this order: this file (the ranges that the shim knows), `pinned` (`cuMemHostAlloc`), `registered`
//! (`cuMemHostRegister`), `managed`, `kept` (small blocks that were freed), `reserved` (virtual memory management),
//! `pools`, `copy` with `staged` (`room`, `pipeline`, `bulk` and `helper`), `attributes` (`cuPointerGetAttribute`).

pub(crate) mod attributes;
mod bulk;
pub(crate) mod copy;
mod helper;
pub(crate) mod kept;
pub(crate) mod managed;
pub(crate) mod pinned;
mod pipeline;
pub(crate) mod pools;
pub(crate) mod registered;
pub(crate) mod reserved;
mod room;
mod staged;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use virtio_spec::window;

use crate::{context, mirror};

/// What a known range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `cuMemAlloc` and its relatives.
    Device,
    /// Memory of a pool.
    Pooled {
        /// The pool's handle; 0 for the default pool of the device.
        pool: u64,
    },
    /// `cuMemMap`.
    Mapped {
        /// Handle of the physical memory.
        allocation: u64,
        /// Device of the process that has it.
        device: i32,
        /// What that device may do with it: `CU_MEM_ACCESS_FLAGS_*`.
        access: u32,
    },
    /// `cuMemHostAlloc`, with its flags.
    Pinned {
        /// `CU_MEMHOSTALLOC_*`.
        flags: u32,
    },
    /// `cuMemAllocManaged`: pinned memory of the process, which counts as the device's.
    Managed,
    /// A module's managed variable: the device's, and mirrored in the process ([`crate::mirror`]).
    Variable,
    /// `cuMemHostRegister`, with its flags.
    Registered {
        /// `CU_MEMHOSTREGISTER_*`.
        flags: u32,
        /// The region that the pages became; `None` if they are not shared, and copies go through staging.
        region: Option<u32>,
    },
}

impl Kind {
    /// Whether it is managed memory.
    pub(crate) const fn is_managed(self) -> bool {
        matches!(self, Self::Managed | Self::Variable)
    }

    /// Whether it is memory of a device.
    pub(crate) const fn is_device(self) -> bool {
        matches!(self, Self::Device | Self::Pooled { .. } | Self::Mapped { .. })
    }
}

/// A range of addresses that a CUDA call has made known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// First address.
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) length: u64,
    /// What it is.
    pub(crate) kind: Kind,
    /// The address that the GPU uses for `start`; 0 if it cannot.
    pub(crate) device_pointer: u64,
    /// Context in which it was made.
    pub(crate) context: u64,
    /// `CU_POINTER_ATTRIBUTE_BUFFER_ID`.
    pub(crate) id: u64,
    /// `CU_POINTER_ATTRIBUTE_SYNC_MEMOPS`.
    pub(crate) synchronous: bool,
}

static RANGES: RwLock<BTreeMap<u64, Range>> = RwLock::new(BTreeMap::new());
static IDS: AtomicU64 = AtomicU64::new(1);

/// Notes a range.
pub(crate) fn insert(start: u64, length: u64, kind: Kind, device_pointer: u64, context: u64) {
    let id = IDS.fetch_add(1, Ordering::Relaxed);
    let range = Range { start, length, kind, device_pointer, context, id, synchronous: false };
    RANGES.write().unwrap_or_else(PoisonError::into_inner).insert(start, range);
}

/// Notes memory of a pool.
pub(crate) fn insert_pooled(start: u64, length: u64, pool: u64) {
    insert(start, length, Kind::Pooled { pool }, start, context::current().unwrap_or(0));
}

/// Forgets the range that starts at an address.
pub(crate) fn remove(start: u64) -> Option<Range> {
    RANGES.write().unwrap_or_else(PoisonError::into_inner).remove(&start)
}

/// Sets whether operations on the range that an address lies in are synchronous; false if there is none.
pub(crate) fn set_synchronous(address: u64, synchronous: bool) -> bool {
    let mut ranges = RANGES.write().unwrap_or_else(PoisonError::into_inner);
    let Some((_, range)) = ranges.range_mut(..=address).next_back() else { return false };
    if address - range.start >= range.length {
        return false;
    }
    range.synchronous = synchronous;
    true
}

/// The range that an address lies in.
pub(crate) fn find(address: u64) -> Option<Range> {
    let ranges = RANGES.read().unwrap_or_else(PoisonError::into_inner);
    let (_, range) = ranges.range(..=address).next_back()?;
    (address - range.start < range.length).then_some(*range)
}

/// Whether any byte of a range is known.
pub(crate) fn overlaps(start: u64, length: u64) -> bool {
    let end = start.saturating_add(length);
    let ranges = RANGES.read().unwrap_or_else(PoisonError::into_inner);
    ranges.range(..end).next_back().is_some_and(|(_, range)| start < range.start.saturating_add(range.length))
}

/// Forgets what was made in a context. Pinned memory goes with it.
pub(crate) fn forget_context(context: u64) {
    let gone: Vec<Range> = {
        let mut ranges = RANGES.write().unwrap_or_else(PoisonError::into_inner);
        let gone = ranges.values().filter(|range| range.context == context).copied().collect();
        ranges.retain(|_, range| range.context != context);
        gone
    };
    for range in &gone {
        if let Kind::Registered { region: Some(region), .. } = range.kind {
            registered::drop_region(region);
        }
    }
    managed::forget(&gone);
    kept::forget_context(context);
    mirror::forget_context(context);
    room::forget_context(context);
    pinned::forget_context(context);
}

/// How the device reaches an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is CUDA's address. Known: all `length` bytes lie in one range of the shim.
    Device {
        /// Whether the shim knows the whole range.
        known: bool,
    },
    /// It is memory of the process that the device has mapped at the same address.
    Region {
        /// Whether the device may write it.
        writable: bool,
    },
    /// Only the process reaches it.
    Process,
}

/// How the device reaches `length` bytes at an address.
pub(crate) fn reach(address: u64, length: u64) -> Reach {
    let Some(range) = find(address) else {
        if !window::is_device(address) {
            return Reach::Process;
        }
        kept::surrender(address);
        return Reach::Device { known: false };
    };
    // Operations on memory that wants them synchronous are answered like those on memory that the shim does not know.
    let inside =
        length <= range.length - (address - range.start) && !(range.synchronous && range.kind.is_device());
    match range.kind {
        Kind::Device | Kind::Pooled { .. } => Reach::Device { known: inside },
        Kind::Mapped { .. } => Reach::Device { known: is_accessible(address, length) },
        Kind::Variable => Reach::Device { known: false },
        Kind::Pinned { .. } | Kind::Managed if inside => Reach::Region { writable: true },
        Kind::Registered { region: Some(_), flags } if inside => {
            Reach::Region { writable: flags & registered::READ_ONLY == 0 }
        }
        Kind::Pinned { .. } | Kind::Managed | Kind::Registered { .. } => Reach::Process,
    }
}

/// Whether all of a range is mapped, with one mapping after the other, and the device may read and write it.
fn is_accessible(address: u64, length: u64) -> bool {
    let ranges = RANGES.read().unwrap_or_else(PoisonError::into_inner);
    let Some(end) = address.checked_add(length) else { return false };
    let mut at = address;
    while at < end {
        let Some((_, range)) = ranges.range(..=at).next_back() else { return false };
        let usable = matches!(range.kind, Kind::Mapped { access: 3, .. }) && !range.synchronous;
        if !usable || at - range.start >= range.length {
            return false;
        }
        at = range.start.saturating_add(range.length);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_any_of_their_addresses() {
        insert(0x1000_0000, 0x1000, Kind::Device, 0x1000_0000, 7);

        assert_eq!(find(0x1000_0fff).map(|range| range.start), Some(0x1000_0000));
        assert_eq!(find(0x1000_1000), None);
        assert_eq!(find(0x0fff_ffff), None);
        assert!(overlaps(0x0fff_ff00, 0x101));
        assert!(!overlaps(0x0fff_ff00, 0x100));
        assert_eq!(reach(0x1000_0f00, 0x100), Reach::Device { known: true });
        assert_eq!(reach(0x1000_0f00, 0x101), Reach::Device { known: false });
        assert_eq!(reach(window::PINNED_END, 1), Reach::Device { known: false });
        assert_eq!(reach(0x7f00_0000_0000, 1), Reach::Process);

        assert_eq!(remove(0x1000_0000).map(|range| range.context), Some(7));
        assert_eq!(find(0x1000_0000), None);
    }

    #[test]
    fn what_is_registered_for_reading_is_not_written_by_the_device() {
        let kind = Kind::Registered { flags: registered::READ_ONLY, region: Some(3) };
        insert(0x2100_0000, 0x1000, kind, 0x2100_0000, 11);
        assert_eq!(reach(0x2100_0000, 16), Reach::Region { writable: false });
        remove(0x2100_0000);
    }

    #[test]
    fn mappings_side_by_side_are_one_known_range() {
        let kind = |access| Kind::Mapped { allocation: 1, device: 0, access };
        let start = window::RESERVE_START + (1 << 40);
        for (place, access) in [(start, 3), (start + 0x1000, 3), (start + 0x2000, 1)] {
            insert(place, 0x1000, kind(access), place, 0);
        }
        assert_eq!(reach(start + 16, 0x1ff0), Reach::Device { known: true });
        assert_eq!(reach(start + 16, 0x1ff1), Reach::Device { known: false }, "not writable");
        reserved::set_access(start + 0x2000, 0x1000, 0, 3);
        assert_eq!(reach(start, 0x3000), Reach::Device { known: true });
        assert_eq!(reach(start, 0x3001), Reach::Device { known: false }, "not mapped");
        for place in [start, start + 0x1000, start + 0x2000] {
            remove(place);
        }
    }

    #[test]
    fn staged_registrations_stay_memory_of_the_process() {
        insert(0x2000_0000, 0x1000, Kind::Registered { flags: 0, region: None }, 0, 9);
        assert_eq!(reach(0x2000_0000, 16), Reach::Process);
        forget_context(9);
        assert_eq!(find(0x2000_0000), None);
    }
}

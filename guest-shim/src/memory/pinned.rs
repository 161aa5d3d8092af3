//! Pinned memory that CUDA allocates (`cuMemHostAlloc`): regions in the window's pinned part, mapped by the device at
//! the same address and registered with the host's driver. Small blocks are cut from larger regions. Managed memory
//! (`managed`) is made of the same.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::cuda::CUresult;
use virtio_spec::requests::{HostRegister, HostRegistered, HostUnregister, opcode};
use virtio_spec::window::{PINNED_END, PINNED_START};

use super::{Kind, Range, insert};
use crate::wire::Request;
use crate::{context, session, window};

/// Greatest block that is cut from a slab.
const SMALL: u64 = 1 << 20;
/// Bytes of a slab.
const SLAB: u64 = 4 << 20;
/// Blocks of a slab start at multiples of this.
const BLOCK: u64 = 512;
/// Regions start at multiples of this: a huge page.
const REGION: u64 = 2 << 20;
const PAGE: u64 = 4096;
/// `CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP`, which are also those of `cuMemHostRegister`.
const PORTABLE_AND_MAPPED: u32 = 1 | 2;

/// In place of a context, where a region goes with none.
const NOBODY: u64 = 0;

/// A region of the arena.
#[derive(Clone, Copy, Debug)]
struct Region {
    length: u64,
    number: u32,
    device_pointer: u64,
    context: u64,
}

#[derive(Debug)]
struct Slab {
    region: Region,
    /// Blocks in use: offset and bytes.
    blocks: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Arena {
    /// Whole regions, by address.
    regions: BTreeMap<u64, Region>,
    /// Regions that are cut into blocks, by address.
    slabs: BTreeMap<u64, Slab>,
}

static ARENA: Mutex<Arena> = Mutex::new(Arena { regions: BTreeMap::new(), slabs: BTreeMap::new() });

fn arena() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    /// A free place for a region.
    fn place(&self, length: u64) -> Option<u64> {
        let mut taken: Vec<(u64, u64)> =
            self.regions.iter().map(|(start, region)| (*start, region.length)).collect();
        taken.extend(self.slabs.iter().map(|(start, slab)| (*start, slab.region.length)));
        taken.sort_unstable();
        let mut start = PINNED_START;
        for (other, bytes) in taken {
            if other.checked_sub(start).is_some_and(|gap| gap >= length) {
                break;
            }
            start = (other + bytes).next_multiple_of(REGION);
        }
        (start.checked_add(length)? <= PINNED_END).then_some(start)
    }
}

impl Slab {
    /// Takes a free block.
    fn cut(&mut self, length: u64) -> Option<u64> {
        let mut offset = 0;
        for (other, bytes) in &self.blocks {
            if other - offset >= length {
                break;
            }
            offset = (other + bytes).next_multiple_of(BLOCK);
        }
        if offset.checked_add(length)? > self.region.length {
            return None;
        }
        self.blocks.insert(offset, length);
        Some(offset)
    }
}

/// Tells the host's driver about a region. Returns the address that the GPU uses.
pub(super) fn register(address: u64, length: u64, flags: u32, context: u64) -> Result<u64, CUresult> {
    let mut request = Request::start(opcode::HOST_REGISTER, context)?;
    request.structure(&HostRegister { address, length, flags, reserved: 0 });
    Ok(request.answer()?.take::<HostRegistered>()?.device_pointer)
}

/// Has the host's driver forget a region.
pub(super) fn unregister(address: u64, context: u64) -> Result<(), CUresult> {
    let mut request = Request::start(opcode::HOST_UNREGISTER, context)?.synchronising();
    request.structure(&HostUnregister { address });
    request.answer().map(|_| ())
}

fn make_region(arena: &Arena, length: u64, context: u64) -> Result<(u64, Region), CUresult> {
    let session = session::get()?;
    let address = arena.place(length).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
    let number = session.transport().map(address, length).map_err(|_| CUresult::ERROR_OUT_OF_MEMORY)?;
    match register(address, length, PORTABLE_AND_MAPPED, context) {
        Ok(device_pointer) => Ok((address, Region { length, number, device_pointer, context })),
        Err(error) => {
            drop_region(address, length, number);
            Err(error)
        }
    }
}

fn drop_region(address: u64, length: u64, number: u32) {
    if let Some(session) = session::existing() {
        // The device no longer uses the region, or is gone; the process's own pages are given back either way.
        let _ = session.transport().unmap(number);
    }
    window::clear(address, length);
}

/// A region of the shim's own, which is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Own {
    address: u64,
}

impl Own {
    /// Address of its first byte.
    pub(super) const fn address(&self) -> u64 {
        self.address
    }

    /// Has the host's driver forget it, if it knows it in this context.
    pub(super) fn unregister(&self, context: u64) {
        // Otherwise it has forgotten it already.
        let _result = unregister(self.address, context);
    }

    /// One that is none.
    #[cfg(test)]
    pub(super) const fn nowhere(address: u64) -> Self {
        Self { address }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut arena = arena();
        if let Some(region) = arena.regions.remove(&self.address) {
            drop_region(self.address, region.length, region.number);
        }
    }
}

/// A region of the shim's own of `length` bytes, whole pages, made known to the host's driver in a context. It is no range,
/// and it does not go with the context.
pub(super) fn own(length: u64, context: u64) -> Result<Own, CUresult> {
    let mut arena = arena();
    let (address, region) = make_region(&arena, length, context)?;
    arena.regions.insert(address, Region { context: NOBODY, ..region });
    Ok(Own { address })
}

/// `cuMemHostAlloc`: the address of `length` bytes.
pub(crate) fn allocate(length: u64, flags: u32) -> Result<u64, CUresult> {
    if flags & !7 != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    take(length, Kind::Pinned { flags })
}

/// The address of `length` bytes, which are noted as `kind`.
pub(super) fn take(length: u64, kind: Kind) -> Result<u64, CUresult> {
    let context = context::required()?;
    if length == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    session::get()?.check_alive()?;
    let mut arena = arena();
    let (address, device_pointer) = if length > SMALL {
        let whole = length.checked_next_multiple_of(PAGE).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
        let (address, region) = make_region(&arena, whole, context)?;
        arena.regions.insert(address, region);
        (address, region.device_pointer)
    } else {
        let cut = arena
            .slabs
            .iter_mut()
            .filter(|(_, slab)| slab.region.context == context)
            .find_map(|(start, slab)| Some((*start, slab.cut(length)?, slab.region.device_pointer)));
        let (start, offset, device_pointer) = match cut {
            Some(cut) => cut,
            None => {
                let (start, region) = make_region(&arena, SLAB, context)?;
                let mut slab = Slab { region, blocks: BTreeMap::new() };
                let offset = slab.cut(length).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
                arena.slabs.insert(start, slab);
                (start, offset, region.device_pointer)
            }
        };
        (start + offset, device_pointer + offset)
    };
    insert(address, length, kind, device_pointer, context);
    Ok(address)
}

/// `cuMemFreeHost`: gives a block back. `synchronise` waits for the GPU, as the real call does.
pub(crate) fn free(address: u64, synchronise: impl FnOnce() -> Result<(), CUresult>) -> Result<(), CUresult> {
    let range = super::find(address)
        .filter(|range| range.start == address && matches!(range.kind, Kind::Pinned { .. }))
        .ok_or(CUresult::ERROR_INVALID_VALUE)?;
    give_back(&range, synchronise)
}

/// Gives a block of [`take`] back. `synchronise` waits for the GPU.
pub(super) fn give_back(
    range: &Range,
    synchronise: impl FnOnce() -> Result<(), CUresult>,
) -> Result<(), CUresult> {
    let address = range.start;
    let whole = arena().regions.get(&address).copied();
    if let Some(region) = whole {
        unregister(address, region.context)?;
        super::remove(address);
        let mut arena = arena();
        // Nobody is given the place before it is free.
        drop_region(address, region.length, region.number);
        arena.regions.remove(&address);
        return Ok(());
    }
    context::with(range.context, synchronise)?;
    super::remove(address);
    if let Some((start, slab)) = arena().slabs.range_mut(..=address).next_back() {
        slab.blocks.remove(&(address - start));
    }
    Ok(())
}

/// Gives the regions of a context back that is gone.
pub(super) fn forget_context(context: u64) {
    let mut arena = arena();
    let mut gone = Vec::new();
    arena.regions.retain(|start, region| {
        let goes = region.context == context;
        if goes {
            gone.push((*start, *region));
        }
        !goes
    });
    arena.slabs.retain(|start, slab| {
        let goes = slab.region.context == context;
        if goes {
            gone.push((*start, slab.region));
        }
        !goes
    });
    for (start, region) in gone {
        drop_region(start, region.length, region.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION_OF_A_TEST: Region = Region { length: SLAB, number: 1, device_pointer: 0, context: 0 };

    #[test]
    fn blocks_are_cut_and_found_again() {
        let mut slab = Slab { region: REGION_OF_A_TEST, blocks: BTreeMap::new() };
        assert_eq!(slab.cut(100), Some(0));
        assert_eq!(slab.cut(513), Some(512));
        assert_eq!(slab.cut(1), Some(1536));
        slab.blocks.remove(&512);
        assert_eq!(slab.cut(1025), Some(2048), "the gap is too small");
        assert_eq!(slab.cut(1024), Some(512), "the gap fits exactly");
        assert_eq!(slab.cut(SLAB), None);
    }

    #[test]
    fn regions_fill_gaps_and_stay_in_the_window() {
        let mut arena = Arena { regions: BTreeMap::new(), slabs: BTreeMap::new() };
        assert_eq!(arena.place(PAGE), Some(PINNED_START));
        arena.regions.insert(PINNED_START, REGION_OF_A_TEST);
        arena.regions.insert(PINNED_START + 4 * SLAB, REGION_OF_A_TEST);
        assert_eq!(arena.place(3 * SLAB), Some(PINNED_START + SLAB));
        assert_eq!(arena.place(3 * SLAB + 1), Some(PINNED_START + 5 * SLAB));
        assert_eq!(arena.place(PINNED_END - PINNED_START), None);
    }
}

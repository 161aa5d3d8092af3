//! The guest's memory, as the worker maps it. (This file contains unsafe code: it makes and removes mappings.)
//!
//! Region 0 (header, lanes, staging) lies wherever the kernel puts it; all other regions lie at the address that they
//! have in the guest process, so that a pointer is the same number on both sides.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    os::fd::{AsFd, OwnedFd},
    ptr::{self, NonNull},
    sync::{Arc, PoisonError, RwLock},
};

use rustix::{
    io::Errno,
    mm::{MapFlags, ProtFlags},
};
use virtio_spec::{control::Status, limits, window};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, mmap::MmapRegionBuilder};

use crate::link::Piece;

/// Bytes of a page; every offset, address and length is a multiple.
pub(crate) const PAGE: u64 = 4096;

/// Lowest address at which a region may lie: Linux's own bound for ordinary processes.
const USER_START: u64 = 0x1_0000;

/// End of user space with four-level page tables; the page below it is the kernel's guard.
const USER_END: u64 = 0x7fff_ffff_f000;

/// Why memory could not be mapped or unmapped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error("pieces do not make up the region")]
    Pieces,
    #[error("address {0:#x} is not page-aligned or not inside user space")]
    Address(u64),
    #[error("address {0:#x} is taken")]
    Taken(u64),
    #[error("region {0} is in use")]
    Number(u32),
    #[error("there is no region {0}")]
    NoRegion(u32),
    #[error("region {0} is still registered with CUDA")]
    Held(u32),
    #[error("mapping failed")]
    Map(#[source] Errno),
    #[error("region 0 makes no guest memory")]
    GuestMemory,
}

impl MemoryError {
    /// How the guest is told.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Pieces | Self::Address(_) | Self::Number(_) | Self::NoRegion(_) | Self::Held(_) => {
                Status::Invalid
            }
            Self::Taken(_) => Status::AddressTaken,
            Self::Map(_) | Self::GuestMemory => Status::NoMemory,
        }
    }
}

/// Reserves the part of the address window in which the guest process places pinned memory, so that nothing of this
/// process, its libraries and the CUDA driver comes to lie there. Called before any of them is loaded.
pub(crate) fn reserve_window() -> Result<(), MemoryError> {
    let address = ptr::without_provenance_mut::<c_void>(host_size(window::PINNED_START)?);
    let length = host_size(window::PINNED_END - window::PINNED_START)?;
    // SAFETY: NOREPLACE touches no mapping that exists; nothing can refer to the new one.
    unsafe {
        rustix::mm::mmap_anonymous(
            address,
            length,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE,
        )
    }
    .map_err(MemoryError::Map)?;
    Ok(())
}

fn host_size(value: u64) -> Result<usize, MemoryError> {
    usize::try_from(value).map_err(|_| MemoryError::Pieces)
}

/// What is left behind when a mapping goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    /// Nothing: the addresses are free.
    Free,
    /// The reservation of the window.
    Reserved,
}

/// A range of addresses that this value owns.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    length: usize,
    afterwards: Afterwards,
}

// SAFETY: the value owns addresses, not what a thread knows of them; whoever reads or writes there has to treat the
// contents as shared with the guest anyway.
unsafe impl Send for Mapping {}
// SAFETY: as above; a shared reference gives nothing but the address and the length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `length` bytes at an address of the kernel's choice.
    fn anywhere(length: usize) -> Result<Self, MemoryError> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: without FIXED the kernel chooses an unused range.
        let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), length, ProtFlags::empty(), flags) };
        Self::own(base, length, Afterwards::Free)
    }

    /// Reserves `length` bytes at `address`, where nothing may be mapped but the window's reservation.
    fn at(address: u64, length: usize) -> Result<Self, MemoryError> {
        let end = address.checked_add(length as u64).ok_or(MemoryError::Address(address))?;
        if !address.is_multiple_of(PAGE) || address < USER_START || end > USER_END {
            return Err(MemoryError::Address(address));
        }
        let base = NonNull::new(ptr::without_provenance_mut::<u8>(host_size(address)?))
            .ok_or(MemoryError::Address(address))?;
        if address >= window::PINNED_START && end <= window::PINNED_END {
            // Reserved since the start of the process; that no other region is there is the caller's table's business.
            return Ok(Self { base, length, afterwards: Afterwards::Reserved });
        }
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
        // SAFETY: NOREPLACE touches no mapping that exists.
        let mapped =
            unsafe { rustix::mm::mmap_anonymous(base.as_ptr().cast(), length, ProtFlags::empty(), flags) };
        match mapped {
            Err(Errno::EXIST) => Err(MemoryError::Taken(address)),
            other => Self::own(other, length, Afterwards::Free),
        }
    }

    fn own(
        base: rustix::io::Result<*mut c_void>,
        length: usize,
        afterwards: Afterwards,
    ) -> Result<Self, MemoryError> {
        let base = base.map_err(MemoryError::Map)?;
        let base = NonNull::new(base.cast()).ok_or(MemoryError::Map(Errno::NOMEM))?;
        Ok(Self { base, length, afterwards })
    }

    /// Puts the pieces into the range, one after the other; they have to cover it exactly.
    fn fill(&self, pieces: &[Piece], files: &[OwnedFd], protection: ProtFlags) -> Result<(), MemoryError> {
        let mut at = 0_usize;
        for piece in pieces {
            let length = host_size(piece.length)?;
            let end = at.checked_add(length).filter(|end| *end <= self.length).ok_or(MemoryError::Pieces)?;
            let file = usize::try_from(piece.file).ok().and_then(|index| files.get(index));
            let file = file.ok_or(MemoryError::Pieces)?;
            if length == 0 || !piece.length.is_multiple_of(PAGE) || !piece.offset.is_multiple_of(PAGE) {
                return Err(MemoryError::Pieces);
            }
            let address = self.base.as_ptr().wrapping_add(at).cast();
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: `at..end` lies inside the range that `self` owns, and nobody has been given an address in it.
            unsafe { rustix::mm::mmap(address, length, protection, flags, file.as_fd(), piece.offset) }
                .map_err(MemoryError::Map)?;
            at = end;
        }
        if at == self.length { Ok(()) } else { Err(MemoryError::Pieces) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let base = self.base.as_ptr().cast();
        let result = match self.afterwards {
            // SAFETY: the range is owned, and with the owner nobody has a right to its addresses any more.
            Afterwards::Free => unsafe { rustix::mm::munmap(base, self.length) },
            Afterwards::Reserved => {
                let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
                // SAFETY: as above; the range becomes a part of the window's reservation again.
                unsafe { rustix::mm::mmap_anonymous(base, self.length, ProtFlags::empty(), flags) }.map(drop)
            }
        };
        if let Err(error) = result {
            // The pages would go back to the guest while this process can still reach them.
            log::error!("guest memory at {base:p} cannot be unmapped: {error}; ending");
            std::process::abort();
        }
    }
}

/// Region 0 of the session. It stays mapped until the last `Arc` is gone.
///
/// Do not keep clones of [`SessionMemory::guest_memory`] or pointers beyond the `Arc` they came from.
#[derive(Debug)]
pub(crate) struct SessionMemory {
    guest_memory: GuestMemoryMmap<()>,
    mapping: Mapping,
}

impl SessionMemory {
    /// Maps the pieces one after the other.
    pub(crate) fn map(length: u64, pieces: &[Piece], files: &[OwnedFd]) -> Result<Arc<Self>, MemoryError> {
        if length == 0 || !length.is_multiple_of(PAGE) || length > limits::MAX_SESSION_BYTES {
            return Err(MemoryError::Pieces);
        }
        let length = host_size(length)?;
        let mapping = Mapping::anywhere(length)?;
        mapping.fill(pieces, files, ProtFlags::READ | ProtFlags::WRITE)?;
        let builder = MmapRegionBuilder::new(length)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED);
        // SAFETY: `mapping` is a mapping of this length and protection, and is dropped after `guest_memory`.
        let region = unsafe { builder.with_raw_mmap_pointer(mapping.base.as_ptr()) }.build();
        let region = region.map_err(|_| MemoryError::GuestMemory)?;
        let region = GuestRegionMmap::new(region, GuestAddress(0)).ok_or(MemoryError::GuestMemory)?;
        let guest_memory =
            GuestMemoryMmap::from_regions(vec![region]).map_err(|_| MemoryError::GuestMemory)?;
        Ok(Arc::new(Self { guest_memory, mapping }))
    }

    /// First byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.mapping.base
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.mapping.length
    }

    /// The region at guest address 0: addresses in a lane are offsets.
    pub(crate) fn guest_memory(&self) -> &GuestMemoryMmap<()> {
        &self.guest_memory
    }
}

/// What is allowed in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegionFlags {
    /// The worker must not write.
    pub(crate) read_only: bool,
}

/// What the guest's driver says of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegionInfo {
    /// The number that the guest's driver gave it.
    pub(crate) number: u32,
    /// First address, in the guest process as well as here.
    pub(crate) address: u64,
    /// Bytes.
    pub(crate) length: u64,
    /// What is allowed.
    pub(crate) flags: RegionFlags,
}

#[derive(Debug)]
struct Region {
    info: RegionInfo,
    holds: usize,
    /// Unmaps the region when it is removed.
    _mapping: Mapping,
}

/// The session's regions but the first.
#[derive(Debug, Default)]
pub(crate) struct Regions {
    by_address: RwLock<BTreeMap<u64, Region>>,
}

impl Regions {
    /// Maps a region at its address.
    pub(crate) fn insert(
        &self,
        info: RegionInfo,
        pieces: &[Piece],
        files: &[OwnedFd],
    ) -> Result<(), MemoryError> {
        let RegionInfo { number, address, length, flags } = info;
        if length == 0 || !length.is_multiple_of(PAGE) {
            return Err(MemoryError::Pieces);
        }
        let end = address.checked_add(length).ok_or(MemoryError::Address(address))?;
        let mut table = self.by_address.write().unwrap_or_else(PoisonError::into_inner);
        if number == 0 || table.values().any(|region| region.info.number == number) {
            return Err(MemoryError::Number(number));
        }
        let before = table.range(..end).next_back();
        if before.is_some_and(|(start, region)| start.saturating_add(region.info.length) > address) {
            return Err(MemoryError::Taken(address));
        }
        let mapping = Mapping::at(address, host_size(length)?)?;
        let protection = if flags.read_only { ProtFlags::READ } else { ProtFlags::READ | ProtFlags::WRITE };
        mapping.fill(pieces, files, protection)?;
        table.insert(address, Region { info, holds: 0, _mapping: mapping });
        Ok(())
    }

    /// Unmaps a region that nothing holds.
    pub(crate) fn remove(&self, number: u32) -> Result<(), MemoryError> {
        let mut table = self.by_address.write().unwrap_or_else(PoisonError::into_inner);
        let found = table.values().find(|region| region.info.number == number);
        let region = found.ok_or(MemoryError::NoRegion(number))?;
        if region.holds > 0 {
            return Err(MemoryError::Held(number));
        }
        let address = region.info.address;
        table.remove(&address);
        Ok(())
    }

    /// What is allowed in a range, if it lies entirely inside one region.
    pub(crate) fn lookup(&self, address: u64, length: u64) -> Option<RegionFlags> {
        let table = self.by_address.read().unwrap_or_else(PoisonError::into_inner);
        find(&table, address, length).map(|region| region.info.flags)
    }

    /// Keeps the region around a range mapped until the hold is dropped: for ranges that CUDA knows
    /// (`cuMemHostRegister`), whose pages must not go back to the guest before CUDA has let go of them.
    pub(crate) fn hold(self: &Arc<Self>, address: u64, length: u64) -> Option<Hold> {
        let mut table = self.by_address.write().unwrap_or_else(PoisonError::into_inner);
        let start = find(&table, address, length)?.info.address;
        let region = table.get_mut(&start)?;
        region.holds = region.holds.checked_add(1)?;
        Some(Hold { regions: Arc::clone(self), start })
    }
}

fn find(table: &BTreeMap<u64, Region>, address: u64, length: u64) -> Option<&Region> {
    let end = address.checked_add(length)?;
    let (start, region) = table.range(..=address).next_back()?;
    (end <= start.saturating_add(region.info.length)).then_some(region)
}

/// Keeps a region mapped; see [`Regions::hold`].
#[derive(Debug)]
pub(crate) struct Hold {
    regions: Arc<Regions>,
    start: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut table = self.regions.by_address.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(region) = table.get_mut(&self.start) {
            region.holds = region.holds.saturating_sub(1);
        }
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;

//! Virtual memory management: reserved addresses, memory without an address, and mappings of the one at the other.
//!
//! The device's memory without addresses is one file without a name; what is mapped twice is the same pages. What other
//! processes may have is a file of its own, whose descriptor is what they are given. Mappings are ranges of
//! [`super::memory`], whose table decides who may use them.
//!
//! Unsafe code: mapping of memory.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, OnceLock};

use virtio_spec::cuda::{
    CUmemAllocationFlags, CUmemAllocationHandleType, CUmemAllocationProp, CUmemAllocationType, CUmemLocation,
    CUmemLocationType, CUresult,
};

use super::allocation::Kind;
use super::handles::{kind, mint};
use super::memory::TOTAL;
use super::pages::{copy_of, host, named_file, nameless_file, punch};
use super::queue::lock;
use super::ranges::Ranges;
use super::{Result, driver};

/// What sizes and addresses of mappings are multiples of.
pub(crate) const GRANULARITY: u64 = 2 << 20;

const PAGE: u64 = 4096;

/// What files of memory are called that other processes may have.
const SHAREABLE: &CStr = c"soft-gpu shareable";

/// The device's memory without addresses: a file, and which parts of it are free. Twice what there can be, so that holes
/// between objects do no harm.
struct Store {
    file: OwnedFd,
    free: Mutex<Ranges>,
}

fn store() -> Result<&'static Store> {
    static STORE: OnceLock<Option<Store>> = OnceLock::new();
    let make = || {
        let file = nameless_file(2 * TOTAL)?;
        Some(Store { file, free: Mutex::new(Ranges::new(0, 2 * TOTAL)) })
    };
    STORE.get_or_init(make).as_ref().ok_or(CUresult::ERROR_OUT_OF_MEMORY)
}

/// Where memory without an address is.
#[derive(Debug)]
enum Place {
    /// At an offset of the device's file.
    Store(u64),
    /// A file of its own, of this process.
    Own(OwnedFd),
    /// A file of another process, whose memory it is.
    Imported(OwnedFd),
}

/// Memory without an address.
#[derive(Debug)]
struct Physical {
    place: Place,
    length: u64,
    properties: Properties,
}

impl Physical {
    /// The file, and where in it the memory begins.
    fn in_file(&self) -> Result<(BorrowedFd<'_>, u64)> {
        Ok(match &self.place {
            Place::Store(offset) => (store()?.file.as_fd(), *offset),
            Place::Own(file) | Place::Imported(file) => (file.as_fd(), 0),
        })
    }
}

/// What memory was asked to be.
#[derive(Clone, Copy, Debug)]
struct Properties(CUmemAllocationProp);

// SAFETY: the pointer in it is only handed back.
unsafe impl Send for Properties {}
// SAFETY: as above.
unsafe impl Sync for Properties {}

impl Drop for Physical {
    fn drop(&mut self) {
        match self.place {
            Place::Store(offset) => {
                let Ok(store) = store() else { return };
                punch(&store.file, offset, self.length);
                lock(&store.free).give(offset, self.length);
            }
            Place::Own(_) => {}
            Place::Imported(_) => return,
        }
        driver().memory.give_bytes(self.length);
    }
}

#[derive(Debug)]
struct Mapping {
    length: u64,
    handle: u64,
    memory: Arc<Physical>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of each reserved range, by its first address.
    reserved: BTreeMap<u64, u64>,
    /// Memory that the program holds, and how often it has to release it.
    held: HashMap<u64, (Arc<Physical>, u64)>,
    mappings: BTreeMap<u64, Mapping>,
}

impl State {
    fn around(&self, address: u64) -> Option<(u64, u64)> {
        let (start, length) = self.reserved.range(..=address).next_back()?;
        (address - start < *length).then_some((*start, *length))
    }

    fn mapping(&self, address: u64) -> Option<&Mapping> {
        let (start, mapping) = self.mappings.range(..=address).next_back()?;
        (address - start < mapping.length).then_some(mapping)
    }

    /// The mappings that a range consists of, from its first address to its last.
    fn whole(&self, start: u64, length: u64) -> Result<Vec<u64>> {
        let end = start.checked_add(length).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let (mut at, mut found) = (start, Vec::new());
        while at < end {
            let mapping = self.mappings.get(&at).ok_or(CUresult::ERROR_INVALID_VALUE)?;
            found.push(at);
            at += mapping.length;
        }
        if at == end && !found.is_empty() { Ok(found) } else { Err(CUresult::ERROR_INVALID_VALUE) }
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct VirtualMemory {
    state: Mutex<State>,
}

fn map_nothing(start: u64, length: u64, fixed: i32) -> Option<u64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    let length = usize::try_from(length).ok()?;
    // SAFETY: a new mapping where nothing is, or over a reserved range that the caller owns.
    let made = unsafe { libc::mmap(host(start).cast(), length, libc::PROT_NONE, flags, -1, 0) };
    (made != libc::MAP_FAILED).then(|| made.expose_provenance() as u64)
}

fn unmap(start: u64, length: u64) {
    if let Ok(length) = usize::try_from(length) {
        // SAFETY: the caller owns the range, and nothing uses it any more.
        unsafe { libc::munmap(host(start).cast(), length) };
    }
}

/// Takes addresses wherever they are free, at a multiple of `align`.
fn take_anywhere(length: u64, align: u64) -> Option<u64> {
    let all = length.checked_add(align)?;
    let start = map_nothing(0, all, 0)?;
    let first = start.checked_next_multiple_of(align)?;
    if first > start {
        unmap(start, first - start);
    }
    unmap(first + length, start + all - (first + length));
    Some(first)
}

impl VirtualMemory {
    /// Reserves addresses, at `hint` if they are free.
    pub(crate) fn reserve(&self, length: u64, align: u64, hint: u64) -> Result<u64> {
        if length == 0 || !length.is_multiple_of(PAGE) || !(align == 0 || align.is_power_of_two()) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let align = align.max(GRANULARITY);
        let wanted = (hint != 0 && hint.is_multiple_of(align))
            .then(|| map_nothing(hint, length, libc::MAP_FIXED_NOREPLACE))
            .flatten();
        let start = wanted.or_else(|| take_anywhere(length, align)).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
        lock(&self.state).reserved.insert(start, length);
        Ok(start)
    }

    /// Frees a reserved range in which nothing is mapped.
    pub(crate) fn free(&self, start: u64, length: u64) -> Result<()> {
        let mut state = lock(&self.state);
        let empty = state.mappings.range(start..start.saturating_add(length)).next().is_none();
        if state.reserved.get(&start) != Some(&length) || !empty {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        state.reserved.remove(&start);
        unmap(start, length);
        Ok(())
    }

    /// The reserved range that an address lies in.
    pub(crate) fn around(&self, address: u64) -> Option<(u64, u64)> {
        lock(&self.state).around(address)
    }

    /// Takes memory; the handle is the program's first hold on it.
    pub(crate) fn create(&self, length: u64, properties: CUmemAllocationProp) -> Result<u64> {
        if length == 0 || !length.is_multiple_of(GRANULARITY) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let store = store()?;
        driver().memory.take_bytes(length)?;
        let place = if properties.requestedHandleTypes == CUmemAllocationHandleType::NONE {
            lock(&store.free).take(length, GRANULARITY).map(Place::Store)
        } else {
            named_file(SHAREABLE, length).map(Place::Own)
        };
        let Some(place) = place else {
            driver().memory.give_bytes(length);
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        };
        Ok(self.hold(Physical { place, length, properties: Properties(properties) }))
    }

    fn hold(&self, memory: Physical) -> u64 {
        let handle = mint(kind::ALLOCATION);
        lock(&self.state).held.insert(handle, (Arc::new(memory), 1));
        handle
    }

    /// A descriptor with which another process gets the memory.
    pub(crate) fn export(&self, handle: u64) -> Result<OwnedFd> {
        let state = lock(&self.state);
        let (memory, _) = state.held.get(&handle).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let (Place::Own(file) | Place::Imported(file)) = &memory.place else {
            return Err(CUresult::ERROR_INVALID_VALUE);
        };
        file.try_clone().map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)
    }

    /// Memory of another process, behind a descriptor.
    pub(crate) fn import(&self, descriptor: RawFd) -> Result<u64> {
        let file = copy_of(SHAREABLE, descriptor).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let length = File::from(file.try_clone().map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)?)
            .metadata()
            .map_or(0, |found| found.len());
        if length == 0 || !length.is_multiple_of(GRANULARITY) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let properties = CUmemAllocationProp {
            allocation_type: CUmemAllocationType::PINNED,
            requestedHandleTypes: CUmemAllocationHandleType::POSIX_FILE_DESCRIPTOR,
            location: CUmemLocation { kind: CUmemLocationType::DEVICE.0, id: 0 },
            win32HandleMetaData: std::ptr::null_mut(),
            allocFlags: CUmemAllocationFlags::default(),
        };
        let place = Place::Imported(file);
        Ok(self.hold(Physical { place, length, properties: Properties(properties) }))
    }

    /// One hold less.
    pub(crate) fn release(&self, handle: u64) -> Result<()> {
        let mut state = lock(&self.state);
        let (_, holds) = state.held.get_mut(&handle).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        *holds -= 1;
        let last = if *holds == 0 { state.held.remove(&handle) } else { None };
        drop(state);
        // Its destructor takes other locks.
        drop(last);
        Ok(())
    }

    /// One hold more on what is mapped at an address.
    pub(crate) fn retain(&self, address: u64) -> Result<u64> {
        let mut state = lock(&self.state);
        let mapping = state.mapping(address).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let (handle, memory) = (mapping.handle, Arc::clone(&mapping.memory));
        state.held.entry(handle).or_insert((memory, 0)).1 += 1;
        Ok(handle)
    }

    /// What memory was asked to be.
    pub(crate) fn properties(&self, handle: u64) -> Result<CUmemAllocationProp> {
        let state = lock(&self.state);
        let (memory, _) = state.held.get(&handle).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        Ok(memory.properties.0)
    }

    /// As what the memory at an address can be passed on.
    pub(crate) fn handle_types(&self, address: u64) -> u64 {
        let state = lock(&self.state);
        let types = state.mapping(address).map(|mapping| mapping.memory.properties.0.requestedHandleTypes.0);
        u64::from(types.unwrap_or(0))
    }

    /// Maps memory into a reserved range. Nothing may use it before its access has been set.
    pub(crate) fn map(&self, start: u64, length: u64, offset: u64, handle: u64) -> Result<()> {
        let mut state = lock(&self.state);
        let (memory, _) = state.held.get(&handle).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let memory = Arc::clone(memory);
        let end = start.checked_add(length).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let aligned = [start, length, offset].iter().all(|value| value.is_multiple_of(GRANULARITY));
        let inside = state.around(start).is_some_and(|(first, bytes)| end <= first + bytes);
        let before = state.mappings.range(..end).next_back();
        let free = before.is_none_or(|(other, mapping)| other + mapping.length <= start);
        // Parts of memory cannot be mapped: an offset has to be zero, as CUDA says.
        if length == 0 || !aligned || !inside || !free || offset != 0 || length > memory.length {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let bytes = usize::try_from(length).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        let (file, first) = memory.in_file()?;
        let place = i64::try_from(first).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        let file = file.as_raw_fd();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: the addresses lie in a range that was reserved here and where nothing is mapped.
        let made = unsafe { libc::mmap(host(start).cast(), bytes, protection, flags, file, place) };
        if made == libc::MAP_FAILED {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
        state.mappings.insert(start, Mapping { length, handle, memory });
        driver().memory.insert_mapping(start, length);
        Ok(())
    }

    /// Ends the mappings that a range consists of, after the work that was given before.
    pub(crate) fn unmap(&self, start: u64, length: u64) -> Result<()> {
        lock(&self.state).whole(start, length)?;
        driver().idle();
        let mut ended = Vec::new();
        let mut state = lock(&self.state);
        for at in state.whole(start, length)? {
            driver().memory.take(at, &[Kind::Mapped]);
            ended.extend(state.mappings.remove(&at));
        }
        // Another thread's work may have begun just before.
        driver().idle();
        map_nothing(start, length, libc::MAP_FIXED);
        drop(state);
        drop(ended);
        Ok(())
    }

    /// Sets what the device may do with the mappings that a range consists of.
    pub(crate) fn set_access(&self, start: u64, length: u64, flags: u32) -> Result<()> {
        let state = lock(&self.state);
        state.whole(start, length)?;
        driver().memory.set_access(start, length, flags);
        Ok(())
    }
}

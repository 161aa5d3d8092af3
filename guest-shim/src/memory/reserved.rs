//! Virtual memory management: reserved address ranges, physical memory, and what is mapped where.
//!
//! Ranges are placed here, in a part of the window that nothing else uses, because only this side knows which addresses of
//! the process are free. Physical memory lives as long as the program holds it or a mapping of it exists; both are counted
//! here, and the host's driver is asked for a release when neither is left. Mappings are ranges like any other, of kind
//! [`Kind::Mapped`].
//!
//! Unsafe code: asks the device through the C export.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::cuda::{CUmemAllocationProp, CUmemGenericAllocationHandle, CUresult};
use virtio_spec::requests::{AddressReserve, AddressReserved, opcode};
use virtio_spec::window::{self, RESERVE_END, RESERVE_START};

use super::{Kind, RANGES};
use crate::calls::outcome;
use crate::exports::virtual_memory::wire_cuMemRelease;
use crate::session;
use crate::wire::Request;

const PAGE: u64 = 4096;
/// Ranges are placed at multiples of this, which is what GPUs map at once.
const LARGE_PAGE: u64 = 2 << 20;

/// Physical memory.
#[derive(Clone, Copy, Debug)]
struct Allocation {
    properties: Properties,
    /// How often the program has to release it.
    references: u64,
    mappings: u64,
}

/// What physical memory was asked to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Properties(CUmemAllocationProp);

// SAFETY: the pointer is one that only Windows uses; it was checked to be null.
unsafe impl Send for Properties {}

impl Properties {
    /// Properties without a pointer in them.
    pub(crate) fn new(given: &CUmemAllocationProp) -> Option<Self> {
        given.win32HandleMetaData.is_null().then_some(Self(*given))
    }

    /// As the program gave them.
    pub(crate) const fn as_given(&self) -> &CUmemAllocationProp {
        &self.0
    }
}

#[derive(Debug)]
struct State {
    /// Reserved ranges: first address and bytes.
    reserved: BTreeMap<u64, u64>,
    allocations: BTreeMap<u64, Allocation>,
}

static STATE: Mutex<State> = Mutex::new(State { reserved: BTreeMap::new(), allocations: BTreeMap::new() });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Whether a range is free and inside the part for reserved ranges.
    fn is_free(&self, start: u64, length: u64) -> bool {
        let Some(end) = start.checked_add(length) else { return false };
        let before = self.reserved.range(..end).next_back();
        start >= RESERVE_START
            && end <= RESERVE_END
            && before.is_none_or(|(other, bytes)| other.saturating_add(*bytes) <= start)
    }

    /// The lowest free place.
    fn place(&self, length: u64, alignment: u64) -> Option<u64> {
        let mut start = RESERVE_START.checked_next_multiple_of(alignment)?;
        for (other, bytes) in self.reserved.range(RESERVE_START..) {
            if start.checked_add(length)? <= *other {
                break;
            }
            start = start.max(other.checked_add(*bytes)?).checked_next_multiple_of(alignment)?;
        }
        self.is_free(start, length).then_some(start)
    }

    /// The reserved range that an address lies in.
    fn around(&self, address: u64) -> Option<(u64, u64)> {
        let (start, bytes) = self.reserved.range(..=address).next_back()?;
        (address - start < *bytes).then_some((*start, *bytes))
    }

    /// Gives physical memory back that nobody holds and that is mapped nowhere.
    fn release_unused(&mut self, handle: u64) -> Result<(), CUresult> {
        if self.allocations.get(&handle).is_some_and(|found| found.references == 0 && found.mappings == 0) {
            self.allocations.remove(&handle);
            // SAFETY: no pointers.
            outcome(unsafe { wire_cuMemRelease(CUmemGenericAllocationHandle(handle)) })?;
        }
        Ok(())
    }
}

/// `cuMemAddressReserve`: the address of `length` bytes.
pub(crate) fn reserve(length: u64, alignment: u64, hint: u64, flags: u64) -> Result<u64, CUresult> {
    let aligned = alignment == 0 || alignment.is_power_of_two();
    if length == 0 || !length.is_multiple_of(PAGE) || !hint.is_multiple_of(PAGE) || !aligned {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // Reserves the window, of which the place is a part.
    session::get()?;
    let mut state = state();
    let step = alignment.max(LARGE_PAGE);
    let wanted = Some(hint).filter(|hint| hint.is_multiple_of(step) && state.is_free(*hint, length));
    let address = wanted.or_else(|| state.place(length, step)).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
    let mut request = Request::start(opcode::ADDRESS_RESERVE, 0)?;
    request.structure(&AddressReserve { length, alignment, address, flags });
    let address = request.answer()?.take::<AddressReserved>()?.address;
    state.reserved.insert(address, length);
    Ok(address)
}

/// `cuMemAddressFree`, with what asks the host's driver for it.
pub(crate) fn free(address: u64, length: u64, ask: impl FnOnce() -> CUresult) -> Result<(), CUresult> {
    let mut state = state();
    outcome(ask())?;
    if state.reserved.get(&address) == Some(&length) {
        state.reserved.remove(&address);
    }
    Ok(())
}

/// The reserved range that an address lies in.
pub(crate) fn around(address: u64) -> Option<(u64, u64)> {
    if window::is_device(address) { state().around(address) } else { None }
}

/// Notes physical memory that was just made.
pub(crate) fn created(handle: u64, properties: Properties) {
    state().allocations.insert(handle, Allocation { properties, references: 1, mappings: 0 });
}

/// `cuMemRelease`.
pub(crate) fn release(handle: u64) -> Result<(), CUresult> {
    let mut state = state();
    let found = state.allocations.get_mut(&handle).filter(|found| found.references > 0);
    found.ok_or(CUresult::ERROR_INVALID_VALUE)?.references -= 1;
    state.release_unused(handle)
}

/// `cuMemRetainAllocationHandle`: what is mapped at an address.
pub(crate) fn retain(address: u64) -> Result<u64, CUresult> {
    let mut state = state();
    let Some(Kind::Mapped { allocation, .. }) = super::find(address).map(|range| range.kind) else {
        return Err(CUresult::ERROR_INVALID_VALUE);
    };
    let found = state.allocations.get_mut(&allocation).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    found.references += 1;
    Ok(allocation)
}

/// What physical memory was asked to be; only while the program holds it.
pub(crate) fn properties(handle: u64) -> Result<Properties, CUresult> {
    let state = state();
    let found = state.allocations.get(&handle).filter(|found| found.references > 0);
    found.map(|found| found.properties).ok_or(CUresult::ERROR_INVALID_VALUE)
}

/// As what a mapping's memory can be passed to another process.
pub(crate) fn handle_types(handle: u64) -> u64 {
    let found = state().allocations.get(&handle).map(|found| found.properties.0.requestedHandleTypes.0);
    u64::from(found.unwrap_or(0))
}

/// `cuMemMap`, with what asks the host's driver for it.
pub(crate) fn map(
    address: u64,
    length: u64,
    handle: u64,
    ask: impl FnOnce() -> CUresult,
) -> Result<(), CUresult> {
    let mut state = state();
    let found = state.allocations.get_mut(&handle).filter(|found| found.references > 0);
    let found = found.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    outcome(ask())?;
    found.mappings += 1;
    let device = found.properties.0.location.id;
    super::insert(address, length, Kind::Mapped { allocation: handle, device, access: 0 }, address, 0);
    Ok(())
}

/// `cuMemUnmap`, with what asks the host's driver for it.
pub(crate) fn unmap(address: u64, length: u64, ask: impl FnOnce() -> CUresult) -> Result<(), CUresult> {
    let mut state = state();
    outcome(ask())?;
    let end = address.saturating_add(length);
    let mut unmapped = Vec::new();
    RANGES.write().unwrap_or_else(PoisonError::into_inner).retain(|start, range| match range.kind {
        Kind::Mapped { allocation, .. } if (address..end).contains(start) => {
            unmapped.push(allocation);
            false
        }
        _ => true,
    });
    for handle in unmapped {
        if let Some(found) = state.allocations.get_mut(&handle) {
            found.mappings = found.mappings.saturating_sub(1);
        }
        state.release_unused(handle)?;
    }
    Ok(())
}

/// Notes what the device that has the memory may do with mapped memory.
pub(crate) fn set_access(address: u64, length: u64, of_device: i32, flags: u32) {
    let end = address.saturating_add(length);
    let mut ranges = RANGES.write().unwrap_or_else(PoisonError::into_inner);
    for (_, range) in ranges.range_mut(address..end) {
        if let Kind::Mapped { device, access, .. } = &mut range.kind
            && *device == of_device
        {
            *access = flags;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_placed_one_after_the_other_and_gaps_are_filled() {
        let mut state = State { reserved: BTreeMap::new(), allocations: BTreeMap::new() };
        assert_eq!(state.place(PAGE, LARGE_PAGE), Some(RESERVE_START));
        state.reserved.insert(RESERVE_START, PAGE);
        state.reserved.insert(RESERVE_START + 4 * LARGE_PAGE, LARGE_PAGE);
        assert_eq!(state.place(3 * LARGE_PAGE, LARGE_PAGE), Some(RESERVE_START + LARGE_PAGE));
        assert_eq!(state.place(3 * LARGE_PAGE + PAGE, LARGE_PAGE), Some(RESERVE_START + 5 * LARGE_PAGE));
        assert_eq!(state.place(PAGE, 1 << 40), Some(RESERVE_START + (1 << 40)));
        assert_eq!(state.place(RESERVE_END - RESERVE_START, LARGE_PAGE), None);
        assert_eq!(state.around(RESERVE_START + 100), Some((RESERVE_START, PAGE)));
        assert_eq!(state.around(RESERVE_START + PAGE), None);
    }

    #[test]
    fn a_place_outside_the_window_or_in_another_range_is_not_free() {
        let mut state = State { reserved: BTreeMap::new(), allocations: BTreeMap::new() };
        state.reserved.insert(RESERVE_START + LARGE_PAGE, LARGE_PAGE);
        assert!(state.is_free(RESERVE_START, LARGE_PAGE));
        assert!(!state.is_free(RESERVE_START, LARGE_PAGE + 1));
        assert!(!state.is_free(RESERVE_START + LARGE_PAGE + PAGE, PAGE));
        assert!(!state.is_free(RESERVE_START - PAGE, PAGE));
        assert!(!state.is_free(RESERVE_END - PAGE, 2 * PAGE));
        assert!(!state.is_free(u64::MAX - PAGE, 2 * PAGE));
    }
}

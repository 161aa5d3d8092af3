//! Addresses: which memory, whether it is there, and the access itself.

use std::sync::atomic::Ordering;

use super::access::Cell;
use super::{Device, Extent, FaultKind};
use crate::ptx::ir::{Memory, window};

/// Device memory as one worker thread sees it: remembers the extents that it used last.
pub(super) struct Global<'g> {
    device: &'g dyn Device,
    recent: [Option<Extent>; 4],
    next: usize,
}

/// Why an access failed.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) kind: FaultKind,
    pub(super) address: u64,
}

impl<'g> Global<'g> {
    pub(super) fn new(device: &'g dyn Device) -> Self {
        Self { device, recent: [None; 4], next: 0 }
    }

    pub(super) fn device(&self) -> &'g dyn Device {
        self.device
    }

    /// Checks an access to device memory.
    #[inline]
    pub(super) fn cell(&mut self, address: u64, width: u8, write: bool) -> Result<Cell, Refused> {
        if address & u64::from(width - 1) != 0 {
            return Err(Refused { kind: FaultKind::MisalignedAddress, address });
        }
        for extent in self.recent.iter().flatten() {
            if let Some(cell) = within(extent, address, width, write) {
                return Ok(cell);
            }
        }
        self.look_up(address, width, write)
    }

    #[cold]
    fn look_up(&mut self, address: u64, width: u8, write: bool) -> Result<Cell, Refused> {
        let refused = Refused { kind: FaultKind::IllegalAddress, address };
        let extent = self.device.lookup(address).ok_or(refused)?;
        let cell = within(&extent, address, width, write);
        if cell.is_some() {
            if let Some(slot) = self.recent.get_mut(self.next) {
                *slot = Some(extent);
            }
            self.next = (self.next + 1) % self.recent.len();
        }
        cell.ok_or(Refused { kind: FaultKind::IllegalAddress, address })
    }
}

#[inline]
fn within(extent: &Extent, address: u64, width: u8, write: bool) -> Option<Cell> {
    let offset = address.checked_sub(extent.start)?;
    let fits = extent.length.checked_sub(u64::from(width)).is_some_and(|last| offset <= last);
    if !fits || write && !extent.writable {
        return None;
    }
    let offset = usize::try_from(offset).ok()?;
    // SAFETY: the offset lies inside the extent, which is one mapping.
    let at = unsafe { extent.host.add(offset) };
    if at.addr().get() & usize::from(width - 1) != 0 {
        return None;
    }
    // SAFETY: the device promises that an extent stays mapped (and writable, which has been checked) until the
    // launch ends; width and alignment have been checked.
    Some(unsafe { Cell::new(at, width) })
}

/// Memory and offset of a generic address.
#[inline(always)]
pub(super) fn generic(address: u64) -> Option<(Memory, u64)> {
    if address < window::SHARED {
        return Some((Memory::Global, address));
    }
    let offset = address & ((1 << window::BITS) - 1);
    match address - offset {
        window::SHARED => Some((Memory::Shared, offset)),
        window::LOCAL => Some((Memory::Local, offset)),
        window::PARAM => Some((Memory::Param, offset)),
        _ => None,
    }
}

/// Offset of an address that was given with its state space: also where it is a generic one.
#[inline(always)]
pub(super) fn offset_in(memory: Memory, address: u64) -> u64 {
    match memory {
        Memory::Global | Memory::Generic => address,
        // Addresses of these spaces may be 32 bits, and are calculated in them.
        _ => address & 0xffff_ffff,
    }
}

/// Reads from memory of this process that no other thread touches.
#[inline(always)]
pub(super) fn read(bytes: &[u8], offset: u64, width: u8) -> Option<u64> {
    let start = usize::try_from(offset).ok()?;
    let from = bytes.get(start..start.checked_add(usize::from(width))?)?;
    Some(match width {
        1 => u64::from(*from.first()?),
        2 => u64::from(u16::from_le_bytes(from.try_into().ok()?)),
        4 => u64::from(u32::from_le_bytes(from.try_into().ok()?)),
        _ => u64::from_le_bytes(from.try_into().ok()?),
    })
}

/// Writes as [`read`] reads; false if it is outside.
#[inline(always)]
pub(super) fn write(bytes: &mut [u8], offset: u64, width: u8, value: u64) -> bool {
    let Ok(start) = usize::try_from(offset) else { return false };
    let Some(end) = start.checked_add(usize::from(width)) else { return false };
    let Some(to) = bytes.get_mut(start..end) else { return false };
    let value = value.to_le_bytes();
    match value.get(..to.len()) {
        Some(from) => to.copy_from_slice(from),
        None => return false,
    }
    true
}

/// Order of a load: those that may see another thread's release.
#[inline(always)]
pub(super) fn load_order(polls: bool) -> Ordering {
    if polls { Ordering::Acquire } else { Ordering::Relaxed }
}

/// Order of a store.
#[inline(always)]
pub(super) fn store_order(orders: bool) -> Ordering {
    if orders { Ordering::Release } else { Ordering::Relaxed }
}

//! What a private table is: an array of addresses.

use std::ffi::c_void;

use virtio_spec::cuda::CUresult;

use super::{NAMES, unknown};

/// Address of a slot's function, or the table's size in bytes in its first slot.
pub(super) type Slot = *const c_void;

/// A table as programs see it. It never moves: one of them is known by its address.
#[derive(Debug)]
pub(super) struct Table(Box<[Slot]>);

// SAFETY: addresses of functions, and a number, which nobody changes.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    /// Table number `TABLE`, with as many slots as driver 580's, the first of which is its size. The slots that are not
    /// given answer that they are not supported.
    pub(super) fn sized<const TABLE: usize>(slots: usize, functions: &[(usize, Slot)]) -> Self {
        let mut table: Box<[Slot]> = absent_slots::<TABLE>().take(slots).collect();
        if let Some(size) = table.first_mut() {
            *size = std::ptr::without_provenance(slots * size_of::<Slot>());
        }
        Self(table).with(functions)
    }

    /// A table without a size, which ends at an empty slot.
    pub(super) fn terminated(functions: &[(usize, Slot)]) -> Self {
        Self(vec![std::ptr::null(); functions.len() + 1].into()).with(functions)
    }

    fn with(mut self, functions: &[(usize, Slot)]) -> Self {
        for &(number, function) in functions {
            if let Some(slot) = self.0.get_mut(number) {
                *slot = function;
            }
        }
        self
    }

    /// The table as programs get it.
    pub(super) const fn address(&self) -> Slot {
        self.0.as_ptr().cast()
    }

    /// What a slot holds.
    #[cfg(test)]
    pub(super) fn slot(&self, number: usize) -> Option<Slot> {
        self.0.get(number).copied()
    }
}

/// Stands in a slot whose purpose is not known; `number` says which of [`SLOTS`] in which table. A caller with arguments
/// may call it too: the C convention leaves them to the caller.
extern "C" fn absent(number: u32) -> CUresult {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    unknown::slot_called(number / SLOTS, number % SLOTS);
    CUresult::ERROR_NOT_SUPPORTED
}

/// Slots for which there is a function of their own, in each table.
const SLOTS: usize = 100;
/// Bytes from one such function to the next.
const STRIDE: usize = 16;

// A function for each slot of each table, so that a call says which one it was. Their addresses follow from the first:
// an array of them would be written by the loader into every process.
std::arch::global_asm!(
    ".pushsection .text.absent_slots,\"ax\",@progbits",
    ".balign {stride}",
    ".hidden absent_slots",
    ".globl absent_slots",
    "absent_slots:",
    ".set absent_slot, 0",
    ".rept {count}",
    ".balign {stride}",
    "mov edi, offset absent_slot",
    "jmp {absent}",
    ".set absent_slot, absent_slot + 1",
    ".endr",
    ".popsection",
    stride = const STRIDE,
    count = const SLOTS * NAMES.len(),
    absent = sym absent,
);

unsafe extern "C" {
    /// The first of the functions; never called by this name.
    #[link_name = "absent_slots"]
    safe static FIRST_ABSENT: u8;
}

/// The functions of a table's slots that are not known.
fn absent_slots<const TABLE: usize>() -> impl Iterator<Item = Slot> {
    let first = (&raw const FIRST_ABSENT).wrapping_add(TABLE * SLOTS * STRIDE);
    (0..SLOTS).map(move |slot| first.wrapping_add(slot * STRIDE).cast())
}

//! What a private table is: an array of addresses.

use std::ffi::c_void;

use virtio_spec::cuda::CUresult;

use super::unknown;

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
        let mut table: Box<[Slot]> = absent_slots::<TABLE>().into_iter().take(slots).collect();
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

/// Stands in slot `SLOT` of table `TABLE`, whose purpose is not known. A caller with arguments may call it too: the C
/// convention leaves them to the caller.
extern "C" fn absent<const TABLE: usize, const SLOT: usize>() -> CUresult {
    unknown::slot_called(TABLE, SLOT);
    CUresult::ERROR_NOT_SUPPORTED
}

/// A function for each slot of a table, so that a call says which one it was.
macro_rules! absent_slots {
    ($($tens:literal)*) => { [$(absent_slots!(@ $tens 0 1 2 3 4 5 6 7 8 9)),*].concat() };
    (@ $tens:literal $($unit:literal)*) => { [$(absent::<TABLE, { $tens * 10 + $unit }> as *const () as Slot),*] };
}

fn absent_slots<const TABLE: usize>() -> Vec<Slot> {
    absent_slots!(0 1 2 3 4 5 6 7 8 9)
}

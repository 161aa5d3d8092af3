//! The only place that touches device memory: single accesses of 1, 2, 4 or 8 bytes, all atomic.
//!
//! This file contains unsafe code. Other threads (blocks of the same grid, the program itself) may
//! access the same bytes at any time, so an access is an atomic one of its natural width; ordinary
//! loads and stores are relaxed, which costs nothing.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A place in device memory that has been checked: mapped for its width, writable if it is written,
/// and aligned to its width.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    at: NonNull<u8>,
    width: u8,
}

macro_rules! by_width {
    ($cell:expr, |$atomic:ident: $t:ident| $e:expr) => {
        match $cell.width {
            1 => {
                // SAFETY: `Cell::new`'s caller vouches for mapping, width and alignment.
                let $atomic = unsafe { AtomicU8::from_ptr($cell.at.as_ptr()) };
                type $t = u8;
                $e
            }
            2 => {
                // SAFETY: as above.
                let $atomic = unsafe { AtomicU16::from_ptr($cell.at.as_ptr().cast()) };
                type $t = u16;
                $e
            }
            4 => {
                // SAFETY: as above.
                let $atomic = unsafe { AtomicU32::from_ptr($cell.at.as_ptr().cast()) };
                type $t = u32;
                $e
            }
            _ => {
                // SAFETY: as above.
                let $atomic = unsafe { AtomicU64::from_ptr($cell.at.as_ptr().cast()) };
                type $t = u64;
                $e
            }
        }
    };
}

impl Cell {
    /// # Safety
    /// `width` bytes (1, 2, 4 or 8) at `at` must be mapped for as long as the cell is used, writable if it
    /// is written, and `at` must be aligned to `width`.
    #[inline(always)]
    pub(super) unsafe fn new(at: NonNull<u8>, width: u8) -> Self {
        Self { at, width }
    }

    #[inline(always)]
    pub(super) fn load(self, order: Ordering) -> u64 {
        #[allow(clippy::useless_conversion, reason = "one arm is u64 already")]
        {
            by_width!(self, |atomic: T| {
                let value: T = atomic.load(order);
                u64::from(value)
            })
        }
    }

    #[inline(always)]
    pub(super) fn store(self, value: u64, order: Ordering) {
        use super::alu::Register;
        by_width!(self, |atomic: T| atomic.store(T::get(value), order));
    }

    /// Replaces the value by what `f` makes of it; returns the old one.
    #[inline(always)]
    pub(super) fn update(self, f: impl Fn(u64) -> u64) -> u64 {
        use super::alu::Register;
        let mut old = self.load(Ordering::Relaxed);
        loop {
            let new = f(old);
            #[allow(clippy::useless_conversion, reason = "one arm is u64 already")]
            let result = by_width!(self, |atomic: T| {
                atomic
                    .compare_exchange_weak(T::get(old), T::get(new), Ordering::SeqCst, Ordering::SeqCst)
                    .map(u64::from)
                    .map_err(u64::from)
            });
            match result {
                Ok(_) => return old,
                Err(found) => old = found,
            }
        }
    }

    /// Wrapping addition; returns the old value.
    #[inline(always)]
    pub(super) fn add(self, value: u64) -> u64 {
        use super::alu::Register;
        #[allow(clippy::useless_conversion, reason = "one arm is u64 already")]
        {
            by_width!(self, |atomic: T| u64::from(atomic.fetch_add(T::get(value), Ordering::SeqCst)))
        }
    }
}

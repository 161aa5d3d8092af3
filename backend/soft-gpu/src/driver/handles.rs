//! Handles: opaque numbers that name the driver's objects.
//!
//! A number is never used twice and never looked behind, so a forged or destroyed handle is found out by its absence.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::Result;
use virtio_spec::cuda::CUresult;

/// Counts every handle of the process, of whatever kind.
static MINTED: AtomicU64 = AtomicU64::new(1);

/// A number for an object of this kind. It is 16-aligned, above 2^32, and no address.
pub(crate) fn mint(kind: u8) -> u64 {
    0x5f00_0000_0000_0000 | u64::from(kind) << 44 | MINTED.fetch_add(1, Ordering::Relaxed) << 4
}

/// The live objects of one kind.
#[derive(Debug)]
pub(crate) struct Table<T> {
    objects: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { objects: RwLock::new(HashMap::new()) }
    }
}

impl<T> Table<T> {
    /// Makes an object known under its handle.
    pub(crate) fn insert(&self, handle: u64, object: Arc<T>) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(handle, object);
    }

    /// The object; `CUDA_ERROR_INVALID_HANDLE` if there is none.
    pub(crate) fn get(&self, handle: u64) -> Result<Arc<T>> {
        self.find(handle).ok_or(CUresult::ERROR_INVALID_HANDLE)
    }

    /// The object, if there is one.
    pub(crate) fn find(&self, handle: u64) -> Option<Arc<T>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned()
    }

    /// Forgets an object; `CUDA_ERROR_INVALID_HANDLE` if there is none.
    pub(crate) fn remove(&self, handle: u64) -> Result<Arc<T>> {
        self.objects
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&handle)
            .ok_or(CUresult::ERROR_INVALID_HANDLE)
    }

    /// Forgets the objects that are not to be kept.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&T) -> bool) {
        // Objects are dropped outside the lock: their destructors may take others.
        let mut dropped = Vec::new();
        self.objects.write().unwrap_or_else(PoisonError::into_inner).retain(|_, object| {
            let kept = keep(object);
            if !kept {
                dropped.push(Arc::clone(object));
            }
            kept
        });
    }

    /// All objects.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Kinds of handles, for [`mint`].
pub(crate) mod kind {
    pub(crate) const CONTEXT: u8 = 1;
    pub(crate) const MODULE: u8 = 2;
    pub(crate) const FUNCTION: u8 = 3;
    pub(crate) const LIBRARY: u8 = 4;
    pub(crate) const KERNEL: u8 = 5;
    pub(crate) const STREAM: u8 = 6;
    pub(crate) const EVENT: u8 = 7;
    pub(crate) const LINK: u8 = 8;
    pub(crate) const POOL: u8 = 9;
    pub(crate) const GRAPH: u8 = 10;
    pub(crate) const EXEC: u8 = 11;
    pub(crate) const NODE: u8 = 12;
    pub(crate) const ARRAY: u8 = 13;
    pub(crate) const ALLOCATION: u8 = 15;
    pub(crate) const USER_OBJECT: u8 = 16;
    pub(crate) const MIPMAPPED: u8 = 17;
    pub(crate) const TEXTURE: u8 = 18;
    pub(crate) const SURFACE: u8 = 19;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_handle_is_invalid_and_never_comes_back() {
        let table = Table::default();
        let first = mint(kind::EVENT);
        table.insert(first, Arc::new(1));
        assert_eq!(table.get(first).as_deref(), Ok(&1));
        assert!(table.remove(first).is_ok());
        assert_eq!(table.get(first).err(), Some(CUresult::ERROR_INVALID_HANDLE));
        assert_ne!(mint(kind::EVENT), first);
    }

    #[test]
    fn handles_are_aligned_and_no_small_constants() {
        let handle = mint(kind::STREAM);
        assert!(handle.is_multiple_of(16) && handle > 1 << 32);
    }
}

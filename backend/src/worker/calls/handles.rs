//! The session's handles: what the guest minted, and the driver's object behind each.
//!
//! A handle is checked for kind, index and generation; a wrong one is a CUDA error for that call. Objects depend on
//! others (a function on its module, everything on its context), and removing an object removes what depends on it, so
//! that a stale handle never reaches the driver.

use std::{
    cell::Cell,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use virtio_spec::{
    cuda::CUresult,
    handle::{Handle, Kind},
    limits,
};

/// What stands behind a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// The driver's handle.
    pub(crate) raw: u64,
    /// Handle of the object that it belongs to (module, library, kernel), 0 if none.
    pub(crate) parent: u64,
    /// Handle of the context that it belongs to, 0 if none.
    pub(crate) context: u64,
}

#[derive(Clone, Copy)]
struct Slot {
    handle: u64,
    object: Object,
}

/// Kinds of handles; the tables are indexed by kind.
const KINDS: usize = 19;

/// The tables of one session.
pub(crate) struct Handles {
    tables: [RwLock<Vec<Option<Slot>>>; KINDS],
    /// Counts up whenever a handle goes: what was looked up before may not be there any more.
    removals: AtomicU64,
}

/// Entries of [`Recent`].
const RECENT: usize = 64;

/// What one host thread has looked up lately, so that it need not lock the tables for each request.
pub(crate) struct Recent {
    /// [`Handles::removals`] for which the entries hold.
    removals: Cell<u64>,
    /// Handles and what the driver calls them; 0 is no handle.
    entries: [Cell<(u64, u64)>; RECENT],
}

impl Recent {
    pub(crate) const fn new() -> Self {
        Self { removals: Cell::new(0), entries: [const { Cell::new((0, 0)) }; RECENT] }
    }

    #[cold]
    fn forget(&self) {
        self.entries.iter().for_each(|entry| entry.set((0, 0)));
    }
}

impl Handles {
    pub(crate) fn new() -> Self {
        Self { tables: std::array::from_fn(|_| RwLock::new(Vec::new())), removals: AtomicU64::new(0) }
    }

    fn table(&self, kind: Kind) -> &RwLock<Vec<Option<Slot>>> {
        // Kinds are numbered from 1 to 18.
        self.tables.get(kind as usize).unwrap_or(&self.tables[0])
    }

    /// The object behind a handle of this kind.
    pub(crate) fn get(&self, kind: Kind, value: u64) -> Result<Object, CUresult> {
        let handle = Handle::from_u64(value).filter(|handle| handle.kind == kind);
        let index = handle.ok_or(CUresult::ERROR_INVALID_HANDLE)?.index as usize;
        let table = self.table(kind).read().unwrap_or_else(PoisonError::into_inner);
        match table.get(index) {
            Some(Some(slot)) if slot.handle == value => Ok(slot.object),
            _ => Err(CUresult::ERROR_INVALID_HANDLE),
        }
    }

    /// What the driver calls the object behind a handle of this kind.
    #[inline]
    pub(crate) fn raw(&self, recent: &Recent, kind: Kind, value: u64) -> Result<u64, CUresult> {
        let removals = self.removals.load(Ordering::Acquire);
        if recent.removals.replace(removals) != removals {
            recent.forget();
        }
        let ([low, ..], [.., top]) = ((value >> 4).to_le_bytes(), value.to_le_bytes());
        let place = usize::from(low).wrapping_add((kind as usize).wrapping_mul(7)) & (RECENT - 1);
        let entry = recent.entries.get(place).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        let (known, raw) = entry.get();
        // What was found once as one of a kind is of this kind; whoever asks for another one is answered below.
        if known == value && top == kind as u8 {
            return Ok(raw);
        }
        self.look_up(entry, kind, value)
    }

    #[cold]
    fn look_up(&self, entry: &Cell<(u64, u64)>, kind: Kind, value: u64) -> Result<u64, CUresult> {
        let raw = self.get(kind, value)?.raw;
        entry.set((value, raw));
        Ok(raw)
    }

    /// The handle of an object of the driver.
    pub(crate) fn find(&self, kind: Kind, raw: u64) -> Option<u64> {
        let table = self.table(kind).read().unwrap_or_else(PoisonError::into_inner);
        table.iter().flatten().find(|slot| slot.object.raw == raw).map(|slot| slot.handle)
    }

    /// Every handle of this kind, with its object.
    pub(crate) fn named(&self, kind: Kind) -> Vec<(u64, Object)> {
        let table = self.table(kind).read().unwrap_or_else(PoisonError::into_inner);
        table.iter().flatten().map(|slot| (slot.handle, slot.object)).collect()
    }

    /// Every object of this kind.
    pub(crate) fn all(&self, kind: Kind) -> Vec<Object> {
        let table = self.table(kind).read().unwrap_or_else(PoisonError::into_inner);
        table.iter().flatten().map(|slot| slot.object).collect()
    }

    /// Whether the guest may give this handle to a new object of this kind.
    pub(crate) fn check_free(&self, kind: Kind, value: u64) -> Result<(), CUresult> {
        let handle = Handle::from_u64(value).filter(|handle| handle.kind == kind);
        let index = handle.ok_or(CUresult::ERROR_INVALID_HANDLE)?.index;
        if index >= limits::MAX_HANDLES {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
        let table = self.table(kind).read().unwrap_or_else(PoisonError::into_inner);
        match table.get(index as usize) {
            Some(Some(_)) => Err(CUresult::ERROR_INVALID_HANDLE),
            _ => Ok(()),
        }
    }

    /// Gives a handle an object.
    pub(crate) fn insert(&self, kind: Kind, value: u64, object: Object) -> Result<(), CUresult> {
        self.check_free(kind, value)?;
        let index = Handle::from_u64(value).ok_or(CUresult::ERROR_INVALID_HANDLE)?.index as usize;
        let mut table = self.table(kind).write().unwrap_or_else(PoisonError::into_inner);
        if table.len() <= index {
            table.resize(index.saturating_add(1), None);
        }
        let slot = table.get_mut(index).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        *slot = Some(Slot { handle: value, object });
        Ok(())
    }

    /// Takes a handle, and what belongs to its object, out of the tables.
    pub(crate) fn remove(&self, kind: Kind, value: u64) {
        if self.get(kind, value).is_err() {
            return;
        }
        let Some(handle) = Handle::from_u64(value) else { return };
        let mut table = self.table(kind).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = table.get_mut(handle.index as usize) {
            *slot = None;
        }
        self.removals.fetch_add(1, Ordering::Release);
        drop(table);
        match kind {
            Kind::Module | Kind::Library | Kind::Kernel => {
                for dependent in [Kind::Function, Kind::Kernel, Kind::Module] {
                    self.remove_where(dependent, |object| object.parent == value);
                }
            }
            Kind::MipmappedArray => self.remove_where(Kind::Array, |object| object.parent == value),
            Kind::Context => self.remove_of_context(value),
            _ => {}
        }
    }

    /// Takes everything that belongs to a context out of the tables; libraries and their kernels belong to none.
    pub(crate) fn remove_of_context(&self, context: u64) {
        let kinds = [
            Kind::Module,
            Kind::Function,
            Kind::Stream,
            Kind::Event,
            Kind::Link,
            Kind::Array,
            Kind::MipmappedArray,
            Kind::Texture,
            Kind::Surface,
        ];
        for kind in kinds {
            self.remove_where(kind, |object| object.context == context);
        }
    }

    fn remove_where(&self, kind: Kind, belongs: impl Fn(&Object) -> bool) {
        let mut removed = Vec::new();
        {
            let table = self.table(kind).read().unwrap_or_else(PoisonError::into_inner);
            removed
                .extend(table.iter().flatten().filter(|slot| belongs(&slot.object)).map(|slot| slot.handle));
        }
        for handle in removed {
            self.remove(kind, handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(kind: Kind, generation: u32, index: u32) -> u64 {
        Handle { kind, generation, index }.to_u64()
    }

    #[test]
    fn a_stale_generation_is_refused() {
        let handles = Handles::new();
        let (old, new) = (handle(Kind::Stream, 1, 7), handle(Kind::Stream, 2, 7));
        assert_eq!(handles.insert(Kind::Stream, old, Object { raw: 10, parent: 0, context: 0 }), Ok(()));
        handles.remove(Kind::Stream, old);
        assert_eq!(handles.insert(Kind::Stream, new, Object { raw: 11, parent: 0, context: 0 }), Ok(()));
        assert_eq!(handles.get(Kind::Stream, old), Err(CUresult::ERROR_INVALID_HANDLE));
        assert_eq!(handles.get(Kind::Stream, new).map(|object| object.raw), Ok(11));
        assert_eq!(handles.get(Kind::Event, new), Err(CUresult::ERROR_INVALID_HANDLE));
    }

    #[test]
    fn what_was_looked_up_is_forgotten_when_it_goes() {
        let (handles, recent) = (Handles::new(), Recent::new());
        let (stream, event) = (handle(Kind::Stream, 1, 3), handle(Kind::Event, 1, 3));
        for (kind, value, raw) in [(Kind::Stream, stream, 10), (Kind::Event, event, 11)] {
            assert_eq!(handles.insert(kind, value, Object { raw, parent: 0, context: 0 }), Ok(()));
        }
        for _ in 0..2 {
            assert_eq!(handles.raw(&recent, Kind::Stream, stream), Ok(10));
            assert_eq!(handles.raw(&recent, Kind::Event, event), Ok(11));
        }
        assert!(handles.raw(&recent, Kind::Event, stream).is_err(), "the kind is checked");

        handles.remove(Kind::Stream, stream);

        assert!(handles.raw(&recent, Kind::Stream, stream).is_err());
        assert_eq!(handles.raw(&recent, Kind::Event, event), Ok(11));
    }

    #[test]
    fn a_taken_handle_is_refused_and_a_huge_index_too() {
        let handles = Handles::new();
        let taken = handle(Kind::Event, 1, 1);
        assert_eq!(handles.insert(Kind::Event, taken, Object { raw: 1, parent: 0, context: 0 }), Ok(()));
        let again = handles.insert(Kind::Event, taken, Object { raw: 2, parent: 0, context: 0 });
        assert_eq!(again, Err(CUresult::ERROR_INVALID_HANDLE));
        let huge = handle(Kind::Event, 1, limits::MAX_HANDLES);
        assert_eq!(handles.check_free(Kind::Event, huge), Err(CUresult::ERROR_OUT_OF_MEMORY));
    }

    #[test]
    fn functions_go_with_their_module_and_all_with_the_context() {
        let handles = Handles::new();
        let context = handle(Kind::Context, 1, 1);
        let (module, function) = (handle(Kind::Module, 1, 1), handle(Kind::Function, 1, 1));
        let stream = handle(Kind::Stream, 1, 1);
        assert_eq!(handles.insert(Kind::Context, context, Object { raw: 1, parent: 0, context: 0 }), Ok(()));
        assert_eq!(handles.insert(Kind::Module, module, Object { raw: 2, parent: 0, context }), Ok(()));
        assert_eq!(
            handles.insert(Kind::Function, function, Object { raw: 3, parent: module, context }),
            Ok(())
        );
        assert_eq!(handles.insert(Kind::Stream, stream, Object { raw: 4, parent: 0, context }), Ok(()));
        handles.remove(Kind::Module, module);
        assert!(handles.get(Kind::Function, function).is_err());
        handles.remove(Kind::Context, context);
        assert!(handles.get(Kind::Stream, stream).is_err());
    }
}

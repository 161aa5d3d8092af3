//! Context-local storage: values that libraries keep with a context.
//!
//! A runtime asks for its own on nearly every call (30,930 times for 128 tokens of a language model), so each thread
//! remembers what it found last, for as long as nothing was put or deleted.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use virtio_spec::cuda::{CUcontext, CUresult};

use super::answered;
use super::table::{Slot, Table};
use crate::context;

/// Called with context, key and value when the context ends.
type Destructor = Option<unsafe extern "C" fn(CUcontext, *mut c_void, *mut c_void)>;

/// What was put: addresses, which are only handed back.
#[derive(Clone, Copy, Debug)]
struct Value {
    address: usize,
    destructor: Destructor,
}

/// A context and the key of a library in it.
type Place = (u64, usize);

static VALUES: RwLock<Option<HashMap<Place, Value>>> = RwLock::new(None);
/// Counts up before anything that was found may be wrong.
static CHANGES: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The last find: when, where and what.
    static FOUND: Cell<(u64, Place, usize)> = const { Cell::new((0, (0, 0), 0)) };
}

/// The context that a caller means: NULL and all ones are the current one.
fn meant(context: CUcontext) -> Result<u64, CUresult> {
    match context.0 {
        0 | u64::MAX => context::current().ok_or(CUresult::ERROR_INVALID_CONTEXT),
        handle => Ok(handle),
    }
}

fn change(change: impl FnOnce(&mut HashMap<Place, Value>)) {
    let mut values = VALUES.write().unwrap_or_else(PoisonError::into_inner);
    CHANGES.fetch_add(1, Ordering::AcqRel);
    change(values.get_or_insert_default());
}

fn find(place: Place) -> Option<usize> {
    let now = CHANGES.load(Ordering::Acquire);
    if let Ok((then, there, address)) = FOUND.try_with(Cell::get)
        && (then, there) == (now, place)
    {
        return Some(address);
    }
    let values = VALUES.read().unwrap_or_else(PoisonError::into_inner);
    let address = values.as_ref()?.get(&place)?.address;
    // A thread without its locals looks again the next time.
    let _ = FOUND.try_with(|found| found.set((now, place, address)));
    Some(address)
}

/// Slot 0, at the start of each runtime in each context: keeps `value` under `key`, and `destructor` for the
/// context's end.
unsafe extern "C" fn put(
    context: CUcontext,
    key: *mut c_void,
    value: *mut c_void,
    destructor: Destructor,
) -> CUresult {
    answered("context-storage[0]", || {
        let place = (meant(context)?, key.addr());
        let value = Value { address: value.expose_provenance(), destructor };
        change(|values| {
            values.insert(place, value);
        });
        Ok(())
    })
}

/// Slot 1, when a runtime ends: forgets a value without calling its destructor.
unsafe extern "C" fn delete(context: CUcontext, key: *mut c_void) -> CUresult {
    answered("context-storage[1]", || {
        let place = (meant(context)?, key.addr());
        change(|values| {
            values.remove(&place);
        });
        Ok(())
    })
}

/// Slot 2, on nearly every call of a runtime: the value under `key`, or `CUDA_ERROR_INVALID_HANDLE`.
unsafe extern "C" fn get(value: *mut *mut c_void, context: CUcontext, key: *mut c_void) -> CUresult {
    answered("context-storage[2]", || {
        let found = find((meant(context)?, key.addr())).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        if value.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the caller's place for an address.
        unsafe { value.write(std::ptr::with_exposed_provenance_mut(found)) };
        Ok(())
    })
}

/// The table.
pub(super) fn table() -> Table {
    Table::terminated(&[
        (0, put as *const () as Slot),
        (1, delete as *const () as Slot),
        (2, get as *const () as Slot),
    ])
}

/// Ends what was kept with a context: its values' destructors are called, outside all locks, because they call CUDA.
pub(crate) fn forget_context(context: u64) {
    if VALUES.read().unwrap_or_else(PoisonError::into_inner).is_none() {
        return;
    }
    let mut ended = Vec::new();
    change(|values| {
        values.retain(|&(owner, key), value| {
            if owner == context {
                ended.push((key, *value));
            }
            owner != context
        });
    });
    for (key, value) in ended {
        if let Some(destructor) = value.destructor {
            let key = std::ptr::without_provenance_mut(key);
            let value = std::ptr::with_exposed_provenance_mut(value.address);
            // SAFETY: the library's own function, called once with what it gave, as it asked.
            unsafe { destructor(CUcontext(context), key, value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    static ENDED: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "C" fn ended(_context: CUcontext, key: *mut c_void, value: *mut c_void) {
        ENDED.fetch_add(key.addr() + value.addr(), Ordering::Relaxed);
    }

    fn value(context: u64, key: usize) -> Option<usize> {
        find((context, key))
    }

    #[test]
    fn values_belong_to_a_context_and_a_key_and_end_with_the_context() {
        const FIRST: u64 = 71;
        const SECOND: u64 = 72;
        let keep = |context, key, address, destructor| {
            change(|values| {
                values.insert((context, key), Value { address, destructor });
            });
        };
        keep(FIRST, 1, 100, Some(ended as unsafe extern "C" fn(_, _, _)));
        keep(FIRST, 2, 200, None);
        keep(SECOND, 1, 300, Some(ended as unsafe extern "C" fn(_, _, _)));

        assert_eq!((value(FIRST, 1), value(FIRST, 2), value(SECOND, 1)), (Some(100), Some(200), Some(300)));
        assert_eq!(value(SECOND, 2), None);

        forget_context(FIRST);

        assert_eq!(ENDED.load(Ordering::Relaxed), 101);
        assert_eq!((value(FIRST, 1), value(FIRST, 2), value(SECOND, 1)), (None, None, Some(300)));
    }

    #[test]
    fn what_a_thread_remembers_is_not_older_than_a_change() {
        const CONTEXT: u64 = 73;
        let keep = |address| {
            change(|values| {
                values.insert((CONTEXT, 1), Value { address, destructor: None });
            });
        };
        keep(1);
        assert_eq!((value(CONTEXT, 1), value(CONTEXT, 1)), (Some(1), Some(1)));
        std::thread::spawn(move || keep(2)).join().expect("the thread ends");
        assert_eq!(value(CONTEXT, 1), Some(2));
    }
}

//! Room for the chunks of large copies: a region of pinned memory for each context, made at the first large copy in it.
//!
//! A lane's staging is small, because every process has it. The region is none of the program's: it is no range, nothing
//! frees it, and no query tells of it. One copy at a time uses it, and owns it meanwhile. So where its context ends during
//! the copy, the region goes afterwards.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::pinned::{self, Own};
use crate::context;
use crate::graph::host_calls;

/// Bytes of a region.
pub(super) const BYTES: u64 = 4 << 20;

/// A context's region.
#[derive(Debug)]
struct Place {
    /// A number that no other place has: a context that was reset has its handle again, and another place.
    number: u64,
    /// None while a copy uses it, or if there could be none.
    region: Option<Own>,
}

#[derive(Debug)]
struct Places {
    last: u64,
    by_context: BTreeMap<u64, Place>,
}

static PLACES: Mutex<Places> = Mutex::new(Places { last: 0, by_context: BTreeMap::new() });

fn places() -> MutexGuard<'static, Places> {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A region that a copy uses; it is put back when this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    context: u64,
    place: u64,
    address: u64,
    region: Option<Own>,
}

impl Room {
    /// Takes a context's region, unless another copy uses it. Makes it, unless that failed before, or something speaks
    /// against a call that the program did not make.
    pub(super) fn take(context: u64) -> Option<Self> {
        let may_make = context::is_quiet(context) && !host_calls::is_inside();
        let (place, region) = places().take(context, may_make)?;
        let region = match region {
            Some(region) => region,
            None => pinned::own(BYTES, context).ok()?,
        };
        Some(Self { context, place, address: region.address(), region: Some(region) })
    }

    /// Address of its first byte, for the process and the device.
    pub(super) const fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Some(region) = self.region.take() else { return };
        let left = places().put(self.context, self.place, region);
        if let Some(region) = left {
            // The context has ended since, but the region may have been made in its successor.
            region.unregister(self.context);
        }
    }
}

impl Places {
    /// Takes a context's region: the number of its place, and the region unless it has yet to be made.
    fn take(&mut self, context: u64, may_make: bool) -> Option<(u64, Option<Own>)> {
        match self.by_context.entry(context) {
            Entry::Occupied(mut place) => {
                let place = place.get_mut();
                place.region.take().map(|region| (place.number, Some(region)))
            }
            Entry::Vacant(_) if !may_make => None,
            Entry::Vacant(place) => {
                self.last += 1;
                place.insert(Place { number: self.last, region: None });
                Some((self.last, None))
            }
        }
    }

    /// Puts a region back where it was taken; gives it back if that is no more.
    fn put(&mut self, context: u64, number: u64, region: Own) -> Option<Own> {
        match self.by_context.get_mut(&context).filter(|place| place.number == number) {
            Some(place) => place.region.replace(region),
            None => Some(region),
        }
    }
}

/// Gives the region of a context back that is gone.
pub(super) fn forget_context(context: u64) {
    let gone = places().by_context.remove(&context);
    // The lock is not held any more.
    drop(gone);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_copy_at_a_time_has_a_contexts_region() {
        let mut places = Places { last: 0, by_context: BTreeMap::new() };
        assert!(places.take(7, false).is_none(), "something speaks against making it");
        let (number, region) = places.take(7, true).expect("to be made");
        assert!(region.is_none());
        assert!(places.take(7, true).is_none(), "it is being made, or could not be");
        assert!(places.put(7, number, Own::nowhere(1)).is_none());
        let (again, region) = places.take(7, false).expect("it is there");
        assert_eq!((again, region.map(|region| region.address())), (number, Some(1)));
    }

    #[test]
    fn a_region_of_a_context_that_has_ended_is_not_its_successors() {
        let mut places = Places { last: 0, by_context: BTreeMap::new() };
        let (first, _) = places.take(7, true).expect("to be made");
        places.by_context.remove(&7);
        assert!(places.put(7, first, Own::nowhere(1)).is_some(), "there is no place for it");
        let (second, _) = places.take(7, true).expect("to be made");
        assert!(places.put(7, first, Own::nowhere(1)).is_some(), "another's place");
        assert!(places.put(7, second, Own::nowhere(2)).is_none());
    }
}

//! What streams are made with: flags, priorities and numbers. The device tells each once; it is remembered for as long as
//! the stream is there. The default streams' are the driver's to say, each time.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::cuda::{CUresult, CUstream};
use virtio_spec::handle::Kind;

use super::give;
use crate::entry::{Flavour, status};
use crate::exports::streams::{
    wire_cuStreamCopyAttributes, wire_cuStreamGetFlags, wire_cuStreamGetId, wire_cuStreamGetPriority,
};
use crate::{context, handles};

/// What is known of a stream.
#[derive(Debug, Default)]
struct Properties {
    flags: Option<u32>,
    priority: Option<i32>,
    id: Option<u64>,
}

/// What is known of all streams.
#[derive(Debug)]
struct Known {
    streams: BTreeMap<u64, Properties>,
    /// How often something was forgotten: what was asked for before that is not remembered.
    forgotten: u64,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { streams: BTreeMap::new(), forgotten: 0 });

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    fn forget(&mut self, keeps: impl Fn(u64) -> bool) {
        self.forgotten += 1;
        self.streams.retain(|stream, _| keeps(*stream));
    }
}

/// Forgets a stream, which is destroyed or gets other attributes.
pub(super) fn forget(stream: CUstream) {
    known().forget(|other| other != stream.0);
}

/// Forgets streams that have gone with their context.
pub(crate) fn forget_gone() {
    known().forget(|stream| handles::check(&[Kind::Stream], stream));
}

/// Answers with a property of a stream, if it is known, or as `ask` does.
///
/// # Safety
/// `place` is null, or valid for writing, and `ask` writes it if it succeeds.
unsafe fn property<T: Copy>(
    stream: CUstream,
    place: *mut T,
    of: impl Fn(&mut Properties) -> &mut Option<T>,
    ask: impl FnOnce() -> CUresult,
) -> CUresult {
    if place.is_null() || !handles::check(&[Kind::Stream], stream.0) {
        return ask();
    }
    let (value, forgotten) = {
        let mut known = known();
        (known.streams.get_mut(&stream.0).and_then(|properties| *of(properties)), known.forgotten)
    };
    if let Some(value) = value
        && context::required().is_ok_and(context::is_quiet)
    {
        // SAFETY: as the caller promises.
        return status(unsafe { give(place, value) });
    }
    let result = ask();
    if result == CUresult::SUCCESS {
        // SAFETY: it was written just now.
        let value = unsafe { place.read() };
        let mut known = known();
        if known.forgotten == forgotten {
            *of(known.streams.entry(stream.0).or_default()) = Some(value);
        }
    }
    result
}

pub(crate) unsafe fn cuStreamGetPriority(stream: CUstream, priority: *mut i32, flavour: Flavour) -> CUresult {
    // SAFETY: the same contract.
    let ask = || unsafe { wire_cuStreamGetPriority(stream, priority, flavour) };
    // SAFETY: the application's place for a number, which the call writes.
    unsafe { property(stream, priority, |known| &mut known.priority, ask) }
}

pub(crate) unsafe fn cuStreamGetFlags(stream: CUstream, flags: *mut u32, flavour: Flavour) -> CUresult {
    // SAFETY: the same contract.
    let ask = || unsafe { wire_cuStreamGetFlags(stream, flags, flavour) };
    // SAFETY: the application's place for a number, which the call writes.
    unsafe { property(stream, flags, |known| &mut known.flags, ask) }
}

pub(crate) unsafe fn cuStreamGetId(stream: CUstream, stream_id: *mut u64, flavour: Flavour) -> CUresult {
    // SAFETY: the same contract.
    let ask = || unsafe { wire_cuStreamGetId(stream, stream_id, flavour) };
    // SAFETY: the application's place for a number, which the call writes.
    unsafe { property(stream, stream_id, |known| &mut known.id, ask) }
}

/// A priority is an attribute, too.
pub(crate) unsafe fn cuStreamCopyAttributes(to: CUstream, from: CUstream, flavour: Flavour) -> CUresult {
    // SAFETY: no pointers.
    let result = unsafe { wire_cuStreamCopyAttributes(to, from, flavour) };
    forget(to);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_before_something_was_forgotten_is_not_remembered() {
        let mut known = Known { streams: BTreeMap::new(), forgotten: 0 };
        for stream in [1, 2, 3] {
            known.streams.insert(stream, Properties { flags: Some(1), ..Properties::default() });
        }
        known.forget(|stream| stream != 2);
        assert_eq!(known.streams.keys().copied().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(known.forgotten, 1, "an answer that is under way is of before that");
    }

    #[test]
    fn the_default_streams_are_asked_for_each_time() {
        for stream in [0, 1, 2] {
            let mut asked = 0;
            for _ in 0..2 {
                let mut flags = 7;
                let ask = || {
                    asked += 1;
                    CUresult::SUCCESS
                };
                // SAFETY: a place of this function, which is initialised.
                let result =
                    unsafe { property(CUstream(stream), &raw mut flags, |known| &mut known.flags, ask) };
                assert_eq!(result, CUresult::SUCCESS);
            }
            assert_eq!(asked, 2);
            assert!(!known().streams.contains_key(&stream));
        }
    }

    #[test]
    fn a_stream_that_is_gone_is_forgotten() {
        let stream = CUstream(handles::mint(Kind::Stream).expect("a handle"));
        let mut id = 7_u64;
        // SAFETY: a place of this function, which is initialised.
        unsafe { property(stream, &raw mut id, |known| &mut known.id, || CUresult::SUCCESS) };
        assert_eq!(known().streams.get(&stream.0).and_then(|known| known.id), Some(7));
        forget_gone();
        assert!(known().streams.contains_key(&stream.0), "it is still there");

        handles::release(Kind::Stream, stream.0);
        forget_gone();

        assert!(!known().streams.contains_key(&stream.0));
    }
}

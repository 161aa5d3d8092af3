//! Memory of the process that graphs copy from or to, at each launch: shared with the device at its own address, for as
//! long as there is any graph. Where it cannot be shared the device has a shadow of it ([`crate::mirror`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use virtio_spec::cuda::CUresult;

use super::capture;
use crate::exports::contexts::wire_cuCtxSynchronize;
use crate::memory::registered::drop_region;
use crate::memory::{Reach, reach};
use crate::transport::TransportError;
use crate::{mirror, session};

const PAGE: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    start: u64,
    end: u64,
    region: u32,
}

static HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());
/// Graphs and executable graphs.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Makes memory of the process reachable for a graph, unless it is: the address that a node is to name.
pub(crate) fn share(address: u64, length: u64, written: bool) -> Result<u64, CUresult> {
    match reach(address, length) {
        Reach::Device { .. } => return Ok(address),
        Reach::Region { writable } if writable || !written => return Ok(address),
        Reach::Region { .. } => return Err(CUresult::ERROR_NOT_SUPPORTED),
        Reach::Process => {}
    }
    let mut start = address & !(PAGE - 1);
    let end = address.checked_add(length).and_then(|end| end.checked_next_multiple_of(PAGE));
    let mut end = end.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if held.iter().any(|known| known.start <= start && end <= known.end) {
        return Ok(address);
    }
    // Ranges that overlap become one.
    let (first, last) = (start, end);
    for known in held.extract_if(.., |known| known.start < last && first < known.end) {
        start = start.min(known.start);
        end = end.max(known.end);
        drop_region(known.region);
    }
    let region = session::get()?.transport().register(start, end - start, false);
    match region {
        Ok(region) => {
            held.push(Held { start, end, region });
            Ok(address)
        }
        Err(TransportError::Unsupported | TransportError::NoMemory | TransportError::Address) => {
            drop(held);
            mirror::shadow(address, length, written)
        }
        Err(error) => Err(session::error_of(error)),
    }
}

/// There is one graph more.
pub(crate) fn graph_made() {
    LIVE.fetch_add(1, Ordering::Relaxed);
}

/// There is one graph less; after the last one, memory is the process's alone again.
pub(crate) fn graph_gone() {
    let before = LIVE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |live| live.checked_sub(1));
    if before != Ok(1) || capture::is_active() {
        return;
    }
    let has_shadows = mirror::has_shadows();
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if held.is_empty() && !has_shadows {
        return;
    }
    // A launch may still be running.
    // SAFETY: no pointers.
    if unsafe { wire_cuCtxSynchronize() } == CUresult::SUCCESS {
        held.drain(..).for_each(|known| drop_region(known.region));
        drop(held);
        if has_shadows {
            mirror::drop_shadows();
        }
    }
}

//! Memory pools: which one a device's stream-ordered allocations come from.
//!
//! Unsafe code: asks the device through the C export.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::codec::Scalar;
use virtio_spec::cuda::{CUdevice, CUmemoryPool, CUresult};

use crate::calls::outcome;
use crate::device::devices;
use crate::exports::pools::wire_cuDeviceGetDefaultMemPool;

/// The pools of a device; 0 for one that nobody has asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Chosen {
    default: u64,
    current: u64,
}

/// By the device's place in the device information.
static CHOSEN: Mutex<BTreeMap<u32, Chosen>> = Mutex::new(BTreeMap::new());

fn chosen() -> MutexGuard<'static, BTreeMap<u32, Chosen>> {
    CHOSEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `cuDeviceGetDefaultMemPool`: always the same for a device.
pub(crate) fn default_of(device: CUdevice) -> Result<u64, CUresult> {
    let place = devices()?.host_ordinal(device)?;
    let mut chosen = chosen();
    let entry = chosen.entry(place).or_default();
    if entry.default == 0 {
        let mut pool = CUmemoryPool::default();
        let host = CUdevice::from_u64(u64::from(place));
        // SAFETY: a local place.
        outcome(unsafe { wire_cuDeviceGetDefaultMemPool(&raw mut pool, host) })?;
        entry.default = pool.0;
    }
    Ok(entry.default)
}

/// `cuDeviceGetMemPool`: the default pool until another one has been set.
pub(crate) fn current_of(device: CUdevice) -> Result<u64, CUresult> {
    match known(device)? {
        0 => default_of(device),
        current => Ok(current),
    }
}

/// The pool that has been set for a device, 0 if none has.
pub(crate) fn known(device: CUdevice) -> Result<u64, CUresult> {
    let place = devices()?.host_ordinal(device)?;
    Ok(chosen().get(&place).map_or(0, |found| found.current))
}

/// Notes that a device's pool has been set.
pub(crate) fn set(place: u32, pool: u64) {
    chosen().entry(place).or_default().current = pool;
}

/// Whether a pool is one that CUDA made itself.
pub(crate) fn is_default(pool: u64) -> bool {
    chosen().values().any(|found| found.default == pool)
}

/// Notes that a pool is gone: where it was set, the default pool is again.
pub(crate) fn destroyed(pool: u64) {
    for found in chosen().values_mut().filter(|found| found.current == pool) {
        found.current = 0;
    }
}

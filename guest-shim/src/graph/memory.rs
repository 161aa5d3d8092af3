//! Executable graphs that allocate or free memory.
//!
//! CUDA refuses to launch one while memory of its last launch is not freed, so that its launches are answered, where those
//! of others are posted.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

static EXECS: RwLock<BTreeSet<u64>> = RwLock::new(BTreeSet::new());

/// Notes an executable graph that allocates or frees memory.
pub(crate) fn note(exec: u64) {
    EXECS.write().unwrap_or_else(PoisonError::into_inner).insert(exec);
}

/// Whether an executable graph allocates or frees memory.
pub(crate) fn has(exec: u64) -> bool {
    EXECS.read().unwrap_or_else(PoisonError::into_inner).contains(&exec)
}

/// Forgets an executable graph.
pub(crate) fn forget(exec: u64) {
    if has(exec) {
        EXECS.write().unwrap_or_else(PoisonError::into_inner).remove(&exec);
    }
}

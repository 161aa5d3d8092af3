//! What the program is given pointers to when it asks about nodes: parameters of kernels, and who may use allocations.
//! It stays valid until the node changes or goes.
//!
//! Unsafe code: none; the pointers lead into memory of this table.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use virtio_spec::cuda::CUmemAccessDesc;
use virtio_spec::requests::Parameter;
use zerocopy::{Immutable, IntoBytes};

/// What a program's pointers lead to.
struct Stored {
    graph: u64,
    /// The packed parameters or descriptors, aligned for any of them.
    words: Vec<u128>,
    pointers: Vec<*mut c_void>,
}

// SAFETY: the pointers lead into `words`, which goes with them.
unsafe impl Send for Stored {}

static STORED: Mutex<Option<HashMap<u64, Stored>>> = Mutex::new(None);

fn as_words(bytes: &[u8]) -> Vec<u128> {
    bytes
        .chunks(16)
        .map(|chunk| {
            let mut word = [0; 16];
            word[..chunk.len()].copy_from_slice(chunk);
            u128::from_ne_bytes(word)
        })
        .collect()
}

/// Keeps what a node has, at the same place as long as it is the same, with pointers to the parts that begin at `offsets`.
fn keep<R>(
    node: u64,
    graph: u64,
    bytes: &[u8],
    offsets: impl ExactSizeIterator<Item = u32>,
    give: impl FnOnce(&mut Stored) -> R,
) -> R {
    let mut guard = STORED.lock().unwrap_or_else(PoisonError::into_inner);
    let words = as_words(bytes);
    let stored = guard.get_or_insert_default().entry(node).or_insert_with(|| Stored {
        graph,
        words: Vec::new(),
        pointers: Vec::new(),
    });
    if stored.words != words || stored.pointers.len() != offsets.len() {
        stored.words = words;
        let start: *mut u8 = stored.words.as_mut_ptr().cast();
        stored.pointers = offsets.map(|offset| start.wrapping_add(offset as usize).cast()).collect();
    }
    give(stored)
}

/// Keeps a kernel node's parameters, and gives the pointers to them.
pub(crate) fn parameters(node: u64, graph: u64, bytes: &[u8], parameters: &[Parameter]) -> *mut *mut c_void {
    keep(node, graph, bytes, parameters.iter().map(|parameter| parameter.offset), |stored| {
        if stored.pointers.is_empty() { std::ptr::null_mut() } else { stored.pointers.as_mut_ptr() }
    })
}

/// Keeps an allocation node's descriptors, and gives the pointer to them.
pub(crate) fn access(node: u64, graph: u64, descriptors: &[CUmemAccessDesc]) -> *const CUmemAccessDesc {
    if descriptors.is_empty() {
        return std::ptr::null();
    }
    keep(node, graph, descriptors.as_bytes(), std::iter::empty(), |stored| stored.words.as_ptr().cast())
}

/// Keeps other things of a node, of any type, and gives the pointer to them.
pub(crate) fn things<T: IntoBytes + Immutable>(node: u64, graph: u64, things: &[T]) -> *mut T {
    keep(node, graph, things.as_bytes(), std::iter::empty(), |stored| stored.words.as_mut_ptr().cast())
}

/// Forgets what a node has.
pub(crate) fn forget_node(node: u64) {
    STORED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().remove(&node);
}

/// Forgets what the nodes of a graph have.
pub(crate) fn forget_graph(graph: u64) {
    let mut guard = STORED.lock().unwrap_or_else(PoisonError::into_inner);
    guard.get_or_insert_default().retain(|_, stored| stored.graph != graph);
}

#[cfg(test)]
mod tests {
    use virtio_spec::cuda::{CUmemAccess_flags, CUmemLocation};

    use super::*;

    #[test]
    fn pointers_stay_while_the_parameters_do() {
        let parameters = [Parameter { offset: 0, size: 8 }, Parameter { offset: 8, size: 4 }];
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0];
        let first = super::parameters(1, 10, &bytes, &parameters);
        assert_eq!(super::parameters(1, 10, &bytes, &parameters), first);
        // SAFETY: two pointers.
        let second = unsafe { first.wrapping_add(1).read() };
        // SAFETY: the second leads to four bytes.
        let second = unsafe { second.cast::<u32>().read() };
        assert_eq!(second, 7);
        forget_graph(10);
        assert!(super::parameters(1, 10, &[], &[]).is_null());
        forget_node(1);
    }
    #[test]
    fn descriptors_stay_where_they_are() {
        let location = CUmemLocation { kind: 1, id: 3 };
        let one = CUmemAccessDesc { location, flags: CUmemAccess_flags::PROT_READWRITE };
        let first = access(2, 11, &[one, one]);
        assert_eq!(access(2, 11, &[one, one]), first);
        // SAFETY: two descriptors.
        assert_eq!(unsafe { first.wrapping_add(1).read() }, one);
        assert!(access(3, 11, &[]).is_null());
        forget_graph(11);
    }
}

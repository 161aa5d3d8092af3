//! Parameters of kernel nodes, which the program is given pointers to: they stay valid until the node changes or goes.
//!
//! Unsafe code: none; the pointers lead into memory of this table.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use virtio_spec::requests::Parameter;

/// What a program's pointers lead to.
struct Stored {
    graph: u64,
    /// The packed parameters, aligned for any of them.
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

/// Keeps a node's parameters, and gives the pointers to them: the same ones as long as the parameters are the same.
pub(crate) fn keep(node: u64, graph: u64, bytes: &[u8], parameters: &[Parameter]) -> *mut *mut c_void {
    let mut guard = STORED.lock().unwrap_or_else(PoisonError::into_inner);
    let words = as_words(bytes);
    let stored = guard.get_or_insert_default().entry(node).or_insert_with(|| Stored {
        graph,
        words: Vec::new(),
        pointers: Vec::new(),
    });
    if stored.words != words || stored.pointers.len() != parameters.len() {
        stored.words = words;
        let start: *mut u8 = stored.words.as_mut_ptr().cast();
        stored.pointers =
            parameters.iter().map(|parameter| start.wrapping_add(parameter.offset as usize).cast()).collect();
    }
    if stored.pointers.is_empty() { std::ptr::null_mut() } else { stored.pointers.as_mut_ptr() }
}

/// Forgets a node's parameters.
pub(crate) fn forget_node(node: u64) {
    STORED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().remove(&node);
}

/// Forgets the parameters of a graph's nodes.
pub(crate) fn forget_graph(graph: u64) {
    let mut guard = STORED.lock().unwrap_or_else(PoisonError::into_inner);
    guard.get_or_insert_default().retain(|_, stored| stored.graph != graph);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_stay_while_the_parameters_do() {
        let parameters = [Parameter { offset: 0, size: 8 }, Parameter { offset: 8, size: 4 }];
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0];
        let first = keep(1, 10, &bytes, &parameters);
        assert_eq!(keep(1, 10, &bytes, &parameters), first);
        // SAFETY: two pointers.
        let second = unsafe { first.wrapping_add(1).read() };
        // SAFETY: the second leads to four bytes.
        let second = unsafe { second.cast::<u32>().read() };
        assert_eq!(second, 7);
        forget_graph(10);
        assert!(keep(1, 10, &[], &[]).is_null());
        forget_node(1);
    }
}

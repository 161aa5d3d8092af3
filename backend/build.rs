//! Links the executable at a fixed low address.
//!
//! A worker maps pinned memory at the guest process's own addresses, so nothing of the worker may lie where a guest's
//! memory can: a position-independent executable would be loaded at 0x55…, among the heaps of guest processes. The
//! compiler asks for a position-independent executable; the last of the two contradicting options counts.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
}

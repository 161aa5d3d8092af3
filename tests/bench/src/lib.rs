//! What measurements have in common: `cargo xtask bench preload` reckons with the same statistics.
//!
//! The benchmark itself is this package's program; read `main.rs`.

pub mod statistics;

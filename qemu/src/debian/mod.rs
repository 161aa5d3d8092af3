//! Debian packages without touching the system: a private apt, and trees under `target/`.
//!
//! [`mirror`] reads where this machine gets Debian from, [`apt`] resolves and downloads (signatures checked by apt
//! itself), [`root`] unpacks, without running maintainer scripts; [`system`] installs into a tree that can boot.

pub mod apt;
pub mod mirror;
pub mod root;
pub mod system;

pub use apt::{Apt, Package};
pub use mirror::Mirror;
pub use root::Root;

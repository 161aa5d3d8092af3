//! Debian packages without touching the system: a private apt, and unpacked trees under `target/`.
//!
//! [`mirror`] reads where this machine gets Debian from, [`apt`] resolves and downloads (signatures checked by apt
//! itself), [`root`] unpacks. No package is installed and no maintainer script runs.

pub mod apt;
pub mod mirror;
pub mod root;

pub use apt::{Apt, Package};
pub use mirror::Mirror;
pub use root::Root;

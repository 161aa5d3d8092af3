//! What a process is told about CUDA by its environment and by the system's policy, and where it says what it found.
//!
//! Shared by the two halves of the guest's CUDA library: the one that every process loads (`shim-preload`), and the one
//! that processes load which call CUDA (`guest-shim`). Nothing here allocates, waits, panics or sets errno, and few
//! functions of the C library are used: each costs every process of a guest a third of a microsecond.
//!
//! Unsafe code: what the kernel hands to a process.
#![cfg_attr(not(test), no_std)]

mod decimal;
mod environment;
mod identity;
mod log;
mod name;
mod paths;
mod settings;
pub mod system;

pub use decimal::Decimal;
pub use environment::Environment;
pub use identity::{is_first_process, process};
pub use log::{early, first_call};
pub use name::executed;
pub use paths::device;
pub use settings::{Settings, Text};

/// Whether the process has more rights than who started it. Then nobody but the system says what it does.
#[must_use]
pub fn is_privileged() -> bool {
    // SAFETY: reads what the kernel gave the process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

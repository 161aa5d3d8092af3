//! How a VM is started: QEMU and its arguments, the guest's kernel, module and image.
//!
//! Read in this order: [`places`] (where things are kept), [`debian`] (packages without touching the system), [`kernel`]
//! and [`module`] (the guest's kernel and the driver compiled for it).

pub mod debian;
pub mod kernel;
pub mod module;
pub mod places;

pub use kernel::Kernel;
pub use places::Places;

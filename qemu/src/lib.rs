//! How a VM is started: QEMU and its arguments, the guest's kernel, module and image.
//!
//! Read in this order: [`places`] (where things are kept), [`debian`] (packages without touching the system), [`kernel`]
//! and [`module`] (the guest's kernel and the driver compiled for it), [`image`] (the guest's files, written with
//! [`cpio`]), [`disk`] (a guest with an installed system), [`share`] (one that sees this machine's files), [`install`] (finding QEMU), [`arguments`] (its command line), [`monitor`] (talking to it), [`vm`] (a guest
//! that runs).

pub mod arguments;
pub mod cpio;
pub mod debian;
pub mod disk;
pub mod image;
pub mod install;
pub mod kernel;
pub mod module;
pub mod monitor;
pub mod places;
pub mod share;
pub mod vm;

pub use arguments::{Accelerator, Config};
pub use install::Qemu;
pub use kernel::Kernel;
pub use places::Places;
pub use vm::{Report, Vm, read_lines};

//! Any `libcuda.so.1`: opened with `dlopen`, every function looked up by its exported name.
//!
//! The conformance suite and the benchmark share it, so that both are clients that know nothing of the project: the
//! signatures in `api` are written down by hand. Handles are plain numbers here, so that cases can forge them; the
//! conformance suite hands the driver wild values on purpose, in processes that live for one case.
//!
//! Read in this order: this file (which library), `api` (its functions), [`gpu`] (what most programs start from).
//! This file has unsafe code: it looks up symbols and reads strings of the driver.

#![expect(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "what a driver does with any pointer is what the tests want to know, in processes of their own"
)]

mod api;
mod code;
pub mod gpu;
mod graph;
mod structures;

use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use api::LIBRARY_NAME;
pub use api::{CtxCreateParams, Device, Driver, Handle, HostFunction, OccupancySize, Ptr, StreamCallback};
pub use code::{Code, NAMES};
pub use graph::{AllocationNode, AnyNode, HostNode, KernelNode, MemsetNode, OperationsNode, UpdateInfo};
pub use structures::{
    BoxCopy, BoxSide, CopyAttributes, IpcHandle, MemoryAccess, MemoryLocation, MemoryProperties,
    PoolProperties,
};

/// The process's library, once it has been opened.
static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();

/// The process's library, opened at first use as programs open it: the dynamic loader finds it by its name.
///
/// # Errors
/// When the dynamic loader does not find or cannot load it.
pub fn driver() -> Result<&'static Driver> {
    opened(Path::new(LIBRARY_NAME))
}

/// As [`driver`], but the file at this path, if no library has been opened before.
///
/// # Errors
/// When the dynamic loader cannot load it.
pub fn driver_at(path: &Path) -> Result<&'static Driver> {
    opened(path)
}

fn opened(path: &Path) -> Result<&'static Driver> {
    match DRIVER.get_or_init(|| Driver::open(path).map_err(|error| format!("{error:#}"))) {
        Ok(driver) => Ok(driver),
        Err(error) => bail!("{error}"),
    }
}

impl Driver {
    /// The address of an exported function, if there is one.
    pub fn symbol(&self, name: &str) -> Option<usize> {
        let name = CString::new(name).ok()?;
        // SAFETY: nothing is called or read: the symbol is taken as an address.
        let symbol = unsafe { self.library().get::<*const c_void>(name.as_bytes_with_nul()) };
        symbol.ok().map(|symbol| (*symbol).expose_provenance())
    }

    /// The file from which the library was loaded.
    pub fn path(&self) -> Result<PathBuf> {
        let address = self.symbol("cuInit").context("the library lacks cuInit")?;
        let mut info = libc::Dl_info {
            dli_fname: std::ptr::null(),
            dli_fbase: std::ptr::null_mut(),
            dli_sname: std::ptr::null(),
            dli_saddr: std::ptr::null_mut(),
        };
        // SAFETY: the structure is valid for writing; the address may be anything.
        let found = unsafe { libc::dladdr(std::ptr::with_exposed_provenance(address), &raw mut info) };
        if found == 0 || info.dli_fname.is_null() {
            bail!("the loader does not know where cuInit comes from");
        }
        // SAFETY: dladdr set the name to a string that lives as long as the library is loaded.
        let name = unsafe { CStr::from_ptr(info.dli_fname) };
        Ok(PathBuf::from(name.to_string_lossy().into_owned()))
    }
}

/// Reads a string that the driver handed out.
pub fn text(pointer: *const libc::c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the driver promises a terminated string that is never freed.
    let text = unsafe { CStr::from_ptr(pointer) };
    Some(text.to_string_lossy().into_owned())
}

//! The library under test: opened with `dlopen`, every function looked up by its exported name.
//!
//! This file has unsafe code: it calls foreign functions by signatures written down in [`api`], by hand
//! and independently of the project. Handles are plain numbers here, so that cases can forge them; the
//! suite hands the driver wild values on purpose, in processes that live for one case.

mod api;
mod code;
mod graph;
mod structures;

use std::ffi::{CStr, CString, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

pub(crate) use api::{CtxCreateParams, Device, Driver, Handle};
pub(crate) use code::{Code, NAMES};
pub(crate) use graph::{AllocationNode, AnyNode, HostNode, KernelNode, MemsetNode, UpdateInfo};
pub(crate) use structures::{IpcHandle, MemoryAccess, MemoryLocation, MemoryProperties, PoolProperties};

/// The library under test, opened at first use.
///
/// # Errors
/// When the dynamic loader does not find or cannot load it.
pub(crate) fn driver() -> Result<&'static Driver> {
    static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
    match DRIVER.get_or_init(|| Driver::open().map_err(|error| format!("{error:#}"))) {
        Ok(driver) => Ok(driver),
        Err(error) => bail!("{error}"),
    }
}

impl Driver {
    /// The address of an exported function, if there is one.
    pub(crate) fn symbol(&self, name: &str) -> Option<usize> {
        let name = CString::new(name).ok()?;
        // SAFETY: nothing is called or read: the symbol is taken as an address.
        let symbol = unsafe { self.library().get::<*const c_void>(name.as_bytes_with_nul()) };
        symbol.ok().map(|symbol| (*symbol).expose_provenance())
    }

    /// The file from which the library was loaded.
    pub(crate) fn path(&self) -> Result<PathBuf> {
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
pub(crate) fn text(pointer: *const libc::c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the driver promises a terminated string that is never freed.
    let text = unsafe { CStr::from_ptr(pointer) };
    Some(text.to_string_lossy().into_owned())
}

//! Libraries: code that is loaded into each context when it is first used there.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex};

use virtio_spec::cuda::CUresult;

use super::compile::{Failure, KernelInfo, compile, kernels};
use super::context::Context;
use super::handles::{kind, mint};
use super::image::Sources;
use super::module::{Function, Module, Settings, Shared};
use super::queue::lock;
use super::{Driver, Result};
use crate::ptx;

/// An image that the program has promised to keep as long as the library. This driver does not need it; it looks whether
/// the promise is kept.
#[derive(Debug)]
pub(crate) struct Preserved {
    address: usize,
    begins: [u8; Self::LOOKED_AT],
}

impl Preserved {
    /// Bytes that are looked at: no image is shorter.
    const LOOKED_AT: usize = 8;

    /// An image of the program's.
    pub(crate) fn of(image: *const c_void) -> Self {
        let address = image.expose_provenance();
        Self { address, begins: Self::read(address) }
    }

    fn read(address: usize) -> [u8; Self::LOOKED_AT] {
        let place = std::ptr::with_exposed_provenance::<[u8; Self::LOOKED_AT]>(address);
        // SAFETY: the beginning of an image, which the program keeps until the library is unloaded; not a reference to it.
        unsafe { place.read_volatile() }
    }

    fn is_there(&self) -> bool {
        Self::read(self.address) == self.begins
    }
}

/// Code that belongs to no context.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) handle: u64,
    sources: Sources,
    preserved: Option<Preserved>,
    /// The compiled code, for the first context that uses it.
    compiled: Mutex<Option<ptx::Module>>,
    infos: Vec<KernelInfo>,
    /// Its modules, by the handles of their contexts.
    modules: Mutex<HashMap<u64, Arc<Module>>>,
    /// Managed variables, which all its modules share.
    managed: Mutex<Shared>,
    /// Handles of kernels that were asked for, by their names.
    kernels: Mutex<HashMap<CString, u64>>,
}

/// A kernel of a library.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) handle: u64,
    pub(crate) library: Arc<Library>,
    pub(crate) info: KernelInfo,
    pub(crate) settings: Arc<Settings>,
}

impl Library {
    /// Compiles sources, and makes the library known.
    pub(crate) fn load(
        driver: &Driver,
        sources: Sources,
        preserved: Option<Preserved>,
    ) -> core::result::Result<Arc<Self>, Failure> {
        let compiled = compile(&sources)?;
        let library = Arc::new(Self {
            handle: mint(kind::LIBRARY),
            sources,
            preserved,
            infos: kernels(&compiled),
            compiled: Mutex::new(Some(compiled)),
            modules: Mutex::default(),
            managed: Mutex::default(),
            kernels: Mutex::default(),
        });
        driver.libraries.insert(library.handle, Arc::clone(&library));
        Ok(library)
    }

    /// Its code in a context.
    pub(crate) fn module(&self, driver: &Driver, context: &Context) -> Result<Arc<Module>> {
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(&context.handle) {
            return Ok(Arc::clone(module));
        }
        let first = lock(&self.compiled).take();
        let compiled = match first {
            Some(compiled) => compiled,
            None => compile(&self.sources).map_err(|failure| failure.result)?,
        };
        let module = Module::bind(driver, context, compiled, Some(&mut *lock(&self.managed)))?;
        modules.insert(context.handle, Arc::clone(&module));
        Ok(module)
    }

    /// Address and size of a managed variable, which is there before any context uses the library.
    pub(crate) fn managed(&self, driver: &Driver, name: &[u8]) -> Result<(u64, u64)> {
        let modules = lock(&self.modules);
        if let Some(module) = modules.values().next() {
            return module.managed(name);
        }
        let mut compiled = lock(&self.compiled);
        let linked = match compiled.take() {
            Some(linked) => linked,
            None => compile(&self.sources).map_err(|failure| failure.result)?,
        };
        let linked = compiled.insert(linked);
        let is_meant = |global: &ptx::Global| global.managed && global.name.as_bytes() == name;
        let index = linked.globals.iter().position(is_meant).ok_or(CUresult::ERROR_NOT_FOUND)?;
        let global = linked.globals.get(index).ok_or(CUresult::ERROR_NOT_FOUND)?;
        Ok((lock(&self.managed).address(driver, index, global)?, global.size))
    }

    /// The kernels that it has.
    pub(crate) fn kernel_infos(&self) -> &[KernelInfo] {
        &self.infos
    }

    /// A kernel by its name, always with the same handle.
    pub(crate) fn kernel(self: &Arc<Self>, driver: &Driver, name: &[u8]) -> Result<Arc<Kernel>> {
        let info = self.infos.iter().find(|info| info.name.as_bytes() == name);
        let info = info.ok_or(CUresult::ERROR_NOT_FOUND)?;
        let mut known = lock(&self.kernels);
        if let Some(kernel) = known.get(&info.name).and_then(|handle| driver.kernels.find(*handle)) {
            return Ok(kernel);
        }
        let kernel = Arc::new(Kernel {
            handle: mint(kind::KERNEL),
            library: Arc::clone(self),
            info: info.clone(),
            settings: Arc::new(Settings::new(info)),
        });
        driver.kernels.insert(kernel.handle, Arc::clone(&kernel));
        known.insert(info.name.clone(), kernel.handle);
        Ok(kernel)
    }

    /// A context is gone, and its module with it.
    pub(crate) fn forget_context(&self, context: u64) {
        let module = lock(&self.modules).remove(&context);
        drop(module);
    }

    /// Ends the library, its kernels and its modules.
    pub(crate) fn unload(driver: &Driver, handle: u64) -> Result<()> {
        let library = driver.libraries.remove(handle)?;
        if library.preserved.as_ref().is_some_and(|image| !image.is_there()) {
            return Err(CUresult::ERROR_INVALID_IMAGE);
        }
        let modules: Vec<_> = lock(&library.modules).drain().map(|(_, module)| module).collect();
        for module in modules {
            // It may have been unloaded on its own.
            let _ = Module::unload(driver, module.handle);
        }
        driver.kernels.retain(|kernel| kernel.library.handle != handle);
        Ok(())
    }
}

impl Kernel {
    /// The kernel in a context.
    pub(crate) fn function(&self, driver: &Driver, context: &Context) -> Result<Arc<Function>> {
        let module = self.library.module(driver, context)?;
        Ok(module.function_of(driver, &self.info, Some(&self.settings)))
    }
}

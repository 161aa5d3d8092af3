//! Modules: code in one context, its variables, and its functions.
//!
//! Unsafe code: filling the variables.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use virtio_spec::cuda::{CUfunction_attribute, CUresult};

use super::allocation::Kind;
use super::attributes::{MAX_SHARED_DEFAULT, MAX_SHARED_OPTIN, SM};
use super::compile::{Failure, KernelInfo, compile, kernels};
use super::context::Context;
use super::handles::{kind, mint};
use super::image::Sources;
use super::pages::host;
use super::queue::lock;
use super::{Driver, Result, driver};
use crate::exec::Image;
use crate::ptx;

/// Code in a context.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) handle: u64,
    /// Handle of its context.
    pub(crate) context: u64,
    pub(crate) image: Image,
    kernels: Vec<KernelInfo>,
    /// Addresses of all variables.
    variables: Vec<u64>,
    /// Those that end with the module.
    owned: Vec<u64>,
    /// Handles of functions that were asked for, by their index.
    functions: Mutex<HashMap<usize, u64>>,
}

impl Drop for Module {
    fn drop(&mut self) {
        for &address in &self.owned {
            // Gone already if the context is.
            let _ = driver().memory.release(address, &OWN);
        }
    }
}

/// What a module's variables are.
const OWN: [Kind; 2] = [Kind::Variable, Kind::ManagedVariable];

/// Managed variables that the modules of a library share, by their places among its variables.
#[derive(Debug, Default)]
pub(crate) struct Shared(HashMap<usize, u64>);

impl Shared {
    /// The address of a variable, which gets its memory and first contents when it is first asked for.
    pub(crate) fn address(&mut self, driver: &Driver, index: usize, global: &ptx::Global) -> Result<u64> {
        if let Some(&address) = self.0.get(&index) {
            return Ok(address);
        }
        // It belongs to no context.
        let address = driver.memory.allocate(global.size.max(1), global.align, Kind::ManagedVariable, 0)?;
        fill(address, global.size, &global.init);
        self.0.insert(index, address);
        Ok(address)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for &address in self.0.values() {
            let _ = driver().memory.release(address, &[Kind::ManagedVariable]);
        }
    }
}

/// Copies a variable's first contents to its memory, and zeroes the rest.
fn fill(address: u64, size: u64, contents: &[u8]) {
    let length = usize::try_from(size).unwrap_or(0);
    let first = contents.len().min(length);
    let target = host(address);
    // SAFETY: the variable's memory was allocated with `size` bytes and nobody knows of it yet.
    unsafe { target.copy_from_nonoverlapping(contents.as_ptr(), first) };
    // SAFETY: as above, and `first` is not beyond `size`.
    let rest = unsafe { target.add(first) };
    // SAFETY: as above.
    unsafe { rest.write_bytes(0, length - first) };
}

impl Module {
    /// Loads sources into a context, and makes the module known.
    pub(crate) fn load(
        driver: &Driver,
        context: &Context,
        sources: &Sources,
    ) -> core::result::Result<Arc<Self>, Failure> {
        let linked = compile(sources)?;
        Self::bind(driver, context, linked, None).map_err(|result| Failure { result, log: String::new() })
    }

    /// Gives linked code its variables in a context, and makes the module known. Managed variables are those of `shared`,
    /// where it has them.
    pub(crate) fn bind(
        driver: &Driver,
        context: &Context,
        linked: ptx::Module,
        mut shared: Option<&mut Shared>,
    ) -> Result<Arc<Self>> {
        let kernels = kernels(&linked);
        let mut variables = Vec::with_capacity(linked.globals.len());
        let (mut owned, mut fresh) = (Vec::new(), Vec::new());
        let mut failed = None;
        let sizes: Vec<_> = linked.globals.iter().map(|global| global.size).collect();
        let image = Image::new(linked, |index, global| {
            let kind = if global.managed { Kind::ManagedVariable } else { Kind::Variable };
            let of_library = shared.as_deref_mut().filter(|_| global.managed);
            if let Some(&address) = of_library.as_ref().and_then(|shared| shared.0.get(&index)) {
                variables.push(address);
                return Some(address);
            }
            // What a library's modules share belongs to no context.
            let owner = if of_library.is_some() { 0 } else { context.handle };
            let allocated = driver.memory.allocate(global.size.max(1), global.align, kind, owner);
            match allocated {
                Ok(address) => {
                    variables.push(address);
                    fresh.push(index);
                    match of_library {
                        Some(shared) => drop(shared.0.insert(index, address)),
                        None => owned.push(address),
                    }
                    Some(address)
                }
                Err(error) => {
                    failed = Some(error);
                    None
                }
            }
        });
        let image = match image {
            Ok(image) => image,
            Err(_) => {
                let of_library = |index| shared.as_mut().and_then(|shared| shared.0.remove(index));
                owned.extend(fresh.iter().filter_map(of_library));
                for address in owned {
                    driver.memory.release(address, &OWN)?;
                }
                return Err(failed.unwrap_or(CUresult::ERROR_INVALID_PTX));
            }
        };
        for (index, (&address, &size)) in variables.iter().zip(&sizes).enumerate() {
            if fresh.contains(&index) {
                fill(address, size, &image.contents(index));
            }
        }
        let module = Arc::new(Self {
            handle: mint(kind::MODULE),
            context: context.handle,
            image,
            kernels,
            variables,
            owned,
            functions: Mutex::default(),
        });
        driver.modules.insert(module.handle, Arc::clone(&module));
        Ok(module)
    }

    /// Its kernels.
    pub(crate) fn kernels(&self) -> &[KernelInfo] {
        &self.kernels
    }

    /// A kernel by its name, always with the same handle.
    pub(crate) fn function(self: &Arc<Self>, driver: &Driver, name: &[u8]) -> Result<Arc<Function>> {
        let info = self.kernels.iter().find(|info| info.name.as_bytes() == name);
        let info = info.ok_or(CUresult::ERROR_NOT_FOUND)?;
        Ok(self.function_of(driver, info, None))
    }

    /// The function of a kernel of this module; its settings are its own unless others are given.
    pub(crate) fn function_of(
        self: &Arc<Self>,
        driver: &Driver,
        info: &KernelInfo,
        settings: Option<&Arc<Settings>>,
    ) -> Arc<Function> {
        let mut functions = lock(&self.functions);
        if let Some(function) = functions.get(&info.index).and_then(|handle| driver.functions.find(*handle)) {
            return function;
        }
        let function = Arc::new(Function {
            handle: mint(kind::FUNCTION),
            module: Arc::clone(self),
            info: info.clone(),
            settings: settings.map_or_else(|| Arc::new(Settings::new(info)), Arc::clone),
        });
        driver.functions.insert(function.handle, Arc::clone(&function));
        functions.insert(info.index, function.handle);
        function
    }

    /// Address and size of a variable that others may see.
    pub(crate) fn variable(&self, name: &[u8]) -> Result<(u64, u64)> {
        let globals = &self.image.module().globals;
        let found = globals.iter().zip(&self.variables).find(|(global, _)| global.name.as_bytes() == name);
        let (global, address) = found.ok_or(CUresult::ERROR_NOT_FOUND)?;
        Ok((*address, global.size))
    }

    /// Address and size of a managed variable.
    pub(crate) fn managed(&self, name: &[u8]) -> Result<(u64, u64)> {
        let globals = &self.image.module().globals;
        let managed = globals.iter().any(|global| global.managed && global.name.as_bytes() == name);
        if managed { self.variable(name) } else { Err(CUresult::ERROR_NOT_FOUND) }
    }

    /// Ends the module; waits for what its context does.
    pub(crate) fn unload(driver: &Driver, handle: u64) -> Result<()> {
        let module = driver.modules.get(handle)?;
        if let Some(context) = driver.contexts.find(module.context) {
            context.drain();
        }
        driver.modules.remove(handle)?;
        driver.functions.retain(|function| function.module.handle != handle);
        Ok(())
    }
}

/// What a program can set of a function.
#[derive(Debug)]
pub(crate) struct Settings {
    max_dynamic: AtomicI32,
    carveout: AtomicI32,
    cluster_policy: AtomicI32,
    wide_clusters: AtomicI32,
}

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

impl Settings {
    pub(crate) fn new(info: &KernelInfo) -> Self {
        let max_dynamic = signed(MAX_SHARED_DEFAULT.saturating_sub(info.static_shared));
        Self {
            max_dynamic: AtomicI32::new(max_dynamic),
            carveout: AtomicI32::new(-1),
            cluster_policy: AtomicI32::new(0),
            wide_clusters: AtomicI32::new(0),
        }
    }

    /// Bytes of dynamic shared memory that a launch may ask for.
    pub(crate) fn max_dynamic(&self) -> u32 {
        u32::try_from(self.max_dynamic.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// One attribute of a kernel.
    pub(crate) fn get(&self, info: &KernelInfo, attribute: CUfunction_attribute) -> Result<i32> {
        Ok(match attribute {
            CUfunction_attribute::MAX_THREADS_PER_BLOCK => signed(info.max_threads),
            CUfunction_attribute::SHARED_SIZE_BYTES => signed(info.static_shared),
            CUfunction_attribute::CONST_SIZE_BYTES => signed(info.constant),
            CUfunction_attribute::LOCAL_SIZE_BYTES => signed(info.local),
            CUfunction_attribute::NUM_REGS => signed(info.registers),
            CUfunction_attribute::PTX_VERSION => signed(info.target),
            CUfunction_attribute::BINARY_VERSION => signed(SM),
            CUfunction_attribute::CACHE_MODE_CA
            | CUfunction_attribute::CLUSTER_SIZE_MUST_BE_SET
            | CUfunction_attribute::REQUIRED_CLUSTER_WIDTH
            | CUfunction_attribute::REQUIRED_CLUSTER_HEIGHT
            | CUfunction_attribute::REQUIRED_CLUSTER_DEPTH => 0,
            CUfunction_attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES => self.max_dynamic.load(Ordering::Relaxed),
            CUfunction_attribute::PREFERRED_SHARED_MEMORY_CARVEOUT => self.carveout.load(Ordering::Relaxed),
            CUfunction_attribute::NON_PORTABLE_CLUSTER_SIZE_ALLOWED => {
                self.wide_clusters.load(Ordering::Relaxed)
            }
            CUfunction_attribute::CLUSTER_SCHEDULING_POLICY_PREFERENCE => {
                self.cluster_policy.load(Ordering::Relaxed)
            }
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        })
    }

    /// Sets one of the attributes that can be set.
    pub(crate) fn set(&self, info: &KernelInfo, attribute: CUfunction_attribute, value: i32) -> Result<()> {
        let most = signed(MAX_SHARED_OPTIN.saturating_sub(info.static_shared));
        let (place, range) = match attribute {
            CUfunction_attribute::MAX_DYNAMIC_SHARED_SIZE_BYTES => (&self.max_dynamic, 0..=most),
            CUfunction_attribute::PREFERRED_SHARED_MEMORY_CARVEOUT => (&self.carveout, -1..=100),
            CUfunction_attribute::NON_PORTABLE_CLUSTER_SIZE_ALLOWED => (&self.wide_clusters, 0..=1),
            CUfunction_attribute::CLUSTER_SCHEDULING_POLICY_PREFERENCE => (&self.cluster_policy, 0..=2),
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        };
        if !range.contains(&value) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        place.store(value, Ordering::Relaxed);
        Ok(())
    }
}

/// A kernel of a module.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) handle: u64,
    pub(crate) module: Arc<Module>,
    pub(crate) info: KernelInfo,
    pub(crate) settings: Arc<Settings>,
}

//! A linked module bound to device addresses.

use crate::ptx::{Global, LinkError, Module};

/// A linked module whose variables have addresses: what a launch runs.
#[derive(Debug)]
pub struct Image {
    module: Module,
    addresses: Vec<u64>,
}

impl Image {
    /// Binds `module` (a result of [`crate::ptx::link`]); `address_of` gives the device address that the
    /// driver layer has allocated for each variable, in the order of [`Module::globals`].
    ///
    /// # Errors
    /// [`LinkError::Undefined`] for the first variable without an address.
    pub fn new(
        module: Module,
        mut address_of: impl FnMut(usize, &Global) -> Option<u64>,
    ) -> Result<Self, LinkError> {
        let mut addresses = Vec::with_capacity(module.globals.len());
        for (index, global) in module.globals.iter().enumerate() {
            addresses
                .push(address_of(index, global).ok_or_else(|| LinkError::Undefined(global.name.clone()))?);
        }
        Ok(Self { module, addresses })
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Device address of a variable, by its index in [`Module::globals`].
    #[must_use]
    pub fn address(&self, global: usize) -> Option<u64> {
        self.addresses.get(global).copied()
    }

    /// What the driver layer writes to a variable's memory before the first launch: its initial
    /// contents with all addresses filled in, without trailing zeros (the memory must be zeroed).
    #[must_use]
    pub fn contents(&self, global: usize) -> Vec<u8> {
        self.module.globals.get(global).map(|g| g.init.clone()).unwrap_or_default()
    }

    /// Index in [`Module::functions`] of a kernel or function by name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<usize> {
        self.module.functions.iter().position(|f| f.name == name)
    }
}

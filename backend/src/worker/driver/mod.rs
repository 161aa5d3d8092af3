//! The host's CUDA driver, loaded by path, as tables of typed functions.
//! (This folder contains unsafe code: loading a library, giving its symbols types, calling them.)
//!
//! Read [`functions`] for the tables, and `discover` for what the device information is made of.

mod discover;
pub(crate) mod functions;

use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use virtio_spec::cuda::CUresult;

pub(crate) use discover::discover;

/// Why a driver is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    /// The library cannot be loaded.
    #[error("cannot load the CUDA driver {path}")]
    Load {
        /// What was to be loaded.
        path: PathBuf,
        /// What the dynamic linker said.
        #[source]
        source: libloading::Error,
    },
    /// The library is no CUDA driver.
    #[error("{path} has no cuInit: it is not a CUDA driver")]
    NotADriver {
        /// What was loaded.
        path: PathBuf,
    },
}

/// The symbols of a loaded driver.
pub(crate) struct Symbols {
    library: Library,
}

impl Symbols {
    /// The function with this name, or `None` if this driver has none.
    ///
    /// # Safety
    /// `F` is the type of the C function of that name.
    pub(crate) unsafe fn function<F: Copy>(&self, name: &str) -> Option<F> {
        // SAFETY: the caller vouches for the type.
        let symbol = unsafe { self.library.get::<F>(name) }.ok()?;
        Some(*symbol)
    }
}

macro_rules! driver {
    ($($group:ident),* $(,)?) => {
        /// The functions of the host's driver that calls are passed on to, by group of the call table.
        pub(crate) struct Driver {
            $(
                #[doc = concat!("Group `", stringify!($group), "`.")]
                pub(crate) $group: functions::$group::Functions,
            )*
            /// Keeps the library loaded; a CUDA driver is never unloaded.
            _symbols: Symbols,
        }

        impl Driver {
            fn from_symbols(symbols: Symbols) -> Self {
                Self { $($group: functions::$group::Functions::load(&symbols),)* _symbols: symbols }
            }
        }
    };
}
driver!(
    devices,
    contexts,
    memory,
    copies,
    memsets,
    modules,
    functions,
    launches,
    streams,
    events,
    arrays,
    graphs,
    pools,
    virtual_memory,
    batches,
    sharing,
    tools,
);

impl Driver {
    /// Loads a driver.
    ///
    /// # Errors
    /// The library cannot be loaded, or is no CUDA driver.
    pub(crate) fn load(path: &Path) -> Result<Self, DriverError> {
        // SAFETY: the operator chose the library; its initialisers are what `--driver` asks to run.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|source| DriverError::Load { path: path.to_owned(), source })?;
        let driver = Self::from_symbols(Symbols { library });
        if driver.devices.cuInit.is_none() {
            return Err(DriverError::NotADriver { path: path.to_owned() });
        }
        Ok(driver)
    }

    /// Calls `cuInit`. Again is as good as once.
    pub(crate) fn initialise(&self) -> CUresult {
        // SAFETY: cuInit has no preconditions.
        self.devices.cuInit.map_or(CUresult::ERROR_NOT_SUPPORTED, |init| unsafe { init(0) })
    }
}

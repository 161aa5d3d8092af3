//! What a warm worker does before there is a session: a primary context, and a module that is compiled, run and
//! unloaded, which brings the compiler and whatever else the driver loads at its first use.
//!
//! A session sees nothing of it. The first request that is about contexts takes the warm one: it is the session's if
//! it retains the primary context of the same device with no flags set before, and is ended first otherwise.
//!
//! Unsafe code: calls of the driver.

use std::{
    ffi::c_void,
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use virtio_spec::cuda::{CUcontext, CUdevice, CUfunction, CUmodule, CUresult, CUstream};

use super::{calls::ok, driver::Driver};

/// A kernel that does nothing. The oldest target that drivers take, so that it is compiled on every GPU.
const MODULE: &[u8] =
    b".version 6.0\n.target sm_50\n.address_size 64\n.visible .entry nothing()\n{\n    ret;\n}\n\0";

/// Whether [`DEVICE`] may have one: what every later request looks at.
static IS_THERE: AtomicBool = AtomicBool::new(false);
/// The device whose primary context is warm. A worker serves one session, so there is one in the process.
static DEVICE: Mutex<Option<CUdevice>> = Mutex::new(None);

/// A use of a primary context of which no guest knows; ends when it is dropped.
pub(super) struct WarmContext<'a> {
    driver: &'a Driver,
    device: CUdevice,
}

impl WarmContext<'_> {
    /// Whether it is of this device.
    pub(super) fn is_of(&self, device: CUdevice) -> bool {
        self.device == device
    }
}

impl Drop for WarmContext<'_> {
    fn drop(&mut self) {
        if let Some(release) = self.driver.contexts.cuDevicePrimaryCtxRelease_v2 {
            // SAFETY: retained when this value was made, and no handle of a guest stands for that use.
            let result = unsafe { release(self.device) };
            if result != CUresult::SUCCESS {
                log::warn!("a warm context cannot be released: {result:?}");
            }
        }
    }
}

/// The warm context, once; whoever takes it decides what becomes of it.
pub(super) fn take(driver: &Driver) -> Option<WarmContext<'_>> {
    if !IS_THERE.load(Ordering::Acquire) {
        return None;
    }
    let device = DEVICE.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    IS_THERE.store(false, Ordering::Release);
    Some(WarmContext { driver, device })
}

/// Makes a device's primary context and warms up the compiler; for a driver that is initialised. If anything fails, there
/// is no warm context.
pub(super) fn prepare(driver: &Driver, place: u32) -> CUresult {
    match try_prepare(driver, place) {
        Ok(context) => {
            *DEVICE.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.device);
            // Its use outlives this value.
            std::mem::forget(context);
            IS_THERE.store(true, Ordering::Release);
            CUresult::SUCCESS
        }
        Err(error) => {
            log::warn!("device {place}: no warm context: {error:?}");
            error
        }
    }
}

fn try_prepare(driver: &Driver, place: u32) -> Result<WarmContext<'_>, CUresult> {
    let missing = CUresult::ERROR_NOT_SUPPORTED;
    let contexts = &driver.contexts;
    let get = driver.devices.cuDeviceGet.ok_or(missing)?;
    let retain = contexts.cuDevicePrimaryCtxRetain.ok_or(missing)?;
    let set = contexts.cuCtxSetCurrent.ok_or(missing)?;
    let place = i32::try_from(place).map_err(|_| CUresult::ERROR_INVALID_DEVICE)?;
    let mut device = CUdevice::default();
    // SAFETY: room for one device.
    ok(unsafe { get(&raw mut device, place) })?;
    let mut context = CUcontext::default();
    // SAFETY: room for one handle.
    ok(unsafe { retain(&raw mut context, device) })?;
    let warm = WarmContext { driver, device };
    // SAFETY: retained just now.
    ok(unsafe { set(context) })?;
    let result = run_module(driver);
    // SAFETY: no context is current in this thread from here on, as before.
    ok(unsafe { set(CUcontext::default()) })?;
    result.map(|()| warm)
}

fn run_module(driver: &Driver) -> Result<(), CUresult> {
    let missing = CUresult::ERROR_NOT_SUPPORTED;
    let load = driver.modules.cuModuleLoadDataEx.ok_or(missing)?;
    let unload = driver.modules.cuModuleUnload.ok_or(missing)?;
    let mut module = CUmodule::default();
    let image = MODULE.as_ptr().cast::<c_void>();
    // SAFETY: NUL-terminated text, no options.
    ok(unsafe { load(&raw mut module, image, 0, ptr::null_mut(), ptr::null_mut()) })?;
    let result = launch(driver, module);
    // SAFETY: loaded just now; what ran of it has ended.
    ok(unsafe { unload(module) })?;
    result
}

fn launch(driver: &Driver, module: CUmodule) -> Result<(), CUresult> {
    let missing = CUresult::ERROR_NOT_SUPPORTED;
    let find = driver.modules.cuModuleGetFunction.ok_or(missing)?;
    let launch = driver.launches.cuLaunchKernel.ok_or(missing)?;
    let synchronize = driver.contexts.cuCtxSynchronize.ok_or(missing)?;
    let mut function = CUfunction::default();
    // SAFETY: room for one handle; the name is NUL-terminated.
    ok(unsafe { find(&raw mut function, module, c"nothing".as_ptr()) })?;
    let stream = CUstream::default();
    let none = ptr::null_mut();
    // SAFETY: a kernel without parameters.
    ok(unsafe { launch(function, 1, 1, 1, 1, 1, 1, 0, stream, none, none) })?;
    // SAFETY: no arguments.
    ok(unsafe { synchronize() })
}

//! Initialisation, versions, and what concerns no device.

use std::ffi::c_char;

use guest_device::records::text;

use crate::abi::{self, Error};
use crate::entry::{Place, always};
use crate::state;

/// `nvmlInit` in its forms: finds the devices.
macro_rules! initialisers {
    ($($name:ident)+) => {$(
        /// Initialises the library; fails where there is no GPU.
        #[allow(non_snake_case, reason = "NVML's own names")]
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> u32 {
            always(|| state::initialise(0))
        }
    )+};
}
initialisers! { nvmlInit nvmlInit_v2 }

/// Initialises the library; flags say whether it may be without a GPU.
#[allow(non_snake_case, reason = "NVML's own names")]
#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(flags: u32) -> u32 {
    always(|| state::initialise(flags))
}

/// Takes one initialisation back.
#[allow(non_snake_case, reason = "NVML's own names")]
#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> u32 {
    always(state::shut_down)
}

/// A result in words; may be asked at any time.
#[allow(non_snake_case, reason = "NVML's own names")]
#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(result: u32) -> *const c_char {
    abi::text(result).as_ptr()
}

/// NVIDIA's own programs look into private tables; there are none here.
#[allow(non_snake_case, reason = "NVML's own names")]
#[unsafe(no_mangle)]
extern "C" fn nvmlInternalGetExportTable(_table: Place<usize>, _identity: Place<u8>) -> u32 {
    Error::FUNCTION_NOT_FOUND.number()
}

nvml! {
    /// Version of the host's driver: programs decide by it which of their libraries they take.
    [nvmlSystemGetDriverVersion](out: Place<c_char>, length: u32) = |session| {
        out.check()?.put_text(length, &session.records.driver_version())
    };
    /// Version of the library.
    [nvmlSystemGetNVMLVersion](out: Place<c_char>, length: u32) = |session| {
        let host = text(&session.records.host.management);
        let version = session.records.cuda_version() / 1000;
        let own = format!("{version}.{}", session.records.driver_version());
        out.check()?.put_text(length, if host.is_empty() { &own } else { &host })
    };
    /// What `cuDriverGetVersion` tells.
    [nvmlSystemGetCudaDriverVersion_v2 nvmlSystemGetCudaDriverVersion](out: Place<i32>) = |session| {
        out.put(i32::try_from(session.records.cuda_version()).map_err(|_| Error::UNKNOWN)?)
    };
    /// The file that a process of this system runs.
    [nvmlSystemGetProcessName](process: u32, out: Place<c_char>, length: u32) = |_| {
        out.check()?;
        if length == 0 {
            return Err(Error::INVALID_ARGUMENT);
        }
        let line = std::fs::read(format!("/proc/{process}/cmdline")).map_err(|_| Error::NOT_FOUND)?;
        let mut name = text(&line);
        let mut end = name.len().min(length as usize - 1);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        out.put_text(length, &name)
    };
    /// No HIC there.
    [nvmlSystemGetHicVersion](count: Place<u32>, _entries: Place<u8>) = |_| count.put(0);
    /// Nothing is excluded: what the host's operator does not give to a guest is not there.
    [nvmlGetExcludedDeviceCount](count: Place<u32>) = |_| count.put(0);
}

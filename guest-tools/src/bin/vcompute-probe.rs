//! A program that looks for CUDA as any other does: asks the dynamic linker for `libcuda.so.1`, the library for GPUs, and
//! the first one for a context, which only somebody who answers on the host can give.
//!
//! Prints one line of JSON. Unsafe code: calls of a C library that is opened by name.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write as _;
use std::process::ExitCode;

use libloading::{Library, Symbol};

type CuInit = unsafe extern "C" fn(flags: u32) -> c_int;
type CuCount = unsafe extern "C" fn(count: *mut c_int) -> c_int;
type CuRetain = unsafe extern "C" fn(context: *mut *mut c_void, device: c_int) -> c_int;
type CuRelease = unsafe extern "C" fn(device: c_int) -> c_int;
type CuName = unsafe extern "C" fn(name: *mut c_char, length: c_int, device: c_int) -> c_int;

fn main() -> ExitCode {
    let (line, status) = match look() {
        Ok(names) => (serde_json::json!({ "devices": names }), ExitCode::SUCCESS),
        Err(reason) => (serde_json::json!({ "error": reason }), ExitCode::FAILURE),
    };
    let _ = writeln!(std::io::stdout(), "{line}");
    status
}

fn look() -> Result<Vec<String>, String> {
    // SAFETY: the library's initialisers are those of a CUDA driver, which every CUDA program runs.
    let cuda = unsafe { Library::new("libcuda.so.1") }.map_err(|error| error.to_string())?;
    // SAFETY: CUDA's header declares the function so.
    let init: Symbol<'_, CuInit> = unsafe { cuda.get(b"cuInit") }.map_err(|error| error.to_string())?;
    // SAFETY: as above.
    let count: Symbol<'_, CuCount> =
        unsafe { cuda.get(b"cuDeviceGetCount") }.map_err(|error| error.to_string())?;
    // SAFETY: as above.
    let name: Symbol<'_, CuName> =
        unsafe { cuda.get(b"cuDeviceGetName") }.map_err(|error| error.to_string())?;
    // SAFETY: as above.
    let retain: Symbol<'_, CuRetain> =
        unsafe { cuda.get(b"cuDevicePrimaryCtxRetain") }.map_err(|error| error.to_string())?;
    // SAFETY: as above.
    let release: Symbol<'_, CuRelease> =
        unsafe { cuda.get(b"cuDevicePrimaryCtxRelease_v2") }.map_err(|error| error.to_string())?;

    // SAFETY: the flags must be zero, and are.
    let result = unsafe { init(0) };
    if result != 0 {
        return Err(format!("cuInit returned {result}"));
    }
    let mut devices = 0;
    // SAFETY: the pointer is to an integer of this frame.
    let result = unsafe { count(&raw mut devices) };
    if result != 0 {
        return Err(format!("cuDeviceGetCount returned {result}"));
    }
    let mut names = Vec::new();
    for device in 0..devices {
        let mut text: [c_char; 256] = [0; 256];
        // SAFETY: the buffer has the length that is given, but for the last byte, which stays zero.
        let result = unsafe { name(text.as_mut_ptr(), 255, device) };
        if result != 0 {
            return Err(format!("cuDeviceGetName returned {result}"));
        }
        // SAFETY: the last byte is zero.
        names.push(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned());
    }
    if devices > 0 {
        let mut context = std::ptr::null_mut();
        // SAFETY: the pointer is to a pointer of this frame, and there is a first device.
        let result = unsafe { retain(&raw mut context, 0) };
        if result != 0 {
            return Err(format!("cuDevicePrimaryCtxRetain returned {result}"));
        }
        // SAFETY: it is held once.
        unsafe { release(0) };
    }
    Ok(names)
}

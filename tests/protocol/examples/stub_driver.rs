//! A CUDA driver with one device, of which only the functions for discovery and for a warm context exist. (This file contains unsafe code: it
//! exports C functions.)
//!
//! A file beside it, named like it with `.mode` appended, makes it fail: `absent` as if there were no GPU, `hang` as if
//! the GPU did not answer, `contextless` as if it had no memory left, for as long as the file says so.

use std::{
    ffi::{CStr, OsStr, c_char, c_int, c_uint},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    time::Duration,
};

const SUCCESS: c_int = 0;
const OUT_OF_MEMORY: c_int = 2;
const NO_DEVICE: c_int = 100;

/// What the file says.
fn mode() -> Option<String> {
    let place = mode as *const ();
    let mut found = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: the address is this function's; room for one structure.
    if unsafe { libc::dladdr(place.cast(), &raw mut found) } == 0 {
        return None;
    }
    // SAFETY: the loader's own copy of the path, for as long as the library is loaded.
    let path = unsafe { CStr::from_ptr(found.dli_fname) };
    let mut path = PathBuf::from(OsStr::from_bytes(path.to_bytes()));
    path.add_extension("mode");
    std::fs::read_to_string(path).ok()
}

/// # Safety
/// `cuInit` has no preconditions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuInit(_flags: c_uint) -> c_int {
    loop {
        match mode().as_deref() {
            Some("hang") => std::thread::sleep(Duration::from_millis(10)),
            Some("absent") => return NO_DEVICE,
            _ => return SUCCESS,
        }
    }
}

/// # Safety
/// `version` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { version.write(13_000) };
    SUCCESS
}

/// # Safety
/// `count` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { count.write(1) };
    SUCCESS
}

/// # Safety
/// `device` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { device.write(ordinal) };
    SUCCESS
}

/// # Safety
/// `name` is valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, _device: c_int) -> c_int {
    let text = c"Stub device";
    let room = usize::try_from(length).unwrap_or(0);
    let count = text.count_bytes().min(room.saturating_sub(1));
    // SAFETY: the caller's promise; the text is at least `count` bytes long, and its NUL follows.
    unsafe { name.copy_from_nonoverlapping(text.as_ptr(), count + 1) };
    SUCCESS
}

/// # Safety
/// `uuid` is valid for a write of 16 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], _device: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { uuid.write(*b"protocol-tests!!") };
    SUCCESS
}

/// # Safety
/// `bytes` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { bytes.write(1 << 30) };
    SUCCESS
}

/// # Safety
/// `id` is valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(id: *mut c_char, length: c_int, _device: c_int) -> c_int {
    if length > 0 {
        // SAFETY: the caller's promise.
        unsafe { id.write(0) };
    }
    SUCCESS
}

/// # Safety
/// `value` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { value.write(attribute) };
    SUCCESS
}

// What a warm context is made with; the file's `contextless` makes it fail.

/// # Safety
/// `context` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut usize, device: c_int) -> c_int {
    if mode().as_deref() == Some("contextless") {
        return OUT_OF_MEMORY;
    }
    // SAFETY: the caller's promise.
    unsafe { context.write(0x1000 + device.unsigned_abs() as usize) };
    SUCCESS
}

/// # Safety
/// It has no preconditions here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> c_int {
    SUCCESS
}

/// # Safety
/// It has no preconditions here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxSetCurrent(_context: usize) -> c_int {
    SUCCESS
}

/// # Safety
/// It has no preconditions here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxSynchronize() -> c_int {
    SUCCESS
}

/// # Safety
/// `module` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut usize,
    _image: *const c_char,
    _count: c_uint,
    _options: *mut c_uint,
    _values: *mut usize,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { module.write(0x2000) };
    SUCCESS
}

/// # Safety
/// It has no preconditions here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleUnload(_module: usize) -> c_int {
    SUCCESS
}

/// # Safety
/// `function` is valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    function: *mut usize,
    _module: usize,
    _name: *const c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { function.write(0x3000) };
    SUCCESS
}

/// # Safety
/// It has no preconditions here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel() -> c_int {
    SUCCESS
}

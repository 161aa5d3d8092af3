//! The names of a module's functions and of a library's kernels. The guest looks each up by its name.
//!
//! Unsafe code: calls of the driver.

use std::ffi::{CStr, c_char};

use virtio_spec::{
    codec::Scalar,
    cuda::{CUfunction, CUkernel, CUlibrary, CUmodule, CUresult},
    handle::{Handle, Kind},
    requests::{Enumerate, Names},
};

use super::{Invocation, ok};

/// Functions of one module or library that are listed at most: bounds the worker's memory.
const MOST: usize = 1 << 16;

pub(super) fn enumerate(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: Enumerate = call.structure()?;
    call.end_of_parameters()?;
    let kind = Handle::from_u64(request.parent).ok_or(CUresult::ERROR_INVALID_HANDLE)?.kind;
    let raw = call.handle(kind, request.parent)?;
    if call.context() != 0 {
        call.set_current()?;
    }
    let end = (request.skip as usize).saturating_add(request.count as usize).min(MOST);
    let names = match kind {
        Kind::Module => functions(call, CUmodule::from_u64(raw), end)?,
        Kind::Library => kernels(call, CUlibrary::from_u64(raw), end)?,
        _ => return Err(CUresult::ERROR_INVALID_HANDLE),
    };
    let room = call.room_left().saturating_sub(size_of::<Names>());
    let mut text = Vec::new();
    let mut count = 0_u32;
    for name in names.iter().skip(request.skip as usize) {
        let bytes = name.to_bytes_with_nul();
        if text.len().saturating_add(bytes.len()).next_multiple_of(8) > room {
            break;
        }
        text.extend_from_slice(bytes);
        count = count.saturating_add(1);
    }
    call.put(&Names { count, length: u32::try_from(text.len()).unwrap_or(0) })?;
    call.put_bytes(&text)
}

/// The name behind a pointer that the driver gave; it lives as long as the function.
fn name(result: CUresult, pointer: *const c_char) -> Result<&'static CStr, CUresult> {
    ok(result)?;
    if pointer.is_null() {
        return Err(CUresult::ERROR_UNKNOWN);
    }
    // SAFETY: a NUL-terminated name of the driver's, used before the module can be unloaded.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

fn functions(call: &Invocation<'_>, module: CUmodule, most: usize) -> Result<Vec<&'static CStr>, CUresult> {
    let driver = call.driver();
    let list = driver.modules.cuModuleEnumerateFunctions.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let get_name = driver.functions.cuFuncGetName.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let count = driver.modules.cuModuleGetFunctionCount.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut present = 0_u32;
    // SAFETY: a live module, and room for a number.
    ok(call.in_driver(|| unsafe { count(&raw mut present, module) }))?;
    let most = most.min(present as usize);
    let mut functions = vec![CUfunction::default(); most];
    let room = u32::try_from(most).unwrap_or(u32::MAX);
    // SAFETY: a live module, and room for as many handles as is said.
    ok(call.in_driver(|| unsafe { list(functions.as_mut_ptr(), room, module) }))?;
    let listed = functions.into_iter().filter(|function| *function != CUfunction::default());
    listed
        .map(|function| {
            let mut pointer = std::ptr::null();
            // SAFETY: a live function, and room for a pointer.
            name(unsafe { get_name(&raw mut pointer, function) }, pointer)
        })
        .collect()
}

fn kernels(call: &Invocation<'_>, library: CUlibrary, most: usize) -> Result<Vec<&'static CStr>, CUresult> {
    let driver = call.driver();
    let list = driver.modules.cuLibraryEnumerateKernels.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let get_name = driver.functions.cuKernelGetName.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let count = driver.modules.cuLibraryGetKernelCount.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut present = 0_u32;
    // SAFETY: a live library, and room for a number.
    ok(call.in_driver(|| unsafe { count(&raw mut present, library) }))?;
    let most = most.min(present as usize);
    let mut kernels = vec![CUkernel::default(); most];
    let room = u32::try_from(most).unwrap_or(u32::MAX);
    // SAFETY: a live library, and room for as many handles as is said.
    ok(call.in_driver(|| unsafe { list(kernels.as_mut_ptr(), room, library) }))?;
    let listed = kernels.into_iter().filter(|kernel| *kernel != CUkernel::default());
    listed
        .map(|kernel| {
            let mut pointer = std::ptr::null();
            // SAFETY: a live kernel, and room for a pointer.
            name(unsafe { get_name(&raw mut pointer, kernel) }, pointer)
        })
        .collect()
}

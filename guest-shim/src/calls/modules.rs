//! Modules, libraries and the linker.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;

use virtio_spec::cuda::{
    CUdeviceptr, CUfunction, CUjit_option, CUjitInputType, CUkernel, CUlibrary, CUlibraryOption, CUlinkState,
    CUmodule, CUmoduleLoadingMode, CUresult,
};
use virtio_spec::handle::Kind;
use virtio_spec::requests::{ManagedAnswer, ManagedQuery, opcode};

use super::{give, give_if_wanted, outcome};
use crate::code::image::{self, Image};
use crate::code::options::{Options, library_options};
use crate::code::{function, link, load};
use crate::entry::status;
use crate::exports::modules::{
    wire_cuLibraryGetGlobal, wire_cuLibraryGetManaged, wire_cuLibraryGetModule, wire_cuLibraryUnload,
    wire_cuLinkDestroy, wire_cuModuleGetGlobal_v2, wire_cuModuleUnload,
};
use crate::mirror::Origin;
use crate::wire::Request;
use crate::{context, handles, mirror};

pub(crate) unsafe fn cuModuleGetLoadingMode(mode: *mut CUmoduleLoadingMode) -> CUresult {
    let eager = std::env::var("CUDA_MODULE_LOADING").is_ok_and(|mode| mode == "EAGER");
    let now = if eager { CUmoduleLoadingMode::EAGER_LOADING } else { CUmoduleLoadingMode::LAZY_LOADING };
    // SAFETY: the application's place for the mode.
    status(unsafe { give(mode, now) })
}

/// A file of the guest, NUL-terminated as PTX must be.
///
/// # Safety
/// `path` is null or NUL-terminated.
unsafe fn read_file(path: *const c_char) -> Result<Vec<u8>, CUresult> {
    if path.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: as the caller promises.
    let path = OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes());
    let mut bytes = std::fs::read(path).map_err(|_| CUresult::ERROR_FILE_NOT_FOUND)?;
    bytes.push(0);
    Ok(bytes)
}

/// The image in a file's bytes: what its header says, if that fits.
fn image_of_file(bytes: &[u8]) -> Image {
    let length = if bytes.starts_with(b"\x7fELF") || bytes.starts_with(&[0x50, 0xed, 0x55, 0xba]) {
        bytes.len().saturating_sub(1)
    } else {
        bytes.len()
    };
    Image { start: bytes.as_ptr(), length: length as u64 }
}

/// # Safety
/// The arrays are as CUDA's documentation says of JIT options.
unsafe fn load_module(place: *mut CUmodule, image: Image, options: &Options) -> Result<(), CUresult> {
    // SAFETY: as the caller promises.
    let module = unsafe { load::load(Kind::Module, image, options, &[]) }?;
    // SAFETY: the application's place for a module.
    unsafe { give(place, CUmodule(module)) }
}

pub(crate) unsafe fn cuModuleLoad(module: *mut CUmodule, fname: *const c_char) -> CUresult {
    let load = || {
        context::required()?;
        if module.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the application's path.
        let bytes = unsafe { read_file(fname) }?;
        // SAFETY: the file's bytes live until the end.
        unsafe { load_module(module, image_of_file(&bytes), &Options::default()) }
    };
    status(load())
}

pub(crate) unsafe fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuModuleLoadDataEx(module, image, 0, std::ptr::null_mut(), std::ptr::null_mut()) }
}

pub(crate) unsafe fn cuModuleLoadDataEx(
    module: *mut CUmodule,
    image: *const c_void,
    num_options: u32,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
) -> CUresult {
    let load = || {
        context::required()?;
        if module.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the application's arrays.
        let options = unsafe { Options::read(num_options, options, option_values) }?;
        // SAFETY: the application's image.
        let image = unsafe { image::find(image.cast()) }?;
        // SAFETY: the application's image and arrays.
        unsafe { load_module(module, image, &options) }
    };
    status(load())
}

pub(crate) unsafe fn cuModuleLoadFatBinary(module: *mut CUmodule, fat_cubin: *const c_void) -> CUresult {
    let load = || {
        context::required()?;
        if module.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the application's image.
        let image = unsafe { image::find_bare(fat_cubin.cast()) }?;
        // SAFETY: the application's image, and no arrays.
        unsafe { load_module(module, image, &Options::default()) }
    };
    status(load())
}

/// # Safety
/// `name` is null or NUL-terminated.
unsafe fn look_up(parent: u64, of: Kind, kind: Kind, name: *const c_char) -> Result<u64, CUresult> {
    if name.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if !handles::check(&[of], parent) {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    // SAFETY: as the caller promises.
    function::get(parent, kind, Some(unsafe { CStr::from_ptr(name) }))
}

pub(crate) unsafe fn cuModuleGetFunction(
    function: *mut CUfunction,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    if function.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's name.
    let found = unsafe { look_up(module.0, Kind::Module, Kind::Function, name) };
    // SAFETY: the application's place for a function.
    status(found.and_then(|handle| unsafe { give(function, CUfunction(handle)) }))
}

/// Writes the first `count` functions of a module, or kernels of a library.
///
/// # Safety
/// `place` is null, or has room for `count` handles of 8 bytes.
unsafe fn list(parent: u64, parents: Kind, children: Kind, place: *mut u64, count: u32) -> CUresult {
    if !handles::check(&[parents], parent) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    if place.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    status(function::enumerate(parent, children, count).map(|found| {
        for (index, handle) in found.iter().take(count as usize).enumerate() {
            // SAFETY: within the room that the caller promises.
            unsafe { place.wrapping_add(index).write(*handle) };
        }
    }))
}

pub(crate) unsafe fn cuModuleEnumerateFunctions(
    functions: *mut CUfunction,
    num_functions: u32,
    module: CUmodule,
) -> CUresult {
    // SAFETY: the application's array; a function is a handle of 8 bytes.
    unsafe { list(module.0, Kind::Module, Kind::Function, functions.cast(), num_functions) }
}

pub(crate) unsafe fn cuLibraryEnumerateKernels(
    kernels: *mut CUkernel,
    num_kernels: u32,
    lib: CUlibrary,
) -> CUresult {
    // SAFETY: the application's array; a kernel is a handle of 8 bytes.
    unsafe { list(lib.0, Kind::Library, Kind::Kernel, kernels.cast(), num_kernels) }
}

pub(crate) unsafe fn cuModuleUnload(module: CUmodule) -> CUresult {
    if !handles::check(&[Kind::Module], module.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: no pointers.
    let result = unsafe { wire_cuModuleUnload(module) };
    if result == CUresult::SUCCESS {
        function::forget_parent(module.0);
        mirror::forget_unloaded();
    }
    result
}

/// # Safety
/// The arrays are as CUDA's documentation says of JIT and library options, and the image is readable.
unsafe fn load_library(
    library: *mut CUlibrary,
    image: Image,
    jit: (u32, *mut CUjit_option, *mut *mut c_void),
    own: (u32, *mut CUlibraryOption, *mut *mut c_void),
) -> Result<(), CUresult> {
    // SAFETY: the application's arrays.
    let options = unsafe { Options::read(jit.0, jit.1, jit.2) }?;
    // SAFETY: the application's arrays.
    let own = unsafe { library_options(own.0, own.1, own.2) }?;
    // SAFETY: as the caller promises.
    let handle = unsafe { load::load(Kind::Library, image, &options, &own) }?;
    // SAFETY: the application's place for a library.
    unsafe { give(library, CUlibrary(handle)) }
}

pub(crate) unsafe fn cuLibraryLoadData(
    library: *mut CUlibrary,
    code: *const c_void,
    jit_options: *mut CUjit_option,
    jit_options_values: *mut *mut c_void,
    num_jit_options: u32,
    library_options: *mut CUlibraryOption,
    library_option_values: *mut *mut c_void,
    num_library_options: u32,
) -> CUresult {
    if library.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's image.
    status(unsafe { image::find(code.cast()) }.and_then(|image| {
        let jit = (num_jit_options, jit_options, jit_options_values);
        let own = (num_library_options, library_options, library_option_values);
        // SAFETY: the same contract.
        unsafe { load_library(library, image, jit, own) }
    }))
}

pub(crate) unsafe fn cuLibraryLoadFromFile(
    library: *mut CUlibrary,
    file_name: *const c_char,
    jit_options: *mut CUjit_option,
    jit_options_values: *mut *mut c_void,
    num_jit_options: u32,
    library_options: *mut CUlibraryOption,
    library_option_values: *mut *mut c_void,
    num_library_options: u32,
) -> CUresult {
    if library.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's path.
    status(unsafe { read_file(file_name) }.and_then(|bytes| {
        let jit = (num_jit_options, jit_options, jit_options_values);
        let own = (num_library_options, library_options, library_option_values);
        // SAFETY: the same contract; the file's bytes live until the end.
        unsafe { load_library(library, image_of_file(&bytes), jit, own) }
    }))
}

pub(crate) unsafe fn cuLibraryUnload(library: CUlibrary) -> CUresult {
    if !handles::check(&[Kind::Library], library.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: no pointers.
    let result = unsafe { wire_cuLibraryUnload(library) };
    if result == CUresult::SUCCESS {
        function::forget_parent(library.0);
        mirror::forget_unloaded();
    }
    result
}

pub(crate) unsafe fn cuLibraryGetKernel(
    p_kernel: *mut CUkernel,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    if p_kernel.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's name.
    let found = unsafe { look_up(library.0, Kind::Library, Kind::Kernel, name) };
    // SAFETY: the application's place for a kernel.
    status(found.and_then(|handle| unsafe { give(p_kernel, CUkernel(handle)) }))
}

pub(crate) unsafe fn cuKernelGetFunction(p_func: *mut CUfunction, kernel: CUkernel) -> CUresult {
    if p_func.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    if !handles::check(&[Kind::Kernel], kernel.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: the application's place for a function.
    status(
        function::get(kernel.0, Kind::Function, None)
            .and_then(|handle| unsafe { give(p_func, CUfunction(handle)) }),
    )
}

pub(crate) unsafe fn cuKernelGetLibrary(p_lib: *mut CUlibrary, kernel: CUkernel) -> CUresult {
    let found = if handles::check(&[Kind::Kernel], kernel.0) {
        function::find(kernel.0).map(|found| found.parent)
    } else {
        Err(CUresult::ERROR_INVALID_HANDLE)
    };
    // SAFETY: the application's place for a library.
    status(found.and_then(|handle| unsafe { give(p_lib, CUlibrary(handle)) }))
}

/// Gives the program what was found of a variable. One in managed memory the host's code is to use too.
///
/// # Safety
/// The places are null or valid for writing.
unsafe fn give_variable(
    (pointer, bytes): (*mut CUdeviceptr, *mut usize),
    origin: Origin<'_>,
    is_managed: Option<bool>,
    ask: impl FnOnce(*mut CUdeviceptr, *mut usize) -> CUresult,
) -> Result<(), CUresult> {
    let (mut address, mut length) = (CUdeviceptr(0), 0);
    outcome(ask(&raw mut address, &raw mut length))?;
    let managed = || {
        let context = match origin {
            Origin::Module { context, .. } => context,
            Origin::Library { .. } => context::required()?,
        };
        let mut request = Request::start(opcode::MANAGED_QUERY, context)?;
        request.structure(&ManagedQuery { address: address.0 });
        Ok(request.answer()?.take::<ManagedAnswer>()?.managed != 0)
    };
    if is_managed.map_or_else(managed, Ok)? {
        mirror::variable(address.0, length as u64, origin)?;
    }
    // SAFETY: as the caller promises.
    unsafe { give_if_wanted(pointer, address) };
    // SAFETY: as the caller promises.
    unsafe { give_if_wanted(bytes, length) };
    Ok(())
}

pub(crate) unsafe fn cuModuleGetGlobal_v2(
    pointer: *mut CUdeviceptr,
    bytes: *mut usize,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    let context = handles::parent(module.0).unwrap_or(0);
    let origin = Origin::Module { module: module.0, context };
    // SAFETY: local places, and the application's name.
    let ask = |address, length| unsafe { wire_cuModuleGetGlobal_v2(address, length, module, name) };
    // SAFETY: the application's places.
    status(unsafe { give_variable((pointer, bytes), origin, None, ask) })
}

/// A variable of a library.
///
/// # Safety
/// The places are null or valid for writing, and the name ends.
unsafe fn library_variable(
    places: (*mut CUdeviceptr, *mut usize),
    (library, name): (CUlibrary, *const c_char),
    is_managed: Option<bool>,
    ask: impl FnOnce(*mut CUdeviceptr, *mut usize) -> CUresult,
) -> CUresult {
    if name.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: as the caller promises.
    let origin = Origin::Library { library: library.0, name: unsafe { CStr::from_ptr(name) } };
    // SAFETY: as the caller promises.
    status(unsafe { give_variable(places, origin, is_managed, ask) })
}

pub(crate) unsafe fn cuLibraryGetGlobal(
    pointer: *mut CUdeviceptr,
    bytes: *mut usize,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    // SAFETY: local places, and the application's name.
    let ask = |address, length| unsafe { wire_cuLibraryGetGlobal(address, length, library, name) };
    // SAFETY: the application's places.
    unsafe { library_variable((pointer, bytes), (library, name), None, ask) }
}

pub(crate) unsafe fn cuLibraryGetManaged(
    pointer: *mut CUdeviceptr,
    bytes: *mut usize,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    // SAFETY: local places, and the application's name.
    let ask = |address, length| unsafe { wire_cuLibraryGetManaged(address, length, library, name) };
    // SAFETY: the application's places.
    unsafe { library_variable((pointer, bytes), (library, name), Some(true), ask) }
}

/// The module of a library in the current context.
pub(super) fn library_module(library: u64) -> Result<u64, CUresult> {
    if !handles::check(&[Kind::Library], library) {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    function::library_module(library, || {
        let mut module = CUmodule(0);
        // SAFETY: a local place.
        outcome(unsafe { wire_cuLibraryGetModule(&raw mut module, CUlibrary(library)) })?;
        Ok(module.0)
    })
}

pub(crate) unsafe fn cuLibraryGetModule(p_mod: *mut CUmodule, library: CUlibrary) -> CUresult {
    if p_mod.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's place for a module.
    status(library_module(library.0).and_then(|module| unsafe { give(p_mod, CUmodule(module)) }))
}

pub(crate) unsafe fn cuLinkCreate_v2(
    num_options: u32,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
    state_out: *mut CUlinkState,
) -> CUresult {
    if state_out.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's arrays, which it keeps until the link is destroyed.
    let created = unsafe { Options::read(num_options, options, option_values) }.and_then(link::create);
    // SAFETY: the application's place for a link.
    status(created.and_then(|handle| unsafe { give(state_out, CUlinkState(handle)) }))
}

pub(crate) unsafe fn cuLinkAddData_v2(
    state: CUlinkState,
    kind: CUjitInputType,
    data: *mut c_void,
    size: usize,
    name: *const c_char,
    num_options: u32,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
) -> CUresult {
    if data.is_null() || size == 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let image = Image { start: data.cast(), length: size as u64 };
    // SAFETY: the application's arrays.
    let options = unsafe { Options::read(num_options, options, option_values) };
    // SAFETY: the application's input and name.
    status(options.and_then(|options| unsafe { link::add(state.0, kind.0, image, name, &options) }))
}

pub(crate) unsafe fn cuLinkAddFile_v2(
    state: CUlinkState,
    kind: CUjitInputType,
    path: *const c_char,
    num_options: u32,
    options: *mut CUjit_option,
    option_values: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the application's arrays.
    let options = unsafe { Options::read(num_options, options, option_values) };
    status(options.and_then(|options| {
        // SAFETY: the application's path.
        let bytes = unsafe { read_file(path) }?;
        let length = if kind == CUjitInputType::PTX { bytes.len() } else { bytes.len() - 1 };
        let image = Image { start: bytes.as_ptr(), length: length as u64 };
        // SAFETY: the file's bytes live until the end, and the application's path names the input.
        unsafe { link::add(state.0, kind.0, image, path, &options) }
    }))
}

pub(crate) unsafe fn cuLinkComplete(
    state: CUlinkState,
    cubin_out: *mut *mut c_void,
    size_out: *mut usize,
) -> CUresult {
    if cubin_out.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application keeps its log buffers until the link is destroyed.
    status(unsafe { link::complete(state.0) }.and_then(|(image, length)| {
        // SAFETY: the application's place for a number, or null.
        unsafe { give_if_wanted(size_out, length) };
        // SAFETY: the application's place for a pointer.
        unsafe { give(cubin_out, image.cast()) }
    }))
}

pub(crate) unsafe fn cuLinkDestroy(state: CUlinkState) -> CUresult {
    if !handles::check(&[Kind::Link], state.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: no pointers.
    let result = unsafe { wire_cuLinkDestroy(state) };
    if result == CUresult::SUCCESS {
        link::destroyed(state.0);
    }
    result
}

//! Modules, libraries and the linker.
//!
//! Unsafe code: images and lists of options of the program.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use virtio_spec::cuda::{
    CUdeviceptr, CUfunction, CUjit_option, CUjitInputType, CUkernel, CUlibrary, CUlibraryOption, CUlinkState,
    CUmodule, CUmoduleLoadingMode, CUresult,
};

use super::entry::{Call, Out, Text, exports};
use crate::driver::handles::{kind, mint};
use crate::driver::image::{self, Sources};
use crate::driver::jit::Options;
use crate::driver::library::{Library, Preserved};
use crate::driver::link::Linker;
use crate::driver::module::Module;
use crate::driver::{Driver, Result};

exports! {
    init cuModuleGetLoadingMode(mode: *mut CUmoduleLoadingMode) = loading_mode;
    context cuModuleLoad(module: *mut CUmodule, path: *const c_char) = load_file;
    context cuModuleLoadData(module: *mut CUmodule, image: *const c_void) = load_data;
    context cuModuleLoadDataEx(
        module: *mut CUmodule, image: *const c_void, count: u32, options: *mut CUjit_option,
        values: *mut *mut c_void,
    ) = load_data_ex;
    context cuModuleLoadFatBinary(module: *mut CUmodule, image: *const c_void) = load_fat_binary;
    context cuModuleUnload(module: CUmodule) = unload;
    init cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char) = function;
    init cuModuleGetFunctionCount(count: *mut u32, module: CUmodule) = function_count;
    init cuModuleEnumerateFunctions(functions: *mut CUfunction, count: u32, module: CUmodule)
        = enumerate_functions;
    init cuModuleGetGlobal_v2(
        pointer: *mut CUdeviceptr, bytes: *mut usize, module: CUmodule, name: *const c_char,
    ) = variable;
    context cuLinkCreate_v2(
        count: u32, options: *mut CUjit_option, values: *mut *mut c_void, state: *mut CUlinkState,
    ) = link_create;
    init cuLinkAddData_v2(
        state: CUlinkState, kind: CUjitInputType, data: *mut c_void, bytes: usize, name: *const c_char,
        count: u32, options: *mut CUjit_option, values: *mut *mut c_void,
    ) = link_add_data;
    init cuLinkAddFile_v2(
        state: CUlinkState, kind: CUjitInputType, path: *const c_char, count: u32,
        options: *mut CUjit_option, values: *mut *mut c_void,
    ) = link_add_file;
    init cuLinkComplete(state: CUlinkState, image: *mut *mut c_void, bytes: *mut usize) = link_complete;
    init cuLinkDestroy(state: CUlinkState) = link_destroy;
    init cuLibraryLoadData(
        library: *mut CUlibrary, image: *const c_void, jit_options: *mut CUjit_option,
        jit_values: *mut *mut c_void, jit_count: u32, options: *mut CUlibraryOption,
        values: *mut *mut c_void, count: u32,
    ) = library_load;
    init cuLibraryLoadFromFile(
        library: *mut CUlibrary, path: *const c_char, jit_options: *mut CUjit_option,
        jit_values: *mut *mut c_void, jit_count: u32, options: *mut CUlibraryOption,
        values: *mut *mut c_void, count: u32,
    ) = library_load_file;
    init cuLibraryUnload(library: CUlibrary) = library_unload;
    init cuLibraryGetKernel(kernel: *mut CUkernel, library: CUlibrary, name: *const c_char) = library_kernel;
    init cuLibraryGetKernelCount(count: *mut u32, library: CUlibrary) = library_kernel_count;
    init cuLibraryEnumerateKernels(kernels: *mut CUkernel, count: u32, library: CUlibrary) = library_kernels;
    context cuLibraryGetModule(module: *mut CUmodule, library: CUlibrary) = library_module;
    context cuLibraryGetGlobal(
        pointer: *mut CUdeviceptr, bytes: *mut usize, library: CUlibrary, name: *const c_char,
    ) = library_variable;
    init cuLibraryGetManaged(
        pointer: *mut CUdeviceptr, bytes: *mut usize, library: CUlibrary, name: *const c_char,
    ) = library_managed;
}

fn loading_mode(_: &Driver, mode: Out<CUmoduleLoadingMode>) -> Result<()> {
    mode.put(CUmoduleLoadingMode::LAZY_LOADING)
}

/// Reads an image of the program.
fn read(image: *const c_void) -> Result<Sources> {
    // SAFETY: the program gives what CUDA takes as an image.
    unsafe { image::read(image.cast()) }
}

fn read_file(path: &Text) -> Result<Sources> {
    let bytes = std::fs::read(path.path()?).map_err(|_| CUresult::ERROR_FILE_NOT_FOUND)?;
    image::parse(&bytes)
}

fn options(count: u32, options: *mut CUjit_option, values: *mut *mut c_void) -> Result<Options> {
    // SAFETY: the program's lists have `count` elements, and what they name is valid as CUDA demands.
    unsafe { Options::read(count, options, values) }
}

fn load(call: &Call, place: Out<CUmodule>, sources: Result<Sources>, options: &Options) -> Result<()> {
    place.check()?;
    match Module::load(call.driver(), &call.context, &sources?) {
        Ok(module) => {
            options.finish("", "");
            place.put(CUmodule(module.handle))
        }
        Err(failure) => {
            options.finish("", &failure.log);
            Err(failure.result)
        }
    }
}

fn load_file(call: &Call, module: Out<CUmodule>, path: Text) -> Result<()> {
    module.check()?;
    load(call, module, read_file(&path), &Options::default())
}

fn load_data(call: &Call, module: Out<CUmodule>, image: *const c_void) -> Result<()> {
    load(call, module, read(image), &Options::default())
}

/// Takes a container itself, as NVIDIA's driver does.
fn load_fat_binary(call: &Call, module: Out<CUmodule>, image: *const c_void) -> Result<()> {
    // SAFETY: the program gives what CUDA takes as an image.
    load(call, module, unsafe { image::read_bare(image.cast()) }, &Options::default())
}

fn load_data_ex(
    call: &Call,
    module: Out<CUmodule>,
    image: *const c_void,
    count: u32,
    names: *mut CUjit_option,
    values: *mut *mut c_void,
) -> Result<()> {
    module.check()?;
    let options = options(count, names, values)?;
    load(call, module, read(image), &options)
}

fn unload(call: &Call, module: CUmodule) -> Result<()> {
    Module::unload(call.driver(), module.0)?;
    call.context.health.check()
}

fn function(driver: &Driver, function: Out<CUfunction>, module: CUmodule, name: Text) -> Result<()> {
    function.check()?;
    let name = name.bytes()?;
    let found = driver.modules.get(module.0)?.function(driver, name)?;
    function.put(CUfunction(found.handle))
}

fn count_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn function_count(driver: &Driver, count: Out<u32>, module: CUmodule) -> Result<()> {
    count.check()?;
    count.put(count_of(driver.modules.get(module.0)?.kernels().len()))
}

/// Writes handles to the program's list, as many as it has room for.
fn put_all<T>(place: *mut T, count: u32, handles: impl Iterator<Item = T>) -> Result<()> {
    if place.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    for (index, handle) in handles.take(count as usize).enumerate() {
        // SAFETY: the program's list has `count` elements.
        let place = unsafe { place.add(index) };
        // SAFETY: as above.
        unsafe { place.write(handle) };
    }
    Ok(())
}

fn enumerate_functions(
    driver: &Driver,
    functions: *mut CUfunction,
    count: u32,
    module: CUmodule,
) -> Result<()> {
    let module = driver.modules.get(module.0)?;
    let infos = module.kernels().iter();
    put_all(functions, count, infos.map(|info| CUfunction(module.function_of(driver, info, None).handle)))
}

fn put_variable(pointer: Out<CUdeviceptr>, bytes: Out<usize>, (address, size): (u64, u64)) -> Result<()> {
    pointer.put_if_wanted(CUdeviceptr(address));
    bytes.put_if_wanted(usize::try_from(size).unwrap_or(usize::MAX));
    Ok(())
}

fn variable(
    driver: &Driver,
    pointer: Out<CUdeviceptr>,
    bytes: Out<usize>,
    module: CUmodule,
    name: Text,
) -> Result<()> {
    let name = name.bytes()?;
    put_variable(pointer, bytes, driver.modules.get(module.0)?.variable(name)?)
}

fn link_create(
    call: &Call,
    count: u32,
    names: *mut CUjit_option,
    values: *mut *mut c_void,
    state: Out<CUlinkState>,
) -> Result<()> {
    state.check()?;
    let linker = Linker::new(options(count, names, values)?);
    let handle = mint(kind::LINK);
    call.driver().linkers.insert(handle, Arc::new(linker));
    state.put(CUlinkState(handle))
}

#[expect(clippy::too_many_arguments, reason = "CUDA's own signature")]
fn link_add_data(
    driver: &Driver,
    state: CUlinkState,
    kind: CUjitInputType,
    data: *mut c_void,
    bytes: usize,
    _name: *const c_char,
    count: u32,
    names: *mut CUjit_option,
    values: *mut *mut c_void,
) -> Result<()> {
    let linker = driver.linkers.get(state.0)?;
    options(count, names, values)?;
    if data.is_null() || bytes == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program's data has `bytes` bytes.
    let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) };
    linker.add(kind, image::parse(data)?)
}

fn link_add_file(
    driver: &Driver,
    state: CUlinkState,
    kind: CUjitInputType,
    path: Text,
    count: u32,
    names: *mut CUjit_option,
    values: *mut *mut c_void,
) -> Result<()> {
    let linker = driver.linkers.get(state.0)?;
    options(count, names, values)?;
    linker.add(kind, read_file(&path)?)
}

fn link_complete(
    driver: &Driver,
    state: CUlinkState,
    image: Out<*mut c_void>,
    bytes: Out<usize>,
) -> Result<()> {
    image.check()?;
    let (start, length) = driver.linkers.get(state.0)?.complete()?;
    image.put(start.cast_mut().cast())?;
    bytes.put_if_wanted(length);
    Ok(())
}

fn link_destroy(driver: &Driver, state: CUlinkState) -> Result<()> {
    driver.linkers.remove(state.0).map(drop)
}

/// Loads a library.
fn load_library(
    driver: &Driver,
    place: Out<CUlibrary>,
    sources: Result<Sources>,
    jit: &Options,
    preserved: Option<Preserved>,
) -> Result<()> {
    match Library::load(driver, sources?, preserved) {
        Ok(library) => {
            jit.finish("", "");
            place.put(CUlibrary(library.handle))
        }
        Err(failure) => {
            jit.finish("", &failure.log);
            Err(failure.result)
        }
    }
}

/// Whether a library's options say that the program keeps the image.
fn library_options(count: u32, names: *mut CUlibraryOption) -> Result<bool> {
    if count > 0 && names.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let mut is_preserved = false;
    for index in 0..count as usize {
        // SAFETY: the program's list has `count` elements.
        let place = unsafe { names.add(index) };
        // SAFETY: as above.
        let option = unsafe { place.read() };
        if option.0 >= CUlibraryOption::NUM_OPTIONS.0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        is_preserved |= option == CUlibraryOption::BINARY_IS_PRESERVED;
    }
    Ok(is_preserved)
}

#[expect(clippy::too_many_arguments, reason = "CUDA's own signature")]
fn library_load(
    driver: &Driver,
    library: Out<CUlibrary>,
    image: *const c_void,
    jit_names: *mut CUjit_option,
    jit_values: *mut *mut c_void,
    jit_count: u32,
    names: *mut CUlibraryOption,
    _values: *mut *mut c_void,
    count: u32,
) -> Result<()> {
    library.check()?;
    let is_preserved = library_options(count, names)?;
    let jit = options(jit_count, jit_names, jit_values)?;
    let sources = read(image);
    let preserved = (is_preserved && sources.is_ok()).then(|| Preserved::of(image));
    load_library(driver, library, sources, &jit, preserved)
}

#[expect(clippy::too_many_arguments, reason = "CUDA's own signature")]
fn library_load_file(
    driver: &Driver,
    library: Out<CUlibrary>,
    path: Text,
    jit_names: *mut CUjit_option,
    jit_values: *mut *mut c_void,
    jit_count: u32,
    names: *mut CUlibraryOption,
    _values: *mut *mut c_void,
    count: u32,
) -> Result<()> {
    library.check()?;
    library_options(count, names)?;
    let jit = options(jit_count, jit_names, jit_values)?;
    load_library(driver, library, read_file(&path), &jit, None)
}

fn library_unload(driver: &Driver, library: CUlibrary) -> Result<()> {
    Library::unload(driver, library.0)
}

fn library_kernel(driver: &Driver, kernel: Out<CUkernel>, library: CUlibrary, name: Text) -> Result<()> {
    kernel.check()?;
    let name = name.bytes()?;
    let found = driver.libraries.get(library.0)?.kernel(driver, name)?;
    kernel.put(CUkernel(found.handle))
}

fn library_kernel_count(driver: &Driver, count: Out<u32>, library: CUlibrary) -> Result<()> {
    count.check()?;
    count.put(count_of(driver.libraries.get(library.0)?.kernel_infos().len()))
}

fn library_kernels(driver: &Driver, kernels: *mut CUkernel, count: u32, library: CUlibrary) -> Result<()> {
    let library = driver.libraries.get(library.0)?;
    let names = library.kernel_infos().iter().map(|info| info.name.as_bytes());
    let found: Vec<_> = names.map(|name| library.kernel(driver, name)).collect::<Result<_>>()?;
    put_all(kernels, count, found.into_iter().map(|kernel| CUkernel(kernel.handle)))
}

fn library_module(call: &Call, module: Out<CUmodule>, library: CUlibrary) -> Result<()> {
    module.check()?;
    let found = call.driver().libraries.get(library.0)?.module(call.driver(), &call.context)?;
    module.put(CUmodule(found.handle))
}

fn library_variable(
    call: &Call,
    pointer: Out<CUdeviceptr>,
    bytes: Out<usize>,
    library: CUlibrary,
    name: Text,
) -> Result<()> {
    let name = name.bytes()?;
    let module = call.driver().libraries.get(library.0)?.module(call.driver(), &call.context)?;
    put_variable(pointer, bytes, module.variable(name)?)
}

/// A managed variable of a library, which all contexts share.
fn library_managed(
    driver: &Driver,
    pointer: Out<CUdeviceptr>,
    bytes: Out<usize>,
    library: CUlibrary,
    name: Text,
) -> Result<()> {
    let name = name.bytes()?;
    put_variable(pointer, bytes, driver.libraries.get(library.0)?.managed(driver, name)?)
}

//! Libraries, which belong to no context, and the linker.

use std::ffi::{CString, c_void};

use anyhow::{Context, Result, ensure};

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BUFFER_SIZE, arguments, initialized, shape};
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

use super::kernels;
use super::modules::{BROKEN, check_step, container, seen_by_kernel};

area!("libraries":
    a_fat_container_behind_its_wrapper,
    a_library_needs_no_context,
    kernels_of_a_library,
    a_kernel_is_one_function_in_a_context,
    globals_of_a_library,
    a_library_in_two_contexts,
    a_library_from_a_file,
    broken_libraries_are_refused,
    linking_two_texts,
    linking_without_a_part_fails,
    linking_broken_text_fails,
);

fn a_fat_container_behind_its_wrapper() -> CaseResult {
    let gpu = Gpu::new()?;
    let image = container(kernels::BASIC);
    let words: Vec<u64> =
        image.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).collect();
    // What a compiler emits and a runtime hands over: magic, version, the container's address, nothing.
    let wrapper: [u64; 3] = [0x1_4662_43B1, u64::try_from(words.as_ptr().expose_provenance())?, 0];
    let library = load_library(&gpu, wrapper.as_ptr().cast())?;
    let mut kernel = 0;
    gpu.cu.cuLibraryGetKernel(&mut kernel, library, c"step".as_ptr()).ok()?;
    let cell = gpu.upload(&[5u32])?;
    gpu.run(kernel, shape(1, 1), arguments![cell, 3u32, 1u32])?;
    ensure!(gpu.read::<u32>(cell, 1)? == [16], "{:?} instead of 16", gpu.read::<u32>(cell, 1)?);
    let mut module = 0;
    gpu.cu.cuModuleLoadFatBinary(&mut module, wrapper.as_ptr().cast()).is(Code::INVALID_IMAGE)?;
    gpu.cu.cuModuleLoadFatBinary(&mut module, words.as_ptr().cast()).ok()?;
    check_step(&gpu, module)?;
    // This call takes the container itself: driver 580 refuses the wrapper here.
    let refused = [Code::INVALID_IMAGE, Code::INVALID_PTX, Code::INVALID_VALUE, Code::NO_BINARY_FOR_GPU];
    let mut none = 0;
    gpu.cu.cuModuleLoadFatBinary(&mut none, wrapper.as_ptr().cast()).is_one_of(&refused)?;
    ensure!(none == 0, "a refused image has the handle {none:#x}");
    check_step(&gpu, module)?;
    pass()
}

/// Loads a library without options.
fn load_library(gpu: &Gpu, image: *const c_void) -> Result<Handle> {
    let mut library = 0;
    let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
    gpu.cu
        .cuLibraryLoadData(
            &mut library,
            image,
            none,
            nothing,
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        )
        .ok()?;
    ensure!(library != 0, "a loaded library is a null handle");
    Ok(library)
}

fn a_library_needs_no_context() -> CaseResult {
    let cu = initialized()?;
    let text = CString::new(kernels::BASIC)?;
    let (mut library, mut kernel) = (0, 0);
    let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
    cu.cuLibraryLoadData(
        &mut library,
        text.as_ptr().cast(),
        none,
        nothing,
        0,
        std::ptr::null_mut(),
        std::ptr::null_mut(),
        0,
    )
    .ok()?;
    cu.cuLibraryGetKernel(&mut kernel, library, c"step".as_ptr()).ok()?;
    ensure!(kernel != 0, "the kernel is a null handle");
    let mut function = 0;
    cu.cuKernelGetFunction(&mut function, kernel).is(Code::INVALID_CONTEXT)?;
    let mut current = 7;
    cu.cuCtxGetCurrent(&mut current).ok()?;
    ensure!(current == 0, "loading a library made a context current");
    let gpu = Gpu::new()?;
    let cell = gpu.upload(&[5u32])?;
    gpu.run(kernel, shape(1, 1), arguments![cell, 3u32, 1u32])?;
    ensure!(gpu.read::<u32>(cell, 1)? == [16], "{:?} instead of 16", gpu.read::<u32>(cell, 1)?);
    pass()
}

fn kernels_of_a_library() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = CString::new(kernels::MODULES)?;
    let library = load_library(&gpu, text.as_ptr().cast())?;
    let mut count = 0;
    gpu.cu.cuLibraryGetKernelCount(&mut count, library).ok()?;
    ensure!(count == 2, "the library has {count} kernels instead of 2");
    let mut kernels = [0usize; 2];
    gpu.cu.cuLibraryEnumerateKernels(kernels.as_mut_ptr(), 2, library).ok()?;
    let mut by_name = 0;
    gpu.cu.cuLibraryGetKernel(&mut by_name, library, c"read_globals".as_ptr()).ok()?;
    ensure!(kernels.contains(&by_name), "{by_name:#x} is not among {kernels:x?}");
    let (mut name, mut owner) = (std::ptr::null(), 0);
    gpu.cu.cuKernelGetName(&mut name, by_name).ok()?;
    ensure!(crate::driver::text(name).as_deref() == Some("read_globals"), "{:?}", crate::driver::text(name));
    gpu.cu.cuKernelGetLibrary(&mut owner, by_name).ok()?;
    ensure!(owner == library, "the kernel belongs to {owner:#x} instead of {library:#x}");
    gpu.cu.cuLibraryGetKernel(&mut by_name, library, c"no_such".as_ptr()).is(Code::NOT_FOUND)?;
    gpu.cu.cuLibraryUnload(library).ok()?;
    pass()
}

fn a_kernel_is_one_function_in_a_context() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = CString::new(kernels::BASIC)?;
    let library = load_library(&gpu, text.as_ptr().cast())?;
    let (mut kernel, mut first, mut second) = (0, 0, 1);
    gpu.cu.cuLibraryGetKernel(&mut kernel, library, c"step".as_ptr()).ok()?;
    gpu.cu.cuKernelGetFunction(&mut first, kernel).ok()?;
    gpu.cu.cuKernelGetFunction(&mut second, kernel).ok()?;
    ensure!(first == second && first != 0, "{first:#x}, then {second:#x}");
    let mut module = 0;
    gpu.cu.cuLibraryGetModule(&mut module, library).ok()?;
    check_step(&gpu, module)?;
    let (mut of_kernel, mut of_function) = (-1, -2);
    gpu.cu.cuKernelGetAttribute(&mut of_kernel, 0, kernel, gpu.device).ok()?;
    gpu.cu.cuFuncGetAttribute(&mut of_function, 0, first).ok()?;
    ensure!(of_kernel == of_function, "blocks of {of_kernel} by the kernel, {of_function} by the function");
    gpu.cu.cuKernelSetAttribute(8, 1024, kernel, gpu.device).ok()?;
    gpu.cu.cuKernelGetAttribute(&mut of_kernel, 8, kernel, gpu.device).ok()?;
    ensure!(of_kernel == 1024, "the attribute is {of_kernel}");
    let (mut offset, mut bytes) = (7, 7);
    gpu.cu.cuKernelGetParamInfo(kernel, 2, &mut offset, &mut bytes).ok()?;
    ensure!((offset, bytes) == (12, 4), "the third parameter is {bytes} bytes at {offset}");
    pass()
}

fn globals_of_a_library() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = CString::new(kernels::MODULES)?;
    let library = load_library(&gpu, text.as_ptr().cast())?;
    let (mut pointer, mut bytes) = (0, 0);
    gpu.cu.cuLibraryGetGlobal(&mut pointer, &mut bytes, library, c"table".as_ptr()).ok()?;
    ensure!(bytes == 32 && gpu.read::<u32>(pointer, 4)? == [10, 20, 30, 40], "{bytes} bytes at {pointer:#x}");
    gpu.write(pointer, &[1u32; 8])?;
    let mut kernel = 0;
    gpu.cu.cuLibraryGetKernel(&mut kernel, library, c"read_globals".as_ptr()).ok()?;
    let seen = seen_by_kernel(&gpu, kernel)?;
    ensure!(seen.get(1..9) == Some(&[1; 8]), "the kernel sees {seen:?}");
    gpu.cu.cuLibraryGetGlobal(&mut pointer, &mut bytes, library, c"no_such".as_ptr()).is(Code::NOT_FOUND)?;
    pass()
}

fn a_library_in_two_contexts() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = CString::new(kernels::MODULES)?;
    let library = load_library(&gpu, text.as_ptr().cast())?;
    let pointer_here = || -> Result<u64> {
        let mut pointer = 0;
        gpu.cu.cuLibraryGetGlobal(&mut pointer, &mut 0, library, c"answer".as_ptr()).ok()?;
        Ok(pointer)
    };
    let first = pointer_here()?;
    gpu.write(first, &[1u32])?;
    let mut other = 0;
    gpu.cu.cuCtxCreate_v2(&mut other, 0, gpu.device).ok()?;
    let second = pointer_here()?;
    ensure!(first != second, "two contexts share a variable");
    ensure!(gpu.read::<u32>(second, 1)? == [42], "the other context's variable is not fresh");
    let mut kernel = 0;
    gpu.cu.cuLibraryGetKernel(&mut kernel, library, c"read_globals".as_ptr()).ok()?;
    ensure!(seen_by_kernel(&gpu, kernel)?.first() == Some(&42), "the kernel sees another context's variable");
    gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
    ensure!(seen_by_kernel(&gpu, kernel)?.first() == Some(&1), "the kernel sees another context's variable");
    pass()
}

fn a_library_from_a_file() -> CaseResult {
    let gpu = Gpu::new()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("library.ptx");
    std::fs::write(&file, kernels::BASIC)?;
    let path = CString::new(file.to_string_lossy().as_bytes())?;
    let (mut library, mut kernel) = (0, 0);
    let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
    let load = |library: &mut Handle, path: &CString| {
        gpu.cu.cuLibraryLoadFromFile(
            library,
            path.as_ptr(),
            none,
            nothing,
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        )
    };
    load(&mut library, &path).ok()?;
    gpu.cu.cuLibraryGetKernel(&mut kernel, library, c"nothing".as_ptr()).ok()?;
    gpu.run(kernel, shape(2, 2), &[])?;
    let missing = CString::new("/nonexistent/library.ptx")?;
    load(&mut library, &missing).is_one_of(&[Code::FILE_NOT_FOUND, Code::INVALID_VALUE])?;
    pass()
}

fn broken_libraries_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = CString::new(BROKEN)?;
    let mut library = 0;
    let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
    let code = gpu.cu.cuLibraryLoadData(
        &mut library,
        text.as_ptr().cast(),
        none,
        nothing,
        0,
        std::ptr::null_mut(),
        std::ptr::null_mut(),
        0,
    );
    // A lazily loading driver may compile at the first use instead.
    if code == Code::SUCCESS {
        let mut kernel = 0;
        gpu.cu.cuLibraryGetKernel(&mut kernel, library, c"broken".as_ptr()).is_one_of(&[
            Code::INVALID_PTX,
            Code::NOT_FOUND,
            Code::INVALID_IMAGE,
        ])?;
        return pass();
    }
    code.is_one_of(&[Code::INVALID_PTX, Code::INVALID_IMAGE])?;
    ensure!(library == 0, "a refused call wrote {library:#x}");
    pass()
}

/// A linker's state, with a log of errors.
struct Linker {
    state: Handle,
    log: Vec<u8>,
}

impl Linker {
    fn new(gpu: &Gpu) -> Result<Box<Self>> {
        let mut linker = Box::new(Self { state: 0, log: vec![0; 4096] });
        let mut options = [JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BUFFER_SIZE];
        // The driver keeps the list of values until the state is destroyed, and writes sizes into it.
        let values: &'static mut [*mut c_void; 2] = Box::leak(Box::new([
            linker.log.as_mut_ptr().cast(),
            std::ptr::without_provenance_mut(linker.log.len()),
        ]));
        gpu.cu.cuLinkCreate_v2(2, options.as_mut_ptr(), values.as_mut_ptr(), &mut linker.state).ok()?;
        Ok(linker)
    }

    fn add(&self, gpu: &Gpu, text: &str, name: &str) -> Result<Code> {
        let (mut data, name) = (CString::new(text)?.into_bytes_with_nul(), CString::new(name)?);
        let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
        let bytes = data.len();
        Ok(gpu.cu.cuLinkAddData_v2(
            self.state,
            1,
            data.as_mut_ptr().cast(),
            bytes,
            name.as_ptr(),
            0,
            none,
            nothing,
        ))
    }
}

fn linking_two_texts() -> CaseResult {
    let gpu = Gpu::new()?;
    let linker = Linker::new(&gpu)?;
    linker.add(&gpu, kernels::LINK_MAIN, "main.ptx")?.ok()?;
    linker.add(&gpu, kernels::LINK_PART, "part.ptx")?.ok()?;
    let (mut image, mut bytes) = (std::ptr::null_mut(), 0);
    gpu.cu.cuLinkComplete(linker.state, &mut image, &mut bytes).ok()?;
    ensure!(!image.is_null() && bytes > 64, "the image is {bytes} bytes at {image:?}");
    let copy = crate::gpu::host(image.cast::<u8>(), bytes).to_vec();
    gpu.cu.cuLinkDestroy(linker.state).ok()?;
    // The image can be kept beyond the linker's life.
    let words: Vec<u64> = copy
        .chunks(8)
        .map(|part| part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
        .collect();
    let mut module = 0;
    gpu.cu.cuModuleLoadData(&mut module, words.as_ptr().cast()).ok().context("the linked image")?;
    let apply = gpu.function(module, "apply")?;
    let cell = gpu.upload(&[14u32])?;
    gpu.run(apply, shape(1, 1), arguments![cell])?;
    ensure!(gpu.read::<u32>(cell, 1)? == [1042], "{:?} instead of 1042", gpu.read::<u32>(cell, 1)?);
    pass()
}

fn linking_without_a_part_fails() -> CaseResult {
    let gpu = Gpu::new()?;
    let linker = Linker::new(&gpu)?;
    linker.add(&gpu, kernels::LINK_MAIN, "main.ptx")?.ok()?;
    let (mut image, mut bytes) = (std::ptr::null_mut(), 0);
    let code = gpu.cu.cuLinkComplete(linker.state, &mut image, &mut bytes);
    ensure!(code != Code::SUCCESS, "an image without one of its functions was made");
    ensure!(linker.log.first() != Some(&0), "the error log is empty");
    gpu.cu.cuLinkDestroy(linker.state).ok()?;
    check_step(&gpu, gpu.module(kernels::BASIC)?)?;
    pass()
}

fn linking_broken_text_fails() -> CaseResult {
    let gpu = Gpu::new()?;
    let linker = Linker::new(&gpu)?;
    let code = linker.add(&gpu, BROKEN, "broken.ptx")?;
    code.is_one_of(&[Code::INVALID_PTX, Code::INVALID_IMAGE])?;
    gpu.cu.cuLinkDestroy(linker.state).ok()?;
    pass()
}

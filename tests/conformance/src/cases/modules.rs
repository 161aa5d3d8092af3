//! Modules, and what they say about broken images.

use std::ffi::{CString, c_void};

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle};
use crate::gpu::{
    Gpu, JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BUFFER_SIZE, JIT_INFO_LOG_BUFFER, JIT_INFO_LOG_BUFFER_SIZE,
    arguments, initialized, shape,
};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::kernels;

area!("modules":
    load_from_text,
    load_from_a_file,
    a_missing_file_is_told,
    two_loads_are_two_modules,
    broken_text_is_refused_with_a_log,
    log_sizes_are_written_back,
    a_log_is_cut_to_its_buffer,
    common_jit_options_are_taken,
    unknown_ptx_versions_are_refused,
    garbage_images_are_refused,
    a_missing_function_is_told,
    globals_are_found_and_initialized,
    globals_are_written_by_host_and_kernel,
    a_missing_global_is_told,
    unload_gives_globals_back,
    a_fat_container_with_text,
    compressed_fat_containers,
    functions_are_counted_and_listed,
    load_in_one_thread_and_use_in_another,
    load_needs_a_context,
    null_arguments_are_refused,
    many_modules,
    loading_mode_is_told,
);

/// Loads an image and returns the driver's answer with the module.
fn load(gpu: &Gpu, image: &[u8]) -> (Code, Handle) {
    let mut module = 0;
    let code = gpu.cu.cuModuleLoadData(&mut module, image.as_ptr().cast());
    (code, module)
}

/// Runs the kernel `step` of a module made of the basic kernels.
pub(crate) fn check_step(gpu: &Gpu, module: Handle) -> Result<()> {
    let step = gpu.function(module, "step")?;
    let cell = gpu.upload(&[5u32])?;
    gpu.run(step, shape(1, 1), arguments![cell, 3u32, 1u32])?;
    ensure!(gpu.read::<u32>(cell, 1)? == [16], "{:?} instead of 16", gpu.read::<u32>(cell, 1)?);
    Ok(())
}

fn load_from_text() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = CString::new(kernels::BASIC)?;
    let (code, module) = load(&gpu, text.as_bytes_with_nul());
    code.ok()?;
    check_step(&gpu, module)?;
    gpu.cu.cuModuleUnload(module).ok()?;
    pass()
}

fn load_from_a_file() -> CaseResult {
    let gpu = Gpu::new()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("kernels of a file.ptx");
    std::fs::write(&file, kernels::BASIC)?;
    let path = CString::new(file.to_string_lossy().as_bytes())?;
    let mut module = 0;
    gpu.cu.cuModuleLoad(&mut module, path.as_ptr()).ok()?;
    std::fs::remove_file(&file)?;
    check_step(&gpu, module)?;
    pass()
}

fn a_missing_file_is_told() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut module = 7;
    gpu.cu.cuModuleLoad(&mut module, c"/nonexistent/kernels.ptx".as_ptr()).is(Code::FILE_NOT_FOUND)?;
    ensure!([0, 7].contains(&module), "a refused call wrote {module:#x}");
    pass()
}

fn two_loads_are_two_modules() -> CaseResult {
    let gpu = Gpu::new()?;
    let (first, second) = (gpu.module(kernels::MODULES)?, gpu.module(kernels::MODULES)?);
    ensure!(first != second, "two loads gave one handle");
    let (of_first, of_second) = (global(&gpu, first, c"answer")?, global(&gpu, second, c"answer")?);
    ensure!(of_first != of_second, "two modules share a variable");
    gpu.write(of_first.0, &[1u32])?;
    ensure!(gpu.read::<u32>(of_second.0, 1)? == [42], "one module's variable changed the other's");
    gpu.cu.cuModuleUnload(first).ok()?;
    ensure!(gpu.read::<u32>(of_second.0, 1)? == [42], "unloading one module hurt the other");
    pass()
}

/// What a load with logs answered.
#[derive(Debug)]
struct Logged {
    code: Code,
    module: Handle,
    error: Vec<u8>,
    error_size: usize,
    info_size: usize,
}

/// Loads text with log buffers of this size.
fn load_with_logs(gpu: &Gpu, text: &str, size: usize) -> Result<Logged> {
    let text = CString::new(text)?;
    // Room behind the buffers shows whether the driver keeps to the size it was given.
    let (mut error, mut info) = (vec![0xEEu8; size + 64], vec![0xEEu8; size + 64]);
    let mut options =
        [JIT_INFO_LOG_BUFFER, JIT_INFO_LOG_BUFFER_SIZE, JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BUFFER_SIZE];
    let mut values: [*mut c_void; 4] = [
        info.as_mut_ptr().cast(),
        std::ptr::without_provenance_mut(size),
        error.as_mut_ptr().cast(),
        std::ptr::without_provenance_mut(size),
    ];
    let mut module = 0;
    let code = gpu.cu.cuModuleLoadDataEx(
        &mut module,
        text.as_ptr().cast(),
        4,
        options.as_mut_ptr(),
        values.as_mut_ptr(),
    );
    for buffer in [&error, &info] {
        ensure!(buffer[size..].iter().all(|byte| *byte == 0xEE), "a log was written past its buffer's end");
    }
    // The driver writes 32 bits into the place of a pointer: the upper half may be anything.
    let size_of = |value: *mut c_void| value.addr() & 0xFFFF_FFFF;
    Ok(Logged { code, module, error, error_size: size_of(values[3]), info_size: size_of(values[1]) })
}

pub(crate) const BROKEN: &str = ".version 7.0\n.target sm_52\n.address_size 64\n.visible .entry broken()\n{\n    no_such_instruction.u32 %r1, %r2;\n    ret;\n}\n";

fn broken_text_is_refused_with_a_log() -> CaseResult {
    let gpu = Gpu::new()?;
    let logged = load_with_logs(&gpu, BROKEN, 4096)?;
    logged.code.is(Code::INVALID_PTX)?;
    let end = logged.error.iter().position(|byte| *byte == 0).unwrap_or(0);
    let told = String::from_utf8_lossy(&logged.error[..end]).into_owned();
    ensure!(!told.trim().is_empty(), "the error log is empty");
    ensure!(told.contains('6'), "the error log does not name line 6: {told:?}");
    let (code, _) = load(&gpu, CString::new(BROKEN)?.as_bytes_with_nul());
    code.is(Code::INVALID_PTX)?;
    check_step(&gpu, gpu.module(kernels::BASIC)?)?;
    pass()
}

fn log_sizes_are_written_back() -> CaseResult {
    let gpu = Gpu::new()?;
    let logged = load_with_logs(&gpu, BROKEN, 4096)?;
    let end = logged.error.iter().position(|byte| *byte == 0).unwrap_or(0);
    // The size written back counts the text; drivers differ in counting its end.
    let sizes = [end, end + 1];
    ensure!(
        sizes.contains(&logged.error_size),
        "a log of {end} characters has the size {}",
        logged.error_size
    );
    let logged = load_with_logs(&gpu, kernels::BASIC, 4096)?;
    logged.code.ok()?;
    ensure!(
        logged.module != 0 && logged.error_size <= 1,
        "a good image has {} bytes of errors",
        logged.error_size
    );
    ensure!(logged.info_size <= 4096, "the size of the information log is {}", logged.info_size);
    pass()
}

fn a_log_is_cut_to_its_buffer() -> CaseResult {
    let gpu = Gpu::new()?;
    for size in [1, 2, 10, 32] {
        let logged = load_with_logs(&gpu, BROKEN, size)?;
        logged.code.is(Code::INVALID_PTX)?;
        ensure!(logged.error_size <= size, "a buffer of {size} has a log of {}", logged.error_size);
    }
    pass()
}

fn common_jit_options_are_taken() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = CString::new(kernels::BASIC)?;
    // Registers, wall time (written back as a float), optimization level, target from the context, debug and
    // line information, verbose logs.
    let mut options = [0, 2, 7, 8, 11, 12, 13];
    let number = std::ptr::without_provenance_mut::<c_void>;
    let mut values = [number(32), number(0), number(1), number(0), number(0), number(1), number(1)];
    let mut module = 0;
    gpu.cu
        .cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 7, options.as_mut_ptr(), values.as_mut_ptr())
        .ok()?;
    check_step(&gpu, module)?;
    let wall = f32::from_bits(u32::try_from(values[1].addr() & 0xFFFF_FFFF)?);
    ensure!((0.0..60_000.0).contains(&wall), "the wall time is {wall} ms");
    let registers = {
        let mut value = 0;
        gpu.cu.cuFuncGetAttribute(&mut value, 4, gpu.function(module, "add_u32")?).ok()?;
        value
    };
    ensure!(registers <= 32, "the function has {registers} registers");
    let mut options = [5000];
    let code = gpu.cu.cuModuleLoadDataEx(
        &mut module,
        text.as_ptr().cast(),
        1,
        options.as_mut_ptr(),
        values.as_mut_ptr(),
    );
    code.is(Code::INVALID_VALUE)?;
    pass()
}

fn unknown_ptx_versions_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = kernels::BASIC.replace(".version 7.0", ".version 99.0");
    let (code, module) = load(&gpu, CString::new(text)?.as_bytes_with_nul());
    code.is_one_of(&[Code::UNSUPPORTED_PTX_VERSION, Code::INVALID_PTX])?;
    ensure!(module == 0, "a refused call wrote {module:#x}");
    let text = kernels::BASIC.replace(".target sm_52", ".target sm_999");
    let (code, _) = load(&gpu, CString::new(text)?.as_bytes_with_nul());
    code.is_one_of(&[Code::INVALID_PTX, Code::NO_BINARY_FOR_GPU, Code::UNSUPPORTED_PTX_VERSION])?;
    check_step(&gpu, gpu.module(kernels::BASIC)?)?;
    pass()
}

fn garbage_images_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let refused = [Code::INVALID_IMAGE, Code::INVALID_PTX, Code::INVALID_SOURCE, Code::NO_BINARY_FOR_GPU];
    let mut binary = vec![0u8; 65536];
    binary[..8].copy_from_slice(&[0x90, 0x91, 0x92, 0x93, 1, 2, 3, 4]);
    let (code, module) = load(&gpu, &binary);
    code.is_one_of(&refused)?;
    ensure!(module == 0, "a refused call wrote {module:#x}");
    let (code, _) = load(&gpu, b"this is no image at all\0");
    code.is_one_of(&refused)?;
    // An executable of another machine: this program's own header, with nothing behind it.
    let mut elf = vec![0u8; 65536];
    elf[..16].copy_from_slice(&[0x7F, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    elf[16..24].copy_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
    elf[52] = 64;
    let (code, _) = load(&gpu, &elf);
    code.is_one_of(&refused)?;
    check_step(&gpu, gpu.module(kernels::BASIC)?)?;
    pass()
}

fn a_missing_function_is_told() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::BASIC)?;
    let mut function = 7;
    gpu.cu.cuModuleGetFunction(&mut function, module, c"no_such_kernel".as_ptr()).is(Code::NOT_FOUND)?;
    gpu.cu
        .cuModuleGetFunction(&mut function, module, c"".as_ptr())
        .is_one_of(&[Code::NOT_FOUND, Code::INVALID_VALUE])?;
    ensure!([0, 7].contains(&function), "a refused call wrote {function:#x}");
    check_step(&gpu, module)?;
    pass()
}

/// A variable's address and size.
fn global(gpu: &Gpu, module: Handle, name: &std::ffi::CStr) -> Result<(u64, usize)> {
    let (mut pointer, mut bytes) = (0, 0);
    gpu.cu.cuModuleGetGlobal_v2(&mut pointer, &mut bytes, module, name.as_ptr()).ok()?;
    ensure!(pointer != 0, "{name:?} is at address 0");
    Ok((pointer, bytes))
}

/// What the kernel `read_globals` sees.
pub(crate) fn seen_by_kernel(gpu: &Gpu, function: Handle) -> Result<Vec<u32>> {
    let out = gpu.upload(&[0u32; 16])?;
    gpu.run(function, shape(1, 1), arguments![out])?;
    gpu.read(out, 16)
}

const INITIAL: [u32; 16] = [42, 10, 20, 30, 40, 0, 0, 0, 0, 67, 65, 42, 1, 2, 3, 5];

fn globals_are_found_and_initialized() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::MODULES)?;
    for (name, size) in
        [(c"answer", 4), (c"table", 32), (c"letters", 5), (c"where_answer_is", 8), (c"factors", 16)]
    {
        let (_, bytes) = global(&gpu, module, name)?;
        ensure!(bytes == size, "{name:?} has {bytes} bytes instead of {size}");
    }
    let answer = global(&gpu, module, c"answer")?.0;
    ensure!(gpu.read::<u32>(answer, 1)? == [42], "the variable is {:?}", gpu.read::<u32>(answer, 1)?);
    ensure!(
        gpu.read::<u64>(global(&gpu, module, c"where_answer_is")?.0, 1)? == [answer],
        "the address is another"
    );
    ensure!(gpu.read::<u8>(global(&gpu, module, c"letters")?.0, 5)? == *b"CUDA\0", "the letters are others");
    let (scratch, bytes) = global(&gpu, module, c"scratch")?;
    ensure!(gpu.read::<u8>(scratch, bytes)? == vec![0; 65536], "memory without a value is not zero");
    let seen = seen_by_kernel(&gpu, gpu.function(module, "read_globals")?)?;
    ensure!(seen == INITIAL, "the kernel sees {seen:?}");
    // Each place is optional.
    let (mut pointer, mut bytes) = (0, 0);
    gpu.cu.cuModuleGetGlobal_v2(&mut pointer, std::ptr::null_mut(), module, c"answer".as_ptr()).ok()?;
    gpu.cu.cuModuleGetGlobal_v2(std::ptr::null_mut(), &mut bytes, module, c"answer".as_ptr()).ok()?;
    ensure!((pointer, bytes) == (answer, 4), "{bytes} bytes at {pointer:#x}");
    pass()
}

fn globals_are_written_by_host_and_kernel() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::MODULES)?;
    let (read, write) = (gpu.function(module, "read_globals")?, gpu.function(module, "write_answer")?);
    gpu.write(global(&gpu, module, c"table")?.0, &[9u32, 8, 7, 6, 5, 4, 3, 2])?;
    gpu.write(global(&gpu, module, c"factors")?.0 + 4, &[77u32, 78])?;
    gpu.run(write, shape(1, 1), arguments![4711u32])?;
    let seen = seen_by_kernel(&gpu, read)?;
    let expected = [4711, 9, 8, 7, 6, 5, 4, 3, 2, 67, 65, 4711, 1, 77, 78, 5];
    ensure!(seen == expected, "the kernel sees {seen:?}");
    let answer = global(&gpu, module, c"answer")?.0;
    ensure!(gpu.read::<u32>(answer, 1)? == [4711], "the host sees {:?}", gpu.read::<u32>(answer, 1)?);
    pass()
}

fn a_missing_global_is_told() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::MODULES)?;
    let (mut pointer, mut bytes) = (7, 7);
    gpu.cu.cuModuleGetGlobal_v2(&mut pointer, &mut bytes, module, c"no_such".as_ptr()).is(Code::NOT_FOUND)?;
    gpu.cu
        .cuModuleGetGlobal_v2(&mut pointer, &mut bytes, module, c"read_globals".as_ptr())
        // A function's name is no variable's: driver 580 calls that invalid.
        .is_one_of(&[Code::NOT_FOUND, Code::INVALID_VALUE])?;
    ensure!(
        [0, 7].contains(&pointer) && [0, 7].contains(&bytes),
        "a refused call wrote {pointer:#x}, {bytes}"
    );
    pass()
}

fn unload_gives_globals_back() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::MODULES)?;
    gpu.cu.cuModuleUnload(module).ok()?;
    for _ in 0..50 {
        let module = gpu.module(kernels::MODULES)?;
        let answer = global(&gpu, module, c"answer")?.0;
        ensure!(gpu.read::<u32>(answer, 1)? == [42], "a fresh module's variable has an old value");
        gpu.write(answer, &[1u32])?;
        gpu.cu.cuModuleUnload(module).ok()?;
    }
    pass()
}

/// A fat container that holds this text.
pub(crate) fn container(text: &str) -> Vec<u8> {
    let mut payload = text.as_bytes().to_vec();
    payload.push(0);
    payload.resize(payload.len().next_multiple_of(8), 0);
    let size = u64::try_from(payload.len()).unwrap_or(0);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0xBA55_ED50u32.to_le_bytes());
    bytes.extend_from_slice(&1u16.to_le_bytes());
    bytes.extend_from_slice(&16u16.to_le_bytes());
    bytes.extend_from_slice(&(80 + size).to_le_bytes());
    // The entry: PTX of ISA 7.0 for compute 5.2, 64 bits, Linux, not compressed; behind its fields, where
    // the compiler's options are and that there are none.
    bytes.extend_from_slice(&1u16.to_le_bytes());
    bytes.extend_from_slice(&0x0101u16.to_le_bytes());
    bytes.extend_from_slice(&80u32.to_le_bytes());
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(&64u32.to_le_bytes());
    bytes.extend_from_slice(&0u16.to_le_bytes());
    bytes.extend_from_slice(&7u16.to_le_bytes());
    bytes.extend_from_slice(&52u32.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&0x11u64.to_le_bytes());
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&72u64.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&payload);
    bytes
}

fn a_fat_container_with_text() -> CaseResult {
    let gpu = Gpu::new()?;
    let image = container(kernels::BASIC);
    ensure!(image.len().is_multiple_of(8), "{} bytes", image.len());
    // Copied to memory that ends with the image: reading past its end would be a fault.
    let words: Vec<u64> =
        image.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).collect();
    let mut module = 0;
    gpu.cu.cuModuleLoadData(&mut module, words.as_ptr().cast()).ok()?;
    check_step(&gpu, module)?;
    gpu.cu.cuModuleLoadFatBinary(&mut module, words.as_ptr().cast()).ok()?;
    check_step(&gpu, module)?;
    pass()
}

fn compressed_fat_containers() -> CaseResult {
    let gpu = Gpu::new()?;
    if 10 * gpu.attribute(75)? + gpu.attribute(76)? < 75 {
        return skip("the containers are for compute capability 7.5 and later");
    }
    for image in [kernels::BASIC_LZ4, kernels::BASIC_ZSTD] {
        let words: Vec<u64> =
            image.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).collect();
        let mut module = 0;
        let code = gpu.cu.cuModuleLoadData(&mut module, words.as_ptr().cast());
        if [Code::NOT_SUPPORTED, Code::NO_BINARY_FOR_GPU].contains(&code) {
            return skip("this driver does not unpack containers");
        }
        code.ok()?;
        check_step(&gpu, module)?;
    }
    pass()
}

fn functions_are_counted_and_listed() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::MODULES)?;
    let mut count = 0;
    gpu.cu.cuModuleGetFunctionCount(&mut count, module).ok()?;
    ensure!(count == 2, "the module has {count} functions instead of 2");
    let mut functions = [0usize; 2];
    gpu.cu.cuModuleEnumerateFunctions(functions.as_mut_ptr(), 2, module).ok()?;
    let mut names = Vec::new();
    for function in functions {
        let mut name = std::ptr::null();
        gpu.cu.cuFuncGetName(&mut name, function).ok()?;
        names.push(crate::driver::text(name).unwrap_or_default());
        let mut owner = 0;
        gpu.cu.cuFuncGetModule(&mut owner, function).ok()?;
        ensure!(owner == module, "the function belongs to {owner:#x} instead of {module:#x}");
    }
    names.sort();
    ensure!(names == ["read_globals", "write_answer"], "the functions are {names:?}");
    pass()
}

fn load_in_one_thread_and_use_in_another() -> CaseResult {
    let gpu = Gpu::new()?;
    let in_thread = |body: &(dyn Fn() -> Result<Handle> + Sync)| {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
                    body()
                })
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })
    };
    let module = in_thread(&|| gpu.module(kernels::BASIC))?;
    let step = in_thread(&|| gpu.function(module, "step"))?;
    let cell = gpu.upload(&[2u32])?;
    in_thread(&|| gpu.run(step, shape(1, 1), arguments![cell, 5u32, 1u32]).map(|()| 0))?;
    gpu.run(step, shape(1, 1), arguments![cell, 5u32, 1u32])?;
    ensure!(gpu.read::<u32>(cell, 1)? == [56], "{:?} instead of 56", gpu.read::<u32>(cell, 1)?);
    in_thread(&|| gpu.cu.cuModuleUnload(module).ok().map(|()| 0))?;
    pass()
}

fn load_needs_a_context() -> CaseResult {
    let cu = initialized()?;
    let text = CString::new(kernels::BASIC)?;
    let mut module = 0;
    cu.cuModuleLoadData(&mut module, text.as_ptr().cast()).is(Code::INVALID_CONTEXT)?;
    ensure!(module == 0, "a refused call wrote {module:#x}");
    pass()
}

fn null_arguments_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = CString::new(kernels::BASIC)?;
    let mut module = 0;
    gpu.cu.cuModuleLoadData(&mut module, std::ptr::null()).is(Code::INVALID_VALUE)?;
    gpu.cu.cuModuleLoadData(std::ptr::null_mut(), text.as_ptr().cast()).is(Code::INVALID_VALUE)?;
    let module = gpu.module(kernels::BASIC)?;
    gpu.cu.cuModuleGetFunction(std::ptr::null_mut(), module, c"step".as_ptr()).is(Code::INVALID_VALUE)?;
    gpu.cu.cuModuleGetFunction(&mut 0, module, std::ptr::null()).is(Code::INVALID_VALUE)?;
    pass()
}

fn many_modules() -> CaseResult {
    let gpu = Gpu::new()?;
    let modules = (0..60).map(|_| gpu.module(kernels::BASIC)).collect::<Result<Vec<_>>>()?;
    for module in modules.iter().step_by(7) {
        check_step(&gpu, *module)?;
    }
    for module in modules {
        gpu.cu.cuModuleUnload(module).ok()?;
    }
    pass()
}

fn loading_mode_is_told() -> CaseResult {
    let cu = initialized()?;
    let mut mode = 0;
    cu.cuModuleGetLoadingMode(&mut mode).ok()?;
    // 1 is eager, 2 lazy: the environment or the driver's version decides.
    ensure!([1, 2].contains(&mode), "the loading mode is {mode}");
    pass()
}

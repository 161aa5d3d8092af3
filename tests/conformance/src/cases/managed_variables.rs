//! Managed variables of modules and libraries: the host's code uses them at the address that the driver tells.
//!
//! This file has unsafe code: it reads and writes what devices write, and the driver calls back.

use std::ffi::{CStr, CString, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use crate::driver::{Code, Handle};
use crate::gpu::{Gpu, arguments, shape, threads};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;
use crate::runner::slow_factor;

use super::captures::{captured, instantiated, some};
use super::kernels;

area!("managed_variables":
    host_and_kernels_change_a_variable,
    a_library_tells_size_and_address,
    attributes_of_a_variable,
    queries_bring_what_kernels_wrote,
    copies_and_fills_of_a_variable,
    a_host_function_sees_and_changes_it,
    a_graph_uses_it,
    parts_that_host_and_kernel_write_at_once,
    a_large_variable,
    a_module_that_is_loaded_again_begins_anew,
);

/// `CU_POINTER_ATTRIBUTE_IS_MANAGED`.
const IS_MANAGED: i32 = 8;
/// Nanoseconds after which a kernel gives up waiting.
const PATIENCE: u64 = 10_000_000_000;

/// A word that the device writes too.
fn word(address: u64, index: usize) -> Result<&'static AtomicU32> {
    let place = std::ptr::with_exposed_provenance_mut::<u32>(usize::try_from(address)?);
    // SAFETY: a word of a managed variable or of pinned memory, which lives as long as the case.
    Ok(unsafe { AtomicU32::from_ptr(place.wrapping_add(index)) })
}

fn get(address: u64, index: usize) -> Result<u32> {
    Ok(word(address, index)?.load(Ordering::SeqCst))
}

fn set(address: u64, index: usize, value: u32) -> Result<()> {
    word(address, index)?.store(value, Ordering::SeqCst);
    Ok(())
}

fn variable(gpu: &Gpu, module: Handle, name: &CStr) -> Result<(u64, usize)> {
    let (mut address, mut bytes) = (0, 0);
    gpu.cu.cuModuleGetGlobal_v2(&mut address, &mut bytes, module, name.as_ptr()).ok()?;
    Ok((address, bytes))
}

/// The module, its kernel `change`, and the address of `value`.
fn changed(gpu: &Gpu) -> Result<(Handle, Handle, u64)> {
    let module = gpu.module(kernels::MANAGED)?;
    let (value, bytes) = variable(gpu, module, c"value")?;
    ensure!(bytes == 4, "a word has {bytes} bytes");
    Ok((module, gpu.function(module, "change")?, value))
}

fn host_and_kernels_change_a_variable() -> CaseResult {
    let gpu = Gpu::new()?;
    let (module, change, value) = changed(&gpu)?;
    ensure!(get(value, 0)? == 5, "at first it is {}", get(value, 0)?);
    gpu.run(change, shape(1, 1), arguments![1u32, 37u32])?;
    ensure!(get(value, 0)? == 42, "after the kernel it is {}", get(value, 0)?);
    let mut expected = 42u32;
    for round in 0..20 {
        set(value, 0, get(value, 0)?.wrapping_mul(2))?;
        // The second launch comes without a wait, and without a change by the host.
        gpu.launch_on(0, change, shape(1, 1), arguments![3u32, 1u32]).ok()?;
        gpu.launch_on(0, change, shape(1, 1), arguments![1u32, 1u32]).ok()?;
        gpu.cu.cuStreamSynchronize(0).ok()?;
        expected = expected.wrapping_mul(6).wrapping_add(2);
        ensure!(get(value, 0)? == expected, "round {round}: {} instead of {expected}", get(value, 0)?);
    }
    let (words, bytes) = variable(&gpu, module, c"words")?;
    ensure!(bytes == 4096, "the array has {bytes} bytes");
    let first = [get(words, 0)?, get(words, 1)?, get(words, 2)?, get(words, 3)?];
    ensure!(first == [1, 2, 3, 0], "the array begins {first:?}");
    pass()
}

fn a_library_tells_size_and_address() -> CaseResult {
    let gpu = Gpu::new()?;
    let text = CString::new(kernels::MANAGED)?;
    let (mut library, mut module, mut kernel) = (0, 0, 0);
    let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
    let (options, values) = (std::ptr::null_mut(), std::ptr::null_mut());
    let image = text.as_ptr().cast();
    gpu.cu.cuLibraryLoadData(&mut library, image, none, nothing, 0, options, values, 0).ok()?;
    gpu.cu.cuLibraryGetModule(&mut module, library).ok()?;
    let (mut value, mut bytes) = (0, 0);
    gpu.cu.cuLibraryGetManaged(&mut value, &mut bytes, library, c"value".as_ptr()).ok()?;
    ensure!(value != 0 && bytes == 4, "{value:#x}, {bytes} bytes");
    let (mut large, mut large_bytes) = (0, 0);
    gpu.cu.cuLibraryGetManaged(&mut large, &mut large_bytes, library, c"large".as_ptr()).ok()?;
    ensure!(large_bytes == 8 << 20, "the large one has {large_bytes} bytes");
    let (mut other, mut other_bytes) = (0, 0);
    gpu.cu.cuLibraryGetGlobal(&mut other, &mut other_bytes, library, c"value".as_ptr()).ok()?;
    ensure!((other, other_bytes) == (value, 4), "as any variable it is at {other:#x}");
    ensure!(variable(&gpu, module, c"value")? == (value, 4), "its module has another");
    let (mut none, mut nothing) = (0, 0);
    let missing = gpu.cu.cuLibraryGetManaged(&mut none, &mut nothing, library, c"nothing".as_ptr());
    ensure!(missing == Code::NOT_FOUND, "a variable that is not there: {missing:?}");
    let plain = gpu.cu.cuLibraryGetManaged(&mut none, &mut nothing, library, c"plain".as_ptr());
    ensure!(plain == Code::NOT_FOUND, "a variable that is not managed: {plain:?}");
    gpu.cu.cuLibraryGetKernel(&mut kernel, library, c"change".as_ptr()).ok()?;
    set(value, 0, 100)?;
    gpu.run(kernel, shape(1, 1), arguments![2u32, 1u32])?;
    ensure!(get(value, 0)? == 201, "after the kernel it is {}", get(value, 0)?);
    gpu.cu.cuLibraryUnload(library).ok()?;
    pass()
}

fn attributes_of_a_variable() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::MANAGED)?;
    let (words, bytes) = variable(&gpu, module, c"words")?;
    let mut managed = 7u32;
    let inside = words + 1000;
    gpu.cu.cuPointerGetAttribute((&raw mut managed).cast(), IS_MANAGED, inside).ok()?;
    ensure!(managed == 1, "it is not managed");
    let mut kind = 0u32;
    gpu.cu.cuPointerGetAttribute((&raw mut kind).cast(), 2, inside).ok()?;
    ensure!(kind == 2, "its memory type is {kind}");
    for attribute in [3, 4] {
        let mut pointer = 0u64;
        gpu.cu.cuPointerGetAttribute((&raw mut pointer).cast(), attribute, inside).ok()?;
        ensure!(pointer == inside, "attribute {attribute} is {pointer:#x}");
    }
    let (mut base, mut length) = (0, 0);
    gpu.cu.cuMemGetAddressRange_v2(&mut base, &mut length, inside).ok()?;
    // A driver may have several variables in one allocation.
    let (end, last) = (base + u64::try_from(length)?, words + u64::try_from(bytes)?);
    ensure!(base <= words && last <= end, "it lies in {base:#x}, {length} bytes");
    let freed = gpu.cu.cuMemFree_v2(words);
    ensure!(freed != Code::SUCCESS, "a variable can be freed");
    let (plain, _) = variable(&gpu, module, c"plain")?;
    gpu.cu.cuPointerGetAttribute((&raw mut managed).cast(), IS_MANAGED, plain).ok()?;
    ensure!(managed == 0, "a plain variable is managed");
    pass()
}

fn queries_bring_what_kernels_wrote() -> CaseResult {
    let gpu = Gpu::new()?;
    let (_, change, value) = changed(&gpu)?;
    let (stream, event) = (gpu.stream(1)?, gpu.event(0)?);
    gpu.launch_on(stream, change, shape(1, 1), arguments![1u32, 1u32]).ok()?;
    while gpu.cu.cuStreamQuery(stream) == Code::NOT_READY {
        std::thread::yield_now();
    }
    ensure!(get(value, 0)? == 6, "after the stream's query it is {}", get(value, 0)?);
    gpu.launch_on(stream, change, shape(1, 1), arguments![1u32, 1u32]).ok()?;
    gpu.cu.cuEventRecord(event, stream).ok()?;
    while gpu.cu.cuEventQuery(event) == Code::NOT_READY {
        std::thread::yield_now();
    }
    ensure!(get(value, 0)? == 7, "after the event's query it is {}", get(value, 0)?);
    gpu.launch_on(stream, change, shape(1, 1), arguments![1u32, 1u32]).ok()?;
    gpu.cu.cuEventRecord(event, stream).ok()?;
    gpu.cu.cuEventSynchronize(event).ok()?;
    ensure!(get(value, 0)? == 8, "after the event it is {}", get(value, 0)?);
    gpu.launch_on(stream, change, shape(1, 1), arguments![1u32, 1u32]).ok()?;
    let code = std::thread::scope(|scope| {
        let waits = scope.spawn(|| -> Result<u32> {
            gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
            gpu.cu.cuStreamSynchronize(stream).ok()?;
            get(value, 0)
        });
        waits.join()
    });
    let seen = code.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    ensure!(seen == 9, "another thread that waited sees {seen}");
    pass()
}

fn copies_and_fills_of_a_variable() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::MANAGED)?;
    let (words, _) = variable(&gpu, module, c"words")?;
    let source: Vec<u32> = (0..1024).map(|index| index * 77).collect();
    gpu.write(words, &source)?;
    ensure!(get(words, 500)? == 38_500, "after an upload it is {}", get(words, 500)?);
    gpu.cu.cuMemsetD32_v2(words + 40, 123, 5).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    let found = [get(words, 9)?, get(words, 10)?, get(words, 14)?, get(words, 15)?];
    ensure!(found == [9 * 77, 123, 123, 15 * 77], "after a fill: {found:?}");
    set(words, 11, 4711)?;
    let device = gpu.alloc(4096)?;
    gpu.cu.cuMemcpyDtoD_v2(device, words, 4096).ok()?;
    let copied = gpu.read::<u32>(device, 12)?;
    ensure!(copied[10..] == [123, 4711], "the device copies {:?}", &copied[10..]);
    set(words, 12, 4712)?;
    let place = std::ptr::with_exposed_provenance::<c_void>(usize::try_from(words)?);
    gpu.cu.cuMemcpyHtoD_v2(device, place, 4096).ok()?;
    ensure!(gpu.read::<u32>(device, 13)?[12] == 4712, "as memory of the host it is older");
    pass()
}

/// Adds 1000 to a variable.
unsafe extern "C" fn add_thousand(data: *mut c_void) {
    // SAFETY: the case passes the variable, which lives until the stream is synchronised.
    let word = unsafe { AtomicU32::from_ptr(data.cast()) };
    word.fetch_add(1000, Ordering::SeqCst);
}

fn a_host_function_sees_and_changes_it() -> CaseResult {
    let gpu = Gpu::new()?;
    let (_, change, value) = changed(&gpu)?;
    let stream = gpu.stream(1)?;
    let place = std::ptr::with_exposed_provenance_mut(usize::try_from(value)?);
    let mut expected = 5u32;
    for _ in 0..10 {
        gpu.launch_on(stream, change, shape(1, 1), arguments![2u32, 1u32]).ok()?;
        let code = gpu.cu.cuLaunchHostFunc(stream, add_thousand, place);
        if code == Code::NOT_SUPPORTED {
            return skip("host functions are not supported yet");
        }
        code.ok()?;
        gpu.launch_on(stream, change, shape(1, 1), arguments![1u32, 1u32]).ok()?;
        expected = expected.wrapping_mul(2).wrapping_add(1002);
    }
    gpu.cu.cuStreamSynchronize(stream).ok()?;
    ensure!(get(value, 0)? == expected, "{} instead of {expected}", get(value, 0)?);
    pass()
}

fn a_graph_uses_it() -> CaseResult {
    let gpu = Gpu::new()?;
    let (_, change, value) = changed(&gpu)?;
    let (stream, copy) = (gpu.stream(1)?, gpu.upload(&[0u32])?);
    let graph = some!(captured(&gpu, stream, 0, || {
        gpu.launch_on(stream, change, shape(1, 1), arguments![2u32, 1u32]).ok()?;
        gpu.cu.cuMemcpyDtoDAsync_v2(copy, value, 4, stream).ok()
    })?);
    let exec = instantiated(&gpu, graph)?;
    for start in [10u32, 11, 100] {
        set(value, 0, start)?;
        gpu.cu.cuGraphLaunch(exec, stream).ok()?;
        gpu.cu.cuStreamSynchronize(stream).ok()?;
        let (found, copied) = (get(value, 0)?, gpu.read::<u32>(copy, 1)?);
        ensure!(found == 2 * start + 1 && copied == [found], "{found} and {copied:?} after {start}");
    }
    pass()
}

fn parts_that_host_and_kernel_write_at_once() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::MANAGED)?;
    let hold = gpu.function(module, "hold")?;
    let (words, _) = variable(&gpu, module, c"words")?;
    let (busy, other, device) = (gpu.stream(1)?, gpu.stream(1)?, gpu.alloc(64)?);
    let seen = u64::try_from(gpu.pinned(4096, 2)?.expose_provenance())?;
    // The first launch may load code, which may wait for other work.
    set(seen, 1, 1)?;
    gpu.run(hold, shape(1, 1), arguments![seen, 0u64])?;
    gpu.cu.cuMemsetD8_v2(words, 0, 4096).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    set(seen, 0, 0)?;
    set(seen, 1, 0)?;
    let patience = PATIENCE * u64::from(slow_factor());
    gpu.launch_on(busy, hold, shape(1, 1), arguments![seen, patience]).ok()?;
    while get(seen, 0)? == 0 {
        std::thread::yield_now();
    }
    // The kernel has written the lower halves and goes on; the upper halves are the host's.
    let base = std::ptr::with_exposed_provenance_mut::<u16>(usize::try_from(words)?);
    for index in 0..1000u16 {
        // SAFETY: inside the variable; the kernel does not write this half.
        unsafe { base.wrapping_add(2 * usize::from(index) + 1).write_volatile(index ^ 0x5a5a) };
    }
    set(words, 1023, 4711)?;
    // Calls at which the host's changes may go to the device, and what it wrote may come back.
    gpu.cu.cuMemsetD8Async(device, 1, 64, other).ok()?;
    gpu.cu.cuStreamSynchronize(other).ok()?;
    gpu.cu.cuMemsetD8Async(device, 2, 64, other).ok()?;
    set(seen, 1, 1)?;
    gpu.cu.cuStreamSynchronize(busy).ok()?;
    let copied = gpu.read::<u32>(words, 1024)?;
    for index in 0..1000u32 {
        let expected = (index ^ 0x5a5a) << 16 | (index + 1000);
        let found = get(words, usize::try_from(index)?)?;
        ensure!(found == expected, "word {index}: the host sees {found:#x} instead of {expected:#x}");
        let found = copied[usize::try_from(index)?];
        ensure!(found == expected, "word {index}: the device has {found:#x} instead of {expected:#x}");
    }
    let last = [get(words, 1022)?, get(words, 1023)?];
    ensure!(
        last == [7, 4711] && copied[1022..] == last,
        "the last words are {last:?}, {:?}",
        &copied[1022..]
    );
    pass()
}

fn a_large_variable() -> CaseResult {
    let gpu = Gpu::new()?;
    let module = gpu.module(kernels::MANAGED)?;
    let count_up = gpu.function(module, "count_up")?;
    let (large, bytes) = variable(&gpu, module, c"large")?;
    ensure!(bytes == 8 << 20, "it has {bytes} bytes");
    let count = if slow_factor() > 1 { 20_000 } else { bytes / 8 };
    let place = std::ptr::with_exposed_provenance_mut::<u64>(usize::try_from(large)?);
    // Small numbers, so that most bytes of a word stay the same: changes are many and short.
    for index in 0..count {
        // SAFETY: inside the variable, which no kernel uses now.
        unsafe { place.wrapping_add(index).write_volatile(u64::try_from(index % 200 + 1)?) };
    }
    let words = u32::try_from(count)?;
    for _ in 0..2 {
        gpu.run(count_up, threads(count), arguments![words])?;
    }
    for index in 0..count {
        // SAFETY: as above.
        let found = unsafe { place.wrapping_add(index).read_volatile() };
        let expected = u64::try_from(index % 200 + 3)?;
        ensure!(found == expected, "word {index} is {found} instead of {expected}");
    }
    pass()
}

fn a_module_that_is_loaded_again_begins_anew() -> CaseResult {
    let gpu = Gpu::new()?;
    for round in 0..5 {
        let (module, change, value) = changed(&gpu)?;
        ensure!(get(value, 0)? == 5, "round {round}: it begins as {}", get(value, 0)?);
        set(value, 0, 70)?;
        gpu.run(change, shape(1, 1), arguments![1u32, 7u32])?;
        ensure!(get(value, 0)? == 77, "round {round}: {}", get(value, 0)?);
        gpu.cu.cuModuleUnload(module).ok()?;
    }
    pass()
}

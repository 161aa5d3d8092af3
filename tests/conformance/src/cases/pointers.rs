//! What pointers say about themselves.
//!
//! This file has unsafe code: it allocates memory by its layout.

use std::ffi::c_void;

use anyhow::{Result, ensure};

use crate::driver::Code;
use crate::gpu::Gpu;
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

area!("pointers":
    device_memory_says_what_it_is,
    pinned_memory_says_what_it_is,
    inner_addresses_belong_to_their_range,
    plain_host_memory_is_refused_one_by_one,
    plain_host_memory_is_answered_in_a_list,
    a_list_is_as_the_single_answers,
    unknown_attributes_are_refused,
    freed_memory_is_refused,
    registered_memory_says_what_it_is,
    buffer_ids_are_unique,
    sync_memops_can_be_set,
    of_another_context,
);

const CONTEXT: i32 = 1;
const MEMORY_TYPE: i32 = 2;
const DEVICE_POINTER: i32 = 3;
const HOST_POINTER: i32 = 4;
const BUFFER_ID: i32 = 7;
const IS_MANAGED: i32 = 8;
const DEVICE_ORDINAL: i32 = 9;
const RANGE_START: i32 = 11;
const RANGE_SIZE: i32 = 12;
const MAPPED: i32 = 13;

/// One attribute as a number; 64 bits of which the driver writes what the attribute has.
fn ask(gpu: &Gpu, attribute: i32, pointer: u64) -> (Code, u64) {
    let mut value = 0u64;
    let code = gpu.cu.cuPointerGetAttribute((&raw mut value).cast(), attribute, pointer);
    (code, value)
}

#[track_caller]
fn expect(gpu: &Gpu, attribute: i32, pointer: u64, wanted: u64) -> Result<()> {
    let at = std::panic::Location::caller();
    let (code, value) = ask(gpu, attribute, pointer);
    ensure!(code == Code::SUCCESS, "{at}: attribute {attribute} of {pointer:#x}: {code:?}");
    ensure!(
        value == wanted,
        "{at}: attribute {attribute} of {pointer:#x} is {value:#x} instead of {wanted:#x}"
    );
    Ok(())
}

fn device_memory_says_what_it_is() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(10_000)?;
    expect(&gpu, MEMORY_TYPE, pointer, 2)?;
    expect(&gpu, CONTEXT, pointer, u64::try_from(gpu.context)?)?;
    expect(&gpu, DEVICE_POINTER, pointer, pointer)?;
    expect(&gpu, IS_MANAGED, pointer, 0)?;
    expect(&gpu, DEVICE_ORDINAL, pointer, 0)?;
    expect(&gpu, RANGE_START, pointer, pointer)?;
    expect(&gpu, RANGE_SIZE, pointer, 10_000)?;
    expect(&gpu, MAPPED, pointer, 1)?;
    let (code, _) = ask(&gpu, HOST_POINTER, pointer);
    code.is(Code::INVALID_VALUE)?;
    pass()
}

fn pinned_memory_says_what_it_is() -> CaseResult {
    let gpu = Gpu::new()?;
    let host = gpu.pinned(10_000, 2)?;
    let pointer = u64::try_from(host.expose_provenance())?;
    expect(&gpu, MEMORY_TYPE, pointer, 1)?;
    expect(&gpu, CONTEXT, pointer, u64::try_from(gpu.context)?)?;
    expect(&gpu, HOST_POINTER, pointer, pointer)?;
    expect(&gpu, DEVICE_POINTER, pointer, pointer)?;
    expect(&gpu, IS_MANAGED, pointer, 0)?;
    expect(&gpu, DEVICE_ORDINAL, pointer, 0)?;
    expect(&gpu, RANGE_START, pointer, pointer)?;
    let (code, size) = ask(&gpu, RANGE_SIZE, pointer);
    code.ok()?;
    ensure!((10_000..=16_384).contains(&size), "the range has {size} bytes");
    pass()
}

fn inner_addresses_belong_to_their_range() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(10_000)?;
    for offset in [1, 5000, 9_999] {
        expect(&gpu, MEMORY_TYPE, pointer + offset, 2)?;
        expect(&gpu, DEVICE_POINTER, pointer + offset, pointer + offset)?;
        expect(&gpu, RANGE_START, pointer + offset, pointer)?;
        expect(&gpu, RANGE_SIZE, pointer + offset, 10_000)?;
    }
    pass()
}

fn plain_host_memory_is_refused_one_by_one() -> CaseResult {
    let gpu = Gpu::new()?;
    let local = Box::new(7u64);
    let address = u64::try_from((&raw const *local).expose_provenance())?;
    for attribute in [CONTEXT, MEMORY_TYPE, DEVICE_POINTER, HOST_POINTER, BUFFER_ID, IS_MANAGED] {
        ask(&gpu, attribute, address).0.is(Code::INVALID_VALUE)?;
        ask(&gpu, attribute, 0).0.is(Code::INVALID_VALUE)?;
    }
    pass()
}

/// The answers of the plural form to six attributes, as runtimes ask them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answers {
    context: usize,
    memory_type: u32,
    device_pointer: u64,
    host_pointer: usize,
    managed: u32,
    ordinal: i32,
}

fn ask_list(gpu: &Gpu, pointer: u64) -> Result<Answers> {
    let mut answers = Answers { memory_type: 77, managed: 77, ordinal: 77, ..Answers::default() };
    let mut attributes = [CONTEXT, MEMORY_TYPE, DEVICE_POINTER, HOST_POINTER, IS_MANAGED, DEVICE_ORDINAL];
    let mut data: [*mut c_void; 6] = [
        (&raw mut answers.context).cast(),
        (&raw mut answers.memory_type).cast(),
        (&raw mut answers.device_pointer).cast(),
        (&raw mut answers.host_pointer).cast(),
        (&raw mut answers.managed).cast(),
        (&raw mut answers.ordinal).cast(),
    ];
    gpu.cu.cuPointerGetAttributes(6, attributes.as_mut_ptr(), data.as_mut_ptr(), pointer).ok()?;
    // The booleans are one byte in the driver's eyes: the rest of the word is this function's own.
    answers.managed &= 0xFF;
    Ok(answers)
}

fn plain_host_memory_is_answered_in_a_list() -> CaseResult {
    let gpu = Gpu::new()?;
    let local = Box::new(7u64);
    let address = (&raw const *local).expose_provenance();
    let told = ask_list(&gpu, u64::try_from(address)?)?;
    ensure!(told.context == 0 && told.memory_type == 0, "{told:?}");
    ensure!(told.device_pointer == 0 && [0, address].contains(&told.host_pointer), "{told:?}");
    ensure!(told.managed == 0, "{told:?}");
    // No device: told as the number of no device at all.
    ensure!([0, -1, -2].contains(&told.ordinal), "{told:?}");
    pass()
}

fn a_list_is_as_the_single_answers() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(4096)?;
    let told = ask_list(&gpu, pointer)?;
    let expected = Answers {
        context: gpu.context,
        memory_type: 2,
        device_pointer: pointer,
        host_pointer: 0,
        managed: 0,
        ordinal: 0,
    };
    ensure!(told == expected, "{told:?} instead of {expected:?}");
    let host = gpu.pinned(4096, 2)?.expose_provenance();
    let told = ask_list(&gpu, u64::try_from(host)?)?;
    let expected = Answers {
        context: gpu.context,
        memory_type: 1,
        device_pointer: u64::try_from(host)?,
        host_pointer: host,
        managed: 0,
        ordinal: 0,
    };
    ensure!(told == expected, "{told:?} instead of {expected:?}");
    pass()
}

fn unknown_attributes_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(4096)?;
    for attribute in [0, -1, 5000] {
        let (code, _) = ask(&gpu, attribute, pointer);
        code.is_one_of(&[Code::INVALID_VALUE, Code::NOT_SUPPORTED])?;
    }
    gpu.cu.cuPointerGetAttribute(std::ptr::null_mut(), MEMORY_TYPE, pointer).is(Code::INVALID_VALUE)?;
    pass()
}

fn freed_memory_is_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(32 << 20)?;
    gpu.cu.cuMemFree_v2(pointer).ok()?;
    ask(&gpu, MEMORY_TYPE, pointer).0.is(Code::INVALID_VALUE)?;
    ask(&gpu, RANGE_START, pointer).0.is(Code::INVALID_VALUE)?;
    pass()
}

fn registered_memory_says_what_it_is() -> CaseResult {
    let gpu = Gpu::new()?;
    let layout = std::alloc::Layout::from_size_align(16_384, 4096)?;
    // SAFETY: the layout is not empty.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) };
    let pointer = u64::try_from(memory.expose_provenance())?;
    ask(&gpu, MEMORY_TYPE, pointer).0.is(Code::INVALID_VALUE)?;
    gpu.cu.cuMemHostRegister_v2(memory.cast(), 16_384, 2).ok()?;
    expect(&gpu, MEMORY_TYPE, pointer, 1)?;
    expect(&gpu, HOST_POINTER, pointer + 100, pointer + 100)?;
    gpu.cu.cuMemHostUnregister(memory.cast()).ok()?;
    ask(&gpu, MEMORY_TYPE, pointer).0.is(Code::INVALID_VALUE)?;
    pass()
}

fn buffer_ids_are_unique() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut seen = Vec::new();
    for _ in 0..20 {
        let pointer = gpu.alloc(4096)?;
        let (code, id) = ask(&gpu, BUFFER_ID, pointer);
        code.ok()?;
        ensure!(!seen.contains(&id), "the id {id} is there twice");
        ensure!(ask(&gpu, BUFFER_ID, pointer + 100) == (Code::SUCCESS, id), "the id depends on the offset");
        seen.push(id);
        // Memory at an old address is a new buffer.
        gpu.cu.cuMemFree_v2(pointer).ok()?;
    }
    pass()
}

fn sync_memops_can_be_set() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(4096)?;
    let (code, before) = ask(&gpu, 6, pointer);
    code.ok()?;
    ensure!(before == 0, "synchronous operations are {before} at first");
    let on = 1u32;
    let code = gpu.cu.cuPointerSetAttribute((&raw const on).cast(), 6, pointer);
    if code == Code::NOT_SUPPORTED {
        return crate::outcome::skip("pointer attributes cannot be set yet");
    }
    code.ok()?;
    expect(&gpu, 6, pointer, 1)?;
    pass()
}

fn of_another_context() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.alloc(4096)?;
    let mut other = 0;
    gpu.cu.cuCtxCreate_v2(&mut other, 0, gpu.device).ok()?;
    let own = gpu.alloc(4096)?;
    expect(&gpu, CONTEXT, pointer, u64::try_from(gpu.context)?)?;
    expect(&gpu, CONTEXT, own, u64::try_from(other)?)?;
    pass()
}

//! Initialization, versions, and what may be asked before.

use anyhow::{Result, ensure};

use crate::driver::{Code, NAMES, driver, text};
use crate::gpu::first_device;
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

area!("init":
    version_is_known_before_init,
    everything_else_before_init_is_refused,
    bad_flags_are_refused,
    init_is_repeatable,
    init_from_many_threads_at_once,
    version_needs_a_place,
    error_names_of_all_codes,
    error_strings_of_all_codes,
    unknown_codes_have_no_name,
    error_texts_are_stable_and_known_before_init,
);

fn version_is_known_before_init() -> CaseResult {
    let cu = driver()?;
    let mut before = 0;
    cu.cuDriverGetVersion(&mut before).ok()?;
    ensure!(before >= 12040 && before % 10 == 0, "the driver's version is {before}");
    cu.cuInit(0).ok()?;
    let mut after = 0;
    cu.cuDriverGetVersion(&mut after).ok()?;
    ensure!(before == after, "the version was {before} and became {after}");
    pass()
}

fn everything_else_before_init_is_refused() -> CaseResult {
    let cu = driver()?;
    let refused = Code::NOT_INITIALIZED;
    let mut number = -7;
    cu.cuDeviceGetCount(&mut number).is(refused)?;
    cu.cuDeviceGet(&mut number, 0).is(refused)?;
    cu.cuDeviceGetAttribute(&mut number, 1, 0).is(refused)?;
    ensure!(number == -7, "a refused call wrote {number}");
    let mut name = [0x55; 8];
    cu.cuDeviceGetName(name.as_mut_ptr(), 8, 0).is(refused)?;
    ensure!(name == [0x55; 8], "a refused call wrote a name");
    let mut handle = 99;
    cu.cuCtxGetCurrent(&mut handle).is(refused)?;
    cu.cuDevicePrimaryCtxRetain(&mut handle, 0).is(refused)?;
    cu.cuCtxCreate_v2(&mut handle, 0, 0).is(refused)?;
    cu.cuStreamCreate(&mut handle, 0).is(refused)?;
    cu.cuEventCreate(&mut handle, 0).is(refused)?;
    // A driver may clear the place, but must not hand out anything.
    ensure!([99, 0, usize::MAX].contains(&handle), "a refused call wrote the handle {handle:#x}");
    let mut pointer = 99;
    cu.cuMemAlloc_v2(&mut pointer, 16).is(refused)?;
    ensure!(pointer == 99 || pointer == 0, "a refused call wrote the pointer {pointer:#x}");
    cu.cuMemFree_v2(0x1000).is(refused)?;
    cu.cuCtxSynchronize().is(refused)?;
    cu.cuStreamSynchronize(0).is(refused)?;
    cu.cuCtxSetCurrent(0).is(refused)?;
    cu.cuInit(0).ok()?;
    cu.cuDeviceGetCount(&mut number).ok()?;
    ensure!(number >= 1, "{number} devices");
    pass()
}

fn bad_flags_are_refused() -> CaseResult {
    let cu = driver()?;
    cu.cuInit(1).is(Code::INVALID_VALUE)?;
    cu.cuInit(u32::MAX).is(Code::INVALID_VALUE)?;
    let mut count = -7;
    cu.cuDeviceGetCount(&mut count).is(Code::NOT_INITIALIZED)?;
    cu.cuInit(0).ok()?;
    pass()
}

fn init_is_repeatable() -> CaseResult {
    let (cu, device) = first_device()?;
    for _ in 0..100 {
        cu.cuInit(0).ok()?;
    }
    let mut same = -1;
    cu.cuDeviceGet(&mut same, 0).ok()?;
    ensure!(same == device, "device 0 was {device} and became {same}");
    pass()
}

fn init_from_many_threads_at_once() -> CaseResult {
    let cu = driver()?;
    let barrier = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| -> Result<i32> {
                    barrier.wait();
                    cu.cuInit(0).ok()?;
                    let mut count = 0;
                    cu.cuDeviceGetCount(&mut count).ok()?;
                    Ok(count)
                })
            })
            .collect();
        for thread in threads {
            let count = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            ensure!(count >= 1, "{count} devices");
        }
        pass()
    })
}

fn version_needs_a_place() -> CaseResult {
    driver()?.cuDriverGetVersion(std::ptr::null_mut()).is(Code::INVALID_VALUE)?;
    pass()
}

/// Codes that came with CUDA 12.5 and later: older drivers may not know them.
const YOUNG: &[i32] = &[229, 230, 821, 911, 912, 913, 914, 915, 916];

fn error_names_of_all_codes() -> CaseResult {
    let cu = driver()?;
    for (value, name) in NAMES {
        let mut pointer = std::ptr::null();
        let code = cu.cuGetErrorName(*value, &mut pointer);
        if code == Code::INVALID_VALUE && YOUNG.contains(value) {
            continue;
        }
        code.ok()?;
        let told = text(pointer);
        ensure!(told.as_deref() == Some(name), "code {value} is named {told:?} instead of {name}");
    }
    pass()
}

fn error_strings_of_all_codes() -> CaseResult {
    let cu = driver()?;
    for (value, name) in NAMES {
        let mut pointer = std::ptr::null();
        let code = cu.cuGetErrorString(*value, &mut pointer);
        if code == Code::INVALID_VALUE && YOUNG.contains(value) {
            continue;
        }
        code.ok()?;
        let told = text(pointer).unwrap_or_default();
        ensure!(told.len() >= 5, "{name} is described as {told:?}");
    }
    let mut pointer = std::ptr::null();
    cu.cuGetErrorString(1, &mut pointer).ok()?;
    ensure!(
        text(pointer).as_deref() == Some("invalid argument"),
        "code 1 is described as {:?}",
        text(pointer)
    );
    pass()
}

fn unknown_codes_have_no_name() -> CaseResult {
    let cu = driver()?;
    for value in [-1, 998, 1000, 123_456, i32::MAX, i32::MIN] {
        let mut pointer = c"untouched".as_ptr();
        cu.cuGetErrorName(value, &mut pointer).is(Code::INVALID_VALUE)?;
        ensure!(pointer.is_null(), "the unknown code {value} has the name {:?}", text(pointer));
        let mut pointer = c"untouched".as_ptr();
        cu.cuGetErrorString(value, &mut pointer).is(Code::INVALID_VALUE)?;
        ensure!(pointer.is_null(), "the unknown code {value} is described as {:?}", text(pointer));
    }
    pass()
}

fn error_texts_are_stable_and_known_before_init() -> CaseResult {
    let cu = driver()?;
    let mut before = std::ptr::null();
    cu.cuGetErrorName(700, &mut before).ok()?;
    cu.cuInit(0).ok()?;
    let mut after = std::ptr::null();
    cu.cuGetErrorName(700, &mut after).ok()?;
    ensure!(before == after, "the name of a code moved");
    ensure!(text(before).as_deref() == Some("CUDA_ERROR_ILLEGAL_ADDRESS"), "code 700 is {:?}", text(before));
    pass()
}

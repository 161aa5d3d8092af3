//! Contexts: primary and explicit, stacks of threads, limits, identity.

use anyhow::{Result, anyhow, ensure};

use crate::driver::{Code, CtxCreateParams, Driver, Handle};
use crate::gpu::{Gpu, first_device, version};
use crate::outcome::{CaseResult, pass, skip};
use crate::registry::area;

use super::copies::there_and_back;

area!("contexts":
    no_context_is_current_at_first,
    calls_without_a_context_are_refused,
    primary_retain_is_counted,
    primary_handle_is_the_same_for_all_threads,
    primary_is_not_made_current_by_retain,
    too_many_releases_are_refused,
    primary_flags_before_and_while_active,
    bad_primary_flags_are_refused,
    primary_reset_frees_memory,
    large_copies_in_contexts_that_come_and_go,
    pinned_memory_goes_with_its_context,
    create_makes_current_and_destroy_pops,
    create_v3_and_v4_without_parameters,
    bad_create_flags_are_refused,
    a_destroyed_context_is_not_current,
    the_stack_pushes_and_pops,
    pop_of_an_empty_stack_is_refused,
    set_current_replaces_the_top,
    set_current_null_clears_the_top,
    threads_have_stacks_of_their_own,
    one_context_serves_many_threads,
    ids_are_unique_and_stable,
    api_version_of_a_context,
    device_of_a_context,
    device_of_a_given_context,
    synchronize_a_given_context,
    flags_of_the_current_context,
    limits_are_set_and_read,
    bad_limits_are_refused,
    cache_config_is_kept_or_ignored,
    priority_range_has_an_order,
    memory_of_a_destroyed_context_is_gone,
    destroyed_while_current_elsewhere,
);

/// The current context.
#[track_caller]
fn current(cu: &Driver) -> Result<Handle> {
    let mut context = 99;
    cu.cuCtxGetCurrent(&mut context).ok()?;
    Ok(context)
}

#[track_caller]
fn expect_current(cu: &Driver, wanted: Handle) -> Result<()> {
    let at = std::panic::Location::caller();
    let found = current(cu)?;
    ensure!(found == wanted, "{at}: the current context is {found:#x} instead of {wanted:#x}");
    Ok(())
}

#[track_caller]
fn create(cu: &Driver, device: i32) -> Result<Handle> {
    let mut context = 0;
    cu.cuCtxCreate_v2(&mut context, 0, device).ok()?;
    ensure!(context != 0, "a new context is a null handle");
    Ok(context)
}

fn state(cu: &Driver, device: i32) -> Result<(u32, i32)> {
    let (mut flags, mut active) = (77, 77);
    cu.cuDevicePrimaryCtxGetState(device, &mut flags, &mut active).ok()?;
    Ok((flags, active))
}

/// Runs a question on a thread of its own.
fn on_a_thread<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(body).join().map_err(|_| anyhow!("a thread panicked"))?)
}

fn no_context_is_current_at_first() -> CaseResult {
    let (cu, device) = first_device()?;
    expect_current(cu, 0)?;
    ensure!(state(cu, device)? == (0, 0), "the primary context's first state is {:?}", state(cu, device)?);
    pass()
}

fn calls_without_a_context_are_refused() -> CaseResult {
    let (cu, _) = first_device()?;
    let refused = Code::INVALID_CONTEXT;
    let (mut pointer, mut handle) = (7, 7);
    cu.cuMemAlloc_v2(&mut pointer, 16).is(refused)?;
    cu.cuCtxGetDevice(&mut -7).is(refused)?;
    cu.cuCtxGetFlags(&mut 7).is(refused)?;
    cu.cuCtxSynchronize().is(refused)?;
    cu.cuCtxGetLimit(&mut 7, 0).is(refused)?;
    cu.cuStreamCreate(&mut handle, 0).is(refused)?;
    cu.cuEventCreate(&mut handle, 0).is(refused)?;
    cu.cuMemGetInfo_v2(&mut 7, &mut 7).is(refused)?;
    cu.cuModuleLoadData(&mut handle, c".version 7.0".as_ptr().cast()).is(refused)?;
    let mut host = std::ptr::null_mut();
    cu.cuMemHostAlloc(&mut host, 4096, 0).is(refused)?;
    // A driver may clear the places, but must not hand out anything.
    let clean = [0, 7].contains(&pointer) && [0, 7, usize::MAX].contains(&handle) && host.is_null();
    ensure!(clean, "a refused call wrote its result: {pointer:#x}, {handle:#x}, {host:?}");
    pass()
}

fn primary_retain_is_counted() -> CaseResult {
    let (cu, device) = first_device()?;
    let (mut first, mut second) = (0, 0);
    cu.cuDevicePrimaryCtxRetain(&mut first, device).ok()?;
    cu.cuDevicePrimaryCtxRetain(&mut second, device).ok()?;
    ensure!(first != 0 && first == second, "two retains gave {first:#x} and {second:#x}");
    ensure!(state(cu, device)?.1 == 1, "a retained context is not active");
    cu.cuDevicePrimaryCtxRelease_v2(device).ok()?;
    ensure!(state(cu, device)?.1 == 1, "one release of two ended the context");
    cu.cuDevicePrimaryCtxRelease_v2(device).ok()?;
    ensure!(state(cu, device)?.1 == 0, "the last release left the context active");
    pass()
}

fn primary_handle_is_the_same_for_all_threads() -> CaseResult {
    let gpu = Gpu::new()?;
    for _ in 0..4 {
        let other = on_a_thread(|| {
            let mut context = 0;
            gpu.cu.cuDevicePrimaryCtxRetain(&mut context, gpu.device).ok()?;
            gpu.cu.cuDevicePrimaryCtxRelease_v2(gpu.device).ok()?;
            Ok(context)
        })?;
        ensure!(other == gpu.context, "another thread got {other:#x} instead of {:#x}", gpu.context);
    }
    pass()
}

fn primary_is_not_made_current_by_retain() -> CaseResult {
    let (cu, device) = first_device()?;
    let mut context = 0;
    cu.cuDevicePrimaryCtxRetain(&mut context, device).ok()?;
    expect_current(cu, 0)?;
    pass()
}

fn too_many_releases_are_refused() -> CaseResult {
    let (cu, device) = first_device()?;
    cu.cuDevicePrimaryCtxRelease_v2(device).is(Code::INVALID_CONTEXT)?;
    let mut context = 0;
    cu.cuDevicePrimaryCtxRetain(&mut context, device).ok()?;
    cu.cuDevicePrimaryCtxRelease_v2(device).ok()?;
    cu.cuDevicePrimaryCtxRelease_v2(device).is(Code::INVALID_CONTEXT)?;
    pass()
}

fn primary_flags_before_and_while_active() -> CaseResult {
    let (cu, device) = first_device()?;
    cu.cuDevicePrimaryCtxSetFlags_v2(device, 4).ok()?;
    ensure!(state(cu, device)? == (4, 0), "flags set while inactive: {:?}", state(cu, device)?);
    let gpu = Gpu::new()?;
    ensure!(state(cu, device)? == (4, 1), "flags after the retain: {:?}", state(cu, device)?);
    let mut flags = 0;
    cu.cuCtxGetFlags(&mut flags).ok()?;
    ensure!(flags & 7 == 4, "the context's flags are {flags:#x}");
    // Since CUDA 11 the flags of an active context may be changed; before, that was an error.
    let code = gpu.cu.cuDevicePrimaryCtxSetFlags_v2(device, 1);
    code.is_one_of(&[Code::SUCCESS, Code::PRIMARY_CONTEXT_ACTIVE])?;
    if code == Code::SUCCESS {
        ensure!(state(cu, device)? == (1, 1), "flags set while active: {:?}", state(cu, device)?);
    }
    pass()
}

fn bad_primary_flags_are_refused() -> CaseResult {
    let (cu, device) = first_device()?;
    cu.cuDevicePrimaryCtxSetFlags_v2(device, 0x8000_0000).is(Code::INVALID_VALUE)?;
    cu.cuDevicePrimaryCtxSetFlags_v2(device, 3).is(Code::INVALID_VALUE)?;
    ensure!(state(cu, device)? == (0, 0), "refused flags were kept: {:?}", state(cu, device)?);
    pass()
}

fn primary_reset_frees_memory() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[1u32, 2, 3])?;
    gpu.cu.cuDevicePrimaryCtxReset_v2(gpu.device).ok()?;
    ensure!(state(gpu.cu, gpu.device)?.1 == 0, "a reset context is active");
    let mut context = 0;
    gpu.cu.cuDevicePrimaryCtxRetain(&mut context, gpu.device).ok()?;
    gpu.cu.cuCtxSetCurrent(context).ok()?;
    // The old pointer belongs to nobody now.
    gpu.cu.cuMemFree_v2(pointer).is(Code::INVALID_VALUE)?;
    let again = gpu.upload(&[4u32])?;
    ensure!(gpu.read::<u32>(again, 1)? == [4], "memory after a reset does not hold its value");
    pass()
}

fn large_copies_in_contexts_that_come_and_go() -> CaseResult {
    let gpu = Gpu::new()?;
    let large = |seed| -> Result<()> {
        let bytes = (8 << 20) + 77;
        let device = gpu.alloc(bytes)?;
        there_and_back(&gpu, device, bytes, seed)?;
        gpu.pinned(4 << 20, 0).map(|_| ())
    };
    for round in 0..4 {
        large(round)?;
        let own = create(gpu.cu, gpu.device)?;
        large(10 + round)?;
        gpu.cu.cuCtxDestroy_v2(own).ok()?;
        large(20 + round)?;
        if round % 2 == 0 {
            gpu.cu.cuDevicePrimaryCtxReset_v2(gpu.device).ok()?;
        } else {
            gpu.cu.cuDevicePrimaryCtxRelease_v2(gpu.device).ok()?;
        }
        ensure!(state(gpu.cu, gpu.device)?.1 == 0, "the primary context is active after its end");
        let mut context = 0;
        gpu.cu.cuDevicePrimaryCtxRetain(&mut context, gpu.device).ok()?;
        gpu.cu.cuCtxSetCurrent(context).ok()?;
    }
    pass()
}

fn pinned_memory_goes_with_its_context() -> CaseResult {
    let gpu = Gpu::new()?;
    let device = gpu.alloc(4 << 20)?;
    for _ in 0..3 {
        let own = create(gpu.cu, gpu.device)?;
        for _ in 0..2 {
            gpu.pinned(4 << 20, 0)?;
        }
        gpu.cu.cuCtxDestroy_v2(own).ok()?;
        let pinned = gpu.pinned(4 << 20, 0)?;
        gpu.cu.cuMemcpyHtoD_v2(device, pinned.cast(), 4 << 20).ok()?;
        gpu.cu.cuMemFreeHost(pinned.cast()).ok()?;
    }
    pass()
}

fn create_makes_current_and_destroy_pops() -> CaseResult {
    let (cu, device) = first_device()?;
    let first = create(cu, device)?;
    expect_current(cu, first)?;
    let second = create(cu, device)?;
    ensure!(first != second, "two contexts have one handle");
    expect_current(cu, second)?;
    cu.cuCtxDestroy_v2(second).ok()?;
    expect_current(cu, first)?;
    cu.cuCtxDestroy_v2(first).ok()?;
    expect_current(cu, 0)?;
    ensure!(state(cu, device)?.1 == 0, "explicit contexts made the primary one active");
    pass()
}

fn create_v3_and_v4_without_parameters() -> CaseResult {
    let (cu, device) = first_device()?;
    let mut context = 0;
    cu.cuCtxCreate_v3(&mut context, std::ptr::null_mut(), 0, 4, device).ok()?;
    expect_current(cu, context)?;
    let mut flags = 0;
    cu.cuCtxGetFlags(&mut flags).ok()?;
    ensure!(flags & 7 == 4, "the context's flags are {flags:#x}");
    cu.cuCtxDestroy_v2(context).ok()?;
    if version()? < 12050 {
        return skip("cuCtxCreate_v4 is younger than this driver");
    }
    cu.cuCtxCreate_v4(&mut context, std::ptr::null_mut(), 0, device).ok()?;
    expect_current(cu, context)?;
    cu.cuCtxDestroy_v2(context).ok()?;
    let mut parameters =
        CtxCreateParams { affinity: std::ptr::null_mut(), affinity_count: 0, cig: std::ptr::null_mut() };
    cu.cuCtxCreate_v4(&mut context, &mut parameters, 0, device).ok()?;
    expect_current(cu, context)?;
    cu.cuCtxDestroy_v2(context).ok()?;
    expect_current(cu, 0)?;
    pass()
}

fn bad_create_flags_are_refused() -> CaseResult {
    let (cu, device) = first_device()?;
    let mut context = 7;
    cu.cuCtxCreate_v2(&mut context, 0x8000_0000, device).is(Code::INVALID_VALUE)?;
    cu.cuCtxCreate_v2(&mut context, 3, device).is(Code::INVALID_VALUE)?;
    cu.cuCtxCreate_v2(std::ptr::null_mut(), 0, device).is(Code::INVALID_VALUE)?;
    expect_current(cu, 0)?;
    pass()
}

fn a_destroyed_context_is_not_current() -> CaseResult {
    // What a second use of the handle does is asked in `handles`, because native drivers may crash on it.
    let (cu, device) = first_device()?;
    let context = create(cu, device)?;
    cu.cuCtxDestroy_v2(context).ok()?;
    expect_current(cu, 0)?;
    let mut pointer = 0;
    cu.cuMemAlloc_v2(&mut pointer, 16).is(Code::INVALID_CONTEXT)?;
    ensure!(pointer == 0, "a destroyed context gave memory at {pointer:#x}");
    pass()
}

fn the_stack_pushes_and_pops() -> CaseResult {
    let (cu, device) = first_device()?;
    let first = create(cu, device)?;
    let second = create(cu, device)?;
    let mut popped = 0;
    cu.cuCtxPopCurrent_v2(&mut popped).ok()?;
    ensure!(popped == second, "popped {popped:#x} instead of {second:#x}");
    expect_current(cu, first)?;
    for _ in 0..20 {
        cu.cuCtxPushCurrent_v2(second).ok()?;
        cu.cuCtxPushCurrent_v2(first).ok()?;
    }
    for _ in 0..20 {
        cu.cuCtxPopCurrent_v2(&mut popped).ok()?;
        ensure!(popped == first, "popped {popped:#x} instead of {first:#x}");
        // The place is optional.
        cu.cuCtxPopCurrent_v2(std::ptr::null_mut()).ok()?;
    }
    expect_current(cu, first)?;
    pass()
}

fn pop_of_an_empty_stack_is_refused() -> CaseResult {
    let (cu, _) = first_device()?;
    let mut popped = 7;
    cu.cuCtxPopCurrent_v2(&mut popped).is(Code::INVALID_CONTEXT)?;
    ensure!(popped == 7, "a refused call wrote {popped:#x}");
    pass()
}

fn set_current_replaces_the_top() -> CaseResult {
    let (cu, device) = first_device()?;
    let first = create(cu, device)?;
    let second = create(cu, device)?;
    cu.cuCtxSetCurrent(first).ok()?;
    expect_current(cu, first)?;
    let mut popped = 0;
    cu.cuCtxPopCurrent_v2(&mut popped).ok()?;
    ensure!(popped == first, "popped {popped:#x} instead of {first:#x}");
    // Below the replaced top lies the context that was created first.
    expect_current(cu, first)?;
    cu.cuCtxDestroy_v2(second).ok()?;
    expect_current(cu, first)?;
    pass()
}

fn set_current_null_clears_the_top() -> CaseResult {
    let gpu = Gpu::new()?;
    gpu.cu.cuCtxSetCurrent(0).ok()?;
    expect_current(gpu.cu, 0)?;
    gpu.cu.cuCtxSynchronize().is(Code::INVALID_CONTEXT)?;
    gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    pass()
}

fn threads_have_stacks_of_their_own() -> CaseResult {
    let gpu = Gpu::new()?;
    on_a_thread(|| {
        expect_current(gpu.cu, 0)?;
        gpu.cu.cuMemAlloc_v2(&mut 0, 16).is(Code::INVALID_CONTEXT)?;
        let own = create(gpu.cu, gpu.device)?;
        expect_current(gpu.cu, own)
    })?;
    expect_current(gpu.cu, gpu.context)?;
    pass()
}

fn one_context_serves_many_threads() -> CaseResult {
    let gpu = Gpu::new()?;
    let pointer = gpu.upload(&[5u32; 8])?;
    for round in 0..8u32 {
        on_a_thread(|| {
            gpu.cu.cuCtxSetCurrent(gpu.context).ok()?;
            let before: Vec<u32> = gpu.read(pointer, 8)?;
            ensure!(before == [5 + round; 8], "thread {round} reads {before:?}");
            gpu.write(pointer, &[6 + round; 8])
        })?;
    }
    ensure!(gpu.read::<u32>(pointer, 8)? == [13; 8], "the last thread's values are not there");
    pass()
}

fn ids_are_unique_and_stable() -> CaseResult {
    let (cu, device) = first_device()?;
    let (first, second) = (create(cu, device)?, create(cu, device)?);
    let id = |context| -> Result<u64> {
        let mut id = 0;
        cu.cuCtxGetId(context, &mut id).ok()?;
        Ok(id)
    };
    ensure!(id(first)? != id(second)?, "two contexts have the id {}", id(first)?);
    ensure!(id(0)? == id(second)?, "null means the current context");
    ensure!(on_a_thread(|| id(first))? == id(first)?, "the id depends on the thread");
    let gone = id(second)?;
    cu.cuCtxDestroy_v2(second).ok()?;
    let third = create(cu, device)?;
    ensure!(id(third)? != gone, "the id {gone} was given again");
    pass()
}

fn api_version_of_a_context() -> CaseResult {
    let (cu, device) = first_device()?;
    let context = create(cu, device)?;
    let (mut told, mut of_current) = (0, 0);
    cu.cuCtxGetApiVersion(context, &mut told).ok()?;
    cu.cuCtxGetApiVersion(0, &mut of_current).ok()?;
    ensure!(told == of_current && (3020..=20000).contains(&told), "{told} and {of_current}");
    pass()
}

fn device_of_a_context() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut device = -7;
    gpu.cu.cuCtxGetDevice(&mut device).ok()?;
    ensure!(device == gpu.device, "the context is on device {device}");
    gpu.cu.cuCtxGetDevice(std::ptr::null_mut()).is(Code::INVALID_VALUE)?;
    pass()
}

fn device_of_a_given_context() -> CaseResult {
    if version()? < 13000 {
        return skip("cuCtxGetDevice_v2 is younger than this driver");
    }
    let gpu = Gpu::new()?;
    let other = create(gpu.cu, gpu.device)?;
    for context in [0, gpu.context, other] {
        let mut device = -7;
        gpu.cu.cuCtxGetDevice_v2(&mut device, context).ok()?;
        ensure!(device == gpu.device, "the context {context:#x} is on device {device}");
    }
    gpu.cu.cuCtxSetCurrent(0).ok()?;
    let mut device = -7;
    gpu.cu.cuCtxGetDevice_v2(&mut device, gpu.context).ok()?;
    ensure!(device == gpu.device, "without a current context the device is {device}");
    pass()
}

fn synchronize_a_given_context() -> CaseResult {
    if version()? < 13000 {
        return skip("cuCtxSynchronize_v2 is younger than this driver");
    }
    let gpu = Gpu::new()?;
    gpu.cu.cuCtxSynchronize_v2(0).ok()?;
    gpu.cu.cuCtxSynchronize_v2(gpu.context).ok()?;
    gpu.cu.cuCtxSetCurrent(0).ok()?;
    gpu.cu.cuCtxSynchronize_v2(gpu.context).ok()?;
    expect_current(gpu.cu, 0)?;
    pass()
}

fn flags_of_the_current_context() -> CaseResult {
    let (cu, device) = first_device()?;
    for wanted in [0, 1, 2, 4] {
        let mut context = 0;
        cu.cuCtxCreate_v2(&mut context, wanted, device).ok()?;
        let mut flags = 77;
        cu.cuCtxGetFlags(&mut flags).ok()?;
        ensure!(flags & 7 == wanted, "created with {wanted:#x}, the flags are {flags:#x}");
        cu.cuCtxDestroy_v2(context).ok()?;
    }
    pass()
}

fn limits_are_set_and_read() -> CaseResult {
    let gpu = Gpu::new()?;
    let limit = |number| -> Result<usize> {
        let mut value = 0;
        gpu.cu.cuCtxGetLimit(&mut value, number).ok()?;
        Ok(value)
    };
    ensure!(limit(0)? >= 1024, "the stack is {} bytes", limit(0)?);
    ensure!(limit(1)? >= 1 << 16, "the printf buffer is {} bytes", limit(1)?);
    ensure!(limit(2)? >= 1 << 20, "the heap is {} bytes", limit(2)?);
    gpu.cu.cuCtxSetLimit(0, 4096).ok()?;
    ensure!((4096..=8192).contains(&limit(0)?), "set to 4096, the stack is {}", limit(0)?);
    gpu.cu.cuCtxSetLimit(1, 2 << 20).ok()?;
    ensure!(limit(1)? >= 2 << 20, "set to 2 MiB, the printf buffer is {}", limit(1)?);
    gpu.cu.cuCtxSetLimit(2, 16 << 20).ok()?;
    ensure!(limit(2)? >= 16 << 20, "set to 16 MiB, the heap is {}", limit(2)?);
    pass()
}

fn bad_limits_are_refused() -> CaseResult {
    let gpu = Gpu::new()?;
    // Documented: a limit that the device lacks is unsupported, one that CUDA lacks is invalid.
    let refused = [Code::INVALID_VALUE, Code(215)];
    let mut value = 7;
    gpu.cu.cuCtxGetLimit(&mut value, 4000).is_one_of(&refused)?;
    gpu.cu.cuCtxSetLimit(4000, 1).is_one_of(&refused)?;
    gpu.cu.cuCtxGetLimit(&mut value, -1).is_one_of(&refused)?;
    ensure!(value == 7, "a refused call wrote {value}");
    gpu.cu.cuCtxGetLimit(std::ptr::null_mut(), 0).is(Code::INVALID_VALUE)?;
    pass()
}

fn cache_config_is_kept_or_ignored() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut config = 77;
    gpu.cu.cuCtxGetCacheConfig(&mut config).ok()?;
    ensure!((0..=3).contains(&config), "the cache configuration is {config}");
    // A preference: a device with a fixed partition may ignore it.
    gpu.cu.cuCtxSetCacheConfig(1).ok()?;
    gpu.cu.cuCtxGetCacheConfig(&mut config).ok()?;
    ensure!((0..=3).contains(&config), "the cache configuration became {config}");
    pass()
}

fn priority_range_has_an_order() -> CaseResult {
    let gpu = Gpu::new()?;
    let (mut least, mut greatest) = (77, 77);
    gpu.cu.cuCtxGetStreamPriorityRange(&mut least, &mut greatest).ok()?;
    ensure!(least == 0 && (-10..=0).contains(&greatest), "the range is {least} to {greatest}");
    if gpu.attribute(78)? == 1 {
        ensure!(greatest < least, "priorities are supported, the range is {least} to {greatest}");
    }
    // Both places are optional.
    gpu.cu.cuCtxGetStreamPriorityRange(std::ptr::null_mut(), std::ptr::null_mut()).ok()?;
    pass()
}

fn memory_of_a_destroyed_context_is_gone() -> CaseResult {
    let gpu = Gpu::new()?;
    let own = create(gpu.cu, gpu.device)?;
    let pointer = gpu.upload(&[1u32; 1024])?;
    gpu.cu.cuCtxDestroy_v2(own).ok()?;
    expect_current(gpu.cu, gpu.context)?;
    gpu.cu.cuMemFree_v2(pointer).is(Code::INVALID_VALUE)?;
    let mut attribute = 0u32;
    let place = (&raw mut attribute).cast();
    gpu.cu.cuPointerGetAttribute(place, 2, pointer).is(Code::INVALID_VALUE)?;
    pass()
}

fn destroyed_while_current_elsewhere() -> CaseResult {
    let (cu, device) = first_device()?;
    let context = create(cu, device)?;
    on_a_thread(|| cu.cuCtxDestroy_v2(context).ok())?;
    // Documented: the context stays current here, and calls tell that it is destroyed.
    let refused = [Code::CONTEXT_IS_DESTROYED, Code::INVALID_CONTEXT];
    cu.cuMemAlloc_v2(&mut 0, 16).is_one_of(&refused)?;
    cu.cuCtxSynchronize().is_one_of(&refused)?;
    pass()
}

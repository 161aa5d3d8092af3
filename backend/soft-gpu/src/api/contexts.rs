//! Contexts.

#![allow(non_snake_case, reason = "CUDA's own names")]

use std::sync::atomic::Ordering;

use virtio_spec::cuda::{
    CUcontext, CUctxCreateParams, CUdevice, CUevent, CUexecAffinityParam, CUexecAffinityType, CUfunc_cache,
    CUlimit, CUresult, CUsharedconfig,
};

use super::entry::{Call, In, Out, check_device, exports};
use crate::driver::context::{self, Context, GREATEST_PRIORITY, check_flags};
use crate::driver::queue::lock;
use crate::driver::{Driver, Result, capture};

exports! {
    init cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice) = primary_retain;
    init cuDevicePrimaryCtxRelease(device: CUdevice) = primary_release;
    init cuDevicePrimaryCtxRelease_v2(device: CUdevice) = primary_release;
    init cuDevicePrimaryCtxReset(device: CUdevice) = primary_reset;
    init cuDevicePrimaryCtxReset_v2(device: CUdevice) = primary_reset;
    init cuDevicePrimaryCtxGetState(device: CUdevice, flags: *mut u32, active: *mut i32) = primary_state;
    init cuDevicePrimaryCtxSetFlags(device: CUdevice, flags: u32) = primary_flags;
    init cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: u32) = primary_flags;
    init cuCtxCreate_v2(context: *mut CUcontext, flags: u32, device: CUdevice) = create;
    init cuCtxCreate_v3(
        context: *mut CUcontext, params: *mut CUexecAffinityParam, count: i32, flags: u32, device: CUdevice,
    ) = create_v3;
    init cuCtxCreate_v4(
        context: *mut CUcontext, params: *const CUctxCreateParams, flags: u32, device: CUdevice,
    ) = create_v4;
    init cuCtxDestroy(context: CUcontext) = destroy;
    init cuCtxDestroy_v2(context: CUcontext) = destroy;
    init cuCtxPushCurrent(context: CUcontext) = push;
    init cuCtxPushCurrent_v2(context: CUcontext) = push;
    init cuCtxPopCurrent(context: *mut CUcontext) = pop;
    init cuCtxPopCurrent_v2(context: *mut CUcontext) = pop;
    init cuCtxSetCurrent(context: CUcontext) = set;
    init cuCtxGetCurrent(context: *mut CUcontext) = get;
    current cuCtxGetDevice(device: *mut CUdevice) = device;
    init cuCtxGetDevice_v2(device: *mut CUdevice, context: CUcontext) = device_of;
    current cuCtxGetFlags(flags: *mut u32) = flags;
    current cuCtxSetFlags(flags: u32) = set_flags;
    init cuCtxGetId(context: CUcontext, id: *mut u64) = id;
    init cuCtxGetApiVersion(context: CUcontext, version: *mut u32) = api_version;
    current cuCtxGetStreamPriorityRange(least: *mut i32, greatest: *mut i32) = priority_range;
    current cuCtxGetExecAffinity(param: *mut CUexecAffinityParam, kind: CUexecAffinityType) = affinity;
    context cuCtxSynchronize() = synchronize;
    init cuCtxSynchronize_v2(context: CUcontext) = synchronize_given;
    context cuCtxSetLimit(limit: CUlimit, value: usize) = set_limit;
    current cuCtxGetLimit(value: *mut usize, limit: CUlimit) = limit;
    context cuCtxSetCacheConfig(config: CUfunc_cache) = set_cache_config;
    current cuCtxGetCacheConfig(config: *mut CUfunc_cache) = cache_config;
    context cuCtxSetSharedMemConfig(config: CUsharedconfig) = set_shared_config;
    current cuCtxGetSharedMemConfig(config: *mut CUsharedconfig) = shared_config;
    context cuCtxResetPersistingL2Cache() = reset_persisting_l2;
    init cuCtxRecordEvent(context: CUcontext, event: CUevent) = record_event;
    init cuCtxWaitEvent(context: CUcontext, event: CUevent) = wait_event;
    init cuCtxEnablePeerAccess(context: CUcontext, flags: u32) = enable_peer_access;
    init cuCtxDisablePeerAccess(context: CUcontext) = disable_peer_access;
}

fn primary_retain(driver: &Driver, context: Out<CUcontext>, device: CUdevice) -> Result<()> {
    context.check()?;
    check_device(device)?;
    let primary = lock(&driver.primary).retain(driver);
    context.put(CUcontext(primary.handle))
}

fn primary_release(driver: &Driver, device: CUdevice) -> Result<()> {
    check_device(device)?;
    lock(&driver.primary).release(driver)
}

fn primary_reset(driver: &Driver, device: CUdevice) -> Result<()> {
    check_device(device)?;
    lock(&driver.primary).reset(driver);
    Ok(())
}

fn primary_state(driver: &Driver, device: CUdevice, flags: Out<u32>, active: Out<i32>) -> Result<()> {
    check_device(device)?;
    flags.check()?;
    active.check()?;
    let (value, is_active) = lock(&driver.primary).state();
    flags.put(value)?;
    active.put(i32::from(is_active))
}

fn primary_flags(driver: &Driver, device: CUdevice, flags: u32) -> Result<()> {
    check_device(device)?;
    lock(&driver.primary).set_flags(flags)
}

fn create_versioned(
    driver: &Driver,
    context: Out<CUcontext>,
    version: u32,
    flags: u32,
    device: CUdevice,
) -> Result<()> {
    context.check()?;
    check_device(device)?;
    let created = Context::create(driver, version, flags)?;
    context.put(CUcontext(created.handle))
}

fn create(driver: &Driver, context: Out<CUcontext>, flags: u32, device: CUdevice) -> Result<()> {
    create_versioned(driver, context, 3020, flags, device)
}

fn create_v3(
    driver: &Driver,
    context: Out<CUcontext>,
    params: *mut CUexecAffinityParam,
    count: i32,
    flags: u32,
    device: CUdevice,
) -> Result<()> {
    if count != 0 && !params.is_null() {
        return Err(CUresult::ERROR_UNSUPPORTED_EXEC_AFFINITY);
    }
    if count != 0 || !params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    create_versioned(driver, context, 3020, flags, device)
}

fn create_v4(
    driver: &Driver,
    context: Out<CUcontext>,
    params: In<CUctxCreateParams>,
    flags: u32,
    device: CUdevice,
) -> Result<()> {
    if let Ok(params) = params.get() {
        if !params.cigParams.is_null() {
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        if params.numExecAffinityParams != 0 || !params.execAffinityParams.is_null() {
            return Err(CUresult::ERROR_UNSUPPORTED_EXEC_AFFINITY);
        }
    }
    create_versioned(driver, context, 3020, flags, device)
}

/// The context of a handle; the current one for NULL.
fn given(driver: &Driver, context: CUcontext) -> Result<std::sync::Arc<Context>> {
    if context == CUcontext(0) {
        return context::current(driver);
    }
    driver.contexts.find(context.0).ok_or(CUresult::ERROR_INVALID_CONTEXT)
}

fn destroy(driver: &Driver, context: CUcontext) -> Result<()> {
    if context == CUcontext(0) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let found = given(driver, context)?;
    if !found.explicit {
        return Err(CUresult::ERROR_INVALID_CONTEXT);
    }
    if context::current_handle() == found.handle {
        context::pop_current()?;
    }
    driver.destroy_context(&found);
    Ok(())
}

fn push(driver: &Driver, context: CUcontext) -> Result<()> {
    let found = driver.contexts.find(context.0).ok_or(if context == CUcontext(0) {
        CUresult::ERROR_INVALID_VALUE
    } else {
        CUresult::ERROR_INVALID_CONTEXT
    })?;
    context::push_current(found.handle);
    Ok(())
}

fn pop(_: &Driver, context: Out<CUcontext>) -> Result<()> {
    context.put_if_wanted(CUcontext(context::pop_current()?));
    Ok(())
}

fn set(driver: &Driver, context: CUcontext) -> Result<()> {
    if context != CUcontext(0) && driver.contexts.find(context.0).is_none() {
        return Err(CUresult::ERROR_INVALID_CONTEXT);
    }
    context::set_current(context.0);
    Ok(())
}

fn get(_: &Driver, context: Out<CUcontext>) -> Result<()> {
    context.put(CUcontext(context::current_handle()))
}

fn device(_: &Call, device: Out<CUdevice>) -> Result<()> {
    device.put(CUdevice(0))
}

fn device_of(driver: &Driver, device: Out<CUdevice>, context: CUcontext) -> Result<()> {
    device.check()?;
    given(driver, context)?;
    device.put(CUdevice(0))
}

fn flags(call: &Call, flags: Out<u32>) -> Result<()> {
    flags.put(call.context.flags.load(Ordering::Relaxed))
}

fn set_flags(call: &Call, flags: u32) -> Result<()> {
    check_flags(flags)?;
    call.context.flags.store(flags, Ordering::Relaxed);
    lock(&call.driver().primary).follow_flags(&call.context);
    Ok(())
}

fn id(driver: &Driver, context: CUcontext, id: Out<u64>) -> Result<()> {
    id.check()?;
    id.put(given(driver, context)?.id)
}

fn api_version(driver: &Driver, context: CUcontext, version: Out<u32>) -> Result<()> {
    version.check()?;
    version.put(given(driver, context)?.api_version)
}

fn priority_range(_: &Call, least: Out<i32>, greatest: Out<i32>) -> Result<()> {
    least.put_if_wanted(0);
    greatest.put_if_wanted(GREATEST_PRIORITY);
    Ok(())
}

fn affinity(_: &Call, param: Out<CUexecAffinityParam>, _kind: CUexecAffinityType) -> Result<()> {
    param.check()?;
    Err(CUresult::ERROR_UNSUPPORTED_EXEC_AFFINITY)
}

fn synchronize(call: &Call) -> Result<()> {
    capture::check_context(call.context.handle)?;
    call.context.synchronize()
}

fn synchronize_given(driver: &Driver, context: CUcontext) -> Result<()> {
    given(driver, context)?.synchronize()
}

fn set_limit(call: &Call, limit: CUlimit, value: usize) -> Result<()> {
    lock(&call.context.limits).set(limit.0, value as u64)
}

fn limit(call: &Call, value: Out<usize>, limit: CUlimit) -> Result<()> {
    value.check()?;
    let found = lock(&call.context.limits).get(limit.0)?;
    value.put(usize::try_from(found).unwrap_or(usize::MAX))
}

fn set_cache_config(call: &Call, config: CUfunc_cache) -> Result<()> {
    config.c_name().ok_or(CUresult::ERROR_INVALID_VALUE)?;
    call.context.cache_config.store(config.0, Ordering::Relaxed);
    Ok(())
}

fn cache_config(call: &Call, config: Out<CUfunc_cache>) -> Result<()> {
    config.put(CUfunc_cache(call.context.cache_config.load(Ordering::Relaxed)))
}

fn set_shared_config(call: &Call, config: CUsharedconfig) -> Result<()> {
    config.c_name().ok_or(CUresult::ERROR_INVALID_VALUE)?;
    call.context.shared_config.store(config.0, Ordering::Relaxed);
    Ok(())
}

fn shared_config(call: &Call, config: Out<CUsharedconfig>) -> Result<()> {
    config.put(CUsharedconfig(call.context.shared_config.load(Ordering::Relaxed)))
}

fn reset_persisting_l2(_: &Call) -> Result<()> {
    Ok(())
}

fn record_event(driver: &Driver, context: CUcontext, event: CUevent) -> Result<()> {
    let (context, event) = (given(driver, context)?, driver.events.get(event.0)?);
    let done = context.mark_all()?;
    event.record(done);
    Ok(())
}

fn wait_event(driver: &Driver, context: CUcontext, event: CUevent) -> Result<()> {
    let (context, event) = (given(driver, context)?, driver.events.get(event.0)?);
    match event.recorded() {
        Some(completion) => context.hold_all(&completion),
        None => Ok(()),
    }
}

fn enable_peer_access(driver: &Driver, context: CUcontext, flags: u32) -> Result<()> {
    let own = context::current(driver)?;
    let peer = given(driver, context)?;
    if flags != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // There is one device, and access is between devices.
    Err(if own.handle == peer.handle {
        CUresult::ERROR_INVALID_CONTEXT
    } else {
        CUresult::ERROR_PEER_ACCESS_UNSUPPORTED
    })
}

fn disable_peer_access(driver: &Driver, context: CUcontext) -> Result<()> {
    context::current(driver)?;
    given(driver, context)?;
    Err(CUresult::ERROR_PEER_ACCESS_NOT_ENABLED)
}

//! Primary and explicit contexts and their stacks.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{
    CUcontext, CUctxCreateParams, CUdevice, CUexecAffinityParam, CUexecAffinityType, CUfunc_cache, CUlimit,
    CUresult, CUsharedconfig,
};
use virtio_spec::handle::Kind;
use virtio_spec::requests::{ContextCreate, opcode};

use std::sync::atomic::Ordering;

use super::functions::deciding;
use super::{give, give_if_wanted, outcome};
use crate::device::devices;
use crate::entry::status;
use crate::exports::contexts::{
    wire_cuCtxDestroy_v2, wire_cuCtxGetLimit, wire_cuCtxSetCacheConfig, wire_cuCtxSetLimit,
    wire_cuCtxSetSharedMemConfig, wire_cuCtxSynchronize,
};
use crate::wire::Request;
use crate::{context, handles};

/// `CU_CTX_FLAGS_MASK`.
const FLAGS: u32 = 0xff;
/// `CU_CTX_SCHED_MASK`: auto, spin, yield or blocking.
const SCHEDULING: u32 = 7;
/// What `cuCtxGetApiVersion` answers.
const API_VERSION: u32 = 3020;

fn check_flags(flags: u32) -> Result<(), CUresult> {
    if flags & !FLAGS != 0 || !matches!(flags & SCHEDULING, 0 | 1 | 2 | 4) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    Ok(())
}

pub(crate) unsafe fn cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice) -> CUresult {
    if context.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's place for a context.
    status(context::retain(device).and_then(|handle| unsafe { give(context, CUcontext(handle)) }))
}

pub(crate) unsafe fn cuDevicePrimaryCtxRelease(device: CUdevice) -> CUresult {
    status(context::release(device))
}

pub(crate) unsafe fn cuDevicePrimaryCtxRelease_v2(device: CUdevice) -> CUresult {
    status(context::release(device))
}

pub(crate) unsafe fn cuDevicePrimaryCtxReset(device: CUdevice) -> CUresult {
    status(context::reset(device))
}

pub(crate) unsafe fn cuDevicePrimaryCtxReset_v2(device: CUdevice) -> CUresult {
    status(context::reset(device))
}

pub(crate) unsafe fn cuDevicePrimaryCtxGetState(
    device: CUdevice,
    flags: *mut u32,
    active: *mut i32,
) -> CUresult {
    let primary = match context::primary(device) {
        Ok(primary) => primary,
        Err(error) => return error,
    };
    // SAFETY: the application's place for a number, or null.
    unsafe { give_if_wanted(flags, primary.flags.load(Ordering::Relaxed)) };
    // SAFETY: the application's place for a number, or null.
    unsafe { give_if_wanted(active, i32::from(context::is_active(device))) };
    CUresult::SUCCESS
}

pub(crate) unsafe fn cuDevicePrimaryCtxSetFlags(device: CUdevice, flags: u32) -> CUresult {
    status(check_flags(flags).and_then(|()| context::set_flags(device, flags)))
}

pub(crate) unsafe fn cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: u32) -> CUresult {
    status(check_flags(flags).and_then(|()| context::set_flags(device, flags)))
}

fn create(flags: u32, device: CUdevice) -> Result<CUcontext, CUresult> {
    check_flags(flags)?;
    let ordinal = devices()?.host_ordinal(device)?;
    let handle = handles::mint(Kind::Context)?;
    let ask = || {
        let mut request = Request::start(opcode::CONTEXT_CREATE, 0)?;
        request.structure(&ContextCreate { context: handle, device: ordinal, flags });
        request.answer().map(|_| ())
    };
    if let Err(error) = ask() {
        handles::release(Kind::Context, handle);
        return Err(error);
    }
    context::created(handle, device, flags)?;
    Ok(CUcontext(handle))
}

pub(crate) unsafe fn cuCtxCreate_v2(context: *mut CUcontext, flags: u32, device: CUdevice) -> CUresult {
    if context.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the application's place for a context.
    status(create(flags, device).and_then(|created| unsafe { give(context, created) }))
}

pub(crate) unsafe fn cuCtxCreate_v3(
    context: *mut CUcontext,
    _params_array: *mut CUexecAffinityParam,
    num_params: i32,
    flags: u32,
    device: CUdevice,
) -> CUresult {
    // Execution affinity is for MPS, which a guest does not have (attribute 133).
    if num_params != 0 {
        return CUresult::ERROR_UNSUPPORTED_EXEC_AFFINITY;
    }
    // SAFETY: the same contract.
    unsafe { cuCtxCreate_v2(context, flags, device) }
}

pub(crate) unsafe fn cuCtxCreate_v4(
    context: *mut CUcontext,
    ctx_create_params: *mut CUctxCreateParams,
    flags: u32,
    device: CUdevice,
) -> CUresult {
    if !ctx_create_params.is_null() {
        // SAFETY: the application's structure.
        let wanted = unsafe { ctx_create_params.read() };
        if wanted.numExecAffinityParams != 0 {
            return CUresult::ERROR_UNSUPPORTED_EXEC_AFFINITY;
        }
        if !wanted.cigParams.is_null() {
            return CUresult::ERROR_NOT_SUPPORTED;
        }
    }
    // SAFETY: the same contract.
    unsafe { cuCtxCreate_v2(context, flags, device) }
}

pub(crate) unsafe fn cuCtxAttach(context: *mut CUcontext, flags: u32) -> CUresult {
    if context.is_null() || flags != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    status(context::current_context().and_then(|current| {
        current.attachments.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the application's place for a context.
        unsafe { give(context, CUcontext(current.handle)) }
    }))
}

pub(crate) unsafe fn cuCtxDetach(context: CUcontext) -> CUresult {
    match context::find(context.0) {
        Some(found) if !found.primary => {
            if found.attachments.fetch_sub(1, Ordering::Relaxed) > 1 {
                return CUresult::SUCCESS;
            }
            // SAFETY: no pointers.
            unsafe { cuCtxDestroy_v2(context) }
        }
        _ => CUresult::ERROR_INVALID_CONTEXT,
    }
}

pub(crate) unsafe fn cuCtxDestroy(context: CUcontext) -> CUresult {
    // SAFETY: no pointers.
    unsafe { cuCtxDestroy_v2(context) }
}

pub(crate) unsafe fn cuCtxDestroy_v2(context: CUcontext) -> CUresult {
    if context::find(context.0).is_none_or(|found| found.primary) {
        return CUresult::ERROR_INVALID_CONTEXT;
    }
    // SAFETY: no pointers.
    let result = unsafe { wire_cuCtxDestroy_v2(context) };
    if result == CUresult::SUCCESS {
        context::destroyed(context.0);
    }
    result
}

pub(crate) unsafe fn cuCtxPushCurrent(context: CUcontext) -> CUresult {
    status(context::push(context.0))
}

pub(crate) unsafe fn cuCtxPushCurrent_v2(context: CUcontext) -> CUresult {
    status(context::push(context.0))
}

pub(crate) unsafe fn cuCtxPopCurrent(context: *mut CUcontext) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuCtxPopCurrent_v2(context) }
}

pub(crate) unsafe fn cuCtxPopCurrent_v2(context: *mut CUcontext) -> CUresult {
    match context::pop() {
        Ok(handle) => {
            // SAFETY: the application's place for a context, or null.
            unsafe { give_if_wanted(context, CUcontext(handle)) };
            CUresult::SUCCESS
        }
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuCtxSetCurrent(context: CUcontext) -> CUresult {
    status(context::set(context.0))
}

pub(crate) unsafe fn cuCtxGetCurrent(context: *mut CUcontext) -> CUresult {
    // SAFETY: the application's place for a context.
    status(unsafe { give(context, CUcontext(context::current().unwrap_or(0))) })
}

pub(crate) unsafe fn cuCtxGetDevice(device: *mut CUdevice) -> CUresult {
    let found = context::look_at_current(|current| current.device);
    // SAFETY: the application's place for a device.
    status(found.and_then(|found| unsafe { give(device, found) }))
}

/// The context that is meant, where null means the current one.
fn meant(context: CUcontext) -> Result<std::sync::Arc<context::Context>, CUresult> {
    if context.0 == 0 {
        return context::current_context();
    }
    context::find(context.0).ok_or(CUresult::ERROR_INVALID_CONTEXT)
}

pub(crate) unsafe fn cuCtxGetDevice_v2(device: *mut CUdevice, context: CUcontext) -> CUresult {
    // SAFETY: the application's place for a device.
    status(meant(context).and_then(|found| unsafe { give(device, found.device) }))
}

pub(crate) unsafe fn cuCtxGetFlags(flags: *mut u32) -> CUresult {
    let found = context::look_at_current(|current| current.flags.load(Ordering::Relaxed));
    // SAFETY: the application's place for a number.
    status(found.and_then(|found| unsafe { give(flags, found) }))
}

pub(crate) unsafe fn cuCtxGetId(context: CUcontext, ctx_id: *mut u64) -> CUresult {
    // SAFETY: the application's place for a number.
    status(meant(context).and_then(|found| unsafe { give(ctx_id, found.id) }))
}

pub(crate) unsafe fn cuCtxGetApiVersion(context: CUcontext, version: *mut u32) -> CUresult {
    // SAFETY: the application's place for a number.
    status(meant(context).and_then(|_| unsafe { give(version, API_VERSION) }))
}

pub(crate) unsafe fn cuCtxGetStreamPriorityRange(
    least_priority: *mut i32,
    greatest_priority: *mut i32,
) -> CUresult {
    let range = context::current_context()
        .and_then(|current| devices()?.record(current.device))
        .map(|record| record.stream_priority);
    status(range.map(|[least, greatest]| {
        // SAFETY: the application's place for a number, or null.
        unsafe { give_if_wanted(least_priority, least) };
        // SAFETY: the application's place for a number, or null.
        unsafe { give_if_wanted(greatest_priority, greatest) };
    }))
}

pub(crate) unsafe fn cuCtxGetExecAffinity(
    _p_exec_affinity: *mut CUexecAffinityParam,
    _kind: CUexecAffinityType,
) -> CUresult {
    CUresult::ERROR_UNSUPPORTED_EXEC_AFFINITY
}

pub(crate) unsafe fn cuCtxSynchronize() -> CUresult {
    match context::required() {
        // SAFETY: no pointers.
        Ok(handle) => context::synchronise(handle, || unsafe { wire_cuCtxSynchronize() }),
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuCtxSynchronize_v2(context: CUcontext) -> CUresult {
    let found = match meant(context) {
        Ok(found) => found,
        Err(error) => return error,
    };
    // SAFETY: no pointers.
    status(context::with(found.handle, || outcome(unsafe { wire_cuCtxSynchronize() })))
}

pub(crate) unsafe fn cuCtxSetLimit(limit: CUlimit, value: usize) -> CUresult {
    // SAFETY: no pointers.
    let result = unsafe { wire_cuCtxSetLimit(limit, value) };
    if let Ok(context) = context::current_context() {
        context.forget_limits();
    }
    result
}

pub(crate) unsafe fn cuCtxSetCacheConfig(config: CUfunc_cache) -> CUresult {
    // SAFETY: no pointers.
    deciding(|| unsafe { wire_cuCtxSetCacheConfig(config) })
}

pub(crate) unsafe fn cuCtxSetSharedMemConfig(config: CUsharedconfig) -> CUresult {
    // SAFETY: no pointers.
    deciding(|| unsafe { wire_cuCtxSetSharedMemConfig(config) })
}

pub(crate) unsafe fn cuCtxGetLimit(pvalue: *mut usize, limit: CUlimit) -> CUresult {
    let context = match context::required().and_then(|_| context::current_context()) {
        Ok(context) => context,
        Err(error) => return error,
    };
    if let Some(known) = context.limit(limit.0) {
        // SAFETY: the application's place for a number.
        return status(unsafe { give(pvalue, known) });
    }
    // SAFETY: the same contract.
    let result = unsafe { wire_cuCtxGetLimit(pvalue, limit) };
    if result == CUresult::SUCCESS {
        // SAFETY: the call has written it.
        context.limit_is(limit.0, unsafe { pvalue.read() });
    }
    result
}

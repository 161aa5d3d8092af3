//! Primary and explicit contexts. The guest keeps the stacks and the reference counts; the worker keeps neither.
//!
//! Unsafe code: calls of the driver.

use virtio_spec::{
    codec::Scalar,
    cuda::{CUcontext, CUdevice, CUresult},
    handle::Kind,
    requests::{ContextCreate, PrimaryContext, PrimaryOperation},
};

use super::{Invocation, handles::Object, host_memory, ok};
use crate::worker::warm::{self, WarmContext};

fn device(call: &Invocation<'_>, ordinal: u32) -> Result<CUdevice, CUresult> {
    let ordinal = i32::try_from(ordinal).map_err(|_| CUresult::ERROR_INVALID_DEVICE)?;
    let mut device = CUdevice::default();
    let get = call.driver().devices.cuDeviceGet.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    // SAFETY: room for one device.
    ok(unsafe { get(&raw mut device, ordinal) })?;
    Ok(device)
}

pub(super) fn primary(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: PrimaryContext = call.structure()?;
    call.end_of_parameters()?;
    let operation = PrimaryOperation::from_u32(request.operation).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let device = device(call, request.device)?;
    let contexts = &call.driver().contexts;
    // A warm context that is not what the guest asks for ends here; one that is has one use too many until this returns.
    let fits = |warm: &WarmContext<'_>| operation == PrimaryOperation::Retain && warm.is_of(device);
    let _warm = call.in_driver(|| warm::take(call.driver()).filter(fits));
    match operation {
        PrimaryOperation::Retain => {
            call.check_free(Kind::Context, request.context)?;
            let retain = contexts.cuDevicePrimaryCtxRetain.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            let mut context = CUcontext::default();
            // SAFETY: room for one handle.
            ok(call.in_driver(|| unsafe { retain(&raw mut context, device) }))?;
            let object = Object { raw: context.to_u64(), parent: 0, context: 0 };
            call.session().handles.insert(Kind::Context, request.context, object)
        }
        PrimaryOperation::Release => {
            // The handle is taken out first, so that no other lane makes the context current any more.
            let raw = call.handle(Kind::Context, request.context)?;
            let release = contexts.cuDevicePrimaryCtxRelease_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            call.remove(Kind::Context, request.context);
            call.forget_current();
            host_memory::forget_context(call, request.context, raw);
            // SAFETY: the context was retained when its handle was made.
            ok(call.in_driver(|| unsafe { release(device) }))
        }
        PrimaryOperation::Reset => {
            let reset = contexts.cuDevicePrimaryCtxReset_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            // A reset context is inactive whatever its count was; the next RETAIN makes the handle anew.
            let raw = call.handle(Kind::Context, request.context);
            call.remove(Kind::Context, request.context);
            call.forget_current();
            if let Ok(raw) = raw {
                host_memory::forget_context(call, request.context, raw);
            }
            // SAFETY: a device of the driver.
            ok(call.in_driver(|| unsafe { reset(device) }))
        }
        PrimaryOperation::SetFlags => {
            let set = contexts.cuDevicePrimaryCtxSetFlags_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            // SAFETY: a device of the driver; CUDA checks the flags.
            ok(call.in_driver(|| unsafe { set(device, request.flags) }))
        }
    }
}

pub(super) fn create(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: ContextCreate = call.structure()?;
    call.end_of_parameters()?;
    call.check_free(Kind::Context, request.context)?;
    let device = device(call, request.device)?;
    // Who makes contexts of his own needs the memory of the warm one rather.
    call.in_driver(|| drop(warm::take(call.driver())));
    let contexts = &call.driver().contexts;
    let create = contexts.cuCtxCreate_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let pop = contexts.cuCtxPopCurrent_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut context = CUcontext::default();
    // SAFETY: room for one handle; CUDA checks the flags.
    ok(call.in_driver(|| unsafe { create(&raw mut context, request.flags, device) }))?;
    let mut popped = CUcontext::default();
    // SAFETY: room for one handle; the new context is on top of the stack.
    ok(unsafe { pop(&raw mut popped) })?;
    call.forget_current();
    let object = Object { raw: context.to_u64(), parent: 0, context: 0 };
    call.session().handles.insert(Kind::Context, request.context, object)
}

pub(super) fn destroy(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let context = call.scalar()?;
    call.end_of_parameters()?;
    let raw = call.handle(Kind::Context, context)?;
    host_memory::forget_context(call, context, raw);
    let destroy = call.driver().contexts.cuCtxDestroy_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    // SAFETY: a context of the session.
    ok(call.in_driver(|| unsafe { destroy(Scalar::from_u64(raw)) }))?;
    call.remove(Kind::Context, context);
    Ok(())
}

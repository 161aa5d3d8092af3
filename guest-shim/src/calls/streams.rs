//! Streams.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{CUcontext, CUdevice, CUevent, CUresult, CUstream, CUstreamAttrID};
use virtio_spec::handle::Kind;

pub(crate) use super::stream_properties::{
    cuStreamCopyAttributes, cuStreamGetFlags, cuStreamGetId, cuStreamGetPriority,
};
use super::{give, give_if_wanted, stream_properties};
use crate::entry::{Flavour, status};
use crate::exports::streams::{
    wire_cuStreamCreate, wire_cuStreamCreateWithPriority, wire_cuStreamDestroy_v2, wire_cuStreamGetAttribute,
    wire_cuStreamQuery, wire_cuStreamSetAttribute, wire_cuStreamSynchronize, wire_cuStreamWaitEvent,
};
use crate::graph::capture;
use crate::memory::copy::is_stream;
use crate::waited::{self, Wait};
use crate::{context, handles, mirror};

/// `CU_EVENT_WAIT_EXTERNAL`.
const WAIT_FLAGS: u32 = 1;

pub(crate) unsafe fn cuStreamCreate(stream: *mut CUstream, flags: u32) -> CUresult {
    // SAFETY: the same contract.
    unsafe { wire_cuStreamCreate(stream, flags) }
}

pub(crate) unsafe fn cuStreamCreateWithPriority(
    stream: *mut CUstream,
    flags: u32,
    priority: i32,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { wire_cuStreamCreateWithPriority(stream, flags, priority) }
}

pub(crate) unsafe fn cuStreamDestroy_v2(stream: CUstream) -> CUresult {
    if !handles::check(&[Kind::Stream], stream.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: no pointers.
    let gone = unsafe { wire_cuStreamDestroy_v2(stream) };
    stream_properties::forget(stream);
    if gone == CUresult::SUCCESS {
        capture::end(stream.0);
    }
    gone
}

pub(crate) unsafe fn cuStreamDestroy(stream: CUstream) -> CUresult {
    // SAFETY: no pointers.
    unsafe { cuStreamDestroy_v2(stream) }
}

/// Says that a stream has nothing to do, because its context has not or because the thread has waited for it; or asks the
/// device, whose success says the same.
fn idle_or(stream: CUstream, flavour: Flavour, ask: impl FnOnce() -> CUresult) -> CUresult {
    let current = match context::required() {
        Ok(current) => current,
        Err(error) => return error,
    };
    let stream = flavour.stream(stream);
    let of = match stream {
        0..=2 => Some(current),
        handle if is_stream(handle) => handles::parent(handle),
        _ => return CUresult::ERROR_INVALID_HANDLE,
    };
    if waited::is_idle(current, stream) || of.is_some_and(context::is_idle) {
        return CUresult::SUCCESS;
    }
    let wait = Wait::begin();
    let result = ask();
    if result == CUresult::SUCCESS {
        wait.succeeded(current, stream);
    }
    result
}

pub(crate) unsafe fn cuStreamSynchronize(stream: CUstream, flavour: Flavour) -> CUresult {
    // SAFETY: no pointers.
    idle_or(stream, flavour, || unsafe { wire_cuStreamSynchronize(stream, flavour) })
}

pub(crate) unsafe fn cuStreamQuery(stream: CUstream, flavour: Flavour) -> CUresult {
    // SAFETY: no pointers.
    idle_or(stream, flavour, || mirror::seen(unsafe { wire_cuStreamQuery(stream, flavour) }))
}

pub(crate) unsafe fn cuStreamGetCtx(stream: CUstream, place: *mut CUcontext, _flavour: Flavour) -> CUresult {
    let found = match stream.0 {
        0..=2 => context::required(),
        handle => handles::parent(handle).ok_or(CUresult::ERROR_INVALID_HANDLE),
    };
    // SAFETY: the application's place for a context.
    status(found.and_then(|handle| unsafe { give(place, CUcontext(handle)) }))
}

/// There are no green contexts, so a stream belongs to none.
pub(crate) unsafe fn cuStreamGetCtx_v2(
    stream: CUstream,
    place: *mut CUcontext,
    green: *mut u64,
    flavour: Flavour,
) -> CUresult {
    // SAFETY: the same contract.
    let result = unsafe { cuStreamGetCtx(stream, place, flavour) };
    if result == CUresult::SUCCESS {
        // SAFETY: the application's place for a green context, or null.
        unsafe { give_if_wanted(green, 0) };
    }
    result
}

pub(crate) unsafe fn cuStreamGetAttribute(
    stream: CUstream,
    attribute: CUstreamAttrID,
    value: *mut [u64; 8],
    flavour: Flavour,
) -> CUresult {
    // The union has grown with CUDA's versions: a program has room for what it asks for.
    let Some(length) = attribute.value_bytes().filter(|_| !value.is_null()) else {
        return CUresult::ERROR_INVALID_VALUE;
    };
    let mut found = [0; 8];
    // SAFETY: a place of this function.
    let result = unsafe { wire_cuStreamGetAttribute(stream, attribute, &raw mut found, flavour) };
    if result == CUresult::SUCCESS {
        // SAFETY: the application's place for the attribute, of which the value has this many bytes.
        unsafe { std::ptr::copy_nonoverlapping(found.as_ptr().cast::<u8>(), value.cast::<u8>(), length) };
    }
    result
}

pub(crate) unsafe fn cuStreamSetAttribute(
    stream: CUstream,
    attribute: CUstreamAttrID,
    value: *const [u64; 8],
    flavour: Flavour,
) -> CUresult {
    let Some(length) = attribute.value_bytes().filter(|_| !value.is_null()) else {
        return CUresult::ERROR_INVALID_VALUE;
    };
    let mut wanted = [0_u64; 8];
    // SAFETY: the application's attribute, of which the value has this many bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(value.cast::<u8>(), wanted.as_mut_ptr().cast::<u8>(), length);
    }
    // SAFETY: a value of this function.
    let result = unsafe { wire_cuStreamSetAttribute(stream, attribute, &raw const wanted, flavour) };
    // One of them is the priority.
    stream_properties::forget(stream);
    result
}

pub(crate) unsafe fn cuStreamGetDevice(
    stream: CUstream,
    device: *mut CUdevice,
    _flavour: Flavour,
) -> CUresult {
    let handle = match stream.0 {
        0..=2 => context::required(),
        handle => handles::parent(handle).ok_or(CUresult::ERROR_INVALID_HANDLE),
    };
    let found = handle.and_then(|handle| context::find(handle).ok_or(CUresult::ERROR_CONTEXT_IS_DESTROYED));
    // SAFETY: the application's place for a device.
    status(found.and_then(|context| unsafe { give(device, context.device) }))
}

pub(crate) unsafe fn cuStreamWaitEvent(
    stream: CUstream,
    event: CUevent,
    flags: u32,
    flavour: Flavour,
) -> CUresult {
    // The request is posted, so what CUDA would refuse at once is refused here.
    if flags & !WAIT_FLAGS != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    if !is_stream(stream.0) || !handles::check(&[Kind::Event], event.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: no pointers.
    unsafe { wire_cuStreamWaitEvent(stream, event, flags, flavour) }
}

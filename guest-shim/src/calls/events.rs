//! Events.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{CUevent, CUresult, CUstream};
use virtio_spec::handle::Kind;

use crate::entry::Flavour;
use crate::exports::events::{
    wire_cuEventCreate, wire_cuEventDestroy_v2, wire_cuEventQuery, wire_cuEventRecord,
    wire_cuEventRecordWithFlags, wire_cuEventSynchronize,
};
use crate::memory::copy::is_stream;
use crate::{context, handles, mirror};

/// `CU_EVENT_RECORD_EXTERNAL`.
const RECORD_FLAGS: u32 = 1;

/// Checks what CUDA would refuse at once, because the request is posted: both exist, and in the same context.
fn check(event: CUevent, stream: CUstream) -> Result<(), CUresult> {
    if !handles::check(&[Kind::Event], event.0) || !is_stream(stream.0) {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    let of_stream = match stream.0 {
        0..=2 => context::required()?,
        handle => handles::parent(handle).unwrap_or(0),
    };
    if handles::parent(event.0) != Some(of_stream) {
        return Err(CUresult::ERROR_INVALID_HANDLE);
    }
    Ok(())
}

pub(crate) unsafe fn cuEventCreate(event: *mut CUevent, flags: u32) -> CUresult {
    // SAFETY: the same contract.
    unsafe { wire_cuEventCreate(event, flags) }
}

pub(crate) unsafe fn cuEventDestroy_v2(event: CUevent) -> CUresult {
    if !handles::check(&[Kind::Event], event.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: no pointers.
    unsafe { wire_cuEventDestroy_v2(event) }
}

pub(crate) unsafe fn cuEventDestroy(event: CUevent) -> CUresult {
    // SAFETY: no pointers.
    unsafe { cuEventDestroy_v2(event) }
}

pub(crate) unsafe fn cuEventRecord(event: CUevent, stream: CUstream, flavour: Flavour) -> CUresult {
    if let Err(error) = check(event, stream) {
        return error;
    }
    // SAFETY: no pointers.
    unsafe { wire_cuEventRecord(event, stream, flavour) }
}

pub(crate) unsafe fn cuEventRecordWithFlags(
    event: CUevent,
    stream: CUstream,
    flags: u32,
    flavour: Flavour,
) -> CUresult {
    if flags & !RECORD_FLAGS != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    if let Err(error) = check(event, stream) {
        return error;
    }
    // SAFETY: no pointers.
    unsafe { wire_cuEventRecordWithFlags(event, stream, flags, flavour) }
}

pub(crate) unsafe fn cuEventQuery(event: CUevent) -> CUresult {
    if !handles::check(&[Kind::Event], event.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: no pointers.
    mirror::seen(unsafe { wire_cuEventQuery(event) })
}

pub(crate) unsafe fn cuEventSynchronize(event: CUevent) -> CUresult {
    if !handles::check(&[Kind::Event], event.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    // SAFETY: no pointers.
    unsafe { wire_cuEventSynchronize(event) }
}

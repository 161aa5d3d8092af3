//! Making regions of the guest process known to CUDA, so that copies are DMA from and to its pages.
//!
//! Unsafe code: calls of the driver.

use std::sync::PoisonError;

use virtio_spec::{
    codec::Scalar,
    cuda::{CUdeviceptr, CUresult},
    requests::{HostRegister, HostRegistered, HostUnregister},
};

use super::{Invocation, copy::staging, ok};
use crate::worker::memory::Hold;

/// `CU_MEMHOSTREGISTER_PORTABLE`: for every context of the process.
const REGISTER_PORTABLE: u32 = 1;

pub(super) fn register(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: HostRegister = call.structure()?;
    call.end_of_parameters()?;
    let length = usize::try_from(request.length).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    // The region stays mapped while CUDA knows it.
    let hold = call.session().regions.hold(request.address, request.length);
    let hold = hold.filter(|_| length > 0).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    call.set_current()?;
    let memory = &call.driver().memory;
    let register = memory.cuMemHostRegister_v2.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let address = pointer(request.address);
    // SAFETY: the range lies inside a region that stays mapped while it is held.
    ok(call.in_driver(|| unsafe { register(address, length, request.flags) }))?;
    call.session()
        .registered
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(request.address, (call.context(), hold));
    let mut device_pointer = CUdeviceptr::default();
    if let Some(get) = memory.cuMemHostGetDevicePointer_v2 {
        // SAFETY: registered just now; room for one pointer.
        if unsafe { get(&raw mut device_pointer, address, 0) } != CUresult::SUCCESS {
            device_pointer = CUdeviceptr::default();
        }
    }
    call.put(&HostRegistered { device_pointer: device_pointer.to_u64() })
}

pub(super) fn unregister(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: HostUnregister = call.structure()?;
    call.end_of_parameters()?;
    call.set_current()?;
    let unregister = call.driver().memory.cuMemHostUnregister.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    // SAFETY: CUDA knows which addresses are registered and refuses others.
    ok(call.in_driver(|| unsafe { unregister(pointer(request.address)) }))?;
    call.session().registered.lock().unwrap_or_else(PoisonError::into_inner).remove(&request.address);
    Ok(())
}

/// Has CUDA forget what was made known in a context that is about to end: its driver goes on knowing such memory after the
/// end of some contexts (580, seen with primary ones), and then refuses what comes to lie there.
pub(super) fn forget_context(call: &mut Invocation<'_>, context: u64, raw: u64) {
    let mut registered = call.session().registered.lock().unwrap_or_else(PoisonError::into_inner);
    let known: Vec<(u64, Hold)> = registered
        .extract_if(|_, (of, _)| *of == context)
        .map(|(address, (_, hold))| (address, hold))
        .collect();
    drop(registered);
    if known.is_empty() {
        return;
    }
    let is_current = call.driver().contexts.cuCtxSetCurrent.is_some_and(|set| {
        // SAFETY: the context has not ended: only this request ends it.
        unsafe { set(Scalar::from_u64(raw)) == CUresult::SUCCESS }
    });
    call.forget_current();
    let unregister = call.driver().memory.cuMemHostUnregister.filter(|_| is_current);
    for (address, hold) in known {
        // SAFETY: registered, and still held.
        let forgets = unregister.map(|unregister| call.in_driver(|| unsafe { unregister(pointer(address)) }));
        if forgets != Some(CUresult::SUCCESS) {
            log::debug!("pinned memory stays known to CUDA: {forgets:?}");
            // So it stays mapped, for good.
            std::mem::forget(hold);
        }
    }
}

/// Makes the lane's staging known to CUDA, once: copies through it are then DMA, where CUDA's driver would copy each byte a
/// second time, to pinned memory of its own. That is all that a failure costs, and the end of the context in which it
/// happened.
pub(super) fn pin_staging(call: &mut Invocation<'_>) {
    if std::mem::replace(&mut call.lane.staging_is_known, true) {
        return;
    }
    let bytes = call.session().layout.staging_bytes();
    let (Ok(start), Ok(length)) = (staging(call, 0, bytes), usize::try_from(bytes)) else { return };
    let Some(register) = call.driver().memory.cuMemHostRegister_v2 else { return };
    // SAFETY: session memory, which stays mapped as long as the session.
    let _result = call.relaxed(|| call.in_driver(|| unsafe { register(start, length, REGISTER_PORTABLE) }));
}

/// An address of the guest process, which is the same in this process.
pub(super) fn pointer(address: u64) -> *mut std::ffi::c_void {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(usize::MAX))
}

//! Memory and events for other processes of the VM. What the driver calls a handle stays on the host: guests get tokens.
//!
//! Unsafe code: calls of the driver.

use virtio_spec::{
    codec::Scalar,
    cuda::{CUdeviceptr, CUevent, CUipcEventHandle, CUipcMemHandle, CUresult},
    handle::Kind,
    requests::{Share, ShareOpen, ShareOpened, SharedObject, Token},
};

use super::{Invocation, ok, virtual_memory::is_in_window};
use crate::worker::broker;

/// A token for an allocation or an event.
pub(super) fn share(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: Share = call.structure()?;
    call.end_of_parameters()?;
    let object = SharedObject::from_u32(request.object).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    call.set_current()?;
    let functions = &call.driver().sharing;
    let handle = match object {
        SharedObject::Memory => {
            let get = functions.cuIpcGetMemHandle.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            let mut handle = CUipcMemHandle::default();
            let pointer = CUdeviceptr(request.target);
            // SAFETY: room for one handle; the driver knows which addresses are allocations.
            ok(call.in_driver(|| unsafe { get(&raw mut handle, pointer) }))?;
            handle.reserved
        }
        SharedObject::Event => {
            let get = functions.cuIpcGetEventHandle.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            let event: CUevent = Scalar::from_u64(call.handle(Kind::Event, request.target)?);
            let mut handle = CUipcEventHandle::default();
            // SAFETY: room for one handle; the event is in the session's table.
            ok(call.in_driver(|| unsafe { get(&raw mut handle, event) }))?;
            handle.reserved
        }
    };
    let bytes = broker::deposit(request.object, handle)?;
    call.put(&Token { bytes })
}

/// What another process has given a token for.
pub(super) fn open(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: ShareOpen = call.structure()?;
    call.end_of_parameters()?;
    let object = SharedObject::from_u32(request.object).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let handle = broker::redeem(request.object, request.token)?;
    call.set_current()?;
    match object {
        SharedObject::Memory => open_memory(call, CUipcMemHandle { reserved: handle }, request.flags),
        SharedObject::Event => {
            call.check_free(Kind::Event, request.event)?;
            let open = call.driver().sharing.cuIpcOpenEventHandle.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
            let mut event = CUevent::default();
            let handle = CUipcEventHandle { reserved: handle };
            // SAFETY: room for one event; the handle is one that the driver made.
            ok(call.in_driver(|| unsafe { open(&raw mut event, handle) }))?;
            call.insert(Kind::Event, request.event, event.to_u64())?;
            call.put(&ShareOpened { address: 0, length: 0 })
        }
    }
}

fn open_memory(call: &mut Invocation<'_>, handle: CUipcMemHandle, flags: u32) -> Result<(), CUresult> {
    let missing = CUresult::ERROR_NOT_SUPPORTED;
    let functions = &call.driver().sharing;
    let open = functions.cuIpcOpenMemHandle_v2.ok_or(missing)?;
    let close = functions.cuIpcCloseMemHandle.ok_or(missing)?;
    let range = call.driver().memory.cuMemGetAddressRange_v2.ok_or(missing)?;
    let mut pointer = CUdeviceptr::default();
    // SAFETY: room for one address; the handle is one that the driver made.
    ok(call.in_driver(|| unsafe { open(&raw mut pointer, handle, flags) }))?;
    let (mut start, mut length) = (CUdeviceptr::default(), 0_usize);
    // SAFETY: room for an address and a number.
    let known = ok(unsafe { range(&raw mut start, &raw mut length, pointer) });
    let length = length as u64;
    if known.is_err() || !is_in_window(pointer.0, length) {
        log::warn!(
            "{length:#x} bytes of another process came to lie at {:#x}, outside the window",
            pointer.0
        );
        // SAFETY: opened just now, and nobody knows of it. The error below says all that the guest has to know.
        let _result = unsafe { close(pointer) };
        return Err(CUresult::ERROR_OUT_OF_MEMORY);
    }
    call.put(&ShareOpened { address: pointer.0, length })
}

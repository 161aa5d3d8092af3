//! Memory, events and pools for other processes of the VM. What the driver calls a handle stays on the host: guests get tokens.
//!
//! Unsafe code: calls of the driver, and descriptors that it makes.

use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use virtio_spec::{
    codec::Scalar,
    cuda::{
        CUdeviceptr, CUevent, CUipcEventHandle, CUipcMemHandle, CUmemAllocationHandleType,
        CUmemAllocationProp, CUmemGenericAllocationHandle, CUmemPoolPtrExportData, CUmemoryPool, CUresult,
    },
    handle::Kind,
    requests::{
        Share, ShareForget, ShareOpen, ShareOpened, ShareOpenedPhysical, SharedObject, TOKEN_BYTES, Token,
    },
};

use super::{
    Invocation,
    handles::Object,
    ok,
    virtual_memory::{empty_properties, is_in_window, to_wire},
};
use crate::worker::broker;

/// As what the driver passes memory on: the only kind that tokens stand for.
const DESCRIPTOR: CUmemAllocationHandleType = CUmemAllocationHandleType::POSIX_FILE_DESCRIPTOR;

/// A token for what other processes of the VM may open.
pub(super) fn share(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: Share = call.structure()?;
    call.end_of_parameters()?;
    let object = SharedObject::from_u32(request.object).filter(|_| request.reserved == 0);
    let bytes = match object.ok_or(CUresult::ERROR_INVALID_VALUE)? {
        SharedObject::Memory => broker::deposit(request.object, memory_handle(call, request.target)?)?,
        SharedObject::Event => broker::deposit(request.object, event_handle(call, request.target)?)?,
        SharedObject::PoolPointer => broker::deposit(request.object, pool_pointer(call, request.target)?)?,
        SharedObject::Physical => {
            let descriptor = physical_descriptor(call, request.target)?;
            broker::deposit_descriptor(request.object, descriptor.as_fd())?
        }
        SharedObject::Pool => {
            let descriptor = pool_descriptor(call, request.target)?;
            broker::deposit_descriptor(request.object, descriptor.as_fd())?
        }
    };
    call.put(&Token { bytes })
}

fn memory_handle(call: &mut Invocation<'_>, address: u64) -> Result<[u8; TOKEN_BYTES], CUresult> {
    call.set_current()?;
    let get = call.driver().sharing.cuIpcGetMemHandle.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut handle = CUipcMemHandle::default();
    // SAFETY: room for one handle; the driver knows which addresses are allocations.
    ok(call.in_driver(|| unsafe { get(&raw mut handle, CUdeviceptr(address)) }))?;
    Ok(handle.reserved)
}

fn event_handle(call: &mut Invocation<'_>, event: u64) -> Result<[u8; TOKEN_BYTES], CUresult> {
    call.set_current()?;
    let get = call.driver().sharing.cuIpcGetEventHandle.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let event: CUevent = Scalar::from_u64(call.handle(Kind::Event, event)?);
    let mut handle = CUipcEventHandle::default();
    // SAFETY: room for one handle; the event is in the session's table.
    ok(call.in_driver(|| unsafe { get(&raw mut handle, event) }))?;
    Ok(handle.reserved)
}

fn pool_pointer(call: &mut Invocation<'_>, address: u64) -> Result<[u8; TOKEN_BYTES], CUresult> {
    let get = call.driver().pools.cuMemPoolExportPointer.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut data = CUmemPoolPtrExportData::default();
    // SAFETY: room for the data; the driver knows which addresses are a pool's.
    ok(call.in_driver(|| unsafe { get(&raw mut data, CUdeviceptr(address)) }))?;
    Ok(data.reserved)
}

/// A descriptor that the driver has made for this process.
fn owned(descriptor: RawFd) -> Result<OwnedFd, CUresult> {
    if descriptor < 0 {
        return Err(CUresult::ERROR_OPERATING_SYSTEM);
    }
    // SAFETY: the driver has just opened it, and leaves it to its caller.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn physical_descriptor(call: &mut Invocation<'_>, memory: u64) -> Result<OwnedFd, CUresult> {
    let export = call.driver().virtual_memory.cuMemExportToShareableHandle;
    let export = export.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let memory: CUmemGenericAllocationHandle = Scalar::from_u64(call.handle(Kind::Allocation, memory)?);
    let mut descriptor: RawFd = -1;
    let place = (&raw mut descriptor).cast();
    // SAFETY: room for a descriptor; the memory is in the session's table.
    ok(call.in_driver(|| unsafe { export(place, memory, DESCRIPTOR, 0) }))?;
    owned(descriptor)
}

fn pool_descriptor(call: &mut Invocation<'_>, pool: u64) -> Result<OwnedFd, CUresult> {
    let export = call.driver().pools.cuMemPoolExportToShareableHandle;
    let export = export.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let pool: CUmemoryPool = Scalar::from_u64(call.handle(Kind::Pool, pool)?);
    let mut descriptor: RawFd = -1;
    let place = (&raw mut descriptor).cast();
    // SAFETY: room for a descriptor; the pool is in the session's table.
    ok(call.in_driver(|| unsafe { export(place, pool, DESCRIPTOR, 0) }))?;
    owned(descriptor)
}

/// What another process has given a token for.
pub(super) fn open(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: ShareOpen = call.structure()?;
    call.end_of_parameters()?;
    let object = SharedObject::from_u32(request.object).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    if object != SharedObject::Memory && request.flags != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    match object {
        SharedObject::Memory => {
            let handle = broker::redeem(request.object, request.token)?;
            open_memory(call, CUipcMemHandle { reserved: handle }, request.flags)
        }
        SharedObject::Event => open_event(call, &request),
        SharedObject::Physical => open_physical(call, &request),
        SharedObject::Pool => open_pool(call, &request),
        SharedObject::PoolPointer => open_pool_pointer(call, &request),
    }
}

/// Gives a token back.
pub(super) fn forget(call: &mut Invocation<'_>) -> Result<(), CUresult> {
    let request: ShareForget = call.structure()?;
    call.end_of_parameters()?;
    broker::forget(request.token)
}

fn open_event(call: &mut Invocation<'_>, request: &ShareOpen) -> Result<(), CUresult> {
    let handle = broker::redeem(request.object, request.token)?;
    call.set_current()?;
    call.check_free(Kind::Event, request.handle)?;
    let open = call.driver().sharing.cuIpcOpenEventHandle.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let mut event = CUevent::default();
    let handle = CUipcEventHandle { reserved: handle };
    // SAFETY: room for one event; the handle is one that the driver made.
    ok(call.in_driver(|| unsafe { open(&raw mut event, handle) }))?;
    call.insert(Kind::Event, request.handle, event.to_u64())?;
    call.put(&ShareOpened { address: 0, length: 0 })
}

/// A descriptor in the form that the importing calls take.
fn as_os_handle(descriptor: &OwnedFd) -> *mut std::ffi::c_void {
    std::ptr::without_provenance_mut(usize::try_from(descriptor.as_raw_fd()).unwrap_or(usize::MAX))
}

fn open_physical(call: &mut Invocation<'_>, request: &ShareOpen) -> Result<(), CUresult> {
    let missing = CUresult::ERROR_NOT_SUPPORTED;
    call.check_free(Kind::Allocation, request.handle)?;
    let functions = &call.driver().virtual_memory;
    let import = functions.cuMemImportFromShareableHandle.ok_or(missing)?;
    let ask = functions.cuMemGetAllocationPropertiesFromHandle.ok_or(missing)?;
    let release = functions.cuMemRelease.ok_or(missing)?;
    let descriptor = broker::redeem_descriptor(request.object, request.token)?;
    let os_handle = as_os_handle(&descriptor);
    let mut made = CUmemGenericAllocationHandle::default();
    // SAFETY: room for one handle; the descriptor is one that the driver made, and is open.
    ok(call.in_driver(|| unsafe { import(&raw mut made, os_handle, DESCRIPTOR) }))?;
    let mut properties: CUmemAllocationProp = empty_properties();
    // SAFETY: room for the structure; the handle was made just now.
    let known = ok(unsafe { ask(&raw mut properties, made) });
    let properties = match known.and_then(|()| to_wire(&properties)) {
        Ok(properties) => properties,
        Err(error) => {
            // SAFETY: made just now, and nobody knows of it. The error below says all that the guest has to know.
            let _result = unsafe { release(made) };
            return Err(error);
        }
    };
    let object = Object { raw: made.to_u64(), parent: 0, context: 0 };
    call.session().handles.insert(Kind::Allocation, request.handle, object)?;
    call.put(&ShareOpenedPhysical { properties })
}

fn open_pool(call: &mut Invocation<'_>, request: &ShareOpen) -> Result<(), CUresult> {
    call.check_free(Kind::Pool, request.handle)?;
    let import = call.driver().pools.cuMemPoolImportFromShareableHandle;
    let import = import.ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let descriptor = broker::redeem_descriptor(request.object, request.token)?;
    let os_handle = as_os_handle(&descriptor);
    let mut made = CUmemoryPool::default();
    // SAFETY: room for one handle; the descriptor is one that the driver made, and is open.
    ok(call.in_driver(|| unsafe { import(&raw mut made, os_handle, DESCRIPTOR, 0) }))?;
    let object = Object { raw: made.to_u64(), parent: 0, context: 0 };
    call.session().handles.insert(Kind::Pool, request.handle, object)?;
    call.put(&ShareOpened { address: 0, length: 0 })
}

fn open_pool_pointer(call: &mut Invocation<'_>, request: &ShareOpen) -> Result<(), CUresult> {
    let missing = CUresult::ERROR_NOT_SUPPORTED;
    let import = call.driver().pools.cuMemPoolImportPointer.ok_or(missing)?;
    let free = call.driver().memory.cuMemFree_v2.ok_or(missing)?;
    let pool: CUmemoryPool = Scalar::from_u64(call.handle(Kind::Pool, request.handle)?);
    let mut data = CUmemPoolPtrExportData { reserved: broker::redeem(request.object, request.token)? };
    call.set_current()?;
    let mut pointer = CUdeviceptr::default();
    // SAFETY: room for one address; the data is the driver's own, and the pool is in the session's table.
    ok(call.in_driver(|| unsafe { import(&raw mut pointer, pool, &raw mut data) }))?;
    put_range(call, pointer, |pointer| {
        // SAFETY: opened just now, and nobody knows of it.
        let _result = unsafe { free(pointer) };
    })
}

fn open_memory(call: &mut Invocation<'_>, handle: CUipcMemHandle, flags: u32) -> Result<(), CUresult> {
    call.set_current()?;
    let missing = CUresult::ERROR_NOT_SUPPORTED;
    let functions = &call.driver().sharing;
    let open = functions.cuIpcOpenMemHandle_v2.ok_or(missing)?;
    let close = functions.cuIpcCloseMemHandle.ok_or(missing)?;
    let mut pointer = CUdeviceptr::default();
    // SAFETY: room for one address; the handle is one that the driver made.
    ok(call.in_driver(|| unsafe { open(&raw mut pointer, handle, flags) }))?;
    put_range(call, pointer, |pointer| {
        // SAFETY: opened just now, and nobody knows of it.
        let _result = unsafe { close(pointer) };
    })
}

/// Says where memory that was just opened lies, or closes it: the guest can use what lies inside the window only.
fn put_range(
    call: &mut Invocation<'_>,
    pointer: CUdeviceptr,
    close: impl FnOnce(CUdeviceptr),
) -> Result<(), CUresult> {
    let (mut start, mut length) = (CUdeviceptr::default(), 0_usize);
    let known = call.driver().memory.cuMemGetAddressRange_v2.is_some_and(|range| {
        // SAFETY: room for an address and a number.
        ok(unsafe { range(&raw mut start, &raw mut length, pointer) }).is_ok()
    });
    // What lies behind it.
    let length = start.0.saturating_add(length as u64).saturating_sub(pointer.0);
    if !known || !is_in_window(pointer.0, length) {
        log::warn!(
            "{length:#x} bytes of another process came to lie at {:#x}, outside the window",
            pointer.0
        );
        close(pointer);
        return Err(CUresult::ERROR_OUT_OF_MEMORY);
    }
    call.put(&ShareOpened { address: pointer.0, length })
}

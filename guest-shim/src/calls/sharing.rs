//! What devices can do with one another (nothing yet), and memory and events for other processes: tokens, which the
//! supervisor knows.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::cuda::{
    CUcontext, CUdevice, CUdevice_P2PAttribute, CUdeviceptr, CUevent, CUipcEventHandle, CUipcMemHandle,
    CUresult,
};
use virtio_spec::handle::Kind;
use virtio_spec::requests::{Share, ShareOpen, ShareOpened, SharedObject, TOKEN_BYTES, Token, opcode};

use super::give;
use crate::device::devices;
use crate::entry::status;
use crate::exports::sharing::wire_cuIpcCloseMemHandle;
use crate::wire::Request;
use crate::{context, handles, memory};

/// The two devices, which must exist and differ.
fn check(first: CUdevice, second: CUdevice) -> Result<(), CUresult> {
    let all = devices()?;
    all.record(first)?;
    all.record(second)?;
    Ok(())
}

pub(crate) unsafe fn cuDeviceCanAccessPeer(
    can_access_peer: *mut i32,
    device: CUdevice,
    peer_dev: CUdevice,
) -> CUresult {
    // SAFETY: the application's place for a number.
    status(check(device, peer_dev).and_then(|()| unsafe { give(can_access_peer, 0) }))
}

/// The other context, which must exist and not be the thread's own.
fn check_peer(peer: CUcontext) -> Result<(), CUresult> {
    let own = context::required()?;
    if peer.0 == own || context::find(peer.0).is_none() {
        return Err(CUresult::ERROR_INVALID_CONTEXT);
    }
    Ok(())
}

pub(crate) unsafe fn cuCtxEnablePeerAccess(peer_context: CUcontext, flags: u32) -> CUresult {
    match check_peer(peer_context) {
        Ok(()) if flags != 0 => CUresult::ERROR_INVALID_VALUE,
        // As `cuDeviceCanAccessPeer` says.
        Ok(()) => CUresult::ERROR_PEER_ACCESS_UNSUPPORTED,
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuCtxDisablePeerAccess(peer_context: CUcontext) -> CUresult {
    match check_peer(peer_context) {
        Ok(()) => CUresult::ERROR_PEER_ACCESS_NOT_ENABLED,
        Err(error) => error,
    }
}

pub(crate) unsafe fn cuDeviceGetP2PAttribute(
    value: *mut i32,
    attrib: CUdevice_P2PAttribute,
    src_device: CUdevice,
    dst_device: CUdevice,
) -> CUresult {
    if CUdevice_P2PAttribute::ALL.iter().all(|known| *known != attrib) {
        return CUresult::ERROR_INVALID_VALUE;
    }
    if src_device == dst_device {
        return CUresult::ERROR_INVALID_DEVICE;
    }
    // SAFETY: the application's place for a number.
    status(check(src_device, dst_device).and_then(|()| unsafe { give(value, 0) }))
}

/// Memory of other processes that is open here: how often, by its address.
static OPENED: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());

fn opened() -> MutexGuard<'static, BTreeMap<u64, u64>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token for an allocation or an event.
fn token(object: SharedObject, target: u64) -> Result<[u8; TOKEN_BYTES], CUresult> {
    let mut request = Request::start(opcode::SHARE, context::required()?)?;
    request.structure(&Share { object: object as u32, reserved: 0, target });
    Ok(request.answer()?.take::<Token>()?.bytes)
}

fn open(
    object: SharedObject,
    flags: u32,
    handle: u64,
    token: [u8; TOKEN_BYTES],
) -> Result<ShareOpened, CUresult> {
    let mut request = Request::start(opcode::SHARE_OPEN, context::required()?)?;
    request.structure(&ShareOpen { object: object as u32, flags, handle, token });
    request.answer()?.take::<ShareOpened>()
}

pub(crate) unsafe fn cuIpcGetMemHandle(handle: *mut CUipcMemHandle, dptr: CUdeviceptr) -> CUresult {
    if handle.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    match memory::find(dptr.0) {
        Some(range) => memory::kept::exclude(range.start),
        None => memory::kept::surrender(dptr.0),
    }
    let made = token(SharedObject::Memory, dptr.0);
    // SAFETY: the application's place for a handle.
    status(made.and_then(|reserved| unsafe { give(handle, CUipcMemHandle { reserved }) }))
}

pub(crate) unsafe fn cuIpcOpenMemHandle_v2(
    pdptr: *mut CUdeviceptr,
    handle: CUipcMemHandle,
    flags: u32,
) -> CUresult {
    if pdptr.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<u64, CUresult> {
        let found = open(SharedObject::Memory, flags, 0, handle.reserved)?;
        let mut opened = opened();
        let count = opened.entry(found.address).or_insert(0);
        if *count == 0 {
            let context = context::current().unwrap_or(0);
            memory::insert(found.address, found.length, memory::Kind::Device, found.address, context);
        }
        *count += 1;
        Ok(found.address)
    };
    // SAFETY: the application's place for an address.
    status(run().and_then(|address| unsafe { give(pdptr, CUdeviceptr(address)) }))
}

pub(crate) unsafe fn cuIpcOpenMemHandle(
    pdptr: *mut CUdeviceptr,
    handle: CUipcMemHandle,
    flags: u32,
) -> CUresult {
    // SAFETY: the same contract.
    unsafe { cuIpcOpenMemHandle_v2(pdptr, handle, flags) }
}

pub(crate) unsafe fn cuIpcCloseMemHandle(dptr: CUdeviceptr) -> CUresult {
    let mut opened = opened();
    // SAFETY: no pointers.
    let result = unsafe { wire_cuIpcCloseMemHandle(dptr) };
    if result == CUresult::SUCCESS
        && let Some(count) = opened.get_mut(&dptr.0)
    {
        *count -= 1;
        if *count == 0 {
            opened.remove(&dptr.0);
            memory::remove(dptr.0);
        }
    }
    result
}

pub(crate) unsafe fn cuIpcGetEventHandle(handle: *mut CUipcEventHandle, event: CUevent) -> CUresult {
    if handle.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    if !handles::check(&[Kind::Event], event.0) {
        return CUresult::ERROR_INVALID_HANDLE;
    }
    let made = token(SharedObject::Event, event.0);
    // SAFETY: the application's place for a handle.
    status(made.and_then(|reserved| unsafe { give(handle, CUipcEventHandle { reserved }) }))
}

pub(crate) unsafe fn cuIpcOpenEventHandle(event: *mut CUevent, handle: CUipcEventHandle) -> CUresult {
    if event.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<u64, CUresult> {
        let minted = handles::mint(Kind::Event)?;
        let found = open(SharedObject::Event, 0, minted, handle.reserved);
        if found.is_err() {
            handles::release(Kind::Event, minted);
        }
        found.map(|_| minted)
    };
    // SAFETY: the application's place for an event.
    status(run().and_then(|minted| unsafe { give(event, CUevent(minted)) }))
}

//! Physical memory and pools for other processes, as descriptors ([`crate::carrier`]), and memory of such pools.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::cuda::{
    CUdeviceptr, CUmemAllocationFlags, CUmemAllocationHandleType, CUmemAllocationProp, CUmemAllocationType,
    CUmemGenericAllocationHandle, CUmemLocation, CUmemLocationType, CUmemPoolPtrExportData, CUmemoryPool,
    CUresult,
};
use virtio_spec::handle::Kind;
use virtio_spec::requests::{
    MemoryProperties, Share, ShareForget, ShareOpen, ShareOpened, ShareOpenedPhysical, SharedObject,
    TOKEN_BYTES, Token, opcode,
};

use super::give;
use super::pools::check as check_pool;
use crate::device::{devices, number};
use crate::entry::status;
use crate::exports::virtual_memory::wire_cuMemRelease;
use crate::memory::reserved::{self, Properties};
use crate::wire::{Request, Response};
use crate::{carrier, context, handles, memory};

/// Memory of pools of which a token was given away, by its address.
static POINTERS: Mutex<BTreeMap<u64, [u8; TOKEN_BYTES]>> = Mutex::new(BTreeMap::new());

fn pointers() -> MutexGuard<'static, BTreeMap<u64, [u8; TOKEN_BYTES]>> {
    POINTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn token(object: SharedObject, target: u64) -> Result<[u8; TOKEN_BYTES], CUresult> {
    let mut request = Request::start(opcode::SHARE, context::current().unwrap_or(0))?;
    request.structure(&Share { object: object as u32, reserved: 0, target });
    Ok(request.answer()?.take::<Token>()?.bytes)
}

fn open(object: SharedObject, handle: u64, token: [u8; TOKEN_BYTES]) -> Result<Response, CUresult> {
    let mut request = Request::start(opcode::SHARE_OPEN, context::current().unwrap_or(0))?;
    request.structure(&ShareOpen { object: object as u32, flags: 0, handle, token });
    request.answer()
}

/// Has the device let go of a token. That it did not know it changes nothing for anyone.
fn forget(token: [u8; TOKEN_BYTES]) {
    if let Ok(mut request) = Request::start(opcode::SHARE_FORGET, 0) {
        request.structure(&ShareForget { token });
        let _answer = request.answer();
    }
}

/// Has the device let go of the memory that only descriptors kept which are closed now.
pub(crate) fn forget_unused() {
    carrier::forget_unused(forget);
}

/// Notes that memory of a pool is free: its token opens nothing any more.
pub(crate) fn freed(address: u64) {
    let known = pointers().remove(&address);
    if let Some(token) = known {
        forget(token);
    }
}

/// Descriptors are the only handles that there are here.
fn check_type(kind: CUmemAllocationHandleType) -> Result<(), CUresult> {
    match kind {
        CUmemAllocationHandleType::POSIX_FILE_DESCRIPTOR => Ok(()),
        CUmemAllocationHandleType::WIN32
        | CUmemAllocationHandleType::WIN32_KMT
        | CUmemAllocationHandleType::FABRIC => Err(CUresult::ERROR_NOT_SUPPORTED),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

/// The descriptor in a parameter that is a pointer on other systems.
fn descriptor(os_handle: *mut c_void) -> Result<i32, CUresult> {
    i32::try_from(os_handle.addr()).map_err(|_| CUresult::ERROR_INVALID_VALUE)
}

/// Makes a descriptor for what the device shares.
fn export(object: SharedObject, target: u64) -> Result<i32, CUresult> {
    forget_unused();
    let token = token(object, target)?;
    carrier::make(object, token).inspect_err(|_| forget(token))
}

/// Makes a handle of what is behind a descriptor.
fn import<T>(
    object: SharedObject,
    kind: Kind,
    descriptor: i32,
    take: impl FnOnce(Response) -> Result<T, CUresult>,
) -> Result<(u64, T), CUresult> {
    let token = carrier::read(object, descriptor)?;
    let minted = handles::mint(kind)?;
    match open(object, minted, token).and_then(take) {
        Ok(taken) => Ok((minted, taken)),
        Err(error) => {
            handles::release(kind, minted);
            Err(error)
        }
    }
}

pub(crate) unsafe fn cuMemExportToShareableHandle(
    shareable_handle: *mut c_void,
    handle: CUmemGenericAllocationHandle,
    handle_type: CUmemAllocationHandleType,
    flags: u64,
) -> CUresult {
    if shareable_handle.is_null() || flags != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<i32, CUresult> {
        check_type(handle_type)?;
        // Only while the program holds it.
        reserved::properties(handle.0)?;
        export(SharedObject::Physical, handle.0)
    };
    // SAFETY: the application's place for a descriptor.
    status(run().and_then(|made| unsafe { give(shareable_handle.cast::<i32>(), made) }))
}

/// What the memory is, as this process numbers devices.
fn properties(found: &MemoryProperties) -> Result<Properties, CUresult> {
    let device = devices()?.at_host_ordinal(found.device).ok_or(CUresult::ERROR_INVALID_DEVICE)?;
    let given = CUmemAllocationProp {
        allocation_type: CUmemAllocationType::PINNED,
        requestedHandleTypes: CUmemAllocationHandleType(found.handle_types),
        location: CUmemLocation { kind: CUmemLocationType::DEVICE.0, id: number(device) },
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: CUmemAllocationFlags {
            compressionType: found.compression,
            gpuDirectRDMACapable: found.rdma,
            usage: found.usage,
            reserved: [0; 4],
        },
    };
    Properties::new(&given).ok_or(CUresult::ERROR_UNKNOWN)
}

pub(crate) unsafe fn cuMemImportFromShareableHandle(
    handle: *mut CUmemGenericAllocationHandle,
    os_handle: *mut c_void,
    handle_type: CUmemAllocationHandleType,
) -> CUresult {
    if handle.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<u64, CUresult> {
        check_type(handle_type)?;
        let take = |mut response: Response| response.take::<ShareOpenedPhysical>();
        let (minted, opened) =
            import(SharedObject::Physical, Kind::Allocation, descriptor(os_handle)?, take)?;
        match properties(&opened.properties) {
            Ok(kept) => {
                reserved::created(minted, kept);
                Ok(minted)
            }
            Err(error) => {
                // SAFETY: no pointers. The error below says all that the program has to know.
                let _result = unsafe { wire_cuMemRelease(CUmemGenericAllocationHandle(minted)) };
                Err(error)
            }
        }
    };
    // SAFETY: the application's place for a handle.
    status(run().and_then(|minted| unsafe { give(handle, CUmemGenericAllocationHandle(minted)) }))
}

pub(crate) unsafe fn cuMemPoolExportToShareableHandle(
    handle_out: *mut c_void,
    pool: CUmemoryPool,
    handle_type: CUmemAllocationHandleType,
    flags: u64,
) -> CUresult {
    if handle_out.is_null() || flags != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<i32, CUresult> {
        check_type(handle_type)?;
        check_pool(pool)?;
        export(SharedObject::Pool, pool.0)
    };
    // SAFETY: the application's place for a descriptor.
    status(run().and_then(|made| unsafe { give(handle_out.cast::<i32>(), made) }))
}

pub(crate) unsafe fn cuMemPoolImportFromShareableHandle(
    pool_out: *mut CUmemoryPool,
    handle: *mut c_void,
    handle_type: CUmemAllocationHandleType,
    flags: u64,
) -> CUresult {
    if pool_out.is_null() || flags != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<u64, CUresult> {
        check_type(handle_type)?;
        let take = |mut response: Response| response.take::<ShareOpened>();
        import(SharedObject::Pool, Kind::Pool, descriptor(handle)?, take).map(|(minted, _)| minted)
    };
    // SAFETY: the application's place for a handle.
    status(run().and_then(|minted| unsafe { give(pool_out, CUmemoryPool(minted)) }))
}

pub(crate) unsafe fn cuMemPoolExportPointer(
    share_data_out: *mut CUmemPoolPtrExportData,
    ptr: CUdeviceptr,
) -> CUresult {
    if share_data_out.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<CUmemPoolPtrExportData, CUresult> {
        let found = memory::find(ptr.0).filter(|found| matches!(found.kind, memory::Kind::Pooled { .. }));
        let start = found.ok_or(CUresult::ERROR_INVALID_VALUE)?.start;
        let reserved = token(SharedObject::PoolPointer, ptr.0)?;
        pointers().insert(start, reserved);
        Ok(CUmemPoolPtrExportData { reserved })
    };
    // SAFETY: the application's place for the data.
    status(run().and_then(|data| unsafe { give(share_data_out, data) }))
}

pub(crate) unsafe fn cuMemPoolImportPointer(
    ptr_out: *mut CUdeviceptr,
    pool: CUmemoryPool,
    share_data: *mut CUmemPoolPtrExportData,
) -> CUresult {
    if ptr_out.is_null() || share_data.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let run = || -> Result<u64, CUresult> {
        context::required()?;
        check_pool(pool)?;
        // SAFETY: the application's data.
        let data = unsafe { share_data.read() };
        let opened = open(SharedObject::PoolPointer, pool.0, data.reserved)?.take::<ShareOpened>()?;
        memory::insert_pooled(opened.address, opened.length, pool.0);
        Ok(opened.address)
    };
    // SAFETY: the application's place for an address.
    status(run().and_then(|address| unsafe { give(ptr_out, CUdeviceptr(address)) }))
}

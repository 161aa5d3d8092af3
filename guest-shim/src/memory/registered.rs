//! Memory of the process that it registers (`cuMemHostRegister`).
//!
//! Its pages become a region of the session, mapped by the device at the same address, so that copies are DMA and kernels
//! reach it. Pages that cannot be shared (too scattered, mapped files, on the local transport anything but private
//! anonymous memory) stay *staged*: the registration is known and copies work, but no GPU address is given, and a
//! registration that asked for one fails. Pages that are registered for reading the device maps read-only; copies into
//! them are written by the process.
//!
//! Unsafe code: advice about the application's pages.

use virtio_spec::cuda::CUresult;

use super::{Kind, find, insert, overlaps, pinned};
use crate::transport::TransportError;
use crate::{context, session};

const PAGE: u64 = 4096;
/// `CU_MEMHOSTREGISTER_DEVICEMAP`.
const DEVICE_MAP: u32 = 2;
/// `CU_MEMHOSTREGISTER_IOMEMORY`.
const IO_MEMORY: u32 = 4;
/// `CU_MEMHOSTREGISTER_READ_ONLY`.
pub(super) const READ_ONLY: u32 = 8;
const KNOWN_FLAGS: u32 = 15;

/// `cuMemHostRegister`.
pub(crate) fn register(address: u64, length: u64, flags: u32) -> Result<(), CUresult> {
    let context = context::required()?;
    let end = address.checked_add(length).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    if address == 0 || length == 0 || flags & !KNOWN_FLAGS != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if flags & IO_MEMORY != 0 {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    if overlaps(address, length) {
        return Err(CUresult::ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    }
    let session = session::get()?;
    session.check_alive()?;
    let first = address & !(PAGE - 1);
    let bytes = end.checked_next_multiple_of(PAGE).ok_or(CUresult::ERROR_INVALID_VALUE)? - first;
    let share = || session.transport().register(first, bytes, flags & READ_ONLY != 0);
    let shared = match share() {
        // Too many pieces, perhaps: huge pages make fewer.
        Err(TransportError::NoMemory) if collapse(first, bytes) => share(),
        shared => shared,
    };
    let region = match shared {
        Ok(region) => region,
        Err(TransportError::Dead) => return Err(session.died()),
        Err(_) if flags & DEVICE_MAP == 0 => {
            insert(address, length, Kind::Registered { flags, region: None }, 0, context);
            return Ok(());
        }
        Err(error) => return Err(session::error_of(error)),
    };
    match pinned::register(address, length, flags, context) {
        Ok(pointer) => {
            insert(address, length, Kind::Registered { flags, region: Some(region) }, pointer, context);
            Ok(())
        }
        Err(error) => {
            drop_region(region);
            Err(error)
        }
    }
}

/// Has the kernel put the pages together; true if it did so for any.
fn collapse(address: u64, length: u64) -> bool {
    let (Ok(place), Ok(length)) = (usize::try_from(address), usize::try_from(length)) else { return false };
    let place = std::ptr::with_exposed_provenance_mut(place);
    // SAFETY: changes which pages hold the application's memory, not what it holds.
    unsafe { libc::madvise(place, length, libc::MADV_COLLAPSE) == 0 }
}

/// `cuMemHostUnregister`.
pub(crate) fn unregister(address: u64) -> Result<(), CUresult> {
    let range = find(address).filter(|range| range.start == address);
    let Some((range, Kind::Registered { region, .. })) = range.map(|range| (range, range.kind)) else {
        return Err(CUresult::ERROR_HOST_MEMORY_NOT_REGISTERED);
    };
    session::get()?.check_alive()?;
    if let Some(region) = region {
        pinned::unregister(address, range.context)?;
        super::remove(address);
        drop_region(region);
    } else {
        super::remove(address);
    }
    Ok(())
}

/// Takes pages back from the device.
pub(crate) fn drop_region(region: u32) {
    if let Some(session) = session::existing() {
        // The pages are the process's whatever the device says.
        let _ = session.transport().unmap(region);
    }
}

//! What devices can do with one another: nothing yet.
//!
//! Unsafe code: the application's pointers, as CUDA's contracts describe them.

use virtio_spec::cuda::{CUdevice, CUdevice_P2PAttribute, CUresult};

use super::give;
use crate::device::devices;
use crate::entry::status;

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

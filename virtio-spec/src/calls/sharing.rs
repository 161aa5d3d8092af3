//! Sharing between processes, and access between devices.

#![allow(clippy::too_many_arguments, reason = "CUDA's own signatures")]

use virtio_spec_macros::calls;

use crate::cuda::*;

/// Sharing between processes, and access between devices.
#[calls(group = 0x14)]
pub trait Sharing {
    #[call(op = 0x01, since = 4000, guest, no_context)]
    fn cuDeviceCanAccessPeer(can_access_peer: *mut i32, device: CUdevice, peer_dev: CUdevice);
    #[call(op = 0x02, since = 8000, guest, no_context)]
    fn cuDeviceGetP2PAttribute(
        value: *mut i32,
        attrib: CUdevice_P2PAttribute,
        src_device: CUdevice,
        dst_device: CUdevice,
    );
    #[call(op = 0x03, since = 4000, guest)]
    fn cuCtxDisablePeerAccess(peer_context: CUcontext);
    #[call(op = 0x04, since = 4000, guest)]
    fn cuCtxEnablePeerAccess(peer_context: CUcontext, flags: u32);
    #[call(op = 0x05, since = 13000, unsupported)]
    fn cuDeviceGetP2PAtomicCapabilities();
    #[call(op = 0x06, since = 4010, wire, custom, blocks_gpu)]
    fn cuIpcCloseMemHandle(dptr: CUdeviceptr);
    #[call(op = 0x07, since = 4010, custom)]
    fn cuIpcGetEventHandle(handle: *mut CUipcEventHandle, event: CUevent);
    #[call(op = 0x08, since = 4010, custom)]
    fn cuIpcGetMemHandle(handle: *mut CUipcMemHandle, dptr: CUdeviceptr);
    #[call(op = 0x09, since = 4010, custom)]
    fn cuIpcOpenEventHandle(event: *mut CUevent, handle: CUipcEventHandle);
    #[call(op = 0x0a, since = 4010, custom)]
    fn cuIpcOpenMemHandle(pdptr: *mut CUdeviceptr, handle: CUipcMemHandle, flags: u32);
    #[call(op = 0x0b, since = 11000, custom)]
    fn cuIpcOpenMemHandle_v2(pdptr: *mut CUdeviceptr, handle: CUipcMemHandle, flags: u32);
}

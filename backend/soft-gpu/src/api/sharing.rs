//! Memory for other processes. Events for them are not there yet.

#![allow(non_snake_case, reason = "CUDA's own names")]

use virtio_spec::cuda::{CUdeviceptr, CUipcMemHandle, CUresult};

use super::entry::{Call, Out, exports};
use crate::driver::Result;
use crate::driver::allocation::Kind;

exports! {
    context cuIpcGetMemHandle(handle: *mut CUipcMemHandle, pointer: CUdeviceptr) = share;
    context cuIpcOpenMemHandle(pointer: *mut CUdeviceptr, handle: CUipcMemHandle, flags: u32) = open;
    context cuIpcOpenMemHandle_v2(pointer: *mut CUdeviceptr, handle: CUipcMemHandle, flags: u32) = open;
    context cuIpcCloseMemHandle(pointer: CUdeviceptr) = close;
}

/// `CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS`.
const LAZY_PEER_ACCESS: u32 = 1;

fn share(call: &Call, handle: Out<CUipcMemHandle>, pointer: CUdeviceptr) -> Result<()> {
    handle.check()?;
    let found = call.driver().memory.find(pointer.0).filter(|found| found.kind == Kind::Device);
    handle.put(call.driver().share(&found.ok_or(CUresult::ERROR_INVALID_VALUE)?)?)
}

fn open(call: &Call, pointer: Out<CUdeviceptr>, handle: CUipcMemHandle, flags: u32) -> Result<()> {
    pointer.check()?;
    if flags & !LAZY_PEER_ACCESS != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    pointer.put(CUdeviceptr(call.driver().open_shared(&handle, call.context.handle)?))
}

fn close(call: &Call, pointer: CUdeviceptr) -> Result<()> {
    call.driver().close_shared(pointer.0)?;
    call.context.health.check()
}

//! Access between contexts of one device.

use anyhow::ensure;

use crate::driver::Code;
use crate::gpu::Gpu;
use crate::outcome::{CaseResult, pass};
use crate::registry::area;

area!("peers":
    a_device_is_no_peer_of_itself,
    copies_between_contexts,
);

/// `CUDA_ERROR_PEER_ACCESS_NOT_ENABLED`.
const NOT_ENABLED: Code = Code(705);

fn a_device_is_no_peer_of_itself() -> CaseResult {
    let gpu = Gpu::new()?;
    let mut can = 7;
    gpu.cu.cuDeviceCanAccessPeer(&mut can, gpu.device, gpu.device).ok()?;
    ensure!(can == 0, "a device can access itself as a peer: {can}");
    let own = gpu.cu.cuCtxEnablePeerAccess(gpu.context, 0);
    ensure!(own != Code::SUCCESS, "access to the own context was enabled");
    let mut other = 0;
    gpu.cu.cuCtxCreate_v2(&mut other, 0, gpu.device).ok()?;
    // Which error says that it is the same device differs between drivers.
    let same = gpu.cu.cuCtxEnablePeerAccess(gpu.context, 0);
    ensure!(same != Code::SUCCESS, "access to another context of the device was enabled");
    let disabled = gpu.cu.cuCtxDisablePeerAccess(gpu.context);
    ensure!(disabled == NOT_ENABLED, "access that was not enabled: {disabled:?}");
    pass()
}

fn copies_between_contexts() -> CaseResult {
    let gpu = Gpu::new()?;
    let source = gpu.upload(&[1u32, 2, 3, 4])?;
    let mut other = 0;
    gpu.cu.cuCtxCreate_v2(&mut other, 0, gpu.device).ok()?;
    let target = gpu.upload(&[0u32; 4])?;
    gpu.cu.cuMemcpyPeer(target, other, source, gpu.context, 16).ok()?;
    gpu.cu.cuCtxSynchronize().ok()?;
    ensure!(gpu.read::<u32>(target, 4)? == [1, 2, 3, 4], "other values");
    pass()
}

//! Modes: what the host's operator has set, and what a guest has not.

use virtio_spec::management::Fixed;

use crate::abi::{Error, Handle};
use crate::entry::Place;

nvml! {
    /// Whether the host keeps its driver loaded. A guest finds it loaded at any time.
    [nvmlDeviceGetPersistenceMode](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::Persistence).unwrap_or(1))
    };
    /// Who may use the device: CUDA's attribute.
    [nvmlDeviceGetComputeMode](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.attribute(20)?)
    };
    /// Whether memory corrects errors: CUDA's attribute if the host's NVML does not say. A guest changes nothing, so
    /// what is pending is what is.
    [nvmlDeviceGetEccMode](device: Handle, current: Place<u32>, pending: Place<u32>) = |session| {
        let device = session.device(device)?;
        let (current, pending) = (current.check()?, pending.check()?);
        let mode = device.fixed(Fixed::ErrorCorrection).or_else(|_| device.attribute(32))?;
        current.put(mode)?;
        pending.put(mode)
    };
    /// No display is attached.
    [nvmlDeviceGetDisplayMode nvmlDeviceGetDisplayActive](device: Handle, out: Place<u32>) = |session| {
        session.device(device)?;
        out.put(0)
    };
    /// No process is accounted for.
    [nvmlDeviceGetAccountingMode](device: Handle, out: Place<u32>) = |session| {
        session.device(device)?;
        out.put(0)
    };
    /// A device of a guest is no part of a device as far as the guest sees.
    [nvmlDeviceIsMigDeviceHandle](device: Handle, out: Place<u32>) = |session| {
        session.device(device)?;
        out.put(0)
    };
    /// Nothing can be divided.
    [nvmlDeviceGetMaxMigDeviceCount](device: Handle, out: Place<u32>) = |session| {
        session.device(device)?;
        out.put(0)
    };
    /// There are none.
    [nvmlDeviceGetMigDeviceHandleByIndex](device: Handle, _index: u32, out: Place<Handle>) = |session| {
        session.device(device)?;
        out.check()?;
        Err(Error::NOT_FOUND)
    };
    /// The device is used through a VM's device, neither passed through nor NVIDIA's vGPU; programs that tell virtual
    /// GPUs from others treat it as any other.
    [nvmlDeviceGetVirtualizationMode](device: Handle, out: Place<u32>) = |session| {
        session.device(device)?;
        out.put(0)
    };
}

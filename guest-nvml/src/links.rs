//! How a device is connected: PCIe as the host has it, and to other devices.

use virtio_spec::management::{Fixed, Live};

use crate::abi::{Error, Handle};
use crate::entry::Place;

/// `NVML_P2P_STATUS_OK`, for a device with itself.
const PEER_OK: u32 = 0;
/// `NVML_P2P_STATUS_NOT_SUPPORTED`.
const PEER_NOT_SUPPORTED: u32 = 5;
/// The greatest `nvmlGpuP2PCapsIndex_t`.
const LAST_PEER_CAPABILITY: u32 = 5;
/// `NVML_TOPOLOGY_INTERNAL`, `NVML_TOPOLOGY_SYSTEM`.
const INTERNAL: u32 = 0;
const SYSTEM: u32 = 50;

nvml! {
    /// The PCIe generation that device and slot have in common.
    [nvmlDeviceGetMaxPcieLinkGeneration](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::PcieGenerationMax)?)
    };
    /// The PCIe generation of the device.
    [nvmlDeviceGetGpuMaxPcieLinkGeneration](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::PcieGenerationOfDevice)?)
    };
    /// The lanes that device and slot have in common.
    [nvmlDeviceGetMaxPcieLinkWidth](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::PcieWidthMax)?)
    };
    /// The PCIe generation now.
    [nvmlDeviceGetCurrPcieLinkGeneration](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.live(Live::PcieGeneration)?)
    };
    /// The lanes now.
    [nvmlDeviceGetCurrPcieLinkWidth](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.live(Live::PcieWidth)?)
    };
    /// KB/s from the device (0) or to it (1).
    [nvmlDeviceGetPcieThroughput](device: Handle, counter: u32, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?;
        match counter {
            0 => out.put(device.live(Live::PcieSent)?),
            1 => out.put(device.live(Live::PcieReceived)?),
            _ => Err(Error::INVALID_ARGUMENT),
        }
    };
    /// Whether devices reach each other's memory.
    [nvmlDeviceGetP2PStatus](first: Handle, second: Handle, capability: u32, out: Place<u32>) = |session| {
        let same = session.device(first)?.place == session.device(second)?.place;
        out.check()?;
        if capability > LAST_PEER_CAPABILITY {
            return Err(Error::INVALID_ARGUMENT);
        }
        out.put(if same { PEER_OK } else { PEER_NOT_SUPPORTED })
    };
    /// The host's buses are not the guest's: two devices have the system in common.
    [nvmlDeviceGetTopologyCommonAncestor](first: Handle, second: Handle, out: Place<u32>) = |session| {
        let same = session.device(first)?.place == session.device(second)?.place;
        out.put(if same { INTERNAL } else { SYSTEM })
    };
}

//! What a device can do at most: clocks, power, temperature.

use virtio_spec::management::Fixed;

use crate::abi::{Error, Handle};
use crate::entry::Place;
use crate::state::Device;

/// The greatest clock of a domain in MHz; CUDA knows two of them in kHz.
fn clock(device: Device<'_>, domain: u32) -> Result<u32, Error> {
    let (which, attribute) = match domain {
        0 => (Fixed::ClockGraphicsMax, Some(13)),
        1 => (Fixed::ClockProcessorsMax, Some(13)),
        2 => (Fixed::ClockMemoryMax, Some(36)),
        3 => (Fixed::ClockVideoMax, None),
        _ => return Err(Error::INVALID_ARGUMENT),
    };
    device.fixed(which).or_else(|error| Ok(device.attribute(attribute.ok_or(error)?)? / 1000))
}

nvml! {
    /// MHz of a domain.
    [nvmlDeviceGetMaxClockInfo](device: Handle, domain: u32, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(clock(device, domain)?)
    };
    /// Milliwatts that the device may take.
    [nvmlDeviceGetPowerManagementLimit](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::PowerLimit)?)
    };
    /// Milliwatts that it may take by default.
    [nvmlDeviceGetPowerManagementDefaultLimit](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::PowerLimitDefault)?)
    };
    /// Milliwatts that it may take, all limits together.
    [nvmlDeviceGetEnforcedPowerLimit](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::PowerLimitEnforced)?)
    };
    /// Milliwatts between which the host's operator may choose.
    [nvmlDeviceGetPowerManagementLimitConstraints](device: Handle, least: Place<u32>, most: Place<u32>) = |session| {
        let device = session.device(device)?;
        let (least, most) = (least.check()?, most.check()?);
        least.put(device.fixed(Fixed::PowerLimitMin)?)?;
        most.put(device.fixed(Fixed::PowerLimitMax)?)
    };
    /// Whether the device keeps to a power limit.
    [nvmlDeviceGetPowerManagementMode](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::PowerLimit).map(|_| 1)?)
    };
    /// Degrees Celsius at which something happens.
    [nvmlDeviceGetTemperatureThreshold](device: Handle, which: u32, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?;
        let which = match which {
            0 => Fixed::ShutdownTemperature,
            1 => Fixed::SlowdownTemperature,
            2 => Fixed::MemoryTemperatureMax,
            3 => Fixed::GpuTemperatureMax,
            4..=7 => return Err(Error::NOT_SUPPORTED),
            _ => return Err(Error::INVALID_ARGUMENT),
        };
        out.put(device.fixed(which)?)
    };
    /// Fans.
    [nvmlDeviceGetNumFans](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.fixed(Fixed::Fans)?)
    };
}

//! What a device is doing: utilisation, clocks, temperature, power.

use virtio_spec::management::Live;

use crate::abi::{Error, Handle, Temperature, Utilization, version};
use crate::entry::Place;

/// Over how long the host's driver measures utilisation of the video engines, in microseconds.
const SAMPLING_PERIOD: u32 = 1_000_000;

/// The clock of a domain.
pub(crate) const fn clock(domain: u32) -> Result<Live, Error> {
    match domain {
        0 => Ok(Live::ClockGraphics),
        1 => Ok(Live::ClockProcessors),
        2 => Ok(Live::ClockMemory),
        3 => Ok(Live::ClockVideo),
        _ => Err(Error::INVALID_ARGUMENT),
    }
}

nvml! {
    /// Percent of time in which a kernel ran, and in which memory was read or written.
    [nvmlDeviceGetUtilizationRates](device: Handle, out: Place<Utilization>) = |session| {
        let device = session.device(device)?;
        out.check()?;
        let gpu = device.live(Live::GpuUtilization)?;
        out.put(Utilization { gpu, memory: device.live(Live::MemoryUtilization).unwrap_or(0) })
    };
    /// Percent of the video encoders' time.
    [nvmlDeviceGetEncoderUtilization](device: Handle, out: Place<u32>, period: Place<u32>) = |session| {
        let device = session.device(device)?;
        let (out, period) = (out.check()?, period.check()?);
        out.put(device.live(Live::EncoderUtilization)?)?;
        period.put(SAMPLING_PERIOD)
    };
    /// Percent of the video decoders' time.
    [nvmlDeviceGetDecoderUtilization](device: Handle, out: Place<u32>, period: Place<u32>) = |session| {
        let device = session.device(device)?;
        let (out, period) = (out.check()?, period.check()?);
        out.put(device.live(Live::DecoderUtilization)?)?;
        period.put(SAMPLING_PERIOD)
    };
    /// Degrees Celsius of the one sensor that there is.
    [nvmlDeviceGetTemperature](device: Handle, sensor: u32, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?;
        if sensor != 0 {
            return Err(Error::INVALID_ARGUMENT);
        }
        out.put(device.live(Live::Temperature)?)
    };
    /// The same in a structure.
    [nvmlDeviceGetTemperatureV](device: Handle, out: Place<Temperature>) = |session| {
        let device = session.device(device)?;
        let wanted = out.get()?;
        if wanted.version != version::<Temperature>(1) {
            return Err(Error::ARGUMENT_VERSION_MISMATCH);
        }
        if wanted.sensor != 0 {
            return Err(Error::INVALID_ARGUMENT);
        }
        out.put(Temperature { degrees: device.live(Live::Temperature)?.cast_signed(), ..wanted })
    };
    /// Milliwatts.
    [nvmlDeviceGetPowerUsage](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.live(Live::Power)?)
    };
    /// Millijoules since the host's driver was loaded.
    [nvmlDeviceGetTotalEnergyConsumption](device: Handle, out: Place<u64>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.live_long(Live::Energy)?)
    };
    /// MHz of a domain.
    [nvmlDeviceGetClockInfo](device: Handle, domain: u32, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.live(clock(domain)?)?)
    };
    /// MHz of a domain, by which clock is meant: the current one alone is known.
    [nvmlDeviceGetClock](device: Handle, domain: u32, which: u32, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?;
        let clock = clock(domain)?;
        match which {
            0 => out.put(device.live(clock)?),
            1..=3 => Err(Error::NOT_SUPPORTED),
            _ => Err(Error::INVALID_ARGUMENT),
        }
    };
    /// Percent of the fans' speed.
    [nvmlDeviceGetFanSpeed](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.live(Live::FanSpeed)?)
    };
    /// Percent of a fan's speed.
    [nvmlDeviceGetFanSpeed_v2](device: Handle, fan: u32, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?;
        if fan != 0 {
            return Err(Error::NOT_SUPPORTED);
        }
        out.put(device.live(Live::FanSpeed)?)
    };
    /// `P0` to `P15`.
    [nvmlDeviceGetPerformanceState nvmlDeviceGetPowerState](device: Handle, out: Place<u32>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(device.live(Live::PerformanceState)?)
    };
    /// Why the clocks are what they are.
    [nvmlDeviceGetCurrentClocksEventReasons nvmlDeviceGetCurrentClocksThrottleReasons]
        (device: Handle, out: Place<u64>) = |session| {
            let device = session.device(device)?;
            out.check()?.put(device.live_long(Live::ClockReasons)?)
        };
}

//! Memory: the card's total as CUDA tells it, and what is free now.

use virtio_spec::management::{Fixed, Live};

use crate::abi::{Bar1Memory, Error, Handle, Memory, MemoryV2, version};
use crate::entry::Place;
use crate::state::Device;

fn memory(device: Device<'_>) -> Result<Memory, Error> {
    let total = device.record.total_memory;
    let free = device.live_long(Live::MemoryFree)?.min(total);
    Ok(Memory { total, free, used: total - free })
}

nvml! {
    /// Bytes in all, free, and used.
    [nvmlDeviceGetMemoryInfo](device: Handle, out: Place<Memory>) = |session| {
        let device = session.device(device)?;
        out.check()?.put(memory(device)?)
    };
    /// The same, with what the driver keeps for itself, which CUDA's total leaves out.
    [nvmlDeviceGetMemoryInfo_v2](device: Handle, out: Place<MemoryV2>) = |session| {
        let device = session.device(device)?;
        let wanted = Place::<u32>::of(out).get()?;
        if wanted != version::<MemoryV2>(2) {
            return Err(Error::ARGUMENT_VERSION_MISMATCH);
        }
        let Memory { total, free, used } = memory(device)?;
        out.put(MemoryV2 { version: wanted, total, reserved: 0, free, used })
    };
    /// The window through which the host reaches the card.
    [nvmlDeviceGetBAR1MemoryInfo](device: Handle, out: Place<Bar1Memory>) = |session| {
        let device = session.device(device)?;
        out.check()?;
        let total = device.record.management.fixed(Fixed::Bar1Total).ok_or(Error::NOT_SUPPORTED)?;
        let used = device.live_long(Live::Bar1Used)?.min(total);
        out.put(Bar1Memory { total, free: total - used, used })
    };
}

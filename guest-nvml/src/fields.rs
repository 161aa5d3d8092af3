//! Numbers by field: those that other functions have too.

use std::time::{SystemTime, UNIX_EPOCH};

use virtio_spec::management::{Fixed, Live};

use crate::abi::{Error, FieldValue, Handle};
use crate::entry::Place;
use crate::state::Device;

/// `NVML_VALUE_TYPE_UNSIGNED_INT`, `NVML_VALUE_TYPE_UNSIGNED_LONG_LONG`.
const INT: u32 = 1;
const LONG: u32 = 3;

/// The type and the value of a field.
fn value(device: Device<'_>, field: u32) -> Result<(u32, u64), Error> {
    let fixed = |which| device.fixed(which).map(|value| (INT, value.into()));
    match field {
        1 => fixed(Fixed::ErrorCorrection),
        82 => device.live(Live::MemoryTemperature).map(|value| (INT, value.into())),
        83 | 191 => device.live_long(Live::Energy).map(|value| (LONG, value)),
        185 | 186 => device.live(Live::Power).map(|value| (INT, value.into())),
        187 => fixed(Fixed::PowerLimitMin),
        188 => fixed(Fixed::PowerLimitMax),
        189 => fixed(Fixed::PowerLimitDefault),
        190 => fixed(Fixed::PowerLimitEnforced),
        _ => Err(Error::NOT_SUPPORTED),
    }
}

nvml! {
    /// Many fields at once, each with a result of its own.
    [nvmlDeviceGetFieldValues](device: Handle, count: i32, places: Place<FieldValue>) = |session| {
        let device = session.device(device)?;
        places.check()?;
        let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(Error::INVALID_ARGUMENT)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Error::UNKNOWN)?;
        let time = i64::try_from(now.as_micros()).map_err(|_| Error::UNKNOWN)?;
        for index in 0..count {
            let wanted = places.get_at(index)?;
            let answer = match value(device, wanted.field) {
                Ok((kind, value)) => FieldValue { time, latency: 0, kind, result: 0, value, ..wanted },
                Err(error) => FieldValue { time, latency: 0, result: error.number(), ..wanted },
            };
            places.put_at(index, answer)?;
        }
        Ok(())
    };
}

//! Initialised or not, the devices, and their numbers of a moment ago.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use guest_device::records::text;
use guest_device::status::{self, Status};
use guest_device::{Error as DeviceError, Records};
use virtio_spec::info::DeviceRecord;
use virtio_spec::management::{Fixed, Live, Quantities};

use crate::abi::{Error, Handle};

/// How long initialisation waits for a device that is starting.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions to a device that is starting.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the devices' numbers are good: programs ask for many of them one after the other.
const FRESH: Duration = Duration::from_millis(100);

/// Handles are this number and the device's place.
const FIRST_HANDLE: Handle = 0x6e76_6d6c_0000;

/// `NVML_INIT_FLAG_NO_GPUS`.
const NO_GPUS: u32 = 1;

/// What the device answered, and when.
type Numbers = (Instant, Result<Arc<Status>, DeviceError>);

/// The devices of an initialised library.
pub(crate) struct Session {
    pub(crate) records: Records,
    numbers: Mutex<Option<Numbers>>,
}

struct State {
    /// Initialisations without their shutdowns.
    count: u32,
    session: Option<Arc<Session>>,
}

static STATE: Mutex<State> = Mutex::new(State { count: 0, session: None });

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is there for a call.
pub(crate) fn session() -> Result<Arc<Session>, Error> {
    lock(&STATE).session.clone().ok_or(Error::UNINITIALIZED)
}

/// Counts an initialisation; the first asks for the devices.
pub(crate) fn initialise(flags: u32) -> Result<(), Error> {
    let mut state = lock(&STATE);
    if state.session.is_none() {
        let records = records()?;
        if records.devices.is_empty() && flags & NO_GPUS == 0 {
            return Err(Error::GPU_NOT_FOUND);
        }
        state.session = Some(Arc::new(Session { records, numbers: Mutex::new(None) }));
    }
    state.count = state.count.saturating_add(1);
    Ok(())
}

/// Takes an initialisation back; the last forgets the devices.
pub(crate) fn shut_down() -> Result<(), Error> {
    let mut state = lock(&STATE);
    if state.session.is_none() {
        return Err(Error::UNINITIALIZED);
    }
    state.count = state.count.saturating_sub(1);
    if state.count == 0 {
        state.session = None;
    }
    Ok(())
}

fn records() -> Result<Records, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match guest_device::device_info().and_then(|bytes| Records::parse(&bytes)) {
            Err(DeviceError::Starting) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            answer => return answer.map_err(error_of),
        }
    }
}

/// NVML's word for it.
fn error_of(error: DeviceError) -> Error {
    match error {
        DeviceError::Absent | DeviceError::Dead => Error::DRIVER_NOT_LOADED,
        DeviceError::Starting => Error::TIMEOUT,
        DeviceError::NoMemory => Error::MEMORY,
        DeviceError::Unsupported => Error::NOT_SUPPORTED,
        DeviceError::Protocol => Error::LIB_RM_VERSION_MISMATCH,
        DeviceError::Address => Error::UNKNOWN,
    }
}

impl Session {
    /// The device that a handle means.
    pub(crate) fn device(&self, handle: Handle) -> Result<Device<'_>, Error> {
        let place = handle.checked_sub(FIRST_HANDLE).ok_or(Error::INVALID_ARGUMENT)?;
        self.device_at(place)
    }

    /// The device at a place.
    pub(crate) fn device_at(&self, place: usize) -> Result<Device<'_>, Error> {
        let record = self.records.devices.get(place).ok_or(Error::INVALID_ARGUMENT)?;
        Ok(Device { session: self, record, place })
    }

    /// All devices.
    pub(crate) fn devices(&self) -> impl Iterator<Item = Device<'_>> {
        (0..self.records.devices.len()).filter_map(|place| self.device_at(place).ok())
    }

    /// What the devices are doing, or were a moment ago.
    pub(crate) fn status(&self) -> Result<Arc<Status>, Error> {
        let mut numbers = lock(&self.numbers);
        let status = match &*numbers {
            Some((taken, status)) if taken.elapsed() < FRESH => status.clone(),
            // What the way to the device does not know at all, it will not know later.
            Some((_, status @ Err(DeviceError::Unsupported))) => status.clone(),
            _ => {
                let status = status::current().map(Arc::new);
                *numbers = Some((Instant::now(), status.clone()));
                status
            }
        };
        status.map_err(|error| match error {
            DeviceError::Unsupported => Error::NOT_SUPPORTED,
            DeviceError::Absent | DeviceError::Dead => Error::GPU_IS_LOST,
            other => error_of(other),
        })
    }
}

/// A device.
#[derive(Clone, Copy)]
pub(crate) struct Device<'a> {
    pub(crate) session: &'a Session,
    pub(crate) record: &'a DeviceRecord,
    pub(crate) place: usize,
}

impl Device<'_> {
    /// What the caller has for it.
    pub(crate) const fn handle(&self) -> Handle {
        FIRST_HANDLE + self.place
    }

    /// `GPU-` and the UUID that CUDA tells.
    pub(crate) fn uuid(&self) -> String {
        format!("GPU-{}", guest_device::records::uuid_text(&self.record.uuid))
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        text(&self.record.name)
    }

    /// PCI domain, bus and device, as CUDA tells them.
    pub(crate) fn pci(&self) -> Option<[u32; 3]> {
        parse_pci(&text(&self.record.pci_bus_id))
    }

    /// A CUDA attribute.
    pub(crate) fn attribute(&self, index: usize) -> Result<u32, Error> {
        let value = self.record.attribute(index).ok_or(Error::NOT_SUPPORTED)?;
        u32::try_from(value).map_err(|_| Error::NOT_SUPPORTED)
    }

    /// A number that stays the same.
    pub(crate) fn fixed(&self, which: Fixed) -> Result<u32, Error> {
        let value = self.record.management.fixed(which).ok_or(Error::NOT_SUPPORTED)?;
        u32::try_from(value).map_err(|_| Error::NOT_SUPPORTED)
    }

    /// A number that changes.
    pub(crate) fn live_long(&self, which: Live) -> Result<u64, Error> {
        let status = self.session.status()?;
        status
            .devices
            .get(self.place)
            .and_then(|numbers: &Quantities| numbers.live(which))
            .ok_or(Error::NOT_SUPPORTED)
    }

    /// A number that changes, of 32 bits.
    pub(crate) fn live(&self, which: Live) -> Result<u32, Error> {
        u32::try_from(self.live_long(which)?).map_err(|_| Error::NOT_SUPPORTED)
    }
}

/// `domain:bus:device.function` in hexadecimal digits, the domain of any length or absent.
pub(crate) fn parse_pci(text: &str) -> Option<[u32; 3]> {
    let (place, _) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = place.rsplit(':').map(|part| u32::from_str_radix(part, 16));
    let device = parts.next()?.ok()?;
    let bus = parts.next()?.ok()?;
    let domain = parts.next().unwrap_or(Ok(0)).ok()?;
    parts.next().is_none().then_some([domain, bus, device])
}

#[cfg(test)]
mod tests {
    use super::parse_pci;

    #[test]
    fn pci_places_are_read_in_all_their_forms() {
        for text in ["0000:3b:01.0", "00000000:3B:01.0", "3b:01.0", "0:3b:1"] {
            assert_eq!(parse_pci(text), Some([0, 0x3b, 1]), "{text}");
        }
        for text in ["", "zz:01.0", "0:1:2:3.0", "3b"] {
            assert_eq!(parse_pci(text), None, "{text}");
        }
    }
}

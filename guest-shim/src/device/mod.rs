//! The devices of this process, from the device information page: no round trip, no session.
//!
//! Read in this order: this file, `visible` (what the environment shows), `mask` (attributes that differ in a guest).

mod mask;
mod visible;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use guest_device::Records;
use virtio_spec::codec::Scalar;
use virtio_spec::cuda::{CUdevice, CUresult};
use virtio_spec::info::{DeviceRecord, InfoHeader};

use crate::session;
use crate::transport::{self, TransportError};

/// CUDA version whose functions the shim has, and the most that it reports.
pub(crate) use guest_device::records::CUDA_VERSION as VERSION;

/// How long `cuInit` waits for a device that is starting.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions to a device that is starting.
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of the devices.
#[derive(Debug)]
pub(crate) struct Devices {
    header: InfoHeader,
    records: Vec<DeviceRecord>,
    visible: Vec<usize>,
}

static DEVICES: OnceLock<Devices> = OnceLock::new();
static READING: Mutex<()> = Mutex::new(());

impl Devices {
    fn parse(bytes: &[u8]) -> Result<Self, TransportError> {
        let Records { header, devices: records, .. } = Records::parse(bytes)?;
        let list = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let order = std::env::var("CUDA_DEVICE_ORDER").ok();
        let visible = visible::visible(&records, list.as_deref(), order.as_deref());
        Ok(Self { header, records, visible })
    }

    /// Devices that the process sees.
    pub(crate) const fn count(&self) -> usize {
        self.visible.len()
    }

    /// Place in the device information of the first device that the process sees.
    pub(crate) fn first_place(&self) -> u32 {
        self.visible.first().and_then(|place| u32::try_from(*place).ok()).unwrap_or(0)
    }

    /// What `cuInit` answers.
    pub(crate) fn init_result(&self) -> Result<(), CUresult> {
        match self.header.init_result {
            0 if self.visible.is_empty() => Err(CUresult::ERROR_NO_DEVICE),
            0 => Ok(()),
            error => Err(crate::entry::result(error)),
        }
    }

    /// Version that `cuDriverGetVersion` reports: the host's, but nothing that the shim does not have.
    pub(crate) fn version(&self) -> u32 {
        self.header.driver_version.min(VERSION)
    }

    /// Place of a device in the device information, which is how the device knows it.
    pub(crate) fn host_ordinal(&self, device: CUdevice) -> Result<u32, CUresult> {
        let ordinal = usize::try_from(number(device)).map_err(|_| CUresult::ERROR_INVALID_DEVICE)?;
        let place = self.visible.get(ordinal).ok_or(CUresult::ERROR_INVALID_DEVICE)?;
        u32::try_from(*place).map_err(|_| CUresult::ERROR_INVALID_DEVICE)
    }

    /// The visible device with a place in the device information.
    pub(crate) fn at_host_ordinal(&self, place: u32) -> Option<CUdevice> {
        let ordinal = self.visible.iter().position(|&known| known == place as usize)?;
        Some(CUdevice::from_u64(ordinal as u64))
    }

    /// The record of a device.
    pub(crate) fn record(&self, device: CUdevice) -> Result<&DeviceRecord, CUresult> {
        let place = self.host_ordinal(device)? as usize;
        self.records.get(place).ok_or(CUresult::ERROR_INVALID_DEVICE)
    }

    /// An attribute of a device, as a guest can keep its promise.
    pub(crate) fn attribute(&self, device: CUdevice, index: u32) -> Result<i32, CUresult> {
        let record = self.record(device)?;
        let known = record.attribute(index as usize).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        Ok(mask::of_guest(index, known))
    }

    /// The visible device that has a property.
    pub(crate) fn find(&self, fits: impl Fn(&DeviceRecord) -> bool) -> Option<CUdevice> {
        let ordinal = self.visible.iter().position(|&place| self.records.get(place).is_some_and(&fits))?;
        Some(CUdevice::from_u64(ordinal as u64))
    }
}

/// A device's ordinal as a number.
pub(crate) fn number(device: CUdevice) -> i32 {
    i32::from_u64(device.to_u64())
}

/// The devices, asked for once: what `preload` has learnt at the process's start, else the device itself. An answer that
/// did not come is asked for again by the next call.
pub(crate) fn devices() -> Result<&'static Devices, CUresult> {
    if let Some(devices) = DEVICES.get() {
        return Ok(devices);
    }
    let _one_at_a_time = READING.lock().unwrap_or_else(PoisonError::into_inner);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match transport::device_info().and_then(|bytes| Devices::parse(&bytes)) {
            Ok(devices) => {
                shim_settings::first_call(Ok(()));
                return Ok(DEVICES.get_or_init(|| devices));
            }
            Err(TransportError::Starting) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(error) => {
                shim_settings::first_call(Err(error.about()));
                return Err(session::error_of(error));
            }
        }
    }
}

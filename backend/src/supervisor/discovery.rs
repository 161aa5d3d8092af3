//! What the discovery process has found: the device information, checked.

use virtio_spec::{
    device::{self, State},
    info::{self, DeviceRecord, InfoHeader},
    limits,
};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

/// Bytes that the discovery process may write: the driver's index and the information.
pub(crate) const MAX_BYTES: usize = 4 + info::MAX_BYTES as usize;

/// `CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS`.
const PAGEABLE_MEMORY_ACCESS: usize = 88;

/// What the device is, at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Information {
    /// State of the device.
    pub(crate) state: State,
    /// Which of the configured drivers workers load.
    pub(crate) driver: u32,
    /// Generation of the configuration; it counts every change.
    pub(crate) generation: u32,
    /// CUDA devices.
    pub(crate) device_count: u32,
    /// The device information.
    pub(crate) bytes: Vec<u8>,
}

impl Information {
    /// Before discovery, and when it has failed.
    pub(crate) fn without_devices(state: State, generation: u32) -> Self {
        Self { state, driver: 0, generation, device_count: 0, bytes: Vec::new() }
    }

    /// From what the discovery process has written. `Err` says what is wrong with it.
    pub(crate) fn parse(written: &[u8], drivers: usize, generation: u32) -> Result<Self, &'static str> {
        let (driver, bytes) = written.split_first_chunk::<4>().ok_or("nothing was written")?;
        let driver = u32::from_le_bytes(*driver);
        if usize::try_from(driver).map_or(true, |index| index >= drivers) {
            return Err("there is no such driver");
        }
        let (mut header, records) = InfoHeader::read_from_prefix(bytes).map_err(|_| "the header is short")?;
        if header.magic != info::MAGIC || header.version != device::PROTOCOL_VERSION {
            return Err("the header is not the information's");
        }
        let device_count = header.device_count;
        let expected = device_count.saturating_add(1).saturating_mul(info::RECORD_BYTES);
        let matches = usize::try_from(expected) == Ok(bytes.len());
        if device_count > limits::MAX_DEVICES || !matches || (header.init_result != 0 && device_count != 0) {
            return Err("the header does not fit what follows");
        }
        header.generation = generation;
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(records);
        let state = if device_count == 0 { State::NoGpu } else { State::Ready };
        Ok(Self { state, driver, generation, device_count, bytes })
    }

    /// Counts a change.
    pub(crate) fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
        let at = std::mem::offset_of!(InfoHeader, generation);
        if let Some(field) = self.bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *field = generation.to_le_bytes();
        }
    }

    /// Whether kernels on one of the devices can read memory that its process has not given to CUDA.
    pub(crate) fn offers_pageable_access(&self) -> bool {
        let record_bytes = usize::try_from(info::RECORD_BYTES).unwrap_or(usize::MAX);
        self.bytes.chunks(record_bytes).skip(1).any(|bytes| {
            DeviceRecord::read_from_bytes(bytes)
                .is_ok_and(|record| record.attribute(PAGEABLE_MEMORY_ACCESS) == Some(1))
        })
    }

    /// The configuration space that goes with it.
    pub(crate) fn config(&self, max_sessions: u32) -> device::Config {
        let mut config = device::Config::new_zeroed();
        config.magic = device::MAGIC;
        config.version = device::PROTOCOL_VERSION;
        config.generation = self.generation;
        config.state = self.state as u32;
        config.device_count = self.device_count;
        config.info_bytes = u32::try_from(self.bytes.len()).unwrap_or(0);
        config.max_sessions = max_sessions;
        config.max_lanes = limits::MAX_LANES;
        config.max_regions = limits::MAX_REGIONS;
        config.max_extents = limits::MAX_EXTENTS;
        config
    }

    /// A part of the device information; shorter where it ends.
    pub(crate) fn part(&self, offset: u32, length: usize) -> &[u8] {
        let rest =
            usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default();
        rest.get(..length).unwrap_or(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(driver: u32, devices: u32, edit: impl FnOnce(&mut InfoHeader)) -> Vec<u8> {
        let mut header = InfoHeader::new_zeroed();
        header.magic = info::MAGIC;
        header.version = device::PROTOCOL_VERSION;
        header.device_count = devices;
        edit(&mut header);
        let mut bytes = driver.to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(4 + (info::RECORD_BYTES * (1 + devices)) as usize, 7);
        bytes
    }

    #[test]
    fn sound_information_is_taken() {
        let information = Information::parse(&written(1, 2, |_| {}), 2, 5).unwrap();
        assert_eq!((information.state, information.driver, information.device_count), (State::Ready, 1, 2));
        let (header, _) = InfoHeader::read_from_prefix(&information.bytes).unwrap();
        assert_eq!(header.generation, 5);
        assert_eq!(information.config(9).info_bytes, 3 * info::RECORD_BYTES);
        assert_eq!(Information::parse(&written(0, 0, |_| {}), 1, 1).unwrap().state, State::NoGpu);
    }

    #[test]
    fn what_a_process_writes_is_not_believed() {
        assert!(Information::parse(&[], 1, 1).is_err());
        assert!(Information::parse(&written(1, 1, |_| {}), 1, 1).is_err(), "no such driver");
        assert!(Information::parse(&written(0, 1, |header| header.magic = 0), 1, 1).is_err());
        assert!(Information::parse(&written(0, 1, |header| header.device_count = 2), 1, 1).is_err());
        assert!(Information::parse(&written(0, 1, |header| header.device_count = u32::MAX), 1, 1).is_err());
        assert!(Information::parse(&written(0, 1, |header| header.init_result = 100), 1, 1).is_err());
    }

    #[test]
    fn parts_end_where_the_information_ends() {
        let information = Information::parse(&written(0, 1, |_| {}), 1, 1).unwrap();
        assert_eq!(information.part(0, 100).len(), 100);
        assert_eq!(information.part(8190, 100).len(), 2);
        assert_eq!(information.part(u32::MAX, 100).len(), 0);
    }
}

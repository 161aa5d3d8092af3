//! The CUDA driver: a stand-in without functions.

use std::path::{Path, PathBuf};

use virtio_spec::{device, info};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Why the driver could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("the CUDA driver {0} cannot be loaded")]
pub(crate) struct DriverError(PathBuf);

/// The driver.
#[derive(Debug)]
pub(crate) struct Driver;

impl Driver {
    /// Loads it.
    pub(crate) fn load(path: &Path) -> Result<Self, DriverError> {
        if path.as_os_str().is_empty() { Err(DriverError(path.to_owned())) } else { Ok(Self) }
    }
}

/// The device information.
pub(crate) fn discover(_driver: &Driver) -> Vec<u8> {
    let mut header = info::InfoHeader::new_zeroed();
    header.magic = info::MAGIC;
    header.version = device::PROTOCOL_VERSION;
    header.device_count = 1;
    let mut record = info::DeviceRecord::new_zeroed();
    record.total_memory = 1 << 30;
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(info::RECORD_BYTES as usize, 0);
    bytes.extend_from_slice(record.as_bytes());
    bytes
}

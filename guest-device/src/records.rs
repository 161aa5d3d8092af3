//! What the bytes of the device information say.

use virtio_spec::info::{DeviceRecord, InfoHeader, MAGIC, RECORD_BYTES};
use virtio_spec::limits;
use virtio_spec::management::{HOST_OFFSET, HostRecord};
use zerocopy::FromBytes;

use crate::Error;

/// The device information, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// Its head.
    pub header: InfoHeader,
    /// What is known of the host's driver.
    pub host: HostRecord,
    /// The devices.
    pub devices: Vec<DeviceRecord>,
}

/// CUDA version whose functions the guest's libraries have, and the most that they report.
pub const CUDA_VERSION: u32 = 13000;

/// Drivers of the host by the CUDA version that came with them, for hosts that do not say which they have.
const DRIVERS: [(u32, &str); 12] = [
    (13000, "580.00"),
    (12090, "575.00"),
    (12080, "570.00"),
    (12060, "560.00"),
    (12050, "555.00"),
    (12040, "550.00"),
    (12030, "545.00"),
    (12020, "535.00"),
    (12010, "530.00"),
    (12000, "525.00"),
    (11080, "520.00"),
    (0, "510.00"),
];

impl Records {
    /// Version that CUDA and NVML report: the host's, but nothing that the guest's libraries do not have.
    #[must_use]
    pub fn cuda_version(&self) -> u32 {
        self.header.driver_version.min(CUDA_VERSION)
    }

    /// Version of the host's driver. Programs read a number from it that decides which of their libraries they take, so a
    /// host that has none (a software GPU) gets that of its CUDA version.
    #[must_use]
    pub fn driver_version(&self) -> String {
        let told = text(&self.host.driver);
        if !told.is_empty() {
            return told;
        }
        let version = self.header.driver_version;
        let fitting = DRIVERS.iter().find(|(least, _)| version >= *least);
        fitting.map_or("510.00", |(_, driver)| driver).to_owned()
    }

    /// Takes the bytes apart.
    ///
    /// # Errors
    /// They are not what the protocol says.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (header, _) = InfoHeader::read_from_prefix(bytes).map_err(|_| Error::Protocol)?;
        if header.magic != MAGIC || header.device_count > limits::MAX_DEVICES {
            return Err(Error::Protocol);
        }
        let host = bytes.get(HOST_OFFSET..).ok_or(Error::Protocol)?;
        let (host, _) = HostRecord::read_from_prefix(host).map_err(|_| Error::Protocol)?;
        let devices = (1..=header.device_count as usize)
            .map(|number| {
                let start = number * RECORD_BYTES as usize;
                let record = bytes.get(start..).ok_or(Error::Protocol)?;
                let parsed = DeviceRecord::read_from_prefix(record);
                parsed.map(|(record, _)| record).map_err(|_| Error::Protocol)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { header, host, devices })
    }
}

/// `8-4-4-4-12` hexadecimal digits.
#[must_use]
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (position, byte) in uuid.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The bytes before the first NUL, as text.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn information(edit: impl FnOnce(&mut InfoHeader)) -> Vec<u8> {
        let mut header = InfoHeader::new_zeroed();
        header.magic = MAGIC;
        header.device_count = 1;
        edit(&mut header);
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(2 * RECORD_BYTES as usize, 0);
        bytes
    }

    #[test]
    fn sound_bytes_are_taken_apart() {
        let records = Records::parse(&information(|_| {})).expect("sound");
        assert_eq!(records.devices.len(), 1);
        assert_eq!(text(&records.host.driver), "");
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [
            Vec::new(),
            information(|header| header.magic = 0),
            information(|header| header.device_count = 2),
            information(|header| header.device_count = u32::MAX),
        ] {
            assert_eq!(Records::parse(&bytes), Err(Error::Protocol));
        }
    }

    #[test]
    fn texts_end_at_the_first_nul() {
        assert_eq!(text(b"abc\0def"), "abc");
        assert_eq!(text(b"abc"), "abc");
        assert_eq!(uuid_text(&[0xab; 16]), "abababab-abab-abab-abab-abababababab");
    }
}

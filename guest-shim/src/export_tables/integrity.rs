//! The runtime's question whether this is a driver that it knows.
//!
//! `libcudart` compares what the driver answers with what it has computed itself over the same facts: the versions, the
//! process and thread, the addresses of two tables and of the function that is asked, and the identity of each device.
//! Most of them exist in the asking process only, so the answer is computed here, from the values that the public calls
//! of this library give; the device behind it is the NVIDIA GPU that they describe.
//!
//! The computation is known from public descriptions of the interface (see `docs/adr/0009`); checked against runtimes
//! 11.8 to 13.5.

use virtio_spec::codec::Scalar;
use virtio_spec::cuda::{CUdevice, CUresult};

use super::md2;
use crate::device;

/// The key of the HMAC.
const KEY: [u8; md2::BYTES] =
    [0x14, 0x6a, 0xdd, 0xae, 0x53, 0xa9, 0xa7, 0x52, 0xaa, 0x08, 0x41, 0x36, 0x0b, 0xf5, 0x5a, 0x9f];

/// What the runtime expects when its version's last digit is 0, and when it is 1.
const CONSTANTS: [[u64; 2]; 2] =
    [[0x3341_181c_03cb_675c, 0x8ed3_83aa_1f4c_d1e8], [0x1841_181c_03cb_675c, 0x8ed3_83aa_1f4c_d1e8]];

/// `CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID`, `_BUS_ID` and `_DEVICE_ID`, in the order of the message.
const PCI_ATTRIBUTES: [u32; 3] = [50, 33, 34];

/// What a question is about, in the order of the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Version of this driver, as `cuDriverGetVersion` answers.
    pub(super) driver_version: u32,
    /// Version that the runtime names: its own, or up to two more.
    pub(super) version: u32,
    /// Identifier of the process.
    pub(super) process: u32,
    /// Low half of `pthread_self()`.
    pub(super) thread: u32,
    /// Address of the runtime's table.
    pub(super) runtime_table: u64,
    /// Address of the table of this question.
    pub(super) integrity_table: u64,
    /// Address of the function that answers it.
    pub(super) function: u64,
    /// Time that the runtime names, in seconds since 1970.
    pub(super) time: u64,
}

impl Question {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48);
        for word in [self.driver_version, self.version, self.process, self.thread] {
            bytes.extend(word.to_le_bytes());
        }
        for word in [self.runtime_table, self.integrity_table, self.function, self.time] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }
}

/// Identity of a device: its UUID, then where it is on the PCI bus.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    /// The UUID.
    pub(super) uuid: [u8; 16],
    /// PCI domain, bus and device.
    pub(super) pci: [i32; 3],
}

/// The visible devices' identities, in the order of their ordinals.
pub(super) fn identities() -> Result<Vec<Identity>, CUresult> {
    let devices = device::devices()?;
    (0..devices.count())
        .map(|ordinal| {
            let device = CUdevice::from_u64(ordinal as u64);
            let mut pci = [0; 3];
            for (value, attribute) in pci.iter_mut().zip(PCI_ATTRIBUTES) {
                *value = devices.attribute(device, attribute)?;
            }
            Ok(Identity { uuid: devices.record(device)?.uuid, pci })
        })
        .collect()
}

/// The answer to a question.
pub(super) fn answer(question: &Question, devices: &[Identity]) -> [u64; 2] {
    if let Some(constant) = CONSTANTS.get(question.version as usize % 10) {
        return *constant;
    }
    let mut message = question.bytes();
    for device in devices {
        message.extend(device.uuid);
        for number in device.pci {
            message.extend(number.to_le_bytes());
        }
    }
    let digest = u128::from_le_bytes(md2::hmac(KEY, &message));
    #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
    [digest as u64, (digest >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Question = Question {
        driver_version: 12_080,
        version: 12_082,
        process: 4711,
        thread: 0xf79c_1000,
        runtime_table: 0x7fff_f695_8240,
        integrity_table: 0x7fff_f695_8220,
        function: 0x7fff_f2aa_f4a0,
        time: 1_747_688_686,
    };

    #[test]
    fn two_versions_have_fixed_answers() {
        assert_eq!(answer(&Question { version: 12_080, ..QUESTION }, &[]), CONSTANTS[0]);
        assert_eq!(answer(&Question { version: 12_081, ..QUESTION }, &[]), CONSTANTS[1]);
    }

    #[test]
    fn every_fact_counts() {
        let device = Identity { uuid: [7; 16], pci: [0, 2, 0] };
        let known = answer(&QUESTION, &[device]);
        let others = [
            answer(&Question { process: 4712, ..QUESTION }, &[device]),
            answer(&Question { time: 0, ..QUESTION }, &[device]),
            answer(&QUESTION, &[]),
            answer(&QUESTION, &[device, device]),
            answer(&QUESTION, &[Identity { pci: [0, 3, 0], ..device }]),
            answer(&QUESTION, &[Identity { uuid: [8; 16], ..device }]),
        ];
        assert!(others.iter().all(|other| *other != known));
        assert_eq!(answer(&QUESTION, &[device]), known);
    }
}

//! What is known of the GPUs.

use std::time::{Duration, Instant};

use guest_device::records::{text, uuid_text};
use guest_device::status::{self, Status};
use guest_device::{Error, Records};
use virtio_spec::info::DeviceRecord;
use virtio_spec::management::{Fixed, Live, ProcessUse};

/// How long a device that is starting is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// The devices, and what they were doing a moment ago.
pub(crate) struct System {
    records: Records,
    status: Status,
}

impl System {
    /// Asks the backend behind a local socket, or the guest's driver.
    pub(crate) fn read(socket: Option<&[u8]>) -> Result<Self, Error> {
        let records = Records::parse(&patiently(|| guest_device::device_info_at(socket))?)?;
        if records.devices.is_empty() {
            return Err(Error::Absent);
        }
        // What changes may be unknown; that is shown as "N/A".
        let status = status::current_at(socket).unwrap_or_default();
        Ok(Self { records, status })
    }

    /// The host's driver.
    pub(crate) fn driver_version(&self) -> String {
        self.records.driver_version()
    }

    /// `13.0`.
    pub(crate) fn cuda_version(&self) -> String {
        let version = self.records.cuda_version();
        format!("{}.{}", version / 1000, version % 1000 / 10)
    }

    /// The GPUs.
    pub(crate) fn gpus(&self) -> Vec<Gpu<'_>> {
        let devices = self.records.devices.iter().enumerate();
        devices.map(|(index, record)| Gpu { system: self, index, record }).collect()
    }
}

/// A GPU.
#[derive(Clone, Copy)]
pub(crate) struct Gpu<'a> {
    pub(crate) system: &'a System,
    pub(crate) index: usize,
    record: &'a DeviceRecord,
}

impl<'a> Gpu<'a> {
    pub(crate) fn name(&self) -> String {
        text(&self.record.name)
    }

    pub(crate) fn uuid(&self) -> String {
        format!("GPU-{}", uuid_text(&self.record.uuid))
    }

    /// The place on the host's bus with eight digits of domain.
    pub(crate) fn pci(&self) -> String {
        format!("{:0>16}", text(&self.record.pci_bus_id).to_uppercase())
    }

    /// Whether a word of `--id` means this GPU.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        word == self.index.to_string()
            || word.eq_ignore_ascii_case(&self.uuid())
            || format!("{word:0>16}").eq_ignore_ascii_case(&self.pci())
    }

    pub(crate) fn attribute(&self, index: usize) -> Option<u64> {
        u64::try_from(self.record.attribute(index)?).ok()
    }

    pub(crate) fn fixed(&self, which: Fixed) -> Option<u64> {
        self.record.management.fixed(which)
    }

    pub(crate) fn live(&self, which: Live) -> Option<u64> {
        self.system.status.devices.get(self.index)?.live(which)
    }

    /// Bytes.
    pub(crate) fn memory_total(&self) -> u64 {
        self.record.total_memory
    }

    /// Bytes.
    pub(crate) fn memory_used(&self) -> Option<u64> {
        self.live(Live::MemoryFree).map(|free| self.memory_total().saturating_sub(free))
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = &'a ProcessUse> {
        let index = self.index;
        self.system.status.processes.iter().filter(move |process| process.device as usize == index)
    }
}

/// Asks a device that is starting again, for a while.
fn patiently<T>(ask: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(Error::Starting) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            answer => return answer,
        }
    }
}

/// The file that a process runs.
pub(crate) fn process_name(process: u32) -> String {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let name = text(&line);
    if name.is_empty() { "[Not Found]".to_owned() } else { name }
}

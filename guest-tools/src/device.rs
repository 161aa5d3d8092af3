//! The device, from the PCI bus to what it says of itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use serde::Serialize;
use virtio_spec::{device, info, uapi};
use zerocopy::FromBytes;

/// What `read` on the device node answers.
#[derive(Debug, Serialize)]
pub(crate) struct About {
    /// As a person calls it.
    pub state: &'static str,
    /// Whether sessions can be made.
    pub ready: bool,
    /// Whether the kernel's parameter keeps processes from the device until they call CUDA.
    pub shim_off: bool,
    /// The host's CUDA version, such as 13.0.
    pub cuda: Option<String>,
    /// The GPUs.
    pub gpus: Vec<Gpu>,
}

/// One GPU.
#[derive(Debug, Serialize)]
pub(crate) struct Gpu {
    /// Its name.
    pub name: String,
    /// Its memory in MiB.
    pub memory_mib: u64,
}

/// PCI addresses of compute devices.
pub(crate) fn on_the_bus() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/bus/pci/devices") else { return Vec::new() };
    let id = format!("0x{:04x}", 0x1040 + device::VIRTIO_ID);
    let is = |path: std::path::PathBuf, value: &str| {
        fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| is(entry.path().join("vendor"), "0x1af4") && is(entry.path().join("device"), &id))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

/// Opens the node as a CUDA program does.
pub(crate) fn open() -> io::Result<File> {
    let flags = i32::try_from((OFlags::CLOEXEC | OFlags::NONBLOCK).bits()).unwrap_or_default();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(uapi::DEVICE_PATH)
}

/// Asks the driver, which answers from its own memory.
pub(crate) fn ask(node: &mut File) -> io::Result<About> {
    let mut bytes = vec![0; size_of::<uapi::Info>() + info::MAX_BYTES as usize];
    let length = node.read(&mut bytes)?;
    bytes.truncate(length);
    let (head, rest) = uapi::Info::read_from_prefix(&bytes).map_err(|_| {
        io::Error::other(format!("the driver answered {length} bytes; it is older than this program"))
    })?;
    let header = info::InfoHeader::read_from_prefix(rest).ok().map(|(header, _)| header);
    let count = header.map_or(0, |header| header.device_count);
    let gpus = rest
        .chunks_exact(info::RECORD_BYTES as usize)
        .skip(1)
        .take(count as usize)
        .filter_map(|record| info::DeviceRecord::read_from_bytes(record).ok())
        .map(|record| Gpu { name: text(&record.name), memory_mib: record.total_memory >> 20 })
        .collect();
    let is = |state: device::State| head.state == state as u32;
    Ok(About {
        state: match () {
            () if is(device::State::Ready) => "ready",
            () if is(device::State::Starting) => "starting",
            () if is(device::State::NoGpu) => "without a GPU on the host",
            () if is(device::State::Failed) => "failed",
            () => "unknown",
        },
        ready: is(device::State::Ready),
        shim_off: head.flags & uapi::info_flags::SHIM_OFF != 0,
        cuda: header
            .map(|header| format!("{}.{}", header.driver_version / 1000, header.driver_version % 1000 / 10)),
        gpus,
    })
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

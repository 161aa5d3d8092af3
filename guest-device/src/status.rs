//! What the devices are doing: STATUS, without a session.
//!
//! Unsafe code: system calls on a descriptor of its own.

use std::ffi::CStr;
use std::time::{Duration, Instant};

use virtio_spec::control::Type;
use virtio_spec::info::MAX_BYTES;
use virtio_spec::management::{MAX_PROCESSES, ProcessUse, Quantities, StatusReply};
use virtio_spec::uapi;
use zerocopy::FromBytes;

use crate::{ANSWER_SECONDS, Error, NODE, errno, socket, socket_path};

/// How long is waited for the first numbers: the host starts a process that asks its driver.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two questions meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

/// What the devices are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Numbers of each device, by [`virtio_spec::management::Live`].
    pub devices: Vec<Quantities>,
    /// What this VM's processes, or this user's, take.
    pub processes: Vec<ProcessUse>,
}

impl Status {
    /// Takes a reply apart.
    ///
    /// # Errors
    /// It is not what the protocol says.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (head, rest) = StatusReply::read_from_prefix(bytes).map_err(|_| Error::Protocol)?;
        let (devices, processes) = (head.device_count as usize, head.process_count as usize);
        if devices > virtio_spec::limits::MAX_DEVICES as usize || processes > MAX_PROCESSES {
            return Err(Error::Protocol);
        }
        let (devices, rest) = list::<Quantities>(rest, devices).ok_or(Error::Protocol)?;
        let (processes, _) = list::<ProcessUse>(rest, processes).ok_or(Error::Protocol)?;
        Ok(Self { devices, processes })
    }
}

fn list<T: FromBytes>(bytes: &[u8], count: usize) -> Option<(Vec<T>, &[u8])> {
    let (these, rest) = bytes.split_at_checked(count.checked_mul(size_of::<T>())?)?;
    let parsed = these.chunks(size_of::<T>()).map(|chunk| T::read_from_bytes(chunk).ok());
    Some((parsed.collect::<Option<_>>()?, rest))
}

/// What the devices are doing now, or were a moment ago.
///
/// # Errors
/// [`Error::Unsupported`]: this way to the device does not know; others as for the device information.
pub fn current() -> Result<Status, Error> {
    current_at(socket_path().as_deref())
}

/// The same by the backend behind a local socket, or by the guest's driver.
///
/// # Errors
/// As [`current`].
pub fn current_at(path: Option<&[u8]>) -> Result<Status, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask(path) {
            Err(Error::Starting) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            answer => return answer.and_then(|bytes| Status::parse(&bytes)),
        }
    }
}

fn ask(path: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let Some(path) = path else { return ask_node(NODE) };
    let socket = socket::connect(path)?;
    socket::limit(&socket, ANSWER_SECONDS)?;
    let bytes = socket::ask(&socket, Type::Status, &[])?;
    if bytes.len() > MAX_BYTES as usize { Err(Error::Protocol) } else { Ok(bytes) }
}

/// Asks the guest's driver, which waits for the device for two seconds at most.
fn ask_node(path: &CStr) -> Result<Vec<u8>, Error> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: a path.
    let node = unsafe { libc::open(path.as_ptr(), flags) };
    if node < 0 {
        return Err(Error::Absent);
    }
    let mut bytes = vec![0_u8; MAX_BYTES as usize];
    let mut question = uapi::Status {
        address: bytes.as_mut_ptr().expose_provenance() as u64,
        length: MAX_BYTES,
        reserved: 0,
    };
    // SAFETY: the driver reads and writes the structure, and writes at most as many bytes as there is room for.
    let result = unsafe { libc::ioctl(node, uapi::STATUS, &raw mut question) };
    let error = errno();
    // SAFETY: opened above, by nobody else known.
    unsafe { libc::close(node) };
    if result != 0 {
        return Err(match error {
            // A signal is for the program; the question is asked again, within the same time.
            libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT => Error::Starting,
            // A driver or a device from before there was such a request.
            libc::ENOTTY | libc::EOPNOTSUPP => Error::Unsupported,
            libc::ENOMEM => Error::NoMemory,
            libc::ENODEV => Error::Dead,
            _ => Error::Protocol,
        });
    }
    let length = question.length as usize;
    if length > bytes.len() {
        return Err(Error::Protocol);
    }
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use virtio_spec::management::Live;
    use zerocopy::IntoBytes;

    use super::*;

    fn reply(devices: u32, processes: u32) -> Vec<u8> {
        let head =
            StatusReply { generation: 1, device_count: devices, process_count: processes, reserved: 0 };
        let mut numbers = Quantities::default();
        numbers.set_live(Live::Power, 7);
        let process = ProcessUse { device: 0, process: 5, memory: 6, utilization: 7, reserved: 0 };
        [head.as_bytes(), numbers.as_bytes(), process.as_bytes()].concat()
    }

    #[test]
    fn replies_are_taken_apart() {
        let status = Status::parse(&reply(1, 1)).expect("sound");
        assert_eq!(status.devices.first().and_then(|numbers| numbers.live(Live::Power)), Some(7));
        assert_eq!(status.processes.first().map(|process| process.process), Some(5));
    }

    #[test]
    fn what_is_no_node_of_the_driver_is_refused() {
        assert_eq!(ask_node(c"/nowhere/vcompute0"), Err(Error::Absent));
        assert_eq!(ask_node(c"/dev/null"), Err(Error::Unsupported));
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        for (devices, processes) in [(2, 1), (1, 2), (u32::MAX, 0), (0, u32::MAX)] {
            assert_eq!(Status::parse(&reply(devices, processes)), Err(Error::Protocol));
        }
    }
}

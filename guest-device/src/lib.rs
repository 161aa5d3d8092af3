//! How a process learns of the devices: from the guest's driver, or from the backend's local socket. No session.
//!
//! `libcuda.so.1`, `libnvidia-ml.so.1` and `vcompute-smi` all read the same bytes through this crate, so that they
//! agree. It runs in foreign processes: it keeps no state, starts nothing, and leaves nothing open.
//!
//! Read in this order: [`Error`]; [`information`], one read of the driver's node; [`socket`], one exchange on the local
//! socket; [`records`], what the bytes say; [`status`], what the devices are doing; [`descriptor`], descriptors that survive in foreign processes.
//!
//! Unsafe code: system calls.

pub mod descriptor;
pub mod information;
pub mod records;
pub mod socket;
pub mod status;

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt;

pub use records::Records;
use virtio_spec::info;
use virtio_spec::uapi::Info;

/// The driver's node.
const NODE: &CStr = c"/dev/vcompute0";

/// How long an answer on the local socket may take.
const ANSWER_SECONDS: i64 = 2;

/// Why the device could not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no device, or this process may not open it.
    Absent,
    /// The device is starting; ask again.
    Starting,
    /// The session, or the whole device, is gone.
    Dead,
    /// A limit, or no memory.
    NoMemory,
    /// The address range is taken, or no memory of the process.
    Address,
    /// Such memory cannot be shared with the device, or the device does not know the request.
    Unsupported,
    /// The device answered in a way that the protocol does not know.
    Protocol,
}

impl Error {
    /// The error in words, for the log.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Absent => "there is no device, or no right to open it",
            Self::Starting => "the device is still starting",
            Self::Dead => "the device is gone",
            Self::NoMemory => "a limit is reached, or there is no memory",
            Self::Address => "the addresses are taken",
            Self::Unsupported => "such memory cannot be shared with the device",
            Self::Protocol => "the device or its driver speaks another version",
        }
    }
}

/// Whether the process has more rights than who started it.
#[must_use]
pub fn is_privileged() -> bool {
    // SAFETY: reads what the kernel gave the process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The local socket, if the environment names one; without, the guest's driver is meant. A set-uid program does not let
/// its caller's environment choose whom it talks to.
#[must_use]
pub fn socket_path() -> Option<Vec<u8>> {
    if is_privileged() {
        return None;
    }
    std::env::var_os(virtio_spec::local::SOCKET_VARIABLE)
        .map(OsString::into_vec)
        .filter(|path| !path.is_empty())
}

/// The device information, as of now.
///
/// # Errors
/// There is no device, or it cannot answer yet.
pub fn device_info() -> Result<Vec<u8>, Error> {
    device_info_at(socket_path().as_deref())
}

/// The device information of the backend behind a local socket, or of the guest's driver.
///
/// # Errors
/// As [`device_info`].
pub fn device_info_at(path: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    if let Some(path) = path {
        let socket = socket::connect(path)?;
        socket::limit(&socket, ANSWER_SECONDS)?;
        return socket::device_info(|part| {
            socket::ask(&socket, virtio_spec::control::Type::DeviceInfo, zerocopy::IntoBytes::as_bytes(&part))
        });
    }
    let mut bytes = vec![0; size_of::<Info>() + info::MAX_BYTES as usize];
    let length = information::read_node(NODE, &mut bytes, || false)?;
    information::devices(bytes.get(..length).unwrap_or_default()).map(<[u8]>::to_vec)
}

/// The calling thread's last error number.
#[must_use]
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

//! What the guest's driver knows of the devices, in one read of its node: it takes no lock, and never waits.
//!
//! Used at a process's start ([`crate::preload`]) and by the first CUDA call, so it allocates nothing itself.
//!
//! Unsafe code: system calls on bytes of the caller.

use virtio_spec::device::{PROTOCOL_VERSION, State};
use virtio_spec::info;
use virtio_spec::uapi::Info;
use zerocopy::FromBytes;

use super::{TransportError, errno};
use crate::preload;

/// Opens the node, reads it, closes it. `is_late` is asked between two steps. Answers the number of bytes.
pub(crate) fn read_node(buffer: &mut [u8], is_late: impl Fn() -> bool) -> Result<usize, TransportError> {
    // Should there be something else than the node: no waiting for a FIFO's writer, and no terminal to be controlled by.
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: a path of this library.
    let node = unsafe { libc::open(preload::device_path().as_ptr(), flags) };
    if node < 0 {
        return Err(match errno() {
            libc::EAGAIN | libc::EBUSY | libc::EINTR => TransportError::Starting,
            _ => TransportError::Absent,
        });
    }
    let read = if is_late() {
        Err(TransportError::Starting)
    } else {
        // SAFETY: room for as many bytes as given.
        let length = unsafe { libc::read(node, buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(length).map_err(|_| match errno() {
            libc::EAGAIN | libc::EINTR => TransportError::Starting,
            libc::ENODEV => TransportError::Dead,
            _ => TransportError::Protocol,
        })
    };
    // SAFETY: opened above, by nobody else known.
    unsafe { libc::close(node) };
    read
}

/// What comes before the device information.
pub(crate) fn head(bytes: &[u8]) -> Result<Info, TransportError> {
    let (about, _) = Info::read_from_prefix(bytes).map_err(|_| TransportError::Protocol)?;
    if about.version == PROTOCOL_VERSION { Ok(about) } else { Err(TransportError::Protocol) }
}

/// The device information, if the device has it.
pub(crate) fn devices(bytes: &[u8]) -> Result<&[u8], TransportError> {
    let about = head(bytes)?;
    match State::from_u32(about.state) {
        Some(State::Starting) => return Err(TransportError::Starting),
        Some(State::Failed) => return Err(TransportError::Dead),
        Some(State::Ready | State::NoGpu) => {}
        None => return Err(TransportError::Protocol),
    }
    if about.info_bytes == 0 || about.info_bytes > info::MAX_BYTES {
        return Err(TransportError::Starting);
    }
    bytes
        .get(size_of::<Info>()..)
        .and_then(|rest| rest.get(..about.info_bytes as usize))
        .ok_or(TransportError::Protocol)
}

/// The device information, as of the process's start if that is a moment ago, or as of now.
pub(super) fn current() -> Result<Vec<u8>, TransportError> {
    if let Some(bytes) = preload::snapshot::fresh() {
        return devices(bytes).map(<[u8]>::to_vec);
    }
    let mut bytes = vec![0; size_of::<Info>() + info::MAX_BYTES as usize];
    let length = read_node(&mut bytes, || false)?;
    devices(bytes.get(..length).unwrap_or_default()).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    fn answer(state: State, info_bytes: u32) -> Vec<u8> {
        let head = Info { version: PROTOCOL_VERSION, state: state as u32, info_bytes, ..Info::default() };
        let mut bytes = head.as_bytes().to_vec();
        bytes.extend([7; 100]);
        bytes
    }

    #[test]
    fn the_information_is_what_follows_the_head() {
        assert_eq!(devices(&answer(State::Ready, 100)), Ok(&[7; 100][..]));
        assert_eq!(devices(&answer(State::NoGpu, 9)), Ok(&[7; 9][..]));
    }

    #[test]
    fn other_answers_are_known() {
        let short = answer(State::Ready, 100);
        for (bytes, error) in [
            (answer(State::Starting, 100), TransportError::Starting),
            (answer(State::Ready, 0), TransportError::Starting),
            (answer(State::Ready, info::MAX_BYTES + 1), TransportError::Starting),
            (answer(State::Failed, 100), TransportError::Dead),
            (answer(State::Ready, 101), TransportError::Protocol),
            (vec![1; 200], TransportError::Protocol),
            (short.get(..23).unwrap_or_default().to_vec(), TransportError::Protocol),
            (Vec::new(), TransportError::Protocol),
        ] {
            assert_eq!(devices(&bytes), Err(error), "{:?}", bytes.first());
        }
    }
}

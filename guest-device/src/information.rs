//! What the guest's driver knows of the devices, in one read of its node: it takes no lock, and never waits.
//!
//! Used at a process's start and by the first call, so it allocates nothing itself.
//!
//! Unsafe code: system calls on bytes of the caller.

use std::ffi::CStr;

use virtio_spec::device::{PROTOCOL_VERSION, State};
use virtio_spec::info;
use virtio_spec::uapi::Info;
use zerocopy::FromBytes;

use crate::{Error, errno};

/// Opens the node at `path`, reads it, closes it. `is_late` is asked between two steps. Answers the number of bytes.
///
/// # Errors
/// There is no node, it cannot answer yet, or it is no node of this driver.
pub fn read_node(path: &CStr, buffer: &mut [u8], is_late: impl Fn() -> bool) -> Result<usize, Error> {
    // Should there be something else than the node: no waiting for a FIFO's writer, and no terminal to be controlled by.
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: a path.
    let node = unsafe { libc::open(path.as_ptr(), flags) };
    if node < 0 {
        return Err(match errno() {
            libc::EAGAIN | libc::EBUSY | libc::EINTR => Error::Starting,
            _ => Error::Absent,
        });
    }
    let read = if is_late() {
        Err(Error::Starting)
    } else {
        // SAFETY: room for as many bytes as given.
        let length = unsafe { libc::read(node, buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(length).map_err(|_| match errno() {
            libc::EAGAIN | libc::EINTR => Error::Starting,
            libc::ENODEV => Error::Dead,
            _ => Error::Protocol,
        })
    };
    // SAFETY: opened above, by nobody else known.
    unsafe { libc::close(node) };
    read
}

/// What comes before the device information.
///
/// # Errors
/// It is of another version.
pub fn head(bytes: &[u8]) -> Result<Info, Error> {
    let (about, _) = Info::read_from_prefix(bytes).map_err(|_| Error::Protocol)?;
    if about.version == PROTOCOL_VERSION { Ok(about) } else { Err(Error::Protocol) }
}

/// The device information, if the device has it.
///
/// # Errors
/// It has none yet, or none any more.
pub fn devices(bytes: &[u8]) -> Result<&[u8], Error> {
    let about = head(bytes)?;
    match State::from_u32(about.state) {
        Some(State::Starting) => return Err(Error::Starting),
        Some(State::Failed) => return Err(Error::Dead),
        Some(State::Ready | State::NoGpu) => {}
        None => return Err(Error::Protocol),
    }
    if about.info_bytes == 0 || about.info_bytes > info::MAX_BYTES {
        return Err(Error::Starting);
    }
    bytes
        .get(size_of::<Info>()..)
        .and_then(|rest| rest.get(..about.info_bytes as usize))
        .ok_or(Error::Protocol)
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
            (answer(State::Starting, 100), Error::Starting),
            (answer(State::Ready, 0), Error::Starting),
            (answer(State::Ready, info::MAX_BYTES + 1), Error::Starting),
            (answer(State::Failed, 100), Error::Dead),
            (answer(State::Ready, 101), Error::Protocol),
            (vec![1; 200], Error::Protocol),
            (short.get(..23).unwrap_or_default().to_vec(), Error::Protocol),
            (Vec::new(), Error::Protocol),
        ] {
            assert_eq!(devices(&bytes), Err(error), "{:?}", bytes.first());
        }
    }
}

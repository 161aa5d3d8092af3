//! The backend's local socket: requests that take no descriptors and no session.
//!
//! Unsafe code: sockets.

use std::mem::size_of;

use virtio_spec::control::{DeviceInfo, ReplyHeader, RequestHeader, Status, Type};
use virtio_spec::info;
use virtio_spec::local::MAX_PACKET_BYTES;
use zerocopy::{FromBytes, IntoBytes};

use crate::descriptor::{Descriptor, retry};
use crate::{Error, errno};

/// Bytes of device information asked for in one packet.
const INFO_CHUNK: u32 = 32 << 10;

/// The error that a reply's status stands for.
#[must_use]
pub fn error_of(status: u32) -> Error {
    match Status::from_u32(status) {
        Some(Status::Again) => Error::Starting,
        Some(Status::NoSession | Status::Failed) => Error::Dead,
        Some(Status::Limit | Status::NoMemory) => Error::NoMemory,
        Some(Status::NotShared | Status::Unsupported) => Error::Unsupported,
        Some(Status::AddressTaken) => Error::Address,
        _ => Error::Protocol,
    }
}

/// Connects to the socket at `path`.
///
/// # Errors
/// There is no such socket, or nobody listens.
pub fn connect(path: &[u8]) -> Result<Descriptor, Error> {
    // SAFETY: makes a socket.
    let number = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0) };
    let socket = Descriptor::new(number).ok_or(Error::Absent)?;
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX.cast_unsigned().try_into().unwrap_or(1),
        sun_path: [0; 108],
    };
    if path.len() >= address.sun_path.len() || path.contains(&0) {
        return Err(Error::Absent);
    }
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = from.cast_signed();
    }
    let length = u32::try_from(size_of::<libc::sockaddr_un>()).unwrap_or(0);
    retry(|| {
        // SAFETY: a complete address of this length.
        let result = unsafe { libc::connect(socket.number(), (&raw const address).cast(), length) };
        result as isize
    })
    .map_err(|_| Error::Absent)?;
    Ok(socket)
}

/// A request's packet.
#[must_use]
pub fn packet(kind: Type, session: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let header = RequestHeader { kind: kind as u32, session, length, flags: 0 };
    [header.as_bytes(), body].concat()
}

/// Receives a reply and returns what follows its header.
///
/// # Errors
/// The connection has ended, the device refuses the request, or the answer is none.
pub fn receive(socket: &Descriptor) -> Result<Vec<u8>, Error> {
    let mut reply = vec![0; MAX_PACKET_BYTES];
    let received = retry(|| {
        // SAFETY: room for as many bytes as given.
        unsafe { libc::recv(socket.number(), reply.as_mut_ptr().cast(), reply.len(), 0) }
    })
    .map_err(|error| match error {
        libc::EAGAIN => Error::Starting,
        _ => Error::Dead,
    })?;
    reply.truncate(received);
    if received == 0 {
        return Err(Error::Dead);
    }
    let (header, rest) = ReplyHeader::read_from_prefix(&reply).map_err(|_| Error::Protocol)?;
    if header.status != Status::Ok as u32 {
        return Err(error_of(header.status));
    }
    rest.get(..header.length as usize).map(<[u8]>::to_vec).ok_or(Error::Protocol)
}

/// Sends a request without descriptors, and waits for its answer.
///
/// # Errors
/// As [`receive`].
pub fn ask(socket: &Descriptor, kind: Type, body: &[u8]) -> Result<Vec<u8>, Error> {
    let packet = packet(kind, 0, body);
    retry(|| {
        // SAFETY: as many bytes as given.
        unsafe { libc::send(socket.number(), packet.as_ptr().cast(), packet.len(), libc::MSG_NOSIGNAL) }
    })
    .map_err(|_| Error::Dead)?;
    receive(socket)
}

/// Lets a receive on the socket take so long at most; it is [`Error::Starting`] then.
///
/// # Errors
/// The descriptor is no socket.
pub fn limit(socket: &Descriptor, seconds: i64) -> Result<(), Error> {
    let time = libc::timeval { tv_sec: seconds, tv_usec: 0 };
    let length = u32::try_from(size_of::<libc::timeval>()).unwrap_or(0);
    // SAFETY: an option with its structure.
    let result = unsafe {
        libc::setsockopt(
            socket.number(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const time).cast(),
            length,
        )
    };
    if result == 0 || errno() == libc::EINTR { Ok(()) } else { Err(Error::Protocol) }
}

/// The device information, of which `ask` gives parts.
///
/// # Errors
/// Those of `ask`; more bytes than there can be.
pub fn device_info(mut ask: impl FnMut(DeviceInfo) -> Result<Vec<u8>, Error>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    loop {
        let offset = u32::try_from(bytes.len()).map_err(|_| Error::Protocol)?;
        let part = ask(DeviceInfo { offset, length: INFO_CHUNK })?;
        bytes.extend_from_slice(&part);
        if bytes.len() > info::MAX_BYTES as usize {
            return Err(Error::Protocol);
        }
        if part.len() < INFO_CHUNK as usize {
            return Ok(bytes);
        }
    }
}

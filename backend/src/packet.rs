//! Packets with descriptors over `SOCK_SEQPACKET` sockets.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::{Errno, Result},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
};

/// Descriptors that one packet can carry here; the kernel's own bound is 253.
pub(crate) const MAX_DESCRIPTORS: usize = 64;

/// What was received.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Bytes in the buffer.
    pub(crate) length: usize,
    /// Descriptors, close-on-exec.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether bytes or descriptors did not fit, and are lost (surplus descriptors are closed).
    pub(crate) truncated: bool,
}

/// A connected pair of sockets, close-on-exec and blocking.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one packet; never half of one, and never a SIGPIPE.
pub(crate) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::MSGSIZE);
    }
    let socket = socket.as_fd();
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags | SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one packet into `buffer`, with at most `most` descriptors. `None`: the peer has closed its end.
pub(crate) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    most: usize,
    flags: RecvFlags,
) -> Result<Option<Packet>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let room = rustix::cmsg_space!(ScmRights(most.min(MAX_DESCRIPTORS)));
    let mut control = RecvAncillaryBuffer::new(space.get_mut(..room).unwrap_or_default());
    let socket = socket.as_fd();
    let message = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(socket, &mut parts, &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    if message.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    let truncated =
        message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || descriptors.len() > most;
    // The control buffer is aligned, and may have had room for a few more.
    descriptors.truncate(most);
    Ok(Some(Packet { length: message.bytes, descriptors, truncated }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_descriptors_arrive_together() {
        let (left, right) = pair().unwrap();
        send(&left, b"packet", &[left.as_fd(), right.as_fd()], SendFlags::empty()).unwrap();
        let mut buffer = [0; 16];
        let packet = receive(&right, &mut buffer, 4, RecvFlags::empty()).unwrap().unwrap();
        assert_eq!(&buffer[..packet.length], b"packet");
        assert_eq!(packet.descriptors.len(), 2);
        assert!(!packet.truncated);
    }

    #[test]
    fn surplus_is_dropped_and_said() {
        let (left, right) = pair().unwrap();
        let many: Vec<_> = (0..8).map(|_| left.as_fd()).collect();
        send(&left, b"0123456789", &many, SendFlags::empty()).unwrap();
        let mut buffer = [0; 4];
        let packet = receive(&right, &mut buffer, 2, RecvFlags::empty()).unwrap().unwrap();
        assert_eq!(packet.length, 4);
        assert_eq!(packet.descriptors.len(), 2);
        assert!(packet.truncated);
    }

    #[test]
    fn a_closed_peer_is_the_end() {
        let (left, right) = pair().unwrap();
        drop(left);
        assert!(receive(&right, &mut [0; 4], 2, RecvFlags::empty()).unwrap().is_none());
    }
}

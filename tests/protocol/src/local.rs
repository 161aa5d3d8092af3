//! A client of the local socket.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    event::EventfdFlags,
    fs::{MemfdFlags, SealFlags},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        SocketAddrUnix, SocketFlags, SocketType, sockopt,
    },
};
use virtio_spec::{control::SessionCreateReply, local::MAX_PACKET_BYTES};
use vm_memory::{Bytes as _, FileOffset, GuestAddress, GuestMemoryMmap};

use crate::{
    PATIENCE,
    message::{self, Reply},
    ring::Memory,
};

/// The seals that the backend asks for.
pub const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A connection.
pub struct Client {
    socket: OwnedFd,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(path: &Path) -> Result<Self> {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?).context("the backend listens")?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket })
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ensure!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "too many descriptors");
        }
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives a reply. `None`: the connection has ended.
    ///
    /// # Errors
    /// There is none in time.
    pub fn receive(&self) -> Result<Option<Reply>> {
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let mut control = RecvAncillaryBuffer::default();
        let received = rustix::net::recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut buffer)],
            &mut control,
            RecvFlags::empty(),
        );
        match received {
            Ok(message) if message.bytes > 0 => Reply::parse(&buffer[..message.bytes]).map(Some),
            Ok(_) | Err(rustix::io::Errno::CONNRESET) => Ok(None),
            Err(error) => Err(error).context("no reply in time"),
        }
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// The connection has ended, or there is no reply in time.
    pub fn ask(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<Reply> {
        self.send(bytes, descriptors)?;
        self.receive()?.context("the backend has hung up")
    }

    /// Makes a session on fresh memory.
    ///
    /// # Errors
    /// It is refused.
    pub fn create_session(&self) -> Result<Session> {
        let memory = SessionMemory::new()?;
        let kick = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let request = message::session_create(memory.length, &[]);
        let reply = self.ask(&request, &[memory.file.as_fd(), kick.as_fd()])?;
        let number = reply.structure::<SessionCreateReply>()?.session;
        Ok(Session { number, memory, kick })
    }
}

/// Sealed memory with a session's header.
pub struct SessionMemory {
    /// The memfd.
    pub file: OwnedFd,
    /// Its size.
    pub length: u64,
    /// The same, mapped.
    pub memory: Memory,
}

impl SessionMemory {
    /// Makes and fills it.
    ///
    /// # Errors
    /// The host has no memory.
    pub fn new() -> Result<Self> {
        let length = message::layout().total_bytes();
        let file = memfd(length, SEALS)?;
        let offset = FileOffset::new(File::from(file.try_clone()?), 0);
        let size = usize::try_from(length)?;
        let memory = GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), size, Some(offset))])?;
        let header = message::session_header();
        memory.write_slice(zerocopy::IntoBytes::as_bytes(&header), GuestAddress(0))?;
        Ok(Self { file, length, memory: Arc::new(memory) })
    }
}

/// A session of the client.
pub struct Session {
    /// Its number.
    pub number: u32,
    /// Its memory.
    pub memory: SessionMemory,
    kick: OwnedFd,
}

impl Session {
    /// Wakes its lanes.
    ///
    /// # Errors
    /// The eventfd is not one.
    pub fn kick(&self) -> Result<()> {
        rustix::io::write(&self.kick, &1_u64.to_ne_bytes())?;
        Ok(())
    }
}

/// A memory file.
///
/// # Errors
/// The host has no memory.
pub fn memfd(length: u64, seals: SealFlags) -> Result<OwnedFd> {
    let file = rustix::fs::memfd_create("protocol-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, length)?;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

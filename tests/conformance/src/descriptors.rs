//! Descriptors for another process, over a Unix socket.
//!
//! This file has unsafe code: control messages.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Room for a control message with one descriptor, aligned as its header.
type Control = [u64; 4];

/// The length of the data of a control message with one descriptor.
const DATA: u32 = 4;

fn header(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: a structure of numbers and pointers, of which zeros are a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: pure arithmetic.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(DATA) } as usize;
    message
}

fn send(stream: &UnixStream, descriptor: &OwnedFd) -> Result<()> {
    let bytes = IoSlice::new(b"!");
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control::default();
    let message = header(&mut part, &mut control);
    // SAFETY: the message describes `control`, which has room for a header and a descriptor.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: pure arithmetic.
    let length = unsafe { libc::CMSG_LEN(DATA) } as usize;
    let head = libc::cmsghdr { cmsg_len: length, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
    // SAFETY: as above.
    unsafe { first.write(head) };
    // SAFETY: as above.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: as above; the place need not be aligned.
    unsafe { data.cast::<i32>().write_unaligned(descriptor.as_raw_fd()) };
    // SAFETY: the message and all that it describes are there.
    let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    ensure!(sent == 1, "the descriptor was not sent: {}", std::io::Error::last_os_error());
    Ok(())
}

fn receive(stream: &UnixStream) -> Result<OwnedFd> {
    let mut byte = [0];
    let bytes = IoSliceMut::new(&mut byte);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control::default();
    let mut message = header(&mut part, &mut control);
    // SAFETY: the message and all that it describes are there.
    let received = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    ensure!(received == 1, "no descriptor came: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has filled `control`.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    ensure!(!first.is_null(), "the message has no descriptor");
    // SAFETY: a control message begins there.
    let kind = unsafe { (*first).cmsg_type };
    ensure!(kind == libc::SCM_RIGHTS, "the message has something else");
    // SAFETY: as above.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: the message's one descriptor; the place need not be aligned.
    let number = unsafe { data.cast::<i32>().read_unaligned() };
    // SAFETY: it has come just now, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What hands a descriptor to every process that asks; it has no other copy here.
#[derive(Debug)]
pub(crate) struct Counter {
    directory: TempDir,
}

impl Counter {
    /// Begins to hand it out, to so many processes; then it is closed.
    pub(crate) fn open(descriptor: OwnedFd, times: usize) -> Result<Self> {
        let directory = tempfile::tempdir().context("a place for a socket")?;
        let listener = UnixListener::bind(directory.path().join("socket")).context("a socket")?;
        thread::spawn(move || {
            for _ in 0..times {
                let sent = listener.accept().map(|(stream, _)| send(&stream, &descriptor));
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
        });
        Ok(Self { directory })
    }

    /// Where the other processes ask.
    pub(crate) fn place(&self) -> String {
        self.directory.path().join("socket").to_string_lossy().into_owned()
    }
}

/// Asks for a descriptor.
pub(crate) fn fetch(place: &str) -> Result<OwnedFd> {
    receive(&UnixStream::connect(Path::new(place)).context("the other process's socket")?)
}

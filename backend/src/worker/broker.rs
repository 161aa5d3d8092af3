//! Asking the supervisor for tokens and what is behind them, and for images.
//!
//! A worker serves one session, so there is one broker in the process.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use rustix::net::{RecvFlags, SendFlags, sockopt};
use virtio_spec::{control::Status, cuda::CUresult};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::{
    broker::{self, Answer, BYTES, Question, Want},
    images::Key,
    packet,
};

/// How long an answer may take, which comes from memory.
const LONGEST: Duration = Duration::from_secs(5);

/// The worker's end; held while a question is open.
static BROKER: OnceLock<Mutex<OwnedFd>> = OnceLock::new();

/// Takes the worker's end, which came with its start.
pub(super) fn install(socket: OwnedFd) -> rustix::io::Result<()> {
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(LONGEST))?;
    // The first one stays: a worker is started once.
    let _ = BROKER.set(Mutex::new(socket));
    Ok(())
}

/// A token for a handle.
pub(super) fn deposit(object: u32, handle: [u8; BYTES]) -> Result<[u8; BYTES], CUresult> {
    let question = Question { want: Want::Deposit as u32, object, value: handle };
    ask(question, None).map(|(token, _)| token)
}

/// A token for a descriptor, of which the supervisor keeps a copy.
pub(super) fn deposit_descriptor(object: u32, descriptor: BorrowedFd<'_>) -> Result<[u8; BYTES], CUresult> {
    let question = Question { want: Want::Deposit as u32, object, value: [0; BYTES] };
    ask(question, Some(descriptor)).map(|(token, _)| token)
}

/// The handle behind a token.
pub(super) fn redeem(object: u32, token: [u8; BYTES]) -> Result<[u8; BYTES], CUresult> {
    ask(Question { want: Want::Redeem as u32, object, value: token }, None).map(|(handle, _)| handle)
}

/// The descriptor behind a token.
pub(super) fn redeem_descriptor(object: u32, token: [u8; BYTES]) -> Result<OwnedFd, CUresult> {
    let (_, descriptor) = ask(Question { want: Want::Redeem as u32, object, value: token }, None)?;
    descriptor.ok_or(CUresult::ERROR_OPERATING_SYSTEM)
}

/// Gives a token of this session back.
pub(super) fn forget(token: [u8; BYTES]) -> Result<(), CUresult> {
    ask(Question { want: Want::Forget as u32, object: 0, value: token }, None).map(drop)
}

/// The file that has an image's key, if there is one. `CUDA_ERROR_NOT_SUPPORTED`: none is ever kept.
pub(super) fn find_image(key: Key) -> Result<Option<OwnedFd>, CUresult> {
    let question = Question { want: Want::FindImage as u32, object: 0, value: broker::key_bytes(key) };
    match ask(question, None) {
        Err(CUresult::ERROR_INVALID_VALUE) => Ok(None),
        other => other.map(|(_, file)| file),
    }
}

/// Has an image kept for others.
pub(super) fn deposit_image(key: Key, file: BorrowedFd<'_>) -> Result<(), CUresult> {
    let question = Question { want: Want::DepositImage as u32, object: 0, value: broker::key_bytes(key) };
    ask(question, Some(file)).map(drop)
}

fn ask(
    question: Question,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<([u8; BYTES], Option<OwnedFd>), CUresult> {
    let broker = BROKER.get().ok_or(CUresult::ERROR_NOT_SUPPORTED)?;
    let broker = broker.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |error| {
        log::warn!("the supervisor does not answer: {error}");
        CUresult::ERROR_OPERATING_SYSTEM
    };
    packet::send(&*broker, question.as_bytes(), descriptor.as_slice(), SendFlags::empty()).map_err(failed)?;
    let mut buffer = [0; size_of::<Answer>()];
    let received = packet::receive(&*broker, &mut buffer, 1, RecvFlags::empty()).map_err(failed)?;
    let mut received = received.ok_or(CUresult::ERROR_OPERATING_SYSTEM)?;
    let answer = buffer.get(..received.length).and_then(|bytes| Answer::read_from_bytes(bytes).ok());
    let answer = answer.ok_or(CUresult::ERROR_OPERATING_SYSTEM)?;
    match Status::from_u32(answer.status) {
        Some(Status::Ok) => Ok((answer.value, received.descriptors.pop())),
        Some(Status::Invalid) => Err(CUresult::ERROR_INVALID_VALUE),
        Some(Status::Limit) => Err(CUresult::ERROR_OUT_OF_MEMORY),
        Some(Status::Unsupported) => Err(CUresult::ERROR_NOT_SUPPORTED),
        _ => Err(CUresult::ERROR_OPERATING_SYSTEM),
    }
}

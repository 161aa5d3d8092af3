//! Descriptors that carry tokens: what a program gets where CUDA's own is a descriptor of memory.
//!
//! A carrier is one end of a pair of sockets in which the token lies as a message that is never taken out, only looked at.
//! So it can be sent, duplicated and inherited as any descriptor, and any process that has it can read the token. The
//! other end stays here and tells when no process has a copy of the carrier any more: then nobody can show the token, and
//! the device need not keep the memory behind it ([`forget_unused`]). Copies that outlive this process cannot be opened
//! any more, because what a session has given away is forgotten with it.
//!
//! Unsafe code: system calls on sockets.

use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use guest_device::descriptor::{Descriptor, retry};
use virtio_spec::cuda::CUresult;
use virtio_spec::requests::{SharedObject, TOKEN_BYTES};

/// What the message begins with.
const MAGIC: [u8; 8] = *b"vcomptok";
const HEAD_BYTES: usize = 16;
const BYTES: usize = HEAD_BYTES + TOKEN_BYTES;

type Token = [u8; TOKEN_BYTES];

#[derive(Debug)]
struct Given {
    /// The end that the program does not see.
    own: Descriptor,
    token: Token,
}

/// Carriers of this process that somebody has.
static GIVEN: Mutex<Vec<Given>> = Mutex::new(Vec::new());

fn given() -> MutexGuard<'static, Vec<Given>> {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn message(object: SharedObject, token: &Token) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&(object as u32).to_le_bytes());
    bytes[HEAD_BYTES..].copy_from_slice(token);
    bytes
}

/// A new carrier; the number is the program's to close.
pub(crate) fn make(object: SharedObject, token: Token) -> Result<i32, CUresult> {
    let failed = CUresult::ERROR_OPERATING_SYSTEM;
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: room for two numbers.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } != 0 {
        return Err(failed);
    }
    let [own, carrier] = ends;
    let bytes = message(object, &token);
    let sent = Descriptor::new(own).filter(|own| {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the bytes are there, and the descriptor is open.
        let sent = retry(|| unsafe {
            libc::sendto(own.number(), bytes.as_ptr().cast(), BYTES, flags, ptr::null(), 0)
        });
        sent == Ok(BYTES)
    });
    let Some(own) = sent else {
        // SAFETY: made above, and nobody else knows it.
        unsafe { libc::close(carrier) };
        return Err(failed);
    };
    given().push(Given { own, token });
    Ok(carrier)
}

/// The token in a descriptor that the program says is a carrier of one.
pub(crate) fn read(object: SharedObject, descriptor: i32) -> Result<Token, CUresult> {
    let mut bytes = [0; BYTES];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: room for the bytes. What is no socket, or no descriptor, is refused by the kernel.
    let length = retry(|| unsafe { libc::recv(descriptor, bytes.as_mut_ptr().cast(), BYTES, flags) });
    let (head, token) = bytes.split_at(HEAD_BYTES);
    let expected = message(object, &[0; TOKEN_BYTES]);
    if length != Ok(BYTES) || head != &expected[..HEAD_BYTES] {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    token.try_into().map_err(|_| CUresult::ERROR_INVALID_VALUE)
}

/// Tokens whose carriers nobody has any more.
fn unused() -> Vec<Token> {
    let mut given = given();
    let mut polled: Vec<libc::pollfd> =
        given.iter().map(|one| libc::pollfd { fd: one.own.number(), events: 0, revents: 0 }).collect();
    if polled.is_empty() {
        return Vec::new();
    }
    let count = polled.len() as libc::nfds_t;
    // SAFETY: as many elements as counted, and no waiting.
    if unsafe { libc::poll(polled.as_mut_ptr(), count, 0) } <= 0 {
        return Vec::new();
    }
    let mut ended = polled.into_iter().map(|one| one.revents & (libc::POLLHUP | libc::POLLNVAL) != 0);
    let mut tokens = Vec::new();
    given.retain(|one| {
        let is_unused = ended.next().unwrap_or(false);
        if is_unused {
            tokens.push(one.token);
        }
        !is_unused
    });
    tokens
}

/// Has the device let go of what nobody can open any more. Called where memory is made and released, so that it comes
/// back at the latest when it is asked for.
pub(crate) fn forget_unused(forget: impl Fn(Token)) {
    unused().into_iter().for_each(forget);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list is the process's, and tests run at the same time: one test for all of it.
    #[test]
    fn a_token_is_read_any_number_of_times_and_until_the_last_copy_is_closed() {
        let token = [7; TOKEN_BYTES];
        let carrier = make(SharedObject::Pool, token).unwrap();
        // SAFETY: duplicates a descriptor of this test.
        let copy = unsafe { libc::dup(carrier) };
        assert_eq!(read(SharedObject::Pool, carrier), Ok(token));
        assert_eq!(read(SharedObject::Pool, copy), Ok(token));
        assert_eq!(read(SharedObject::Physical, copy), Err(CUresult::ERROR_INVALID_VALUE));
        // SAFETY: a descriptor of this test.
        unsafe { libc::close(carrier) };
        assert!(unused().is_empty(), "a copy is open");
        assert_eq!(read(SharedObject::Pool, copy), Ok(token));
        // SAFETY: a descriptor of this test.
        unsafe { libc::close(copy) };
        assert_eq!(unused(), [token]);
        assert!(unused().is_empty(), "it was told twice");
    }

    #[test]
    fn what_is_no_carrier_is_refused() {
        let mut ends = [-1; 2];
        // SAFETY: room for two numbers.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        for number in [-1, 1 << 20, ends[0], ends[1]] {
            assert_eq!(read(SharedObject::Pool, number), Err(CUresult::ERROR_INVALID_VALUE));
        }
        for end in ends {
            // SAFETY: a descriptor of this test.
            unsafe { libc::close(end) };
        }
    }
}

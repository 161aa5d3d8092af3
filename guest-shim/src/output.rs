//! What kernels print: fetched after calls that synchronise, and written where the program's own output goes.
//!
//! Unsafe code: the C library's streams.

use std::ffi::c_void;

use virtio_spec::requests::{OutputRead, OutputText, opcode};

use crate::session;
use crate::wire::Request;

unsafe extern "C" {
    /// The program's standard output, as its C library buffers it.
    static stdout: *mut libc::FILE;
    /// The program's standard error.
    static stderr: *mut libc::FILE;
}

/// Most pieces that one call delivers; the rest follows with the next one.
const MOST_PIECES: usize = 256;

/// Gives the program what kernels have printed. Costs a few loads where there is nothing.
#[inline]
pub(crate) fn deliver() {
    if let Some(session) = session::existing().filter(|session| session.has_output()) {
        deliver_from(session);
    }
}

#[cold]
fn deliver_from(session: &'static session::Session) {
    for _ in 0..MOST_PIECES {
        if !session.has_output() || !deliver_piece(session) {
            return;
        }
    }
}

/// Delivers one piece; false when nothing more comes.
fn deliver_piece(session: &'static session::Session) -> bool {
    let mut burst = Request::begin(session, opcode::OUTPUT_READ, 0).into_burst();
    let (staging, length) = burst.staging();
    let Ok(pending) = burst.send(&OutputRead { staging: 0, length }) else { return false };
    let Ok(text) = burst.receive_value::<OutputText>(pending) else { return false };
    if text.length == 0 || u64::from(text.length) > length {
        return false;
    }
    let mut bytes = Vec::new();
    burst.read(staging, text.length as usize, &mut bytes);
    drop(burst);
    write(text.descriptor, &bytes);
    true
}

/// Writes through the C library, so that the program's own buffered output keeps its place.
fn write(descriptor: u32, bytes: &[u8]) {
    // SAFETY: the C library sets both before any code of the program runs.
    let file = if descriptor == 2 { unsafe { stderr } } else { unsafe { stdout } };
    // SAFETY: an open stream of the C library, and bytes with their length. What cannot be written is lost, as natively.
    let _written = unsafe { libc::fwrite(bytes.as_ptr().cast::<c_void>(), 1, bytes.len(), file) };
    // SAFETY: an open stream of the C library.
    let _flushed = unsafe { libc::fflush(file) };
}

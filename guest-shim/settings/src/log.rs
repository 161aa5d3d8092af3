//! Log lines, for those who ask for them.
//!
//! Before the first CUDA call only what cannot wait is written to: standard error if it takes bytes at once, or the
//! system's log by a datagram. A file may be on a file system that hangs, so it has to wait for the first CUDA call;
//! standard error too, if it is a file of a file system that does not write without waiting.
//!
//! Unsafe code: system calls on bytes of this module.

use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

use shim_policy::{Level, Target};

use crate::decimal::Decimal;
use crate::environment::Environment;
use crate::settings::{Settings, Text};
use crate::{identity, is_privileged, name, system};

/// Bytes of a line; the rest is left out. A pipe takes so many at once or none.
const LINE_BYTES: usize = 256;
/// Longest path of a log file, with its end.
const PATH_BYTES: usize = shim_policy::MAX_BYTES + 1;

/// A line that is built without memory of its own.
struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self { bytes: [b'\n'; LINE_BYTES], length: 0 }
    }

    /// `vcompute: info python3[4711]: words`
    fn of(level: Level, name: &[u8], words: &str) -> Self {
        let mut line = Self::new();
        line.push(b"vcompute: ");
        line.push(level.name().as_bytes());
        line.push(b" ");
        for byte in name {
            line.push(if byte.is_ascii_graphic() { core::slice::from_ref(byte) } else { b"?" });
        }
        line.push(b"[");
        line.push(Decimal::of(identity::process().cast_unsigned()).bytes());
        line.push(b"]: ");
        line.push(words.as_bytes());
        line
    }

    /// Appends what fits; the last byte stays the line's end.
    fn push(&mut self, text: &[u8]) {
        let room = self.bytes.get_mut(self.length..LINE_BYTES - 1).unwrap_or_default();
        let fits = room.len().min(text.len());
        for (to, from) in room.iter_mut().zip(text) {
            *to = *from;
        }
        self.length += fits;
    }

    /// The line with its end.
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..=self.length).unwrap_or(&self.bytes)
    }
}

/// Writes a line in a process that has not called CUDA yet.
pub fn early(settings: &Settings<'_>, level: Level, name: &[u8], words: &str) {
    if level == Level::Off || level > settings.policy.level {
        return;
    }
    let line = Line::of(level, name, words);
    match settings.policy.target {
        Target::Stderr => to_stderr(line.bytes(), false),
        Target::Syslog => to_syslog(level, line.bytes()),
        Target::File(_) => {}
    }
}

/// Writes what the first call that needs the devices has found, once in a process.
pub fn first_call(found: Result<(), &'static str>) {
    static WRITTEN: AtomicBool = AtomicBool::new(false);
    if is_privileged() || WRITTEN.swap(true, Ordering::Relaxed) {
        return;
    }
    let environment = Environment::now();
    let mut text = Text::new();
    let settings = Settings::read(&mut text, &environment);
    let (level, words) = match found {
        Ok(()) => (Level::Info, "the devices are known"),
        Err(problem) => (Level::Error, problem),
    };
    if level > settings.policy.level {
        return;
    }
    let name = name::executed().unwrap_or(b"?");
    let line = Line::of(level, name, words);
    match settings.policy.target {
        Target::Stderr => to_stderr(line.bytes(), true),
        Target::Syslog => to_syslog(level, line.bytes()),
        Target::File(path) => to_file(path, line.bytes()),
    }
}

/// Appends to a file. A log that cannot be written is no reason to disturb a program.
fn to_file(path: &str, line: &[u8]) {
    let mut bytes = [0; PATH_BYTES];
    let Some(place) = bytes.get_mut(..path.len()) else { return };
    for (to, from) in place.iter_mut().zip(path.as_bytes()) {
        *to = *from;
    }
    let Ok(path) = core::ffi::CStr::from_bytes_until_nul(&bytes) else { return };
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
    if let Ok(file) = usize::try_from(system::open(path, flags, 0o666)) {
        let _ = system::write(file, line);
        system::close(file);
    }
}

const STDERR: usize = system::word(libc::STDERR_FILENO);
const TO_SOCKET: usize = system::word(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);

/// Writes to standard error if that takes the line at once; `may_wait` is for files that cannot promise it.
fn to_stderr(line: &[u8], may_wait: bool) {
    let mut poll = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    let arguments = [(&raw mut poll).expose_provenance(), 1, 0, 0, 0, 0];
    // SAFETY: one entry, and no waiting.
    let ready = unsafe { system::call(libc::SYS_poll, arguments) };
    // A pipe that nobody reads would end the process.
    if ready != 1 || poll.revents != libc::POLLOUT {
        return;
    }
    // Another process may fill a socket or a pipe since; then neither waits.
    let arguments = [STDERR, line.as_ptr().expose_provenance(), line.len(), TO_SOCKET, 0, 0];
    // SAFETY: as many readable bytes as given, and no address.
    let sent = unsafe { system::call(libc::SYS_sendto, arguments) };
    if !system::is_error(sent, libc::ENOTSOCK) {
        return;
    }
    let part = libc::iovec { iov_base: line.as_ptr().cast_mut().cast(), iov_len: line.len() };
    // The kernel takes the offset, -1 for the descriptor's own position, as two halves, of which the first holds all of it.
    let arguments =
        [STDERR, (&raw const part).expose_provenance(), 1, usize::MAX, 0, system::word(libc::RWF_NOWAIT)];
    // SAFETY: one part, which is readable.
    let written = unsafe { system::call(libc::SYS_pwritev2, arguments) };
    if system::is_error(written, libc::EOPNOTSUPP) && (may_wait || is_terminal()) {
        let _ = system::write(STDERR, line);
    }
}

/// Whether standard error is a terminal or the like, which knows no promises, but whose `poll` can be relied on.
fn is_terminal() -> bool {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: room for a status; the kernel's structure is the C library's.
    let _ = unsafe {
        system::call(libc::SYS_fstat, [STDERR, status.as_mut_ptr().expose_provenance(), 0, 0, 0, 0])
    };
    // SAFETY: zeros, or filled by the kernel.
    let status = unsafe { status.assume_init() };
    status.st_mode & libc::S_IFMT == libc::S_IFCHR
}

fn to_syslog(level: Level, line: &[u8]) {
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX.cast_unsigned().try_into().unwrap_or(1),
        sun_path: [0; 108],
    };
    for (to, from) in address.sun_path.iter_mut().zip(b"/dev/log") {
        *to = from.cast_signed();
    }
    let mut datagram = Line::new();
    // Facility "user", 8, and the level's severity.
    datagram.push(match level {
        Level::Off | Level::Error => b"<11>",
        Level::Warn => b"<12>",
        Level::Info => b"<14>",
        Level::Debug | Level::Trace => b"<15>",
    });
    datagram.push(line.strip_suffix(b"\n").unwrap_or(line));
    let bytes = datagram.bytes.get(..datagram.length).unwrap_or_default();
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: makes a socket.
    let socket = unsafe {
        system::call(libc::SYS_socket, [system::word(libc::AF_UNIX), system::word(kind), 0, 0, 0, 0])
    };
    let Ok(socket) = usize::try_from(socket) else { return };
    let to = (&raw const address).expose_provenance();
    let arguments = [
        socket,
        bytes.as_ptr().expose_provenance(),
        bytes.len(),
        TO_SOCKET,
        to,
        size_of::<libc::sockaddr_un>(),
    ];
    // SAFETY: readable bytes, and a complete address.
    let _ = unsafe { system::call(libc::SYS_sendto, arguments) };
    system::close(socket);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_process() {
        let line = Line::of(Level::Info, b"a\nb", "words");
        let text = str::from_utf8(line.bytes()).expect("it is text");
        assert_eq!(text, format!("vcompute: info a?b[{}]: words\n", identity::process()));
    }

    #[test]
    fn a_long_line_ends() {
        let line = Line::of(Level::Info, b"name", &"x".repeat(1000));
        assert_eq!(line.bytes().len(), LINE_BYTES);
        assert_eq!(line.bytes().last(), Some(&b'\n'));
    }
}

//! Log lines, for those who ask for them.
//!
//! Before the first CUDA call only what cannot wait is written to: standard error if it takes bytes at once, or the
//! system's log by a datagram. A file may be on a file system that hangs, so it has to wait for the first CUDA call;
//! standard error too, if it is a file of a file system that does not write without waiting.
//!
//! Unsafe code: system calls on bytes of this module.

use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use shim_policy::{Level, Target};

use super::environment::Environment;
use super::settings::{Settings, Text};
use super::{identity, name};
use crate::transport::errno;

/// Bytes of a line; the rest is left out. A pipe takes so many at once or none.
const LINE_BYTES: usize = 256;

/// A line that is built without memory of its own.
struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
}

impl Line {
    /// `vcompute: INFO python3[4711]: words`
    fn new(level: Level, name: &[u8], words: &str) -> Self {
        let mut line = Self { bytes: [b'\n'; LINE_BYTES], length: 0 };
        // A line takes everything, if not all of it.
        let _ = write!(line, "vcompute: {} ", level.name());
        for &byte in name {
            let _ = line.write_char(if byte.is_ascii_graphic() { char::from(byte) } else { '?' });
        }
        let _ = write!(line, "[{}]: {words}", identity::process());
        line
    }

    /// The line with its end.
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..=self.length).unwrap_or(&self.bytes)
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // The last byte stays the line's end.
        let room = self.bytes.get_mut(self.length..LINE_BYTES - 1).unwrap_or_default();
        let fits = room.len().min(text.len());
        for (to, from) in room.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        self.length += fits;
        Ok(())
    }
}

/// Writes a line in a process that has not called CUDA yet.
pub(super) fn early(settings: &Settings<'_>, level: Level, name: &[u8], words: &str) {
    if level == Level::Off || level > settings.policy.level {
        return;
    }
    let line = Line::new(level, name, words);
    match settings.policy.target {
        Target::Stderr => to_stderr(line.bytes(), false),
        Target::Syslog => to_syslog(level, line.bytes()),
        Target::File(_) => {}
    }
}

/// Writes what the first call that needs the devices has found.
pub(crate) fn first_call(found: Result<(), &'static str>) {
    static WRITTEN: AtomicBool = AtomicBool::new(false);
    if super::is_privileged() || WRITTEN.swap(true, Ordering::Relaxed) {
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
    let line = Line::new(level, name, words);
    match settings.policy.target {
        Target::Stderr => to_stderr(line.bytes(), true),
        Target::Syslog => to_syslog(level, line.bytes()),
        Target::File(path) => to_file(path, line.bytes()),
    }
}

fn to_file(path: &str, line: &[u8]) {
    // A log that cannot be written is no reason to disturb a program.
    let _ = std::fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(line));
}

/// Writes to standard error if that takes the line at once; `may_wait` is for files that cannot promise it.
fn to_stderr(line: &[u8], may_wait: bool) {
    let mut poll = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, and no waiting.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    // A pipe that nobody reads would end the process.
    if ready != 1 || poll.revents != libc::POLLOUT {
        return;
    }
    // Another process may fill a socket or a pipe since; then neither waits.
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: as many readable bytes as given.
    let sent = unsafe { libc::send(libc::STDERR_FILENO, line.as_ptr().cast(), line.len(), flags) };
    if sent >= 0 || errno() != libc::ENOTSOCK {
        return;
    }
    let part = libc::iovec { iov_base: line.as_ptr().cast_mut().cast(), iov_len: line.len() };
    // SAFETY: one part, which is readable; at the descriptor's own position.
    let written = unsafe { libc::pwritev2(libc::STDERR_FILENO, &raw const part, 1, -1, libc::RWF_NOWAIT) };
    if written < 0 && errno() == libc::EOPNOTSUPP && (may_wait || is_terminal()) {
        // SAFETY: as many readable bytes as given.
        unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    }
}

/// Whether standard error is a terminal or the like, which knows no promises, but whose `poll` can be relied on.
fn is_terminal() -> bool {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: room for a status.
    unsafe { libc::fstat(libc::STDERR_FILENO, status.as_mut_ptr()) };
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
    let mut datagram = Line { bytes: [b'\n'; LINE_BYTES], length: 0 };
    // Facility "user", and the level's severity.
    let severity = match level {
        Level::Off | Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let _ = write!(datagram, "<{}>{}", 8 + severity, str::from_utf8(line).unwrap_or_default().trim_end());
    let bytes = datagram.bytes.get(..datagram.length).unwrap_or_default();
    // SAFETY: makes a socket.
    let socket = unsafe {
        libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    };
    if socket < 0 {
        return;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let size = u32::try_from(size_of::<libc::sockaddr_un>()).unwrap_or(0);
    // SAFETY: readable bytes, and a complete address.
    unsafe {
        libc::sendto(socket, bytes.as_ptr().cast(), bytes.len(), flags, (&raw const address).cast(), size)
    };
    // SAFETY: the socket made above.
    unsafe { libc::close(socket) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_process() {
        let line = Line::new(Level::Info, b"a\nb", "words");
        let text = str::from_utf8(line.bytes()).expect("it is text");
        assert!(text.starts_with("vcompute: info a?b["), "{text}");
        assert!(text.ends_with("]: words\n"), "{text}");
    }

    #[test]
    fn a_long_line_ends() {
        let line = Line::new(Level::Info, b"name", &"x".repeat(1000));
        assert_eq!(line.bytes().len(), LINE_BYTES);
        assert_eq!(line.bytes().last(), Some(&b'\n'));
    }
}

//! What kernels print: the driver writes it to this process's standard output and error, the guest process reads it.
//! (This file contains unsafe code: replacing standard descriptors, and a mapping of what is written there.)
//!
//! Both descriptors become memory files, which never block the driver as a full pipe would. What has been read is given
//! back by punching holes, so a session's unread output is all that it takes.
//!
//! Whether there is any is asked after each call that waits, so it must cost no system call: the files are longer than
//! what is written, and zero there, and where the next byte will come to lie is mapped.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{FallocateFlags, MemfdFlags, SeekFrom},
    mm::{MapFlags, ProtFlags},
};

/// Unread output beyond this is dropped, oldest first: a kernel can print for ever.
const MAX_UNREAD: u64 = 16 << 20;

/// Bytes of a file that are mapped, from a page's start on.
const WINDOW: usize = 64 << 10;
const PAGE: u64 = 4096;
/// Words that are looked at: 64 bytes.
const LOOKED_AT: u64 = 8;

/// A standard descriptor's file, and how far it has been read.
struct Stream {
    descriptor: u32,
    file: OwnedFd,
    reader: Mutex<Reader>,
}

/// Where a file is read next.
struct Reader {
    /// Bytes that have been read.
    read: u64,
    /// Where the window begins in the file.
    start: u64,
    /// [`WINDOW`] bytes of the file.
    window: NonNull<AtomicU64>,
}

// SAFETY: the window is a mapping of this process, whichever thread looks at it.
unsafe impl Send for Reader {}

static STREAMS: OnceLock<[Stream; 2]> = OnceLock::new();

/// Captures standard output and error. Called once, before the driver is loaded and after logging has been given a
/// descriptor of its own.
pub(crate) fn capture() -> io::Result<()> {
    let streams = [Stream::replace(1)?, Stream::replace(2)?];
    // A second call would leave the first one's files in place.
    let _ = STREAMS.set(streams);
    Ok(())
}

/// Whether there is output that has not been read. `exactly` also finds one that begins with 64 NULs.
pub(crate) fn is_waiting(exactly: bool) -> bool {
    STREAMS.get().is_some_and(|streams| streams.iter().any(|stream| stream.is_waiting(exactly)))
}

/// Takes some output: the descriptor it was written to, and how many bytes are now in `buffer`.
pub(crate) fn read(buffer: &mut [u8]) -> Option<(u32, usize)> {
    STREAMS.get()?.iter().find_map(|stream| stream.take(buffer).map(|length| (stream.descriptor, length)))
}

impl Stream {
    fn replace(descriptor: u32) -> io::Result<Self> {
        let file = rustix::fs::memfd_create("kernel-output", MemfdFlags::CLOEXEC)?;
        let reader = Mutex::new(Reader::at(&file, 0)?);
        let target = i32::try_from(descriptor).map_err(io::Error::other)?;
        // SAFETY: replaces a standard descriptor, which nothing in this process owns.
        if unsafe { libc::dup2(file.as_raw_fd(), target) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { descriptor, file, reader })
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that have been written: the duplicate's position is this one's, too.
    fn written(&self) -> u64 {
        rustix::fs::seek(&self.file, SeekFrom::Current(0)).unwrap_or(0)
    }

    fn is_waiting(&self, exactly: bool) -> bool {
        let reader = self.reader();
        if exactly { self.written() > reader.read } else { reader.sees_output() }
    }

    fn take(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut reader = self.reader();
        let written = self.written();
        let read = reader.read.max(written.saturating_sub(MAX_UNREAD));
        let length = usize::try_from(written.saturating_sub(read)).ok()?.min(buffer.len());
        let length = rustix::io::pread(&self.file, buffer.get_mut(..length)?, read).ok()?;
        if length == 0 {
            return None;
        }
        reader.advance(&self.file, read.saturating_add(length as u64));
        Some(length)
    }
}

impl Reader {
    /// Reads on at `read`: makes the file longer than that, and maps what comes there.
    fn at(file: &OwnedFd, read: u64) -> io::Result<Self> {
        let start = read & !(PAGE - 1);
        let end = start.saturating_add(WINDOW as u64);
        let length = rustix::fs::fstat(file)?.st_size;
        if u64::try_from(length).is_ok_and(|length| length < end) {
            rustix::fs::ftruncate(file, end)?;
        }
        // SAFETY: the kernel chooses free addresses.
        let window = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), WINDOW, ProtFlags::READ, MapFlags::SHARED, file, start)
        }?;
        let window = NonNull::new(window.cast()).ok_or_else(|| io::Error::other("a mapping at 0"))?;
        Ok(Self { read, start, window })
    }

    /// Everything before `read` has been read.
    fn advance(&mut self, file: &OwnedFd, read: u64) {
        self.read = read;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = rustix::fs::fallocate(file, hole, 0, read) {
            log::debug!("output that was read stays in memory: {error}");
        }
        if self.word(LOOKED_AT).is_some() {
            return;
        }
        match Self::at(file, read) {
            Ok(next) => *self = next,
            // Output is then found by the calls that ask exactly.
            Err(error) => log::debug!("output cannot be mapped: {error}"),
        }
    }

    /// The word that is `number` words behind the one with the next byte, if it is in the window.
    fn word(&self, number: u64) -> Option<&AtomicU64> {
        let first = self.read.checked_sub(self.start)? / 8;
        let place = first.saturating_add(number);
        if place >= WINDOW as u64 / 8 {
            return None;
        }
        let place = self.window.as_ptr().wrapping_add(usize::try_from(place).ok()?);
        // SAFETY: inside the mapping, which is as long as the file is, aligned, and only ever read as atomics.
        Some(unsafe { AtomicU64::from_ptr(place.cast()) })
    }

    /// Whether the next bytes are not zero. The first word may hold bytes that have been read.
    fn sees_output(&self) -> bool {
        let unread = u64::MAX.checked_shl(u32::try_from(self.read % 8).unwrap_or(0) * 8).unwrap_or(u64::MAX);
        (0..LOOKED_AT).any(|number| {
            let mask = if number == 0 { unread } else { u64::MAX };
            self.word(number).is_some_and(|word| word.load(Ordering::Relaxed) & mask != 0)
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: the reader's own mapping, which nothing refers to any more.
        let unmapped = unsafe { libc::munmap(self.window.as_ptr().cast(), WINDOW) };
        debug_assert_eq!(unmapped, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        let file = rustix::fs::memfd_create("output-test", MemfdFlags::CLOEXEC).unwrap();
        let reader = Mutex::new(Reader::at(&file, 0).unwrap());
        Stream { descriptor: 1, file, reader }
    }

    fn write(stream: &Stream, text: &[u8]) {
        assert_eq!(rustix::io::write(&stream.file, text).unwrap(), text.len());
    }

    #[test]
    fn output_is_seen_wherever_it_ends() {
        let stream = stream();
        let mut buffer = [0; 4096];
        let mut expected = Vec::new();
        let mut found = Vec::new();
        assert!(!stream.is_waiting(false) && !stream.is_waiting(true));
        // Across several windows, at every alignment.
        for length in (1..=1000).map(|number| number % 997 + 1) {
            let text = vec![b'a' + u8::try_from(length % 26).unwrap(); length];
            write(&stream, &text);
            expected.extend_from_slice(&text);
            assert!(stream.is_waiting(false) && stream.is_waiting(true), "after {length} more");
            while let Some(taken) = stream.take(&mut buffer) {
                found.extend_from_slice(&buffer[..taken]);
            }
            assert!(!stream.is_waiting(false) && !stream.is_waiting(true), "all was taken");
        }
        assert!(found == expected, "{} of {} bytes", found.len(), expected.len());
    }

    #[test]
    fn more_than_a_window_at_once_is_not_lost() {
        let stream = stream();
        let text: Vec<u8> = (0..300_000_u32).map(|number| (number % 251 + 1).to_le_bytes()[0]).collect();
        write(&stream, &text);
        let mut found = Vec::new();
        let mut buffer = vec![0; 10_000];
        while let Some(taken) = stream.take(&mut buffer) {
            found.extend_from_slice(&buffer[..taken]);
        }
        assert!(found == text);
        write(&stream, b"more");
        assert!(stream.is_waiting(false));
    }

    #[test]
    fn nothing_but_zeros_is_found_by_those_who_ask_exactly() {
        let stream = stream();
        write(&stream, &[0; 100]);
        assert!(!stream.is_waiting(false) && stream.is_waiting(true));
        assert_eq!(stream.take(&mut [1; 200]), Some(100));
        assert!(!stream.is_waiting(true));
    }
}

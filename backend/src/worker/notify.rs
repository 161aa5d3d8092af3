//! How a lane's host thread wakes a sleeping guest thread. (This file contains unsafe code: a futex system call on
//! session memory.)

use std::{os::fd::OwnedFd, sync::Arc};

use crate::worker::memory::SessionMemory;

/// Wakes whoever sleeps on a word of session memory.
#[derive(Debug)]
pub(crate) struct Notifier {
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// The supervisor reports an event on `eventq`; the guest's driver then looks at its waiters.
    Call(OwnedFd),
    /// The waiter sleeps in `FUTEX_WAIT` on the word itself.
    Futex(Arc<SessionMemory>),
}

impl Notifier {
    /// For a session of a VM: writes the eventfd that the supervisor reads.
    pub(crate) fn call(eventfd: OwnedFd) -> Self {
        Self { way: Way::Call(eventfd) }
    }

    /// For a session of the local socket.
    pub(crate) fn futex(memory: Arc<SessionMemory>) -> Self {
        Self { way: Way::Futex(memory) }
    }

    /// Wakes all sleepers on the 32-bit word at `word_offset` of region 0. The caller has written the word before.
    pub(crate) fn notify(&self, word_offset: u64) {
        match &self.way {
            Way::Call(eventfd) => {
                // EAGAIN: the counter is full, so the supervisor has a wake-up to read already.
                if let Err(error) = rustix::io::write(eventfd, &1_u64.to_ne_bytes()) {
                    log::debug!("call eventfd: {error}");
                }
            }
            Way::Futex(memory) => wake(memory, word_offset),
        }
    }
}

fn wake(memory: &SessionMemory, word_offset: u64) {
    let Ok(offset) = usize::try_from(word_offset) else { return };
    if !offset.is_multiple_of(4) || offset.checked_add(4).is_none_or(|end| end > memory.len()) {
        log::debug!("no word of session memory at {word_offset:#x}");
        return;
    }
    let word = memory.base().as_ptr().wrapping_add(offset);
    // SAFETY: the word lies inside the region, which `memory` keeps mapped; waking reads and writes no memory.
    let result = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, i32::MAX, 0, 0, 0) };
    if result < 0 {
        log::debug!("futex: {}", std::io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::EventfdFlags;

    use super::*;
    use crate::link::Piece;

    #[test]
    fn a_call_is_an_eventfd_write() {
        let eventfd = rustix::event::eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let notifier = Notifier::call(eventfd.try_clone().unwrap());
        notifier.notify(4096);
        notifier.notify(0);
        let mut count = [0; 8];
        rustix::io::read(&eventfd, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 2);
    }

    #[test]
    fn a_futex_waiter_is_woken() {
        let file = rustix::fs::memfd_create("notify-test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let piece = Piece { file: 0, reserved: 0, offset: 0, length: 4096 };
        let memory = SessionMemory::map(4096, &[piece], &[file]).unwrap();
        let notifier = Notifier::futex(Arc::clone(&memory));
        let waiter = std::thread::spawn({
            let memory = Arc::clone(&memory);
            move || {
                let word = memory.base().as_ptr().wrapping_add(64);
                // SAFETY: the word is mapped for as long as `memory` lives.
                unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, 0, 0, 0, 0) }
            }
        });
        // The waiter may not sleep yet: wake until it has ended. Words outside the region are ignored meanwhile.
        while !waiter.is_finished() {
            notifier.notify(64);
            notifier.notify(4096);
            notifier.notify(u64::MAX);
            std::thread::yield_now();
        }
        assert_eq!(waiter.join().unwrap(), 0);
    }
}

//! A virtqueue of the device, with eventfds that hurt nobody.
//!
//! The vhost-user crate's thread for both queues ends for good when the read of a kick eventfd fails, and sleeps in it
//! when the eventfd blocks. A front-end brings either about: it can read its own eventfds, pass one that blocks or is
//! none, or replace one while the queue runs. The crate then goes on waiting for the old one, because the front-end
//! still has it, but reads the new one. So this wraps the crate's virtqueue: eventfds never block, an empty one is no
//! error, and those that were replaced are emptied too.

use std::{
    fs::File,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use vhost_user_backend::{VringRwLock, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::{Error, QueueT as _};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::event::EventConsumer;

use crate::supervisor::peer;

/// Guest memory as vhost-user tells it.
pub(crate) type Memory = GuestMemoryAtomic<GuestMemoryMmap<()>>;

/// Kick eventfds of one queue that were replaced while it ran. A front-end of good will replaces none.
const MAX_REPLACED: usize = 16;

/// A virtqueue of the device.
#[derive(Clone)]
pub(crate) struct Vring {
    inner: VringRwLock<Memory>,
    replaced: Arc<Mutex<Vec<EventConsumer>>>,
}

impl<'a> VringStateGuard<'a, Memory> for Vring {
    type G = <VringRwLock<Memory> as VringStateGuard<'a, Memory>>::G;
}

impl<'a> VringStateMutGuard<'a, Memory> for Vring {
    type G = <VringRwLock<Memory> as VringStateMutGuard<'a, Memory>>::G;
}

impl Vring {
    /// An eventfd that does not block. What is none is refused, and the queue stays without.
    fn checked(file: Option<File>, purpose: &str) -> Option<File> {
        match peer::eventfd(file?.into()) {
            Ok(eventfd) => Some(eventfd),
            Err(_) => {
                log::error!("QEMU has passed something for {purpose} that is no eventfd; it is not used");
                None
            }
        }
    }

    /// Keeps the kick eventfd that is about to be replaced while the queue runs.
    fn keep_replaced(&self) {
        let state = self.inner.get_ref();
        let copy = state.get_kick().as_ref().map(|kick| kick.try_clone());
        let running = state.get_queue().ready();
        drop(state);
        if !running {
            return;
        }
        let Some(Ok(kick)) = copy else { return };
        log::warn!("QEMU has replaced the kick eventfd of a queue that runs");
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        if replaced.len() < MAX_REPLACED {
            replaced.push(kick);
        }
    }

    fn empty_replaced(&self) {
        for kick in &*self.replaced.lock().unwrap_or_else(PoisonError::into_inner) {
            // Most often it is empty.
            let _read = kick.consume();
        }
    }
}

impl VringT<Memory> for Vring {
    fn new(memory: Memory, max_queue_size: u16) -> Result<Self, Error> {
        Ok(Self { inner: VringRwLock::new(memory, max_queue_size)?, replaced: Arc::default() })
    }

    fn get_ref(&self) -> <Self as VringStateGuard<'_, Memory>>::G {
        self.inner.get_ref()
    }

    fn get_mut(&self) -> <Self as VringStateMutGuard<'_, Memory>>::G {
        self.inner.get_mut()
    }

    fn add_used(&self, head: u16, length: u32) -> Result<(), Error> {
        self.inner.add_used(head, length)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.inner.signal_used_queue()
    }

    fn enable_notification(&self) -> Result<bool, Error> {
        self.inner.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), Error> {
        self.inner.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, Error> {
        self.inner.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.inner.set_enabled(enabled);
    }

    fn set_queue_info(&self, descriptors: u64, available: u64, used: u64) -> Result<(), Error> {
        self.inner.set_queue_info(descriptors, available, used)
    }

    fn queue_next_avail(&self) -> u16 {
        self.inner.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.inner.set_queue_next_avail(base);
    }

    fn set_queue_next_used(&self, index: u16) {
        self.inner.set_queue_next_used(index);
    }

    fn queue_used_idx(&self) -> Result<u16, Error> {
        self.inner.queue_used_idx()
    }

    fn set_queue_size(&self, size: u16) {
        self.inner.set_queue_size(size);
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.inner.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.inner.set_queue_ready(ready);
    }

    fn set_kick(&self, file: Option<File>) {
        let file = Self::checked(file, "kicks");
        if file.is_some() {
            self.keep_replaced();
            // The crate waits for the eventfd of a queue that becomes ready, and of no other.
            self.inner.set_queue_ready(false);
        }
        self.inner.set_kick(file);
    }

    fn read_kick(&self) -> io::Result<bool> {
        self.empty_replaced();
        match self.inner.read_kick() {
            Ok(enabled) => Ok(enabled),
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    log::error!("a kick eventfd cannot be read: {error}");
                }
                // Somebody else has read it: there may be something in the queue all the same.
                Ok(self.inner.get_ref().is_enabled())
            }
        }
    }

    fn set_call(&self, file: Option<File>) {
        self.inner.set_call(Self::checked(file, "calls"));
    }

    fn set_err(&self, file: Option<File>) {
        self.inner.set_err(file);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::EventfdFlags;

    use super::*;

    fn eventfd() -> (File, File) {
        let file = File::from(rustix::event::eventfd(0, EventfdFlags::empty()).unwrap());
        (file.try_clone().unwrap(), file)
    }

    fn count(eventfd: &File) -> Option<u64> {
        let mut count = [0; 8];
        rustix::io::read(eventfd, &mut count).ok().map(|_| u64::from_ne_bytes(count))
    }

    fn queue() -> Vring {
        let vring = Vring::new(GuestMemoryAtomic::new(GuestMemoryMmap::new()), 16).unwrap();
        vring.set_enabled(true);
        vring
    }

    #[test]
    fn an_empty_kick_is_no_error_and_does_not_block() {
        let vring = queue();
        let (passed, _kept) = eventfd();
        vring.set_kick(Some(passed));
        assert!(vring.read_kick().unwrap());
        vring.set_enabled(false);
        assert!(!vring.read_kick().unwrap());
    }

    #[test]
    fn a_kick_that_was_replaced_is_emptied() {
        let vring = queue();
        let (first, first_kept) = eventfd();
        vring.set_kick(Some(first));
        vring.set_queue_ready(true);
        vring.set_kick(Some(eventfd().0));
        assert!(!vring.get_ref().get_queue().ready(), "so that the crate waits for the new one");
        rustix::io::write(&first_kept, &1_u64.to_ne_bytes()).unwrap();
        assert!(vring.read_kick().unwrap());
        assert_eq!(count(&first_kept), None);
    }

    #[test]
    fn a_full_call_does_not_block() {
        let vring = queue();
        let (passed, kept) = eventfd();
        rustix::io::write(&kept, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        vring.set_call(Some(passed));
        assert!(vring.signal_used_queue().is_err());
        assert_eq!(count(&kept), Some(u64::MAX - 1));
    }

    #[test]
    fn what_is_no_eventfd_is_refused() {
        let vring = queue();
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        vring.set_kick(Some(File::from(reader)));
        assert!(vring.get_ref().get_kick().is_none());
    }
}

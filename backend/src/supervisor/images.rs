//! Images of code that processes of one VM, or of one user of the local socket, need not send again (docs/adr/0012).
//!
//! Kept as sealed files that workers have deposited. Nothing in here looks at their contents: whoever is given one finds out
//! by itself whether it is the one that it wants. What has not been used for the longest time gives way.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use virtio_spec::{control::Status, limits};

use crate::{
    config,
    images::{Key, is_sealed},
    supervisor::{session::Owner, tokens::Circle},
};

struct Entry {
    circle: Circle,
    key: Key,
    file: OwnedFd,
}

/// Closes files. That is no work for the supervisor's own thread: with the last descriptor of a file goes all its memory.
struct Closer {
    files: Sender<(OwnedFd, u64)>,
    /// Bytes of files that are not closed yet.
    bytes: Arc<AtomicU64>,
}

impl Closer {
    fn start() -> io::Result<Self> {
        let (files, queue): (_, Receiver<(OwnedFd, u64)>) = channel();
        let bytes = Arc::new(AtomicU64::new(0));
        let left = Arc::clone(&bytes);
        let close = move || {
            for (file, size) in queue {
                drop(file);
                left.fetch_sub(size, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().name("images".to_owned()).spawn(close)?;
        Ok(Self { files, bytes })
    }

    fn close(&self, file: OwnedFd, size: u64) {
        self.bytes.fetch_add(size, Ordering::Relaxed);
        // The thread runs as long as this end exists.
        let _sent = self.files.send((file, size));
    }
}

/// The images that are kept.
pub(crate) struct Images {
    bounds: config::Images,
    /// In the order of their last use.
    entries: VecDeque<Entry>,
    bytes: u64,
    closer: Closer,
}

impl Images {
    pub(crate) fn new(bounds: config::Images) -> io::Result<Self> {
        Ok(Self { bounds, entries: VecDeque::new(), bytes: 0, closer: Closer::start()? })
    }

    /// Images and their bytes.
    pub(crate) fn held(&self) -> (usize, u64) {
        (self.entries.len(), self.bytes)
    }

    fn position(&self, circle: Circle, key: Key) -> Option<usize> {
        self.entries.iter().position(|entry| entry.circle == circle && entry.key == key)
    }

    /// The file with this key in the owner's circle.
    pub(crate) fn find(&mut self, owner: Owner, key: Key) -> Result<BorrowedFd<'_>, Status> {
        if self.bounds.is_off() {
            return Err(Status::Unsupported);
        }
        let position = self.position(Circle::of(owner), key).ok_or(Status::Invalid)?;
        let entry = self.entries.remove(position).ok_or(Status::Invalid)?;
        self.entries.push_back(entry);
        self.entries.back().map(|entry| entry.file.as_fd()).ok_or(Status::Invalid)
    }

    /// Keeps a file, instead of one with the same key.
    pub(crate) fn deposit(&mut self, owner: Owner, key: Key, file: OwnedFd) -> Result<(), Status> {
        let circle = Circle::of(owner);
        let most = self.bounds.bytes();
        let refusal = if self.bounds.is_off() {
            Some(Status::Unsupported)
        } else if key.total == 0 || key.total > limits::MAX_IMAGE_BYTES || !is_sealed(file.as_fd(), key.total)
        {
            Some(Status::Invalid)
        } else if key.total > most {
            Some(Status::Limit)
        } else if self.closer.bytes.load(Ordering::Relaxed) > most {
            Some(Status::Again)
        } else {
            None
        };
        if let Some(status) = refusal {
            self.closer.close(file, 0);
            return Err(status);
        }
        if let Some(position) = self.position(circle, key) {
            self.remove(position);
        }
        let count = usize::try_from(self.bounds.entries).unwrap_or(usize::MAX);
        while self.entries.len() >= count || self.bytes.saturating_add(key.total) > most {
            if !self.remove(0) {
                break;
            }
        }
        self.bytes = self.bytes.saturating_add(key.total);
        self.entries.push_back(Entry { circle, key, file });
        Ok(())
    }

    /// Closes a file that came with a question of another kind.
    pub(crate) fn close(&self, file: OwnedFd) {
        self.closer.close(file, 0);
    }

    /// Forgets the VM's: another one may come.
    pub(crate) fn forget_vm(&mut self) {
        while let Some(position) = self.entries.iter().position(|entry| entry.circle == Circle::Vm) {
            self.remove(position);
        }
    }

    fn remove(&mut self, position: usize) -> bool {
        let Some(Entry { key, file, .. }) = self.entries.remove(position) else { return false };
        self.bytes = self.bytes.saturating_sub(key.total);
        self.closer.close(file, key.total);
        true
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, SealFlags};

    use super::*;
    use crate::images::SEALS;

    const VM: Owner = Owner::Vm;
    const USER: Owner = Owner::Client { client: 1, uid: 1000 };
    const SAME_USER: Owner = Owner::Client { client: 2, uid: 1000 };
    const OTHER_USER: Owner = Owner::Client { client: 3, uid: 1001 };
    const MIB: u64 = 1 << 20;

    fn images(megabytes: u32, entries: u32) -> Images {
        Images::new(config::Images { megabytes, entries }).unwrap()
    }

    fn file(total: u64, seals: SealFlags) -> OwnedFd {
        let file =
            rustix::fs::memfd_create("images-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&file, total + 1).unwrap();
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        file
    }

    fn deposit(images: &mut Images, owner: Owner, key: Key) -> Result<(), Status> {
        images.deposit(owner, key, file(key.total, SEALS))
    }

    fn key(sample: u64) -> Key {
        Key { total: MIB, sample }
    }

    #[test]
    fn an_image_is_found_in_its_own_circle_only() {
        let mut images = images(8, 8);
        deposit(&mut images, VM, key(1)).unwrap();
        deposit(&mut images, USER, key(2)).unwrap();
        assert!(images.find(VM, key(1)).is_ok());
        assert!(images.find(SAME_USER, key(2)).is_ok());
        for (stranger, key) in [(USER, key(1)), (OTHER_USER, key(1)), (OTHER_USER, key(2)), (VM, key(2))] {
            assert_eq!(images.find(stranger, key).unwrap_err(), Status::Invalid);
        }
        images.forget_vm();
        assert_eq!(images.find(VM, key(1)).unwrap_err(), Status::Invalid);
        assert_eq!(images.held(), (1, MIB));
    }

    #[test]
    fn what_was_not_used_for_longest_gives_way() {
        let mut images = images(4, 8);
        for sample in 1..=4 {
            deposit(&mut images, VM, key(sample)).unwrap();
        }
        assert!(images.find(VM, key(1)).is_ok());
        deposit(&mut images, VM, key(5)).unwrap();
        assert_eq!(images.held(), (4, 4 * MIB));
        assert_eq!(images.find(VM, key(2)).unwrap_err(), Status::Invalid);
        assert!(images.find(VM, key(1)).is_ok());
        deposit(&mut images, VM, Key { total: 4 * MIB, sample: 6 }).unwrap();
        assert_eq!(images.held(), (1, 4 * MIB));
        assert_eq!(deposit(&mut images, VM, Key { total: 4 * MIB + 1, sample: 7 }), Err(Status::Limit));
    }

    #[test]
    fn they_are_no_more_than_the_bound() {
        let mut images = images(64, 3);
        for sample in 1..=9 {
            deposit(&mut images, VM, key(sample)).unwrap();
        }
        assert_eq!(images.held(), (3, 3 * MIB));
        deposit(&mut images, VM, key(9)).unwrap();
        assert_eq!(images.held(), (3, 3 * MIB), "the same key once");
    }

    #[test]
    fn files_that_can_change_are_refused() {
        let mut images = images(8, 8);
        for missing in [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::GROW] {
            let file = file(MIB, SEALS.difference(missing));
            assert_eq!(images.deposit(VM, key(1), file), Err(Status::Invalid), "without {missing:?}");
        }
        assert_eq!(images.deposit(VM, key(1), file(MIB + 1, SEALS)), Err(Status::Invalid), "another length");
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert_eq!(images.deposit(VM, key(1), pipe), Err(Status::Invalid));
        assert_eq!(images.held(), (0, 0));
    }

    #[test]
    fn without_room_nothing_is_kept() {
        for mut images in [images(0, 8), images(8, 0)] {
            assert_eq!(images.find(VM, key(1)).unwrap_err(), Status::Unsupported);
            assert_eq!(deposit(&mut images, VM, key(1)), Err(Status::Unsupported));
        }
    }
}

//! How many lanes look at their empty rings at once, counted by all workers of a supervisor together. (This file contains
//! unsafe code: a mapping that processes share.)
//!
//! A lane that spins takes a processor and does nothing with it, so there is a bound on how many do. They are counted in
//! a memory file of a few pages, in which each session has a word of its own, on cache lines of its own, with a bit for
//! each of its lanes. A lane sets its bit when it begins to spin and clears it when it sleeps, not in between, and adds
//! up all words when it has set it. The supervisor clears the word of a session that has ended, whatever became of its
//! worker.
//!
//! Workers run what guests say: the numbers may be anything, and the supervisor never reads them. A wrong one makes lanes
//! spin that should sleep, or sleep that could spin.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, SealFlags},
    io::Errno,
    mm::{MapFlags, ProtFlags},
};
use virtio_spec::limits;

use crate::config::Spin;

/// As many as there are sessions at once: of the VM, and of the local socket.
const SLOTS: usize = 2 * limits::MAX_SESSIONS as usize;

const _: () = assert!(limits::MAX_LANES <= u64::BITS, "each lane has a bit");

/// A word on cache lines of its own, of which processors fetch two at once.
#[derive(Default)]
#[repr(C, align(128))]
struct Word(AtomicU64);

/// What the file holds.
#[repr(C)]
struct Table {
    /// Sessions' words beyond this number are zero; the supervisor's, so that lanes need not look at all of them.
    used: Word,
    slots: [Word; SLOTS],
}

/// What a session's worker is told when it starts.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    /// A [`Table`].
    pub(crate) file: Arc<File>,
    pub(crate) terms: Terms,
}

/// The same but for the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Which of the words is the session's.
    pub(crate) slot: u32,
    /// Lanes that may spin at once.
    pub(crate) threads: u32,
    /// How long each may.
    pub(crate) microseconds: u32,
}

/// The supervisor's half: who has which word.
pub(crate) struct Shares {
    config: Spin,
    /// `None`: nobody spins.
    file: Option<Arc<File>>,
    /// Words by session.
    slots: BTreeMap<u32, u32>,
}

impl Shares {
    /// As the operator wants it.
    pub(crate) fn new(config: Spin) -> rustix::io::Result<Self> {
        let file = if config.microseconds == 0 { None } else { Some(Arc::new(table()?)) };
        Ok(Self { config, file, slots: BTreeMap::new() })
    }

    /// For a session that begins. `None`: its lanes do not spin.
    pub(crate) fn join(&mut self, session: u32) -> Option<Share> {
        let file = Arc::clone(self.file.as_ref()?);
        let is_free = |slot: &u32| !self.slots.values().any(|taken| taken == slot);
        let slot = (0..u32::try_from(SLOTS).ok()?).find(is_free)?;
        self.slots.insert(session, slot);
        set(file.as_fd(), word_of(slot), 0);
        self.set_used(file.as_fd());
        let Spin { threads, microseconds } = self.config;
        Some(Share { file, terms: Terms { slot, threads, microseconds } })
    }

    /// A session has ended: nothing of it is counted, nor what its worker may have written elsewhere.
    pub(crate) fn forget(&mut self, session: u32) {
        let (Some(slot), Some(file)) = (self.slots.remove(&session), &self.file) else { return };
        set(file.as_fd(), word_of(slot), 0);
        for free in (0..self.used()).filter(|slot| !self.slots.values().any(|taken| taken == slot)) {
            set(file.as_fd(), word_of(free), 0);
        }
        self.set_used(file.as_fd());
    }

    /// Words up to the last one that somebody has.
    fn used(&self) -> u32 {
        self.slots.values().max().map_or(0, |slot| slot.saturating_add(1))
    }

    fn set_used(&self, file: BorrowedFd<'_>) {
        set(file, 0, self.used().into());
    }
}

/// Where a session's word is.
fn word_of(slot: u32) -> u64 {
    u64::from(slot).saturating_add(1).saturating_mul(size_of::<Word>() as u64)
}

/// Written, not mapped: the supervisor shares no memory with workers.
fn set(file: BorrowedFd<'_>, at: u64, value: u64) {
    if let Err(error) = rustix::io::pwrite(file, &value.to_ne_bytes(), at) {
        log::warn!("spinning lanes are not counted right: {error}");
    }
}

/// A file that nobody can make shorter, and so end those who look at it.
fn table() -> rustix::io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("spinning-lanes", flags)?;
    // With its pages: later there may be none.
    let written = rustix::io::pwrite(&file, &[0; size_of::<Table>()], 0)?;
    if written < size_of::<Table>() {
        return Err(Errno::NOSPC);
    }
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file.into())
}

/// The worker's half: how its session's lanes spin.
pub(crate) struct Spinning {
    /// `None`: they do not.
    table: Option<Mapped>,
    terms: Terms,
}

/// A [`Table`] that other processes change.
struct Mapped(NonNull<Table>);

// SAFETY: the value owns its mapping, which holds nothing but atomics.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn new(file: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let length = size_of::<Table>();
        // SAFETY: the kernel chooses an unused range.
        let base =
            unsafe { rustix::mm::mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, file, 0) }?;
        NonNull::new(base.cast()).map(Self).ok_or(Errno::NOMEM)
    }

    fn get(&self) -> &Table {
        // SAFETY: mapped as long as `self`, page-aligned, of a file of this length that nobody can make shorter; atomics
        // take every value, and whoever changes them, in this process or another one, does so as atomics or in the kernel.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned, and no reference outlives its owner.
        if let Err(error) = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), size_of::<Table>()) } {
            log::error!("the count of spinning lanes cannot be unmapped: {error}");
        }
    }
}

impl Spinning {
    /// Lanes sleep at once.
    pub(crate) fn never() -> Self {
        Self { table: None, terms: Terms { slot: 0, threads: 0, microseconds: 0 } }
    }

    /// Lanes spin on these terms.
    pub(crate) fn new(file: &OwnedFd, terms: Terms) -> rustix::io::Result<Self> {
        Ok(Self { table: Some(Mapped::new(file.as_fd())?), terms })
    }

    /// For a lane, which adapts it.
    pub(crate) fn patience(&self) -> Patience {
        Patience::new(Duration::from_micros(self.terms.microseconds.into()))
    }

    /// For a lane.
    pub(crate) fn place(&self, lane: u32) -> Place<'_> {
        let words = self.table.as_ref().and_then(|table| {
            let table = table.get();
            Some((table, table.slots.get(usize::try_from(self.terms.slot).ok()?)?))
        });
        Place {
            words,
            threads: self.terms.threads,
            bit: 1_u64.checked_shl(lane).unwrap_or(0),
            is_taken: false,
        }
    }
}

/// A lane's place among those that spin, from the moment it begins to spin until it sleeps: what it executes in between
/// changes nothing. It is left when the value is dropped.
pub(crate) struct Place<'a> {
    /// All words, and the session's own.
    words: Option<(&'a Table, &'a Word)>,
    threads: u32,
    bit: u64,
    is_taken: bool,
}

impl Place<'_> {
    /// Whether the lane may spin.
    pub(crate) fn take(&mut self) -> bool {
        if self.is_taken {
            return true;
        }
        let Some((table, own)) = self.words else { return false };
        // The last one of those that come at the same moment sees all others, so there are never too many.
        own.0.fetch_or(self.bit, Ordering::SeqCst);
        let used = usize::try_from(table.used.0.load(Ordering::Relaxed)).unwrap_or(SLOTS);
        let words = table.slots.iter().take(used);
        let spinning: u32 = words.map(|word| word.0.load(Ordering::SeqCst).count_ones()).sum();
        self.is_taken = true;
        if spinning > self.threads {
            self.leave();
        }
        self.is_taken
    }

    /// The lane does not spin. `true`: it did.
    pub(crate) fn leave(&mut self) -> bool {
        let was_taken = std::mem::take(&mut self.is_taken);
        if was_taken && let Some((_, own)) = self.words {
            own.0.fetch_and(!self.bit, Ordering::Release);
        }
        was_taken
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// How long a lane looks at its empty ring: the whole time that it may, as long as requests come within it; half of what it
/// was each time that none did, so that one that is seldom needed soon sleeps at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    most: Duration,
    now: Duration,
}

impl Patience {
    fn new(most: Duration) -> Self {
        Self { most, now: most }
    }

    /// Whether the lane may never look longer.
    pub(crate) fn is_none(&self) -> bool {
        self.most.is_zero()
    }

    /// How long it looks.
    pub(crate) fn time(&self) -> Duration {
        self.now
    }

    /// A request came while it looked.
    pub(crate) fn met(&mut self) {
        self.now = self.most;
    }

    /// It has slept for a time, before which it had looked or not, and a request has come or not.
    pub(crate) fn slept(&mut self, time: Duration, has_looked: bool, has_come: bool) {
        let before = if has_looked { self.now } else { Duration::ZERO };
        let within = has_come && time.saturating_add(before) < self.most;
        self.now = if within { self.most } else { self.now / 2 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(threads: u32) -> Shares {
        Shares::new(Spin { microseconds: 50, threads }).unwrap()
    }

    fn worker(share: &Share) -> Spinning {
        Spinning::new(&share.file.as_fd().try_clone_to_owned().unwrap(), share.terms).unwrap()
    }

    #[test]
    fn with_one_place_one_lane_of_two_sessions_spins() {
        let mut shares = shares(1);
        let sessions = [7, 9].map(|session| worker(&shares.join(session).unwrap()));
        let [mut first, mut second] = [sessions[0].place(0), sessions[1].place(0)];
        assert!(first.take());
        assert!(!second.take());
        assert!(!sessions[0].place(63).take(), "nor does another lane of the same session");
        assert!(first.take(), "it has its place still");
        first.leave();
        assert!(second.take());
        assert!(!first.take());
        drop(second);
        assert!(first.take());
    }

    #[test]
    fn there_are_never_more_than_may() {
        const THREADS: u64 = 2;
        let mut shares = shares(2);
        let sessions: Vec<Spinning> = (1..=4).map(|session| worker(&shares.join(session).unwrap())).collect();
        let (spinning, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for session in &sessions {
                scope.spawn(|| {
                    let mut place = session.place(3);
                    for _ in 0..20_000 {
                        if place.take() {
                            assert!(spinning.fetch_add(1, Ordering::SeqCst) < THREADS);
                            taken.fetch_add(1, Ordering::Relaxed);
                            spinning.fetch_sub(1, Ordering::SeqCst);
                            place.leave();
                        }
                    }
                });
            }
        });
        assert!(taken.into_inner() > 0);
        assert!(sessions[0].place(0).take(), "all have left");
    }

    #[test]
    fn a_session_that_has_ended_leaves_nothing_behind() {
        let mut shares = shares(1);
        let lost = worker(&shares.join(1).unwrap());
        let other = worker(&shares.join(2).unwrap());
        let third = worker(&shares.join(3).unwrap());
        // Killed while it spins, after it has written what is not its own.
        let mut place = lost.place(0);
        assert!(place.take());
        std::mem::forget(place);
        lost.table.as_ref().unwrap().get().slots[400].0.store(u64::MAX, Ordering::Relaxed);
        assert!(!other.place(0).take());
        shares.forget(1);
        assert!(other.place(0).take());

        lost.table.as_ref().unwrap().get().slots[0].0.store(u64::MAX, Ordering::Relaxed);
        assert!(!other.place(0).take(), "a word that nobody has");
        drop(third);
        shares.forget(3);
        assert!(other.place(0).take());
        shares.forget(3);
    }

    #[test]
    fn words_are_used_again_and_no_two_sessions_have_one() {
        let mut shares = shares(1);
        let slots: Vec<u32> = (1..=3).map(|session| shares.join(session).unwrap().terms.slot).collect();
        assert_eq!(slots, [0, 1, 2]);
        shares.forget(2);
        assert_eq!(shares.join(4).unwrap().terms.slot, 1);
        assert_eq!(shares.used(), 3);
        shares.forget(3);
        assert_eq!(shares.used(), 2);
        for session in 0..u32::try_from(SLOTS).unwrap() - 2 {
            assert!(shares.join(100 + session).is_some());
        }
        assert!(shares.join(99).is_none(), "there is a word for each session that there can be");
    }

    #[test]
    fn a_count_that_lies_keeps_lanes_from_spinning_and_does_no_more() {
        let mut shares = shares(64);
        let worker = worker(&shares.join(1).unwrap());
        let table = worker.table.as_ref().unwrap().get();
        table.used.0.store(u64::MAX, Ordering::Relaxed);
        assert!(worker.place(0).take());
        table.slots[511].0.store(u64::MAX, Ordering::Relaxed);
        assert!(!worker.place(0).take());
        let outside = Spinning::new(
            &shares.join(2).unwrap().file.as_fd().try_clone_to_owned().unwrap(),
            Terms { slot: 512, ..worker.terms },
        );
        assert!(!outside.unwrap().place(0).take());
    }

    #[test]
    fn the_file_cannot_be_made_shorter() {
        let share = shares(1).join(1).unwrap();
        assert_eq!(rustix::fs::ftruncate(&*share.file, 1), Err(Errno::PERM));
    }

    #[test]
    fn the_power_saving_setting_never_spins() {
        let mut shares = Shares::new(Spin { microseconds: 0, threads: 4 }).unwrap();
        assert!(shares.join(1).is_none());
        shares.forget(1);
        let never = Spinning::never();
        assert!(never.patience().is_none() && never.patience().time().is_zero());
        assert!(!never.place(0).take());
    }

    #[test]
    fn a_lane_that_waits_in_vain_looks_ever_shorter() {
        let most = Duration::from_micros(50);
        let mut patience = Patience::new(most);
        patience.slept(most, true, true);
        assert_eq!(patience.time(), most / 2, "it came late");
        patience.slept(most / 10, true, false);
        assert_eq!(patience.time(), most / 4, "nothing came: somebody else was meant");
        patience.met();
        assert_eq!(patience.time(), most);
        for _ in 0..20 {
            patience.slept(most / 10, true, true);
            patience.slept(2 * most, true, true);
        }
        patience.slept(2 * most, true, true);
        assert!(patience.time() < most);
        for _ in 0..40 {
            patience.slept(2 * most, true, true);
        }
        assert!(patience.time().is_zero() && !patience.is_none());
        patience.slept(most - Duration::from_nanos(1), false, true);
        assert_eq!(patience.time(), most, "looking would have met it");
        patience.slept(most / 10, false, true);
        assert_eq!(patience.time(), most, "there was no place for it");
    }
}

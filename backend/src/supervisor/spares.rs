//! Warm workers: processes that have loaded and initialised the CUDA driver before anybody asks for a session.
//!
//! A session takes one if there is one for its options, and what it would have waited for has been done. A worker serves one
//! session and no second one, so each that is taken is replaced a moment later. They hold nothing of any guest. They end
//! when the devices change: a driver that has been initialised keeps to the GPUs that it found.
//!
//! Nothing here is needed: a spare that dies, or cannot be started, is a session that starts as slowly as without.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Signal, WaitId, WaitIdOptions},
};
use virtio_spec::{control::SessionOptions, device::State};

use crate::{
    packet,
    spawner::{self, Kind},
    supervisor::{
        Supervisor,
        budget::Budget,
        poller::{Interest, Source},
    },
};

/// The pause before a spare is replaced: the session that has taken it has the processors and the driver first.
const PAUSE: Duration = Duration::from_millis(250);

/// Spares, by the numbers of the sessions that they will serve.
#[derive(Default)]
pub(crate) struct Spares {
    idle: BTreeMap<u32, Spare>,
    /// When [`Supervisor::settle_spares`] is due.
    due: Option<Instant>,
    /// Spares that ended by themselves.
    failures: Budget,
}

/// A worker without a session.
struct Spare {
    link: OwnedFd,
    pidfd: Option<OwnedFd>,
    /// It has been killed, and is gone when it has been reaped.
    dismissed: bool,
}

/// A worker for a session that is being made.
pub(crate) struct Taken {
    /// The session's number.
    pub(crate) number: u32,
    /// The supervisor's end of its socket.
    pub(crate) link: OwnedFd,
    /// Watched already.
    pub(crate) pidfd: OwnedFd,
}

impl Spares {
    /// When [`Supervisor::settle_spares`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    fn ready(&self) -> usize {
        self.idle.values().filter(|spare| !spare.dismissed).count()
    }
}

/// Whether a process has not ended, as far as can be known.
fn is_running(pidfd: &OwnedFd) -> bool {
    let mut ends = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(rustix::event::poll(&mut ends, Some(&Timespec::default())), Ok(0))
}

impl Supervisor {
    /// A worker for a session with these options, if there is a warm one.
    pub(crate) fn take_spare(&mut self, options: &SessionOptions) -> Option<Taken> {
        // Others are for processes whose driver reads another environment.
        if options.flags != 0 || options.max_connections != 0 {
            return None;
        }
        let is_fit = |spare: &Spare| !spare.dismissed && spare.pidfd.as_ref().is_some_and(is_running);
        let number = self.spares.idle.iter().find(|(_, spare)| is_fit(spare)).map(|(number, _)| *number)?;
        let Spare { link, pidfd, .. } = self.spares.idle.remove(&number)?;
        self.spares.due = Instant::now().checked_add(PAUSE);
        Some(Taken { number, link, pidfd: pidfd? })
    }

    /// A worker whose session could not be made is of no use: it may have a part of what the session would have had.
    pub(crate) fn give_back_spare(&mut self, taken: Taken) {
        let Taken { number, link, pidfd } = taken;
        let _sent = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        self.spares.idle.insert(number, Spare { link, pidfd: Some(pidfd), dismissed: true });
    }

    /// Starts what is missing.
    pub(crate) fn settle_spares(&mut self, now: Instant) {
        if self.spares.due.is_none_or(|due| now < due) {
            return;
        }
        self.spares.due = None;
        let wanted = usize::try_from(self.config.warm.workers).unwrap_or(usize::MAX);
        while self.information.state == State::Ready && self.spares.ready() < wanted {
            if !self.start_spare() {
                self.spares.due = now.checked_add(PAUSE);
                return;
            }
        }
    }

    fn start_spare(&mut self) -> bool {
        let (Some(spawner), Some(number)) = (self.processes.spawner(), self.last_session.checked_add(1))
        else {
            return false;
        };
        let Ok((link, worker)) = packet::pair() else { return false };
        let request = spawner::Request {
            token: number,
            kind: Kind::WarmWorker as u32,
            driver: self.information.driver,
            flags: 0,
            max_connections: 0,
        };
        if spawner.request(&request, worker.as_fd()).is_err() {
            return false;
        }
        self.last_session = number;
        self.spares.idle.insert(number, Spare { link, pidfd: None, dismissed: false });
        true
    }

    /// A process that the spawner has started, if it is one of these; otherwise it is given back.
    pub(crate) fn spare_runs(&mut self, number: u32, pidfd: OwnedFd) -> Option<OwnedFd> {
        let Some(spare) = self.spares.idle.get_mut(&number) else { return Some(pidfd) };
        let watched = self.poller.add(&pidfd, Source::Worker(number), Interest::Read);
        if watched.is_err() || spare.dismissed {
            // Without a watch it would never be reaped; a child that is not costs an entry in the kernel's table.
            let _sent = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            spare.dismissed = true;
        }
        spare.pidfd = Some(pidfd);
        None
    }

    /// Whether a number was that of one of these, which has not come to be.
    pub(crate) fn spare_does_not_run(&mut self, number: u32) -> bool {
        let known = self.spares.idle.remove(&number).is_some();
        if known {
            self.replace_failed_spare();
        }
        known
    }

    /// Whether a number is that of one of these, which may have ended.
    pub(crate) fn spare_has_ended(&mut self, number: u32) -> bool {
        let Some(spare) = self.spares.idle.get(&number) else { return false };
        let Some(pidfd) = &spare.pidfd else { return true };
        let reaped = rustix::process::waitid(
            WaitId::PidFd(pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
        if matches!(reaped, Ok(None)) {
            return true;
        }
        self.poller.remove(pidfd);
        if let Some(Spare { dismissed: false, .. }) = self.spares.idle.remove(&number) {
            log::warn!("a warm worker has ended: {reaped:?}");
            self.replace_failed_spare();
        }
        true
    }

    fn replace_failed_spare(&mut self) {
        let now = Instant::now();
        self.spares.due = match self.spares.failures.take(now) {
            Ok(()) => now.checked_add(PAUSE),
            Err(later) => Some(later),
        };
    }

    /// What the spawner has been asked for and will never answer.
    pub(crate) fn forget_spares_without_process(&mut self) {
        self.spares.idle.retain(|_, spare| spare.pidfd.is_some());
        self.spares.due = Instant::now().checked_add(PAUSE);
    }

    /// The devices have changed: spares know those of before.
    pub(crate) fn renew_spares(&mut self) {
        for spare in self.spares.idle.values_mut().filter(|spare| !spare.dismissed) {
            spare.dismissed = true;
            if let Some(pidfd) = &spare.pidfd {
                // It may have ended by itself meanwhile.
                let _sent = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
            }
        }
        self.spares.due = Some(Instant::now());
    }
}

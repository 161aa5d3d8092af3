//! Warm workers: processes that have loaded and initialised the CUDA driver before anybody asks for a session.
//!
//! A session takes one if there is one for its options, and what it would have waited for has been done. A worker serves one
//! session and no second one, so each that is taken is replaced a moment later. They hold nothing of any guest. They end
//! when the devices change: a driver that has been initialised keeps to the GPUs that it found.
//!
//! There are two kinds. All have initialised the driver; some also have the primary context of a GPU and a warm compiler,
//! and take memory of that GPU. Which GPU a process will use is not known before it uses one, so it says which one it sees
//! first.
//!
//! Nothing here is needed: a spare that dies, or cannot be started, is a session that starts as slowly as without.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::RecvFlags,
    process::{Signal, WaitId, WaitIdOptions},
};
use virtio_spec::{
    control::{SessionOptions, Status},
    device::State,
};
use zerocopy::FromBytes as _;

use crate::{
    link::{self, Reply},
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
    /// The place of the device whose primary context it makes.
    context: Option<u32>,
    /// What it has said of itself.
    state: Readiness,
    /// It has been killed, and is gone when it has been reaped.
    dismissed: bool,
}

/// How far a spare is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// It has not said anything yet.
    Starting,
    /// It has done all that it was to do.
    Ready,
    /// It has done what it could: there is no context.
    Partly,
}

/// A worker for a session that is being made.
pub(crate) struct Taken {
    /// The session's number.
    pub(crate) number: u32,
    /// The supervisor's end of its socket.
    pub(crate) link: OwnedFd,
    /// Watched already.
    pub(crate) pidfd: OwnedFd,
    /// It has still to say that it is ready.
    pub(crate) starting: bool,
}

impl Spares {
    /// When [`Supervisor::settle_spares`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Those of a kind, whether they are ready or not.
    fn count(&self, context: Option<u32>) -> usize {
        self.idle.values().filter(|spare| !spare.dismissed && spare.context == context).count()
    }

    /// How many are ready, without and with a context.
    pub(crate) fn ready(&self) -> (usize, usize) {
        let count = |context: bool| {
            let is_one = |spare: &&Spare| {
                !spare.dismissed
                    && spare.state != Readiness::Starting
                    && (spare.context.is_some() && spare.state == Readiness::Ready) == context
            };
            self.idle.values().filter(is_one).count()
        };
        (count(false), count(true))
    }
}

impl Spare {
    /// How much of a session's start it saves, less being more; `None` if it is not for a process that uses this device.
    fn rank(&self, device: u32) -> Option<u32> {
        let is_there = !self.dismissed && self.pidfd.as_ref().is_some_and(is_running);
        match (self.context, self.state) {
            _ if !is_there => None,
            (Some(context), Readiness::Ready) if context == device => Some(0),
            (None, Readiness::Ready) | (Some(_), Readiness::Partly) => Some(1),
            (Some(context), Readiness::Starting) if context == device => Some(2),
            (None, _) => Some(3),
            (Some(_), _) => None,
        }
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
        let ranked = self
            .spares
            .idle
            .iter()
            .filter_map(|(number, spare)| Some((spare.rank(options.device)?, *number)));
        let (_, number) = ranked.min()?;
        let Spare { link, pidfd, state, .. } = self.spares.idle.remove(&number)?;
        self.poller.remove(&link);
        // Not put off by those that are taken after it: there would never be new ones where sessions keep coming.
        self.spares.due = self.spares.due.or_else(|| Instant::now().checked_add(PAUSE));
        Some(Taken { number, link, pidfd: pidfd?, starting: state == Readiness::Starting })
    }

    /// A worker whose session could not be made is of no use: it may have a part of what the session would have had.
    pub(crate) fn give_back_spare(&mut self, taken: Taken) {
        let Taken { number, link, pidfd, .. } = taken;
        let _sent = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        let state = Readiness::Starting;
        self.spares
            .idle
            .insert(number, Spare { link, pidfd: Some(pidfd), context: None, state, dismissed: true });
    }

    /// Starts what is missing.
    pub(crate) fn settle_spares(&mut self, now: Instant) {
        if self.spares.due.is_none_or(|due| now < due) {
            return;
        }
        self.spares.due = None;
        if self.information.state != State::Ready {
            return;
        }
        let warm = self.config.warm;
        // Contexts first: whoever finds none waits longest.
        let devices = (0..self.information.device_count).map(|place| (Some(place), warm.contexts_of(place)));
        for (context, wanted) in devices.chain([(None, warm.workers)]) {
            while self.spares.count(context) < usize::try_from(wanted).unwrap_or(usize::MAX) {
                if !self.start_spare(context) {
                    self.spares.due = now.checked_add(PAUSE);
                    return;
                }
            }
        }
    }

    fn start_spare(&mut self, context: Option<u32>) -> bool {
        let (Some(spawner), Some(number)) = (self.processes.spawner(), self.last_session.checked_add(1))
        else {
            return false;
        };
        let Ok((link, worker)) = packet::pair() else { return false };
        let kind = if context.is_some() { Kind::WarmContext } else { Kind::WarmWorker };
        let request = spawner::Request {
            token: number,
            kind: kind as u32,
            driver: self.information.driver,
            flags: 0,
            max_connections: 0,
            device: context.unwrap_or(0),
        };
        if spawner.request(&request, worker.as_fd()).is_err() {
            return false;
        }
        self.last_session = number;
        if let Err(error) = self.poller.add(&link, Source::Link(number), Interest::Read) {
            // It is of use, but not known to be ready.
            log::warn!("a warm worker cannot be listened to: {error}");
        }
        let state = Readiness::Starting;
        self.spares.idle.insert(number, Spare { link, pidfd: None, context, state, dismissed: false });
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

    /// Whether a number is that of one of these, which says that it is ready, or has closed its end.
    pub(crate) fn spare_has_spoken(&mut self, number: u32) -> bool {
        let Some(spare) = self.spares.idle.get_mut(&number) else { return false };
        let mut buffer = [0; size_of::<Reply>()];
        let received = packet::receive(&spare.link, &mut buffer, 0, RecvFlags::DONTWAIT);
        let reply = match received {
            Err(Errno::AGAIN) => return true,
            Ok(Some(packet)) => Reply::read_from_bytes(buffer.get(..packet.length).unwrap_or_default()).ok(),
            Ok(None) | Err(_) => None,
        };
        match reply {
            Some(Reply { token: link::READY, status }) if spare.state == Readiness::Starting => {
                let done = status == Status::Ok as u32;
                spare.state = if done { Readiness::Ready } else { Readiness::Partly };
            }
            // It has ended, which its pidfd says too, or is out of its mind.
            _ => {
                self.poller.remove(&spare.link);
                spare.state = Readiness::Starting;
                if let Some(pidfd) = &spare.pidfd {
                    let _sent = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
                }
            }
        }
        true
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

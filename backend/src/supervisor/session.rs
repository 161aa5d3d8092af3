//! A session as the supervisor sees it: its worker, what has been asked of it, and the regions it has.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
    process::{Signal, WaitId, WaitIdOptions},
};
use virtio_spec::{control::Status, limits};
use zerocopy::FromBytes as _;

use crate::{
    link::{self, Command, Kind, Piece},
    packet,
    spin::Share,
    supervisor::{
        extents::Backing,
        regions::{Complete, Part, Regions, Unmap},
        sessions::Header,
        ticket::Ticket,
    },
};

/// How long a worker may take to answer. Mapping takes milliseconds; a worker that loads a driver is busy meanwhile.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// How long the spawner may take to start a worker, see [`crate::supervisor::processes`].
const SPAWN_TIME: Duration = crate::supervisor::processes::SPAWN_TIME;

/// How long a worker has to end by itself, or to drain, before it is killed.
pub(crate) const DRAIN_TIME: Duration = Duration::from_millis(limits::DRAIN_MILLISECONDS);

/// Whose a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The VM's, through `controlq`.
    Vm,
    /// A client's of the local socket.
    Client { client: u64, uid: u32 },
}

impl Owner {
    /// Whether both are the VM, or clients of one user: they may know of each other's processes.
    pub(crate) fn shares_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Vm, Self::Vm) => true,
            (Self::Client { uid, .. }, Self::Client { uid: other, .. }) => uid == other,
            _ => false,
        }
    }
}

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The worker runs, or is being started.
    Live,
    /// The worker has been told to pause.
    Pausing,
    /// The worker executes nothing.
    Paused,
    /// The worker has been told to end, or killed; the session is gone when it has been reaped.
    Ending,
}

/// A command that the worker has not answered.
#[derive(Debug)]
enum Asked {
    Start(Ticket),
    Map { region: u32, ticket: Ticket },
    Unmap { region: u32, ticket: Ticket },
    Pause,
}

/// What an answer of the worker means for the supervisor.
#[derive(Debug)]
pub(crate) enum Answered {
    /// A request is to be completed.
    Request(Ticket, Status),
    /// The session has been made.
    Started(Ticket),
    /// The session could not be made; its worker is of no use.
    NotStarted(Ticket, Status),
    /// The worker executes nothing.
    Paused,
}

struct Outgoing {
    bytes: Vec<u8>,
    files: Vec<Arc<File>>,
}

/// A session.
pub(crate) struct Session {
    pub(crate) owner: Owner,
    /// Process ID, as the session's maker gave it.
    pub(crate) process: u32,
    pub(crate) phase: Phase,
    /// When the worker is killed for what it has not done.
    deadline: Option<Instant>,
    link: OwnedFd,
    /// Nothing more comes from the worker.
    pub(crate) link_ended: bool,
    outbox: VecDeque<Outgoing>,
    pidfd: Option<OwnedFd>,
    killed: bool,
    /// Whoever owns the session has asked for its end, or is gone; the end is no news.
    unwanted: bool,
    kick: Arc<File>,
    call: Option<Arc<File>>,
    /// Where the worker asks for tokens, and its end until it has been started.
    broker: Option<OwnedFd>,
    broker_of_worker: Option<Arc<File>>,
    /// How its lanes spin, until it has been started.
    spin: Option<Share>,
    asked: HashMap<u32, Asked>,
    last_token: u32,
    /// The worker was a warm one that was not ready, and has still to say that it is.
    starting: bool,
    regions: Regions,
    /// Where its memory begins.
    pub(crate) header: Option<Header>,
    /// Who waits for the worker's end.
    pub(crate) enders: Vec<Ticket>,
}

impl Session {
    /// A session whose worker's end of `link` has been handed to the spawner.
    pub(crate) fn new(
        owner: Owner,
        process: u32,
        link: OwnedFd,
        kick: Arc<File>,
        call: Option<Arc<File>>,
    ) -> Self {
        Self {
            owner,
            process,
            phase: Phase::Live,
            deadline: None,
            link,
            link_ended: false,
            outbox: VecDeque::new(),
            pidfd: None,
            killed: false,
            unwanted: false,
            kick,
            call,
            broker: None,
            broker_of_worker: None,
            spin: None,
            asked: HashMap::new(),
            last_token: 0,
            starting: false,
            regions: Regions::default(),
            header: None,
            enders: Vec::new(),
        }
    }

    /// The supervisor's end of the link.
    pub(crate) fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    /// The link of a session that is not made.
    pub(crate) fn into_link(self) -> OwnedFd {
        self.link
    }

    /// The eventfd that the worker writes, for sessions of the VM.
    pub(crate) fn call(&self) -> Option<BorrowedFd<'_>> {
        self.call.as_deref().map(File::as_fd)
    }

    /// Lets the worker ask for tokens; before it is started.
    pub(crate) fn set_broker(&mut self, own: OwnedFd, of_worker: OwnedFd) {
        self.broker = Some(own);
        self.broker_of_worker = Some(Arc::new(File::from(of_worker)));
    }

    /// How the worker's lanes spin; before it is started. Without this they do not.
    pub(crate) fn set_spin(&mut self, share: Option<Share>) {
        self.spin = share;
    }

    /// Whether the worker has still to say that it is ready, as warm ones do.
    pub(crate) fn set_starting(&mut self, starting: bool) {
        self.starting = starting;
    }

    /// Where the worker asks for tokens.
    pub(crate) fn broker(&self) -> Option<BorrowedFd<'_>> {
        self.broker.as_ref().map(OwnedFd::as_fd)
    }

    /// Answers no more questions.
    pub(crate) fn close_broker(&mut self) {
        self.broker = None;
    }

    /// The worker's pidfd, once it runs.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(OwnedFd::as_fd)
    }

    /// Guest memory that the session keeps pinned, in bytes.
    pub(crate) fn pinned(&self) -> u64 {
        self.regions.pinned()
    }

    /// When [`Session::expire`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the worker still has something to answer.
    pub(crate) fn is_busy(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether the request for the session has not been answered.
    pub(crate) fn is_starting(&self) -> bool {
        self.asked.values().any(|asked| matches!(asked, Asked::Start(_)))
    }

    /// The worker runs.
    pub(crate) fn started(&mut self, pidfd: OwnedFd) {
        self.pidfd = Some(pidfd);
        if self.killed {
            self.deadline = None;
            self.signal();
        } else if self.phase == Phase::Live {
            self.deadline = self.is_busy().then(|| after(ANSWER_TIME));
        } else if self.phase == Phase::Ending {
            self.deadline = Some(after(DRAIN_TIME));
        }
    }

    /// Has the worker map region 0.
    pub(crate) fn start(&mut self, length: u64, extents: u32, backing: Backing, ticket: Ticket) {
        let mut files = vec![Arc::clone(&self.kick)];
        files.extend(self.call.clone());
        let mut flags = if self.call.is_none() { link::flags::FUTEX } else { 0 };
        if let Some(broker) = self.broker_of_worker.take() {
            files.push(broker);
            flags |= link::flags::BROKER;
        }
        let mut command = Command { kind: Kind::Start as u32, length, ..Command::default() };
        if let Some(Share { file, terms }) = self.spin.take() {
            files.push(file);
            flags |= link::flags::SPIN;
            command.spin_slot = terms.slot;
            command.spin_threads = terms.threads;
            command.spin_microseconds = terms.microseconds;
        }
        files.extend(backing.files);
        self.regions.count_first(length, extents);
        command.token = self.ask(Asked::Start(ticket));
        command.flags = flags;
        self.send(command, &backing.pieces, files);
    }

    /// Adds a part of a region; has the worker map it when it is complete. `Err` is the request's status at once, and
    /// `Ok(Some(_))` gives the ticket of a request that is already done.
    pub(crate) fn map(
        &mut self,
        part: &Part,
        add: impl FnOnce(&mut Backing) -> Result<u64, Status>,
        ticket: Ticket,
    ) -> Result<Option<Ticket>, (Ticket, Status)> {
        match self.regions.collect(part, add) {
            Err(status) => Err((ticket, status)),
            Ok(false) => Ok(Some(ticket)),
            Ok(true) => {
                self.map_complete(part.region, ticket);
                Ok(None)
            }
        }
    }

    /// Forgets the parts of a region that is not complete.
    pub(crate) fn forget_parts(&mut self, region: u32) {
        self.regions.forget_parts(region);
    }

    fn map_complete(&mut self, number: u32, ticket: Ticket) {
        let token = self.ask(Asked::Map { region: number, ticket });
        let Some(Complete { address, length, read_only, backing }) = self.regions.complete(number) else {
            return;
        };
        let flags = if read_only { link::flags::READ_ONLY } else { 0 };
        let command = Command {
            kind: Kind::Map as u32,
            token,
            region: number,
            flags,
            address,
            length,
            ..Command::default()
        };
        // All files go with the first packet.
        let mut files = backing.files;
        let mut chunks = backing.pieces.chunks(link::MAX_PIECES).peekable();
        while let Some(chunk) = chunks.next() {
            let more = if chunks.peek().is_some() { link::flags::MORE } else { 0 };
            self.send(Command { flags: flags | more, ..command }, chunk, std::mem::take(&mut files));
        }
    }

    /// Has the worker unmap a region. `Ok(Some(_))`: there was nothing to unmap yet, the request is done.
    pub(crate) fn unmap(&mut self, number: u32, ticket: Ticket) -> Result<Option<Ticket>, (Ticket, Status)> {
        match self.regions.unmap(number) {
            Err(status) => Err((ticket, status)),
            Ok(Unmap::Nothing) => Ok(Some(ticket)),
            Ok(Unmap::ByWorker) => {
                let token = self.ask(Asked::Unmap { region: number, ticket });
                let command =
                    Command { kind: Kind::Unmap as u32, token, region: number, ..Command::default() };
                self.send(command, &[], Vec::new());
                Ok(None)
            }
        }
    }

    /// Wakes the worker's lanes.
    pub(crate) fn kick(&self) {
        // EAGAIN: the counter is full, so the worker has a kick to read already.
        if let Err(error) = rustix::io::write(&*self.kick, &1_u64.to_ne_bytes()) {
            log::debug!("kick: {error}");
        }
    }

    /// Has the worker execute nothing any more.
    pub(crate) fn pause(&mut self) {
        if self.phase == Phase::Live {
            self.phase = Phase::Pausing;
            let token = self.ask(Asked::Pause);
            self.deadline = Some(after(DRAIN_TIME));
            self.send(Command { kind: Kind::Pause as u32, token, ..Command::default() }, &[], Vec::new());
        }
    }

    /// Has a paused worker go on.
    pub(crate) fn resume(&mut self) {
        if self.phase == Phase::Paused {
            self.phase = Phase::Live;
            self.send(Command { kind: Kind::Resume as u32, ..Command::default() }, &[], Vec::new());
        }
    }

    /// Whether the session's owner is to be told that it has ended.
    pub(crate) fn end_is_news(&self) -> bool {
        !self.unwanted
    }

    /// Has the worker end, because the session's owner wants so; it is killed if it takes long.
    pub(crate) fn end(&mut self) {
        self.unwanted = true;
        if self.phase != Phase::Ending {
            self.phase = Phase::Ending;
            let time = if self.pidfd.is_some() { DRAIN_TIME } else { SPAWN_TIME };
            self.deadline = Some(after(time));
            self.send(Command { kind: Kind::Stop as u32, ..Command::default() }, &[], Vec::new());
        }
    }

    /// Ends the worker whatever it is doing. One that does not run yet is killed when it does, if it comes in time.
    pub(crate) fn kill(&mut self) {
        self.phase = Phase::Ending;
        self.deadline = match &self.pidfd {
            Some(_) => None,
            None => self.deadline.or_else(|| Some(after(SPAWN_TIME))),
        };
        self.killed = true;
        self.outbox.clear();
        self.signal();
    }

    fn signal(&self) {
        if let Some(pidfd) = &self.pidfd
            && let Err(error) = rustix::process::pidfd_send_signal(pidfd, Signal::KILL)
            && error != Errno::SRCH
        {
            log::error!("a worker cannot be killed: {error}");
        }
    }

    /// Kills the worker if it has not done in time what it was told.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let due = self.deadline.is_some_and(|deadline| deadline <= now);
        if due {
            self.kill();
        }
        due
    }

    fn ask(&mut self, asked: Asked) -> u32 {
        self.last_token = self.last_token.wrapping_add(1).max(link::READY + 1);
        self.asked.insert(self.last_token, asked);
        if self.deadline.is_none() {
            let time = if self.pidfd.is_some() { ANSWER_TIME } else { SPAWN_TIME };
            self.deadline = Some(after(time));
        }
        self.last_token
    }

    fn send(&mut self, command: Command, pieces: &[Piece], files: Vec<Arc<File>>) {
        if self.killed {
            return;
        }
        let piece_count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
        let bytes = link::encode(&Command { piece_count, ..command }, pieces);
        self.outbox.push_back(Outgoing { bytes, files });
        self.flush();
    }

    /// Sends what the worker takes. `true`: there is more, when it takes more.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(next) = self.outbox.front() {
            let files: Vec<BorrowedFd<'_>> = next.files.iter().map(|file| file.as_fd()).collect();
            match packet::send(&self.link, &next.bytes, &files, SendFlags::DONTWAIT) {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(Errno::AGAIN) => return true,
                // The worker is gone; its pidfd says so too.
                Err(Errno::PIPE | Errno::CONNRESET) => self.outbox.clear(),
                Err(error) => {
                    log::error!("a worker cannot be spoken to: {error}");
                    self.kill();
                }
            }
        }
        false
    }

    /// Whether packets wait for the worker to take them.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The worker's next answer. A worker that says anything else, or closes its end, is killed.
    pub(crate) fn receive(&mut self) -> Option<Answered> {
        let mut buffer = [0; size_of::<link::Reply>()];
        let packet = match packet::receive(&self.link, &mut buffer, 0, RecvFlags::DONTWAIT) {
            Ok(Some(packet)) => packet,
            Err(Errno::AGAIN) => return None,
            // Most often the worker has ended, which is dealt with when its pidfd says so.
            Ok(None) | Err(_) => {
                self.link_ended = true;
                self.kill();
                return None;
            }
        };
        let reply = link::Reply::read_from_bytes(buffer.get(..packet.length).unwrap_or_default()).ok();
        if self.starting && reply.is_some_and(|reply| reply.token == link::READY) {
            self.starting = false;
            return self.receive();
        }
        let answer = reply
            .filter(|_| !packet.truncated)
            .and_then(|reply| Some((self.asked.remove(&reply.token)?, Status::from_u32(reply.status)?)));
        let Some((asked, status)) = answer else {
            log::debug!("a worker has sent what is no answer, and is killed");
            self.kill();
            return None;
        };
        if self.asked.is_empty() && matches!(self.phase, Phase::Live | Phase::Pausing | Phase::Paused) {
            self.deadline = None;
        }
        Some(self.answered(asked, status))
    }

    fn answered(&mut self, asked: Asked, status: Status) -> Answered {
        match asked {
            Asked::Start(ticket) if status == Status::Ok => Answered::Started(ticket),
            Asked::Start(ticket) => Answered::NotStarted(ticket, status),
            Asked::Map { region, ticket } => {
                self.regions.mapped(region, status == Status::Ok);
                Answered::Request(ticket, status)
            }
            Asked::Unmap { region, ticket } => {
                self.regions.unmapped(region, status == Status::Ok);
                Answered::Request(ticket, status)
            }
            Asked::Pause => {
                if self.phase == Phase::Pausing {
                    self.phase = Phase::Paused;
                }
                Answered::Paused
            }
        }
    }

    /// Reaps the worker. `None`: it has not ended.
    pub(crate) fn reap(&self) -> Option<String> {
        let pidfd = self.pidfd.as_ref()?;
        match rustix::process::waitid(
            WaitId::PidFd(pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        ) {
            Ok(None) => None,
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (_, Some(signal)) => format!("signal {signal}"),
                _ => "unknown cause".to_owned(),
            }),
            Err(error) => Some(format!("unknown cause ({error})")),
        }
    }

    /// Everything that waits for the worker, with what it is told now that there is none; `unmade` is what the request
    /// for the session is told.
    pub(crate) fn into_tickets(self, unmade: Status) -> Vec<(Ticket, Status)> {
        let asked = self.asked.into_values().filter_map(|asked| match asked {
            Asked::Start(ticket) => Some((ticket, unmade)),
            Asked::Map { ticket, .. } | Asked::Unmap { ticket, .. } => Some((ticket, Status::NoSession)),
            Asked::Pause => None,
        });
        asked.chain(self.enders.into_iter().map(|ticket| (ticket, Status::Ok))).collect()
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

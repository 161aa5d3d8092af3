//! Sessions: what is done about requests, whichever transport they came by.

use std::{
    fs::File,
    mem::offset_of,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use rustix::{event::EventfdFlags, io::Errno};
use virtio_spec::{
    control::{EventType, SessionCreateReply, SessionOptions, Status},
    device::State,
    limits,
    session::{SessionHeader, WorkerState},
};

use crate::{
    packet,
    spawner::{self, Kind},
    supervisor::{
        Supervisor,
        extents::Backing,
        poller::{Interest, Source},
        request::Reply,
        session::{Answered, Owner, Session},
        spares::Taken,
        ticket::Ticket,
    },
};

/// Answers of one worker that are taken at once, before it is the others' turn.
const ANSWERS_AT_ONCE: usize = 16;

/// What a session is made of.
pub(crate) struct Material {
    pub(crate) owner: Owner,
    pub(crate) options: SessionOptions,
    /// Bytes of region 0.
    pub(crate) length: u64,
    /// Its extents, as the driver counts them.
    pub(crate) extents: u32,
    pub(crate) backing: Backing,
    /// The client's own kick eventfd; sessions of the VM are kicked by the supervisor.
    pub(crate) kick: Option<File>,
    /// Where region 0 begins, to say in it that the session has died.
    pub(crate) header: Header,
}

/// Where a session's header is.
#[derive(Debug)]
pub(crate) enum Header {
    /// At this address of the VM's memory.
    Guest(u64),
    /// At the beginning of this file.
    File(Arc<File>),
}

/// Why no session is made.
#[derive(Debug)]
enum Refusal {
    /// The request cannot be granted.
    Status(Status),
    /// The host has no descriptors, memory or processes left.
    Host(Errno),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::Host(error)
    }
}

fn eventfd() -> rustix::io::Result<File> {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(File::from)
}

/// Changes a word of a client's memory.
fn change_in_file(file: &File, at: u64, change: impl Fn(u32) -> Option<u32>) -> bool {
    let mut word = [0; 4];
    if rustix::io::pread(file, &mut word, at) != Ok(word.len()) {
        return false;
    }
    let new = change(u32::from_le_bytes(word));
    new.is_none_or(|new| rustix::io::pwrite(file, &new.to_le_bytes(), at).is_ok())
}

impl Supervisor {
    /// Answers a request.
    pub(crate) fn complete(&mut self, ticket: Ticket, reply: impl Into<Reply>) {
        let reply = reply.into();
        match ticket {
            Ticket::Queue { connection, taken } => self.complete_chain(connection, &taken, &reply),
            Ticket::Client(client) => self.complete_client(client, &reply),
        }
    }

    /// Starts a worker for a new session; the request is answered when it has mapped its memory.
    pub(crate) fn create(&mut self, material: Material, ticket: Ticket) -> Option<u32> {
        match self.try_create(&material) {
            Err(Refusal::Status(status)) => {
                self.complete(ticket, status);
                None
            }
            Err(Refusal::Host(error)) => {
                self.throttle.log(format_args!("no session can be made: {error}"));
                self.complete(ticket, Status::NoMemory);
                None
            }
            Ok((number, mut session, warm)) => {
                let Material { owner, length, extents, backing, options, header, .. } = material;
                session.header = Some(header);
                session.set_spin(self.spinning.join(number));
                let worker = if warm.is_some() { "warm" } else { "cold" };
                log::debug!("session {number}: made for {owner:?}, process {}, {worker}", options.process);
                session.start(length, extents, backing, ticket);
                if let Some(pidfd) = warm {
                    session.started(pidfd);
                }
                self.sessions.insert(number, session);
                self.watch_outbox(number);
                Some(number)
            }
        }
    }

    /// The session, its number, and its worker's pidfd if that was a warm one.
    fn try_create(&mut self, material: &Material) -> Result<(u32, Session, Option<OwnedFd>), Refusal> {
        match self.information.state {
            State::Starting => return Err(Status::Again.into()),
            State::Ready => {}
            State::NoGpu | State::Failed => return Err(Status::Failed.into()),
        }
        self.check_count(material.owner)?;
        let kick = match &material.kick {
            Some(kick) => kick.try_clone().map_err(|_| Errno::MFILE)?,
            None => eventfd()?,
        };
        let call = if material.kick.is_some() { None } else { Some(Arc::new(eventfd()?)) };
        let (broker, broker_of_worker) = packet::pair()?;
        if let Some(Taken { number, link, pidfd, starting }) = self.take_spare(&material.options) {
            let mut session =
                Session::new(material.owner, material.options.process, link, Arc::new(kick), call);
            session.set_starting(starting);
            session.set_broker(broker, broker_of_worker);
            if let Err(error) = self.watch(number, &session) {
                self.unwatch(&session);
                self.give_back_spare(Taken { number, link: session.into_link(), pidfd, starting });
                return Err(error);
            }
            return Ok((number, session, Some(pidfd)));
        }
        // Numbers are never used again; after four thousand million sessions the device has to be restarted.
        let number = self.last_session.checked_add(1).ok_or(Status::Limit)?;
        let (link, worker) = packet::pair()?;
        let mut session = Session::new(material.owner, material.options.process, link, Arc::new(kick), call);
        session.set_broker(broker, broker_of_worker);
        let spawned =
            self.watch(number, &session).and_then(|()| self.spawn(number, &worker, &material.options));
        if let Err(error) = spawned {
            self.unwatch(&session);
            return Err(error);
        }
        self.last_session = number;
        Ok((number, session, None))
    }

    fn check_count(&self, owner: Owner) -> Result<(), Status> {
        let of_vm = |owner: Owner| matches!(owner, Owner::Vm);
        let most = if of_vm(owner) { self.config.limits.max_sessions } else { limits::MAX_SESSIONS };
        let count = self.sessions.values().filter(|session| of_vm(session.owner) == of_vm(owner)).count();
        if count < usize::try_from(most).unwrap_or(usize::MAX) { Ok(()) } else { Err(Status::Limit) }
    }

    fn watch(&self, number: u32, session: &Session) -> Result<(), Refusal> {
        self.poller.add(session.link(), Source::Link(number), Interest::Read)?;
        if let Some(call) = session.call() {
            self.poller.add(call, Source::Call(number), Interest::Read)?;
        }
        if let Some(broker) = session.broker() {
            self.poller.add(broker, Source::Broker(number), Interest::Read)?;
        }
        Ok(())
    }

    fn spawn(&self, number: u32, worker: &OwnedFd, options: &SessionOptions) -> Result<(), Refusal> {
        let spawner = self.processes.spawner().ok_or(Status::Again)?;
        let request = spawner::Request {
            token: number,
            kind: Kind::Worker as u32,
            driver: self.information.driver,
            flags: options.flags,
            max_connections: options.max_connections,
            device: options.device,
        };
        match spawner.request(&request, worker.as_fd()) {
            // It has more to do than its socket holds.
            Err(Errno::AGAIN) => Err(Status::Again.into()),
            result => Ok(result?),
        }
    }

    fn unwatch(&self, session: &Session) {
        self.poller.remove(session.link());
        if let Some(call) = session.call() {
            self.poller.remove(call);
        }
        if let Some(broker) = session.broker() {
            self.poller.remove(broker);
        }
        if let Some(pidfd) = session.pidfd() {
            self.poller.remove(pidfd);
        }
    }

    /// The session, if the owner has one with this number that has not ended.
    pub(crate) fn session_of(&mut self, owner: Owner, number: u32) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&number)?;
        (session.owner == owner && session.end_is_news()).then_some(session)
    }

    /// Ends a session; the request is answered when its worker has been reaped.
    pub(crate) fn destroy(&mut self, owner: Owner, number: u32, ticket: Ticket) {
        match self.session_of(owner, number) {
            Some(session) => {
                session.enders.push(ticket);
                session.end();
                self.watch_outbox(number);
            }
            None => self.complete(ticket, Status::NoSession),
        }
    }

    /// Ends a session that nobody waits for.
    pub(crate) fn end_session(&mut self, number: u32) {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.end();
            self.watch_outbox(number);
        }
    }

    /// Removes a region; the request is answered when the worker has unmapped it.
    pub(crate) fn unmap(&mut self, owner: Owner, number: u32, region: u32, ticket: Ticket) {
        let Some(session) = self.session_of(owner, number) else {
            return self.complete(ticket, Status::NoSession);
        };
        match session.unmap(region, ticket) {
            Ok(None) => {}
            Ok(Some(ticket)) => self.complete(ticket, Status::Ok),
            Err((ticket, status)) => self.complete(ticket, status),
        }
        self.watch_outbox(number);
    }

    /// Wakes a session's lanes.
    pub(crate) fn kick(&mut self, owner: Owner, number: u32, ticket: Ticket) {
        let status = match self.session_of(owner, number) {
            Some(session) => {
                session.kick();
                Status::Ok
            }
            None => Status::NoSession,
        };
        self.complete(ticket, status);
    }

    /// Waits for a worker to take what it could not take at once.
    pub(crate) fn watch_outbox(&self, number: u32) {
        if let Some(session) = self.sessions.get(&number)
            && !session.link_ended
        {
            let interest = if session.has_unsent() { Interest::ReadAndWrite } else { Interest::Read };
            self.poller.change(session.link(), Source::Link(number), interest);
        }
    }

    pub(crate) fn worker_runs(&mut self, number: u32, pidfd: OwnedFd) {
        let Some(session) = self.sessions.get_mut(&number) else {
            log::error!("the spawner speaks of session {number}, which does not exist");
            let _sent = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            return;
        };
        session.started(pidfd);
        let watched =
            session.pidfd().map(|pidfd| self.poller.add(pidfd, Source::Worker(number), Interest::Read));
        if let Some(Err(error)) = watched {
            log::error!("session {number}: its worker cannot be waited for: {error}");
            session.kill();
        }
    }

    pub(crate) fn worker_has_answered(&mut self, number: u32) {
        if self.spare_has_spoken(number) {
            return;
        }
        for _ in 0..ANSWERS_AT_ONCE {
            let Some(session) = self.sessions.get_mut(&number) else { return };
            match session.receive() {
                None => break,
                Some(Answered::Paused) => {}
                Some(Answered::Request(ticket, status)) => self.complete(ticket, status),
                Some(Answered::Started(ticket)) => {
                    self.complete(ticket, Reply::with(&SessionCreateReply { session: number, reserved: 0 }));
                }
                Some(Answered::NotStarted(ticket, status)) => {
                    session.end();
                    session.kill();
                    let owner = session.owner;
                    self.session_of_client_is_void(owner);
                    self.complete(ticket, status);
                }
            }
        }
        let Some(session) = self.sessions.get_mut(&number) else { return };
        session.flush();
        if session.link_ended {
            self.poller.remove(session.link());
        } else {
            self.watch_outbox(number);
        }
    }

    pub(crate) fn worker_has_ended(&mut self, number: u32) {
        if self.spare_has_ended(number) {
            return;
        }
        let Some(session) = self.sessions.get(&number) else { return };
        if let Some(cause) = session.reap() {
            if session.end_is_news() {
                self.look_again();
            }
            self.session_is_gone(number, &cause);
        }
    }

    /// There is no worker any more: nothing touches the session's memory.
    pub(crate) fn session_is_gone(&mut self, number: u32, cause: &str) {
        let Some(session) = self.sessions.remove(&number) else { return };
        self.tokens.forget(number);
        self.spinning.forget(number);
        self.unwatch(&session);
        let (owner, news) = (session.owner, session.end_is_news());
        if news {
            self.throttle.log(format_args!("session {number} has died: {cause}"));
            self.mark_ended(&session);
        } else {
            log::debug!("session {number} has ended: {cause}");
        }
        for (ticket, status) in session.into_tickets(Status::NoMemory) {
            self.complete(ticket, status);
        }
        match owner {
            Owner::Vm if news => self.event(number, EventType::SessionDied),
            Owner::Vm => {}
            Owner::Client { client, .. } => self.session_of_client_is_gone(client, number, news),
        }
    }

    /// Says in a session's memory that its worker is gone, for those who look at nothing else.
    fn mark_ended(&self, session: &Session) {
        let at = u64::try_from(offset_of!(SessionHeader, worker_state)).unwrap_or(0);
        let change = |before: u32| {
            // That it was refused says more.
            (before != WorkerState::Refused as u32).then_some(WorkerState::Ended as u32)
        };
        let written = match &session.header {
            Some(Header::Guest(address)) => self.change_in_vm(address.saturating_add(at), change),
            Some(Header::File(file)) => change_in_file(file, at, change),
            None => false,
        };
        if !written {
            log::debug!("a session's memory does not say that it has died");
        }
    }

    /// There is no worker and will be none: whoever asked for the session is told so, and may go on.
    pub(crate) fn session_is_not_made(&mut self, number: u32, status: Status) {
        let Some(session) = self.sessions.remove(&number) else { return };
        self.spinning.forget(number);
        self.unwatch(&session);
        log::debug!("session {number} is not made: {status:?}");
        self.session_of_client_is_void(session.owner);
        for (ticket, status) in session.into_tickets(status) {
            self.complete(ticket, status);
        }
    }

    pub(crate) fn worker_calls(&mut self, number: u32) {
        let Some(call) = self.sessions.get(&number).and_then(Session::call) else { return };
        let mut count = [0; 8];
        // EAGAIN: a worker can read its eventfd too.
        let _called = rustix::io::read(call, &mut count);
        self.event(number, EventType::Session);
    }
}

//! The local socket: the same requests from processes of this host.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags},
};
use virtio_spec::{control::Status, device::State, local::MAX_DESCRIPTORS};

use crate::{
    packet,
    supervisor::{
        Supervisor,
        extents::Backing,
        peer,
        poller::{Interest, Source},
        regions::Part,
        request::{self, Reply, Request},
        session::Owner,
        sessions::{Header, Material},
        ticket::Ticket,
    },
};

/// How long a client may be connected before its first request.
const HANDSHAKE_TIME: Duration = Duration::from_secs(2);

/// How long connections wait when the process has no descriptors left.
const PAUSE_TIME: Duration = Duration::from_millis(500);

/// Clients that are accepted before it is the others' turn.
const CLIENTS_AT_ONCE: usize = 16;

/// Clients of all users together.
const MAX_CLIENTS: usize = 1024;

struct Client {
    socket: OwnedFd,
    uid: u32,
    session: Option<u32>,
    /// A request is under way; the next one is read when it has been answered.
    busy: bool,
    /// Until the first request.
    deadline: Option<Instant>,
}

/// The listener and its clients.
pub(crate) struct Local {
    listener: OwnedFd,
    clients: BTreeMap<u64, Client>,
    last_client: u64,
    paused_until: Option<Instant>,
}

impl Local {
    pub(crate) fn new(listener: OwnedFd) -> Self {
        Self { listener, clients: BTreeMap::new(), last_client: 0, paused_until: None }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.clients.values().filter_map(|client| client.deadline).chain(self.paused_until).min()
    }

    fn connections_of(&self, uid: u32) -> usize {
        self.clients.values().filter(|client| client.uid == uid).count()
    }
}

impl Supervisor {
    pub(crate) fn clients_connect(&mut self) {
        for _ in 0..CLIENTS_AT_ONCE {
            let Some(local) = &mut self.local else { return };
            match rustix::net::accept_with(&local.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => self.client_connects(socket),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    log::warn!("the local socket rests for a moment: {error}");
                    local.paused_until = Instant::now().checked_add(PAUSE_TIME);
                    self.poller.change(&local.listener, Source::Listener, Interest::Nothing);
                    return;
                }
            }
        }
    }

    fn client_connects(&mut self, socket: OwnedFd) {
        let Some(local) = &mut self.local else { return };
        let uid = match peer::uid(&socket) {
            Ok(uid) => uid,
            Err(error) => return log::debug!("a client cannot be identified: {error}"),
        };
        let most = usize::try_from(self.config.limits.max_connections_per_user).unwrap_or(usize::MAX);
        if local.clients.len() >= MAX_CLIENTS || local.connections_of(uid) >= most {
            return log::debug!("user {uid} has too many connections");
        }
        local.last_client = local.last_client.saturating_add(1);
        let number = local.last_client;
        if let Err(error) = self.poller.add(&socket, Source::Client(number), Interest::Read) {
            return log::warn!("a client cannot be served: {error}");
        }
        let deadline = Instant::now().checked_add(HANDSHAKE_TIME);
        local.clients.insert(number, Client { socket, uid, session: None, busy: false, deadline });
    }

    fn client(&mut self, number: u64) -> Option<&mut Client> {
        self.local.as_mut()?.clients.get_mut(&number)
    }

    fn listen_to_client(&self, number: u64, interest: Interest) {
        if let Some(client) = self.local.as_ref().and_then(|local| local.clients.get(&number)) {
            self.poller.change(&client.socket, Source::Client(number), interest);
        }
    }

    pub(crate) fn client_has_sent(&mut self, number: u64) {
        let Some(client) = self.client(number) else { return };
        if client.busy {
            // Nothing is asked of the poller but the end of the connection.
            return self.client_leaves(number);
        }
        let mut buffer = [0; request::MAX_BYTES];
        match packet::receive(&client.socket, &mut buffer, MAX_DESCRIPTORS, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => {}
            Ok(None) | Err(_) => self.client_leaves(number),
            Ok(Some(packet)) => {
                client.busy = true;
                client.deadline = None;
                self.listen_to_client(number, Interest::Nothing);
                let bytes = buffer.get(..packet.length).unwrap_or_default();
                let request = if packet.truncated { Err(Status::Invalid) } else { Request::parse(bytes) };
                let handled =
                    request.and_then(|request| self.client_request(number, request, packet.descriptors));
                if let Err(status) = handled {
                    log::debug!("client {number}: a request is refused: {status:?}");
                    self.complete(Ticket::Client(number), status);
                }
            }
        }
    }

    /// `Err` is the request's status, if nothing has been done about it.
    fn client_request(&mut self, number: u64, request: Request, passed: Vec<OwnedFd>) -> Result<(), Status> {
        let ticket = Ticket::Client(number);
        let client = self.client(number).ok_or(Status::Failed)?;
        let own = client.session;
        let owner = Owner::Client { client: number, uid: client.uid };
        match request {
            // Not a message of this transport.
            Request::Hello { .. } => return Err(Status::Unsupported),
            Request::DeviceInfo { offset, length } => {
                none(passed)?;
                let payload = match self.information.state {
                    State::Starting => return Err(Status::Again),
                    State::Failed => return Err(Status::Failed),
                    State::Ready | State::NoGpu => {
                        self.information.part(offset, usize::try_from(length).unwrap_or(usize::MAX)).to_vec()
                    }
                };
                self.complete(ticket, Reply { status: Status::Ok, payload });
            }
            Request::SessionCreate { length, options, extents } => {
                if !extents.is_empty() || own.is_some() {
                    return Err(Status::Invalid);
                }
                let [memory, kick] = exactly(passed)?;
                let backing = Backing::whole(peer::sealed_memory(memory, length)?, length);
                let kick = Some(peer::eventfd(kick)?);
                let header = Header::File(backing.files.first().map(Arc::clone).ok_or(Status::Invalid)?);
                self.check_quota(owner)?;
                let session = self
                    .create(Material { owner, options, length, extents: 1, backing, kick, header }, ticket);
                if let Some(client) = self.client(number) {
                    client.session = session;
                }
            }
            Request::SessionDestroy { session } => {
                none(passed)?;
                self.destroy(owner, session, ticket);
            }
            Request::Map { session, region, read_only, address, length, extents } => {
                if !extents.is_empty() {
                    return Err(Status::Invalid);
                }
                let [memory] = exactly(passed)?;
                let whole = Backing::whole(peer::sealed_memory(memory, length)?, length);
                let record = self.session_of(owner, session).ok_or(Status::NoSession)?;
                let part = Part { region, read_only, address, length, extents: 1, bytes: length };
                let add = |backing: &mut Backing| {
                    *backing = whole;
                    Ok(length)
                };
                match record.map(&part, add, ticket) {
                    Ok(None) => {}
                    Ok(Some(ticket)) => self.complete(ticket, Status::Ok),
                    Err((_, status)) => return Err(status),
                }
                self.watch_outbox(session);
            }
            Request::Unmap { session, region } => {
                none(passed)?;
                self.unmap(owner, session, region, ticket);
            }
            Request::Kick { session } => {
                none(passed)?;
                self.kick(owner, session, ticket);
            }
            Request::Status => {
                none(passed)?;
                let payload = self.status_for(owner, usize::MAX)?;
                self.complete(ticket, Reply { status: Status::Ok, payload });
            }
        }
        Ok(())
    }

    fn check_quota(&self, owner: Owner) -> Result<(), Status> {
        let Owner::Client { uid: wanted, .. } = owner else { return Ok(()) };
        let most = usize::try_from(self.config.limits.max_sessions_per_user).unwrap_or(usize::MAX);
        let of_user = |owner: Owner| matches!(owner, Owner::Client { uid, .. } if uid == wanted);
        let count = self.sessions.values().filter(|session| of_user(session.owner)).count();
        if count < most { Ok(()) } else { Err(Status::Limit) }
    }

    pub(crate) fn complete_client(&mut self, number: u64, reply: &Reply) {
        let Some(client) = self.client(number) else { return };
        client.busy = false;
        match packet::send(&client.socket, &reply.to_bytes(), &[], SendFlags::DONTWAIT) {
            Ok(()) => self.listen_to_client(number, Interest::Read),
            Err(error) => {
                // It does not read its answers, or has gone.
                log::debug!("client {number} cannot be answered: {error}");
                self.client_leaves(number);
            }
        }
    }

    fn client_leaves(&mut self, number: u64) {
        let Some(client) = self.local.as_mut().and_then(|local| local.clients.remove(&number)) else {
            return;
        };
        self.poller.remove(&client.socket);
        if let Some(session) = client.session {
            self.end_session(session);
        }
    }

    /// A client's session has ended; if it has died, so does the connection, which is how the client is told.
    pub(crate) fn session_of_client_is_gone(&mut self, number: u64, session: u32, died: bool) {
        let Some(client) = self.client(number) else { return };
        if client.session == Some(session) {
            client.session = None;
            if died {
                self.client_leaves(number);
            }
        }
    }

    /// A client's session could not be made; it may try again.
    pub(crate) fn session_of_client_is_void(&mut self, owner: Owner) {
        if let Owner::Client { client, .. } = owner
            && let Some(client) = self.client(client)
        {
            client.session = None;
        }
    }

    pub(crate) fn expire_clients(&mut self, now: Instant) {
        let Some(local) = &mut self.local else { return };
        if local.paused_until.is_some_and(|until| until <= now) {
            local.paused_until = None;
            self.poller.change(&local.listener, Source::Listener, Interest::Read);
        }
        let late = |client: &Client| client.deadline.is_some_and(|deadline| deadline <= now);
        let numbers: Vec<u64> =
            local.clients.iter().filter(|(_, client)| late(client)).map(|(number, _)| *number).collect();
        for number in numbers {
            log::debug!("client {number} has asked for nothing and is disconnected");
            self.client_leaves(number);
        }
    }
}

fn none(passed: Vec<OwnedFd>) -> Result<(), Status> {
    exactly(passed).map(|[]| ())
}

/// The descriptors, if they are as many as the request takes. Others are closed.
fn exactly<const N: usize>(passed: Vec<OwnedFd>) -> Result<[OwnedFd; N], Status> {
    passed.try_into().map_err(|_| Status::Invalid)
}

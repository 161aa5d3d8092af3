//! The VM: its virtqueues, its sessions' pauses, its resets.

use std::{
    collections::BTreeSet,
    sync::{
        atomic::Ordering,
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, Instant},
};

use virtio_spec::{
    control::{Event, EventType, HelloReply, Status},
    device,
};
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _};
use zerocopy::IntoBytes as _;

use crate::supervisor::{
    Supervisor,
    chain::{self, Next, Position, Taken, Told},
    device::Mail,
    extents::{self, Backing},
    regions::Part,
    request::{Reply, Request},
    session::{Owner, Phase},
    sessions::{Header, Material},
    ticket::Ticket,
    vring::{Memory, Vring},
};

/// Events that wait for a buffer. There is one of each kind for a session, and dead sessions are no limit to a driver
/// that reads none.
const MAX_EVENTS: usize = 4096;

/// How long QEMU may take between the start of a queue and passing its eventfd. Drivers that poll never get one.
const OWED_TIME: Duration = Duration::from_secs(1);

/// How often it is looked for meanwhile: the vhost-user crate does not say when it comes.
const OWED_LOOK: Duration = Duration::from_millis(1);

/// Bytes of a reply's header.
const REPLY_HEADER: usize = size_of::<virtio_spec::control::ReplyHeader>();

#[derive(Default)]
struct Queue {
    vring: Option<Vring>,
    broken: bool,
    /// The driver is to be woken as soon as QEMU has said how, or not any more after this time.
    owed: Option<Instant>,
}

impl Queue {
    fn breaks(&mut self, name: &str, why: &str) {
        if !self.broken {
            log::warn!("{name} is broken until the driver sets it up again: {why}");
        }
        self.broken = true;
    }

    /// Gives a chain back to the driver.
    fn give_back(&mut self, memory: &Memory, taken: &Taken, bytes: &[u8], name: &str) {
        let Some(vring) = self.usable() else { return };
        match chain::give_back(vring, memory, taken, bytes) {
            Ok(Told::Yes) => {}
            Ok(Told::NotYet) => self.owed = self.owed.or_else(|| Instant::now().checked_add(OWED_TIME)),
            Err(why) => self.breaks(name, &why),
        }
    }

    /// Wakes the driver, if that is owed and possible by now.
    fn pay(&mut self, now: Instant) {
        if let (Some(until), Some(vring)) = (self.owed, &self.vring)
            && (chain::wake(vring) == Told::Yes || until <= now)
        {
            self.owed = None;
        }
    }

    fn usable(&self) -> Option<&Vring> {
        self.vring.as_ref().filter(|_| !self.broken)
    }
}

/// Whether the VM's sessions run.
enum Running {
    /// They do.
    Yes,
    /// The queues are being stopped; these wait for it.
    Stopping(Vec<SyncSender<()>>),
    /// The queues are stopped; `controlq` stood here.
    Stopped(Option<Position>),
    /// The queues have been started again, and it is not known yet whether the VM was paused or reset.
    Unknown,
}

/// A connection of QEMU.
pub(crate) struct Vm {
    connection: u64,
    memory: Memory,
    control: Queue,
    events: Queue,
    pending: BTreeSet<(u32, u32)>,
    nonce: Option<u64>,
    /// A HELLO that waits for the sessions of another nonce to end.
    greeting: Option<Ticket>,
    in_flight: usize,
    running: Running,
}

impl Vm {
    fn new(connection: u64, memory: Memory) -> Self {
        Self {
            connection,
            memory,
            control: Queue::default(),
            events: Queue::default(),
            pending: BTreeSet::new(),
            nonce: None,
            greeting: None,
            in_flight: 0,
            running: Running::Yes,
        }
    }
}

impl Supervisor {
    pub(crate) fn mail_has_come(&mut self) {
        let Mail { connection, ended, kicked, stops } = self.mailbox.take();
        if ended.is_some() && ended == self.vm.as_ref().map(|vm| vm.connection) {
            self.vm = None;
            self.end_vm_sessions();
            self.images.forget_vm();
        }
        if let Some((connection, memory)) = connection {
            // The end of the one before may have been overtaken.
            self.end_vm_sessions();
            self.images.forget_vm();
            self.vm = Some(Vm::new(connection, memory));
        }
        if !stops.is_empty() {
            self.stop_vm(stops);
        }
        let Some(vm) = &mut self.vm else { return };
        // A queue of a connection that has ended lies in memory that is gone.
        let current = vm.connection;
        let [control, events] =
            kicked.map(|kick| kick.filter(|(connection, _)| *connection == current).map(|(_, vring)| vring));
        if let Some(vring) = events {
            vm.events.vring = Some(vring);
        }
        if let Some(vring) = control {
            vm.control.vring = Some(vring);
            self.start_vm();
            self.serve_controlq();
        }
        self.serve_eventq();
    }

    fn end_vm_sessions(&mut self) {
        let numbers: Vec<u32> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.owner == Owner::Vm)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.end_session(number);
        }
    }

    /// The queues stop: the VM pauses or is being reset, which look the same from here.
    fn stop_vm(&mut self, stops: Vec<SyncSender<()>>) {
        if let Some(vm) = &mut self.vm {
            match &mut vm.running {
                Running::Stopping(waiting) => waiting.extend(stops),
                _ => vm.running = Running::Stopping(stops),
            }
            for session in self.sessions.values_mut().filter(|session| session.owner == Owner::Vm) {
                session.pause();
            }
        } else {
            answer_stops(&stops);
        }
    }

    /// The control queue may have been started again.
    fn start_vm(&mut self) {
        let Some(vm) = &mut self.vm else { return };
        let Running::Stopped(before) = &vm.running else { return };
        let Some(vring) = &vm.control.vring else { return };
        if !chain::is_running(vring) {
            return;
        }
        let now = Position::of(vring);
        let continues = before.is_some_and(|before| now.continues(before, vring, &vm.memory));
        vm.control.broken = false;
        vm.events.broken = false;
        vm.running = Running::Unknown;
        if continues {
            self.resume_vm();
        }
    }

    fn resume_vm(&mut self) {
        if let Some(vm) = &mut self.vm {
            vm.running = Running::Yes;
        }
        let mut resumed = Vec::new();
        for (number, session) in &mut self.sessions {
            if session.owner == Owner::Vm {
                session.resume();
                resumed.push(*number);
            }
        }
        for number in resumed {
            self.watch_outbox(number);
        }
    }

    fn serve_controlq(&mut self) {
        loop {
            let Some(vm) = &mut self.vm else { return };
            let Some(vring) = vm.control.usable() else { return };
            if matches!(vm.running, Running::Stopping(_) | Running::Stopped(_)) {
                return;
            }
            match chain::next(vring, &vm.memory, chain::CONTROL_BYTES) {
                Next::Chain(taken, bytes) => {
                    if vm.in_flight >= device::QUEUE_SIZE.into() {
                        return vm.control.breaks("controlq", "more requests than descriptors");
                    }
                    vm.in_flight = vm.in_flight.saturating_add(1);
                    self.control_request(taken, &bytes);
                }
                Next::Bad { head, why } => {
                    log::debug!("controlq: {why}");
                    vm.control.give_back(&vm.memory, &Taken { head, room: Vec::new() }, &[], "controlq");
                }
                Next::Broken(why) => return vm.control.breaks("controlq", &why),
                Next::Empty => match chain::wait_for_more(vring) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(why) => return vm.control.breaks("controlq", &why),
                },
            }
        }
    }

    fn control_request(&mut self, taken: Taken, bytes: &[u8]) {
        let Some(vm) = &self.vm else { return };
        let room = taken.room_bytes().saturating_sub(REPLY_HEADER);
        let ticket = Ticket::Queue { connection: vm.connection, taken };
        let request = match Request::parse(bytes) {
            Ok(request) if request.reply_bytes() <= room => request,
            Ok(_) => return self.complete(ticket, Status::Invalid),
            Err(status) => {
                log::debug!("controlq: a request of {} bytes is refused: {status:?}", bytes.len());
                if let Some((session, region)) = Request::region_of_refused(bytes)
                    && let Some(session) = self.session_of(Owner::Vm, session)
                {
                    session.forget_parts(region);
                }
                return self.complete(ticket, status);
            }
        };
        if let Request::Hello { boot_nonce, version } = request {
            return self.hello(boot_nonce, version, ticket);
        }
        if vm.nonce.is_none() || vm.greeting.is_some() {
            return self.complete(ticket, Status::Invalid);
        }
        if matches!(vm.running, Running::Unknown) {
            // After a reset, the first request is HELLO: this is the driver that was there before.
            self.resume_vm();
        }
        self.vm_request(request, room, ticket);
    }

    fn vm_request(&mut self, request: Request, room: usize, ticket: Ticket) {
        match request {
            Request::Hello { .. } => self.complete(ticket, Status::Invalid),
            Request::DeviceInfo { offset, length } => {
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(room);
                let payload = self.information.part(offset, length).to_vec();
                self.complete(ticket, Reply { status: Status::Ok, payload });
            }
            Request::SessionCreate { length, options, extents } => {
                let mut backing = Backing::default();
                let total = self.vm_memory_for(length).and_then(|memory| backing.extend(&memory, &extents));
                match total {
                    Ok(total) if total == length => {
                        let header = Header::Guest(extents.first().map_or(u64::MAX, |first| first.address));
                        let extents = u32::try_from(extents.len()).unwrap_or(u32::MAX);
                        let owner = Owner::Vm;
                        let material =
                            Material { owner, options, length, extents, backing, kick: None, header };
                        self.create(material, ticket);
                    }
                    Ok(_) => self.complete(ticket, Status::Invalid),
                    Err(status) => self.complete(ticket, status),
                }
            }
            Request::SessionDestroy { session } => self.destroy(Owner::Vm, session, ticket),
            Request::Map { session, region, read_only, address, length, extents } => {
                let bytes = extents.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.length));
                let memory = self.vm_memory_for(bytes);
                let Some(record) = self.session_of(Owner::Vm, session) else {
                    return self.complete(ticket, Status::NoSession);
                };
                let count = u32::try_from(extents.len()).unwrap_or(u32::MAX);
                let part = Part { region, read_only, address, length, extents: count, bytes };
                let add = |backing: &mut Backing| {
                    let memory = memory?;
                    if extents.is_empty() { Err(Status::Invalid) } else { backing.extend(&memory, &extents) }
                };
                match record.map(&part, add, ticket) {
                    Ok(None) => {}
                    Ok(Some(ticket)) => self.complete(ticket, Status::Ok),
                    Err((ticket, status)) => self.complete(ticket, status),
                }
                self.watch_outbox(session);
            }
            Request::Unmap { session, region } => self.unmap(Owner::Vm, session, region, ticket),
            Request::Kick { session } => self.kick(Owner::Vm, session, ticket),
            Request::Status => match self.status_for(Owner::Vm, room) {
                Ok(payload) => self.complete(ticket, Reply { status: Status::Ok, payload }),
                Err(status) => self.complete(ticket, status),
            },
        }
    }

    /// The VM's memory, if its sessions may pin `bytes` more: pages that the guest has given back to the host (balloon)
    /// stay pinned, so without a bound a guest could hold more of the host's memory than it was given.
    fn vm_memory_for(&self, bytes: u64) -> Result<<Memory as vm_memory::GuestAddressSpace>::T, Status> {
        let vm = self.vm.as_ref().ok_or(Status::Failed)?;
        let memory = vm.memory.memory();
        let of_vm = self.sessions.values().filter(|session| session.owner == Owner::Vm);
        let pinned = of_vm.fold(0_u64, |sum, session| sum.saturating_add(session.pinned()));
        if pinned.saturating_add(bytes) > extents::shared_bytes(&memory) {
            return Err(Status::Limit);
        }
        Ok(memory)
    }

    /// Changes a word of a session of the VM. Not while the VM stands still or may have been reset: the memory could be
    /// somebody else's by now.
    pub(crate) fn change_in_vm(&self, address: u64, change: impl Fn(u32) -> Option<u32>) -> bool {
        let Some(vm) = self.vm.as_ref().filter(|vm| matches!(vm.running, Running::Yes)) else { return false };
        let (memory, address) = (vm.memory.memory(), GuestAddress(address));
        let Ok(before) = memory.load::<u32>(address, Ordering::Acquire) else { return false };
        change(u32::from_le(before))
            .is_none_or(|new| memory.store(new.to_le(), address, Ordering::Release).is_ok())
    }

    fn hello(&mut self, nonce: u64, version: u32, ticket: Ticket) {
        if version != device::PROTOCOL_VERSION {
            self.throttle.log(format_args!(
                "the guest's driver speaks version {version}, not {}",
                device::PROTOCOL_VERSION
            ));
            return self.complete(ticket, Status::Unsupported);
        }
        let Some(vm) = &mut self.vm else { return };
        let known = vm.nonce == Some(nonce);
        vm.nonce = Some(nonce);
        let earlier = vm.greeting.replace(ticket);
        self.resume_or_end(known);
        if let Some(earlier) = earlier {
            self.complete(earlier, Status::Again);
        }
        self.settle_greeting();
    }

    fn resume_or_end(&mut self, known: bool) {
        if known {
            self.resume_vm();
        } else {
            self.end_vm_sessions();
            if let Some(vm) = &mut self.vm {
                vm.running = Running::Yes;
                vm.pending.clear();
            }
        }
    }

    /// Answers a HELLO when no session of another nonce is left.
    fn settle_greeting(&mut self) {
        let ending =
            self.sessions.values().any(|session| session.owner == Owner::Vm && !session.end_is_news());
        if ending {
            return;
        }
        if let Some(ticket) = self.vm.as_mut().and_then(|vm| vm.greeting.take()) {
            let reply = HelloReply {
                version: device::PROTOCOL_VERSION,
                state: self.information.state as u32,
                generation: self.information.generation,
                info_bytes: u32::try_from(self.information.bytes.len()).unwrap_or(0),
            };
            self.complete(ticket, Reply::with(&reply));
        }
    }

    /// Replies that wait for workers, and events that wait for buffers.
    pub(crate) fn settle_vm(&mut self) {
        self.settle_greeting();
        self.settle_stop();
        self.serve_eventq();
        if let Some(vm) = &mut self.vm {
            let now = Instant::now();
            vm.control.pay(now);
            vm.events.pay(now);
        }
    }

    /// When [`Supervisor::settle_vm`] is due.
    pub(crate) fn vm_deadline(&self) -> Option<Instant> {
        let vm = self.vm.as_ref()?;
        vm.control.owed.or(vm.events.owed)?;
        Instant::now().checked_add(OWED_LOOK)
    }

    fn settle_stop(&mut self) {
        let quiet = self
            .sessions
            .values()
            .filter(|session| session.owner == Owner::Vm)
            .all(|session| session.phase == Phase::Paused && !session.is_busy());
        let Some(vm) = &mut self.vm else { return };
        if !quiet || vm.in_flight > 0 {
            return;
        }
        if let Running::Stopping(stops) = &vm.running {
            answer_stops(stops);
            vm.running = Running::Stopped(vm.control.vring.as_ref().map(Position::of));
        }
    }

    pub(crate) fn complete_chain(&mut self, connection: u64, taken: &Taken, reply: &Reply) {
        let Some(vm) = self.vm.as_mut().filter(|vm| vm.connection == connection) else { return };
        vm.in_flight = vm.in_flight.saturating_sub(1);
        let bytes = reply.to_bytes();
        let bytes = if taken.room_bytes() < REPLY_HEADER { &[][..] } else { &bytes };
        vm.control.give_back(&vm.memory, taken, bytes, "controlq");
    }

    /// Has the driver told of something.
    pub(crate) fn event(&mut self, session: u32, kind: EventType) {
        // What has been before HELLO is in its reply.
        let Some(vm) = self.vm.as_mut().filter(|vm| vm.nonce.is_some()) else { return };
        if vm.pending.len() < MAX_EVENTS {
            vm.pending.insert((session, kind as u32));
        } else {
            log::debug!("eventq: the driver reads no events; one is lost");
        }
        self.serve_eventq();
    }

    fn serve_eventq(&mut self) {
        let generation = self.information.generation;
        let Some(vm) = &mut self.vm else { return };
        // After a reset, the new driver is not told of the old one's sessions.
        if !matches!(vm.running, Running::Yes) {
            return;
        }
        while let Some(&(session, kind)) = vm.pending.first() {
            let Some(vring) = vm.events.usable() else { return };
            let (taken, sound) = match chain::next(vring, &vm.memory, 0) {
                Next::Chain(taken, _) => {
                    let sound = taken.room_bytes() >= chain::EVENT_BYTES;
                    (taken, sound)
                }
                Next::Bad { head, why } => {
                    log::debug!("eventq: {why}");
                    (Taken { head, room: Vec::new() }, false)
                }
                Next::Broken(why) => return vm.events.breaks("eventq", &why),
                Next::Empty => match chain::wait_for_more(vring) {
                    Ok(true) => continue,
                    Ok(false) => return,
                    Err(why) => return vm.events.breaks("eventq", &why),
                },
            };
            let event = Event { kind, session, generation, reserved: 0 };
            let bytes = if sound { event.as_bytes() } else { &[] };
            vm.events.give_back(&vm.memory, &taken, bytes, "eventq");
            if sound {
                vm.pending.pop_first();
            }
        }
    }
}

fn answer_stops(stops: &[SyncSender<()>]) {
    for stop in stops {
        match stop.try_send(()) {
            // The channel holds one, and whoever has gone does not wait.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

//! The supervisor: QEMU's vhost-user device, the local socket, sessions and quotas.
//!
//! One thread does all of it, in a loop that never waits for anything but [`poller`]. QEMU's messages are answered by
//! threads of their own ([`device`]), which only hand things over. Whatever a guest, a client or a worker sends is
//! copied, checked and then used; none of it can make this process block, panic or end.
//!
//! Read in this order:
//! 1. this file: start-up and the loop;
//! 2. [`request`]: what can be asked for, on either transport;
//! 3. [`sessions`]: what is done about it, with [`session`] (and its [`regions`]) as the record of one session;
//! 4. [`vm`]: the virtqueues ([`vring`], [`chain`], [`extents`], [`device`]);
//! 5. [`local`]: the local socket ([`peer`]);
//! 6. [`discovery`]: the device information.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod chain;
mod device;
mod discovery;
mod extents;
mod local;
mod peer;
mod poller;
mod regions;
mod request;
mod session;
mod sessions;
mod sockets;
mod throttle;
mod ticket;
mod vm;
mod vring;

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use virtio_spec::{control::EventType, device::State};

use crate::{
    config::Config,
    spawner::{self, Spawner},
};
use device::Mailbox;
use discovery::Information;
use local::Local;
use poller::{Interest, Poller, Source};
use session::Session;
pub(crate) use sockets::Listeners;
use throttle::Throttle;
use vm::Vm;

/// How long the discovery process may take: drivers of hosts with many GPUs start slowly.
const DISCOVERY_TIME: Duration = Duration::from_secs(60);

/// Why the supervisor does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SupervisorError {
    #[error("{0} cannot be listened on")]
    Listen(std::path::PathBuf, #[source] io::Error),
    #[error("{0} is in use by another process")]
    InUse(std::path::PathBuf),
    #[error("{0} exists and is no socket")]
    NoSocket(std::path::PathBuf),
    #[error("the supervisor's own descriptors cannot be made")]
    Descriptors(#[source] Errno),
    #[error("the vhost-user thread cannot be started")]
    Thread(#[source] io::Error),
}

/// The discovery process.
struct Discovery {
    pipe: OwnedFd,
    pidfd: Option<OwnedFd>,
    written: Vec<u8>,
    deadline: Option<Instant>,
}

/// Everything that the supervisor's thread knows.
pub(crate) struct Supervisor {
    config: Config,
    poller: Poller,
    mailbox: Arc<Mailbox>,
    spawner: Option<Spawner>,
    discovery: Option<Discovery>,
    information: Information,
    sessions: BTreeMap<u32, Session>,
    last_session: u32,
    vm: Option<Vm>,
    local: Option<Local>,
    /// For lines about what guests and clients have brought about.
    throttle: Throttle,
}

/// The spawner's token of the discovery process; sessions count from 1.
const DISCOVERY_TOKEN: u32 = 0;

impl Supervisor {
    /// Starts discovery and the vhost-user threads.
    pub(crate) fn new(
        config: Config,
        spawner: Spawner,
        listeners: Listeners,
    ) -> Result<Self, SupervisorError> {
        let descriptors = SupervisorError::Descriptors;
        let information = Information::without_devices(State::Starting, 0);
        let mailbox =
            Arc::new(Mailbox::new(information.config(config.limits.max_sessions)).map_err(descriptors)?);
        let poller = Poller::new().map_err(descriptors)?;
        poller.add(&*mailbox, Source::Mailbox, Interest::Read).map_err(descriptors)?;
        poller.add(&spawner, Source::Spawner, Interest::Read).map_err(descriptors)?;
        let local = match listeners.local {
            Some(listener) => {
                poller.add(&listener, Source::Listener, Interest::Read).map_err(descriptors)?;
                Some(Local::new(listener))
            }
            None => None,
        };
        let discovery = discover(&spawner, &poller).map_err(descriptors)?;
        if let Some(listener) = listeners.vhost_user {
            let mailbox = Arc::clone(&mailbox);
            std::thread::Builder::new()
                .name("vhost-user".to_owned())
                .spawn(move || device::serve(listener, &mailbox))
                .map_err(SupervisorError::Thread)?;
        }
        Ok(Self {
            config,
            poller,
            mailbox,
            spawner: Some(spawner),
            discovery: Some(discovery),
            information,
            sessions: BTreeMap::new(),
            last_session: 0,
            vm: None,
            local,
            throttle: Throttle::default(),
        })
    }

    /// Until the process is killed.
    pub(crate) fn run(mut self) -> Result<(), SupervisorError> {
        loop {
            let deadline = self.next_deadline();
            let sources = self.poller.wait(deadline).map_err(SupervisorError::Descriptors)?;
            for source in sources {
                // Nothing in there panics; should it do so nevertheless, the VM is worth more than the request.
                if catch_unwind(AssertUnwindSafe(|| self.dispatch(source))).is_err() {
                    log::error!("internal error while handling {source:?}");
                }
            }
            if catch_unwind(AssertUnwindSafe(|| self.settle())).is_err() {
                log::error!("internal error");
            }
        }
    }

    fn dispatch(&mut self, source: Source) {
        match source {
            Source::Mailbox => self.mail_has_come(),
            Source::Spawner => self.spawner_has_answered(),
            Source::Discovery => self.discovery_has_written(),
            Source::DiscoveryEnd => self.discovery_has_ended(),
            Source::Listener => self.clients_connect(),
            Source::Link(session) => self.worker_has_answered(session),
            Source::Worker(session) => self.worker_has_ended(session),
            Source::Call(session) => self.worker_calls(session),
            Source::Client(client) => self.client_has_sent(client),
        }
    }

    /// What follows from everything that has happened: deadlines, replies that waited for workers, events.
    fn settle(&mut self) {
        let now = Instant::now();
        for (number, session) in &mut self.sessions {
            if session.expire(now) {
                self.throttle.log(format_args!("session {number}: the worker is late and has been killed"));
            }
        }
        if self.discovery.as_ref().and_then(|discovery| discovery.deadline).is_some_and(|due| due <= now) {
            self.discovery_fails("it takes too long");
        }
        self.expire_clients(now);
        self.settle_vm();
    }

    fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.sessions.values().filter_map(Session::deadline);
        let discovery = self.discovery.as_ref().and_then(|discovery| discovery.deadline);
        let clients = self.local.as_ref().and_then(Local::next_deadline);
        sessions.chain(discovery).chain(clients).chain(self.vm_deadline()).min()
    }

    fn spawner_has_answered(&mut self) {
        loop {
            let Some(spawner) = &self.spawner else { return };
            match spawner.answer() {
                Ok(Some((answer, pidfd))) => match pidfd {
                    Some(pidfd) if answer.error == 0 => self.process_runs(answer.token, pidfd),
                    _ => self.process_does_not_run(answer.token, answer.error),
                },
                Err(Errno::AGAIN) => return,
                end => {
                    log::error!("the spawner has ended ({end:?}); no more sessions can be made");
                    self.spawner = None;
                    self.change(Information::without_devices(State::Failed, self.information.generation));
                    self.sessions_without_process_end();
                    return;
                }
            }
        }
    }

    fn process_runs(&mut self, token: u32, pidfd: OwnedFd) {
        if token != DISCOVERY_TOKEN {
            self.worker_runs(token, pidfd);
            return;
        }
        if let Some(discovery) = &mut self.discovery {
            if let Err(error) = self.poller.add(&pidfd, Source::DiscoveryEnd, Interest::Read) {
                log::error!("the discovery process cannot be waited for: {error}");
            }
            discovery.pidfd = Some(pidfd);
        }
    }

    fn process_does_not_run(&mut self, token: u32, error: i32) {
        let error = io::Error::from_raw_os_error(error);
        if token == DISCOVERY_TOKEN {
            self.discovery_fails(&error.to_string());
        } else {
            log::error!("session {token}: no worker: {error}");
            self.session_is_gone(token, "there was no worker");
        }
    }

    fn discovery_has_written(&mut self) {
        let Some(discovery) = &mut self.discovery else { return };
        let mut buffer = [0; 4096];
        match rustix::io::read(&discovery.pipe, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.discovery_fails(&error.to_string()),
            Ok(0) => {
                let written = std::mem::take(&mut discovery.written);
                self.poller.remove(&discovery.pipe);
                discovery.deadline = None;
                let generation = self.information.generation;
                match Information::parse(&written, self.config.drivers.len(), generation) {
                    Ok(information) => self.change(information),
                    Err(why) => self.discovery_fails(why),
                }
            }
            Ok(length) => {
                discovery.written.extend_from_slice(buffer.get(..length).unwrap_or_default());
                if discovery.written.len() > discovery::MAX_BYTES {
                    self.discovery_fails("it writes too much");
                }
            }
        }
    }

    fn discovery_fails(&mut self, why: &str) {
        log::error!("the CUDA driver cannot be asked for its devices: {why}");
        if let Some(discovery) = &mut self.discovery {
            self.poller.remove(&discovery.pipe);
            discovery.deadline = None;
            if let Some(pidfd) = &discovery.pidfd {
                // It may have ended by itself meanwhile.
                let _sent = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
            }
        }
        self.change(Information::without_devices(State::Failed, self.information.generation));
    }

    fn discovery_has_ended(&mut self) {
        use std::os::fd::AsFd as _;

        use rustix::process::{WaitId, WaitIdOptions};

        let Some(pidfd) = self.discovery.as_ref().and_then(|discovery| discovery.pidfd.as_ref()) else {
            return;
        };
        // Reaped: nothing is left of the process. What it wrote before is read from the pipe, to its end.
        let reaped = rustix::process::waitid(
            WaitId::PidFd(pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
        log::debug!("discovery has ended: {reaped:?}");
        self.poller.remove(pidfd);
    }

    /// Makes new device information known.
    fn change(&mut self, mut information: Information) {
        information.set_generation(self.information.generation.wrapping_add(1));
        self.mailbox.set_config(information.config(self.config.limits.max_sessions));
        log::info!("{:?}: {} devices", information.state, information.device_count);
        if information.offers_pageable_access() {
            log::warn!(
                "kernels can reach the ordinary memory of workers on this host (pageable memory access, HMM or ATS); \
                 to prevent it, load the module nvidia_uvm with uvm_disable_hmm=1"
            );
        }
        self.information = information;
        self.event(0, EventType::Config);
    }
}

/// Starts the discovery process, which writes to a pipe.
fn discover(spawner: &Spawner, poller: &Poller) -> rustix::io::Result<Discovery> {
    let (pipe, written) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&pipe, true)?;
    poller.add(&pipe, Source::Discovery, Interest::Read)?;
    let request = spawner::Request {
        token: DISCOVERY_TOKEN,
        kind: spawner::Kind::Discovery as u32,
        driver: 0,
        flags: 0,
        max_connections: 0,
    };
    spawner.request(&request, std::os::fd::AsFd::as_fd(&written))?;
    Ok(Discovery {
        pipe,
        pidfd: None,
        written: Vec::new(),
        deadline: Instant::now().checked_add(DISCOVERY_TIME),
    })
}

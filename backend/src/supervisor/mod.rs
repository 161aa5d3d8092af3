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
//! 5. [`local`]: the local socket ([`peer`]); [`tokens`] and [`images`]: what processes of one VM share;
//! 6. [`processes`]: the spawner and the discovery process, which may die ([`budget`]);
//! 7. [`spares`]: workers that are ready before they are asked for; [`summary`]: how many;
//! 8. [`discovery`]: the device information; [`monitor`]: what the devices are doing.
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

mod budget;
pub(crate) mod chain;
mod device;
pub(crate) mod discovery;
mod extents;
mod images;
mod local;
mod monitor;
mod peer;
mod poller;
mod processes;
mod regions;
pub(crate) mod request;
mod session;
mod sessions;
mod sockets;
mod spares;
mod summary;
mod throttle;
mod ticket;
mod tokens;
mod vm;
pub(crate) mod vring;

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use rustix::io::Errno;
use virtio_spec::device::State;

use crate::{config::Config, spawner::Spawner, spin::Shares};
use device::Mailbox;
use discovery::Information;
use images::Images;
use local::Local;
use monitor::Monitor;
use poller::{Interest, Poller, Source};
use processes::Processes;
use session::Session;
pub(crate) use sockets::Listeners;
use spares::Spares;
use summary::Summary;
use throttle::Throttle;
use tokens::Tokens;
use vm::Vm;

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
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
}

/// Everything that the supervisor's thread knows.
pub(crate) struct Supervisor {
    config: Config,
    poller: Poller,
    mailbox: Arc<Mailbox>,
    processes: Processes,
    spares: Spares,
    information: Information,
    sessions: BTreeMap<u32, Session>,
    last_session: u32,
    tokens: Tokens,
    images: Images,
    spinning: Shares,
    vm: Option<Vm>,
    local: Option<Local>,
    monitor: Monitor,
    summary: Summary,
    /// For lines about what guests and clients have brought about.
    throttle: Throttle,
}

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
        if let Some(listener) = listeners.vhost_user {
            let mailbox = Arc::clone(&mailbox);
            std::thread::Builder::new()
                .name("vhost-user".to_owned())
                .spawn(move || device::serve(listener, &mailbox))
                .map_err(SupervisorError::Thread)?;
        }
        let images = Images::new(config.images).map_err(SupervisorError::Thread)?;
        let spinning = Shares::new(config.spin).map_err(descriptors)?;
        let mut supervisor = Self {
            config,
            poller,
            mailbox,
            processes: Processes::new(spawner),
            spares: Spares::default(),
            information,
            sessions: BTreeMap::new(),
            last_session: 0,
            tokens: Tokens::default(),
            images,
            spinning,
            vm: None,
            local,
            monitor: Monitor::default(),
            summary: Summary::default(),
            throttle: Throttle::default(),
        };
        supervisor.start_discovery();
        Ok(supervisor)
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
            Source::Monitor => self.monitor_has_answered(),
            Source::MonitorEnd => self.monitor_has_ended(),
            Source::Listener => self.clients_connect(),
            Source::Link(session) => self.worker_has_answered(session),
            Source::Worker(session) => self.worker_has_ended(session),
            Source::Call(session) => self.worker_calls(session),
            Source::Broker(session) => self.worker_asks(session),
            Source::Client(client) => self.client_has_sent(client),
        }
    }

    /// What follows from everything that has happened: deadlines, replies that waited for workers, events.
    fn settle(&mut self) {
        let now = Instant::now();
        let mut spawner_hangs = false;
        for (number, session) in &mut self.sessions {
            if session.expire(now) {
                self.throttle.log(format_args!("session {number}: the worker is late and has been killed"));
                spawner_hangs |= session.pidfd().is_none();
            }
        }
        if spawner_hangs {
            self.spawner_hangs();
        }
        self.settle_processes(now);
        self.settle_monitor(now);
        self.settle_spares(now);
        self.settle_summary(now);
        self.expire_clients(now);
        self.settle_vm();
    }

    fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.sessions.values().filter_map(Session::deadline);
        let clients = self.local.as_ref().and_then(Local::next_deadline);
        let processes = self.processes.deadline().into_iter().chain(self.monitor.deadline());
        let processes = processes.chain(self.spares.deadline()).chain(self.summary.deadline());
        sessions.chain(processes).chain(clients).chain(self.vm_deadline()).min()
    }
}

//! The spawner and the discovery process: started, watched, and started again.
//!
//! Either may die, be stopped or hang at any moment, and so may whatever made them do so go away again: a host without
//! memory gets some, a GPU that was reset comes back. A spawner that is gone, or does not answer, is replaced: at once,
//! later with pauses, and at most five times a minute. Discovery is repeated until there is a device, with pauses that
//! double, and after a worker's unexpected death, which may be that of the GPU. Nothing here waits.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Signal, WaitId, WaitIdOptions},
};
use virtio_spec::{
    control::{EventType, Status},
    device::State,
};

use crate::{
    spawner::{self, Ended, Spawner},
    supervisor::{
        Supervisor,
        budget::Budget,
        discovery::{self, Information},
        monitor,
        poller::{Interest, Source},
        session::Session,
    },
};

/// How long the spawner may take to clone a process, which takes milliseconds.
pub(crate) const SPAWN_TIME: Duration = Duration::from_secs(5);

/// How long the discovery process may take to end when it has written everything.
const END_TIME: Duration = Duration::from_secs(2);

/// The pause before the second start of a spawner in a minute; it doubles with each. The first comes at once.
const SPAWNER_PAUSE: Duration = Duration::from_millis(100);

/// The first pause before discovery is repeated; it doubles up to [`LONGEST_PAUSE`].
const DISCOVERY_PAUSE: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The spawner's token of the discovery process; sessions count from 1.
const DISCOVERY_TOKEN: u32 = 0;

/// A discovery process, until it has been reaped and read to the end.
struct Discovery {
    /// What it writes to; nothing more is read when it has been read to its end, or the process is given up.
    pipe: Option<OwnedFd>,
    /// While it runs, as far as is known.
    pidfd: Option<OwnedFd>,
    /// Whether it has run and ended.
    reaped: bool,
    written: Vec<u8>,
    /// When it is given up.
    deadline: Option<Instant>,
}

/// The supervisor's processes but for the workers.
#[derive(Default)]
pub(crate) struct Processes {
    spawner: Option<Spawner>,
    starts: Budget,
    /// When the spawner is started again.
    spawner_due: Option<Instant>,
    /// Spawners that have been given up and not been reaped.
    given_up: Vec<Ended>,
    discovery: Option<Discovery>,
    /// When discovery is repeated.
    discovery_due: Option<Instant>,
    /// Discoveries in sequence that found no device.
    failures: u32,
    looks: Budget,
    /// The driver that first had a device. Whatever becomes of it, no other one takes its place: a GPU that is lost
    /// must not turn into the software's.
    driver: Option<u32>,
}

impl Processes {
    /// With the spawner that was started first.
    pub(crate) fn new(spawner: Spawner) -> Self {
        Self { spawner: Some(spawner), ..Self::default() }
    }

    /// The spawner, if there is one now.
    pub(crate) fn spawner(&self) -> Option<&Spawner> {
        self.spawner.as_ref()
    }

    /// Whether devices of a driver may be offered.
    fn keeps_to(&mut self, driver: u32) -> bool {
        *self.driver.get_or_insert(driver) == driver
    }

    /// When [`Supervisor::settle_processes`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let discovery = match &self.discovery {
            Some(discovery) => discovery.deadline,
            None => self.discovery_due.filter(|_| self.spawner.is_some()),
        };
        discovery.into_iter().chain(self.spawner_due).min()
    }
}

impl Supervisor {
    /// What has become due.
    pub(crate) fn settle_processes(&mut self, now: Instant) {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        self.processes.given_up.retain_mut(|ended| !ended.is_reaped());
        if due(self.processes.spawner_due) {
            self.start_spawner(now);
        }
        match &self.processes.discovery {
            Some(discovery) if due(discovery.deadline) => match (&discovery.pipe, &discovery.pidfd) {
                (Some(_), None) if !discovery.reaped => self.spawner_hangs(),
                (Some(_), _) => self.discovery_fails("it takes too long"),
                (None, _) => self.stop_discovery(),
            },
            None if due(self.processes.discovery_due) && self.processes.spawner.is_some() => {
                self.start_discovery();
            }
            _ => {}
        }
    }

    pub(crate) fn spawner_has_answered(&mut self) {
        loop {
            let Some(spawner) = &self.processes.spawner else { return };
            match spawner.answer() {
                Ok(Some((answer, pidfd))) => match pidfd {
                    Some(pidfd) if answer.error == 0 => self.process_runs(answer.token, pidfd),
                    _ => self.process_does_not_run(answer.token, answer.error),
                },
                Err(Errno::AGAIN) => return,
                Ok(None) => return self.spawner_is_lost("it has ended"),
                Err(error) => return self.spawner_is_lost(&error.to_string()),
            }
        }
    }

    /// The spawner has not answered in time: it is stopped, or the host is in a state in which nothing can be started.
    pub(crate) fn spawner_hangs(&mut self) {
        if self.processes.spawner.is_some() {
            self.spawner_is_lost("it does not answer");
        }
    }

    /// Whatever the spawner was asked for and has not answered will not come: sessions end, discovery begins anew.
    fn spawner_is_lost(&mut self, why: &str) {
        let Some(spawner) = self.processes.spawner.take() else { return };
        self.poller.remove(&spawner);
        self.processes.given_up.push(spawner.give_up());
        self.stop_discovery();
        self.monitor_without_process_ends();
        self.sessions_without_process_end();
        self.forget_spares_without_process();
        let now = Instant::now();
        let taken = self.processes.starts.taken();
        let state = match self.processes.starts.take(now) {
            Ok(()) => {
                let doublings = u32::try_from(taken).unwrap_or(u32::MAX).saturating_sub(1);
                let pause = SPAWNER_PAUSE.saturating_mul(2_u32.saturating_pow(doublings));
                let pause = if taken == 0 { Duration::ZERO } else { pause };
                log::error!("the spawner is lost and will be started again in {pause:?}: {why}");
                self.processes.spawner_due = now.checked_add(pause);
                State::Starting
            }
            Err(due) => {
                log::error!("the spawner is lost too often; no sessions can be made for a while: {why}");
                self.processes.spawner_due = Some(due);
                State::Failed
            }
        };
        self.change(Information::without_devices(state, self.information.generation));
    }

    fn start_spawner(&mut self, now: Instant) {
        self.processes.spawner_due = None;
        let started =
            Spawner::start(&self.config).map_err(|error| crate::chain(&error)).and_then(|spawner| {
                let watched = self.poller.add(&spawner, Source::Spawner, Interest::Read);
                watched.map(|()| spawner).map_err(|error| error.to_string())
            });
        match started {
            Ok(spawner) => {
                log::info!("the spawner has been started again");
                self.processes.spawner = Some(spawner);
                self.processes.failures = 0;
                self.processes.discovery_due = Some(now);
                if self.information.state == State::Failed {
                    let generation = self.information.generation;
                    self.change(Information::without_devices(State::Starting, generation));
                }
            }
            Err(why) => {
                log::error!("the spawner cannot be started again: {why}");
                self.processes.spawner_due = now.checked_add(LONGEST_PAUSE);
                self.change(Information::without_devices(State::Failed, self.information.generation));
            }
        }
    }

    fn process_runs(&mut self, token: u32, pidfd: OwnedFd) {
        if token == monitor::TOKEN {
            return self.monitor_runs(pidfd);
        }
        if token != DISCOVERY_TOKEN {
            if let Some(pidfd) = self.spare_runs(token, pidfd) {
                self.worker_runs(token, pidfd);
            }
            return;
        }
        let Some(discovery) = &mut self.processes.discovery else { return };
        if let Err(error) = self.poller.add(&pidfd, Source::DiscoveryEnd, Interest::Read) {
            log::error!("the discovery process cannot be waited for: {error}");
        }
        discovery.pidfd = Some(pidfd);
        discovery.deadline = Instant::now().checked_add(self.config.limits.discovery_time());
    }

    fn process_does_not_run(&mut self, token: u32, error: i32) {
        let error = io::Error::from_raw_os_error(error);
        if token == DISCOVERY_TOKEN {
            self.discovery_fails(&error.to_string());
        } else if token == monitor::TOKEN {
            self.monitor_without_process_ends();
            self.monitor_fails(&error.to_string());
        } else if !self.spare_does_not_run(token) {
            log::error!("session {token}: no worker: {error}");
            self.session_is_gone(token, "there was no worker");
        }
    }

    /// Asks for the devices anew, if that has not been done too often: the host's GPU may be gone.
    pub(crate) fn look_again(&mut self) {
        let now = Instant::now();
        if self.information.state == State::Ready
            && self.processes.discovery_due.is_none()
            && self.processes.looks.take(now).is_ok()
        {
            self.processes.discovery_due = Some(now);
        }
    }

    pub(crate) fn start_discovery(&mut self) {
        self.processes.discovery_due = None;
        if let Err(error) = self.try_discovery() {
            self.discovery_fails(&error.to_string());
        }
    }

    fn try_discovery(&mut self) -> rustix::io::Result<()> {
        let spawner = self.processes.spawner.as_ref().ok_or(Errno::SRCH)?;
        let (pipe, written) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        self.poller.add(&pipe, Source::Discovery, Interest::Read)?;
        let request = spawner::Request {
            token: DISCOVERY_TOKEN,
            kind: spawner::Kind::Discovery as u32,
            driver: 0,
            flags: 0,
            max_connections: 0,
            device: 0,
        };
        if let Err(error) = spawner.request(&request, written.as_fd()) {
            self.poller.remove(&pipe);
            return Err(error);
        }
        let deadline = Instant::now().checked_add(SPAWN_TIME);
        self.processes.discovery =
            Some(Discovery { pipe: Some(pipe), pidfd: None, reaped: false, written: Vec::new(), deadline });
        Ok(())
    }

    pub(crate) fn discovery_has_written(&mut self) {
        let Some(discovery) = &mut self.processes.discovery else { return };
        let Some(pipe) = &discovery.pipe else { return };
        let mut buffer = [0; 4096];
        match rustix::io::read(pipe, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.discovery_fails(&error.to_string()),
            Ok(0) => {
                self.poller.remove(pipe);
                discovery.pipe = None;
                discovery.deadline = Instant::now().checked_add(END_TIME);
                let written = std::mem::take(&mut discovery.written);
                if discovery.reaped {
                    self.processes.discovery = None;
                }
                let generation = self.information.generation;
                match Information::parse(&written, self.config.drivers.len(), generation) {
                    Ok(information) => self.discovered(information),
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

    fn discovered(&mut self, mut information: Information) {
        if information.state == State::Ready && !self.processes.keeps_to(information.driver) {
            log::warn!("the driver that had devices has none any more; another one does not take its place");
            information = Information::without_devices(State::NoGpu, information.generation);
        }
        if information.state == State::Ready {
            self.processes.failures = 0;
        } else {
            self.repeat_discovery();
        }
        self.change(information);
    }

    fn discovery_fails(&mut self, why: &str) {
        let known = self.information.state == State::Failed;
        let level = if known { log::Level::Debug } else { log::Level::Error };
        log::log!(level, "the CUDA driver cannot be asked for its devices: {why}");
        self.stop_discovery();
        self.repeat_discovery();
        self.change(Information::without_devices(State::Failed, self.information.generation));
    }

    fn repeat_discovery(&mut self) {
        let pause = DISCOVERY_PAUSE.saturating_mul(2_u32.saturating_pow(self.processes.failures.min(16)));
        self.processes.failures = self.processes.failures.saturating_add(1);
        self.processes.discovery_due = Instant::now().checked_add(pause.min(LONGEST_PAUSE));
    }

    /// Ends the discovery process; the next one is started when it has been reaped.
    fn stop_discovery(&mut self) {
        let Some(discovery) = &mut self.processes.discovery else { return };
        if let Some(pipe) = discovery.pipe.take() {
            self.poller.remove(&pipe);
        }
        discovery.deadline = None;
        match &discovery.pidfd {
            Some(pidfd) => {
                // It may have ended by itself meanwhile.
                let _sent = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
            }
            None => self.processes.discovery = None,
        }
    }

    pub(crate) fn discovery_has_ended(&mut self) {
        let Some(discovery) = &mut self.processes.discovery else { return };
        let Some(pidfd) = &discovery.pidfd else { return };
        let reaped = rustix::process::waitid(
            WaitId::PidFd(pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
        if matches!(reaped, Ok(None)) {
            return;
        }
        log::debug!("discovery has ended: {reaped:?}");
        self.poller.remove(pidfd);
        discovery.pidfd = None;
        discovery.reaped = true;
        // What it wrote before is still read from the pipe, to its end.
        if discovery.pipe.is_none() {
            self.processes.discovery = None;
        }
    }

    /// Makes device information known, if it is new.
    fn change(&mut self, mut information: Information) {
        information.set_generation(self.information.generation);
        if information == self.information {
            return;
        }
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
        self.renew_spares();
        self.event(0, EventType::Config);
    }

    /// Ends sessions whose worker will never come to be; whoever wants one may ask again.
    fn sessions_without_process_end(&mut self) {
        let numbers: Vec<u32> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.pidfd().is_none())
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let starts = self.sessions.get(&number).is_some_and(Session::is_starting);
            if starts {
                self.session_is_not_made(number, Status::Again);
            } else {
                self.session_is_gone(number, "its process is lost");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_had_a_device_is_not_replaced() {
        let mut processes = Processes::default();
        assert!(processes.keeps_to(0));
        assert!(!processes.keeps_to(1), "the software's driver, after the host's has lost its GPU");
        assert!(processes.keeps_to(0), "the GPU is back");
    }
}

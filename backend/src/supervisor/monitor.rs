//! What the devices are doing: asked of a process of its own, answered from memory.
//!
//! STATUS is answered at once: with the numbers of a moment ago, with AGAIN while the first are on their way, or without
//! numbers where the process fails. The process runs while somebody asks, and is asked a few times a second at most,
//! however many ask.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
    process::{Signal, WaitId, WaitIdOptions},
};
use virtio_spec::{
    control::Status,
    device::State,
    info::{self, DeviceRecord},
    management::{MAX_PROCESSES, ProcessUse, Quantities, StatusReply},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::{
    management::{ANSWER_BYTES, Question, QuestionedDevice},
    packet, spawner,
    supervisor::{
        Supervisor,
        poller::{Interest, Source},
        session::Owner,
    },
};

/// The spawner's token of the process; sessions count from 1 and discovery is 0.
pub(crate) const TOKEN: u32 = u32::MAX;

/// Numbers younger than this are not asked for anew.
const FRESH: Duration = Duration::from_millis(200);

/// Numbers older than this are not told any more.
const STALE: Duration = Duration::from_secs(2);

/// How long the process may take for its start and for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How long nothing is asked of a process that has failed.
const REST_TIME: Duration = Duration::from_secs(30);

/// How long a process that nobody needs is kept.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// The process.
struct Process {
    /// Nothing more is asked of it when this is gone.
    socket: Option<OwnedFd>,
    /// While it runs, as far as is known.
    pidfd: Option<OwnedFd>,
}

/// What it said last.
struct Numbers {
    taken: Instant,
    generation: u32,
    devices: Vec<Quantities>,
    /// With sessions instead of process IDs.
    uses: Vec<ProcessUse>,
}

/// The process and what it has said.
#[derive(Default)]
pub(crate) struct Monitor {
    process: Option<Process>,
    /// Since when an answer is waited for, and the sessions by their workers' process IDs.
    asked: Option<(Instant, BTreeMap<u32, u32>)>,
    numbers: Option<Numbers>,
    wanted: Option<Instant>,
    rests_until: Option<Instant>,
}

impl Monitor {
    /// When [`Supervisor::settle_monitor`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let process = self.process.as_ref()?;
        process.socket.as_ref()?;
        match &self.asked {
            Some((since, _)) => since.checked_add(ANSWER_TIME),
            None => self.wanted?.checked_add(IDLE_TIME),
        }
    }
}

impl Supervisor {
    /// The reply to STATUS for whoever asks, if it fits into `room` bytes.
    pub(crate) fn status_for(&mut self, owner: Owner, room: usize) -> Result<Vec<u8>, Status> {
        match self.information.state {
            State::Starting => return Err(Status::Again),
            State::Failed => return Err(Status::Failed),
            State::Ready | State::NoGpu => {}
        }
        let now = Instant::now();
        self.monitor.wanted = Some(now);
        let generation = self.information.generation;
        let age = |numbers: &Numbers| now.saturating_duration_since(numbers.taken);
        let current =
            self.monitor.numbers.as_ref().filter(|numbers| numbers.generation == generation).map(age);
        let rests = self.monitor.rests_until.is_some_and(|until| now < until);
        if !rests && self.monitor.asked.is_none() && current.is_none_or(|age| age >= FRESH) {
            self.ask_monitor(now);
        }
        if current.is_some_and(|age| age < STALE) {
            return self.reply(owner, room);
        }
        if self.monitor.asked.is_some() {
            return Err(Status::Again);
        }
        // Nothing can be known at present: a reply in which nothing is.
        let head = StatusReply { generation, device_count: 0, process_count: 0, reserved: 0 };
        if room < size_of_val(&head) { Err(Status::Invalid) } else { Ok(head.as_bytes().to_vec()) }
    }

    /// The numbers, with those processes that the asking side has made.
    fn reply(&self, owner: Owner, room: usize) -> Result<Vec<u8>, Status> {
        let numbers = self.monitor.numbers.as_ref().ok_or(Status::Again)?;
        let head_bytes = size_of::<StatusReply>().saturating_add(size_of_val(numbers.devices.as_slice()));
        let room = room.checked_sub(head_bytes).ok_or(Status::Invalid)?;
        let most = room.checked_div(size_of::<ProcessUse>()).unwrap_or(0).min(MAX_PROCESSES);
        let uses: Vec<ProcessUse> = numbers
            .uses
            .iter()
            .filter_map(|one| {
                let session = self.sessions.get(&one.process)?;
                session.owner.shares_with(owner).then_some(ProcessUse { process: session.process, ..*one })
            })
            .take(most)
            .collect();
        let head = StatusReply {
            generation: numbers.generation,
            device_count: u32::try_from(numbers.devices.len()).unwrap_or(0),
            process_count: u32::try_from(uses.len()).unwrap_or(0),
            reserved: 0,
        };
        Ok([head.as_bytes(), numbers.devices.as_bytes(), uses.as_bytes()].concat())
    }

    fn ask_monitor(&mut self, now: Instant) {
        if self.monitor.process.as_ref().is_some_and(|process| process.socket.is_none()) {
            // The one before has not ended yet.
            return;
        }
        if self.monitor.process.is_none()
            && let Err(error) = self.start_monitor()
        {
            return self.monitor_fails(&error.to_string());
        }
        let (question, workers) = self.question();
        let socket = self.monitor.process.as_ref().and_then(|process| process.socket.as_ref());
        let Some(socket) = socket else { return };
        match packet::send(socket, &question, &[], SendFlags::DONTWAIT) {
            Ok(()) => self.monitor.asked = Some((now, workers)),
            Err(error) => self.monitor_fails(&error.to_string()),
        }
    }

    fn start_monitor(&mut self) -> rustix::io::Result<()> {
        let spawner = self.processes.spawner().ok_or(Errno::SRCH)?;
        let (socket, other) = packet::pair()?;
        self.poller.add(&socket, Source::Monitor, Interest::Read)?;
        let kind = spawner::Kind::Monitor as u32;
        let request =
            spawner::Request { token: TOKEN, kind, driver: 0, flags: 0, max_connections: 0, device: 0 };
        if let Err(error) = spawner.request(&request, other.as_fd()) {
            self.poller.remove(&socket);
            return Err(error);
        }
        self.monitor.process = Some(Process { socket: Some(socket), pidfd: None });
        Ok(())
    }

    /// The question, and the sessions by their workers' process IDs.
    fn question(&self) -> (Vec<u8>, BTreeMap<u32, u32>) {
        let record_bytes = usize::try_from(info::RECORD_BYTES).unwrap_or(usize::MAX);
        let records = self.information.bytes.chunks(record_bytes).skip(1);
        let devices: Vec<QuestionedDevice> = records
            .filter_map(|bytes| DeviceRecord::read_from_prefix(bytes).ok())
            .map(|(record, _)| QuestionedDevice { uuid: record.uuid, memory: record.total_memory })
            .collect();
        let workers: BTreeMap<u32, u32> = self
            .sessions
            .iter()
            .filter_map(|(number, session)| Some((process_of(session.pidfd()?)?, *number)))
            .take(MAX_PROCESSES)
            .collect();
        let head = Question {
            generation: self.information.generation,
            devices: u32::try_from(devices.len()).unwrap_or(0),
            workers: u32::try_from(workers.len()).unwrap_or(0),
            reserved: 0,
        };
        let processes: Vec<u32> = workers.keys().copied().collect();
        ([head.as_bytes(), devices.as_bytes(), processes.as_bytes()].concat(), workers)
    }

    /// The process runs.
    pub(crate) fn monitor_runs(&mut self, pidfd: OwnedFd) {
        if let Err(error) = self.poller.add(&pidfd, Source::MonitorEnd, Interest::Read) {
            log::error!("the monitor cannot be waited for: {error}");
        }
        let process = self.monitor.process.get_or_insert(Process { socket: None, pidfd: None });
        if process.socket.is_none() {
            // It has been given up meanwhile.
            let _sent = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        }
        process.pidfd = Some(pidfd);
    }

    /// The process has said something, or closed its end.
    pub(crate) fn monitor_has_answered(&mut self) {
        let socket = self.monitor.process.as_ref().and_then(|process| process.socket.as_ref());
        let Some(socket) = socket else { return };
        let mut buffer = vec![0; ANSWER_BYTES];
        match packet::receive(socket, &mut buffer, 0, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => {}
            Ok(Some(packet)) if !packet.truncated => {
                let Some((taken, workers)) = self.monitor.asked.take() else {
                    return self.monitor_fails("it speaks without being asked");
                };
                let parsed = parse(buffer.get(..packet.length).unwrap_or_default(), taken, &workers);
                match parsed {
                    Some(numbers) => self.monitor.numbers = Some(numbers),
                    None => self.monitor_fails("its answer is not what is expected"),
                }
            }
            Ok(Some(_)) => self.monitor_fails("its answer is too long"),
            Ok(None) => self.monitor_fails("it has ended"),
            Err(error) => self.monitor_fails(&error.to_string()),
        }
    }

    /// The process has ended.
    pub(crate) fn monitor_has_ended(&mut self) {
        let Some(process) = &mut self.monitor.process else { return };
        let Some(pidfd) = &process.pidfd else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let reaped = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options);
        if matches!(reaped, Ok(None)) {
            return;
        }
        self.poller.remove(pidfd);
        let unexpected = process.socket.is_some();
        if let Some(socket) = process.socket.take() {
            self.poller.remove(&socket);
        }
        self.monitor.process = None;
        if unexpected {
            self.monitor_fails("it has ended");
        }
    }

    /// Numbers cannot be had for a while.
    pub(crate) fn monitor_fails(&mut self, why: &str) {
        log::warn!("the devices cannot be monitored for a while: {why}");
        self.monitor.rests_until = Instant::now().checked_add(REST_TIME);
        self.stop_monitor();
    }

    /// Nothing more is asked of the process, which ends.
    fn stop_monitor(&mut self) {
        self.monitor.asked = None;
        let Some(process) = &mut self.monitor.process else { return };
        if let Some(socket) = process.socket.take() {
            self.poller.remove(&socket);
        }
        if let Some(pidfd) = &process.pidfd {
            // It may have ended by itself meanwhile.
            let _sent = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
    }

    /// What the spawner has not answered will not come.
    pub(crate) fn monitor_without_process_ends(&mut self) {
        if self.monitor.process.as_ref().is_some_and(|process| process.pidfd.is_none()) {
            self.stop_monitor();
            self.monitor.process = None;
        }
    }

    /// What has become due.
    pub(crate) fn settle_monitor(&mut self, now: Instant) {
        if self.monitor.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.monitor.asked.is_some() {
            self.monitor_fails("it takes too long");
        } else {
            self.stop_monitor();
        }
    }
}

fn parse(bytes: &[u8], taken: Instant, workers: &BTreeMap<u32, u32>) -> Option<Numbers> {
    let (head, rest) = StatusReply::read_from_prefix(bytes).ok()?;
    let devices = usize::try_from(head.device_count).ok()?.checked_mul(size_of::<Quantities>())?;
    let (devices, uses) = rest.split_at_checked(devices)?;
    let devices = devices
        .chunks(size_of::<Quantities>())
        .map(|bytes| Quantities::read_from_bytes(bytes).ok())
        .collect::<Option<_>>()?;
    let uses: Vec<ProcessUse> = uses
        .chunks(size_of::<ProcessUse>())
        .map(|bytes| ProcessUse::read_from_bytes(bytes).ok())
        .collect::<Option<_>>()?;
    let uses = uses
        .into_iter()
        .filter_map(|one| Some(ProcessUse { process: *workers.get(&one.process)?, ..one }))
        .collect();
    Some(Numbers { taken, generation: head.generation, devices, uses })
}

/// The process ID that a pidfd stands for, while it runs.
fn process_of(pidfd: BorrowedFd<'_>) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(devices: u32, uses: &[ProcessUse]) -> Vec<u8> {
        let process_count = u32::try_from(uses.len()).unwrap();
        let head = StatusReply { generation: 3, device_count: devices, process_count, reserved: 0 };
        [head.as_bytes(), Quantities::default().as_bytes(), uses.as_bytes()].concat()
    }

    #[test]
    fn processes_that_are_no_workers_are_not_told() {
        let one = ProcessUse { device: 0, process: 100, memory: 1, utilization: 2, reserved: 0 };
        let bytes = answer(1, &[one, ProcessUse { process: 101, ..one }]);
        let numbers = parse(&bytes, Instant::now(), &BTreeMap::from([(101, 7)])).unwrap();
        assert_eq!((numbers.generation, numbers.devices.len()), (3, 1));
        assert_eq!(numbers.uses, [ProcessUse { process: 7, ..one }], "a session instead of a process");
    }

    #[test]
    fn what_the_process_says_is_not_believed() {
        for bytes in [Vec::new(), answer(2, &[]), answer(u32::MAX, &[]), [answer(1, &[]), vec![0]].concat()] {
            assert!(parse(&bytes, Instant::now(), &BTreeMap::new()).is_none());
        }
    }

    #[test]
    fn a_pidfd_stands_for_a_process() {
        let own = rustix::process::getpid();
        let pidfd = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()).unwrap();
        assert_eq!(process_of(pidfd.as_fd()), Some(own.as_raw_nonzero().get().unsigned_abs()));
    }
}

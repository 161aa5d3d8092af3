//! How lanes wait for requests: for how long they look at an empty ring, and that they then sleep.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use protocol_tests::{
    PATIENCE,
    backend::Backend,
    local::{Client, Session},
    message,
    ring::{Places, Ring, WRITE},
};
use rustix::process::Pid;
use virtio_spec::session::{LaneState, RequestHeader};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// A lane whose calls are answered.
struct Caller {
    session: Session,
    lane: Ring,
    calls: u16,
    worker: Pid,
    _client: Client,
}

impl Caller {
    /// With a lane that has answered once, so that it has a thread.
    fn start(backend: &Backend) -> Result<Self> {
        let before = backend.workers()?;
        let client = Client::connect(&backend.local_socket())?;
        let session = client.create_session()?;
        let worker = backend.workers()?.into_iter().find(|worker| !before.contains(worker));
        let layout = message::layout();
        let places = Places {
            descriptors: layout.descriptors(0),
            available: layout.available(0),
            used: layout.used(0),
        };
        let lane = Ring::new(Arc::clone(&session.memory.memory), layout.queue_size(), places);
        session.memory.memory.write_obj(LaneState::Open as u32, GuestAddress(layout.lane(0)))?;
        let worker = worker.context("a worker")?;
        let mut caller = Self { session, lane, calls: 0, worker, _client: client };
        caller.call()?;
        caller.wait_for_sleep()?;
        Ok(caller)
    }

    /// A call that does not exist, which is answered all the same. The worker is kicked if it wants to be.
    fn call(&mut self) -> Result<()> {
        let layout = message::layout();
        let memory = &self.session.memory.memory;
        self.calls += 1;
        let mut header = RequestHeader::new_zeroed();
        header.opcode = u32::MAX;
        header.sequence = self.calls.into();
        let (request, response) = (layout.slot(0, 0), layout.slot(0, 1));
        memory.write_slice(header.as_bytes(), GuestAddress(request))?;
        self.lane.chain(0, &[(request, 32, 0), (response, 64, WRITE)]);
        if self.lane.offer(0) {
            self.session.kick()?;
        }
        let start = Instant::now();
        while self.lane.used().is_none() {
            ensure!(start.elapsed() < PATIENCE, "call {} is not answered", self.calls);
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Until the lane wants to be kicked for the next call.
    fn wait_for_sleep(&self) -> Result<()> {
        let start = Instant::now();
        while self.lane.available_event() != self.calls {
            ensure!(start.elapsed() < PATIENCE, "the lane does not go to sleep");
            std::thread::yield_now();
        }
        Ok(())
    }

    /// How long the worker's lanes have been on a processor.
    fn lanes_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.worker))? {
            let task = task?.path();
            if fs::read_to_string(task.join("comm"))?.starts_with("lane-") {
                let times = fs::read_to_string(task.join("schedstat"))?;
                nanoseconds += times.split(' ').next().context("a time")?.parse::<u64>()?;
            }
        }
        ensure!(nanoseconds > 0, "there is a lane, and it has worked");
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Calls in a row, until the lane spins for long after one: its thread is on a processor with nothing to do.
    fn until_it_spins(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            let before = self.lanes_time()?;
            self.call()?;
            self.call()?;
            self.wait_for_sleep()?;
            if self.lanes_time()? - before >= Duration::from_millis(4) {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "it does not spin");
        }
    }

    /// How much of a processor calls take, each with the lane's spinning after it, and at least so long before the next.
    fn time_of(&mut self, calls: u32, pause: Duration) -> Result<Duration> {
        let before = self.lanes_time()?;
        for _ in 0..calls {
            self.call()?;
            wait(pause);
            self.wait_for_sleep()?;
        }
        Ok(self.lanes_time()? - before)
    }
}

/// Lets time pass in which the test does nothing else.
fn wait(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::thread::yield_now();
    }
}

#[test]
fn without_spinning_calls_are_answered_and_an_idle_worker_takes_no_processor() -> Result<()> {
    let mut backend = Backend::start_with("[spin]\nmicroseconds = 0")?;
    let mut caller = Caller::start(&backend)?;
    let each = caller.time_of(50, Duration::ZERO)? / 50;
    ensure!(each < Duration::from_millis(1), "a call takes {each:?} without spinning");

    // Some of its wake-ups by the clock are in this time.
    const IDLE: Duration = Duration::from_millis(250);
    let before = caller.lanes_time()?;
    wait(IDLE);
    let taken = caller.lanes_time()? - before;
    ensure!(taken < IDLE / 100, "an idle lane has run for {taken:?} of {IDLE:?}");
    caller.call()?;
    backend.is_alive()
}

#[test]
fn a_lane_spins_as_long_as_the_operator_says_where_that_helps() -> Result<()> {
    let backend = Backend::start_with("[spin]\nmicroseconds = 10000")?;
    let mut caller = Caller::start(&backend)?;
    caller.until_it_spins()?;
    // Each call comes too late, so the lane looks half as long the next time.
    const LATE: Duration = Duration::from_millis(11);
    caller.time_of(16, LATE)?;
    let each = caller.time_of(8, LATE)? / 8;
    ensure!(each < Duration::from_millis(1), "the lane still spins for {each:?} in vain");
    caller.until_it_spins()
}

#[test]
fn places_are_free_again_when_a_session_has_died_spinning() -> Result<()> {
    let backend = Backend::start_with("[spin]\nmicroseconds = 10000\nthreads = 1")?;
    let mut lost = Caller::start(&backend)?;
    let mut other = Caller::start(&backend)?;
    // Most likely while it spins; whatever it does then, the other one has the place afterwards.
    lost.call()?;
    rustix::process::kill_process(lost.worker, rustix::process::Signal::KILL)?;
    backend.wait_for_workers(1)?;
    other.until_it_spins()
}

#[test]
fn wrong_settings_are_refused() -> Result<()> {
    for (line, why) in [
        ("microseconds = 10001", "spin.microseconds is 10001; it must be from 0 to 10000"),
        ("threads = 0", "spin.threads is 0; it must be from 1 to 32768"),
    ] {
        let error = Backend::start_with(&format!("[spin]\n{line}")).err().context("it starts")?;
        ensure!(format!("{error:#}").contains(why), "{error:#}");
    }
    Ok(())
}

//! The supervisor's own processes die, are stopped, and come back; so does the GPU.

use std::{
    mem::offset_of,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use protocol_tests::{
    PATIENCE,
    backend::Backend,
    local::{Client, Session},
    message,
    ring::{Places, Ring, WRITE},
    vm::{self, Vm},
};
use rustix::process::Signal;
use virtio_spec::{
    control::{EventType, Extent, HelloReply, Status},
    device::State,
    session::{LaneState, RequestHeader, SessionHeader, WorkerState},
};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// How long a request may take while something hangs: well below what a guest takes for a dead device, and above the
/// five seconds that a spawner has.
const BOUND: Duration = Duration::from_secs(10);

fn hello(vm: &mut Vm) -> Result<HelloReply> {
    vm.ask(&message::hello(1))?.structure()
}

/// A VM whose driver has said hello.
fn greeted(backend: &Backend) -> Result<Vm> {
    let mut vm = Vm::start(&backend.vm_socket())?;
    hello(&mut vm)?;
    Ok(vm)
}

/// Waits for the next change of the configuration.
fn change(vm: &mut Vm) -> Result<(u32, u32)> {
    loop {
        let event = vm.event()?;
        if event.kind == EventType::Config as u32 {
            let config = vm.config()?;
            return Ok((config.state, config.generation));
        }
    }
}

/// Waits until the device is in a state; it says so by itself.
fn wait_for(vm: &mut Vm, state: State) -> Result<u32> {
    let start = Instant::now();
    loop {
        let config = vm.config()?;
        if config.state == state as u32 {
            return Ok(config.generation);
        }
        change(vm)?;
        ensure!(start.elapsed() < PATIENCE, "{state:?} does not come");
    }
}

/// What a program does that waits for the device: asks again as long as it is starting.
fn first_call(vm: &mut Vm, address: u64) -> Result<u32> {
    let start = Instant::now();
    loop {
        match create(vm, address)? {
            Status::Ok => return Ok(vm.config()?.generation),
            Status::Again => std::thread::yield_now(),
            status => anyhow::bail!("{status:?}"),
        }
        ensure!(start.elapsed() < PATIENCE, "no session");
    }
}

fn create(vm: &mut Vm, address: u64) -> Result<Status> {
    let length = message::layout().total_bytes();
    Ok(vm.ask(&message::session_create(length, &[Extent { address, length }]))?.status)
}

#[test]
fn a_spawner_that_dies_is_started_again() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let session = vm.create_session(vm::page(0))?;
    let before = vm.config()?.generation;
    let old = backend.signal_spawner(Signal::KILL)?;
    let (_, after) = change(&mut vm)?;
    ensure!(after > before);
    first_call(&mut vm, vm::page(64))?;
    ensure!(vm.config()?.generation > after, "the device information has been renewed");
    ensure!(vm.ask(&message::device_info(0, 16))?.payload.len() == 16);
    assert_eq!(vm.ask(&message::kick(session))?.status, Status::Ok, "earlier sessions go on");
    assert_eq!(vm.ask(&message::session_destroy(session))?.status, Status::Ok);
    ensure!(backend.signal_spawner(Signal::CONT)? != old);
    assert_eq!(backend.workers()?.len(), 1);
    backend.is_alive()
}

#[test]
fn a_spawner_may_die_before_the_vm_boots() -> Result<()> {
    let mut backend = Backend::start()?;
    backend.signal_spawner(Signal::KILL)?;
    let mut vm = greeted(&backend)?;
    first_call(&mut vm, vm::page(0))?;
    backend.is_alive()
}

#[test]
fn a_spawner_may_die_while_the_vm_boots() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = Vm::connect(&backend.vm_socket())?;
    vm.negotiate()?;
    backend.signal_spawner(Signal::KILL)?;
    vm.start_queues()?;
    vm.post_events(16)?;
    hello(&mut vm)?;
    first_call(&mut vm, vm::page(0))?;
    backend.is_alive()
}

#[test]
fn a_spawner_that_dies_often_is_given_up_for_a_while() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let session = vm.create_session(vm::page(0))?;
    for count in 1..=5 {
        backend.signal_spawner(Signal::KILL)?;
        backend.wait_for_lines("has been started again", count)?;
    }
    backend.signal_spawner(Signal::KILL)?;
    backend.wait_for_line("lost too often")?;
    wait_for(&mut vm, State::Failed)?;
    assert_eq!(create(&mut vm, vm::page(64))?, Status::Failed);
    assert_eq!(vm.ask(&message::kick(session))?.status, Status::Ok);
    assert_eq!(vm.ask(&message::session_destroy(session))?.status, Status::Ok);
    backend.is_alive()
}

#[test]
fn a_spawner_that_is_stopped_is_replaced() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let session = vm.create_session(vm::page(0))?;
    let client = Client::connect(&backend.local_socket())?;
    backend.signal_spawner(Signal::STOP)?;
    let start = Instant::now();
    let length = message::layout().total_bytes();
    vm.send(&message::session_create(length, &[Extent { address: vm::page(64), length }]))?;
    assert_eq!(client.ask(&message::device_info(0, 16), &[])?.status, Status::Ok);
    assert_eq!(vm.config()?.state, State::Ready as u32);
    ensure!(start.elapsed() < Duration::from_secs(2), "nobody else waits: {:?}", start.elapsed());
    let reply = message_status(&vm.used()?)?;
    assert_eq!(reply, Status::Again, "after {:?}", start.elapsed());
    ensure!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    first_call(&mut vm, vm::page(64))?;
    assert_eq!(vm.ask(&message::kick(session))?.status, Status::Ok);
    backend.is_alive()
}

fn message_status(bytes: &[u8]) -> Result<Status> {
    Ok(message::Reply::parse(bytes)?.status)
}

#[test]
fn a_client_waits_for_a_stopped_spawner_and_may_ask_again() -> Result<()> {
    let backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    backend.signal_spawner(Signal::STOP)?;
    let start = Instant::now();
    ensure!(client.create_session().is_err());
    ensure!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    while let Err(error) = client.create_session() {
        ensure!(start.elapsed() < PATIENCE, "{error:#}");
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn a_stopped_spawner_does_not_hold_up_a_pause_of_the_vm() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    backend.signal_spawner(Signal::STOP)?;
    let length = message::layout().total_bytes();
    vm.send(&message::session_create(length, &[Extent { address: vm::page(0), length }]))?;
    let start = Instant::now();
    vm.stop_queues()?;
    ensure!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    vm.reset()?;
    assert_eq!(vm.ask(&message::hello(2))?.status, Status::Ok);
    first_call(&mut vm, vm::page(0))?;
    backend.is_alive()
}

#[test]
fn a_discovery_that_dies_is_repeated() -> Result<()> {
    let mut backend = Backend::start_in_mode("", "hang")?;
    let mut vm = greeted(&backend)?;
    assert_eq!(create(&mut vm, vm::page(0))?, Status::Again);
    backend.signal_discovery(Signal::KILL)?;
    wait_for(&mut vm, State::Failed)?;
    assert_eq!(create(&mut vm, vm::page(0))?, Status::Failed);
    backend.set_driver_mode("works")?;
    wait_for(&mut vm, State::Ready)?;
    first_call(&mut vm, vm::page(0))?;
    backend.is_alive()
}

#[test]
fn a_discovery_that_is_stopped_is_given_up_and_repeated() -> Result<()> {
    let mut backend = Backend::start_in_mode("[limits]\ndiscovery-seconds = 1", "hang")?;
    backend.signal_discovery(Signal::STOP)?;
    let mut vm = greeted(&backend)?;
    let start = Instant::now();
    assert_eq!(create(&mut vm, vm::page(0))?, Status::Again);
    vm.config()?;
    ensure!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    backend.set_driver_mode("works")?;
    wait_for(&mut vm, State::Ready)?;
    first_call(&mut vm, vm::page(0))?;
    backend.is_alive()
}

#[test]
fn a_gpu_that_goes_and_comes_back_is_noticed() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    vm.create_session(vm::page(0))?;
    let before = vm.config()?.generation;
    backend.set_driver_mode("absent")?;
    // What a lost GPU does to a worker.
    backend.kill_worker()?;
    let gone = wait_for(&mut vm, State::NoGpu)?;
    ensure!(gone > before);
    assert_eq!(create(&mut vm, vm::page(0))?, Status::Failed);
    backend.set_driver_mode("works")?;
    ensure!(wait_for(&mut vm, State::Ready)? > gone);
    first_call(&mut vm, vm::page(0))?;
    backend.is_alive()
}

#[test]
fn the_death_of_a_worker_is_said_in_its_sessions_memory() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    vm.create_session(vm::page(0))?;
    let at = offset_of!(SessionHeader, worker_state) as u64;
    backend.kill_worker()?;
    while vm.event()?.kind != EventType::SessionDied as u32 {}
    let state: u32 = vm.memory.read_obj(GuestAddress(vm::page(0) + at))?;
    assert_eq!(state, WorkerState::Ended as u32);

    let client = Client::connect(&backend.local_socket())?;
    let session = client.create_session()?;
    backend.kill_worker()?;
    assert_eq!(client.receive()?, None);
    let state: u32 = session.memory.memory.read_obj(GuestAddress(at))?;
    assert_eq!(state, WorkerState::Ended as u32);
    Ok(())
}

#[test]
fn what_has_not_changed_is_not_announced() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    vm.create_session(vm::page(0))?;
    let before = vm.config()?.generation;
    backend.kill_worker()?;
    backend.wait_for_lines("discovery has ended", 2)?;
    vm.create_session(vm::page(0))?;
    assert_eq!(vm.config()?.generation, before);
    Ok(())
}

#[test]
fn a_worker_that_is_stopped_goes_on_later() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let session = vm.create_session(vm::page(0))?;
    let address = 0x5000_0000_0000;
    let extents = [Extent { address: vm::page(64), length: message::PAGE }];
    backend.signal_worker(Signal::STOP)?;
    vm.send(&message::map(session, 1, address, message::PAGE, &extents))?;
    assert_eq!(vm.config()?.state, State::Ready as u32, "nobody else waits");
    backend.signal_worker(Signal::CONT)?;
    assert_eq!(message_status(&vm.used()?)?, Status::Ok);
    backend.signal_worker(Signal::STOP)?;
    let start = Instant::now();
    assert_eq!(vm.ask(&message::session_destroy(session))?.status, Status::Ok);
    ensure!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    backend.wait_for_workers(0)?;
    backend.is_alive()
}

/// A session of a client with a call in its lane that no worker has seen yet.
fn with_a_call(client: &Client) -> Result<(Session, Ring)> {
    let session = client.create_session()?;
    let layout = message::layout();
    let places =
        Places { descriptors: layout.descriptors(0), available: layout.available(0), used: layout.used(0) };
    let mut lane = Ring::new(Arc::clone(&session.memory.memory), layout.queue_size(), places);
    let mut header = RequestHeader::new_zeroed();
    header.opcode = u32::MAX;
    header.sequence = 1;
    let (request, response) = (layout.slot(0, 0), layout.slot(0, 1));
    session.memory.memory.write_obj(LaneState::Open as u32, GuestAddress(layout.lane(0)))?;
    session.memory.memory.write_slice(header.as_bytes(), GuestAddress(request))?;
    lane.chain(0, &[(request, 32, 0), (response, 64, WRITE)]);
    lane.offer(0);
    Ok((session, lane))
}

fn wait_for_answer(lane: &mut Ring) -> Result<()> {
    let start = Instant::now();
    while lane.used().is_none() {
        ensure!(start.elapsed() < PATIENCE, "the call is not answered");
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn a_call_outlives_the_spawner_and_its_worker_s_stop() -> Result<()> {
    let mut backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    let (session, mut lane) = with_a_call(&client)?;
    backend.signal_worker(Signal::STOP)?;
    session.kick()?;
    backend.signal_spawner(Signal::KILL)?;
    backend.wait_for_lines("has been started again", 1)?;
    assert_eq!(lane.used().map(|used| used.head), None, "the worker is stopped");
    backend.signal_worker(Signal::CONT)?;
    wait_for_answer(&mut lane)?;
    assert_eq!(client.ask(&message::kick(session.number), &[])?.status, Status::Ok);
    backend.is_alive()
}

#[test]
fn a_worker_that_dies_during_a_call_costs_its_session_only() -> Result<()> {
    let mut backend = Backend::start()?;
    let others = Client::connect(&backend.local_socket())?;
    let client = Client::connect(&backend.local_socket())?;
    let (session, mut lane) = with_a_call(&client)?;
    let [stopped] = backend.wait_for_workers(1)?[..] else { anyhow::bail!("one worker") };
    rustix::process::kill_process(stopped, Signal::STOP)?;
    session.kick()?;
    let (other, mut other_lane) = with_a_call(&others)?;
    rustix::process::kill_process(stopped, Signal::KILL)?;
    assert_eq!(client.receive()?, None, "whose worker has died is disconnected");
    ensure!(lane.used().is_none());
    other.kick()?;
    wait_for_answer(&mut other_lane)?;
    let again = Client::connect(&backend.local_socket())?;
    let (session, mut lane) = with_a_call(&again)?;
    session.kick()?;
    wait_for_answer(&mut lane)?;
    backend.is_alive()
}

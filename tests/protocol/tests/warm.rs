//! Workers that are there before a session asks for one.

use std::{os::fd::AsFd as _, time::Instant};

use anyhow::{Result, ensure};
use protocol_tests::{
    PATIENCE,
    backend::Backend,
    local::{Client, Session, SessionMemory},
    message,
    vm::{self, Vm},
};
use rustix::{event::EventfdFlags, process::Pid, process::Signal};
use virtio_spec::{
    control::{Extent, SessionCreate, SessionCreateReply, SessionOptions, Status, Type},
    device::State,
    session::{SessionHeader, WorkerState},
};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::IntoBytes as _;

const TWO: &str = "[warm]\nworkers = 2";

/// Kicks a session, and waits until it is served.
fn serve(session: &Session) -> Result<()> {
    session.kick()?;
    let at = GuestAddress(std::mem::offset_of!(SessionHeader, worker_state) as u64);
    let start = Instant::now();
    while session.memory.memory.read_obj::<u32>(at)? != WorkerState::Serving as u32 {
        ensure!(start.elapsed() < PATIENCE, "the session is not served");
        std::thread::yield_now();
    }
    Ok(())
}

/// Waits until there are `count` of which none is one of `others`.
fn others(backend: &Backend, count: usize, known: &[Pid]) -> Result<Vec<Pid>> {
    let start = Instant::now();
    loop {
        let workers = backend.warm_workers()?;
        if workers.len() == count && workers.iter().all(|worker| !known.contains(worker)) {
            return Ok(workers);
        }
        ensure!(start.elapsed() < PATIENCE, "{workers:?} instead of {count} others than {known:?}");
        std::thread::yield_now();
    }
}

#[test]
fn none_by_default() -> Result<()> {
    let backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    serve(&client.create_session()?)?;
    assert_eq!((backend.workers()?.len(), backend.warm_workers()?.len()), (1, 0));
    Ok(())
}

#[test]
fn sessions_take_them_and_others_come() -> Result<()> {
    let mut backend = Backend::start_with(TWO)?;
    let first = backend.wait_for_warm_workers(2)?;
    let client = Client::connect(&backend.local_socket())?;
    let session = client.create_session()?;
    serve(&session)?;
    assert_eq!(backend.workers()?.len(), 0, "no cold one");
    let with_a_third = backend.wait_for_warm_workers(3)?;
    ensure!(first.iter().all(|worker| with_a_third.contains(worker)), "two as before and a new one");

    let mut vm = Vm::start(&backend.vm_socket())?;
    vm.ask(&message::hello(1))?;
    let length = message::layout().total_bytes();
    let create = message::session_create(length, &[Extent { address: vm::page(0), length }]);
    let of_vm = vm.ask(&create)?.structure::<SessionCreateReply>()?.session;
    ensure!(of_vm != session.number);
    backend.wait_for_warm_workers(4)?;
    assert_eq!(backend.workers()?.len(), 0);

    // A worker ends with its session, and serves no second one.
    drop(client);
    backend.wait_for_warm_workers(3)?;
    assert_eq!(vm.ask(&message::session_destroy(of_vm))?.status, Status::Ok);
    let left = backend.wait_for_warm_workers(2)?;
    ensure!(first.iter().all(|worker| !left.contains(worker)), "they have served");
    backend.is_alive()
}

#[test]
fn one_that_dies_is_replaced() -> Result<()> {
    let mut backend = Backend::start_with(TWO)?;
    let first = backend.wait_for_warm_workers(2)?;
    for worker in &first {
        rustix::process::kill_process(*worker, Signal::KILL)?;
    }
    let second = others(&backend, 2, &first)?;
    let client = Client::connect(&backend.local_socket())?;
    serve(&client.create_session()?)?;
    let with_a_third = backend.wait_for_warm_workers(3)?;
    ensure!(second.iter().all(|worker| with_a_third.contains(worker)), "one of them serves");
    backend.is_alive()
}

#[test]
fn one_that_is_stopped_holds_up_nobody_else() -> Result<()> {
    let mut backend = Backend::start_with("[warm]\nworkers = 1")?;
    let [spare] = backend.wait_for_warm_workers(1)?[..] else { unreachable!("there is one") };
    rustix::process::kill_process(spare, Signal::STOP)?;
    let waits = Client::connect(&backend.local_socket())?;
    let memory = SessionMemory::new()?;
    let kick = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    waits.send(&message::session_create(memory.length, &[]), &[memory.file.as_fd(), kick.as_fd()])?;
    others(&backend, 2, &[]).map(drop)?;
    let client = Client::connect(&backend.local_socket())?;
    serve(&client.create_session()?)?;
    rustix::process::kill_process(spare, Signal::CONT)?;
    let reply = waits.receive()?;
    assert_eq!(reply.map(|reply| reply.status), Some(Status::Ok));
    backend.is_alive()
}

#[test]
fn a_session_with_options_gets_its_own() -> Result<()> {
    let backend = Backend::start_with(TWO)?;
    backend.wait_for_warm_workers(2)?;
    let client = Client::connect(&backend.local_socket())?;
    let memory = SessionMemory::new()?;
    let kick = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let options = SessionOptions { max_connections: 8, ..SessionOptions::default() };
    let create = SessionCreate { length: memory.length, extent_count: 0, reserved: 0, options };
    let request = message::request(Type::SessionCreate, 0, &[create.as_bytes()]);
    let reply = client.ask(&request, &[memory.file.as_fd(), kick.as_fd()])?;
    assert_eq!(reply.status, Status::Ok);
    assert_eq!((backend.workers()?.len(), backend.warm_workers()?.len()), (1, 2));
    Ok(())
}

#[test]
fn they_are_renewed_with_the_devices() -> Result<()> {
    let mut backend = Backend::start_with(TWO)?;
    let first = backend.wait_for_warm_workers(2)?;
    let mut vm = Vm::start(&backend.vm_socket())?;
    vm.ask(&message::hello(1))?;
    backend.signal_spawner(Signal::KILL)?;
    others(&backend, 2, &first)?;
    assert_eq!(vm.config()?.state, State::Ready as u32);
    backend.is_alive()
}

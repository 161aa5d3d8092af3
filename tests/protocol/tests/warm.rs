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
fn one_by_default() -> Result<()> {
    Backend::start_with("[warm]")?.wait_for_warm_workers(1)?;
    Ok(())
}

#[test]
fn none_where_none_are_wanted() -> Result<()> {
    let backend = Backend::start_with("[warm]\nworkers = 0")?;
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

/// A session of a process that sees a device first.
fn session_on(client: &Client, device: u32) -> Result<Status> {
    let memory = SessionMemory::new()?;
    let kick = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let options = SessionOptions { device, ..SessionOptions::default() };
    let create = SessionCreate { length: memory.length, extent_count: 0, reserved: 0, options };
    let request = message::request(Type::SessionCreate, 0, &[create.as_bytes()]);
    Ok(client.ask(&request, &[memory.file.as_fd(), kick.as_fd()])?.status)
}

#[test]
fn one_with_a_context_is_taken_first_and_replaced() -> Result<()> {
    let mut backend = Backend::start_with("[warm]\nworkers = 1\ncontexts = 1")?;
    backend.wait_for_line("ready: 1 warm workers without a context, 1 with one; 0 images kept (0 MiB)")?;
    let [context] = backend.warm_contexts()?[..] else { anyhow::bail!("one with a context") };
    let [worker] = backend.warm_workers()?[..] else { anyhow::bail!("one without") };
    let client = Client::connect(&backend.local_socket())?;
    serve(&client.create_session()?)?;
    let with_another = backend.wait_for_warm_contexts(2)?;
    ensure!(with_another.contains(&context), "it serves");
    assert_eq!((backend.warm_workers()?, backend.workers()?.len()), (vec![worker], 0));
    // It ends with its session.
    drop(client);
    let left = backend.wait_for_warm_contexts(1)?;
    ensure!(!left.contains(&context), "it has served");
    backend.is_alive()
}

#[test]
fn a_context_is_for_those_who_use_its_device() -> Result<()> {
    let backend = Backend::start_with("[warm]\nworkers = 0\ncontexts = 1")?;
    backend.wait_for_line("ready: 0 warm workers without a context, 1 with one;")?;
    let other = Client::connect(&backend.local_socket())?;
    assert_eq!(session_on(&other, 1)?, Status::Ok);
    assert_eq!((backend.workers()?.len(), backend.warm_contexts()?.len()), (1, 1), "a cold one");
    let client = Client::connect(&backend.local_socket())?;
    assert_eq!(session_on(&client, 0)?, Status::Ok);
    assert_eq!(backend.workers()?.len(), 1, "no other cold one");
    Ok(())
}

#[test]
fn without_gpu_memory_it_is_one_without_a_context() -> Result<()> {
    let mut backend = Backend::start_in_mode("[warm]\nworkers = 0\ncontexts = 1", "contextless")?;
    backend.wait_for_line("ready: 1 warm workers without a context, 0 with one;")?;
    let client = Client::connect(&backend.local_socket())?;
    serve(&client.create_session()?)?;
    assert_eq!(backend.workers()?.len(), 0, "it serves");
    backend.wait_for_warm_contexts(2)?;
    backend.is_alive()
}

#[test]
fn one_that_is_not_ready_says_so_later() -> Result<()> {
    let mut backend = Backend::start_in_mode("[warm]\nworkers = 0\ncontexts = 1", "")?;
    backend.wait_for_line("Ready: 1 devices")?;
    // Whether it is ready or not when it is taken, the session is served.
    for _ in 0..8 {
        let client = Client::connect(&backend.local_socket())?;
        serve(&client.create_session()?)?;
        serve(&Client::connect(&backend.local_socket())?.create_session()?)?;
    }
    backend.is_alive()
}

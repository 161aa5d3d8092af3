//! The local socket: sessions of processes on this host.

use std::{os::fd::AsFd as _, time::Instant};

use anyhow::{Context as _, Result, ensure};
use protocol_tests::{
    PATIENCE,
    backend::Backend,
    local::{Client, SEALS, Session, memfd},
    message::{self, PAGE},
};
use virtio_spec::{
    control::{RequestHeader, SessionOptions, Status, Type},
    info::{self, InfoHeader},
    session::{SessionHeader, WorkerState},
};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Waits until the worker serves the session, or refuses it.
fn worker_state(session: &Session) -> Result<u32> {
    let at = GuestAddress(std::mem::offset_of!(SessionHeader, worker_state) as u64);
    let start = Instant::now();
    loop {
        let state: u32 = session.memory.memory.read_obj(at)?;
        if state != WorkerState::Starting as u32 {
            return Ok(state);
        }
        ensure!(start.elapsed() < PATIENCE, "the worker does not look at the session");
        std::thread::yield_now();
    }
}

#[test]
fn device_information_is_answered_without_a_session() -> Result<()> {
    let backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    let reply = client.ask(&message::device_info(0, u32::MAX), &[])?;
    ensure!(reply.status == Status::Ok, "{reply:?}");
    let (header, records) = InfoHeader::read_from_prefix(&reply.payload).ok().context("a header")?;
    assert_eq!((header.magic, header.device_count, header.driver_version), (info::MAGIC, 1, 13_000));
    assert_eq!(records.len(), 2 * info::RECORD_BYTES as usize - size_of::<InfoHeader>());
    let (_, record) = reply.payload.split_at(info::RECORD_BYTES as usize);
    let record = info::DeviceRecord::read_from_bytes(record).ok().context("a record")?;
    assert!(record.name.starts_with(b"Stub device\0"));
    assert_eq!(record.attribute(75), Some(75));

    let part = client.ask(&message::device_info(info::RECORD_BYTES, 4), &[])?;
    assert_eq!(part.payload, b"Stub");
    assert_eq!(client.ask(&message::device_info(1 << 20, 4), &[])?.payload, b"");
    assert_eq!(backend.workers()?.len(), 0, "no worker is needed");
    Ok(())
}

#[test]
fn a_session_is_served_from_its_first_kick_and_ends_with_its_connection() -> Result<()> {
    let backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    let session = client.create_session()?;
    backend.wait_for_workers(1)?;
    session.kick()?;
    assert_eq!(worker_state(&session)?, WorkerState::Serving as u32);
    drop(client);
    backend.wait_for_workers(0)?;
    Ok(())
}

#[test]
fn a_wrong_header_is_refused_and_costs_the_session_only() -> Result<()> {
    let backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    let session = client.create_session()?;
    session.memory.memory.write_obj(0_u32, GuestAddress(0))?;
    session.kick()?;
    assert_eq!(worker_state(&session)?, WorkerState::Refused as u32);
    assert_eq!(client.receive()?, None, "the connection ends with the session");

    let client = Client::connect(&backend.local_socket())?;
    let session = client.create_session()?;
    session.kick()?;
    assert_eq!(worker_state(&session)?, WorkerState::Serving as u32);
    Ok(())
}

#[test]
fn destroyed_sessions_are_gone_when_the_answer_comes() -> Result<()> {
    let backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    for round in 1..=3 {
        let session = client.create_session()?;
        assert_eq!(session.number, round, "numbers are not used again");
        assert_eq!(client.ask(&message::session_destroy(session.number), &[])?.status, Status::Ok);
        assert_eq!(backend.workers()?.len(), 0);
        assert_eq!(client.ask(&message::kick(session.number), &[])?.status, Status::NoSession);
    }
    Ok(())
}

#[test]
fn regions_are_mapped_where_the_client_has_them() -> Result<()> {
    const ADDRESS: u64 = virtio_spec::window::PINNED_START + 0x10_0000;
    let backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    let session = client.create_session()?.number;
    let file = memfd(2 * PAGE, SEALS)?;
    let map = |region, address| -> Result<Status> {
        Ok(client.ask(&message::map(session, region, address, 2 * PAGE, &[]), &[file.as_fd()])?.status)
    };
    assert_eq!(map(1, ADDRESS)?, Status::Ok);
    assert_eq!(map(1, ADDRESS + 8 * PAGE)?, Status::Invalid, "the number is in use");
    assert_eq!(map(2, ADDRESS + PAGE)?, Status::AddressTaken, "the address is in use");
    assert_eq!(map(2, 0x40_0000)?, Status::AddressTaken, "the worker's own program lies there");
    assert_eq!(map(2, PAGE)?, Status::Invalid, "not an address of user space");
    assert_eq!(map(2, 0xffff_8000_0000_0000)?, Status::Invalid, "not an address of user space");
    assert_eq!(map(2, 0x7000_0000_0000)?, Status::Ok, "a guest's ordinary memory");
    let unmap = |region| -> Result<Status> { Ok(client.ask(&message::unmap(session, region), &[])?.status) };
    assert_eq!(unmap(1)?, Status::Ok);
    assert_eq!(unmap(1)?, Status::Invalid);
    assert_eq!(map(3, ADDRESS + PAGE)?, Status::Ok, "the address is free again");
    Ok(())
}

#[test]
fn a_killed_worker_ends_its_connection_and_no_other() -> Result<()> {
    let mut backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    let bystander = Client::connect(&backend.local_socket())?;
    client.create_session()?;
    backend.kill_worker()?;
    assert_eq!(client.receive()?, None);
    let session = bystander.create_session()?;
    session.kick()?;
    assert_eq!(worker_state(&session)?, WorkerState::Serving as u32);
    backend.is_alive()
}

#[test]
fn workers_end_with_the_supervisor() -> Result<()> {
    let mut backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    client.create_session()?;
    let [worker] = backend.workers()?[..] else { anyhow::bail!("one worker") };
    let pidfd = rustix::process::pidfd_open(worker, rustix::process::PidfdFlags::empty())?;
    backend.kill()?;
    let mut ends = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: i64::try_from(PATIENCE.as_secs())?, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut ends, Some(&patience))?, 1);
    Ok(())
}

#[test]
fn users_have_quotas() -> Result<()> {
    let backend = Backend::start_with("[limits]\nmax-sessions-per-user = 2\nmax-connections-per-user = 4")?;
    let clients: Vec<Client> =
        (0..4).map(|_| Client::connect(&backend.local_socket())).collect::<Result<_>>()?;
    clients[0].create_session()?;
    clients[1].create_session()?;
    assert!(clients[2].create_session().is_err(), "two sessions are the limit");
    assert!(clients[2].ask(&message::device_info(0, 16), &[]).is_ok());
    let surplus = Client::connect(&backend.local_socket())?;
    assert!(surplus.ask(&message::device_info(0, 16), &[]).is_err(), "four connections are the limit");
    Ok(())
}

#[test]
fn wrong_descriptors_are_refused() -> Result<()> {
    let mut backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    let length = message::layout().total_bytes();
    let create = message::session_create(length, &[]);
    let kick = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty())?;
    let good = memfd(length, SEALS)?;
    let unsealed = memfd(length, rustix::fs::SealFlags::empty())?;
    let short = memfd(length - PAGE, SEALS)?;
    let file = tempfile::tempfile()?;
    file.set_len(length)?;
    let ask = |passed: &[std::os::fd::BorrowedFd<'_>]| -> Result<Status> {
        Ok(client.ask(&create, passed)?.status)
    };
    assert_eq!(ask(&[])?, Status::Invalid);
    assert_eq!(ask(&[good.as_fd()])?, Status::Invalid);
    assert_eq!(ask(&[good.as_fd(), kick.as_fd(), kick.as_fd()])?, Status::Invalid);
    assert_eq!(ask(&[kick.as_fd(), good.as_fd()])?, Status::NotShared);
    assert_eq!(ask(&[good.as_fd(), good.as_fd()])?, Status::Invalid);
    assert_eq!(ask(&[unsealed.as_fd(), kick.as_fd()])?, Status::NotShared);
    assert_eq!(ask(&[short.as_fd(), kick.as_fd()])?, Status::Invalid);
    assert_eq!(ask(&[file.as_fd(), kick.as_fd()])?, Status::NotShared);
    assert_eq!(ask(&[good.as_fd(); 30])?, Status::Invalid);
    assert_eq!(backend.workers()?.len(), 0);
    assert_eq!(ask(&[good.as_fd(), kick.as_fd()])?, Status::Ok);
    backend.is_alive()
}

#[test]
fn malformed_packets_are_refused_one_by_one() -> Result<()> {
    let mut backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    let sound = message::device_info(0, 16);
    for cut in 1..sound.len() {
        assert_eq!(client.ask(&sound[..cut], &[])?.status, Status::Invalid, "{cut} bytes");
    }
    let mut long = sound.clone();
    long.resize(message::LONGEST + 1, 0);
    assert_eq!(client.ask(&long, &[])?.status, Status::Invalid);
    let header = |kind, length, flags| RequestHeader { kind, session: 0, length, flags };
    assert_eq!(client.ask(header(99, 0, 0).as_bytes(), &[])?.status, Status::Unsupported);
    assert_eq!(client.ask(header(u32::MAX, 0, 0).as_bytes(), &[])?.status, Status::Unsupported);
    assert_eq!(client.ask(header(2, u32::MAX, 0).as_bytes(), &[])?.status, Status::Invalid);
    assert_eq!(client.ask(header(2, 0, 1).as_bytes(), &[])?.status, Status::Invalid);
    assert_eq!(
        client.ask(&message::hello(1), &[])?.status,
        Status::Unsupported,
        "no message of this transport"
    );
    for number in [1, 2, u32::MAX] {
        assert_eq!(client.ask(&message::session_destroy(number), &[])?.status, Status::NoSession);
    }
    for length in [0, 1, PAGE + 1, u64::MAX, u64::MAX - PAGE + 1] {
        let status = client.ask(&message::session_create(length, &[]), &[])?.status;
        assert!(matches!(status, Status::Invalid | Status::Limit), "{length}: {status:?}");
    }
    let options = SessionOptions { flags: 1 << 20, ..SessionOptions::default() };
    let create = virtio_spec::control::SessionCreate { length: PAGE, extent_count: 0, reserved: 0, options };
    let request = message::request(Type::SessionCreate, 0, &[create.as_bytes()]);
    assert_eq!(client.ask(&request, &[])?.status, Status::Unsupported);
    assert_eq!(client.ask(&sound, &[])?.status, Status::Ok, "the connection still works");
    backend.is_alive()
}

#[test]
fn another_clients_session_is_out_of_reach() -> Result<()> {
    let backend = Backend::start()?;
    let (owner, other) =
        (Client::connect(&backend.local_socket())?, Client::connect(&backend.local_socket())?);
    let session = owner.create_session()?;
    assert_eq!(other.ask(&message::session_destroy(session.number), &[])?.status, Status::NoSession);
    assert_eq!(other.ask(&message::kick(session.number), &[])?.status, Status::NoSession);
    assert_eq!(backend.workers()?.len(), 1);
    Ok(())
}

#[test]
fn clients_may_leave_at_any_point() -> Result<()> {
    let mut backend = Backend::start()?;
    let socket = backend.local_socket();
    let length = message::layout().total_bytes();
    let kick = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty())?;
    for _ in 0..10 {
        drop(Client::connect(&socket)?);
        let client = Client::connect(&socket)?;
        client.send(&message::device_info(0, u32::MAX), &[])?;
        drop(client);
        let client = Client::connect(&socket)?;
        let memory = memfd(length, SEALS)?;
        client.send(&message::session_create(length, &[]), &[memory.as_fd(), kick.as_fd()])?;
        drop(client);
        let client = Client::connect(&socket)?;
        let session = client.create_session()?;
        client.send(&message::session_destroy(session.number), &[])?;
        drop(client);
    }
    backend.wait_for_workers(0)?;
    backend.is_alive()
}

#[test]
fn a_client_that_does_not_read_harms_nobody() -> Result<()> {
    let mut backend = Backend::start()?;
    let rude = Client::connect(&backend.local_socket())?;
    // Until the backend has hung up, or is too full itself to take more.
    for _ in 0..2000 {
        if rude.send(&message::device_info(0, u32::MAX), &[]).is_err() {
            break;
        }
        let polite = Client::connect(&backend.local_socket())?;
        assert_eq!(polite.ask(&message::device_info(0, 16), &[])?.status, Status::Ok);
    }
    backend.wait_for_line("cannot be answered")?;
    assert_eq!(backend.count_lines("cannot be answered"), 1, "the rude client has been disconnected");
    backend.is_alive()
}

#[test]
fn a_client_that_asks_for_nothing_is_disconnected() -> Result<()> {
    let backend = Backend::start()?;
    let client = Client::connect(&backend.local_socket())?;
    assert_eq!(client.receive()?, None);
    Ok(())
}

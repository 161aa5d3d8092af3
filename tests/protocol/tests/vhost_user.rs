//! The vhost-user device, as QEMU and the guest's driver use it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use protocol_tests::{
    backend::Backend,
    message::{self, PAGE},
    ring::{Places, Ring, WRITE},
    vm::{self, HALF, Vm},
};
use rustix::process::Signal;
use vhost::VhostBackend as _;
use virtio_spec::{
    control::{EventType, Extent, Hello, HelloReply, Status, Type, map_flags},
    device, info, limits,
    session::{self, LaneState, WorkerState},
};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// A VM whose driver has said hello.
fn greeted(backend: &Backend, nonce: u64) -> Result<Vm> {
    let mut vm = Vm::start(&backend.vm_socket())?;
    hello(&mut vm, nonce)?;
    Ok(vm)
}

fn hello(vm: &mut Vm, nonce: u64) -> Result<HelloReply> {
    vm.ask(&message::hello(nonce))?.structure()
}

#[test]
fn only_what_the_specification_allows_is_offered() -> Result<()> {
    let backend = Backend::start()?;
    let vm = Vm::connect(&backend.vm_socket())?;
    // VERSION_1, INDIRECT_DESC, EVENT_IDX, and vhost-user's PROTOCOL_FEATURES.
    assert_eq!(vm.frontend.get_features()?, 1 << 32 | 1 << 28 | 1 << 29 | 1 << 30);
    Ok(())
}

#[test]
fn the_configuration_space_describes_the_device() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = Vm::connect(&backend.vm_socket())?;
    vm.negotiate()?;
    let config = vm.config()?;
    assert_eq!((config.magic, config.version), (device::MAGIC, device::PROTOCOL_VERSION));
    assert_eq!(config.state, device::State::Ready as u32);
    assert_eq!((config.device_count, config.info_bytes), (1, 2 * info::RECORD_BYTES));
    assert_eq!((config.max_sessions, config.max_lanes), (limits::MAX_SESSIONS, limits::MAX_LANES));
    // The quickest of several rounds: the others are the machine's business.
    let mut quickest = Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        for _ in 0..50 {
            vm.config()?;
        }
        quickest = quickest.min(start.elapsed() / 50);
    }
    assert!(quickest < Duration::from_millis(1), "{quickest:?} a message");
    Ok(())
}

#[test]
fn hello_comes_first() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = Vm::start(&backend.vm_socket())?;
    assert_eq!(vm.ask(&message::device_info(0, 16))?.status, Status::Invalid);
    let other = Hello { boot_nonce: 1, version: 99, reserved: 0 };
    let request = message::request(Type::Hello, 0, &[other.as_bytes()]);
    assert_eq!(vm.ask(&request)?.status, Status::Unsupported);
    let reply = hello(&mut vm, 1)?;
    assert_eq!((reply.version, reply.state), (device::PROTOCOL_VERSION, device::State::Ready as u32));
    assert_eq!(reply.info_bytes, 2 * info::RECORD_BYTES);
    let information = vm.ask(&message::device_info(0, u32::MAX))?;
    assert_eq!(information.payload.len(), 2 * info::RECORD_BYTES as usize);
    assert_eq!(information.payload[..4], info::MAGIC.to_le_bytes());
    Ok(())
}

#[test]
fn sessions_are_made_and_destroyed() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = greeted(&backend, 1)?;
    let (first, second) = (vm.create_session(vm::page(0))?, vm.create_session(vm::page(64))?);
    assert_ne!(first, second);
    assert_eq!(backend.workers()?.len(), 2);
    assert_eq!(vm.ask(&message::session_destroy(first))?.status, Status::Ok);
    assert_eq!(backend.workers()?.len(), 1, "the worker is gone when the answer comes");
    assert_eq!(vm.ask(&message::session_destroy(first))?.status, Status::NoSession);
    assert_eq!(vm.ask(&message::kick(first))?.status, Status::NoSession);
    assert_eq!(vm.ask(&message::kick(second))?.status, Status::Ok);
    Ok(())
}

#[test]
fn a_session_on_scattered_extents_is_one_piece_of_memory_to_its_worker() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = greeted(&backend, 1)?;
    let length = message::layout().total_bytes();
    let pages = length / PAGE;
    // Backwards, page by page, the last two across the border between the two parts of RAM.
    let mut extents: Vec<Extent> = (0..pages - 2)
        .map(|number| Extent { address: vm::page(2 * (pages - number)), length: PAGE })
        .collect();
    extents.push(Extent { address: HALF - PAGE, length: 2 * PAGE });
    let header = message::session_header();
    vm.memory.write_slice(header.as_bytes(), GuestAddress(extents[0].address))?;
    let reply = vm.ask(&message::session_create(length, &extents))?;
    let session = reply.structure::<virtio_spec::control::SessionCreateReply>()?.session;
    assert_eq!(vm.ask(&message::kick(session))?.status, Status::Ok);
    let state = extents[0].address + std::mem::offset_of!(session::SessionHeader, worker_state) as u64;
    let start = Instant::now();
    while vm.memory.read_obj::<u32>(GuestAddress(state))? != WorkerState::Serving as u32 {
        ensure!(start.elapsed() < protocol_tests::PATIENCE, "the worker does not find the header");
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn a_lane_is_served_and_wakes_its_guest_through_eventq() -> Result<()> {
    is_served(LaneState::Open)
}

#[test]
fn what_a_thread_has_posted_that_has_ended_is_served() -> Result<()> {
    is_served(LaneState::Free)
}

/// A request in a lane that is in this state when it is kicked for.
fn is_served(state: LaneState) -> Result<()> {
    const REQUEST: u64 = vm::page(100);
    const RESPONSE: u64 = vm::page(101);
    let backend = Backend::start()?;
    let mut vm = greeted(&backend, 1)?;
    let base = vm::page(0);
    let session = vm.create_session(base)?;
    let layout = message::layout();
    // The lane's addresses are offsets into the session, wherever its pages lie.
    let lane_memory = std::sync::Arc::new(Window::of(&vm, base)?);
    let places =
        Places { descriptors: layout.descriptors(0), available: layout.available(0), used: layout.used(0) };
    let mut lane = Ring::new(lane_memory, layout.queue_size(), places);
    vm.memory.write_obj(state as u32, GuestAddress(base + layout.lane(0)))?;
    let request = session::RequestHeader {
        opcode: u32::MAX,
        flags: 0,
        sequence: 1,
        context: 0,
        length: 0,
        capture_mode: 0,
    };
    let (request_at, response_at) = (layout.slot(0, 0), layout.slot(0, 1));
    assert!(request_at < REQUEST && response_at < RESPONSE);
    vm.memory.write_slice(request.as_bytes(), GuestAddress(base + request_at))?;
    lane.chain(0, &[(request_at, 32, 0), (response_at, 64, WRITE)]);
    lane.offer(0);
    assert_eq!(vm.ask(&message::kick(session))?.status, Status::Ok);

    let event = vm.event()?;
    assert_eq!((event.kind, event.session), (EventType::Session as u32, session));
    let used = lane.used();
    ensure!(
        used.is_some_and(|used| used.written >= 8),
        "the response is there when the event comes: {used:?}"
    );
    let response: u64 = vm.memory.read_obj(GuestAddress(base + response_at))?;
    let result = session::ResponseHeader::read_from_bytes(&response.to_le_bytes()).ok();
    assert!(result.is_some_and(|response| response.result != 0), "an unknown opcode is an error of the call");
    Ok(())
}

/// Session memory, with its own offsets as addresses.
struct Window;

impl Window {
    fn of(vm: &Vm, base: u64) -> Result<vm_memory::GuestMemoryMmap<()>> {
        use vm_memory::{FileOffset, GuestMemoryBackend as _, GuestMemoryRegion as _};

        let (region, offset) =
            vm.memory.to_region_addr(GuestAddress(base)).ok_or_else(|| anyhow::anyhow!("no such memory"))?;
        let file = region.file_offset().ok_or_else(|| anyhow::anyhow!("not shared"))?;
        let at = FileOffset::from_arc(std::sync::Arc::clone(file.arc()), file.start() + offset.0);
        let length = usize::try_from(message::layout().total_bytes())?;
        Ok(vm_memory::GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), length, Some(at))])?)
    }
}

#[test]
fn a_killed_worker_is_reported_and_the_next_session_works() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend, 1)?;
    let session = vm.create_session(vm::page(0))?;
    backend.kill_worker()?;
    let event = vm.event()?;
    assert_eq!((event.kind, event.session), (EventType::SessionDied as u32, session));
    assert_eq!(vm.ask(&message::session_destroy(session))?.status, Status::NoSession);
    assert_ne!(vm.create_session(vm::page(0))?, session);
    backend.is_alive()
}

#[test]
fn a_pause_keeps_sessions() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = greeted(&backend, 1)?;
    let session = vm.create_session(vm::page(0))?;
    let workers = backend.workers()?;
    for _ in 0..3 {
        vm.stop_queues()?;
        vm.start_queues()?;
        // The guest does not know of the pause: no HELLO.
        assert_eq!(vm.ask(&message::kick(session))?.status, Status::Ok);
    }
    assert_eq!(backend.workers()?, workers);
    Ok(())
}

#[test]
fn hello_with_the_same_nonce_keeps_sessions_and_with_another_destroys_them() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = greeted(&backend, 1)?;
    let session = vm.create_session(vm::page(0))?;
    vm.stop_queues()?;
    vm.reset()?;
    hello(&mut vm, 1)?;
    assert_eq!(vm.ask(&message::kick(session))?.status, Status::Ok);

    vm.stop_queues()?;
    vm.reset()?;
    assert_eq!(backend.workers()?.len(), 1, "nothing is known before HELLO");
    hello(&mut vm, 2)?;
    assert_eq!(backend.workers()?.len(), 0, "no worker is left when HELLO is answered");
    assert_eq!(vm.ask(&message::kick(session))?.status, Status::NoSession);
    vm.create_session(vm::page(0))?;
    Ok(())
}

#[test]
fn a_worker_that_does_not_drain_is_killed_before_the_queue_has_stopped() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend, 1)?;
    let session = vm.create_session(vm::page(0))?;
    backend.signal_worker(Signal::STOP)?;
    let start = Instant::now();
    vm.stop_queues()?;
    let took = start.elapsed();
    assert_eq!(backend.workers()?.len(), 0, "reaped before the reply");
    assert!(took >= Duration::from_millis(limits::DRAIN_MILLISECONDS), "{took:?}: it had its time");
    assert!(took < Duration::from_millis(10 * limits::DRAIN_MILLISECONDS), "{took:?}");
    vm.start_queues()?;
    let event = vm.event()?;
    assert_eq!((event.kind, event.session), (EventType::SessionDied as u32, session));
    backend.is_alive()
}

#[test]
fn requests_under_way_are_answered_before_the_queue_has_stopped() -> Result<()> {
    let backend = Backend::start()?;
    let mut vm = greeted(&backend, 1)?;
    let session = vm.create_session(vm::page(0))?;
    backend.signal_worker(Signal::STOP)?;
    vm.send(&message::session_destroy(session))?;
    vm.stop_queues()?;
    assert_eq!(backend.workers()?.len(), 0);
    // Either it had been taken, and has been answered, or it is taken when the queue runs again.
    vm.start_queues()?;
    let status = message::Reply::parse(&vm.used()?)?.status;
    assert!(matches!(status, Status::Ok | Status::NoSession), "{status:?}");
    Ok(())
}

#[test]
fn a_vm_that_is_gone_takes_its_sessions_along_and_the_next_is_served() -> Result<()> {
    let mut backend = Backend::start()?;
    for round in 0..3 {
        let mut vm = greeted(&backend, round)?;
        vm.create_session(vm::page(0))?;
        vm.create_session(vm::page(64))?;
        drop(vm);
        backend.wait_for_workers(0)?;
    }
    backend.is_alive()
}

#[test]
fn regions_are_mapped_in_parts_and_unmapped() -> Result<()> {
    const ADDRESS: u64 = virtio_spec::window::PINNED_START + 0x40_0000;
    let backend = Backend::start()?;
    let mut vm = greeted(&backend, 1)?;
    let session = vm.create_session(vm::page(0))?;
    let extent = |number| Extent { address: vm::page(number), length: PAGE };
    let map = |vm: &mut Vm, region, address, length, extents: &[Extent]| -> Result<Status> {
        Ok(vm.ask(&message::map(session, region, address, length, extents))?.status)
    };
    assert_eq!(map(&mut vm, 1, ADDRESS, 3 * PAGE, &[extent(200)])?, Status::Ok);
    assert_eq!(map(&mut vm, 1, ADDRESS, 3 * PAGE, &[extent(210), extent(205)])?, Status::Ok);
    assert_eq!(map(&mut vm, 1, ADDRESS, 3 * PAGE, &[extent(200)])?, Status::Invalid, "it is complete");
    assert_eq!(map(&mut vm, 2, ADDRESS + PAGE, PAGE, &[extent(220)])?, Status::AddressTaken);
    assert_eq!(vm.ask(&message::unmap(session, 1))?.status, Status::Ok);
    assert_eq!(vm.ask(&message::unmap(session, 1))?.status, Status::Invalid);
    assert_eq!(map(&mut vm, 2, ADDRESS + PAGE, PAGE, &[extent(220)])?, Status::Ok);

    let half = [extent(230)];
    assert_eq!(map(&mut vm, 3, ADDRESS + 16 * PAGE, 2 * PAGE, &half)?, Status::Ok);
    assert_eq!(vm.ask(&message::unmap(session, 3))?.status, Status::Ok, "half a region can be given up");

    let many: Vec<Extent> =
        (0..limits::MAX_EXTENTS_PER_MESSAGE).map(|number| extent(u64::from(2 * number))).collect();
    let length = PAGE * many.len() as u64;
    let flags = virtio_spec::control::Map {
        region: 4,
        flags: map_flags::READ_ONLY,
        address: 0x6000_0000_0000,
        length: 2 * length,
        extent_count: limits::MAX_EXTENTS_PER_MESSAGE,
        reserved: 0,
    };
    let request = message::request(Type::Map, session, &[flags.as_bytes(), many.as_bytes()]);
    for _ in 0..2 {
        assert_eq!(vm.ask(&request)?.status, Status::Ok, "2048 extents a message, twice");
    }
    assert_eq!(vm.ask(&message::unmap(session, 4))?.status, Status::Ok);
    Ok(())
}

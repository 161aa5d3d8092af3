//! A guest that wants to break the device: nothing that it puts into its queues does more than cost it a request.

use std::time::{Duration, Instant};

use anyhow::Result;
use protocol_tests::{
    backend::Backend,
    message::{self, PAGE},
    ring::{Descriptor, INDIRECT, NEXT, WRITE},
    vm::{self, HALF, QUEUE_SIZE, Vm},
};
use virtio_spec::{
    control::{EventType, Extent, Map, RequestHeader, Status},
    limits,
};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::IntoBytes as _;

const SCRATCH: u64 = vm::page(1000);

fn greeted(backend: &Backend) -> Result<Vm> {
    let mut vm = Vm::start(&backend.vm_socket())?;
    assert_eq!(vm.ask(&message::hello(1))?.status, Status::Ok);
    Ok(vm)
}

/// The device still does what it should, and quickly.
fn still_works(backend: &mut Backend, vm: &mut Vm) -> Result<()> {
    let start = Instant::now();
    let session = vm.create_session(vm::page(0))?;
    assert_eq!(vm.ask(&message::session_destroy(session))?.status, Status::Ok);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    backend.is_alive()
}

#[test]
fn malformed_requests_are_refused() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let sound = message::session_create(PAGE, &[Extent { address: vm::page(0), length: PAGE }]);
    for cut in 1..sound.len() {
        assert_eq!(vm.ask(&sound[..cut])?.status, Status::Invalid, "{cut} bytes");
    }
    for kind in [0, 9, 1 << 16, u32::MAX] {
        let header = RequestHeader { kind, session: 0, length: 0, flags: 0 };
        assert_eq!(vm.ask(header.as_bytes())?.status, Status::Unsupported, "type {kind}");
    }
    for (session, length, flags) in [(1, 0, 0), (0, 1, 0), (0, u32::MAX, 0), (0, 0, 1)] {
        let header = RequestHeader { kind: 3, session, length, flags };
        assert_eq!(vm.ask(header.as_bytes())?.status, Status::Invalid);
    }
    still_works(&mut backend, &mut vm)
}

#[test]
fn wild_extents_are_refused() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let mut create = |length: u64, extents: &[(u64, u64)]| -> Result<Status> {
        let extents: Vec<Extent> =
            extents.iter().map(|(address, length)| Extent { address: *address, length: *length }).collect();
        Ok(vm.ask(&message::session_create(length, &extents))?.status)
    };
    let page = vm::page(0);
    assert_eq!(create(2 * PAGE, &[])?, Status::Invalid);
    assert_eq!(create(2 * PAGE, &[(page, PAGE)])?, Status::Invalid, "too little");
    assert_eq!(create(2 * PAGE, &[(page, 3 * PAGE)])?, Status::Invalid, "too much");
    assert_eq!(create(2 * PAGE, &[(page, PAGE), (page + 1, PAGE)])?, Status::Invalid);
    assert_eq!(create(2 * PAGE, &[(page, 2 * PAGE), (page, 0)])?, Status::Invalid);
    assert_eq!(create(2 * PAGE, &[(u64::MAX - PAGE + 1, 2 * PAGE)])?, Status::Invalid);
    assert_eq!(create(2 * PAGE, &[(page, u64::MAX - PAGE + 1)])?, Status::Invalid);
    assert_eq!(create(2 * PAGE, &[(2 * HALF, 2 * PAGE)])?, Status::NotShared);
    assert_eq!(create(2 * PAGE, &[(2 * HALF - PAGE, 2 * PAGE)])?, Status::NotShared, "across the end");
    assert_eq!(create(2 * PAGE, &[(1 << 52, 2 * PAGE)])?, Status::NotShared);
    assert_eq!(create(1 << 40, &[(page, 1 << 40)])?, Status::Limit);
    assert_eq!(create(2 * HALF + PAGE, &[(page, 2 * HALF + PAGE)])?, Status::Limit, "more than the VM has");
    // The same page twice is the guest's own affair.
    let twice = create(2 * PAGE, &[(page, PAGE), (page, PAGE)])?;
    assert_eq!(twice, Status::Ok);
    still_works(&mut backend, &mut vm)
}

#[test]
fn no_more_memory_is_pinned_than_the_vm_has() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let session = vm.create_session(vm::page(0))?;
    let extents = [Extent { address: 0, length: 2 * HALF }];
    let all = |region, address| message::map(session, region, address, 2 * HALF, &extents);
    assert_eq!(vm.ask(&all(1, 0x5000_0000_0000))?.status, Status::Limit);
    let half = [Extent { address: 0, length: HALF }];
    let map = |region: u32, address| message::map(session, region, address, HALF, &half);
    assert_eq!(vm.ask(&map(1, 0x5000_0000_0000))?.status, Status::Ok);
    assert_eq!(vm.ask(&map(2, 0x5100_0000_0000))?.status, Status::Limit);
    assert_eq!(vm.ask(&message::unmap(session, 1))?.status, Status::Ok);
    assert_eq!(vm.ask(&map(2, 0x5100_0000_0000))?.status, Status::Ok, "what is unmapped does not count");
    backend.is_alive()
}

#[test]
fn more_regions_or_extents_than_allowed_are_refused() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let session = vm.create_session(vm::page(0))?;
    let count = limits::MAX_EXTENTS_PER_MESSAGE;
    let extents: Vec<Extent> =
        (0..count).map(|number| Extent { address: vm::page(u64::from(number % 64)), length: PAGE }).collect();
    let length = PAGE * u64::from(limits::MAX_EXTENTS);
    let part = message::map(session, 1, 0x5000_0000_0000, 2 * length, &extents);
    // The session's own extent counts too, so the last part is one too many.
    for number in 1..=limits::MAX_EXTENTS / count {
        let expected = if number < limits::MAX_EXTENTS / count { Status::Ok } else { Status::Limit };
        assert_eq!(vm.ask(&part)?.status, expected, "part {number}");
    }
    // What was collected has been forgotten.
    assert_eq!(vm.ask(&message::unmap(session, 1))?.status, Status::Invalid);
    still_works(&mut backend, &mut vm)
}

#[test]
fn a_refused_part_of_a_region_takes_the_earlier_ones_along() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let session = vm.create_session(vm::page(0))?;
    let part =
        |address: u64, length: u64, extent: Extent| message::map(session, 1, address, length, &[extent]);
    let (at, length) = (0x5000_0000_0000, 4 * PAGE);
    let sound = Extent { address: vm::page(64), length: PAGE };
    let mut unknown_flag = part(at, length, sound);
    unknown_flag[size_of::<RequestHeader>() + 4] = 0x80;
    let mut too_short = part(at, length, sound);
    too_short.truncate(size_of::<RequestHeader>() + size_of::<Map>());
    let refused = [
        (part(at + PAGE, length, sound), "another address"),
        (part(at, 8 * PAGE, sound), "another length"),
        (part(at, length, Extent { address: vm::page(64), length: 4 * PAGE }), "more than is missing"),
        (part(at, length, Extent { address: 1 << 52, length: PAGE }), "memory that is not shared"),
        (part(at, length, Extent { address: vm::page(64) + 1, length: PAGE }), "unaligned"),
        (unknown_flag, "an unknown flag"),
        (too_short, "no extents"),
    ];
    for (request, why) in refused {
        assert_eq!(vm.ask(&part(at, length, sound))?.status, Status::Ok, "{why}");
        assert_ne!(vm.ask(&request)?.status, Status::Ok, "{why}");
        assert_eq!(vm.ask(&message::unmap(session, 1))?.status, Status::Invalid, "{why}");
    }
    // The number can be used again, and what was forgotten counts no longer.
    for number in 0..4 {
        let extent = Extent { address: vm::page(64 + number), length: PAGE };
        assert_eq!(vm.ask(&part(at, length, extent))?.status, Status::Ok);
    }
    assert_eq!(vm.ask(&part(at, length, sound))?.status, Status::Invalid, "it is mapped");
    assert_eq!(vm.ask(&message::unmap(session, 1))?.status, Status::Ok, "and stays so");
    still_works(&mut backend, &mut vm)
}

#[test]
fn broken_chains_are_returned_unanswered() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let request = message::device_info(0, 16);
    let length = u32::try_from(request.len())?;
    vm.memory.write_slice(&request, GuestAddress(SCRATCH))?;
    let at = vm.reply_at();
    let part = |flags, next| Descriptor { address: SCRATCH, length, flags, next };
    let room = |flags, next| Descriptor { address: at, length: 64, flags, next };
    let last = QUEUE_SIZE - 1;
    let indirect = |length| Descriptor { address: SCRATCH + PAGE, length, flags: INDIRECT, next: 0 };
    let cases: &[(&str, &[Descriptor])] = &[
        ("next outside the table", &[part(NEXT, 999), room(WRITE, 0)]),
        ("a loop of one", &[part(NEXT, 0)]),
        ("a loop of two", &[part(NEXT, 1), room(NEXT | WRITE, 0)]),
        ("readable after writable", &[room(NEXT | WRITE, 1), part(0, 0)]),
        (
            "readable after writable, later",
            &[part(NEXT, 1), room(NEXT | WRITE, 2), part(NEXT, 3), room(WRITE, 0)],
        ),
        ("memory that is not there", &[Descriptor { address: 1 << 50, ..part(NEXT, 1) }, room(WRITE, 0)]),
        (
            "memory that ends too early",
            &[Descriptor { address: 2 * HALF - 4, ..part(NEXT, 1) }, room(WRITE, 0)],
        ),
        ("4 GiB", &[Descriptor { length: u32::MAX, ..part(NEXT, 1) }, room(WRITE, 0)]),
        (
            "more than 4 GiB",
            &[
                Descriptor { length: u32::MAX, ..part(NEXT, 1) },
                Descriptor { length: u32::MAX, ..part(NEXT, 2) },
                room(WRITE, 0),
            ],
        ),
        ("a table of half a descriptor", &[indirect(8)]),
        ("a table of nothing", &[indirect(0)]),
        ("a table that is too large", &[indirect(0xffff_fff0)]),
        ("a table that is not there", &[Descriptor { address: 1 << 50, ..indirect(32) }]),
    ];
    for (name, chain) in cases {
        for (index, descriptor) in (0..).zip(*chain) {
            vm.control.ring.describe(index, *descriptor);
        }
        vm.offer(0)?;
        assert_eq!(vm.used()?, [], "{name}");
    }
    // As many descriptors as the queue has, and no room at all.
    for index in 0..last {
        vm.control.ring.describe(index, Descriptor { length: 1, ..part(NEXT, index + 1) });
    }
    vm.control.ring.describe(last, room(WRITE, 0));
    vm.offer(0)?;
    assert_eq!(vm.used()?, [], "too many descriptors");
    vm.control.ring.describe(0, part(0, 0));
    vm.offer(0)?;
    assert_eq!(vm.used()?, [], "no room for a reply");
    still_works(&mut backend, &mut vm)
}

#[test]
fn a_request_in_many_pieces_is_understood() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let request = message::device_info(0, 16);
    vm.memory.write_slice(&request, GuestAddress(SCRATCH))?;
    let at = vm.reply_at();
    let half = u32::try_from(request.len() / 2)?;
    // In an indirect table: the request in two halves, the reply's room in three parts.
    let mut table = Vec::new();
    for (number, (address, length, flags)) in (0_u16..).zip([
        (SCRATCH, half, NEXT),
        (SCRATCH + u64::from(half), half, NEXT),
        (at, 3, NEXT | WRITE),
        (at + 3, 5, NEXT | WRITE),
        (at + 8, 64, WRITE),
    ]) {
        table.extend_from_slice(&u64::to_le_bytes(address));
        table.extend_from_slice(&u32::to_le_bytes(length));
        table.extend_from_slice(&u16::to_le_bytes(flags));
        table.extend_from_slice(&u16::to_le_bytes(number + 1));
    }
    vm.memory.write_slice(&table, GuestAddress(SCRATCH + PAGE))?;
    let length = u32::try_from(table.len())?;
    vm.control.ring.describe(0, Descriptor { address: SCRATCH + PAGE, length, flags: INDIRECT, next: 0 });
    vm.offer(0)?;
    let reply = message::Reply::parse(&vm.used()?)?;
    assert_eq!((reply.status, reply.payload.len()), (Status::Ok, 16));
    still_works(&mut backend, &mut vm)
}

#[test]
fn too_little_room_refuses_a_request_before_it_has_an_effect() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let length = message::layout().total_bytes();
    let request = message::session_create(length, &[Extent { address: vm::page(0), length }]);
    vm.memory.write_slice(&request, GuestAddress(SCRATCH))?;
    let at = vm.reply_at();
    for room in [1, 7, 8, 15] {
        vm.control.ring.chain(0, &[(SCRATCH, u32::try_from(request.len())?, 0), (at, room, WRITE)]);
        vm.offer(0)?;
        let written = vm.used()?;
        if room < 8 {
            assert_eq!(written, []);
        } else {
            assert_eq!(message::Reply::parse(&written)?.status, Status::Invalid);
        }
    }
    assert_eq!(backend.workers()?.len(), 0);
    still_works(&mut backend, &mut vm)
}

#[test]
fn a_broken_ring_is_reported_once_and_comes_back_with_a_reset() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    // More available chains than the ring has descriptors.
    vm.control.ring.set_available(0x8000);
    for _ in 0..100 {
        vm.control.kick.write(1)?;
    }
    backend.wait_for_line("controlq is broken")?;
    // Messages of QEMU are answered as before.
    vm.config()?;
    vm.stop_queues()?;
    vm.reset()?;
    assert_eq!(vm.ask(&message::hello(2))?.status, Status::Ok);
    assert_eq!(backend.count_lines("controlq is broken"), 1);
    still_works(&mut backend, &mut vm)
}

#[test]
fn events_wait_for_buffers() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = Vm::connect(&backend.vm_socket())?;
    vm.negotiate()?;
    vm.start_queues()?;
    assert_eq!(vm.ask(&message::hello(1))?.status, Status::Ok);
    let session = vm.create_session(vm::page(0))?;
    backend.kill_worker()?;
    backend.wait_for_line("has died")?;
    assert_eq!(vm.ask(&message::kick(session))?.status, Status::NoSession, "nothing blocks meanwhile");
    // A buffer that is too small is returned; the event waits for one that is not.
    vm.events.ring.chain(0, &[(SCRATCH, 15, WRITE)]);
    if vm.events.ring.offer(0) {
        vm.events.kick.write(1)?;
    }
    vm.post_events(1)?;
    let mut kinds = Vec::new();
    while kinds.last() != Some(&(EventType::SessionDied as u32)) {
        match vm.event() {
            Ok(event) => kinds.push(event.kind),
            Err(error) if error.to_string().contains("written: 0") => {}
            Err(error) => return Err(error),
        }
    }
    still_works(&mut backend, &mut vm)
}

#[test]
fn more_sessions_than_allowed_are_refused() -> Result<()> {
    let mut backend = Backend::start_with("[limits]\nmax-sessions = 3")?;
    let mut vm = greeted(&backend)?;
    for number in 0..3 {
        vm.create_session(vm::page(64 * number))?;
    }
    let length = message::layout().total_bytes();
    let request = message::session_create(length, &[Extent { address: vm::page(512), length }]);
    assert_eq!(vm.ask(&request)?.status, Status::Limit);
    assert_eq!(vm.config()?.max_sessions, 3);
    assert_eq!(vm.ask(&message::session_destroy(1))?.status, Status::Ok);
    vm.create_session(vm::page(512))?;
    backend.is_alive()
}

#[test]
fn a_front_end_may_leave_at_any_point() -> Result<()> {
    let mut backend = Backend::start()?;
    let socket = backend.vm_socket();
    drop(Vm::connect(&socket)?);
    let mut vm = Vm::connect(&socket)?;
    vm.negotiate()?;
    drop(vm);
    let mut vm = Vm::connect(&socket)?;
    vm.negotiate()?;
    vm.start_queues()?;
    drop(vm);
    let mut vm = greeted(&backend)?;
    let length = message::layout().total_bytes();
    vm.send(&message::session_create(length, &[Extent { address: vm::page(0), length }]))?;
    drop(vm);
    backend.wait_for_workers(0)?;
    let mut vm = greeted(&backend)?;
    still_works(&mut backend, &mut vm)
}

#[test]
fn requests_that_change_while_they_are_read_are_read_once() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let length = message::layout().total_bytes();
    let sound = message::session_create(length, &[Extent { address: vm::page(0), length }]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let memory = std::sync::Arc::clone(&vm.memory);
    let request_at = vm.request_at();
    std::thread::scope(|scope| -> Result<()> {
        // Rewrites every byte of the request in turn, for as long as the device works on it.
        let rewriter = scope.spawn(|| -> Result<()> {
            let mut random = Random(7);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let at = random.below(u64::try_from(sound.len())?);
                let byte = u8::try_from(random.below(256))?;
                memory.write_obj(byte, GuestAddress(request_at + at))?;
                std::thread::yield_now();
            }
            Ok(())
        });
        let mut result = Ok(());
        for _ in 0..100 {
            // Whatever it says, it is an answer.
            result = vm.ask(&sound).map(drop);
            if result.is_err() {
                break;
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        rewriter.join().map_err(|_| anyhow::anyhow!("the rewriter has panicked"))??;
        result
    })?;
    // Sessions may have been made, even with sound numbers; a new driver ends them all.
    assert_eq!(vm.ask(&message::hello(2))?.status, Status::Ok);
    backend.wait_for_workers(0)?;
    still_works(&mut backend, &mut vm)
}

#[test]
fn random_chains_are_all_returned() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = greeted(&backend)?;
    let mut random = Random(42);
    let request = message::device_info(0, 64);
    vm.memory.write_slice(&request, GuestAddress(SCRATCH))?;
    let at = vm.reply_at();
    for _ in 0..2000 {
        for index in 0..8 {
            let address = random.pick(&[SCRATCH, at, at + 64, 0, 2 * HALF - 8, 1 << 60, u64::MAX]);
            let length = u32::try_from(random.pick(&[0, 1, 8, 16, 24, 64, 4096, u64::from(u32::MAX)]))?;
            let flags = u16::try_from(random.below(8))?;
            let next = u16::try_from(random.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 63, 64, 65535]))?;
            vm.control.ring.describe(index, Descriptor { address, length, flags, next });
        }
        let head = u16::try_from(random.below(8))?;
        vm.offer(head)?;
        vm.used()?;
        // A reply may have been written over the request.
        vm.memory.write_slice(&request, GuestAddress(SCRATCH))?;
    }
    still_works(&mut backend, &mut vm)
}

/// A small generator of numbers that are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn pick(&mut self, choices: &[u64]) -> u64 {
        let index = self.below(choices.len() as u64);
        usize::try_from(index).ok().and_then(|index| choices.get(index)).copied().unwrap_or(0)
    }
}

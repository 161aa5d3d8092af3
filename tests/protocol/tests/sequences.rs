//! Long random sequences of requests that are nearly right, on both transports, with workers that are killed in between.
//! Every request is answered, and afterwards nothing is left over.

use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Result, ensure};
use protocol_tests::{
    backend::Backend,
    local::{Client, SEALS, SessionMemory, memfd},
    message::{self, PAGE},
    vm::{self, Vm},
};
use rustix::{event::EventfdFlags, process::Signal};
use virtio_spec::control::{Extent, SessionCreateReply, Status};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::IntoBytes as _;

/// Requests of one sequence.
const REQUESTS: usize = 1500;

/// Numbers that are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).unwrap_or(0) % bound.max(1)
    }

    /// One of them, or now and then something near.
    fn session(&mut self, known: &[u32]) -> u32 {
        let near = self.below(4);
        let index = usize::try_from(self.below(8)).unwrap_or(0);
        known.get(index).copied().unwrap_or(near)
    }
}

/// MAP, UNMAP, KICK or DESTROY; `extents` are those of a MAP.
fn request(random: &mut Random, session: u32, extents: &[Extent]) -> Vec<u8> {
    let region = random.below(4);
    let address = 0x5000_0000_0000 + u64::from(random.below(6)) * PAGE;
    let length = PAGE * [0, 1, 1, 1, 2, 3, 4][random.below(7) as usize];
    let mut bytes = match random.below(8) {
        0..=3 => message::map(session, region, address, length, extents),
        4 => message::unmap(session, region),
        5 => message::kick(session),
        6 => message::session_destroy(session),
        _ => message::device_info(random.below(10_000), random.below(10_000)),
    };
    if random.below(8) == 0 {
        let at = usize::try_from(random.below(256)).unwrap_or(0) % bytes.len();
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}

/// Kills one of the workers.
fn disturb(backend: &Backend, random: &mut Random) -> Result<()> {
    let workers = backend.workers()?;
    let index = usize::try_from(random.below(4)).unwrap_or(0);
    if let Some(worker) = workers.get(index) {
        // It may have ended meanwhile.
        let _sent = rustix::process::kill_process(*worker, Signal::KILL);
    }
    Ok(())
}

#[test]
fn a_vm_that_asks_for_everything_is_always_answered() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut vm = Vm::start(&backend.vm_socket())?;
    assert_eq!(vm.ask(&message::hello(1))?.status, Status::Ok);
    let mut random = Random(0x5eed_0001);
    let mut sessions = Vec::new();
    let (mut done, mut refused) = (0, 0);
    for _ in 0..REQUESTS {
        let place = vm::page(u64::from(random.below(64)) * 4);
        let status = match random.below(16) {
            0 if sessions.len() < 8 => {
                let length = message::layout().total_bytes();
                vm.memory.write_slice(message::session_header().as_bytes(), GuestAddress(place))?;
                let reply = vm.ask(&message::session_create(length, &[Extent { address: place, length }]))?;
                if reply.status == Status::Ok {
                    sessions.push(reply.structure::<SessionCreateReply>()?.session);
                }
                reply.status
            }
            1 if random.below(4) == 0 => {
                disturb(&backend, &mut random)?;
                continue;
            }
            _ => {
                let count = random.below(4);
                let extents: Vec<Extent> = (0..count)
                    .map(|number| Extent { address: place + u64::from(2 * number) * PAGE, length: PAGE })
                    .collect();
                let session = random.session(&sessions);
                vm.ask(&request(&mut random, session, &extents))?.status
            }
        };
        if status == Status::Ok {
            done += 1
        } else {
            refused += 1
        }
        if status == Status::NoSession && random.below(4) == 0 {
            sessions.clear();
        }
    }
    ensure!(done > 20 && refused > 20, "{done} done, {refused} refused");
    assert_eq!(vm.ask(&message::hello(2))?.status, Status::Ok);
    backend.wait_for_workers(0)?;
    vm.create_session(vm::page(0))?;
    backend.is_alive()
}

#[test]
fn clients_that_ask_for_everything_are_answered_or_leave() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut random = Random(0x5eed_0002);
    let kick = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let page = memfd(PAGE, SEALS)?;
    let loose = memfd(PAGE, rustix::fs::SealFlags::empty())?;
    let (mut done, mut refused) = (0, 0);
    for _ in 0..40 {
        let client = Client::connect(&backend.local_socket())?;
        let memory = SessionMemory::new()?;
        let mut sessions = Vec::new();
        for _ in 0..REQUESTS / 40 {
            let create = random.below(6) == 0 || sessions.is_empty();
            let bytes = if create {
                message::session_create(memory.length, &[])
            } else {
                let session = random.session(&sessions);
                request(&mut random, session, &[])
            };
            let all = [memory.file.as_fd(), kick.as_fd(), page.as_fd(), loose.as_fd()];
            let passed: Vec<BorrowedFd<'_>> = match random.below(8) {
                0..=3 if create => vec![all[0], all[1]],
                0..=3 => vec![all[2]],
                4 => Vec::new(),
                count => (0..count).filter_map(|_| all.get(random.below(4) as usize).copied()).collect(),
            };
            // A client whose session has died is disconnected.
            if client.send(&bytes, &passed).is_err() {
                break;
            }
            let Some(reply) = client.receive()? else { break };
            if reply.status == Status::Ok {
                done += 1
            } else {
                refused += 1
            }
            if create && reply.status == Status::Ok {
                sessions.push(reply.structure::<SessionCreateReply>()?.session);
            }
            if random.below(30) == 0 {
                disturb(&backend, &mut random)?;
            }
        }
    }
    ensure!(done > 20 && refused > 20, "{done} done, {refused} refused");
    backend.wait_for_workers(0)?;
    let client = Client::connect(&backend.local_socket())?;
    client.create_session()?;
    backend.is_alive()
}

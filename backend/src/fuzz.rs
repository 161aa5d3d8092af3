//! What reads bytes of guests, clients and workers, as functions of bytes, for fuzzing.
//!
//! Unsafe code: a view of memory, as a worker has one.
//!
//! Each function `fuzz_one` takes any bytes and returns; a panic is a finding. What it checks besides says its module.

use std::num::Wrapping;

use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

/// Requests of `controlq` and of the local socket.
pub mod request {
    use virtio_spec::limits;

    use crate::supervisor::request::{MAX_BYTES, Request};

    /// What is taken keeps the specification's limits.
    ///
    /// # Panics
    /// It does not.
    pub fn fuzz_one(data: &[u8]) {
        let _region = Request::region_of_refused(data);
        let Ok(request) = Request::parse(data) else { return };
        assert!(data.len() <= MAX_BYTES, "longer than what is copied");
        if let Request::SessionCreate { length, extents, .. } | Request::Map { length, extents, .. } = request
        {
            assert!(length > 0 && length % 4096 == 0, "{length} bytes");
            assert!(extents.len() <= limits::MAX_EXTENTS_PER_MESSAGE as usize, "{} extents", extents.len());
            for extent in extents {
                assert!(extent.length > 0 && (extent.address | extent.length) % 4096 == 0, "{extent:?}");
                assert!(extent.address.checked_add(extent.length).is_some(), "{extent:?}");
            }
        }
    }
}

/// What supervisor and worker say to each other.
pub mod link {
    use super::*;
    use crate::link::{Reply, decode};

    /// A packet that is understood has as many pieces as it says.
    ///
    /// # Panics
    /// It has not.
    pub fn fuzz_one(data: &[u8]) {
        let _reply = Reply::read_from_bytes(data);
        if let Some((kind, command, pieces)) = decode(data) {
            assert_eq!((kind as u32, command.piece_count as usize), (command.kind, pieces.len()));
        }
    }
}

/// The device information, as a discovery process writes it.
pub mod discovery {
    use crate::supervisor::discovery::Information;

    /// Information that is taken says the same of itself everywhere.
    ///
    /// # Panics
    /// It does not.
    pub fn fuzz_one(data: &[u8]) {
        let Ok(mut information) = Information::parse(data, 2, 7) else { return };
        information.set_generation(8);
        let config = information.config(1);
        assert_eq!((config.generation, config.info_bytes as usize), (8, information.bytes.len()));
        let _pageable = information.offers_pageable_access();
        assert!(information.part(u32::MAX, usize::MAX).is_empty());
    }
}

/// A session's header.
pub mod header {
    use virtio_spec::session::{Layout, SessionHeader};

    use super::*;

    /// A layout that is taken lies in its memory, part behind part.
    ///
    /// # Panics
    /// It does not.
    pub fn fuzz_one(data: &[u8]) {
        let mut header = SessionHeader::new_zeroed();
        let length = data.len().min(size_of::<SessionHeader>());
        header.as_mut_bytes()[..length].copy_from_slice(&data[..length]);
        let Ok(layout) = Layout::from_header(&header) else { return };
        let mut end = size_of::<SessionHeader>() as u64;
        for lane in 0..layout.lane_count() {
            let places =
                [layout.lane(lane), layout.descriptors(lane), layout.available(lane), layout.used(lane)];
            for place in places {
                assert!(place >= end, "lane {lane} of {layout:?}");
                end = place;
            }
            end = layout.slot(lane, layout.slot_count().saturating_sub(1));
        }
        assert!(end < layout.total_bytes(), "{layout:?}");
    }
}

/// Descriptor chains, of the device's queues and of lanes.
pub mod chain {
    use std::ptr::NonNull;

    use vhost_user_backend::VringT as _;
    use vm_memory::{
        Bytes as _, GuestAddress, GuestMemoryAtomic, GuestMemoryMmap, guest_memory::GuestMemoryBackend as _,
    };

    use crate::{
        supervisor::{
            chain::{self, CONTROL_BYTES, Next},
            vring::Vring,
        },
        worker::lanes::{
            chain as requests,
            queue::{Place, Queue},
            view::View,
        },
    };

    const BYTES: usize = 0x1_0000;
    const SIZE: u16 = 16;
    const AVAILABLE: u64 = 0x400;
    const USED: u64 = 0x800;
    const SLOTS: u64 = 0xc00;

    /// The data is the beginning of guest memory: descriptors, then the available ring, then whatever they point to.
    ///
    /// # Panics
    /// A chain is taken that breaks a limit, or a queue does not come to an end.
    pub fn fuzz_one(data: &[u8]) {
        let Ok(memory) = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), BYTES)]) else { return };
        let length = data.len().min(BYTES);
        assert!(memory.write_slice(&data[..length], GuestAddress(0)).is_ok());
        lane(&memory);
        controlq(memory);
    }

    fn controlq(memory: GuestMemoryMmap<()>) {
        let memory = GuestMemoryAtomic::new(memory);
        let Ok(vring) = Vring::new(memory.clone(), SIZE) else { return };
        assert!(vring.set_queue_info(0, AVAILABLE, USED).is_ok());
        vring.set_queue_ready(true);
        vring.set_enabled(true);
        for _ in 0..=SIZE {
            match chain::next(&vring, &memory, CONTROL_BYTES) {
                Next::Chain(taken, bytes) => {
                    assert!(bytes.len() <= CONTROL_BYTES && taken.head < SIZE);
                    let _told = chain::give_back(&vring, &memory, &taken, &[0; 64]);
                }
                Next::Bad { head, .. } => assert!(head < SIZE),
                Next::Empty | Next::Broken(_) => return,
            }
        }
    }

    fn lane(memory: &GuestMemoryMmap<()>) {
        let base = memory.get_host_address(GuestAddress(0)).ok().and_then(NonNull::new);
        let Some(base) = base else { return };
        // SAFETY: `memory` is a mapping of this length, and outlives the view.
        let view = unsafe { View::new(base, BYTES) };
        let slots = (SLOTS, BYTES as u64);
        let place =
            Place { size: SIZE, descriptors: 0, available: AVAILABLE, used: USED, slots, slot_bytes: 0x100 };
        let Ok(mut queue) = Queue::new(view, place) else { return };
        let mut bytes = Vec::new();
        for _ in 0..=SIZE {
            let Ok(Some(chain)) = queue.take() else { return };
            assert!(chain.head < SIZE);
            queue.prefetch();
            if let Ok(request) = requests::read(view, chain, &mut bytes) {
                assert_eq!(bytes.len() - requests::HEADER, request.header.length as usize);
            }
            queue.give_back(chain.head, 0);
            let _told = queue.tell();
        }
    }

    /// A queue with one sound chain of each kind, to begin with.
    #[must_use]
    pub fn sound() -> Vec<u8> {
        let mut bytes = vec![0; 0x2000];
        let mut describe = |index: usize, address: u64, length: u32, flags: u16, next: u16| {
            let at = index * 16;
            bytes[at..at + 8].copy_from_slice(&address.to_le_bytes());
            bytes[at + 8..at + 12].copy_from_slice(&length.to_le_bytes());
            bytes[at + 12..at + 14].copy_from_slice(&flags.to_le_bytes());
            bytes[at + 14..at + 16].copy_from_slice(&next.to_le_bytes());
        };
        describe(0, 0x1000, 40, 1, 1);
        describe(1, 0x1800, 64, 2, 0);
        describe(2, 0x1000, 40, 0, 0);
        let available = usize::try_from(AVAILABLE).unwrap_or(0);
        bytes[available + 2..available + 8].copy_from_slice(&[2, 0, 0, 0, 2, 0]);
        // A lane's request: eight bytes of parameters behind the header.
        bytes[0x1000 + 24] = 8;
        bytes
    }
}

/// Requests of a lane, executed by a driver.
pub mod calls;

/// Bytes as decisions; zeros when they are used up.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    fn number(&mut self) -> u64 {
        let mut number = Wrapping(0_u64);
        for _ in 0..8 {
            number = (number << 8) | Wrapping(self.byte().into());
        }
        number.0
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

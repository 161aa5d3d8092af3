//! The vhost-user device.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::VhostUserBackend;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;
use virtio_spec::control::{Event, EventType};
use virtio_spec::device::{self, Config, MAGIC, PROTOCOL_VERSION, State};
use virtio_spec::{info, limits};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};
use zerocopy::IntoBytes as _;

use crate::control::{Answer, Control};
use crate::fault::Fault;
use crate::information;
use crate::queue::{self, Chain, Memory, Vring};

/// vhost-user's own feature bit (`VHOST_USER_F_PROTOCOL_FEATURES`).
const PROTOCOL_FEATURES: u64 = 1 << 30;

/// When a late answer comes.
const LATE: Duration = Duration::from_secs(2);

/// How far the used index goes when it goes too far.
const JUMP: u16 = 1000;

/// An identifier of a chain that no queue of the device can have.
const BEYOND: u32 = 60_000;

struct Inner {
    /// The first is the present one.
    faults: VecDeque<Fault>,
    control: Control,
    /// Chains of `eventq` that wait for an event.
    buffers: VecDeque<Chain>,
    /// Chains that have been taken from `controlq` since it was started.
    taken: Vec<u16>,
    /// Those of before the last reset.
    stale: Vec<u16>,
    /// How often the queues have been stopped.
    stops: u32,
}

/// What the vhost-user crate calls.
#[derive(Clone)]
pub(crate) struct Device {
    memory: Memory,
    inner: Arc<Mutex<Inner>>,
}

impl Device {
    /// One that begins with the first fault, and goes on to the next at each reset by the guest's driver. The last stays.
    pub(crate) fn new(memory: Memory, faults: impl IntoIterator<Item = Fault>) -> Self {
        let inner = Inner {
            faults: faults.into_iter().collect(),
            control: Control::default(),
            buffers: VecDeque::new(),
            taken: Vec::new(),
            stale: Vec::new(),
            stops: 0,
        };
        Self { memory, inner: Arc::new(Mutex::new(inner)) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self) -> Config {
        let inner = self.inner();
        let fault = inner.fault();
        let allowed = |right| match fault {
            Fault::ConfigNothingAllowed => 0,
            Fault::ConfigEverythingAllowed => u32::MAX,
            _ => right,
        };
        Config {
            magic: if fault == Fault::ConfigMagic { !MAGIC } else { MAGIC },
            version: if fault == Fault::ConfigVersion { 99 } else { PROTOCOL_VERSION },
            generation: inner.control.generation,
            state: State::Ready as u32,
            device_count: 1,
            info_bytes: information::BYTES.min(info::MAX_BYTES),
            max_sessions: allowed(limits::MAX_SESSIONS),
            max_lanes: allowed(limits::MAX_LANES),
            max_regions: allowed(limits::MAX_REGIONS),
            max_extents: allowed(limits::MAX_EXTENTS),
            reserved: [0; 6],
        }
    }

    fn serve(&self, control: &Vring, events: &Vring) -> Result<()> {
        let mut inner = self.inner();
        while let Some(chain) = queue::take(events, &self.memory)? {
            inner.buffers.push_back(chain);
        }
        while let Some(chain) = queue::take(control, &self.memory)? {
            inner.taken.push(chain.head);
            let (fault, room) = (inner.fault(), chain.room_bytes());
            match inner.control.answer(fault, &self.memory, &chain.request, room) {
                Answer::Never => {}
                Answer::Now(bytes) => inner.give_back(control, &self.memory, &chain, &bytes)?,
                Answer::Late(bytes) => self.answer_late(&inner, control.clone(), chain, bytes),
            }
            inner.send_events(events, &self.memory)?;
        }
        Ok(())
    }

    /// Answers in a while, unless the driver has reset the device since: then the memory is not the device's any more,
    /// and no driver could bear it.
    fn answer_late(&self, inner: &Inner, control: Vring, chain: Chain, bytes: Vec<u8>) {
        let (device, stops) = (self.clone(), inner.stops);
        thread::spawn(move || {
            thread::sleep(LATE);
            let mut inner = device.inner();
            if inner.stops == stops
                && let Err(error) = inner.give_back(&control, &device.memory, &chain, &bytes)
            {
                log::warn!("a late answer: {error:#}");
            }
        });
    }
}

impl Inner {
    fn fault(&self) -> Fault {
        self.faults.front().copied().unwrap_or(Fault::None)
    }

    /// Gives a request back with its answer.
    fn give_back(&mut self, vring: &Vring, memory: &Memory, chain: &Chain, bytes: &[u8]) -> Result<()> {
        let written = chain.write(memory, bytes)?;
        let head = u32::from(chain.head);
        match self.fault() {
            Fault::UsedTwice => {
                queue::give_back(vring, memory, head, written, 1)?;
                queue::give_back(vring, memory, head, written, 1)
            }
            Fault::UsedBeyond => queue::give_back(vring, memory, BEYOND, written, 1),
            Fault::UsedIdle => queue::give_back(vring, memory, u32::from(device::QUEUE_SIZE - 1), written, 1),
            Fault::UsedStale => {
                for stale in std::mem::take(&mut self.stale) {
                    queue::give_back(vring, memory, u32::from(stale), written, 1)?;
                }
                queue::give_back(vring, memory, head, written, 1)
            }
            Fault::UsedLong => queue::give_back(vring, memory, head, u32::MAX, 1),
            Fault::UsedEmpty => queue::give_back(vring, memory, head, 0, 1),
            Fault::UsedJump => queue::give_back(vring, memory, head, written, JUMP),
            Fault::UsedBack => queue::give_back(vring, memory, head, written, u16::MAX),
            _ => queue::give_back(vring, memory, head, written, 1),
        }
    }

    fn send_events(&mut self, vring: &Vring, memory: &Memory) -> Result<()> {
        let fault = self.fault();
        if matches!(fault, Fault::EventGarbage | Fault::EventEmpty | Fault::EventStorm) {
            let count = if fault == Fault::EventStorm { self.buffers.len() } else { 1 };
            self.control.events.extend(std::iter::repeat_n((EventType::Config, 0), count));
        }
        while let Some((kind, session)) = self.control.events.pop() {
            let Some(buffer) = self.buffers.pop_front() else { break };
            let mut event =
                Event { kind: kind as u32, session, generation: self.control.generation, reserved: 0 };
            if fault == Fault::EventGarbage {
                self.control.noise.fill(event.as_mut_bytes());
            }
            let bytes = if fault == Fault::EventEmpty { &[] } else { event.as_bytes() };
            let written = buffer.write(memory, bytes)?;
            queue::give_back(vring, memory, buffer.head.into(), written, 1)?;
        }
        Ok(())
    }
}

impl VhostUserBackend for Device {
    type Bitmap = ();
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        device::QUEUE_COUNT.into()
    }

    fn max_queue_size(&self) -> usize {
        device::QUEUE_SIZE.into()
    }

    fn features(&self) -> u64 {
        (1 << VIRTIO_F_VERSION_1) | (1 << VIRTIO_RING_F_INDIRECT_DESC) | PROTOCOL_FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
    }

    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = self.config();
        let mut bytes = config.as_bytes().get(offset as usize..).unwrap_or_default().to_vec();
        bytes.resize(size as usize, 0);
        bytes
    }

    fn set_config(&self, _offset: u32, _bytes: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn update_memory(&self, _memory: Memory) -> std::io::Result<()> {
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC).ok()
    }

    fn stop_vring(&self, queue: u32) -> std::io::Result<()> {
        if queue == u32::from(device::CONTROLQ) {
            let mut inner = self.inner();
            inner.stops = inner.stops.wrapping_add(1);
            inner.control.reset();
            inner.buffers.clear();
            inner.stale = std::mem::take(&mut inner.taken);
            if inner.faults.len() > 1 {
                inner.faults.pop_front();
            }
            log::info!("the queues have been stopped; from now on: {:?}", inner.fault());
        }
        Ok(())
    }

    fn handle_event(
        &self,
        _queue: u16,
        _events: EventSet,
        vrings: &[Vring],
        _thread: usize,
    ) -> std::io::Result<()> {
        if let [control, events, ..] = vrings
            && let Err(error) = self.serve(control, events)
        {
            log::warn!("{:?}: {error:#}", self.inner().fault());
        }
        Ok(())
    }
}

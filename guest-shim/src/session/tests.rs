//! Lanes against a device in the same process: the `virtio-queue` crate on the other side of the rings.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use virtio_queue::{Queue as DeviceQueue, QueueT};
use virtio_spec::control::SessionOptions;
use virtio_spec::cuda::CUresult;
use virtio_spec::session::{Layout, RequestHeader, ResponseHeader};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, guest_memory::GuestMemoryBackend};

use super::lane::Head;
use super::region::Region;
use super::{LaneState, Session};
use crate::transport::{Transport, TransportError, Woken};

/// Answered with the request's own parameters.
const ECHO: u32 = 1;
/// Posted; its late error is its only parameter.
const FAIL: u32 = 2;
/// Answered with a length that the response has not.
const LIE: u32 = 3;
/// Not answered: the device dies of it.
const DIE: u32 = 4;
/// Answered when the guest sleeps, and without a wake-up.
const FORGET: u32 = 5;

/// The device's half: a thread that serves every lane.
struct Device {
    memory: OnceLock<GuestMemoryMmap>,
    dead: AtomicBool,
    stop: AtomicBool,
    /// The guest's next sleep misses its wake-up.
    forgetful: AtomicBool,
    asleep: AtomicBool,
    /// Sequence numbers in the order in which they were executed.
    executed: Mutex<Vec<u64>>,
}

struct Loopback(Arc<Device>);

fn futex(word: *mut u32, operation: i32, value: u32, limit: Option<Duration>) -> i64 {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: i64::try_from(limit.as_secs()).expect("a short time"),
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: a live, aligned word of the test's memory, and a complete time-out or none.
    unsafe { libc::syscall(libc::SYS_futex, word, operation, value, limit) }
}

impl Transport for Loopback {
    fn create_session(
        &self,
        length: u64,
        _options: SessionOptions,
        prepare: &dyn Fn(Region),
    ) -> Result<Region, TransportError> {
        let length = usize::try_from(length).expect("fits");
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), length)]).expect("memory");
        let base = memory.get_host_address(GuestAddress(0)).expect("mapped");
        // SAFETY: the mapping of this length, which the device keeps for as long as the leaked session.
        let region = unsafe { Region::new(NonNull::new(base).expect("not null"), length as u64) };
        prepare(region);
        assert!(self.0.memory.set(memory).is_ok(), "one session");
        let device = Arc::clone(&self.0);
        std::thread::spawn(move || device.serve());
        Ok(region)
    }

    fn map(&self, _: u64, _: u64) -> Result<u32, TransportError> {
        Err(TransportError::Protocol)
    }

    fn register(&self, _: u64, _: u64, _: bool) -> Result<u32, TransportError> {
        Err(TransportError::Protocol)
    }

    fn unmap(&self, _: u32) -> Result<(), TransportError> {
        Err(TransportError::Protocol)
    }

    fn kick(&self) {}

    fn wait(&self, word: &AtomicU32, _: u64, expected: u32, limit: Duration) -> Woken {
        if self.0.forgetful.load(Ordering::Acquire) {
            // The sleep of a guest that is not woken: the answer comes, and time passes.
            self.0.asleep.store(true, Ordering::Release);
            while word.load(Ordering::Acquire) == expected {
                std::thread::yield_now();
            }
            std::thread::sleep(limit);
            return Woken::TimedOut;
        }
        let result = futex(word.as_ptr(), libc::FUTEX_WAIT, expected, Some(limit));
        match result {
            0 => Woken::Perhaps,
            _ if self.0.dead.load(Ordering::Acquire) => Woken::Dead,
            _ if std::io::Error::last_os_error().raw_os_error() == Some(libc::ETIMEDOUT) => Woken::TimedOut,
            _ => Woken::Perhaps,
        }
    }

    fn descriptor(&self) -> i32 {
        -1
    }

    fn is_alive(&self) -> bool {
        !self.0.dead.load(Ordering::Acquire)
    }
}

impl Device {
    /// Serves the lanes in turn; like a device that never sleeps, so that it needs no kicks.
    fn serve(&self) {
        let memory = self.memory.get().expect("the session's memory");
        let layout = Layout::DEFAULT;
        let mut queues: Vec<_> = (0..layout.lane_count()).map(|lane| queue(&layout, lane)).collect();
        while !self.stop.load(Ordering::Relaxed) {
            for (lane, queue) in (0..).zip(&mut queues) {
                while let Some(chain) = queue.pop_descriptor_chain(memory) {
                    let head = chain.head_index();
                    let buffers: Vec<_> = chain.collect();
                    let Some((length, wake)) = self.execute(memory, &layout, lane, &buffers) else { return };
                    queue.add_used(memory, head, length).expect("a used entry");
                    if queue.needs_notification(memory).expect("the event index") && wake {
                        let word = memory.get_host_address(GuestAddress(layout.used(lane))).expect("mapped");
                        futex(word.cast(), libc::FUTEX_WAKE, u32::MAX >> 1, None);
                    }
                }
            }
            std::thread::yield_now();
        }
    }

    fn execute(
        &self,
        memory: &GuestMemoryMmap,
        layout: &Layout,
        lane: u32,
        buffers: &[virtio_queue::desc::split::Descriptor],
    ) -> Option<(u32, bool)> {
        let mut header = [0; size_of::<RequestHeader>()];
        memory.read_slice(&mut header, buffers[0].addr()).expect("a request");
        let header: RequestHeader = zerocopy::transmute!(header);
        let mut parameters = vec![0; header.length as usize];
        let start = GuestAddress(buffers[0].addr().0 + size_of::<RequestHeader>() as u64);
        memory.read_slice(&mut parameters, start).expect("parameters");
        self.executed.lock().expect("not poisoned").push(header.sequence);
        match header.opcode {
            FAIL => {
                let error = u32::from_le_bytes([parameters[0], parameters[1], parameters[2], parameters[3]]);
                // The late error stands in the lane's second cache line.
                memory.write_obj(error, GuestAddress(layout.lane(lane) + 64)).expect("the lane's header");
                return Some((0, true));
            }
            DIE => {
                self.dead.store(true, Ordering::Release);
                return None;
            }
            FORGET => {
                while !self.asleep.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            }
            _ => {}
        }
        let Some(response) = buffers.get(1) else { return Some((0, true)) };
        let length = if header.opcode == LIE { u32::MAX } else { header.length };
        let answer = ResponseHeader { result: 0, length };
        memory.write_slice(&parameters, GuestAddress(response.addr().0 + 8)).expect("room");
        memory.store(answer.word(), response.addr(), Ordering::Release).expect("room");
        Some((response.len(), header.opcode != FORGET))
    }
}

fn queue(layout: &Layout, lane: u32) -> DeviceQueue {
    let mut queue = DeviceQueue::new(layout.queue_size()).expect("a power of two");
    queue.set_event_idx(true);
    queue.try_set_desc_table_address(GuestAddress(layout.descriptors(lane))).expect("aligned");
    queue.try_set_avail_ring_address(GuestAddress(layout.available(lane))).expect("aligned");
    queue.try_set_used_ring_address(GuestAddress(layout.used(lane))).expect("aligned");
    queue.set_ready(true);
    queue
}

/// A session whose device runs until the guard is dropped.
struct Running {
    session: &'static Session,
    device: Arc<Device>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.device.stop.store(true, Ordering::Relaxed);
    }
}

fn start() -> Running {
    let device = Arc::new(Device {
        memory: OnceLock::new(),
        dead: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        forgetful: AtomicBool::new(false),
        asleep: AtomicBool::new(false),
        executed: Mutex::new(Vec::new()),
    });
    let session = Session::start(Box::new(Loopback(Arc::clone(&device)))).expect("a session");
    Running { session: Box::leak(Box::new(session)), device }
}

const fn head(opcode: u32) -> Head {
    Head { opcode, flags: 0, context: 0, capture_mode: 0 }
}

/// An answered request's parameters, as they came back.
fn ask(
    session: &'static Session,
    lane: &super::Lane,
    opcode: u32,
    bytes: &[u8],
) -> Result<Vec<u8>, CUresult> {
    let mut traffic = lane.lock();
    traffic.bytes.clear();
    traffic.bytes.extend_from_slice(bytes);
    let room = u32::try_from(bytes.len()).expect("short");
    let pending = traffic.send(session, lane, head(opcode), Some(room))?;
    assert_eq!(traffic.receive(session, pending, false)?, CUresult::SUCCESS);
    Ok(traffic.bytes.clone())
}

fn post(session: &'static Session, lane: &super::Lane, opcode: u32, bytes: &[u8]) {
    let mut traffic = lane.lock();
    traffic.bytes.clear();
    traffic.bytes.extend_from_slice(bytes);
    traffic.send(session, lane, head(opcode), None).expect("posted");
}

#[test]
fn a_response_is_that_of_its_request() {
    let running = start();
    let lane = running.session.take_lane();
    for length in [0, 1, 8, 900, 5000, 40_000] {
        let bytes: Vec<u8> = (0..length).map(|index: u32| index.to_le_bytes()[0]).collect();
        assert_eq!(ask(running.session, lane, ECHO, &bytes), Ok(bytes));
    }
}

#[test]
fn posted_requests_beyond_the_ring_run_in_order() {
    let running = start();
    let lane = running.session.take_lane();
    for number in 0..1000_u64 {
        post(running.session, lane, ECHO, &number.to_le_bytes());
    }
    assert_eq!(ask(running.session, lane, ECHO, b"end"), Ok(b"end".to_vec()));
    let executed = running.device.executed.lock().expect("not poisoned").clone();
    assert_eq!(executed, (1..=1001).collect::<Vec<_>>());
}

#[test]
fn a_late_error_is_taken_once() {
    let running = start();
    let lane = running.session.take_lane();
    post(running.session, lane, FAIL, &1_u32.to_le_bytes());
    ask(running.session, lane, ECHO, b"").expect("answered");
    assert!(lane.has_deferred_error());
    assert_eq!(lane.take_deferred_error(), Some(CUresult::ERROR_INVALID_VALUE));
    assert_eq!(lane.take_deferred_error(), None);
}

#[test]
fn the_device_knows_which_lanes_may_have_requests() {
    let running = start();
    let session = running.session;
    let used = || session.lanes_used.load(Ordering::Relaxed);
    assert_eq!(used(), 0, "none has been taken");
    let lanes = [session.take_lane(), session.take_lane(), session.take_lane()];
    assert_eq!(used(), 3);
    for lane in lanes {
        session.give_lane_back(lane);
    }
    session.take_lane();
    assert_eq!(used(), 3, "what a lane has posted lasts longer than its thread");
}

#[test]
fn more_threads_than_lanes_share_them() {
    let running = start();
    let session = running.session;
    let threads: Vec<_> = (0..40_u8)
        .map(|number| {
            std::thread::spawn(move || {
                let lane = session.take_lane();
                for round in 0..50_u8 {
                    assert_eq!(ask(session, lane, ECHO, &[number, round]), Ok(vec![number, round]));
                }
                session.give_lane_back(lane);
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("the thread ends");
    }
    assert!(session.lanes.iter().all(|lane| lane.state.load(Ordering::Relaxed) == LaneState::Free as u32));
    assert_eq!(session.guest_backstops.load(Ordering::Relaxed), 0, "no wake-up was lost");
}

#[test]
fn a_lane_belongs_to_one_thread_while_there_are_others() {
    let running = start();
    let first = running.session.take_lane();
    let second = running.session.take_lane();
    assert_ne!(first.index(), second.index());
    running.session.give_lane_back(first);
    assert_eq!(running.session.take_lane().index(), first.index());
}

#[test]
fn a_session_that_dies_fails_what_waits_and_what_follows() {
    let running = start();
    let lane = running.session.take_lane();
    let outcome = ask(running.session, lane, DIE, b"");
    assert_eq!(outcome, Err(CUresult::ERROR_DEVICE_UNAVAILABLE));
    assert_eq!(running.session.check(), Err(CUresult::ERROR_DEVICE_UNAVAILABLE));
}

#[test]
fn a_death_that_left_no_error_is_seen_without_a_request() {
    let running = start();
    assert_eq!(running.session.check_alive(), Ok(()));
    running.device.dead.store(true, Ordering::Release);
    assert_eq!(running.session.check(), Ok(()), "nobody has noticed");
    // Within one tick of the kernel's clock the answer may still be the old one.
    let start = Instant::now();
    while running.session.check_alive().is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5), "the death is not seen");
        std::thread::yield_now();
    }
    assert_eq!(running.session.check_alive(), Err(CUresult::ERROR_DEVICE_UNAVAILABLE));
    assert_eq!(running.session.check(), Err(CUresult::ERROR_DEVICE_UNAVAILABLE), "it stays");
}

#[test]
fn a_response_longer_than_its_room_breaks_the_session() {
    let running = start();
    let lane = running.session.take_lane();
    assert_eq!(ask(running.session, lane, LIE, b""), Err(CUresult::ERROR_UNKNOWN));
    assert!(running.session.check().is_err());
}

#[test]
fn a_forgotten_wake_up_is_counted() {
    let running = start();
    let lane = running.session.take_lane();
    running.device.forgetful.store(true, Ordering::Release);
    assert_eq!(ask(running.session, lane, FORGET, b"x"), Ok(b"x".to_vec()));
    assert_eq!(running.session.guest_backstops.load(Ordering::Relaxed), 1);
}

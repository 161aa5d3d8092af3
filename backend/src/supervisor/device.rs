//! The vhost-user device: threads that answer QEMU from memory and put everything else into a mailbox.
//!
//! QEMU holds the whole VM while it waits for an answer, and ends the VM when the connection ends. So nothing here
//! blocks (but for the stop of the queues, which has to wait until no worker touches guest memory), returns an error
//! or panics.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::net::UnixListener,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use rustix::event::EventfdFlags;
use vhost::vhost_user::{Error as VhostUserError, Listener, message::VhostUserProtocolFeatures};
use vhost_user_backend::{Error, VhostUserBackend, VhostUserDaemon};
use virtio_bindings::bindings::{
    virtio_config::VIRTIO_F_VERSION_1,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};
use virtio_spec::device;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::{
    epoll::EventSet,
    event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier},
};

use crate::supervisor::vring::{Memory, Vring};

/// vhost-user's own feature bit (`VHOST_USER_F_PROTOCOL_FEATURES`).
const PROTOCOL_FEATURES: u64 = 1 << 30;

/// How often a stop that does not come to its end is logged.
const STOP_COMPLAINT: Duration = Duration::from_secs(5);

/// What the vhost-user threads have to tell.
#[derive(Default)]
pub(crate) struct Mail {
    /// A connection with this number is expected; its guest memory.
    pub(crate) connection: Option<(u64, Memory)>,
    /// The connection with this number has ended.
    pub(crate) ended: Option<u64>,
    /// Queues that have been kicked since the last look, or have been started, with their connection.
    pub(crate) kicked: [Option<(u64, Vring)>; device::QUEUE_COUNT as usize],
    /// Who waits until no worker touches guest memory.
    pub(crate) stops: Vec<SyncSender<()>>,
}

/// Between the vhost-user threads and the supervisor's.
pub(crate) struct Mailbox {
    mail: Mutex<Mail>,
    wake: OwnedFd,
    config: Mutex<device::Config>,
}

impl Mailbox {
    pub(crate) fn new(config: device::Config) -> rustix::io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { mail: Mutex::default(), wake, config: Mutex::new(config) })
    }

    fn put(&self, change: impl FnOnce(&mut Mail)) {
        change(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        // EAGAIN: a wake-up is under way already.
        let _woken = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Everything since the last time.
    pub(crate) fn take(&self) -> Mail {
        let mut count = [0; 8];
        // EAGAIN: it has been taken before.
        let _awake = rustix::io::read(&self.wake, &mut count);
        std::mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configuration space from now on.
    pub(crate) fn set_config(&self, config: device::Config) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn config(&self) -> device::Config {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// What the vhost-user crate calls.
struct Device {
    connection: u64,
    mailbox: Arc<Mailbox>,
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
        (1 << VIRTIO_F_VERSION_1)
            | (1 << VIRTIO_RING_F_INDIRECT_DESC)
            | (1 << VIRTIO_RING_F_EVENT_IDX)
            | PROTOCOL_FEATURES
            | device::features::ALL
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
    }

    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        use zerocopy::IntoBytes as _;

        let config = self.mailbox.config();
        let rest = usize::try_from(offset).ok().and_then(|offset| config.as_bytes().get(offset..));
        let mut bytes = rest.unwrap_or_default().to_vec();
        // Beyond its end the space reads as zero; an answer of another size would be an error to QEMU.
        bytes.resize(usize::try_from(size).unwrap_or(0), 0);
        bytes
    }

    fn set_config(&self, _offset: u32, _bytes: &[u8]) -> std::io::Result<()> {
        // Read-only for the driver; an error would end the VM.
        Ok(())
    }

    fn update_memory(&self, _memory: Memory) -> std::io::Result<()> {
        // The supervisor looks the memory up each time that it needs it.
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC).ok()
    }

    fn stop_vring(&self, queue: u32) -> std::io::Result<()> {
        if queue != u32::from(device::CONTROLQ) {
            return Ok(());
        }
        let (done, stopped) = sync_channel(1);
        self.mailbox.put(|mail| mail.stops.push(done));
        loop {
            match stopped.recv_timeout(STOP_COMPLAINT) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    log::error!(
                        "a killed worker does not end (is the GPU driver stuck?); QEMU has to wait for it"
                    );
                }
            }
        }
    }

    fn handle_event(
        &self,
        event: u16,
        _events: EventSet,
        vrings: &[Vring],
        _thread: usize,
    ) -> std::io::Result<()> {
        let queue = usize::from(event);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            if let Some(vring) = vrings.get(queue).cloned() {
                self.mailbox.put(|mail| {
                    if let Some(kicked) = mail.kicked.get_mut(queue) {
                        *kicked = Some((self.connection, vring));
                    }
                });
            }
        }));
        if handled.is_err() {
            log::error!("a kick of queue {queue} is lost");
        }
        Ok(())
    }
}

/// Serves one connection after the other on a listener that is kept, until the process ends.
pub(crate) fn serve(listener: UnixListener, mailbox: &Arc<Mailbox>) {
    let mut listener = Listener::from(listener);
    for connection in 1.. {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let device = Arc::new(Device { connection, mailbox: Arc::clone(mailbox) });
        let mut daemon = match VhostUserDaemon::new("vhost-user".to_owned(), device, memory.clone()) {
            Ok(daemon) => daemon,
            Err(error) => {
                log::error!("no more connections of QEMU can be served: {error}");
                return;
            }
        };
        mailbox.put(|mail| mail.connection = Some((connection, memory)));
        if let Err(error) = daemon.start(&mut listener) {
            log::error!("no more connections of QEMU can be served: {error}");
            return;
        }
        log::info!("QEMU has connected");
        match daemon.wait() {
            Ok(()) | Err(Error::HandleRequest(VhostUserError::Disconnected)) => {
                log::info!("QEMU has disconnected");
            }
            Err(error) => log::error!("the connection to QEMU has ended: {error}"),
        }
        mailbox.put(|mail| mail.ended = Some(connection));
    }
}

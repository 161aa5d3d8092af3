//! The worker: one guest process's shadow. (This file contains unsafe code: ending without clean-up.)
//!
//! Read in this order:
//! 1. this file: the shell, which does what the supervisor says and hands kicks to the lanes;
//! 2. [`memory`]: the session's memory, mapped;
//! 3. [`notify`]: waking guest threads;
//! 4. [`driver`]: the CUDA driver, loaded;
//! 5. [`lanes`]: the threads that take the guest's requests;
//! 6. [`calls`]: what each request does;
//! 7. [`output`]: what kernels print;
//! 8. [`sealed`]: images that processes share;
//! 9. [`warm`]: what is done before there is a session.
//!
//! A worker runs what its guest says, and on some hosts a GPU kernel can write to its memory: nothing here is worth
//! protecting from the guest process it serves, and the supervisor believes nothing it says.

pub(crate) mod broker;
pub(crate) mod calls;
pub(crate) mod driver;
pub(crate) mod host_calls;
pub(crate) mod lanes;
pub(crate) mod memory;
pub(crate) mod notify;
pub(crate) mod output;
pub(crate) mod sealed;
mod warm;

use std::{
    ffi::OsString,
    io,
    mem::offset_of,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    net::{RecvFlags, SendFlags},
    process::{Resource, Rlimit},
};
use virtio_spec::{
    control::Status,
    cuda::CUresult,
    device, info,
    session::{SessionHeader, WorkerState},
};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

use crate::{
    link::{self, Command, Kind, Piece, Reply},
    logging, management, packet,
    spawner::{self, SpawnerError},
    spin::{Spinning, Terms},
};
use driver::{Driver, DriverError};
use lanes::{Lanes, LanesError};
use memory::{MemoryError, RegionFlags, RegionInfo, Regions, SessionMemory};
use notify::Notifier;

/// First argument of a worker.
pub(crate) const ROLE: &str = "@worker";

/// First argument of a worker that initialises the driver before its session comes.
pub(crate) const WARM_ROLE: &str = "@warm-worker";

/// First argument of one that also has a primary context, of the device whose place is the last argument.
pub(crate) const WARM_CONTEXT_ROLE: &str = "@warm-context";

/// First argument of the discovery process.
pub(crate) const DISCOVERY_ROLE: &str = "@discovery";

/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: u32 = 100;

/// Why a worker ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("the process was started without its arguments")]
    Arguments,
    #[error(transparent)]
    Input(#[from] SpawnerError),
    #[error("the address window cannot be reserved")]
    Window(#[source] MemoryError),
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
    #[error("standard output cannot be captured")]
    Output(#[source] io::Error),
    #[error("the supervisor's socket fails")]
    Link(#[source] Errno),
    #[error("the supervisor's command is not what is expected")]
    Command,
    #[error("the session's memory cannot be mapped")]
    Memory(#[source] MemoryError),
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    Lanes(#[from] LanesError),
}

impl WorkerError {
    /// Whether the host's operator has to do something about it.
    fn concerns_host(&self) -> bool {
        !matches!(self, Self::Memory(_) | Self::Lanes(_))
    }
}

/// What a worker has done before its session comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Warmth {
    /// Nothing.
    Cold,
    /// The driver is initialised.
    Driver,
    /// There is a primary context, too, and the driver has compiled and run something.
    Context,
}

/// The worker process.
pub(crate) fn run(warmth: Warmth) -> ! {
    match serve_session(warmth) {
        Ok(()) => exit(0),
        Err(error) => {
            // A guest can bring some of these about as often as it likes.
            let level = if error.concerns_host() { log::Level::Error } else { log::Level::Debug };
            log::log!(level, "{}", crate::chain(&error));
            exit(1)
        }
    }
}

fn serve_session(warmth: Warmth) -> Result<(), WorkerError> {
    let (driver_path, others) = arguments("worker")?;
    let driver_path = driver_path.ok_or(WorkerError::Arguments)?;
    keep_memory_off_disks();
    // Before any library comes to lie there.
    memory::reserve_window().map_err(WorkerError::Window)?;
    let link = Arc::new(spawner::take_standard_input()?);
    end_with(Arc::clone(&link))?;

    output::capture().map_err(WorkerError::Output)?;

    let load = || Driver::load(Path::new(&driver_path)).map_err(WorkerError::from);
    let warmed = if warmth == Warmth::Cold { None } else { Some(load()?) };
    if let Some(driver) = &warmed {
        // The session's first call asks for it again, and is told what became of it.
        let mut result = driver.initialise();
        if warmth == Warmth::Context && result == CUresult::SUCCESS {
            let device = others.first().and_then(|place| place.to_str()?.parse().ok());
            result = warm::prepare(driver, device.ok_or(WorkerError::Arguments)?);
        }
        let status = if result == CUresult::SUCCESS { Status::Ok } else { Status::Failed };
        reply(&link, link::READY, status)?;
    }
    let mut shell = Shell::start(link)?;
    let result = warmed.map_or_else(load, Ok).and_then(|driver| shell.serve(&Arc::new(driver)));
    if result.is_err() {
        shell.refuse();
    }
    result
}

/// A core file would hold the guest process's data.
fn keep_memory_off_disks() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(Resource::Core, none) {
        log::warn!("core files cannot be switched off: {error}");
    }
}

/// The discovery process: writes which driver is taken (its index) and the device information to its standard input,
/// which is a pipe.
pub(crate) fn discover() -> Result<(), WorkerError> {
    let (first, others) = arguments("discovery")?;
    let output = spawner::take_standard_input()?;
    let mut answer = (0_u32, no_devices());
    for (index, path) in (0_u32..).zip(first.iter().chain(&others)) {
        match Driver::load(Path::new(path)) {
            Ok(driver) => {
                let mut information = driver::discover(&driver);
                management::describe(&mut information);
                let header = info::InfoHeader::read_from_prefix(&information);
                let devices = header.map_or(0, |(header, _)| header.device_count);
                log::info!("{}: {devices} devices", path.display());
                answer = (index, information);
                if devices > 0 {
                    break;
                }
            }
            Err(error) => log::info!("{}", crate::chain(&error)),
        }
    }
    if answer.1 == no_devices() {
        log::warn!("no CUDA driver could be loaded; guests will find no device");
    }
    let mut bytes = answer.0.to_le_bytes().to_vec();
    bytes.extend_from_slice(&answer.1);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let written =
            rustix::io::retry_on_intr(|| rustix::io::write(&output, rest)).map_err(WorkerError::Link)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    exit(0)
}

/// The drivers' paths; starts logging with the filter that precedes them.
fn arguments(role: &'static str) -> Result<(Option<OsString>, Vec<OsString>), WorkerError> {
    let mut arguments = std::env::args_os().skip(2);
    let log = arguments.next().and_then(|filter| filter.into_string().ok()).ok_or(WorkerError::Arguments)?;
    logging::start(role, &log);
    Ok((arguments.next(), arguments.collect()))
}

/// The information when no driver could be loaded.
fn no_devices() -> Vec<u8> {
    let mut header = info::InfoHeader::new_zeroed();
    header.magic = info::MAGIC;
    header.version = device::PROTOCOL_VERSION;
    header.init_result = NO_DEVICE;
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(info::RECORD_BYTES as usize, 0);
    bytes
}

/// Ends without running what libraries have registered for the end of the process: a CUDA driver that waits for the
/// GPU there would keep the guest's memory.
fn exit(status: i32) -> ! {
    // SAFETY: ends the process; the kernel takes everything back.
    unsafe { libc::_exit(status) }
}

/// Ends the process when the supervisor's end of the link is closed, whatever the other threads are doing.
fn end_with(link: Arc<OwnedFd>) -> Result<(), WorkerError> {
    let watch = move || loop {
        // No flags: only the end of the connection is reported.
        let mut ends = [PollFd::new(&*link, PollFlags::empty())];
        match rustix::event::poll(&mut ends, None) {
            Ok(_) => exit(0),
            Err(Errno::INTR) => {}
            Err(error) => {
                log::error!("the supervisor cannot be watched: {error}");
                exit(0);
            }
        }
    };
    std::thread::Builder::new().name("end".to_owned()).spawn(watch).map_err(WorkerError::Thread)?;
    Ok(())
}

/// A region whose pieces come in several commands.
#[derive(Default)]
struct Incomplete {
    pieces: Vec<Piece>,
    files: Vec<OwnedFd>,
}

/// Does what the supervisor says, and hands kicks to the lanes.
struct Shell {
    link: Arc<OwnedFd>,
    kick: OwnedFd,
    memory: Arc<SessionMemory>,
    regions: Arc<Regions>,
    notifier: Arc<Notifier>,
    incomplete: Incomplete,
    /// Until the lanes have it.
    spinning: Option<Spinning>,
    lanes: Option<Lanes>,
    paused: bool,
}

impl Shell {
    /// Waits for the first command and does it.
    fn start(link: Arc<OwnedFd>) -> Result<Self, WorkerError> {
        let Some((kind, command, pieces, descriptors)) = receive(&link, RecvFlags::empty())? else { exit(0) };
        if kind != Kind::Start {
            return Err(WorkerError::Command);
        }
        let mut descriptors = descriptors.into_iter();
        let kick = descriptors.next().ok_or(WorkerError::Command)?;
        let futex = command.flags & link::flags::FUTEX != 0;
        let call = if futex { None } else { Some(descriptors.next().ok_or(WorkerError::Command)?) };
        if command.flags & link::flags::BROKER != 0 {
            broker::install(descriptors.next().ok_or(WorkerError::Command)?).map_err(WorkerError::Link)?;
        }
        let mut spinning = None;
        if command.flags & link::flags::SPIN != 0 {
            spinning = Some(spinning_of(&command, &descriptors.next().ok_or(WorkerError::Command)?));
        }
        let files: Vec<OwnedFd> = descriptors.collect();
        let memory = match SessionMemory::map(command.length, &pieces, &files) {
            Ok(memory) => memory,
            Err(error) => {
                reply(&link, command.token, error.status())?;
                return Err(WorkerError::Memory(error));
            }
        };
        // Behind them lies all of the guest's RAM.
        drop(files);
        let notifier = match call {
            Some(eventfd) => Notifier::call(eventfd),
            None => Notifier::futex(Arc::clone(&memory)),
        };
        reply(&link, command.token, Status::Ok)?;
        Ok(Self {
            link,
            kick,
            memory,
            regions: Arc::default(),
            notifier: Arc::new(notifier),
            incomplete: Incomplete::default(),
            spinning,
            lanes: None,
            paused: false,
        })
    }

    /// Until the supervisor says stop.
    fn serve(&mut self, driver: &Arc<Driver>) -> Result<(), WorkerError> {
        loop {
            let mut sources =
                [PollFd::new(&*self.link, PollFlags::IN), PollFd::new(&self.kick, PollFlags::IN)];
            match rustix::event::poll(&mut sources, None) {
                Err(Errno::INTR) => continue,
                other => other.map_err(WorkerError::Link)?,
            };
            let [command, kick] = sources.map(|source| !source.revents().is_empty());
            if kick {
                self.kicked(driver)?;
            }
            if command && !self.command()? {
                return Ok(());
            }
        }
    }

    /// The guest has kicked. The session's header is valid from the first kick on.
    fn kicked(&mut self, driver: &Arc<Driver>) -> Result<(), WorkerError> {
        let mut count = [0; 8];
        match rustix::io::read(&self.kick, &mut count) {
            // Somebody else, who has the eventfd too, has read it.
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(WorkerError::Link(error)),
        }
        if self.lanes.is_none() {
            let lanes = Lanes::start(
                Arc::clone(&self.memory),
                Arc::clone(&self.regions),
                Arc::clone(&self.notifier),
                Arc::clone(driver),
                self.spinning.take().unwrap_or_else(Spinning::never),
            )?;
            if self.paused {
                lanes.pause();
            }
            self.lanes = Some(lanes);
        }
        if let Some(lanes) = &self.lanes {
            lanes.kick();
        }
        Ok(())
    }

    /// Does one command. `false`: the session ends.
    fn command(&mut self) -> Result<bool, WorkerError> {
        let Some((kind, command, pieces, files)) = receive(&self.link, RecvFlags::DONTWAIT)? else {
            return Ok(false);
        };
        match kind {
            Kind::Start => return Err(WorkerError::Command),
            Kind::Map => {
                if let Some(result) = self.map(&command, pieces, files) {
                    self.answer(&command, result)?;
                }
            }
            Kind::Unmap => {
                let result = self.regions.remove(command.region);
                self.answer(&command, result)?;
            }
            Kind::Pause => {
                self.paused = true;
                if let Some(lanes) = &self.lanes {
                    lanes.pause();
                }
                self.answer(&command, Ok(()))?;
            }
            Kind::Resume => {
                self.paused = false;
                if let Some(lanes) = &self.lanes {
                    lanes.resume();
                }
            }
            Kind::Stop => {
                if let Some(lanes) = &self.lanes {
                    lanes.stop();
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Collects the pieces of a region and maps it when they are complete. All files come with the first command.
    fn map(
        &mut self,
        command: &Command,
        pieces: Vec<Piece>,
        files: Vec<OwnedFd>,
    ) -> Option<Result<(), MemoryError>> {
        self.incomplete.files.extend(files);
        self.incomplete.pieces.extend(pieces);
        if command.flags & link::flags::MORE != 0 {
            return None;
        }
        let Incomplete { pieces, files } = std::mem::take(&mut self.incomplete);
        let info = RegionInfo {
            number: command.region,
            address: command.address,
            length: command.length,
            flags: RegionFlags { read_only: command.flags & link::flags::READ_ONLY != 0 },
        };
        Some(self.regions.insert(info, &pieces, &files))
    }

    fn answer(&self, command: &Command, result: Result<(), MemoryError>) -> Result<(), WorkerError> {
        let status = match result {
            Ok(()) => Status::Ok,
            Err(error) => {
                log::debug!("region {}: {error}", command.region);
                error.status()
            }
        };
        reply(&self.link, command.token, status)
    }

    /// Tells the guest process that this session will not be served.
    fn refuse(&self) {
        let state = GuestAddress(offset_of!(SessionHeader, worker_state) as u64);
        let stored = self.memory.guest_memory().store(WorkerState::Refused as u32, state, Ordering::Release);
        if let Err(error) = stored {
            log::debug!("the session has no header: {error}");
        }
    }
}

/// How lanes spin; without the count of those that do, they do not.
fn spinning_of(command: &Command, file: &OwnedFd) -> Spinning {
    let terms = Terms {
        slot: command.spin_slot,
        threads: command.spin_threads,
        microseconds: command.spin_microseconds,
    };
    Spinning::new(file, terms).unwrap_or_else(|error| {
        log::warn!("lanes do not spin: {error}");
        Spinning::never()
    })
}

type Received = (Kind, Command, Vec<Piece>, Vec<OwnedFd>);

fn receive(link: &OwnedFd, flags: RecvFlags) -> Result<Option<Received>, WorkerError> {
    let mut buffer = vec![0; link::MAX_BYTES];
    let received = packet::receive(link.as_fd(), &mut buffer, packet::MAX_DESCRIPTORS, flags);
    let Some(packet) = received.map_err(WorkerError::Link)? else { return Ok(None) };
    let bytes = buffer.get(..packet.length).unwrap_or_default();
    let (kind, command, pieces) =
        link::decode(bytes).filter(|_| !packet.truncated).ok_or(WorkerError::Command)?;
    Ok(Some((kind, command, pieces, packet.descriptors)))
}

fn reply(link: &OwnedFd, token: u32, status: Status) -> Result<(), WorkerError> {
    let reply = Reply { token, status: status as u32 };
    packet::send(link.as_fd(), reply.as_bytes(), &[], SendFlags::empty()).map_err(WorkerError::Link)
}

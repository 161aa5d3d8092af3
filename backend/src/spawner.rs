//! The spawner: a process with one thread that clones workers. (This file contains unsafe code: clone and exec.)
//!
//! It exists because the supervisor has threads, and a process with threads can neither be cloned safely nor given
//! namespaces. It knows nothing of sessions and ends with its socket. Should it die or hang, the supervisor starts
//! another.
//!
//! Its children are the supervisor's (`CLONE_PARENT`), so that the supervisor itself reaps them through their pidfds.
//! Each starts with an environment of its own making, the compatible address layout (see
//! [`virtio_spec::window`]), and no descriptor but its socket (standard input), `/dev/null` and the log (standard
//! error).

use std::{
    ffi::{CString, NulError},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    process::{Child, Command, Stdio},
    ptr,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use virtio_spec::control::options;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{config::Config, logging, management, packet, worker};

/// First argument of the process.
pub(crate) const ROLE: &str = "@spawner";

/// What is cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// A session's worker.
    Worker = 1,
    /// The process that asks the driver what devices there are.
    Discovery = 2,
    /// The process that says what the devices are doing.
    Monitor = 3,
    /// A worker that initialises the driver before its session comes.
    WarmWorker = 4,
    /// The same, with a primary context of [`Request::device`].
    WarmContext = 5,
}

/// Packet to the spawner, with the new process's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Request {
    /// Comes back in the answer.
    pub(crate) token: u32,
    /// [`Kind`].
    pub(crate) kind: u32,
    /// Which of [`Config::drivers`], for workers.
    pub(crate) driver: u32,
    /// Bits of [`options`], for workers.
    pub(crate) flags: u32,
    /// `CUDA_DEVICE_MAX_CONNECTIONS`, 0 = unset.
    pub(crate) max_connections: u32,
    /// Place of a device, for [`Kind::WarmContext`].
    pub(crate) device: u32,
}

/// Packet from the spawner, with the new process's pidfd if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Answer {
    /// Of the request.
    pub(crate) token: u32,
    /// 0, or why there is no process (`errno`).
    pub(crate) error: i32,
}

/// Why there is no spawner.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnerError {
    #[error("the spawner's socket cannot be made")]
    Socket(#[source] Errno),
    #[error("the spawner cannot be started")]
    Start(#[source] io::Error),
    #[error("the spawner was started without its arguments")]
    Arguments,
    #[error("an argument contains a NUL byte")]
    Nul(#[from] NulError),
    #[error("the spawner's end of the socket cannot be read")]
    Receive(#[source] Errno),
    #[error("/dev/null cannot be opened")]
    Null(#[source] Errno),
}

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct Spawner {
    socket: OwnedFd,
    process: Child,
}

/// A spawner that has been killed.
#[derive(Debug)]
pub(crate) struct Ended(Child);

impl Ended {
    /// Reaps it. Never blocks.
    pub(crate) fn is_reaped(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Spawner {
    /// Starts the process.
    pub(crate) fn start(config: &Config) -> Result<Self, SpawnerError> {
        let (socket, child) = packet::pair().map_err(SpawnerError::Socket)?;
        let process = Command::new("/proc/self/exe")
            .arg(ROLE)
            .arg(&config.log)
            .arg(config.gpus.as_deref().unwrap_or_default())
            .args(&config.drivers)
            .env_clear()
            .stdin(Stdio::from(child))
            .stdout(Stdio::null())
            .spawn()
            .map_err(SpawnerError::Start)?;
        Ok(Self { socket, process })
    }

    /// Kills the process, whatever it is doing.
    pub(crate) fn give_up(mut self) -> Ended {
        // It may have ended by itself.
        let _killed = self.process.kill();
        Ended(self.process)
    }

    /// Asks for a process whose standard input is `socket`; answered with [`Answer`]. Never blocks.
    pub(crate) fn request(&self, request: &Request, socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
        packet::send(&self.socket, request.as_bytes(), &[socket], SendFlags::DONTWAIT)
    }

    /// The next answer. `Ok(None)`: the spawner has ended.
    pub(crate) fn answer(&self) -> rustix::io::Result<Option<(Answer, Option<OwnedFd>)>> {
        let mut buffer = [0; size_of::<Answer>()];
        let Some(mut packet) = packet::receive(&self.socket, &mut buffer, 1, RecvFlags::DONTWAIT)? else {
            return Ok(None);
        };
        let answer = Answer::read_from_bytes(buffer.get(..packet.length).unwrap_or_default())
            .map_err(|_| Errno::PROTO)?;
        Ok(Some((answer, packet.descriptors.pop())))
    }
}

impl AsFd for Spawner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What every clone gets.
struct Recipe {
    log: CString,
    gpus: Option<String>,
    drivers: Vec<CString>,
}

/// The spawner process.
pub(crate) fn run() -> Result<(), SpawnerError> {
    // A supervisor that starts a spawner anew has guest memory and sessions open, and not every library that it uses
    // promises to close descriptors on exec.
    // SAFETY: nothing of this process has been opened yet but the three standard descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    let mut arguments = std::env::args().skip(2);
    let log = arguments.next().ok_or(SpawnerError::Arguments)?;
    let gpus = arguments.next().ok_or(SpawnerError::Arguments)?;
    logging::start("spawner", &log);
    let recipe = Recipe {
        log: CString::new(log)?,
        gpus: Some(gpus).filter(|list| !list.is_empty()),
        drivers: arguments.map(CString::new).collect::<Result<_, _>>()?,
    };
    let socket = take_standard_input()?;
    loop {
        let mut buffer = [0; size_of::<Request>()];
        let received = packet::receive(&socket, &mut buffer, 1, RecvFlags::empty());
        let Some(packet) = received.map_err(SpawnerError::Receive)? else { return Ok(()) };
        let Ok(request) = Request::read_from_bytes(buffer.get(..packet.length).unwrap_or_default()) else {
            log::error!("a packet of {} bytes is no request", packet.length);
            continue;
        };
        let result = match packet.descriptors.first() {
            Some(descriptor) => recipe.spawn(&request, descriptor.as_fd()),
            None => Err(Errno::BADF),
        };
        let error = result.as_ref().err().map_or(0, |error| error.raw_os_error());
        let answer = Answer { token: request.token, error };
        let pidfd: Vec<BorrowedFd<'_>> = result.iter().map(AsFd::as_fd).collect();
        if packet::send(&socket, answer.as_bytes(), &pidfd, SendFlags::empty()).is_err() {
            return Ok(());
        }
    }
}

/// The socket that a process of this binary was started with. Its place is taken by `/dev/null`.
pub(crate) fn take_standard_input() -> Result<OwnedFd, SpawnerError> {
    use rustix::fs::{Mode, OFlags};

    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3).map_err(SpawnerError::Socket)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(SpawnerError::Null)?;
    rustix::stdio::dup2_stdin(&null).map_err(SpawnerError::Null)?;
    Ok(socket)
}

impl Recipe {
    fn spawn(&self, request: &Request, socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let invalid = |_: NulError| Errno::INVAL;
        let mut arguments = vec![CString::new("vhost-user-compute").map_err(invalid)?];
        let workers = [
            (Kind::Worker, worker::ROLE),
            (Kind::WarmWorker, worker::WARM_ROLE),
            (Kind::WarmContext, worker::WARM_CONTEXT_ROLE),
        ];
        if let Some((kind, role)) = workers.into_iter().find(|(kind, _)| request.kind == *kind as u32) {
            let driver = usize::try_from(request.driver).ok().and_then(|index| self.drivers.get(index));
            arguments.push(CString::new(role).map_err(invalid)?);
            arguments.push(self.log.clone());
            arguments.push(driver.ok_or(Errno::INVAL)?.clone());
            if kind == Kind::WarmContext {
                arguments.push(CString::new(request.device.to_string()).map_err(invalid)?);
            }
        } else if request.kind == Kind::Discovery as u32 {
            arguments.push(CString::new(worker::DISCOVERY_ROLE).map_err(invalid)?);
            arguments.push(self.log.clone());
            arguments.extend(self.drivers.iter().cloned());
        } else if request.kind == Kind::Monitor as u32 {
            arguments.push(CString::new(management::ROLE).map_err(invalid)?);
            arguments.push(self.log.clone());
        } else {
            return Err(Errno::INVAL);
        }
        let environment = self.environment(request).map_err(invalid)?;
        clone(c"/proc/self/exe".to_owned(), &arguments, &environment, socket)
    }

    /// The whole environment of the new process.
    fn environment(&self, request: &Request) -> Result<Vec<CString>, NulError> {
        // The JIT cache would join guests (what one compiles, another finds), and has no home directory anyway.
        let mut variables =
            vec!["CUDA_CACHE_DISABLE=1".to_owned(), "CUDA_DEVICE_ORDER=PCI_BUS_ID".to_owned()];
        if let Some(gpus) = &self.gpus {
            variables.push(format!("CUDA_VISIBLE_DEVICES={gpus}"));
        }
        if request.flags & options::EAGER_LOADING != 0 {
            variables.push("CUDA_MODULE_LOADING=EAGER".to_owned());
        }
        if (1..=32).contains(&request.max_connections) {
            variables.push(format!("CUDA_DEVICE_MAX_CONNECTIONS={}", request.max_connections));
        }
        variables.into_iter().map(CString::new).collect()
    }
}

/// Starts `program` as a child of this process's parent, and returns its pidfd.
fn clone(
    program: CString,
    arguments: &[CString],
    environment: &[CString],
    socket: BorrowedFd<'_>,
) -> Result<OwnedFd, Errno> {
    // Everything is prepared here: between clone and exec the child only makes system calls.
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    let mut pidfd: libc::c_int = -1;
    let mut how = libc::clone_args {
        // CLONE_PARENT takes the parent's exit signal; one of its own would be refused.
        flags: (libc::CLONE_PIDFD | libc::CLONE_PARENT).cast_unsigned().into(),
        pidfd: ptr::from_mut(&mut pidfd).expose_provenance() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: without CLONE_VM the child is a copy; this process has one thread, so the copy is whole.
    let child = unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut how), size_of_val(&how)) };
    if child < 0 {
        return Err(last_error());
    }
    if child == 0 {
        become_program(&program, &arguments, &environment, socket);
    }
    // SAFETY: the kernel has put a new descriptor there, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// In the child: nothing but system calls until the program is another.
fn become_program(
    program: &CString,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    socket: BorrowedFd<'_>,
) -> ! {
    // SAFETY: sets an attribute of the process for its next program.
    let layout = unsafe { libc::personality(libc::ADDR_COMPAT_LAYOUT as libc::c_ulong) };
    // SAFETY: descriptor numbers only.
    let input = unsafe { libc::dup2(socket.as_raw_fd(), 0) };
    // SAFETY: descriptor numbers only; nothing of this copy uses them any more.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if layout >= 0 && input == 0 && closed == 0 {
        // SAFETY: both arrays end with a null pointer and point to strings that outlive the call.
        unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    }
    // SAFETY: ends the copy without running what the original has registered for its end.
    unsafe { libc::_exit(127) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(gpus: Option<&str>) -> Recipe {
        Recipe { log: c"info".to_owned(), gpus: gpus.map(str::to_owned), drivers: vec![c"a.so".to_owned()] }
    }

    const REQUEST: Request =
        Request { token: 1, kind: Kind::Worker as u32, driver: 0, flags: 0, max_connections: 0, device: 0 };

    #[test]
    fn the_environment_is_enumerated() {
        let names = |recipe: &Recipe, request: &Request| -> Vec<String> {
            let variables = recipe.environment(request).unwrap();
            variables.iter().map(|variable| variable.to_str().unwrap().to_owned()).collect()
        };
        let always = ["CUDA_CACHE_DISABLE=1", "CUDA_DEVICE_ORDER=PCI_BUS_ID"];
        assert_eq!(names(&recipe(None), &REQUEST), always);
        let request = Request { flags: options::EAGER_LOADING, max_connections: 8, ..REQUEST };
        let all = names(&recipe(Some("0")), &request);
        assert_eq!(
            all[2..],
            ["CUDA_VISIBLE_DEVICES=0", "CUDA_MODULE_LOADING=EAGER", "CUDA_DEVICE_MAX_CONNECTIONS=8"]
        );
        let wild = Request { max_connections: 1 << 20, ..REQUEST };
        assert_eq!(names(&recipe(None), &wild), always);
    }

    #[test]
    fn unknown_kinds_and_drivers_are_refused() {
        let (socket, _other) = packet::pair().unwrap();
        for request in [Request { kind: 9, ..REQUEST }, Request { driver: 1, ..REQUEST }] {
            assert_eq!(recipe(None).spawn(&request, socket.as_fd()).unwrap_err(), Errno::INVAL);
        }
    }
}

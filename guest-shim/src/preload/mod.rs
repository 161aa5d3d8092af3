//! What happens in a process before it calls CUDA.
//!
//! `/etc/ld.so.preload` puts this library into every process of a guest, most of which never call CUDA. In application
//! processes the library looks for the GPU at their start; the first `cuInit` then answers without asking again.
//! Nothing else is done early, and no process can be harmed by it:
//!
//! | step | system calls | ends here |
//! |---|---|---|
//! | [`is_privileged`]: the process has more rights than who started it | 0 | set-uid programs: not even the environment is looked at |
//! | [`name`]: what was executed, by the kernel's note to the process | 0 | programs of [`never`](mod@never); programs executed by descriptor, which have no name |
//! | [`environment`]: what is said for this one process | 0 | `VCOMPUTE_SHIM=off`, `VCOMPUTE_SHIM_NEVER`, a local socket |
//! | [`identity`]: whether this is process 1 | 0 | init, whatever its name, and containers' first processes |
//! | [`settings`]: what is said for the system | 1, readlink | the policy says `off`, or names this process |
//! | [`snapshot`]: what the driver knows of the devices | 3, openat, read, close | |
//! | [`log`]: one line, if asked for | a few | |
//!
//! Each call answers at once whatever it finds, and [`deadline`] is looked at between them (docs/adr/0007 says why that
//! is stronger than a timer). [`guard`] is around it all: one attempt in a process, one thread, no panic gets out, errno
//! is as before. Nothing is allocated, and nothing stays but bytes in this library's own memory; so a forked child has
//! what its parent had, and a process that calls CUDA asks again for what did not come ([`crate::device::devices`]).
//!
//! Unsafe code: what the kernel and the C library hand to a constructor.

mod deadline;
mod environment;
mod guard;
mod identity;
mod log;
mod name;
mod never;
mod paths;
mod settings;
pub(crate) mod snapshot;

pub(crate) use log::first_call;
pub(crate) use paths::device as device_path;

use std::ffi::{c_char, c_int};

use shim_policy::Level;
use virtio_spec::device::State;
use virtio_spec::uapi::info_flags::SHIM_OFF;

use deadline::Deadline;
use environment::Environment;
use settings::{Settings, Text};

use crate::transport::TransportError;

/// Called by the dynamic linker, before any code of the program.
#[used]
#[cfg_attr(not(test), unsafe(link_section = ".init_array"))]
static CONSTRUCTOR: unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) = constructor;

/// # Safety
/// `variables` is null or a process's environment.
unsafe extern "C" fn constructor(_: c_int, _: *const *const c_char, variables: *const *const c_char) {
    guard::once(|| {
        if is_privileged() {
            return;
        }
        // SAFETY: as the caller promises.
        let environment = unsafe { Environment::of(variables) };
        early_init(&environment);
    });
}

/// The steps, for a process that has the rights of whoever started it.
fn early_init(environment: &Environment) {
    let Some(name) = name::executed() else { return };
    if never::touched(name) {
        return;
    }
    guard::silence_panics();
    if !environment.allows(name) || identity::is_first_process() {
        return;
    }
    let start = Deadline::start();
    let mut text = Text::new();
    let settings = Settings::read(&mut text, environment);
    let outcome = look_for_gpu(name, &settings, start);
    if let Some(problem) = settings.problem() {
        log::early(&settings, Level::Warn, name, problem);
    }
    let (level, words) = outcome.about();
    log::early(&settings, level, name, words);
}

/// What became of early init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The first `cuInit` knows the devices.
    Found,
    /// The host has no GPU for this guest now; the first `cuInit` asks again.
    Nothing,
    /// There was no answer; the first `cuInit` asks again.
    Without(TransportError),
    /// The policy leaves this process alone.
    NotWanted,
    /// The kernel's parameter leaves all processes alone.
    SwitchedOff,
    /// It took too long; the first `cuInit` asks again.
    Late,
}

impl Outcome {
    const fn about(self) -> (Level, &'static str) {
        match self {
            Self::Found => (Level::Info, "the device has a GPU"),
            Self::Nothing => (Level::Info, "the device has no GPU"),
            Self::Without(error) => (Level::Info, error.about()),
            Self::NotWanted => (Level::Debug, "left alone, as the policy says"),
            Self::SwitchedOff => (Level::Debug, "left alone, as the kernel parameter vcompute.shim says"),
            Self::Late => (Level::Warn, "the deadline has passed; the first CUDA call asks again"),
        }
    }
}

fn look_for_gpu(name: &[u8], settings: &Settings<'_>, start: Deadline) -> Outcome {
    if !settings.wants(name) {
        return Outcome::NotWanted;
    }
    if start.is_over(settings.policy.deadline_ms) {
        return Outcome::Late;
    }
    match snapshot::take(|| start.is_over(settings.policy.deadline_ms)) {
        Err(_) if start.is_over(settings.policy.deadline_ms) => Outcome::Late,
        Err(error) => Outcome::Without(error),
        Ok(about) if about.flags & SHIM_OFF != 0 => Outcome::SwitchedOff,
        Ok(about) if about.state == State::Ready as u32 => Outcome::Found,
        Ok(_) => Outcome::Nothing,
    }
}

/// Whether the process has more rights than who started it. Then nobody but the system says what it does.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: reads what the kernel gave the process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

//! The guest's `libcuda.so.1`, as every process of a guest loads it.
//!
//! `/etc/ld.so.preload` puts this library into every process, most of which never call CUDA. So it is small, it is all that
//! those pay for (docs/benchmarks/preload.md), and it has two parts:
//!
//! - the constructor, which looks for the GPU at the start of application processes (`early_init`);
//! - a jump for each function of CUDA's driver API (`engine`), behind which the first call loads the library that answers
//!   (`guest-shim`, `libvcompute.so`).
//!
//! # The constructor
//!
//! In application processes it asks the driver for the devices; the first `cuInit` then answers without asking again.
//! Nothing else is done early, and no process can be harmed by it:
//!
//! | step | system calls | ends here |
//! |---|---|---|
//! | `is_privileged`: the process has more rights than who started it | 0 | set-uid programs: not even the environment is looked at |
//! | `executed`: the program, by the kernel's note to the process | 0 | programs of `never`; programs executed by descriptor, which have no name |
//! | [`Environment`]: what is said for this one process | 0 | `VCOMPUTE_SHIM=off`, `VCOMPUTE_SHIM_NEVER`, a local socket |
//! | `is_first_process`: whether this is process 1 | 0 | init, whatever its name, and containers' first processes |
//! | [`Settings`]: what is said for the system | 1, readlink | the policy says `off`, or names this process |
//! | `device`: what the driver knows of the devices | 3, openat, read, close | |
//! | [`log::early`](early): one line, if asked for | a few | |
//!
//! Each call answers at once whatever it finds, and `deadline` is looked at between them (docs/adr/0007 says why that
//! is stronger than a timer). There is one attempt in a process, in one thread. No panic gets out because there is none:
//! as it is shipped, the library is built without the standard library, and does not link if any of its code could
//! panic (see `without_std`). errno is never written. Nothing is allocated, and nothing stays but bytes in this
//! library's own memory; so a forked child has what its parent had, and a process that calls CUDA asks again for what did
//! not come.
//!
//! Unsafe code: what the kernel and the C library hand to a constructor.
#![cfg_attr(all(panic = "abort", not(test)), no_std)]

mod deadline;
#[allow(non_upper_case_globals, non_snake_case, reason = "the driver's own names")]
mod debugger;
mod device;
mod engine;
#[allow(non_snake_case, reason = "the driver's own names")]
mod exports;
mod never;
#[cfg(all(panic = "abort", not(test)))]
mod without_std;

use core::ffi::{c_char, c_int};
use core::sync::atomic::{AtomicBool, Ordering};

use shim_policy::Level;
use shim_settings::{Environment, Settings, Text, early, executed, is_first_process, is_privileged};

use deadline::Deadline;
use device::Answer;

/// Called by the dynamic linker, before any code of the program.
#[used]
#[cfg_attr(not(test), unsafe(link_section = ".init_array"))]
static CONSTRUCTOR: unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) = constructor;

/// # Safety
/// `variables` is null or a process's environment.
unsafe extern "C" fn constructor(_: c_int, _: *const *const c_char, variables: *const *const c_char) {
    static TRIED: AtomicBool = AtomicBool::new(false);
    if is_privileged() || TRIED.swap(true, Ordering::Relaxed) {
        return;
    }
    let Some(name) = executed() else { return };
    if never::touched(name) {
        return;
    }
    // SAFETY: as the caller promises.
    let environment = unsafe { Environment::of(variables) };
    early_init(name, &environment);
}

/// The steps, for a program that is left alone neither by its rights nor by its name.
fn early_init(name: &[u8], environment: &Environment) {
    if !environment.allows(name) || is_first_process() {
        return;
    }
    let start = Deadline::start();
    let mut text = Text::new();
    let settings = Settings::read(&mut text, environment);
    let (level, words) = outcome(name, &settings, start);
    if let Some(problem) = settings.problem() {
        early(&settings, Level::Warn, name, problem);
    }
    early(&settings, level, name, words);
}

/// Looks for the GPU, and says what became of that.
fn outcome(name: &[u8], settings: &Settings<'_>, start: Deadline) -> (Level, &'static str) {
    const LATE: (Level, &str) = (Level::Warn, "the deadline has passed; the first CUDA call asks again");
    let is_late = || start.is_over(settings.policy.deadline_ms);
    if !settings.wants(name) {
        return (Level::Debug, "left alone, as the policy says");
    }
    if is_late() {
        return LATE;
    }
    match device::look(shim_settings::device(), is_late) {
        Answer::Found => (Level::Info, "the device has a GPU"),
        Answer::Nothing => (Level::Info, "the device has no GPU"),
        Answer::SwitchedOff => (Level::Debug, "left alone, as the kernel parameter vcompute.shim says"),
        _ if is_late() => LATE,
        Answer::Absent => (Level::Info, "there is no device, or no right to open it"),
        Answer::Starting => (Level::Info, "the device is still starting"),
        Answer::Gone => (Level::Info, "the device is gone"),
        Answer::Foreign => (Level::Info, "the device or its driver speaks another version"),
    }
}

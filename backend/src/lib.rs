//! `vhost-user-compute`: the host side of the virtio compute device.
//!
//! One binary, five kinds of process:
//!
//! ```text
//! supervisor ── QEMU's vhost-user socket, both virtqueues, the local socket, sessions, quotas
//!  ├─ spawner ── single-threaded; clones the processes below
//!  ├─ discovery ─ asks the CUDA driver what devices there are, and ends
//!  ├─ monitor ─── says what the devices are doing, while somebody asks
//!  └─ worker ──── one for each session: maps its memory, runs its lanes, calls the CUDA driver
//! ```
//!
//! Read in this order:
//! 1. `args` and `config`: what the operator asks for;
//! 2. `supervisor`: the process that QEMU talks to, which never blocks, never panics and trusts nobody;
//! 3. `spawner` and `link`: how a worker comes to be, and what it and the supervisor say to each other;
//! 4. `worker`: the shell around a session's lanes;
//! 5. `management`: what NVML knows of the devices;
//! 6. `packet`: packets with descriptors, which all of the above exchange; `spin`: how many lanes spin at once.
//!
//! [`fuzz`] is for tests: what reads bytes of guests, clients and workers, as functions of bytes.

mod args;
mod broker;
mod config;
#[doc(hidden)]
pub mod fuzz;
mod images;
mod link;
mod logging;
mod management;
mod packet;
mod spawner;
mod spin;
mod supervisor;
mod worker;

use std::{error::Error, ffi::OsStr, process::ExitCode};

use clap::Parser as _;

use crate::{args::Args, config::Config, worker::Warmth};

/// What the process does, by its first argument.
pub fn main() -> ExitCode {
    let role = std::env::args_os().nth(1);
    let result = match role.as_deref().and_then(OsStr::to_str) {
        Some(spawner::ROLE) => spawner::run().map_err(Into::into),
        Some(worker::ROLE) => worker::run(Warmth::Cold),
        Some(worker::WARM_ROLE) => worker::run(Warmth::Driver),
        Some(worker::WARM_CONTEXT_ROLE) => worker::run(Warmth::Context),
        Some(worker::DISCOVERY_ROLE) => worker::discover().map_err(Into::into),
        Some(management::ROLE) => management::run().map_err(Into::into),
        _ => start(Args::parse()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// The supervisor: from the operator's words to the loop that ends with the process.
fn start(args: Args) -> Result<(), Box<dyn Error>> {
    // Without a sound configuration there is no other filter to say so by.
    let config =
        Config::try_from(args).inspect_err(|_| logging::start("supervisor", logging::DEFAULT_FILTER))?;
    logging::start("supervisor", &config.log);
    raise_descriptor_limit();
    // Before any thread and any descriptor, so that it inherits none.
    let spawner = spawner::Spawner::start(&config)?;
    let listeners = supervisor::Listeners::bind(&config)?;
    let supervisor = supervisor::Supervisor::new(config, spawner, listeners)?;
    supervisor.run()?;
    Ok(())
}

/// Each session takes a few descriptors, and the usual soft limit of 1024 is for programs that use `select`.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("the limit of open files cannot be raised: {error}");
    }
}

/// An error and what caused it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

//! `vcompute-guest`: installs CUDA in a guest, says how it is, and takes it away again.
//!
//! Read in this order: [`install`] and [`uninstall`] (the steps), [`layout`] (where things lie), [`record`] (every change
//! is written down before it is made), [`library`], [`elf`] and [`driver`] (what is installed), [`trial`] (whether
//! programs still start), [`preload`] and [`rescue`] (the one line that can break a system), [`config`] (the policy),
//! [`doctor`] and [`device`] (how it is), [`system`] (this machine, or a tree that holds another).
#![forbid(unsafe_code)]

mod config;
mod device;
mod doctor;
mod driver;
mod elf;
mod install;
mod layout;
mod library;
mod output;
mod preload;
mod record;
mod rescue;
mod system;
mod trial;
mod uninstall;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use rustix::fs::Mode;

use crate::system::System;

#[derive(Parser)]
#[command(version, about = "CUDA in this guest: install, remove, look after", long_about = None)]
struct Arguments {
    /// Another system's top directory: an image, or the disk of a guest that does not start
    #[arg(long, global = true, default_value = "/", value_name = "DIRECTORY")]
    root: PathBuf,
    #[command(subcommand)]
    command: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Library, driver, policy, and the preload as the last step
    Install(install::Arguments),
    /// Undo that, the preload first
    Uninstall(uninstall::Arguments),
    /// What is there
    Status(doctor::Arguments),
    /// Whether CUDA works here and, if not, what to do; fails if something is broken
    Doctor(doctor::Arguments),
    /// Make the policy follow /etc/virtio-compute/shim.toml
    Apply,
    /// Take the library out of /etc/ld.so.preload and nothing else
    Rescue(rescue::Arguments),
    /// Become a program inside of a tree
    #[command(name = system::INSIDE, hide = true)]
    Inside {
        /// The tree
        top: PathBuf,
        /// What to preload, or nothing
        preload: OsString,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::try_parse() {
        Ok(arguments) => run(arguments),
        // Started by the kernel, with whatever words of its command line it does not know.
        Err(_) if std::process::id() == 1 => {
            rescue::as_first_process(env::args_os().skip(1).collect()).map(|()| true)
        }
        Err(error) => error.exit(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output::fail(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    if let Chore::Inside { top, preload, words } = &arguments.command {
        return system::become_inside(top, preload, words).map(|()| true);
    }
    // What is installed is for everybody, whoever installs it.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let system = System::at(&arguments.root)?;
    let changes = !matches!(arguments.command, Chore::Status(_) | Chore::Doctor(_));
    ensure!(
        !changes || !system.is_live() || rustix::process::geteuid().is_root(),
        "this changes the system: run it as root (sudo vcompute-guest …)"
    );
    match &arguments.command {
        Chore::Install(arguments) => install::run(&system, arguments).map(|()| true),
        Chore::Uninstall(arguments) => uninstall::run(&system, arguments).map(|()| true),
        Chore::Status(arguments) => doctor::status(&system, arguments).map(|()| true),
        Chore::Doctor(arguments) => doctor::doctor(&system, arguments),
        Chore::Apply => install::apply(&system).map(|()| true),
        Chore::Rescue(arguments) => rescue::run(&system, arguments).map(|()| true),
        Chore::Inside { .. } => Ok(false),
    }
}

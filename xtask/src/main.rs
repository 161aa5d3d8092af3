//! The developer's chores: `cargo xtask demo`, `test`, `bundle` and so on.
//!
//! One subcommand is one file; each starts at its `run`.

mod artifacts;
mod bench;
mod boot;
mod bundle;
mod compat;
mod counts;
mod demo;
mod guest_module;
mod guest_package;
mod guest_tools;
mod library;
mod machine;
mod output;
mod preload;
mod prerequisites;
mod process;
mod steps;
mod suite;
mod test;
mod wheels;
mod workspace;

use std::process::ExitCode;

use backend_process as backend;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's chores", max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run an unmodified CUDA program in a guest (with the host's GPU where there is one)
    Demo(demo::Arguments),
    /// Run all tests, or a part of them
    Test(test::Arguments),
    /// Boot a guest and run a command in it as an unprivileged user
    Boot(boot::Arguments),
    /// Measure what something costs
    Bench(bench::Arguments),
    /// Make an archive that runs the suite on another machine
    Bundle(bundle::Arguments),
    /// Run the suite from an unpacked bundle
    #[command(hide = true)]
    BundleRun(bundle::run::Arguments),
    /// Run real programs natively and through the device, side by side, or gather what that needs (tests/compat/)
    Compat(compat::Arguments),
    /// Run a command of this machine in a guest that sees its files
    #[command(hide = true)]
    CompatGuest(compat::guest::Arguments),
    /// Make the archive from which a guest is installed (docs/install.md)
    GuestPackage,
    /// Compile the guest's kernel module for Debian's kernels, and say where it is
    GuestModule(guest_module::Arguments),
    /// Compile the guest's kernel module with W=1 and sparse; a warning is a failure
    CheckModule(guest_module::Arguments),
}

fn main() -> ExitCode {
    output::init();
    let result = match Arguments::parse().chore {
        Chore::Demo(arguments) => demo::run(&arguments),
        Chore::Test(arguments) => test::run(&arguments),
        Chore::Boot(arguments) => boot::run(&arguments),
        Chore::Bench(arguments) => bench::run(&arguments),
        Chore::Bundle(arguments) => bundle::make(&arguments),
        Chore::BundleRun(arguments) => bundle::run::run(&arguments),
        Chore::Compat(arguments) => compat::run(&arguments),
        Chore::CompatGuest(arguments) => compat::guest::run(&arguments),
        Chore::GuestPackage => guest_package::make(),
        Chore::GuestModule(arguments) => guest_module::build(&arguments),
        Chore::CheckModule(arguments) => guest_module::check(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<steps::AlreadyTold>() => ExitCode::FAILURE,
        Err(error) => {
            output::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

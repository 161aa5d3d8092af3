//! `test`: everything that must hold, and one line with the sum.
//!
//! Read [`host`] (what needs no VM), then [`guest`] (the same suite in guests), [`strike`] (the machine is paused and
//! reset while a kernel runs) and [`faulty`] (the device misbehaves).

mod compilers;
mod faulty;
mod guest;
mod host;
mod management;
mod old_libc;
pub(crate) mod strike;

use anyhow::Result;
use qemu::{Kernel, Places};

use crate::artifacts::Artifacts;
use crate::counts::Counts;
use crate::preload;
use crate::prerequisites;
use crate::steps::Steps;
use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(clap::Subcommand)]
enum Part {
    /// Formatting, lints, documentation, unit and protocol tests, models, and the suite without a VM
    Host,
    /// Of these: programs of other people, through the local transport: clients of NVML, kernels by clang, numba, CuPy and nvcc,
    /// and CUDA's runtimes
    Compilers,
    /// The suite in guests of every kernel
    Guest(GuestArguments),
    /// A whole Debian with the library preloaded everywhere, in every state of the device, the host and the driver
    Preload(preload::Arguments),
}

#[derive(clap::Args, Default)]
struct GuestArguments {
    /// Only this kernel: 6.1, 6.12 or 7
    #[arg(long)]
    kernel: Vec<Kernel>,
    /// The backend's driver: soft, auto or a path
    #[arg(long, default_value = "soft")]
    driver: String,
    /// Only the suite's cases whose names contain this
    #[arg(long)]
    filter: Vec<String>,
    /// Only the steps whose names contain this: conformance, misbehave, a kernel runs, …
    #[arg(long)]
    step: Vec<String>,
}

impl GuestArguments {
    /// Runs a step, if it is wanted.
    fn step(&self, steps: &mut Steps, name: &str, body: impl FnOnce() -> Result<Counts>) {
        if self.step.is_empty() || self.step.iter().any(|wanted| name.contains(wanted)) {
            steps.step(name, body);
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let places = workspace::places()?;
    prerequisites::ensure()?;
    prerequisites::ensure_space(&places)?;
    let mut steps = Steps::default();
    match &arguments.part {
        None => {
            host::sources(&places, &mut steps);
            if let Some(artifacts) = build(&places, &mut steps) {
                host::programs(&places, &artifacts, &mut steps);
                let everything = GuestArguments { driver: "soft".into(), ..GuestArguments::default() };
                guest::run(&places, &artifacts, &everything, &mut steps);
                preload::run(&places, &artifacts, &preload::Arguments::quick(), &mut steps);
            }
        }
        Some(Part::Host) => {
            host::sources(&places, &mut steps);
            if let Some(artifacts) = build(&places, &mut steps) {
                host::programs(&places, &artifacts, &mut steps);
            }
        }
        Some(Part::Compilers) => {
            if let Some(artifacts) = build(&places, &mut steps) {
                management::run(&places, &artifacts, &mut steps);
                compilers::run(&places, &artifacts, &mut steps);
            }
        }
        Some(Part::Guest(arguments)) => {
            if let Some(artifacts) = build(&places, &mut steps) {
                guest::run(&places, &artifacts, arguments, &mut steps);
            }
        }
        Some(Part::Preload(arguments)) => {
            if let Some(artifacts) = build(&places, &mut steps) {
                preload::run(&places, &artifacts, arguments, &mut steps);
            }
        }
    }
    steps.finish()
}

/// Builds what the later steps run; nothing of them makes sense without.
fn build(places: &Places, steps: &mut Steps) -> Option<Artifacts> {
    let mut artifacts = None;
    steps.step("build (release)", || {
        artifacts = Some(Artifacts::build(places)?);
        Ok(Counts::one(true))
    });
    artifacts
}

//! `cuda-bench`: what CUDA calls cost, natively and through the device.
//!
//! A client of any `libcuda.so.1`, which it opens with `dlopen`; of the project it knows only how a backend is started.
//! It needs glibc and nothing else, so it runs where there is no compiler.
//!
//! Read in this order: [`cases`] (what is measured, in one process), [`series`] (what a case hands on), [`compare`]
//! (both sides in turn, and what takes several processes), [`goals`] (what the figures should be), [`report`].

mod cases;
mod client;
mod compare;
mod count;
mod goals;
mod kernels;
mod memory;
mod path;
mod process;
mod report;
mod runtime;
mod series;
mod solo;
mod watched;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::series::Effort;

/// Measures what CUDA calls cost, natively and through the device.
#[derive(Parser, Debug)]
#[command(name = "cuda-bench", max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Measure one library in this process; prints a series of samples on each line, as JSON
    Measure(MeasureArguments),
    /// Measure a library natively and through a backend, in turn, and write a report
    Compare(compare::Arguments),
    /// Count what a busy session costs in notifications instead of time; fails above bounds
    Count(watched::Arguments),
    /// Count the instructions and system calls of calls' paths; fails above bounds
    Path(path::Arguments),
    /// The process that is counted
    #[command(hide = true)]
    Walk(path::WalkArguments),
    /// One process of those that `compare` starts
    #[command(hide = true)]
    Solo(solo::Arguments),
    /// Another one, which launches through CUDA's runtime library
    #[command(hide = true)]
    Runtime(runtime::Arguments),
}

#[derive(clap::Args, Debug)]
struct MeasureArguments {
    /// The CUDA library
    #[arg(long, value_name = "PATH")]
    library: PathBuf,
    /// Only the cases whose names contain this (repeatable)
    #[arg(long, value_name = "SUBSTRING")]
    case: Vec<String>,
    /// Fewer samples and smaller sizes
    #[arg(long)]
    quick: bool,
    /// The backend's supervisor, so that its processes' time on processors is counted, too
    #[arg(long, value_name = "PID")]
    backend_process: Option<u32>,
    /// Print the names of the cases and leave
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().what {
        What::Measure(arguments) if arguments.list => cases::list(),
        What::Measure(arguments) => {
            let effort = Effort { quick: arguments.quick };
            cases::measure(&arguments.library, &arguments.case, effort, arguments.backend_process)
        }
        What::Compare(arguments) => compare::run(&arguments),
        What::Count(arguments) => count::run(&arguments),
        What::Path(arguments) => path::run(&arguments),
        What::Walk(arguments) => path::walk(&arguments),
        What::Solo(arguments) => solo::run(&arguments),
        What::Runtime(arguments) => runtime::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cuda-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

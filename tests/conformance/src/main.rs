//! What CUDA promises, asked of any `libcuda.so.1`.
//!
//! The suite opens the library with `dlopen` and knows nothing else about it, so that one binary runs
//! on the software driver, through the guest's library, in a guest, and on a real GPU.
//!
//! Read in this order: [`registry`] (what a case is), [`runner`] (a process for each case, time limit,
//! report), the crate `libcuda` (the library under test, and what most cases start from), then [`cases`].

mod cases;
mod descriptors;
mod outcome;
mod probe;
mod registry;
mod runner;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use libcuda::{self as driver, gpu};

/// Asks a CUDA driver library whether it keeps CUDA's promises.
#[derive(Parser, Debug)]
struct Options {
    /// The library to ask (else the dynamic loader looks for libcuda.so.1)
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
    /// Print the names of the cases and leave
    #[arg(long)]
    list: bool,
    /// Run only the cases whose name contains this (repeatable)
    #[arg(long, value_name = "SUBSTRING")]
    filter: Vec<String>,
    /// Leave out the cases whose name contains this (repeatable)
    #[arg(long, value_name = "SUBSTRING")]
    skip: Vec<String>,
    /// How many cases run at a time; on a GPU, more than one mislead those that look at its free memory
    #[arg(long, default_value_t = 1, value_name = "N")]
    jobs: usize,
    /// Multiply every time limit, and leave out the largest sizes, where the machine is emulated
    #[arg(long, default_value_t = 1, value_name = "N")]
    slow: u32,
    /// Write the results to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run one case in this process (what the runner does for each)
    #[arg(long, hide = true, value_name = "NAME")]
    run_case: Option<String>,
    /// Run one helper program of a case in this process
    #[arg(long, hide = true, value_name = "NAME")]
    run_probe: Option<String>,
    /// What the helper program is told
    #[arg(hide = true)]
    probe_arguments: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(name) = &options.run_case {
        return registry::run_one(name);
    }
    if let Some(name) = &options.run_probe {
        return probe::run(name, &options.probe_arguments);
    }
    let cases = registry::select(&options.filter, &options.skip);
    if options.list {
        runner::list(&cases);
        return ExitCode::SUCCESS;
    }
    let plan = runner::Plan {
        library: options.library,
        jobs: options.jobs.max(1),
        slow: options.slow.max(1),
        json: options.json,
    };
    match runner::run(&cases, &plan) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

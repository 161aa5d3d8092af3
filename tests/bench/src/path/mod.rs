//! How long the path of a call is: instructions in user space and system calls in the client, and for a launch the worker's
//! instructions, counted one by one, so that a change that makes it longer shows on any machine.
//!
//! The client is another process of this program ([`walk`]) whose one calling thread runs instruction by instruction
//! ([`steps`]). That is a thousand times slower than usual, so the worker is always waiting:
//!
//! - *Posted* calls are counted up to their publication, with the worker held: nothing that it does then can be seen by the
//!   client, and all calls after the first find it kicked already. Each takes the same way. Then the lane's thread is let go,
//!   instruction by instruction, too, until it has executed them all and sleeps.
//! - *Answered* calls are counted from end to end, without spinning (`VCOMPUTE_SPIN_US=0`). Where the answer is late the client
//!   sleeps, which takes more instructions, so the shortest of many counts.
//!
//! Read in this order: this file (what is counted, and what is allowed), [`walk`], [`steps`].

mod steps;
mod walk;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::series::print_line;
use crate::watched::{self, Watched};
use steps::{Count, Stepped};
pub(crate) use walk::run as walk;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    watched: watched::Arguments,
    /// Only count: whatever it comes to is allowed
    #[arg(long)]
    only_count: bool,
    /// Where to write which instructions were counted: path, file, offset in it, how often for each call
    #[arg(long, value_name = "FILE")]
    addresses: Option<PathBuf>,
}

/// The process that is counted.
#[derive(clap::Args, Debug)]
pub(crate) struct WalkArguments {
    #[arg(long)]
    library: PathBuf,
}

/// How a call is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Up to its publication, with the worker held; the mean of all.
    Posted,
    /// With its answer; the shortest of all.
    Answered,
    /// It sends nothing; the mean of all.
    Local,
}

/// A call, and what it took when this was last looked at.
struct Path {
    name: &'static str,
    kind: Kind,
    /// Instructions of the client's thread in user space, the library's and those of libc on its behalf.
    instructions: f64,
    /// Its system calls, at most.
    system_calls: f64,
}

/// By how much a path may become longer before somebody has to say that it is worth it, by writing its new length down here:
/// compilers and libc differ by less, and an own copy of a request's bytes, another lock or another look at the clock is
/// more. Of system calls there may not be one more.
const MARGIN: f64 = 1.3;

/// The lengths, counted with the release build of Rust 1.95 on glibc 2.36.
const PATHS: [Path; 7] = [
    posted("cuLaunchKernel", 1193.0),
    answered("cuLaunchKernel and cuStreamSynchronize", 2612.0, 2),
    answered("cuMemcpyHtoD of 4 bytes", 1811.0, 1),
    answered("cuMemcpyDtoH of 4 bytes", 1819.0, 1),
    answered("cuMemAlloc and cuMemFree", 2130.0, 2),
    local("cuCtxGetCurrent", 116.0),
    local("cuFuncGetAttribute", 240.0),
];

/// The other side of a launch: the instructions of the worker's program for one of many that wait, without those of the
/// driver and of libc, from the moment that its lane wakes up until it sleeps.
const SERVED: Path = posted("a lane for a cuLaunchKernel", 770.0);

const fn posted(name: &'static str, instructions: f64) -> Path {
    Path { name, kind: Kind::Posted, instructions, system_calls: 0.0 }
}

const fn local(name: &'static str, instructions: f64) -> Path {
    Path { name, kind: Kind::Local, instructions, system_calls: 0.0 }
}

/// For each request, a client that runs step by step makes up to two system calls: it finds the worker asleep, and sleeps.
const fn answered(name: &'static str, instructions: f64, requests: u32) -> Path {
    Path { name, kind: Kind::Answered, instructions, system_calls: 2.0 * requests as f64 }
}

impl Kind {
    /// Calls that are counted. A lane takes 512 posted ones before the client has to wait; they are all alike.
    fn calls(self) -> usize {
        match self {
            Self::Posted => 50,
            Self::Answered => 20,
            Self::Local => 10,
        }
    }
}

/// A path as it was counted.
#[derive(Debug, Serialize)]
struct Counted {
    path: &'static str,
    instructions: f64,
    system_calls: f64,
    /// What is allowed.
    most_instructions: f64,
    most_system_calls: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let watched = Watched::start(&arguments.watched)?;
    let mut command = watched.client("walk")?;
    command.env("VCOMPUTE_SPIN_US", "0");
    let mut client = Stepped::start(command)?;

    let mut failures = Vec::new();
    let mut addresses = String::new();
    for path in &PATHS {
        // The client is ready to make the calls, and nothing of its own is under way.
        client.run_to_mark()?;
        let worker = watched.worker()?;
        let held = (path.kind == Kind::Posted).then(|| steps::Held::hold(worker)).transpose()?;
        let counts = (0..path.kind.calls()).map(|_| client.count()).collect::<Result<Vec<_>>>()?;
        let counted = path.of(&counts);
        print_line(&counted)?;
        failures.extend(counted.failure());
        let mut write = |name, seen: &[(String, u64, u64)], calls| {
            for (file, offset, times) in seen {
                let each = *times as f64 / calls as f64;
                let _ = writeln!(addresses, "{name}\t{file}\t{offset:#x}\t{each:.2}");
            }
        };
        write(path.name, &client.take_seen()?, path.kind.calls());
        if let Some(held) = held {
            // What was posted is waiting for the lane's thread, which now goes on alone, step by step.
            let mut thread = steps::LaneThread::hold(worker, 0)?;
            drop(held);
            let seen = thread.run_to_sleep()?;
            // With the one that the worker was kicked for.
            let calls = path.kind.calls() + 1;
            let counted = SERVED.served(&seen, &watched.program, calls);
            print_line(&counted)?;
            failures.extend(counted.failure());
            write(SERVED.name, &seen, calls);
        }
    }
    client.run_to_end()?;
    if let Some(file) = &arguments.addresses {
        fs::write(file, addresses).with_context(|| format!("write {}", file.display()))?;
    }
    ensure!(
        arguments.only_count || failures.is_empty(),
        "{}; if that is worth it, the new length belongs into tests/bench/src/path/mod.rs",
        failures.join("; ")
    );
    Ok(())
}

impl Path {
    /// What a lane's thread executed for its requests, of the worker's program alone.
    fn served(&self, seen: &[(String, u64, u64)], program: &std::path::Path, requests: usize) -> Counted {
        let own = seen.iter().filter(|(file, ..)| std::path::Path::new(file) == program);
        let instructions = own.map(|(.., times)| times).sum::<u64>() / requests.max(1) as u64;
        self.of(&[Count { instructions, system_calls: 0 }])
    }

    /// What its calls come to.
    fn of(&self, counts: &[Count]) -> Counted {
        let instructions = counts.iter().map(|count| count.instructions);
        let system_calls = counts.iter().map(|count| count.system_calls);
        let mean = |sum: u64| sum as f64 / counts.len().max(1) as f64;
        let (instructions, system_calls) = match self.kind {
            Kind::Posted | Kind::Local => (mean(instructions.sum()), mean(system_calls.sum())),
            Kind::Answered => {
                (instructions.min().unwrap_or_default() as f64, system_calls.min().unwrap_or_default() as f64)
            }
        };
        Counted {
            path: self.name,
            instructions,
            system_calls,
            most_instructions: self.instructions * MARGIN,
            most_system_calls: self.system_calls,
        }
    }
}

impl Counted {
    /// What is wrong with it.
    fn failure(&self) -> Option<String> {
        let Self { path, instructions, system_calls, most_instructions, most_system_calls } = self;
        // A path of no instructions has not been counted.
        if *instructions < 1.0 {
            return Some(format!("{path}: no instructions were counted"));
        }
        if instructions > most_instructions {
            return Some(format!(
                "{path}: {instructions:.0} instructions, {most_instructions:.0} are allowed"
            ));
        }
        (system_calls > most_system_calls)
            .then(|| format!("{path}: {system_calls} system calls, {most_system_calls} are allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_twice_the_length_fails_and_so_does_one_more_system_call() {
        let path = Path { name: "call", kind: Kind::Posted, instructions: 200.0, system_calls: 0.0 };
        let counted = |instructions, system_calls| path.of(&[Count { instructions, system_calls }; 10]);
        assert_eq!(counted(200, 0).failure(), None);
        assert_eq!(counted(259, 0).failure(), None);
        assert!(counted(400, 0).failure().is_some());
        assert!(counted(200, 1).failure().is_some());
        assert!(counted(0, 0).failure().is_some());
    }

    #[test]
    fn of_answered_calls_the_shortest_counts_and_of_others_the_mean() {
        let counts =
            [Count { instructions: 300, system_calls: 2 }, Count { instructions: 100, system_calls: 1 }];
        let path = |kind| Path { name: "call", kind, instructions: 100.0, system_calls: 1.0 }.of(&counts);
        assert!((path(Kind::Answered).instructions - 100.0).abs() < 1e-9);
        assert!((path(Kind::Posted).instructions - 200.0).abs() < 1e-9);
    }
}

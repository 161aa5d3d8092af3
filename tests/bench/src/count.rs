//! What a busy session costs in notifications, counted instead of timed, so that a regression of the path itself shows on
//! any machine.
//!
//! The kernel counts for each process how often it wrote and how often its threads slept, and session memory counts
//! sleeps that ended by their time limit although there was work: a wake-up that was lost. Nothing in the session has
//! to be changed to be counted, and what is counted is the busy phase alone, without the start.

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::client::Client;
use crate::process;
use crate::series::print_line;
use crate::solo::{Done, Order};
use crate::watched::{Arguments, Watched};

/// Before the count, so that both sides' spinning has adapted itself.
const WARMING: Order = Order::Launch { milliseconds: 300 };
/// What is counted.
const BUSY: Order = Order::Launch { milliseconds: 2000 };
/// Waits whose answer comes long before spinning would end, after some that made the client give it up.
const WAITING: Order = Order::Answers { copies: 3000 };
/// Fewest launches that say something.
const FEWEST_LAUNCHES: f64 = 20_000.0;

/// What names of the worker's threads that serve the client begin with; others are the driver's.
const LANE: &str = "lane";

/// Counts so far.
#[derive(Clone, Copy, Debug)]
struct Counts {
    requests: u64,
    client_writes: u64,
    client_sleeps: u64,
    lane_sleeps: u64,
    backstops: u32,
}

/// Counts of the busy phase, for each 1,000 launches where not said otherwise.
#[derive(Debug, Serialize)]
struct Counted {
    launches: f64,
    requests: f64,
    /// The client woke the worker: a system call here, and in a guest an exit from it.
    kicks: f64,
    /// The client slept because the queue was full, and was woken.
    client_sleeps: f64,
    /// The worker's thread slept because there was nothing to do, and was woken.
    lane_sleeps: f64,
    /// Wake-ups that were lost, in all.
    backstops: u32,
    /// The client slept before an answer, for each 1,000 copies of four bytes.
    sleeps_of_waits: Option<f64>,
}

/// Requests for 1,000 launches: each launch is one, and the end of each order is a few.
const MOST_REQUESTS: f64 = 1001.0;
/// Notifications of each kind for 1,000 launches. The goal is below 1. A client that is faster than the GPU sleeps at a full
/// queue until three quarters of its 512 slots are free, which is 2.6; and where other work keeps it from its processor then, the
/// worker empties the rest, sleeps, too, and is kicked, at most as often. A regression of the path is one for each
/// launch, or for each of a few.
const MOST_NOTIFICATIONS: f64 = 10.0;
/// Sleeps of a client for 1,000 answers that come at once. Where it spins as long as it should, they are the long waits before,
/// and those in which somebody else had the worker's processor (1 to 12 on an idle machine, 102 seen on a busy one); a client
/// that does not spin any more sleeps at each.
const MOST_SLEEPS_OF_WAITS: f64 = 300.0;
/// The phase of waits is counted up to so many times, and the best counts: a machine that others use keeps the worker from
/// its processor, but a client that has given up spinning stays that way.
const TRIES: u32 = 4;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let watched = Watched::start(arguments)?;
    let mut client = Client::start(watched.client("solo")?)?;
    client.started()?;
    let worker = watched.worker()?;

    client.tell(&WARMING)?;
    let _: Done = client.answer()?;
    let begin = Counts::take(client.process_id(), worker)?;
    client.tell(&BUSY)?;
    let done: Done = client.answer()?;
    let end = Counts::take(client.process_id(), worker)?;
    let sleeps_of_waits = sleeps_of_waits(&mut client, worker)?;
    client.end()?;

    let counted = Counted { sleeps_of_waits, ..Counted::between(begin, end, done.amount) };
    print_line(&counted)?;
    counted.check()
}

/// How often the client sleeps at 1,000 answers that come at once; `None` on a machine with one processor, where it never
/// spins.
fn sleeps_of_waits(client: &mut Client, worker: u32) -> Result<Option<f64>> {
    // On one and the same processor a client that spins would keep the worker from answering.
    let [first, second, ..] = process::processors()?[..] else { return Ok(None) };
    process::keep_on(client.process_id(), "", first)?;
    process::keep_on(worker, LANE, second)?;
    let mut fewest = f64::INFINITY;
    for _ in 0..TRIES {
        let before = process::sleeps(client.process_id(), "");
        client.tell(&WAITING)?;
        let done: Done = client.answer()?;
        let slept = process::sleeps(client.process_id(), "").saturating_sub(before);
        fewest = fewest.min(slept as f64 * 1000.0 / done.amount);
        if fewest <= MOST_SLEEPS_OF_WAITS {
            break;
        }
    }
    Ok(Some(fewest))
}

impl Counts {
    fn take(client: u32, worker: u32) -> Result<Self> {
        let header = process::session_header(client)?;
        Ok(Self {
            requests: header.next_sequence,
            client_writes: process::writes(client)?,
            client_sleeps: process::sleeps(client, ""),
            lane_sleeps: process::sleeps(worker, LANE),
            backstops: header.guest_backstops.wrapping_add(header.device_backstops),
        })
    }
}

impl Counted {
    fn between(begin: Counts, end: Counts, launches: f64) -> Self {
        let per_thousand = |begin: u64, end: u64| end.saturating_sub(begin) as f64 * 1000.0 / launches;
        Self {
            launches,
            requests: per_thousand(begin.requests, end.requests),
            // The client's answer is a write, too.
            kicks: per_thousand(begin.client_writes + 1, end.client_writes),
            client_sleeps: per_thousand(begin.client_sleeps, end.client_sleeps),
            lane_sleeps: per_thousand(begin.lane_sleeps, end.lane_sleeps),
            backstops: end.backstops.wrapping_sub(begin.backstops),
            sleeps_of_waits: None,
        }
    }

    /// Fails above the bounds.
    fn check(&self) -> Result<()> {
        let sleeps = self.sleeps_of_waits.unwrap_or_default();
        ensure!(
            sleeps <= MOST_SLEEPS_OF_WAITS,
            "a client slept {sleeps:.2} times at 1,000 answers that come at once, {MOST_SLEEPS_OF_WAITS} are allowed"
        );
        ensure!(self.launches >= FEWEST_LAUNCHES, "{} launches are too few to count with", self.launches);
        ensure!(self.backstops == 0, "{} wake-ups were lost", self.backstops);
        for (what, value, most) in [
            ("requests", self.requests, MOST_REQUESTS),
            ("kicks", self.kicks, MOST_NOTIFICATIONS),
            ("sleeps of the worker", self.lane_sleeps, MOST_NOTIFICATIONS),
            ("sleeps of the client", self.client_sleeps, MOST_NOTIFICATIONS),
        ] {
            ensure!(value <= most, "{value:.2} {what} for 1,000 launches, {most} are allowed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_of_the_phase_alone() {
        let begin = Counts { requests: 10, client_writes: 5, client_sleeps: 7, lane_sleeps: 9, backstops: 1 };
        let end =
            Counts { requests: 50_010, client_writes: 31, client_sleeps: 107, lane_sleeps: 59, backstops: 1 };
        let counted = Counted::between(begin, end, 50_000.0);
        assert_eq!(
            (counted.requests, counted.kicks, counted.client_sleeps, counted.lane_sleeps),
            (1000.0, 0.5, 2.0, 1.0)
        );
        assert!(counted.check().is_ok());
        let lost = Counted { backstops: 1, ..counted };
        assert!(lost.check().is_err());
        let kicked = Counted { backstops: 0, kicks: 25.0, ..lost };
        assert!(kicked.check().is_err());
        let asleep = Counted { kicks: 0.5, sleeps_of_waits: Some(960.0), ..kicked };
        assert!(asleep.check().is_err());
    }
}

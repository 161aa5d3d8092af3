//! What a program calls, for developers and for the record of what crosses to the device.
//!
//! `VCOMPUTE_TRACE=calls` writes each call and its result to standard error. `VCOMPUTE_TRACE=counts` writes a table when
//! the process ends: function, calls, requests that they sent, and calls that failed; `counts:PATH` appends it to a file.
//! Neither does anything in a program that runs with raised privileges. A process that asks for nothing pays one load
//! for each call and one for each request.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use virtio_spec::cuda::CUresult;

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    Off,
    Calls,
    Counts { path: Option<String> },
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    calls: u64,
    requests: u64,
    failures: u64,
}

static MODE: OnceLock<Mode> = OnceLock::new();
/// [`UNKNOWN`], [`OFF`] or [`ON`], for calls to look at.
static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;
static COUNTS: Mutex<BTreeMap<&'static str, Count>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// Requests that this thread has sent.
    static SENT: Cell<u64> = const { Cell::new(0) };
}

fn parse(text: &str) -> Mode {
    match text.split_once(':') {
        None if text == "calls" => Mode::Calls,
        None if text == "counts" => Mode::Counts { path: None },
        Some(("counts", path)) => Mode::Counts { path: Some(path.to_owned()) },
        _ => Mode::Off,
    }
}

fn mode() -> &'static Mode {
    MODE.get_or_init(|| {
        // SAFETY: reads the auxiliary vector.
        let is_privileged = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
        match std::env::var("VCOMPUTE_TRACE") {
            Ok(text) if !is_privileged => parse(&text),
            _ => Mode::Off,
        }
    })
}

/// Whether nothing is wanted.
fn is_off() -> bool {
    match STATE.load(Ordering::Relaxed) {
        UNKNOWN => find_out(),
        state => state == OFF,
    }
}

#[cold]
fn find_out() -> bool {
    let is_off = *mode() == Mode::Off;
    STATE.store(if is_off { OFF } else { ON }, Ordering::Relaxed);
    is_off
}

/// A request was sent.
pub(crate) fn sent() {
    if !is_off() {
        // A thread that ends does not count its last ones.
        let _ = SENT.try_with(|sent| sent.set(sent.get() + 1));
    }
}

/// Runs a call and notes what became of it.
#[inline]
pub(crate) fn call(name: &'static str, body: impl FnOnce() -> CUresult) -> CUresult {
    if is_off() {
        return body();
    }
    let mut body = Some(body);
    noted(name, &mut || body.take().map_or(CUresult::ERROR_UNKNOWN, |body| body()))
}

/// Once for all functions, and out of the way of calls that nobody wants to see.
#[cold]
fn noted(name: &'static str, body: &mut dyn FnMut() -> CUresult) -> CUresult {
    let before = SENT.try_with(Cell::get).unwrap_or(0);
    let result = body();
    let requests = SENT.try_with(Cell::get).unwrap_or(before) - before;
    match mode() {
        Mode::Off => {}
        Mode::Calls => eprintln!("{name} {} {requests}", result.0),
        Mode::Counts { .. } => {
            let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(name).or_default();
            count.calls += 1;
            count.requests += requests;
            count.failures += u64::from(result != CUresult::SUCCESS);
        }
    }
    result
}

/// Writes the table, at the process's end.
pub(crate) fn finish() {
    let Some(Mode::Counts { path }) = MODE.get() else { return };
    let counts = std::mem::take(&mut *COUNTS.lock().unwrap_or_else(PoisonError::into_inner));
    if counts.is_empty() {
        return;
    }
    let text = table(&counts);
    // A table that cannot be written is no reason to disturb a program that ends.
    let _ = match path {
        None => std::io::stderr().write_all(text.as_bytes()),
        Some(path) => std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes())),
    };
}

fn table(counts: &BTreeMap<&'static str, Count>) -> String {
    let mut text = format!("# process {}: function, calls, requests, failures\n", std::process::id());
    for (name, count) in counts {
        // A string takes everything.
        let _ = writeln!(text, "{name}\t{}\t{}\t{}", count.calls, count.requests, count.failures);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_may_say() {
        assert_eq!(parse("calls"), Mode::Calls);
        assert_eq!(parse("counts"), Mode::Counts { path: None });
        assert_eq!(parse("counts:/a:b"), Mode::Counts { path: Some("/a:b".to_owned()) });
        assert_eq!(parse("calls:x"), Mode::Off);
        assert_eq!(parse(""), Mode::Off);
    }

    #[test]
    fn a_line_for_each_function() {
        let count = Count { calls: 3, requests: 1, failures: 2 };
        let text = table(&BTreeMap::from([("cuInit", count)]));
        assert_eq!(text.lines().nth(1), Some("cuInit\t3\t1\t2"));
    }
}

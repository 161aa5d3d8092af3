//! A device that misbehaves, in every way that `tests/faulty-device` knows: the guest's kernel prints no warning, every
//! request of a process has its answer in time, the module can be removed, and programs end with an error.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use qemu::Report;
use qemu::image::Job;

use crate::backend::Backend;
use crate::counts::Counts;
use crate::machine::Machine;

const LIMIT: Duration = Duration::from_secs(600);

/// With these the driver does not start the device's queues, so nothing tells the device that it is over.
const NEVER_STARTED: [&str; 2] = ["config-magic", "config-version"];

/// With these a CUDA program waits for ever, as it does for a GPU that is busy for ever.
const NEVER_ANSWERED: &str = "none|config-everything-allowed|hello-restless|info-extreme|map-*|unmap-*|destroy-*|\
    kick-never|status-never|status-again|status-garbage|used-long|event-garbage|event-storm";

/// What some devices' answers must come to. All others need only come in time.
const EXPECTED: &[(&str, &str)] = &[
    (
        "none",
        "state=1 info=0 status=0 create=0 kick=0 kick=0 wait=ETIMEDOUT map=0 unmap=0 register=0 unmap=0 another=0",
    ),
    ("config-magic", "open=ENOENT"),
    ("config-version", "open=ENOENT"),
    ("config-nothing-allowed", "create=ENOSPC"),
    ("hello-never", "state=0 info=EAGAIN status=EAGAIN create=EAGAIN"),
    ("hello-failed", "state=3 info=EAGAIN status=ENODEV create=ENODEV"),
    ("info-long", "state=3 info=EAGAIN status=ENODEV create=ENODEV"),
    ("create-never", "create=ETIMEDOUT"),
    ("create-late", "create=ETIMEDOUT"),
    ("create-same", "another=ENODEV"),
    ("create-status", "create=EPROTO"),
    ("create-refused", "create=ENOMEM"),
    ("map-never", "map=ETIMEDOUT"),
    ("map-refused", "map=EADDRINUSE"),
    ("unmap-never", "unmap=ETIMEDOUT"),
    ("unmap-refused", "unmap=EREMOTEIO"),
    ("create-dies", "map=ENODEV register=ENODEV another=0"),
    ("status-never", "status=ETIMEDOUT create=0"),
    ("status-again", "status=EAGAIN create=0"),
    ("status-garbage", "status=0 create=0"),
    ("status-long", "status=ENODEV create=ENODEV"),
    ("kick-unknown", "wait=ENODEV map=ENODEV register=ENODEV"),
    ("used-twice", "state=3 info=EAGAIN status=ENODEV create=ENODEV"),
    ("used-beyond", "state=3 info=EAGAIN status=ENODEV create=ENODEV"),
    ("used-idle", "state=3 info=EAGAIN status=ENODEV create=ENODEV"),
    ("used-empty", "create=ENODEV"),
];

/// Longest that a process waits for the device, and the limit of what it may wait in truth.
const TIMEOUT_MS: u32 = 1000;
const LIMIT_MS: u32 = 3000;

/// What a kernel prints when something is wrong with it.
const COMPLAINTS: &str =
    "WARNING:|BUG:|Oops|Call Trace|general protection|refcount_t|blocked for more than|stall";

/// All faults; each is a test.
pub(super) fn run(machine: &mut Machine, device: &Backend) -> Result<Counts> {
    let list = Command::new(&device.program).arg("--list").output().context("ask for the faults")?;
    let list = String::from_utf8(list.stdout)?;
    let all: Vec<&str> = list.lines().filter(|name| !NEVER_STARTED.contains(name)).collect();
    ensure!(all.len() > 1, "there are no faults");
    let mut sum = Counts::default();
    // The first device is that of the guest's start, and the last shows that a good one works again.
    let mut rounds = vec![[all.as_slice(), &["none"]].concat()];
    rounds.extend(NEVER_STARTED.map(|name| vec![name]));
    let logs = machine.logs.clone();
    for (number, faults) in rounds.iter().enumerate() {
        machine.logs = logs.join(number.to_string());
        sum += boot(machine, device, faults)?;
    }
    Ok(sum)
}

/// One guest that meets these devices, one after the other.
fn boot(machine: &Machine, device: &Backend, faults: &[&str]) -> Result<Counts> {
    let names = faults.join(" ");
    let script = format!(
        "for fault in {names}; do
            timeout 30 rmmod vcompute || {{ echo \"FAILED $fault: the module cannot be removed\"; exit 1; }}
            insmod /lib/modules/vcompute.ko request_timeout_ms={TIMEOUT_MS}
            answers=$(timeout 60 endure {LIMIT_MS}) || answers=\"$answers (too late: $?)\"
            program=
            case $fault in {NEVER_ANSWERED}) ;; *)
                timeout 30 demo 2>/tmp/demo >/dev/null; program=\" demo=$?: $(tail -n 1 /tmp/demo)\"
            esac
            echo \"fault $fault: $answers$program\"
        done
        timeout 30 rmmod vcompute || echo 'FAILED the module cannot be removed'
        dmesg | grep -E '{COMPLAINTS}' | sed 's/^/FAILED kernel: /'"
    );
    let device = Backend { driver: format!("none,{}", faults.join(",")), ..device.clone() };
    let job = Job { script: &script, as_root: true, needs_device: true };
    let mut failures = Vec::new();
    let mut answers = Vec::new();
    machine.run(Some(&device), &job, LIMIT, |report| match report {
        Report::Job(line) if line.starts_with("FAILED") => failures.push(line.clone()),
        Report::Job(line) => {
            log::debug!("  {line}");
            if line.starts_with("fault ") {
                answers.push(line.clone());
            }
        }
        Report::Guest(line) => log::debug!("  guest: {line}"),
        Report::Exit(_) => {}
    })?;
    if !failures.is_empty() {
        bail!("{} (logs: {})", failures.join("\n"), machine.logs.display());
    }
    let mut counts = Counts::default();
    for (number, fault) in faults.iter().enumerate() {
        let line = answers.get(number).and_then(|line| line.strip_prefix(&format!("fault {fault}: ")));
        let good = line.is_some_and(|line| is_borne(fault, line));
        if !good {
            log::info!("  FAILED {fault}: {}", line.unwrap_or("no answer"));
        }
        counts += Counts::one(good);
    }
    Ok(counts)
}

/// Whether all came in time and as expected, and the program ended by itself with an error.
fn is_borne(fault: &str, line: &str) -> bool {
    let program = line.split_once(" demo=").and_then(|(_, rest)| rest.split(':').next()?.parse::<u32>().ok());
    let mut expected = EXPECTED.iter().filter(|(name, _)| *name == fault);
    !line.contains("too late")
        && program.is_none_or(|status| (1..124).contains(&status))
        && expected.all(|(_, answers)| line.contains(answers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_late_or_wrong_and_a_program_that_crashes_are_failures() {
        assert!(is_borne("map-refused", "create=0 map=EADDRINUSE close=0ms"));
        assert!(!is_borne("map-refused", "create=0 map=0 close=0ms"));
        assert!(!is_borne("used-long", "create=0 close=0ms longest=9000ms (too late: 1)"));
        assert!(is_borne("calls-fail", "create=0 demo=1: an error"));
        for status in [0, 124, 139] {
            assert!(!is_borne("calls-fail", &format!("create=0 demo={status}: ")), "{status}");
        }
    }
}

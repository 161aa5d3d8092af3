//! What the kernel tells of processes: their time on processors and their memory.
//!
//! This file has unsafe code: `getrusage`, `clock_gettime` and the calls for processors that threads may use.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use virtio_spec::session::{MAGIC, SessionHeader};
use zerocopy::FromBytes;

/// What the mappings of a session on the local socket are called.
const SESSION_MEMORY: &str = "/memfd:vcompute";

/// Nanoseconds of the clock that all processes share.
pub(crate) fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for a time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Seconds that this process's threads have been on processors, those that have ended included.
pub(crate) fn own_processor_time() -> f64 {
    // SAFETY: all bytes zero are a valid value of the structure, which has numbers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: room for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Seconds that the threads of a process and of all that descend from it have been on processors; threads that have
/// ended are not counted.
pub(crate) fn family_processor_time(process: u32) -> Result<f64> {
    let mut family = backend_process::descendants(process)?;
    family.insert(process);
    Ok(family.into_iter().map(|member| threads(member, "schedstat", nanoseconds)).sum::<f64>() / 1e9)
}

/// How often those threads of a process have gone to sleep whose names begin with `name`; threads that have ended are
/// not counted.
pub(crate) fn sleeps(process: u32, name: &str) -> u64 {
    let is_named =
        |text: &str| text.strip_prefix("Name:").is_some_and(|rest| rest.trim_start().starts_with(name));
    threads(process, "status", |text| field(text, "voluntary_ctxt_switches:").filter(|_| is_named(text)))
}

/// The processors that this process may use.
pub(crate) fn processors() -> Result<Vec<usize>> {
    // SAFETY: all bytes zero are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: room for a set.
    let status = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    ensure!(status == 0, "the processors: {}", std::io::Error::last_os_error());
    let most = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: a number that the set has room for.
    Ok((0..most).filter(|processor| unsafe { libc::CPU_ISSET(*processor, &set) }).collect())
}

/// Keeps those threads of a process on one processor whose names begin with `name`.
pub(crate) fn keep_on(process: u32, name: &str, processor: usize) -> Result<()> {
    // SAFETY: all bytes zero are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: a number of `processors`, which the set has room for.
    unsafe { libc::CPU_SET(processor, &mut set) };
    for task in fs::read_dir(format!("/proc/{process}/task")).context("list its threads")? {
        let task = task.context("list its threads")?;
        let is_named = fs::read_to_string(task.path().join("comm")).is_ok_and(|text| text.starts_with(name));
        let number = task.file_name().to_str().and_then(|text| text.parse().ok());
        let Some(thread) = number.filter(|_| is_named) else { continue };
        // SAFETY: a set, which is copied.
        let status = unsafe { libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set) };
        ensure!(status == 0, "keep a thread on a processor: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// How often a process has called `write` and its kin.
pub(crate) fn writes(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/io");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    field(&text, "syscw:").with_context(|| format!("no syscw in {path}"))
}

/// The session's header in the memory of a process that has one.
pub(crate) fn session_header(process: u32) -> Result<SessionHeader> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).context("read its maps")?;
    let memory = File::open(format!("/proc/{process}/mem")).context("open its memory")?;
    for line in maps.lines().filter(|line| line.contains(SESSION_MEMORY)) {
        let Some(start) = line.split('-').next().and_then(|text| u64::from_str_radix(text, 16).ok()) else {
            continue;
        };
        let mut bytes = [0; size_of::<SessionHeader>()];
        memory.read_exact_at(&mut bytes, start).context("read its memory")?;
        if let Ok(header) = SessionHeader::read_from_bytes(&bytes)
            && header.magic == MAGIC
        {
            return Ok(header);
        }
    }
    bail!("process {process} has no session")
}

/// Bytes of memory that a process has for itself alone.
pub(crate) fn private_memory(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let kibibytes: u64 = ["Private_Clean:", "Private_Dirty:", "Private_Hugetlb:"]
        .iter()
        .filter_map(|name| field(&text, name))
        .sum();
    Ok(kibibytes as f64 * 1024.0)
}

/// The sum over a process's threads of what one of their files says. One that has ended says nothing.
fn threads<T: std::iter::Sum>(process: u32, file: &str, read: impl Fn(&str) -> Option<T>) -> T {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/task")) else { return std::iter::empty().sum() };
    entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join(file)).ok())
        .filter_map(|text| read(&text))
        .sum()
}

/// The first number of `schedstat`: nanoseconds on a processor.
fn nanoseconds(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The number behind a name at a line's start.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_takes_time_and_has_memory() {
        let before = own_processor_time();
        let begin = monotonic();
        while own_processor_time() - before < 0.02 {
            std::hint::spin_loop();
        }
        // Other tests of this process work meanwhile.
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        assert!((monotonic() - begin) * processors >= 19_000_000);
        assert!(family_processor_time(std::process::id()).expect("this process") > 0.0);
        assert!(private_memory(std::process::id()).expect("this process") > 4096.0);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "nonvoluntary_ctxt_switches:\t5\nvoluntary_ctxt_switches:\t7\nPrivate_Dirty:   12 kB\n";
        assert_eq!(field(text, "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(text, "Private_Dirty:"), Some(12));
        assert_eq!(field(text, "Swap:"), None);
    }
}

//! What has been measured where, when and how.
//!
//! This file has unsafe code: the date by `gmtime_r`.

use std::fs;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::solo::Started;

/// What a run needs to be known by.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct About {
    /// Processor, how many of them, memory.
    machine: String,
    /// The kernel.
    kernel: String,
    /// Which machine it is, and since when it runs.
    boot: String,
    /// The GPU, as the native driver calls it.
    gpu: String,
    /// The native driver and its CUDA version.
    driver: String,
    /// Whether the driver is in software, so that no goal is judged.
    pub(crate) is_software: bool,
    /// When the run began (UTC).
    date: String,
    /// The command line.
    command: String,
    /// The project's state.
    revision: String,
}

impl About {
    /// Of this machine, this process's command line, and a driver that has said what it is.
    pub(crate) fn find(native: Started, revision: &str) -> Self {
        let (major, minor) = (native.cuda / 1000, native.cuda % 1000 / 10);
        let is_software = !native.device.contains("NVIDIA");
        let module = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
        let library = native.library.to_string_lossy();
        let version = library_version(&library).or_else(|| kernel_module_version(&module));
        let name = match version {
            _ if is_software => "in software".to_owned(),
            Some(version) => format!("NVIDIA {version}"),
            None => "NVIDIA, of unknown version".to_owned(),
        };
        Self {
            machine: machine(),
            kernel: line("/proc/sys/kernel/osrelease"),
            boot: line("/proc/sys/kernel/random/boot_id"),
            gpu: native.device,
            driver: format!("{name}, CUDA {major}.{minor}"),
            is_software,
            date: date(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            revision: revision.to_owned(),
        }
    }

    /// Goes on with an earlier run, which must have been like this one.
    pub(super) fn follow(mut self, later: Self) -> Result<Self> {
        let parts =
            |about: &Self| [&about.boot, &about.gpu, &about.driver, &about.revision].map(Clone::clone);
        let (earlier, now) = (parts(&self), parts(&later));
        ensure!(earlier == now, "what is there is of {earlier:?}, and this would be of {now:?}");
        self.command = format!("{}; {}", self.command, later.command);
        Ok(self)
    }

    /// Label and value of each part.
    pub(super) fn lines(&self) -> [(&'static str, &str); 7] {
        [
            ("machine", &self.machine),
            ("kernel", &self.kernel),
            ("GPU", &self.gpu),
            ("driver", &self.driver),
            ("date", &self.date),
            ("state of the project", &self.revision),
            ("command", &self.command),
        ]
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn machine() -> String {
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&information, "model name").unwrap_or("unknown processor");
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = field(&memory, "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .unwrap_or_default();
    format!("{model}, {count} processors, {} GiB", kibibytes >> 20)
}

/// What follows `name` and a colon.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (label, value) = line.split_once(':')?;
        (label.trim() == name).then(|| value.trim())
    })
}

/// The version in `…/libcuda.so.580.65.06`.
fn library_version(path: &str) -> Option<&str> {
    path.rsplit_once("libcuda.so.").map(|(_, version)| version).filter(|version| version.contains('.'))
}

/// The version in `NVRM version: NVIDIA UNIX … x86_64  580.65.06  …`.
fn kernel_module_version(text: &str) -> Option<&str> {
    let is_version = |word: &&str| {
        word.contains('.') && word.chars().all(|character| character.is_ascii_digit() || character == '.')
    };
    text.lines().next()?.split_whitespace().find(is_version)
}

/// Now, as `2026-01-31 12:00 UTC`.
fn date() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(now.as_secs()).unwrap_or_default();
    // SAFETY: all bytes zero are a valid value of the structure: numbers, and a pointer that may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: a time to read and room for its parts.
    unsafe { libc::gmtime_r(&raw const seconds, &raw mut parts) };
    let (year, month) = (parts.tm_year + 1900, parts.tm_mon + 1);
    format!("{year}-{month:02}-{:02} {:02}:{:02} UTC", parts.tm_mday, parts.tm_hour, parts.tm_min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_version_is_found() {
        let text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 12.2.0\n";
        assert_eq!(kernel_module_version(text), Some("580.65.06"));
        assert_eq!(kernel_module_version(""), None);
    }

    #[test]
    fn a_drivers_file_tells_its_version() {
        assert_eq!(library_version("/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06"), Some("580.65.06"));
        assert_eq!(library_version("/usr/lib/libcuda.so.1"), None);
        assert_eq!(library_version("/opt/libsoft_gpu.so"), None);
    }

    #[test]
    fn the_date_has_its_parts() {
        let date = date();
        assert!(date.ends_with(" UTC") && date.len() == "2026-01-31 12:00 UTC".len(), "{date}");
    }
}

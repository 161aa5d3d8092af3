//! `status` and `doctor`: what is there, whether it works, and what to do where it does not.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::device;
use crate::driver;
use crate::layout::{self, Libraries};
use crate::output::say;
use crate::record::Record;
use crate::system::{self, System};
use crate::{config, elf, library, preload, rescue};

/// The oldest kernel that the driver is built for.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Good,
    /// Not as it should be, but CUDA can work.
    Doubtful,
    /// CUDA cannot work, or the system is in danger.
    Broken,
    /// Not looked at, with the reason.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn new(about: &'static str, verdict: Verdict, found: impl Into<String>, advice: Option<&str>) -> Self {
        Self { about, verdict, found: found.into(), advice: advice.map(str::to_owned) }
    }

    fn good(about: &'static str, found: impl Into<String>) -> Self {
        Self::new(about, Verdict::Good, found, None)
    }

    fn doubtful(about: &'static str, found: impl Into<String>, advice: &str) -> Self {
        Self::new(about, Verdict::Doubtful, found, Some(advice))
    }

    fn broken(about: &'static str, found: impl Into<String>, advice: &str) -> Self {
        Self::new(about, Verdict::Broken, found, Some(advice))
    }

    fn skipped(about: &'static str, why: impl Into<String>) -> Self {
        Self::new(about, Verdict::Skipped, why, None)
    }
}

/// What `status` and `doctor` are told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// For programs
    #[arg(long)]
    json: bool,
}

/// `status`: what is installed and what the device says; starts no program, judges nothing.
pub(crate) fn status(system: &System, arguments: &Arguments) -> Result<()> {
    let findings = look(system, false)?;
    if arguments.json {
        print_json(&findings)?;
    } else {
        for finding in &findings {
            say(format_args!("{:<14}{}", finding.about, finding.found));
        }
    }
    Ok(())
}

/// `doctor`: the same, tried and judged. Says whether CUDA can work.
pub(crate) fn doctor(system: &System, arguments: &Arguments) -> Result<bool> {
    let findings = look(system, true)?;
    let broken = findings.iter().filter(|finding| finding.verdict == Verdict::Broken).count();
    if arguments.json {
        print_json(&findings)?;
        return Ok(broken == 0);
    }
    for finding in &findings {
        let word = match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Doubtful => "doubtful",
            Verdict::Broken => "BROKEN",
            Verdict::Skipped => "skipped",
        };
        say(format_args!("{word:<10}{:<14}{}", finding.about, finding.found));
        if let Some(advice) = &finding.advice {
            say(format_args!("{:<24}-> {advice}", ""));
        }
    }
    let end = match broken {
        0 => "Nothing is broken.".to_owned(),
        1 => "One thing is broken.".to_owned(),
        more => format!("{more} things are broken."),
    };
    say(format_args!("{end}"));
    Ok(broken == 0)
}

fn print_json(findings: &[Finding]) -> Result<()> {
    say(format_args!("{}", serde_json::to_string_pretty(findings)?));
    Ok(())
}

fn look(system: &System, try_it: bool) -> Result<Vec<Finding>> {
    let record = Record::of(system);
    let mut findings = vec![installed(&record)];
    if system.is_live() {
        findings.extend([kernel(), bus(), module(system)]);
        findings.extend(node());
    }
    let Some(libraries) = Libraries::of(system) else {
        findings.push(Finding::broken(
            "library",
            "there is no libc.so.6 for x86-64",
            "only x86-64 systems with glibc can be guests",
        ));
        return Ok(findings);
    };
    findings.push(library_file(system, &libraries));
    findings.push(cache(system, &libraries)?);
    findings.push(preloaded(system, &libraries)?);
    findings.push(policy(system)?);
    findings.push(initramfs(system));
    if try_it && system.is_live() {
        findings.push(child(system));
    }
    Ok(findings)
}

fn installed(record: &Result<Option<Record>>) -> Finding {
    const ABOUT: &str = "installed";
    match record {
        Ok(Some(record)) if record.version == layout::VERSION => {
            Finding::good(ABOUT, format!("version {}", record.version))
        }
        Ok(Some(record)) => Finding::doubtful(
            ABOUT,
            format!("version {}; this program is {}", record.version, layout::VERSION),
            "run `vcompute-guest install` of the version that you want",
        ),
        Ok(None) => Finding::doubtful(ABOUT, "not by this program", "run `vcompute-guest install`"),
        Err(error) => Finding::doubtful(ABOUT, format!("{error:#}"), "run `vcompute-guest install` again"),
    }
}

fn kernel() -> Finding {
    const ABOUT: &str = "kernel";
    let release = driver::running_release();
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    if version >= OLDEST_KERNEL {
        Finding::good(ABOUT, format!("Linux {release}"))
    } else {
        Finding::broken(ABOUT, format!("Linux {release}"), "the driver needs Linux 6.1 or newer")
    }
}

fn bus() -> Finding {
    const ABOUT: &str = "device";
    let found = device::on_the_bus();
    if found.is_empty() {
        Finding::broken(
            ABOUT,
            "none on the PCI bus",
            "start the VM with the device: -device vhost-user-test-device-pci,virtio-id=38,… and the backend",
        )
    } else {
        Finding::good(ABOUT, format!("at {}", found.join(", ")))
    }
}

fn module(system: &System) -> Finding {
    const ABOUT: &str = "driver";
    let release = driver::running_release();
    if system.has(&format!("sys/module/{}", layout::MODULE)) {
        let bound =
            fs::read_dir(format!("/sys/bus/virtio/drivers/{}", layout::MODULE)).is_ok_and(|entries| {
                entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("virtio"))
            });
        return if bound {
            Finding::good(ABOUT, format!("{} is loaded", layout::MODULE))
        } else {
            Finding::broken(
                ABOUT,
                "loaded, but it has no device",
                "see `dmesg | grep vcompute`: versions may differ, or the host's backend is gone",
            )
        };
    }
    let built = fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).is_ok_and(|list| {
        list.lines().any(|line| line.split(':').next().is_some_and(|path| path.contains("/vcompute.ko")))
    });
    if built {
        Finding::broken(
            ABOUT,
            "not loaded",
            "modprobe vcompute; with Secure Boot, enrol DKMS's key (mokutil --import /var/lib/dkms/mok.pub)",
        )
    } else {
        Finding::broken(
            ABOUT,
            format!("not built for the running kernel {release}"),
            "install its headers and run `vcompute-guest install` again (or `dkms autoinstall`)",
        )
    }
}

/// The node, who may open it, and what the device says.
fn node() -> Vec<Finding> {
    const ABOUT: &str = "device node";
    const STATE: &str = "device state";
    let path = virtio_spec::uapi::DEVICE_PATH;
    let about = match fs::metadata(path) {
        Ok(about) if about.file_type().is_char_device() => about,
        Ok(_) => {
            return vec![Finding::broken(
                ABOUT,
                format!("{path} is no device"),
                "remove it, and load the driver again",
            )];
        }
        Err(error) => {
            return vec![Finding::broken(
                ABOUT,
                format!("{path}: {error}"),
                "the driver makes it when it finds the device; see above",
            )];
        }
    };
    let mode = about.mode() & 0o777;
    let who = format!("{path}, mode {mode:04o}, group {}", group_name(about.gid()));
    let mut findings = Vec::new();
    let mut opened = device::open();
    findings.push(match &opened {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Finding::broken(
            ABOUT,
            format!("{who}: you may not open it"),
            "usermod --append --groups render USER, and log in again; in a service, SupplementaryGroups=render and DeviceAllow=/dev/vcompute0",
        ),
        Err(error) => Finding::broken(ABOUT, format!("{who}: {error}"), "see `dmesg | grep vcompute`"),
        Ok(_) if about.gid() == 0 => Finding::doubtful(
            ABOUT,
            format!("{who}: only root can use it"),
            "udevadm trigger --action=add --subsystem-match=vcompute (the udev rule gives it to the group render)",
        ),
        Ok(_) => Finding::good(ABOUT, who),
    });
    let Ok(node) = &mut opened else { return findings };
    let state = match device::ask(node) {
        Ok(state) => state,
        Err(error) => {
            findings.push(Finding::broken(
                STATE,
                error.to_string(),
                "the device is gone or the driver is another version: see `dmesg | grep vcompute`",
            ));
            return findings;
        }
    };
    let gpus: Vec<_> =
        state.gpus.iter().map(|gpu| format!("{} ({} MiB)", gpu.name, gpu.memory_mib)).collect();
    let cuda = state.cuda.as_deref().map_or(String::new(), |version| format!(", CUDA {version}"));
    findings.push(if state.ready && !gpus.is_empty() {
        Finding::good(STATE, format!("ready{cuda}: {}", gpus.join(", ")))
    } else {
        Finding::broken(STATE, format!("{}{cuda}", state.state), "see the backend's log on the host")
    });
    if state.shim_off {
        findings.push(Finding::doubtful(
            "early start",
            "switched off by the module's parameter",
            "echo on > /sys/module/vcompute/parameters/shim, and take vcompute.shim=off from the kernel's command line",
        ));
    }
    findings
}

fn group_name(id: u32) -> String {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| id.to_string())
}

fn library_file(system: &System, libraries: &Libraries) -> Finding {
    const ABOUT: &str = "library";
    const AGAIN: &str = "run `vcompute-guest install` again";
    let inside = format!("{}/{}", libraries.directory, layout::SONAME);
    match system.read(&inside) {
        Err(error) => Finding::broken(ABOUT, format!("/{inside}: {error}"), AGAIN),
        Ok(file) if !elf::is_ours(&file) => Finding::broken(
            ABOUT,
            format!("/{inside} is another vendor's"),
            "run `vcompute-guest install --replace-other-libcuda`",
        ),
        Ok(file) => match elf::check(&file, layout::SONAME) {
            Ok(()) => Finding::good(ABOUT, format!("/{inside}")),
            Err(error) => Finding::broken(ABOUT, format!("/{inside}: {error:#}"), AGAIN),
        },
    }
}

fn cache(system: &System, libraries: &Libraries) -> Result<Finding> {
    const ABOUT: &str = "linker cache";
    let paths = library::cached(system)?;
    let Some(first) = paths.first() else {
        return Ok(Finding::broken(ABOUT, format!("{} is not in it", layout::SONAME), "run ldconfig"));
    };
    let is_ours = system.read(first).is_ok_and(|file| elf::is_ours(&file));
    Ok(if is_ours {
        Finding::good(ABOUT, format!("{} is {first}", layout::SONAME))
    } else {
        Finding::broken(
            ABOUT,
            format!("{} is {first}, another vendor's; ours is in /{}", layout::SONAME, libraries.directory),
            "remove that package, or run `vcompute-guest install --replace-other-libcuda`",
        )
    })
}

fn preloaded(system: &System, libraries: &Libraries) -> Result<Finding> {
    const ABOUT: &str = "preload";
    let text = system.text(layout::PRELOAD_LIST)?.unwrap_or_default();
    let Some(entry) = preload::entries(&text).find(|entry| rescue::is_ours(entry)) else {
        return Ok(Finding::good(ABOUT, "no; programs find the library when they ask for it"));
    };
    let file = entry.replace("$LIB", libraries.directory.trim_start_matches("usr/"));
    Ok(match system.read(&file).map(|file| elf::check(&file, layout::SONAME)) {
        Ok(Ok(())) if entry == libraries.preload_entry() => {
            Finding::good(ABOUT, format!("{entry}, in every process"))
        }
        Ok(Ok(())) => Finding::doubtful(
            ABOUT,
            format!("{entry}, not as this version writes it"),
            "run `vcompute-guest install` again",
        ),
        Ok(Err(error)) => {
            Finding::broken(ABOUT, format!("{file}: {error:#}"), "vcompute-guest rescue, then install again")
        }
        Err(error) => {
            Finding::broken(ABOUT, format!("{file}: {error}"), "vcompute-guest rescue, then install again")
        }
    })
}

fn policy(system: &System) -> Result<Finding> {
    const ABOUT: &str = "policy";
    let link =
        fs::read_link(system.path(layout::POLICY)).ok().map(|text| text.to_string_lossy().into_owned());
    let meant = match config::of(system) {
        Ok(meant) => meant,
        Err(error) => {
            return Ok(Finding::doubtful(ABOUT, format!("{error:#}"), "mend it, then vcompute-guest apply"));
        }
    };
    Ok(match link {
        Some(text) if text == meant => Finding::good(ABOUT, text),
        None if !system.has(layout::CONFIG) => Finding::good(ABOUT, "the default (there is no file)"),
        Some(text) => Finding::doubtful(
            ABOUT,
            format!("processes see {text:?}; /{} means {meant:?}", layout::CONFIG),
            "vcompute-guest apply",
        ),
        None => Finding::doubtful(ABOUT, format!("there is no /{}", layout::POLICY), "vcompute-guest apply"),
    })
}

fn initramfs(system: &System) -> Finding {
    const ABOUT: &str = "initramfs";
    if !system.path("etc/initramfs-tools").is_dir() {
        return Finding::skipped(ABOUT, "initramfs-tools is not installed");
    }
    if system.has(layout::INITRAMFS_HOOK) {
        Finding::good(ABOUT, "the preloaded library is kept out of it")
    } else {
        Finding::doubtful(
            ABOUT,
            format!("there is no /{}", layout::INITRAMFS_HOOK),
            "run `vcompute-guest install` again",
        )
    }
}

/// What a CUDA program would find.
fn child(system: &System) -> Finding {
    const ABOUT: &str = "a program";
    if !system.has(layout::PROBE) {
        return Finding::skipped(ABOUT, format!("there is no /{}", layout::PROBE));
    }
    let ended = system
        .command(&format!("/{}", layout::PROBE), None)
        .and_then(|command| system::run(command, Duration::from_secs(120)));
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            return Finding::broken(ABOUT, format!("{error:#}"), "run `vcompute-guest install` again");
        }
    };
    if ended.complaints.contains("GLIBC_") {
        return Finding::skipped(ABOUT, format!("the probe does not start here: {}", ended.complaints));
    }
    let answer: serde_json::Value = serde_json::from_str(&ended.output).unwrap_or_default();
    match (&ended.failure, answer.get("devices").and_then(|devices| devices.as_array())) {
        (None, Some(devices)) if !devices.is_empty() => {
            Finding::good(ABOUT, format!("cuInit works; CUDA devices: {}", devices.len()))
        }
        (None, Some(_)) => Finding::broken(
            ABOUT,
            "cuInit works, but there is no device",
            "see the backend's log on the host",
        ),
        (failure, _) => {
            let reason = answer.get("error").and_then(|error| error.as_str()).map(str::to_owned);
            let reason = reason.or_else(|| failure.clone()).unwrap_or_else(|| "it said nothing".to_owned());
            Finding::broken(ABOUT, reason, "mend what is broken above; VCOMPUTE_LOG=debug says more")
        }
    }
}

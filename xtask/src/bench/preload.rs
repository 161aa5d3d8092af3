//! `bench preload`: what the library costs a process that does not use it.
//!
//! Variants in turn: without a preloaded library, with one that has nothing in it (what the dynamic linker itself takes),
//! with ours in an application, and with ours in a system process, which it leaves alone by its name; and that process
//! without it, because a program's path has a price too.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cuda_bench::statistics::Median;
use qemu::image::{self, Contents, Job};
use qemu::{Accelerator, Kernel, Places, Qemu, Report};

use super::samples::{Sample, Samples};
use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::guest_module;
use crate::machine::{self, MEMORY_MIB, Machine};
use crate::output::say;
use crate::{prerequisites, process, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// In a guest with the device, with the library in /etc/ld.so.preload (otherwise here, by LD_PRELOAD)
    #[arg(long)]
    guest: bool,
    /// Here, by an /etc/ld.so.preload that only the measured processes see (needs root)
    #[arg(long, conflicts_with = "guest")]
    file: bool,
    /// The guest's kernel: 6.1, 6.12 or 7
    #[arg(long, default_value = "6.12")]
    kernel: Kernel,
    /// How often each variant is started (default: 2000; in a guest 300)
    #[arg(long)]
    rounds: Option<u32>,
    /// For programs
    #[arg(long)]
    json: bool,
    /// This library instead of the workspace's
    #[arg(long)]
    library: Option<PathBuf>,
}

const SOURCE: &str = include_str!("startup.c");
/// A program that does nothing.
const PROGRAM: &str = "/bin/true";
/// The same program's name as one that is left alone.
const SYSTEM_NAME: &str = "systemd-true";
const LIMIT: Duration = Duration::from_secs(600);

/// What figures of a guest without a processor's help are worth.
const TRANSLATED: &str = "Every instruction of this guest was translated (TCG): these times and ratios are not those of \
                          hardware. Only page faults, and which variant is dearer, can be compared.";

/// The variants: their names, and which one each is compared with.
const VARIANTS: [(&str, usize); 5] = [
    ("without", 0),
    ("an empty library", 0),
    ("an application", 0),
    ("a system process without", 3),
    ("a system process", 3),
];

/// Gives the measured processes an /etc of their own, in memory.
const OWN_ETC: &str =
    "mount -t tmpfs own-etc /mnt && cp -a /etc/. /mnt && mount --bind /mnt /etc && exec \"$@\"";

/// The files that are measured.
struct Files {
    startup: PathBuf,
    empty: PathBuf,
    library: PathBuf,
    application: PathBuf,
    system: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let places = workspace::places()?;
    prerequisites::ensure()?;
    let library = match &arguments.library {
        Some(library) => library.clone(),
        None => Artifacts::build(&places)?.shim(),
    };
    let files = Files::prepare(&places.guest().join("bench"), &library)?;
    let samples = if arguments.guest {
        in_guest(&places, arguments.kernel, &files, arguments.rounds.unwrap_or(300))?
    } else {
        here(&files, arguments.file, arguments.rounds.unwrap_or(2000))?
    };
    let text = if arguments.json { json(&samples) } else { table(&samples) };
    say(format_args!("{}", text.context("no samples")?.trim_end()));
    if arguments.guest && Accelerator::of_this_machine() == Accelerator::Tcg {
        if arguments.json {
            log::warn!("{TRANSLATED}");
        } else {
            say(format_args!("\n{TRANSLATED}"));
        }
    }
    Ok(())
}

impl Files {
    fn prepare(directory: &Path, library: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let files = Self {
            startup: directory.join("startup"),
            empty: directory.join("empty.so"),
            library: directory.join("libcuda.so.1"),
            application: directory.join("true"),
            system: directory.join(SYSTEM_NAME),
        };
        let (source, nothing) = (directory.join("startup.c"), directory.join("empty.c"));
        fs::write(&source, SOURCE)?;
        fs::write(&nothing, "")?;
        compile(directory, &["-O2", "-Wall", "-Wextra", "-Werror"], &source, &files.startup)?;
        compile(directory, &["-shared", "-nostdlib"], &nothing, &files.empty)?;
        for (from, to) in [(library, &files.library), (PROGRAM.as_ref(), &files.application)] {
            fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
        }
        // One file, so that its pages cost the same.
        if files.system.exists() {
            fs::remove_file(&files.system)?;
        }
        fs::hard_link(&files.application, &files.system)?;
        Ok(files)
    }

    /// Program and preloaded library of each of [`VARIANTS`].
    fn variants<'a, L: ?Sized>(
        &'a self,
        nothing: &'a L,
        empty: &'a L,
        library: &'a L,
    ) -> [(&'a PathBuf, &'a L); VARIANTS.len()] {
        [
            (&self.application, nothing),
            (&self.application, empty),
            (&self.application, library),
            (&self.system, nothing),
            (&self.system, library),
        ]
    }
}

fn compile(directory: &Path, options: &[&str], source: &Path, program: &Path) -> Result<()> {
    let mut command = Command::new("cc");
    command.args(options).arg("-o").arg(program).arg(source);
    process::run(&mut command, &directory.join("cc.log"), LIMIT, |_| false)?.expect_success("cc")
}

fn here(files: &Files, file: bool, rounds: u32) -> Result<Samples> {
    ensure!(
        !Path::new("/etc/ld.so.preload").exists(),
        "every process of this machine has a library preloaded"
    );
    let mut command = if file {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", OWN_ETC, "sh"]).arg(&files.startup);
        unshare
    } else {
        Command::new(&files.startup)
    };
    command.args([rounds.to_string().as_str(), if file { "file" } else { "environment" }]);
    let nothing = Path::new("-");
    for (program, library) in files.variants(nothing, &files.empty, &files.library) {
        command.args([program.as_path(), library]);
    }
    let log = files.startup.with_extension("log");
    let finished = process::run(&mut command, &log, LIMIT, |_| false)?;
    finished.expect_success("startup")?;
    Samples::read(finished.lines(), VARIANTS.len())
}

fn in_guest(places: &Places, kernel: Kernel, files: &Files, rounds: u32) -> Result<Samples> {
    let image = kernel.image(places)?;
    let place = |path: &Path| format!("/usr/bin/{}", path.file_name().unwrap_or_default().display());
    let library = "/usr/lib/x86_64-linux-gnu/libcuda.so.1".to_owned();
    let programs = [&files.startup, &files.empty, &files.application, &files.system];
    let mut contents: Vec<_> = programs.map(|file| (file.clone(), place(file))).into();
    contents.push((files.library.clone(), library.clone()));
    let contents = Contents { module: Some(guest_module::driver(places, kernel)?), files: contents };
    let empty = place(&files.empty);
    let variants = files
        .variants("-", &empty, &library)
        .map(|(program, library)| format!("{} {library}", place(program)))
        .join(" ");
    let script = format!("exec {} {rounds} file {variants}\n", place(&files.startup));
    let machine = Machine {
        initrd: image::build(places, &image, &contents)?,
        kernel: image.vmlinuz,
        logs: machine::logs(&places.guest(), "bench-preload"),
        memory_mib: MEMORY_MIB,
        qemu: Qemu::find(places)?,
    };
    log::info!("{} boots Linux {} with {}", machine.qemu.version, image.release, machine::accelerator());
    let backend = Backend { program: Artifacts::build(places)?.backend(), driver: "soft".into() };
    let job = Job { script: &script, as_root: true, needs_device: true };
    let outcome = machine.run(Some(&backend), &job, LIMIT, |report| {
        if let Report::Guest(line) = report {
            log::info!("guest: {line}");
        }
    })?;
    if outcome.status != 0 {
        bail!("startup failed in the guest (logs: {})", machine.logs.display());
    }
    Samples::read(outcome.lines.iter().map(String::as_str), VARIANTS.len())
}

/// What a variant costs more than the one that it is compared with.
struct Cost {
    elapsed: Median,
    more: Median,
    percent: f64,
    processor: Median,
    faults: f64,
}

fn cost(samples: &Samples, variant: usize, than: usize) -> Option<Cost> {
    let elapsed = |sample: &Sample| sample.elapsed;
    let more = samples.more(variant, than, elapsed)?;
    Some(Cost {
        elapsed: samples.median(variant, elapsed)?,
        more,
        percent: 100.0 * more.value / samples.median(than, elapsed)?.value,
        processor: samples.more(variant, than, |sample| sample.processor)?,
        faults: samples.mean(variant, |sample| sample.faults)?,
    })
}

fn table(samples: &Samples) -> Option<String> {
    let mut text = format!(
        "{:25}{:>12}{:>11}{:>18}{:>9}{:>15}{:>13}\n",
        "µs", "start to end", "more", "95 %", "", "processor", "page faults"
    );
    for (variant, (name, than)) in VARIANTS.iter().enumerate() {
        let cost = cost(samples, variant, *than)?;
        let (elapsed, faults) = (cost.elapsed.value, cost.faults);
        if variant == *than {
            writeln!(text, "{name:25}{elapsed:12.1}{:>53}{faults:13.1}", "").ok()?;
            continue;
        }
        let interval = format!("{:.1} to {:.1}", cost.more.low, cost.more.high);
        let (more, percent, processor) = (cost.more.value, cost.percent, cost.processor.value);
        writeln!(
            text,
            "{name:25}{elapsed:12.1}{more:+11.1}{interval:>18}{percent:+7.1} %{processor:+15.1}{faults:13.1}"
        )
        .ok()?;
    }
    Some(text)
}

fn json(samples: &Samples) -> Option<String> {
    let rows: Option<Vec<String>> = VARIANTS
        .iter()
        .enumerate()
        .map(|(variant, (name, than))| {
            let Cost { elapsed, more, percent, processor, faults } = cost(samples, variant, *than)?;
            Some(format!(
                "{{\"variant\": \"{name}\", \"elapsed_us\": {:.2}, \"more_us\": {:.2}, \"more_low_us\": {:.2}, \
                 \"more_high_us\": {:.2}, \"more_percent\": {percent:.2}, \"processor_more_us\": {:.2}, \
                 \"page_faults\": {faults:.2}}}",
                elapsed.value, more.value, more.low, more.high, processor.value
            ))
        })
        .collect();
    Some(format!("[\n  {}\n]", rows?.join(",\n  ")))
}

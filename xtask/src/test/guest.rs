//! The conformance suite in guests of Debian's stock kernels, as an unprivileged user.

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use qemu::image::Job;
use qemu::{Kernel, Places, Qemu, Report, Vm, share};

use super::{GuestArguments, faulty, strike};
use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::counts::Counts;
use crate::guest_module;
use crate::machine::{self, Machine};
use crate::prerequisites;
use crate::steps::Steps;
use crate::suite;

const LIMIT: Duration = Duration::from_secs(600);

/// For so long a paused guest must not say anything.
const QUIET: Duration = Duration::from_millis(700);

pub(super) fn run(places: &Places, artifacts: &Artifacts, arguments: &GuestArguments, steps: &mut Steps) {
    let kernels = if arguments.kernel.is_empty() { Kernel::ALL.to_vec() } else { arguments.kernel.clone() };
    for kernel in &kernels {
        let name = format!("driver for kernel {}: W=1, sparse", kernel.name());
        arguments.step(steps, &name, || {
            guest_module::check_one(places, *kernel)?;
            Ok(Counts::one(true))
        });
    }
    let mut qemu = None;
    steps.step("QEMU", || {
        let found = Qemu::find(places)?;
        log::info!("  {}, {}", found.version, machine::accelerator());
        qemu = Some(found);
        Ok(Counts::one(true))
    });
    let Some(qemu) = qemu else { return };
    for kernel in &kernels {
        let name = format!("guest, kernel {}: device node", kernel.name());
        arguments.step(steps, &name, || device_node(places, artifacts, &qemu, *kernel, &arguments.driver));
    }
    for kernel in &kernels {
        let name = format!("guest, kernel {}: paused and reset during CUDA work", kernel.name());
        arguments.step(steps, &name, || disturbed(places, artifacts, &qemu, *kernel, &arguments.driver));
    }
    for kernel in &kernels {
        let name = format!("guest, kernel {}: processes that share a GPU", kernel.name());
        arguments.step(steps, &name, || {
            let machine = Machine::of_workspace(places, artifacts, &qemu, *kernel)?;
            let backend = Backend { program: artifacts.backend(), driver: arguments.driver.clone() };
            machine.show(Some(&backend), "exec neighbours")?;
            Ok(Counts::one(true))
        });
    }
    // The backend's part of it is the same with any kernel.
    if let Some(kernel) = kernels.iter().find(|kernel| **kernel == Kernel::V6_12).or(kernels.first()) {
        let name = format!("guest, kernel {}: paused and reset while a kernel runs", kernel.name());
        arguments.step(steps, &name, || {
            let mut machine = Machine::of_workspace(places, artifacts, &qemu, *kernel)?;
            machine.logs = machine::logs(&places.guest(), &format!("strike-{}", kernel.name()));
            let backend = Backend { program: artifacts.backend(), driver: arguments.driver.clone() };
            strike::run(&machine, &backend)
        });
    }
    if let Some(kernel) = kernels.iter().find(|kernel| **kernel == Kernel::V6_12) {
        let name = format!("guest, kernel {}: a program of this machine", kernel.name());
        if prerequisites::is_there("python3") {
            arguments.step(steps, &name, || outside(places, artifacts, &qemu, *kernel, &arguments.driver));
        } else {
            steps.skip(&name, "there is no python3");
        }
    }
    for kernel in &kernels {
        let name = format!("guest, kernel {}: devices that misbehave", kernel.name());
        arguments.step(steps, &name, || {
            let mut machine = Machine::of_workspace(places, artifacts, &qemu, *kernel)?;
            machine.logs = machine::logs(&places.guest(), &format!("faulty-{}", kernel.name()));
            let device = Backend { program: artifacts.faulty_device(), driver: String::new() };
            faulty::run(&mut machine, &device)
        });
    }
    for kernel in kernels {
        let name = format!("conformance: guest, kernel {}", kernel.name());
        arguments.step(steps, &name, || one(places, artifacts, &qemu, kernel, arguments));
    }
}

fn one(
    places: &Places,
    artifacts: &Artifacts,
    qemu: &Qemu,
    kernel: Kernel,
    arguments: &GuestArguments,
) -> Result<Counts> {
    let machine = Machine::of_workspace(places, artifacts, qemu, kernel)?;
    let backend = Backend { program: artifacts.backend(), driver: arguments.driver.clone() };
    let options: Vec<_> = arguments.filter.iter().map(|filter| format!("--filter={filter}")).collect();
    Ok(suite::in_guest(&machine, &backend, &options)?.counts)
}

/// The driver's own tests, as root, so that they can see whether the module leaves anything behind.
fn device_node(
    places: &Places,
    artifacts: &Artifacts,
    qemu: &Qemu,
    kernel: Kernel,
    driver: &str,
) -> Result<Counts> {
    let mut machine = Machine::of_workspace(places, artifacts, qemu, kernel)?;
    machine.logs = machine::logs(&places.guest(), &format!("device-node-{}", kernel.name()));
    let backend = Backend { program: artifacts.backend(), driver: driver.to_owned() };
    let job = Job { script: "exec driver_test", as_root: true, needs_device: true };
    let outcome = machine.run(Some(&backend), &job, LIMIT, |report| match report {
        Report::Job(line) if line.starts_with("FAILED") || line.starts_with("skip") => log::info!("  {line}"),
        Report::Job(line) => log::debug!("  {line}"),
        Report::Guest(line) => log::info!("  guest: {line}"),
        Report::Exit(_) => {}
    })?;
    let counts = Counts::closing(outcome.lines.iter().map(String::as_str));
    match counts {
        Some(counts) if counts.failed > 0 || outcome.status == 0 => Ok(counts),
        _ => bail!("the driver's tests ended with {}:\n{}", outcome.status, outcome.lines.join("\n")),
    }
}

/// Runs this machine's Python, which no guest's image has, in a guest that sees this machine's files: so the compatibility
/// suite runs large programs in guests.
fn outside(
    places: &Places,
    artifacts: &Artifacts,
    qemu: &Qemu,
    kernel: Kernel,
    driver: &str,
) -> Result<Counts> {
    let mut machine = Machine::of_workspace(places, artifacts, &qemu.sharing(), kernel)?;
    machine.initrd.extend(share::archive(places, &kernel.image(places)?)?);
    machine.logs = machine::logs(&places.guest(), &format!("outside-{}", kernel.name()));
    let backend = Backend { program: artifacts.backend(), driver: driver.to_owned() };
    let path = env::var("PATH").context("this process has a path")?;
    let program = places.workspace().join("tests/compat/guest/guest_ctypes.py");
    let library = artifacts.directory.join("lib");
    let script = format!(
        "exec on-host env PATH='{path}' LD_LIBRARY_PATH='{}' python3 -B '{}'",
        library.display(),
        program.display()
    );
    let job = Job { script: &script, as_root: true, needs_device: true };
    let outcome = machine.run(Some(&backend), &job, LIMIT, |report| log::debug!("{report:?}"))?;
    if outcome.status != 0 || !outcome.lines.iter().any(|line| line == "right True") {
        bail!("the program ended with {}:\n{}", outcome.status, outcome.lines.join("\n"));
    }
    Ok(Counts::one(true))
}

/// Pauses the guest in the midst of CUDA work, lets it go on, and resets it in the midst of more. The work goes on after
/// the pause; after the reset it starts anew and comes to its end, and the backend is the same all along.
fn disturbed(
    places: &Places,
    artifacts: &Artifacts,
    qemu: &Qemu,
    kernel: Kernel,
    driver: &str,
) -> Result<Counts> {
    let mut machine = Machine::of_workspace(places, artifacts, qemu, kernel)?;
    machine.logs = machine::logs(&places.guest(), &format!("disturbed-{}", kernel.name()));
    let backend = Backend { program: artifacts.backend(), driver: driver.to_owned() };
    let job = Job { script: "exec demo 12", as_root: false, needs_device: true };
    let mut started = machine.start(Some(&backend), "", &job, true)?;
    let vm = &mut started.vm;
    let deadline = Instant::now() + LIMIT;

    until(vm, deadline, "round 3")?;
    vm.monitor.stop()?;
    let quiet = vm.quiet_for(QUIET);
    vm.monitor.cont()?;
    if !quiet {
        bail!("a paused guest goes on");
    }
    until(vm, deadline, "round 8")?;
    vm.monitor.system_reset()?;
    until(vm, deadline, "round 1").context("after the reset")?;
    let status = vm.run_to_exit(deadline, |_| ())?;
    if status != 0 {
        bail!("after pause and reset the program failed with {status} (logs: {})", machine.logs.display());
    }
    if let Some(backend) = &mut started.backend
        && let Some(status) = backend.ended()?
        && !status.success()
    {
        bail!("the backend ended with {status}:\n{}", backend.log());
    }
    Ok(Counts::one(true))
}

/// Waits until the program says `line`.
fn until(vm: &mut Vm, deadline: Instant, line: &str) -> Result<()> {
    while let Some(report) = vm.next_line(deadline)? {
        match report {
            Report::Job(said) if said == line => return Ok(()),
            Report::Exit(status) => bail!("the program ended with status {status} before it said {line:?}"),
            Report::Job(said) => log::debug!("{said}"),
            Report::Guest(said) => log::info!("  guest: {said}"),
        }
    }
    bail!("the guest ended before it said {line:?}")
}

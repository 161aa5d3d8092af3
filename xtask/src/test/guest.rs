//! The conformance suite in guests of Debian's stock kernels, as an unprivileged user.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu::{Accelerator, Kernel, Places, Qemu, Report};

use super::GuestArguments;
use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::counts::Counts;
use crate::guest_module;
use crate::machine::{self, Machine};
use crate::steps::Steps;

const LIMIT: Duration = Duration::from_secs(1500);

/// How much longer than natively a case may take when guest code is translated.
const SLOW_TCG: u32 = 10;
const SLOW_KVM: u32 = 2;

pub(super) fn run(places: &Places, artifacts: &Artifacts, arguments: &GuestArguments, steps: &mut Steps) {
    let kernels = if arguments.kernel.is_empty() { Kernel::ALL.to_vec() } else { arguments.kernel.clone() };
    for kernel in &kernels {
        let name = format!("driver for kernel {}: W=1, sparse", kernel.name());
        steps.step(&name, || {
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
    for kernel in kernels {
        let name = format!("conformance: guest, kernel {}", kernel.name());
        steps.step(&name, || one(places, artifacts, &qemu, kernel, arguments));
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
    let filters: Vec<_> = arguments.filter.iter().map(|filter| format!("--filter '{filter}'")).collect();
    suite(&machine, &backend, &filters.join(" "))
}

/// Boots, runs the suite and returns its counts.
pub(crate) fn suite(machine: &Machine, backend: &Backend, options: &str) -> Result<Counts> {
    let slow = match Accelerator::of_this_machine() {
        Accelerator::Kvm => SLOW_KVM,
        Accelerator::Tcg => SLOW_TCG,
    };
    let script = format!("exec conformance --slow {slow} {options}");
    let mut cases = 0_u32;
    let outcome = machine.run(Some(backend), &script, LIMIT, |report| match report {
        Report::Guest(line) => log::info!("  guest: {line}"),
        Report::Exit(_) => {}
        Report::Job(line) => {
            cases += 1;
            if super::host::is_failure(line) || cases.is_multiple_of(50) {
                log::info!("  {line}");
            }
        }
    })?;
    log::info!(
        "  booted in {:.1} s, ended after {:.1} s (logs: {})",
        outcome.boot.as_secs_f32(),
        outcome.total.as_secs_f32(),
        machine.logs.display()
    );
    let counts = Counts::closing(outcome.lines.iter().map(String::as_str)).with_context(|| {
        let tail = outcome.lines.len().saturating_sub(20);
        format!("no result from the suite:\n{}", outcome.lines.get(tail..).unwrap_or_default().join("\n"))
    })?;
    if outcome.status != 0 && counts.failed == 0 {
        bail!("the suite ended with status {} though nothing failed", outcome.status);
    }
    Ok(counts)
}

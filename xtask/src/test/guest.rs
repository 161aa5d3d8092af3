//! The conformance suite in guests of Debian's stock kernels, as an unprivileged user.

use anyhow::Result;
use qemu::{Kernel, Places, Qemu};

use super::GuestArguments;
use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::counts::Counts;
use crate::guest_module;
use crate::machine::{self, Machine};
use crate::steps::Steps;
use crate::suite;

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
    let options: Vec<_> = arguments.filter.iter().map(|filter| format!("--filter={filter}")).collect();
    Ok(suite::in_guest(&machine, &backend, &options)?.counts)
}

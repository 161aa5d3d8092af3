//! What a guest is asked in every state.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Guest;
use crate::preload::states::{Cuda, HEALTHY, State};

/// A process may be held by the constructor for its deadline of one second, and by a busy machine for as long.
const LONGEST_EXEC: Duration = Duration::from_secs(2);

/// Units that may fail where CUDA does.
const USING_CUDA: [&str; 2] = ["cuda.service", "busy.service"];

impl Guest<'_> {
    /// Everything that a preloaded library could break.
    pub(super) fn ask(&mut self, state: &State) -> Result<()> {
        let complaints = if state.complaints { "allowed" } else { "none" };
        let lines = self.ssh(&format!("/opt/test/check {complaints}"))?;
        ensure!(lines.last().is_some_and(|line| line == "done"), "the questions have no end: {lines:?}");
        for line in &lines {
            if line.starts_with("ok ") {
                self.figures.passed += 1;
            } else if let Some(failure) = line.strip_prefix("FAILED ") {
                self.figures.failures.push(failure.to_owned());
            }
        }
        let figure = |name: &str| {
            let prefix = format!("figure {name} ");
            lines.iter().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().trim().to_owned()
        };
        self.figures.exec = ["median", "longest", "work"].map(|name| figure(name).parse().unwrap_or(0));
        self.figures.complaints = figure("complaints").parse().unwrap_or(0);
        self.figures.state = figure("state");
        self.figures.failed_units = figure("failed-units").split_whitespace().map(str::to_owned).collect();

        let others: Vec<_> = self
            .figures
            .failed_units
            .iter()
            .filter(|unit| !USING_CUDA.contains(&unit.as_str()))
            .cloned()
            .collect();
        self.figures.check(others.is_empty(), || format!("failed units: {}", others.join(" ")));
        let service_failed = self.figures.failed_units.len() > others.len();
        let running = self.figures.state == "running" || (service_failed && self.figures.state == "degraded");
        let said = self.figures.state.clone();
        self.figures.check(running, || format!("the system is {said}"));
        let contained = figure("container");
        let is_healthy = state.doctor == HEALTHY && !matches!(state.cuda, Cuda::NotInstalled);
        self.figures.check(!is_healthy || contained.contains("devices"), || {
            format!("a container that has the device and the library: {contained}")
        });
        let managed = figure("management");
        let is_managed = managed.starts_with("virtio-compute software GPU, ")
            && managed.ends_with(" MiB, vcompute0, 0 0 1");
        self.figures
            .check(!is_healthy || is_managed, || format!("nvidia-smi, /dev/nvidiactl and NVML: {managed}"));
        let longest = Duration::from_micros(self.figures.exec[1]);
        self.figures.check(longest < LONGEST_EXEC, || format!("a program took {longest:?}"));
        let complained = self.figures.complaints;
        self.figures
            .check(state.complaints || complained == 0, || format!("ld.so complained {complained} times"));
        Ok(())
    }
}

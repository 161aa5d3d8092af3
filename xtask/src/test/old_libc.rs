//! The guest's library on the C library of Debian 11, which has the functions for threads and for loading libraries in
//! libraries of their own, as all before 2.34. (2.28, the oldest that is promised, is no longer served; `library` checks
//! that the files refer to nothing newer.)

use std::env;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu::Places;
use qemu::debian::Root;
use qemu::debian::root::Recipe;

use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::counts::Counts;
use crate::process;
use crate::steps::Steps;
use crate::suite;

const LIMIT: Duration = Duration::from_secs(120);

const OLD: Recipe<'static> = Recipe {
    name: "glibc-2.31",
    suites: &["bullseye"],
    packages: &["libc6"],
    only: Some(&["libc6"]),
    files: &["*.so*"],
};

/// Runs a program linked with the library: as any finds it, and with the library preloaded besides.
pub(super) fn run(places: &Places, artifacts: &Artifacts, steps: &mut Steps) {
    const NAME: &str = "on glibc 2.31: local transport";
    match Root::open_or_make(&places.debian(), &OLD) {
        Ok(root) => drop(steps.step(NAME, || programs(places, artifacts, &root))),
        Err(error) => steps.skip(NAME, &format!("Debian 11 cannot be had: {error:#}")),
    }
}

fn programs(places: &Places, artifacts: &Artifacts, root: &Root) -> Result<Counts> {
    let logs = places.guest().join("logs/old-libc");
    std::fs::create_dir_all(&logs)?;
    let program = logs.join("old_libc");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-nostartfiles", "-o"])
        .arg(&program)
        .arg(places.workspace().join("xtask/src/test/old_libc.c"))
        .arg("-I")
        .arg(places.workspace().join("qemu/guest"))
        .arg(artifacts.shim());
    process::run(&mut compiler, &logs.join("cc.log"), LIMIT, |_| false)?.expect_success("cc")?;

    let old = root.path.join("usr/lib/x86_64-linux-gnu");
    let library = artifacts.shim();
    let ours = library.parent().context("the library is in a directory")?;
    let backend = Backend { program: artifacts.backend(), driver: "soft".into() };
    let mut counts = Counts::default();
    for preloaded in [false, true] {
        // The old dynamic linker runs the program, because the program names the machine's own.
        let mut command = Command::new(old.join("ld-2.31.so"));
        command.arg("--library-path").arg(env::join_paths([old.as_path(), ours])?);
        if preloaded {
            command.arg("--preload").arg(&library);
        }
        command.arg(&program);
        let finished = suite::with_local_backend(&backend, &logs, &mut command, |command| {
            process::run(command, &logs.join("program.log"), LIMIT, |_| false)
        })?;
        match Counts::closing(finished.lines()) {
            Some(said) => counts += said,
            None => bail!("the program did not end as it should: {}", finished.lines.join("\n")),
        }
    }
    Ok(counts)
}

//! What another machine needs to run the benchmark: a folder with programs and libraries, and the same as an archive.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{micro, programs, timeline};
use crate::artifacts::{Artifacts, copy};
use crate::output::say;
use crate::{prerequisites, process, workspace};

const NAME: &str = "virtio-compute-bench";
/// What other machines take in one piece.
const LARGEST: u64 = 60 << 20;
const LIMIT: Duration = Duration::from_secs(600);

const RUN: &str = r#"#!/bin/sh
# Measures, natively and through the device, what CUDA calls cost here (./run.sh …), or how fast programs are
# (./run.sh macro …), or when calls begin and end on both sides (./run.sh timeline …): see ./run.sh --help
here=$(cd "$(dirname "$0")" && pwd)
out=virtio-compute-bench-results
if [ "$1" = macro ]; then
    shift
    set -- --programs "$here/macro" "$@"
    out=virtio-compute-macro-results
fi
if [ "$1" = timeline ]; then
    shift
    exec python3 "$here/timeline/timeline.py" --bench "$here/bin/cuda-bench" --library "$here/lib/libcuda.so.1" \
        --backend "$here/bin/vhost-user-compute" "$@"
fi
case " $* " in
    *" --out "*) ;;
    *) set -- --out "$out" "$@" ;;
esac
exec "$here/bin/cuda-bench" compare --remoted "$here/lib/libcuda.so.1" --backend "$here/bin/vhost-user-compute" \
    --revision "$(cat "$here/REVISION")" "$@"
"#;

pub(crate) fn run() -> Result<()> {
    let places = workspace::places()?;
    prerequisites::ensure()?;
    let artifacts = Artifacts::build(&places)?;
    let parent = places.workspace().join("target/bench/pack");
    let directory = parent.join(NAME);
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    let packed = Artifacts::at(&directory);
    copy(&artifacts.bench(), &packed.bench())?;
    copy(&artifacts.backend(), &packed.backend())?;
    copy(&artifacts.soft_gpu(), &packed.soft_gpu())?;
    for ((from, _), (to, _)) in artifacts.guest_libraries().iter().zip(packed.guest_libraries()) {
        copy(from, &to)?;
    }
    for entry in fs::read_dir(places.workspace().join(programs::SOURCES))? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "py") {
            copy(&entry.path(), &directory.join(programs::PACKED).join(entry.file_name()))?;
        }
    }
    for name in timeline::FILES {
        copy(&places.workspace().join(timeline::SOURCES).join(name), &directory.join("timeline").join(name))?;
    }
    copy(&places.workspace().join(programs::LLAMA), &directory.join(programs::PACKED_LLAMA))?;
    fs::write(directory.join("REVISION"), format!("{}\n", micro::revision(&places)))?;
    fs::write(directory.join("run.sh"), RUN)?;
    fs::set_permissions(directory.join("run.sh"), fs::Permissions::from_mode(0o755))?;

    let archive = parent.join(format!("{NAME}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--gzip",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--directory",
    ])
    .arg(&parent)
    .arg("--file")
    .arg(&archive)
    .arg(NAME);
    process::run(&mut tar, &parent.join("tar.log"), LIMIT, |_| true)?.expect_success("tar")?;
    let size = fs::metadata(&archive)?.len();
    if size > LARGEST {
        bail!("{} has {} MiB, more than {} MiB", archive.display(), size >> 20, LARGEST >> 20);
    }
    say(format_args!("{} ({} MiB)", archive.display(), size.div_ceil(1 << 20)));
    say(format_args!("there: tar xf {NAME}.tar.gz && {NAME}/run.sh; {NAME}/run.sh macro"));
    Ok(())
}

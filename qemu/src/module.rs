//! Compiles a kernel module against Debian's headers, in an unpacked root: nothing is installed on this machine.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::kernel::{self, Kernel};
use crate::places::{self, Places};

/// How strictly to compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// What a user's DKMS does.
    Plain,
    /// `W=1`, and sparse over every file; any warning is an error.
    Checked,
}

/// What came of it.
#[derive(Debug)]
pub struct Built {
    /// The modules.
    pub modules: Vec<PathBuf>,
    /// The kernel release that they are for.
    pub release: String,
    /// What make printed.
    pub log: String,
}

/// Debian's sparse (0.6.4) lacks two things that the headers of kernels 7 use; it reads this before every file.
const FOR_SPARSE: &str =
    "#define __typeof_unqual__ __typeof__\n#define __builtin_strlen(s) (sizeof(s) - 1)\n";

/// Compiles the module in `source` for `kernel`. The sources are copied, so that they stay free of objects; unchanged
/// files are not compiled again.
pub fn build(places: &Places, kernel: Kernel, source: &Path, strictness: Strictness) -> Result<Built> {
    let root = kernel.build_root(places)?;
    let _lock = places::lock(&root.path.join("lock"))?;
    let release = kernel::release_of(&root.path)?;
    let begin = Instant::now();

    let (directory, options): (_, &[&str]) = match strictness {
        Strictness::Plain => ("build/plain", &[]),
        Strictness::Checked => {
            ("build/checked", &["W=1", "C=2", "CHECK=sparse", "CF=-include /build/for-sparse.h"])
        }
    };
    let inside = root.path.join(directory);
    if strictness == Strictness::Checked && inside.exists() {
        fs::remove_dir_all(&inside)?;
    }
    mirror_sources(source, &inside)?;
    if strictness == Strictness::Checked {
        allow_sparse(&root.path, &release)?;
    }

    let output = in_root(&root.path)
        .args(["make", "--no-print-directory"])
        .arg(format!("-j{}", std::thread::available_parallelism().map_or(1, usize::from)))
        .arg(format!("--directory=/usr/src/linux-headers-{release}"))
        .arg(format!("M=/{directory}"))
        .args(options)
        .arg("modules")
        .output()
        .context("run unshare (package util-linux)")?;
    let log =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("the module does not compile for {release}:\n{log}");
    }
    let complaints = ["warning:", "error:", "sparse is not available"];
    if strictness == Strictness::Checked && complaints.iter().any(|complaint| log.contains(complaint)) {
        bail!("warnings for {release}:\n{log}");
    }

    let modules = keep(&inside, &places.guest().join("modules").join(kernel.name()).join(directory))?;
    log::info!("module for {release}: {:.1} s", begin.elapsed().as_secs_f32());
    Ok(Built { modules, release, log })
}

/// The kernel's tools want /dev/null and, objtool, /proc/self/limits.
const ENTER_ROOT: &str = r#"root=$1; shift
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
exec chroot "$root" "$@""#;

/// A command that runs with the tree as its root directory. An unprivileged user needs user namespaces for that.
fn in_root(root: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private"]);
    if !is_root() {
        command.arg("--map-root-user");
    }
    command
        .args(["sh", "-eu", "-c", ENTER_ROOT, "sh"])
        .arg(root)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// What sparse needs beyond its package. Debian's newer header packages lack the script with which the kernel's Makefile asks whether sparse works.
fn allow_sparse(root: &Path, release: &str) -> Result<()> {
    let early = root.join("build/for-sparse.h");
    fs::write(&early, FOR_SPARSE).with_context(|| format!("write {}", early.display()))?;
    let common = release.strip_suffix("amd64").context("not an amd64 kernel")?;
    let script = root.join(format!("usr/src/linux-headers-{common}common/scripts/checker-valid.sh"));
    if !script.exists() {
        fs::write(&script, "#!/bin/sh\necho 1\n").with_context(|| format!("write {}", script.display()))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Makes `to` hold `from`'s files. Only changed ones are written, so that make's time stamps stay meaningful; files that
/// are gone from the sources go too, unless make made them.
fn mirror_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            mirror_sources(&entry.path(), &target)?;
            continue;
        }
        let contents = fs::read(entry.path())?;
        if fs::read(&target).ok().as_deref() != Some(contents.as_slice()) {
            fs::write(&target, contents).with_context(|| format!("write {}", target.display()))?;
        }
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        let is_source = matches!(entry.path().extension().and_then(OsStr::to_str), Some("c" | "h"))
            && !entry.file_name().to_string_lossy().ends_with(".mod.c");
        if is_source && !from.join(entry.file_name()).exists() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Keeps what this build has made: the tree may hold a module that an earlier one made under another name.
fn keep(built: &Path, to: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(to)?;
    let list = built.join("modules.order");
    let list = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let mut modules = Vec::new();
    for object in list.lines() {
        let name = Path::new(object).with_extension("ko");
        let name = name.file_name().with_context(|| format!("{object:?} names no module"))?;
        let kept = to.join(name);
        fs::copy(built.join(name), &kept).with_context(|| format!("keep {}", kept.display()))?;
        modules.push(kept);
    }
    if modules.is_empty() {
        bail!("no module came out of {}: is there a Kbuild file with obj-m?", built.display());
    }
    Ok(modules)
}

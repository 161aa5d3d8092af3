//! A Debian that is installed and not only unpacked: maintainer scripts have run, so it can boot with systemd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::{Apt, root};
use crate::places;

/// What a system is made of.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    /// Directory name of the tree.
    pub name: &'a str,
    /// Debian's release.
    pub suite: &'a str,
    /// Packages beyond the essential ones.
    pub packages: &'a [&'a str],
}

/// What every Debian has, and what its packages expect to find when they are configured.
const ESSENTIAL: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debconf",
    "debianutils",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "init-system-helpers",
    "libc-bin",
    "libpam-modules",
    "libpam-runtime",
    "login",
    "mawk",
    "ncurses-base",
    "ncurses-bin",
    "perl-base",
    "sed",
    "sysvinit-utils",
    "tar",
    "util-linux",
];

/// Packages whose scripts the others' scripts need: accounts, then the C library and debconf.
const FIRST: &[&str] = &["base-passwd", "base-files", "libc6", "mawk", "debconf"];

/// Where packages lie while they are installed.
const PACKAGES: &str = "packages";

/// As in an unpacked tree, but with processes, and with programs started by scripts forbidden.
const ENTER: &str = r#"root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@""#;

/// All programs are there already, unpacked, so nothing but the order of the scripts matters.
const INSTALL: &str = "test -e /usr/bin/awk || ln -s mawk /usr/bin/awk
ldconfig
install() { dpkg --force-unsafe-io --force-depends --install \"$@\"; }
install $FIRST
install /packages/*.deb
test -z \"$(dpkg --audit)\"
rm -r /packages";

impl Recipe<'_> {
    fn fingerprint(&self) -> String {
        format!("1 {} {:?} {INSTALL}", self.suite, self.packages)
    }

    /// The installed tree under `base`; made when it is not there (network). Needs root: files have owners.
    pub fn open_or_make(&self, base: &Path) -> Result<PathBuf> {
        let path = base.join("roots").join(self.name);
        let stamp = base.join("roots").join(format!("{}.stamp", self.name));
        let made = || fs::read_to_string(&stamp).is_ok_and(|text| text == self.fingerprint());
        if made() {
            return Ok(path);
        }
        let _lock = places::lock(&base.join("lock"))?;
        if made() {
            return Ok(path);
        }
        ensure!(is_root(), "a Debian is installed as root only: its files have owners");
        let apt = Apt::new(base, &[self.suite])?;
        apt.update()?;
        let packages = apt.resolve(&[ESSENTIAL, self.packages].concat())?;
        let files = apt.download(&packages)?;

        let begin = Instant::now();
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("remove the outdated {}", path.display()))?;
        }
        root::merged_usr(&path)?;
        fs::create_dir_all(path.join(PACKAGES))?;
        for file in &files {
            root::unpack(file, &path, &[])?;
            let name = file.file_name().context("a package has a name")?;
            fs::copy(file, path.join(PACKAGES).join(name))?;
        }
        prepare(&path)?;
        let first: Vec<_> = FIRST.iter().map(|name| format!("/{PACKAGES}/{name}_*")).collect();
        run_in(&path, &INSTALL.replace("$FIRST", &first.join(" ")))?;
        fs::write(&stamp, self.fingerprint())?;
        log::info!(
            "{}: {} packages installed in {:.1} s",
            self.name,
            packages.len(),
            begin.elapsed().as_secs_f32()
        );
        Ok(path)
    }
}

/// The package manager's own files, accounts for the first scripts, and no service may start.
fn prepare(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("var/lib/dpkg/info"))?;
    fs::create_dir_all(root.join("var/lib/dpkg/updates"))?;
    for (path, text) in [
        ("var/lib/dpkg/status", ""),
        ("var/lib/dpkg/available", ""),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
        ("etc/group", "root:x:0:\nadm:x:4:\nmail:x:8:\nshadow:x:42:\nutmp:x:43:\nstaff:x:50:\n"),
        ("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n"),
    ] {
        fs::write(root.join(path), text).with_context(|| format!("write {path}"))?;
    }
    let status = Command::new("chmod").arg("0755").arg(root.join("usr/sbin/policy-rc.d")).status()?;
    ensure!(status.success(), "chmod failed");
    Ok(())
}

/// Runs a shell script with the tree as its root directory, as root; its error output is the error.
pub fn run_in(root: &Path, script: &str) -> Result<String> {
    let output = Command::new("unshare")
        .args(["--mount", "--propagation=private", "--pid", "--fork", "--kill-child"])
        .args(["sh", "-eu", "-c", ENTER, "sh"])
        .arg(root)
        .args(["sh", "-eu", "-c", script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
        .stdin(Stdio::null())
        .output()
        .context("run unshare (package util-linux)")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let tail: Vec<_> = printed.lines().chain(errors.lines()).collect();
        let tail = tail.iter().skip(tail.len().saturating_sub(40)).copied().collect::<Vec<_>>().join("\n");
        bail!("a script in {} failed ({}):\n{tail}", root.display(), output.status);
    }
    Ok(printed)
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

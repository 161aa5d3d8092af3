//! A directory tree of unpacked packages. It is made once; a stamp beside it says from what.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{Apt, Package};
use crate::places;

/// What a tree is made of.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    /// Directory name of the tree.
    pub name: &'a str,
    /// Suites, the preferred one last.
    pub suites: &'a [&'a str],
    /// Packages asked for.
    pub packages: &'a [&'a str],
    /// Whether the packages' dependencies are unpacked too. Otherwise only the packages whose names begin with one of
    /// these are.
    pub only: Option<&'a [&'a str]>,
    /// Patterns (tar's wildcards) of the files to unpack; none means all.
    pub files: &'a [&'a str],
}

impl Recipe<'_> {
    /// Written into the stamp, so that a changed recipe makes the tree anew.
    fn fingerprint(&self) -> String {
        format!("1 {:?} {:?} {:?} {:?}", self.suites, self.packages, self.only, self.files)
    }
}

/// An unpacked tree.
#[derive(Debug, Clone)]
pub struct Root {
    /// Its top.
    pub path: PathBuf,
    /// `name version` of what was unpacked, one a line.
    pub manifest: String,
}

impl Root {
    /// Opens the tree of `recipe` under `base`, making it when it is not there (network), else offline.
    pub fn open_or_make(base: &Path, recipe: &Recipe<'_>) -> Result<Self> {
        let path = base.join("roots").join(recipe.name);
        let stamp = base.join("roots").join(format!("{}.stamp", recipe.name));
        let made = || {
            let text = fs::read_to_string(&stamp).ok()?;
            let manifest = text.strip_prefix(&format!("{}\n", recipe.fingerprint()))?.to_owned();
            Some(Self { path: path.clone(), manifest })
        };
        if let Some(root) = made() {
            return Ok(root);
        }
        let _lock = places::lock(&base.join("lock"))?;
        if let Some(root) = made() {
            return Ok(root);
        }
        let apt = Apt::new(base, recipe.suites)?;
        apt.update()?;
        let mut packages = apt.resolve(recipe.packages)?;
        if let Some(only) = recipe.only {
            packages.retain(|package| only.iter().any(|prefix| package.name.starts_with(prefix)));
        }
        let files = apt.download(&packages)?;

        let begin = Instant::now();
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("remove the outdated {}", path.display()))?;
        }
        merged_usr(&path)?;
        for file in &files {
            unpack(file, &path, recipe.files)?;
        }
        let manifest: String = packages.iter().map(describe).collect();
        fs::write(&stamp, format!("{}\n{manifest}", recipe.fingerprint()))?;
        log::info!(
            "{}: {} packages unpacked in {:.1} s",
            recipe.name,
            packages.len(),
            begin.elapsed().as_secs_f32()
        );
        Ok(Self { path, manifest })
    }
}

fn describe(package: &Package) -> String {
    format!("{} {}\n", package.name, package.version)
}

/// /bin, /lib … are links into /usr, as in an installed Debian; older packages still ship files through them.
pub(super) fn merged_usr(root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(format!("usr/{name}"), root.join(name)).with_context(|| format!("link /{name}"))?;
    }
    for name in ["dev", "proc", "sys", "tmp", "run", "etc"] {
        fs::create_dir_all(root.join(name))?;
    }
    Ok(())
}

pub(super) fn unpack(package: &Path, root: &Path, patterns: &[&str]) -> Result<()> {
    let mut source = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("run dpkg-deb (package dpkg)")?;
    let stream = source.stdout.take().context("dpkg-deb has no output")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--file=-", "--keep-directory-symlink", "--no-same-owner", "--directory"])
        .arg(root);
    if !patterns.is_empty() {
        tar.arg("--wildcards").args(patterns);
    }
    let unpacked = tar.stdin(stream).stderr(Stdio::piped()).output().context("run tar")?;
    let read = source.wait()?;
    let messages = String::from_utf8_lossy(&unpacked.stderr);
    // A pattern that matches nothing in this package is no error: it is meant for another one of the set.
    let only_unmatched = !patterns.is_empty()
        && messages
            .lines()
            .all(|line| line.contains("Not found in archive") || line.contains("previous errors"));
    if !read.success() || !(unpacked.status.success() || only_unmatched) {
        bail!("unpack {}: {messages}", package.display());
    }
    Ok(())
}

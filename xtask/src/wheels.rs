//! Python packages from PyPI, in exactly the versions that a file of requirements pins by hashes, under `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use qemu::{Places, places};

use crate::process;

/// Newest and oldest Python that the requirements have packages for, as its minor version.
const PYTHONS: std::ops::RangeInclusive<u32> = 11..=13;

const LIMIT: Duration = Duration::from_secs(900);

/// Packages in a Python environment of their own.
#[derive(Debug)]
pub(crate) struct Wheels {
    /// The environment's Python.
    pub python: PathBuf,
    /// Where the packages lie.
    pub packages: PathBuf,
}

/// Why packages cannot be fetched on this machine, if so.
pub(crate) fn obstacle() -> Option<String> {
    let asked = Command::new("python3").args(["-m", "pip", "--version"]).stdin(Stdio::null()).output();
    if !asked.is_ok_and(|output| output.status.success()) {
        return Some("python3 has no pip here (Debian: python3-pip)".into());
    }
    match minor_version() {
        Ok(minor) if PYTHONS.contains(&minor) => None,
        Ok(minor) => Some(format!("no packages are pinned for Python 3.{minor}")),
        Err(error) => Some(format!("{error:#}")),
    }
}

impl Wheels {
    /// Those of `requirements` in `target/wheels/<its name>`; fetched when they are not there, else offline. What has no
    /// wheel is named in `<its name>.sources.txt` beside it, and built with what the requirements have brought. Of what was
    /// fetched, files whose names begin with one of `unwanted` are removed: they only take space.
    pub(crate) fn open_or_fetch(places: &Places, requirements: &Path, unwanted: &[&str]) -> Result<Self> {
        let name = requirements.file_stem().context("requirements have a name")?;
        let base = places.workspace().join("target/wheels");
        let directory = base.join(name);
        let stamp = directory.join("made-from");
        let minor = minor_version()?;
        let text =
            fs::read_to_string(requirements).with_context(|| format!("read {}", requirements.display()))?;
        let sources = requirements.with_extension("sources.txt");
        let sources_text = fs::read_to_string(&sources).unwrap_or_default();
        let fingerprint = format!("Python 3.{minor}, without {unwanted:?}\n{text}{sources_text}");
        let found = Self {
            python: directory.join("bin/python3"),
            packages: directory.join(format!("lib/python3.{minor}/site-packages")),
        };
        let made = || fs::read_to_string(&stamp).is_ok_and(|text| text == fingerprint);
        if made() {
            return Ok(found);
        }
        let _lock = places::lock(&base.join("lock"))?;
        if made() {
            return Ok(found);
        }
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("remove the outdated {}", directory.display()))?;
        }
        let begin = Instant::now();
        // Without pip, which Debian's Python could not put there: the one outside is told where to install.
        let mut environment = Command::new("python3");
        environment.args(["-m", "venv", "--without-pip"]).arg(&directory);
        python(environment, &base)?;
        let install = |how: &[&str], requirements: &Path| {
            let mut install = Command::new("python3");
            install
                .args(["-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--python"])
                .arg(&found.python)
                .args(["install", "--no-deps", "--no-compile", "--require-hashes"])
                .args(how)
                .arg("--requirement")
                .arg(requirements);
            python(install, &base).with_context(|| format!("fetch what {} names", requirements.display()))
        };
        install(&["--only-binary", ":all:"], requirements)?;
        if sources.exists() {
            install(&["--no-binary", ":all:", "--no-build-isolation"], &sources)?;
        }
        remove(&found.packages, unwanted)?;
        fs::write(&stamp, fingerprint)?;
        log::info!("  {} fetched in {:.1} s", name.display(), begin.elapsed().as_secs_f32());
        Ok(found)
    }

    /// The only file under the packages whose name begins with this.
    pub(crate) fn file(&self, prefix: &str) -> Result<PathBuf> {
        let mut found = Vec::new();
        walk(&self.packages, &mut |path| {
            if name_of(path).starts_with(prefix) {
                found.push(path.to_owned());
            }
            Ok(())
        })?;
        match found.as_slice() {
            [only] => Ok(only.clone()),
            _ => bail!("{} has {} files {prefix}*", self.packages.display(), found.len()),
        }
    }
}

fn minor_version() -> Result<u32> {
    let output = Command::new("python3")
        .args(["-c", "import sys; print(sys.version_info[1])"])
        .stdin(Stdio::null())
        .output()
        .context("run python3")?;
    String::from_utf8_lossy(&output.stdout).trim().parse().context("ask python3 for its version")
}

fn python(mut command: Command, base: &Path) -> Result<()> {
    process::run(&mut command, &base.join("fetch.log"), LIMIT, |_| false)?.expect_success("python3")
}

fn remove(directory: &Path, unwanted: &[&str]) -> Result<()> {
    walk(directory, &mut |path| {
        if unwanted.iter().any(|prefix| name_of(path).starts_with(prefix)) {
            fs::remove_file(path)?;
        }
        Ok(())
    })
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn walk(directory: &Path, each: &mut impl FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), each)?;
        } else {
            each(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_how_its_name_begins_and_removed_likewise() {
        let directory = tempfile::tempdir().expect("a directory");
        let packages = directory.path().to_owned();
        fs::create_dir_all(packages.join("a/b")).expect("made");
        for name in ["a/b/libone.so.1", "a/libtwo.so", "libtwo.alt.so"] {
            fs::write(packages.join(name), "").expect("written");
        }
        let wheels = Wheels { python: PathBuf::new(), packages: packages.clone() };

        assert_eq!(wheels.file("libone").expect("found"), packages.join("a/b/libone.so.1"));
        assert!(wheels.file("libtwo").is_err());
        remove(&packages, &["libtwo.alt"]).expect("removed");
        assert_eq!(wheels.file("libtwo").expect("found"), packages.join("a/libtwo.so"));
    }
}

//! The libraries in a system: their files, the links to it, the dynamic linker's cache, and other vendors' files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::elf;
use crate::layout::{self, CUDA, Libraries, Library, MANAGEMENT};
use crate::record::{self, Changes, Record};
use crate::system::{self, System};

/// The cache, and what `ldconfig` keeps for itself.
const CACHES: &[&str] = &["etc/ld.so.cache", "var/cache/ldconfig/aux-cache"];

const LIMIT: Duration = Duration::from_secs(120);

/// Files and links named like one of these libraries that are not ours: where ours goes, and where the dynamic linker looks.
pub(crate) fn others(system: &System, libraries: &Libraries, given: &[Given]) -> Result<Vec<String>> {
    let made = Record::of(system).ok().flatten().map(|record| record.files).unwrap_or_default();
    let mut directories = BTreeSet::from([libraries.directory.clone()]);
    let mut paths = Vec::new();
    for library in [&CUDA, &MANAGEMENT] {
        if given.iter().any(|(one, _)| one.soname == library.soname) {
            paths.extend(cached_as(system, library.soname)?);
        }
    }
    for path in paths {
        if let Some((directory, _)) = path.trim_start_matches('/').rsplit_once('/') {
            directories.insert(real_directory(system, directory));
        }
    }
    let mut others = Vec::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(system.path(&directory)) else { continue };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let inside = format!("{directory}/{name}");
            let library =
                named(&name).filter(|library| given.iter().any(|(one, _)| one.soname == library.soname));
            if library.is_some_and(|library| is_others(system, &inside, library, made.contains(&inside))) {
                others.push(inside);
            }
        }
    }
    others.sort();
    Ok(others)
}

/// What we have made and is damaged now is still ours, and so is a link of ours to nothing.
fn is_others(system: &System, inside: &str, library: &Library, made_by_us: bool) -> bool {
    match system.read(inside) {
        Ok(file) if elf::is_ours(&file) => false,
        Ok(file) => !made_by_us || elf::check(&file, library.soname).is_ok(),
        Err(_) => !made_by_us,
    }
}

/// Which of the libraries that other vendors have too is called `NAME.so` or `NAME.so.NUMBERS`.
pub(crate) fn named(name: &str) -> Option<&'static Library> {
    let is_name = |library: &&Library| {
        library.soname.strip_suffix(".1").and_then(|base| name.strip_prefix(base)).is_some_and(|rest| {
            rest.is_empty()
                || rest.strip_prefix('.').is_some_and(|version| {
                    !version.is_empty()
                        && version.chars().all(|letter| letter.is_ascii_digit() || letter == '.')
                })
        })
    };
    [&CUDA, &MANAGEMENT].into_iter().find(is_name)
}

/// `lib/…` is `usr/lib/…` in most systems.
fn real_directory(system: &System, directory: &str) -> String {
    fs::canonicalize(system.path(directory))
        .ok()
        .and_then(|real| real.strip_prefix(system.top()).map(Path::to_path_buf).ok())
        .map_or_else(|| directory.to_owned(), |real| real.to_string_lossy().into_owned())
}

/// Where the dynamic linker's cache says that x86-64 programs find `libcuda.so.1`, the first one first.
pub(crate) fn cached(system: &System) -> Result<Vec<String>> {
    cached_as(system, layout::SONAME)
}

fn cached_as(system: &System, soname: &str) -> Result<Vec<String>> {
    let cache = system.path("etc/ld.so.cache");
    if !cache.exists() {
        return Ok(Vec::new());
    }
    let mut command = ldconfig(system);
    command.arg("-C").arg(&cache).arg("-p");
    let list = system::run(command, LIMIT)?;
    if let Some(failure) = list.failure {
        bail!("ldconfig -p {failure}: {}", list.complaints);
    }
    // Lines are `NAME (libc6,x86-64, …) => PATH`.
    let paths = list.output.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(' ')?;
        let (kind, path) = rest.split_once(" => ")?;
        (name == soname && kind.contains("x86-64")).then(|| path.to_owned())
    });
    Ok(paths.collect())
}

/// The system's own `ldconfig`, which on most needs no libraries, else this machine's.
fn ldconfig(system: &System) -> Command {
    let own = system.program("ldconfig").map(|inside| system.path(&inside));
    let mut command = Command::new(own.unwrap_or_else(|| "ldconfig".into()));
    command.stdin(Stdio::null());
    command
}

/// Writes the cache anew.
pub(crate) fn refresh_cache(system: &System) -> Result<()> {
    let mut command = ldconfig(system);
    if !system.is_live() {
        command.arg("-r").arg(system.top());
    }
    let ended = system::run(command, LIMIT)?;
    match ended.failure {
        Some(failure) => bail!("ldconfig {failure}: {}", ended.complaints),
        None => Ok(()),
    }
}

/// The same where it is needed, noting what there was no cache before.
pub(crate) fn update_cache(changes: &mut Changes<'_>, new: bool) -> Result<()> {
    let finds_ours = |path: &String| changes.system.read(path).is_ok_and(|file| elf::is_ours(&file));
    if !new && cached(changes.system)?.first().is_some_and(finds_ours) {
        return Ok(());
    }
    for cache in CACHES {
        if !changes.system.has(cache) {
            changes.announce(cache)?;
        }
    }
    refresh_cache(changes.system)
}

/// Whether a recorded file is the cache, which comes back by itself.
pub(crate) fn is_cache(inside: &str) -> bool {
    CACHES.contains(&inside)
}

/// A library to be installed, and its file's contents.
pub(crate) type Given = (&'static Library, Vec<u8>);

/// Whether a `libcuda.so.1` loads another file at the first call, and is nothing without it.
pub(crate) fn needs_engine(cuda: &[u8]) -> bool {
    let name = layout::ENGINE.soname.as_bytes();
    cuda.windows(name.len()).any(|window| window == name)
}

/// Puts the libraries in place: files, names, and what is preloaded. Says whether anything had to be done.
///
/// Each file is there before the one that loads it: a process that runs already may look for it at any moment.
pub(crate) fn place(changes: &mut Changes<'_>, libraries: &Libraries, given: &[Given]) -> Result<bool> {
    let mut new = false;
    for (library, contents) in given {
        let file = libraries.file(library);
        changes.record.libraries.insert(file.clone(), record::digest(contents));
        new |= changes.write(&file, contents, 0o644)?;
        let (directory, name) = file.rsplit_once('/').context("a library lies in a directory")?;
        for link in library.links {
            new |= changes.link(&format!("{directory}/{link}"), name)?;
        }
    }
    let preloaded = format!("{}/{}", libraries.directory, layout::PRELOADED);
    new |= changes.link(&preloaded, &format!("../{}", layout::CUDA.file))?;
    for (inside, machine) in libraries.stubs() {
        new |= changes.write(&inside, &elf::empty_library(machine), 0o644)?;
    }
    changes.save()?;
    Ok(new)
}

/// Gives another vendor's files back the names that they had.
pub(crate) fn give_back(changes: &Changes<'_>) -> Result<Vec<String>> {
    let system = changes.system;
    let mut left = Vec::new();
    for inside in &changes.record.kept {
        let kept = system.path(&format!("{}/{inside}", layout::KEPT));
        if !system.has(&format!("{}/{inside}", layout::KEPT)) {
            continue;
        }
        if system.has(inside) {
            left.push(format!("/{}/{inside}", layout::KEPT));
        } else {
            record::move_file(&kept, &system.path_to_write(inside)?).context("give a file back")?;
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_libraries_that_others_have_too_are_taken_for_one() {
        for name in ["libcuda.so", "libcuda.so.1", "libcuda.so.580.65.06"] {
            assert_eq!(named(name).map(|library| library.soname), Some("libcuda.so.1"), "{name}");
        }
        for name in ["libnvidia-ml.so", "libnvidia-ml.so.1", "libnvidia-ml.so.580.65.06"] {
            assert_eq!(named(name).map(|library| library.soname), Some("libnvidia-ml.so.1"), "{name}");
        }
        for name in
            ["libcuda.so.", "libcudart.so.13", "libcuda.so.1.old", "libcuda.a", "libcudadebugger.so.1"]
        {
            assert!(named(name).is_none(), "{name}");
        }
    }
}

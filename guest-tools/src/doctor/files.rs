//! What is installed: libraries, the dynamic linker's cache, the preload, the policy.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::Result;

use super::Finding;
use crate::layout::{self, Libraries, Library};
use crate::record::{self, Record};
use crate::system::System;
use crate::{config, elf, library, preload, rescue};

/// What to do about a file that is not as it should be.
const AGAIN: &str = "run `vcompute-guest install` again";

/// The libraries' files, each as the program that asks for it finds it.
pub(super) fn libraries(system: &System, libraries: &Libraries, record: &Record) -> Vec<Finding> {
    let cuda = format!("{}/{}", libraries.directory, layout::SONAME);
    let needs_engine = system.read(&cuda).is_ok_and(|file| library::needs_engine(&file));
    let mut findings =
        vec![one(system, "library", &cuda, libraries.file(&layout::CUDA), &layout::CUDA, record)];
    if needs_engine {
        let file = libraries.file(&layout::ENGINE);
        findings.push(one(system, "engine", &file, file.clone(), &layout::ENGINE, record));
    }
    let file = libraries.file(&layout::MANAGEMENT);
    if record.libraries.contains_key(&file) {
        let inside = format!("{}/{}", libraries.directory, layout::MANAGEMENT.soname);
        findings.push(one(system, "management", &inside, file, &layout::MANAGEMENT, record));
    }
    findings
}

fn one(
    system: &System,
    about: &'static str,
    inside: &str,
    installed: String,
    library: &Library,
    record: &Record,
) -> Finding {
    let file = match system.read(inside) {
        Ok(file) => file,
        Err(error) => return Finding::broken(about, format!("/{inside}: {error}"), AGAIN),
    };
    if let Err(error) = elf::check(&file, library.soname) {
        return Finding::broken(about, format!("/{inside}: {error:#}"), AGAIN);
    }
    if !elf::is_ours(&file) {
        let advice = "run `vcompute-guest install --replace-other-libcuda`";
        return Finding::broken(about, format!("/{inside} is another vendor's"), advice);
    }
    let mode = fs::metadata(system.path(&installed)).map_or(0o644, |about| about.mode() & 0o777);
    if mode & 0o444 != 0o444 {
        return Finding::broken(
            about,
            format!("/{inside}: mode {mode:04o}, so not everybody's programs can load it"),
            AGAIN,
        );
    }
    match record.libraries.get(&installed) {
        Some(digest) if *digest != record::digest(&file) => Finding::doubtful(
            about,
            format!("/{inside} is not what was installed: another version, or damaged"),
            AGAIN,
        ),
        _ => Finding::good(about, format!("/{inside}")),
    }
}

/// Which library the dynamic linker finds.
pub(super) fn cache(system: &System, libraries: &Libraries) -> Result<Finding> {
    const ABOUT: &str = "linker cache";
    let paths = library::cached(system)?;
    let Some(first) = paths.first() else {
        return Ok(Finding::broken(ABOUT, format!("{} is not in it", layout::SONAME), "run ldconfig"));
    };
    let is_ours = system.read(first).is_ok_and(|file| elf::is_ours(&file));
    Ok(if is_ours {
        Finding::good(ABOUT, format!("{} is {first}", layout::SONAME))
    } else {
        Finding::broken(
            ABOUT,
            format!("{} is {first}, another vendor's; ours is in /{}", layout::SONAME, libraries.directory),
            "remove that package, or run `vcompute-guest install --replace-other-libcuda`",
        )
    })
}

/// What every process loads, as far as it concerns us: a line that leads nowhere is everybody's concern.
pub(super) fn preloaded(system: &System, libraries: &Libraries) -> Result<Vec<Finding>> {
    const ABOUT: &str = "preload";
    let text = system.text(layout::PRELOAD_LIST)?.unwrap_or_default();
    let (ours, others): (Vec<_>, Vec<_>) = preload::entries(&text).partition(|entry| rescue::is_ours(entry));
    let mut findings = vec![match ours.first() {
        Some(entry) => our_entry(system, libraries, entry),
        None => Finding::good(ABOUT, "no; programs find the library when they ask for it"),
    }];
    for entry in others {
        let file = libraries.entrys_file(entry);
        // Without a slash it is looked for, which is the dynamic linker's art.
        if file.starts_with('/')
            && let Err(error) = system.read(&file)
        {
            findings.push(Finding::doubtful(
                ABOUT,
                format!("{entry}: {error}; each program complains of it"),
                "it is not of virtio-compute: take the line out of /etc/ld.so.preload",
            ));
        }
    }
    Ok(findings)
}

fn our_entry(system: &System, libraries: &Libraries, entry: &str) -> Finding {
    const ABOUT: &str = "preload";
    const AFRESH: &str =
        "run `vcompute-guest install` again; where programs do not start, `vcompute-guest rescue` first";
    let file = libraries.entrys_file(entry);
    match system.read(&file).map(|file| elf::check(&file, layout::SONAME)) {
        Ok(Ok(())) if entry == libraries.preload_entry() => {
            Finding::good(ABOUT, format!("{entry}, in every process"))
        }
        Ok(Ok(())) => Finding::doubtful(ABOUT, format!("{entry}, not as this version writes it"), AGAIN),
        Ok(Err(error)) => Finding::broken(ABOUT, format!("{file}: {error:#}"), AFRESH),
        Err(error) => {
            Finding::broken(ABOUT, format!("{file}: {error}; each program complains of it"), AFRESH)
        }
    }
}

/// The preloaded library's policy.
pub(super) fn policy(system: &System) -> Result<Finding> {
    const ABOUT: &str = "policy";
    let link =
        fs::read_link(system.path(layout::POLICY)).ok().map(|text| text.to_string_lossy().into_owned());
    let meant = match config::of(system) {
        Ok(meant) => meant,
        Err(error) => {
            return Ok(Finding::doubtful(ABOUT, format!("{error:#}"), "mend it, then vcompute-guest apply"));
        }
    };
    Ok(match link {
        Some(text) if text == meant => Finding::good(ABOUT, text),
        None if !system.has(layout::CONFIG) => Finding::good(ABOUT, "the default (there is no file)"),
        Some(text) => Finding::doubtful(
            ABOUT,
            format!("processes see {text:?}; /{} means {meant:?}", layout::CONFIG),
            "vcompute-guest apply",
        ),
        None => Finding::doubtful(ABOUT, format!("there is no /{}", layout::POLICY), "vcompute-guest apply"),
    })
}

/// What keeps the library out of initial RAM disks.
pub(super) fn initramfs(system: &System) -> Finding {
    const ABOUT: &str = "initramfs";
    if !system.path("etc/initramfs-tools").is_dir() {
        return Finding::skipped(ABOUT, "initramfs-tools is not installed");
    }
    match [layout::INITRAMFS_HOOK, layout::INITRAMFS_CHECK].iter().find(|file| !system.has(file)) {
        None => Finding::good(ABOUT, "the preloaded library is kept out of it"),
        Some(file) => Finding::doubtful(ABOUT, format!("there is no /{file}"), AGAIN),
    }
}

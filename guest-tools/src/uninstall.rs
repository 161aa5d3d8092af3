//! `uninstall`: the preload first, everything else after it, and no trace.

use std::fs;
use std::io;

use anyhow::{Context, Result, bail};

use crate::layout;
use crate::output::{agrees, say, warn};
use crate::record::{Changes, remove_if_there, sweep};
use crate::system::System;
use crate::trial::Trial;
use crate::{driver, elf, library, rescue};

/// What `uninstall` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave /etc/virtio-compute/shim.toml
    #[arg(long)]
    keep_config: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Uninstalls.
pub(crate) fn run(system: &System, arguments: &Arguments) -> Result<()> {
    if !arguments.yes && !agrees("Remove virtio-compute from this system?") {
        bail!("nothing was changed (without a terminal, say --yes)");
    }
    let _lock = system.lock()?;
    let mut changes = Changes::of(system)?;
    if rescue::strike(system)? {
        say(format_args!("  taken out of    /{}", layout::PRELOAD_LIST));
        if let Err(error) = Trial::of(system) {
            warn(format_args!("{error:#}"));
        }
    }
    if changes.record.version.is_empty() {
        // An installation may have been cut short before its first word was written.
        sweep(&system.path_to_write(layout::RECORD)?)?;
        remove_empty(system, layout::RECORD.rsplit_once('/').map_or("", |(parent, _)| parent))?;
        say(format_args!("virtio-compute is not installed here."));
        return Ok(());
    }

    for path in undo(&mut changes, arguments.keep_config)? {
        say(format_args!("  left            {path}"));
    }
    say(format_args!("Done. Programs that have the library loaded keep it until they end."));
    Ok(())
}

/// Undoes what the record says. Returns what had to stay.
pub(crate) fn undo(changes: &mut Changes<'_>, keep_config: bool) -> Result<Vec<String>> {
    let system = changes.system;
    driver::uninstall(changes)?;
    let mut left = Vec::new();
    let mut caches = Vec::new();
    // A process that runs finds each library as long as it finds one that loads it.
    let engine = |file: &&String| file.ends_with(layout::ENGINE.file);
    let files = &changes.record.files;
    for inside in files.iter().filter(|file| !engine(file)).chain(files.iter().filter(engine)) {
        let is_shared = library::named(inside.rsplit('/').next().unwrap_or_default()).is_some()
            || inside == layout::OTHER_SMI;
        let is_others = is_shared && system.read(inside).is_ok_and(|file| !elf::is_ours(&file));
        if is_others || (keep_config && inside == layout::CONFIG) {
            left.push(format!("/{inside}"));
        } else if library::is_cache(inside) {
            caches.push(inside);
        } else {
            remove_if_there(&system.path_to_write(inside)?)?;
        }
        sweep(&system.path_to_write(inside)?)?;
    }
    sweep(&system.path_to_write(layout::PRELOAD_LIST)?)?;
    left.extend(library::give_back(changes)?);
    if system.has("etc/ld.so.cache") {
        library::refresh_cache(system)?;
    }
    for cache in caches {
        remove_if_there(&system.path_to_write(cache)?)?;
        // Where ldconfig was ended in the midst of it.
        remove_if_there(&system.path_to_write(&format!("{cache}~"))?)?;
    }
    driver::forget_rules(system);
    remove_if_there(&system.path_to_write(layout::RECORD)?)?;
    sweep(&system.path_to_write(layout::RECORD)?)?;
    for directory in changes.record.directories.iter().rev() {
        remove_empty(system, directory)?;
    }
    Ok(left)
}

/// Removes a directory, unless somebody has put something there.
fn remove_empty(system: &System, directory: &str) -> Result<()> {
    let path = system.path_to_write(directory)?;
    match fs::remove_dir(&path) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}

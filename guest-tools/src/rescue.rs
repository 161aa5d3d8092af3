//! Taking the library out of `/etc/ld.so.preload`: for `uninstall`, for a system that no program starts in, and as the
//! first process of one that does not boot.
//!
//! Needs nothing that was installed, and no other program.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::layout::{self, Libraries};
use crate::output::{say, warn};
use crate::record::{Record, put, remove_if_there};
use crate::system::{self, System};
use crate::{elf, preload};

/// Whether an entry of the list is this project's, with whatever directory before it.
pub(crate) fn is_ours(entry: &str) -> bool {
    entry.strip_suffix(layout::PRELOADED).is_some_and(|directory| directory.ends_with('/'))
}

/// Takes our entry out of the list; the list goes too if it is empty and was ours. Says whether there was one.
pub(crate) fn strike(system: &System) -> Result<bool> {
    let Some(text) = system.text(layout::PRELOAD_LIST)? else { return Ok(false) };
    let kept = preload::without(&text, is_ours);
    if kept == text {
        return Ok(false);
    }
    // A record that cannot be read must not stand in the way.
    let made = Record::of(system).ok().flatten().is_some_and(|record| record.preload_list);
    if made && kept.is_empty() {
        remove_if_there(&list_to_write(system)?)?;
    } else {
        write_list(system, &kept)?;
    }
    Ok(true)
}

/// Writes the list as a whole, with its owner and mode.
pub(crate) fn write_list(system: &System, text: &str) -> Result<()> {
    let path = list_to_write(system)?;
    let mode = fs::metadata(&path).map_or(0o644, |about| about.mode() & 0o7777);
    put(&path, text.as_bytes(), mode)
}

/// Where the list is, if it is a link too.
fn list_to_write(system: &System) -> Result<PathBuf> {
    let path = system.path_to_write(layout::PRELOAD_LIST)?;
    if !path.is_symlink() {
        return Ok(path);
    }
    let real = fs::canonicalize(&path).with_context(|| format!("follow {}", path.display()))?;
    if !real.starts_with(system.top()) {
        bail!("{} leads to {}, outside of {}", path.display(), real.display(), system.top().display());
    }
    Ok(real)
}

/// What `rescue` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only if programs do not start with it, or its file is not whole
    #[arg(long)]
    if_broken: bool,
}

/// Whether our entry is in the list.
pub(crate) fn is_listed(system: &System) -> Result<bool> {
    Ok(system.text(layout::PRELOAD_LIST)?.is_some_and(|text| preload::entries(&text).any(is_ours)))
}

/// Why the library that our line means must not be preloaded, if there is a line and a reason.
pub(crate) fn flaw(system: &System) -> Result<Option<String>> {
    let text = system.text(layout::PRELOAD_LIST)?.unwrap_or_default();
    let Some(entry) = preload::entries(&text).find(|entry| is_ours(entry)) else { return Ok(None) };
    // The dynamic linker of a system in danger is not asked; what the entry means is where a library of ours lies.
    let Some(libraries) = Libraries::in_place(system) else { return Ok(None) };
    let file = libraries.entrys_file(entry);
    let flaw = match system.read(&file) {
        Ok(contents) => elf::check(&contents, layout::SONAME).err().map(|error| format!("{error:#}")),
        Err(error) => Some(error.to_string()),
    };
    Ok(flaw.map(|flaw| format!("{file}: {flaw}")))
}

/// `rescue`.
pub(crate) fn run(system: &System, arguments: &Arguments) -> Result<()> {
    if !arguments.if_broken {
        return take_out(system);
    }
    if !is_listed(system)? {
        return Ok(());
    }
    let does_not_start = || -> Result<Option<String>> {
        let Some(program) = system.program("true") else { return Ok(None) };
        let ended = system::run(system.command(&program, None)?, Duration::from_secs(20))?;
        Ok(ended.failure.map(|failure| format!("{program} {failure}")))
    };
    let reason = match flaw(system)? {
        Some(flaw) => Some(flaw),
        None => does_not_start()?,
    };
    match reason {
        Some(reason) => {
            warn(format_args!("{reason}"));
            writable(system, || take_out(system))
        }
        None => Ok(()),
    }
}

fn take_out(system: &System) -> Result<()> {
    if strike(system)? {
        say(format_args!(
            "The library is no longer preloaded in {}; nothing else was changed.",
            system.top().display()
        ));
    } else {
        say(format_args!("{} preloads nothing of ours.", system.path(layout::PRELOAD_LIST).display()));
    }
    Ok(())
}

/// Does something in a system whose file system may still be read-only, and is so afterwards.
fn writable(system: &System, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let flags = rustix::mount::MountFlags::empty();
    let was_read_only =
        rustix::fs::statvfs(system.top())?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    if was_read_only {
        rustix::mount::mount_remount(system.top(), flags, c"").context("make the file system writable")?;
    }
    let result = body();
    rustix::fs::sync();
    if was_read_only {
        rustix::mount::mount_remount(system.top(), flags | rustix::mount::MountFlags::RDONLY, c"")
            .context("make the file system read-only again")?;
    }
    result
}

/// As the first process (`init=/usr/sbin/vcompute-guest` on the kernel's command line): mends the list, then becomes the
/// system's own first process, whatever happened.
pub(crate) fn as_first_process(arguments: Vec<OsString>) -> Result<()> {
    say(format_args!("vcompute-guest: taking the CUDA library out of /{}", layout::PRELOAD_LIST));
    let mended = System::at("/".as_ref()).and_then(|system| writable(&system, || take_out(&system)));
    if let Err(error) = mended {
        warn(format_args!("{error:#}"));
    }
    let mut last = None;
    for init in ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"] {
        last = Some(Command::new(init).args(&arguments).exec());
    }
    Err(last.context("no first process was tried")?).context("no first process could be started")
}

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

use anyhow::{Context, Result, bail};

use crate::layout;
use crate::output::{say, warn};
use crate::preload;
use crate::record::{Record, put, remove_if_there};
use crate::system::System;

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

/// `rescue`.
pub(crate) fn run(system: &System) -> Result<()> {
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

/// As the first process (`init=/usr/sbin/vcompute-guest` on the kernel's command line): mends the list, then becomes the
/// system's own first process, whatever happened.
pub(crate) fn as_first_process(arguments: Vec<OsString>) -> Result<()> {
    say(format_args!("vcompute-guest: taking the CUDA library out of /{}", layout::PRELOAD_LIST));
    let mended = System::at("/".as_ref()).and_then(|system| {
        let was_read_only = rustix::fs::statvfs("/")?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        let flags = rustix::mount::MountFlags::empty();
        if was_read_only {
            rustix::mount::mount_remount("/", flags, c"").context("make the root file system writable")?;
        }
        run(&system)?;
        rustix::fs::sync();
        if was_read_only {
            rustix::mount::mount_remount("/", flags | rustix::mount::MountFlags::RDONLY, c"")
                .context("make the root file system read-only again")?;
        }
        Ok(())
    });
    if let Err(error) = mended {
        warn(format_args!("{error:#}"));
    }
    let mut last = None;
    for init in ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"] {
        last = Some(Command::new(init).args(&arguments).exec());
    }
    Err(last.context("no first process was tried")?).context("no first process could be started")
}

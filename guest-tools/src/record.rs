//! What was changed in a system, written down before it is changed, so that it can always be undone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout;
use crate::system::System;

/// The record. Paths are as inside of the system, without the leading slash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// Of the program that installed.
    pub version: String,
    /// Files and links that were made.
    pub files: BTreeSet<String>,
    /// Libraries among them, and what each holds ([`digest`]).
    pub libraries: BTreeMap<String, String>,
    /// Directories that were made.
    pub directories: BTreeSet<String>,
    /// Other vendors' files, now in [`layout::KEPT`].
    pub kept: BTreeSet<String>,
    /// Whether the list of preloaded files was made.
    pub preload_list: bool,
    /// Versions of the driver that DKMS was told of.
    pub dkms: BTreeSet<String>,
    /// Kernels that were given a module without DKMS.
    pub kernels: BTreeSet<String>,
}

impl Record {
    /// Of a system, if there is one.
    pub(crate) fn of(system: &System) -> Result<Option<Self>> {
        system
            .text(layout::RECORD)?
            .map(|text| toml::from_str(&text).with_context(|| format!("read /{}", layout::RECORD)))
            .transpose()
    }
}

/// Changes a system and keeps the record of it.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    /// What is changed.
    pub system: &'a System,
    /// What has been.
    pub record: Record,
}

impl<'a> Changes<'a> {
    /// Goes on where an earlier installation has left off.
    pub(crate) fn of(system: &'a System) -> Result<Self> {
        let record = Record::of(system)?.unwrap_or_default();
        Ok(Self { system, record })
    }

    /// Writes the record.
    pub(crate) fn save(&mut self) -> Result<()> {
        let parent = layout::RECORD.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.note_directories(parent);
        // Ours by its name, also where it is all that an installation which was cut short has made.
        self.record.directories.insert(parent.to_owned());
        let text = toml::to_string(&self.record).context("write the record")?;
        fs::create_dir_all(self.system.path_to_write(layout::RECORD)?.parent().context("a parent")?)?;
        put(&self.system.path(layout::RECORD), text.as_bytes(), 0o644)
    }

    /// Makes a file have these contents. Says whether anything had to be done.
    pub(crate) fn write(&mut self, inside: &str, contents: &[u8], mode: u32) -> Result<bool> {
        let path = self.system.path_to_write(inside)?;
        let is_file =
            fs::symlink_metadata(&path).is_ok_and(|about| about.is_file() && about.mode() & 0o777 == mode);
        if is_file && fs::read(&path).is_ok_and(|known| known == contents) {
            return Ok(false);
        }
        self.announce(inside)?;
        put(&path, contents, mode)?;
        Ok(true)
    }

    /// Makes a link have this text. Says whether anything had to be done.
    pub(crate) fn link(&mut self, inside: &str, text: &str) -> Result<bool> {
        let path = self.system.path_to_write(inside)?;
        if fs::read_link(&path).is_ok_and(|known| known == Path::new(text)) {
            return Ok(false);
        }
        self.announce(inside)?;
        let new = beside(&path)?;
        remove_if_there(&new)?;
        symlink(text, &new).with_context(|| format!("make {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("replace {}", path.display()))?;
        sync_directory(&path)?;
        Ok(true)
    }

    /// Moves another vendor's file to where `uninstall` finds it.
    pub(crate) fn keep(&mut self, inside: &str) -> Result<()> {
        let kept = format!("{}/{inside}", layout::KEPT);
        self.record.kept.insert(inside.to_owned());
        self.prepare_directory(&kept)?;
        self.save()?;
        move_file(&self.system.path_to_write(inside)?, &self.system.path_to_write(&kept)?)
    }

    /// Notes a file before it is made, and makes its directory.
    pub(crate) fn announce(&mut self, inside: &str) -> Result<()> {
        self.record.files.insert(inside.to_owned());
        self.note_directories(inside.rsplit_once('/').map_or("", |(parent, _)| parent));
        self.save()?;
        self.prepare_directory(inside)
    }

    fn prepare_directory(&mut self, inside: &str) -> Result<()> {
        let parent = inside.rsplit_once('/').map_or("", |(parent, _)| parent);
        if self.note_directories(parent) {
            self.save()?;
        }
        let path = self.system.path_to_write(inside)?;
        let parent = path.parent().context("a parent")?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))
    }

    /// Notes those of the directory and its parents that are not there yet.
    fn note_directories(&mut self, directory: &str) -> bool {
        let mut new = false;
        let mut known = directory;
        while !known.is_empty() && !self.system.path(known).exists() {
            new |= self.record.directories.insert(known.to_owned());
            known = known.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        new
    }
}

/// A file is there whole, on disk, or as it was: written beside, then renamed. Owner and mode of an old one stay, unless
/// `mode` says otherwise.
pub(crate) fn put(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    let new = beside(path)?;
    remove_if_there(&new)?;
    let write = || -> io::Result<()> {
        let mut file = File::create_new(&new)?;
        file.write_all(contents)?;
        if let Ok(old) = fs::symlink_metadata(path)
            && old.is_file()
        {
            chown(&new, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    if let Err(error) = write() {
        remove_if_there(&new)?;
        return Err(error).with_context(|| format!("write {}", path.display()));
    }
    sync_directory(path)
}

/// Removes a file or link, if there is one.
pub(crate) fn remove_if_there(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}

/// Tells contents apart; not against anyone who wants two files to look alike. FNV-1a.
pub(crate) fn digest(contents: &[u8]) -> String {
    let hash = contents.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{} bytes, {hash:016x}", contents.len())
}

/// A rename, also from one file system to another.
pub(crate) fn move_file(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            if let Ok(text) = fs::read_link(from) {
                symlink(text, to).with_context(|| format!("make {}", to.display()))?;
            } else {
                put(to, &fs::read(from)?, fs::metadata(from)?.mode() & 0o7777)?;
            }
            remove_if_there(from).map(drop)
        }
        result => result.with_context(|| format!("move {} to {}", from.display(), to.display())),
    }
}

/// Removes what a write that was cut short has left beside a file.
pub(crate) fn sweep(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if parent.is_dir() => remove_if_there(&beside(path)?).map(drop),
        _ => Ok(()),
    }
}

fn beside(path: &Path) -> Result<std::path::PathBuf> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    Ok(path.with_file_name(format!(".{}.vcompute-new", name.display())))
}

fn sync_directory(path: &Path) -> Result<()> {
    let parent = path.parent().context("a parent")?;
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("write {} to disk", parent.display()))
}

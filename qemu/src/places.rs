//! Where things are kept, and that one process at a time changes them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The workspace and its scratch directory.
#[derive(Debug, Clone)]
pub struct Places {
    workspace: PathBuf,
}

impl Places {
    /// Of the workspace at `workspace` (an absolute path).
    pub fn new(workspace: impl Into<PathBuf>) -> Self {
        Self { workspace: workspace.into() }
    }

    /// The workspace's top.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// Downloaded and unpacked Debian packages.
    pub fn debian(&self) -> PathBuf {
        self.workspace.join("target/debian")
    }

    /// Modules, images and logs of guests.
    pub fn guest(&self) -> PathBuf {
        self.workspace.join("target/guest")
    }
}

/// Holds off other processes that would write the same; let go when the file is dropped.
pub fn lock(path: &Path) -> Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    if file.try_lock().is_err() {
        log::info!("waiting for another run ({}) …", path.display());
        file.lock().with_context(|| format!("lock {}", path.display()))?;
    }
    Ok(file)
}

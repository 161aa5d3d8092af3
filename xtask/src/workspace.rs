//! The workspace that this program was built from.

use std::path::Path;

use anyhow::{Context, Result};
use qemu::Places;

/// The workspace's places; cargo tells where its top is.
pub(crate) fn places() -> Result<Places> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(Places::new(own.parent().context("xtask has no parent directory")?))
}

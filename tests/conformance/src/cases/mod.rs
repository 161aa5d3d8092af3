//! The questions, by area. A new area is one file here and one row in each table.

mod contexts;
mod devices;
mod entry_points;
mod init;
mod kernels;
mod memory;
mod visible;

use crate::probe::Probe;
use crate::registry::Case;

/// Every area's cases, in the order in which they run.
pub(crate) const AREAS: &[&[Case]] =
    &[init::CASES, devices::CASES, visible::CASES, entry_points::CASES, contexts::CASES, memory::CASES];

/// Every area's helper programs.
pub(crate) const PROBES: &[&[Probe]] = &[visible::PROBES];

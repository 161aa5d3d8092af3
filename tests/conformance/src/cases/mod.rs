//! The questions, by area. A new area is one file here and one row in each table.

mod boxes;
mod contexts;
mod copies;
mod devices;
mod entry_points;
mod events;
mod init;
mod kernels;
mod launches;
mod memory;
mod streams;
mod visible;

use crate::probe::Probe;
use crate::registry::Case;

/// Every area's cases, in the order in which they run.
pub(crate) const AREAS: &[&[Case]] = &[
    init::CASES,
    devices::CASES,
    visible::CASES,
    entry_points::CASES,
    contexts::CASES,
    memory::CASES,
    copies::CASES,
    boxes::CASES,
    launches::CASES,
    streams::CASES,
    events::CASES,
];

/// Every area's helper programs.
pub(crate) const PROBES: &[&[Probe]] = &[visible::PROBES];

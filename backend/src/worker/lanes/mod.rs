//! The session's lanes: a stand-in that takes kicks and executes nothing.

use std::sync::Arc;

use super::{
    driver::Driver,
    memory::{Regions, SessionMemory},
    notify::Notifier,
};

/// Why the lanes could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the session's header is not what is expected")]
pub(crate) struct LanesError;

/// The lanes.
#[derive(Debug)]
pub(crate) struct Lanes;

impl Lanes {
    /// Starts them, at the first kick: the header is valid only then.
    pub(crate) fn start(
        _memory: Arc<SessionMemory>,
        _regions: Arc<Regions>,
        _notifier: Arc<Notifier>,
        _driver: Arc<Driver>,
    ) -> Result<Self, LanesError> {
        Ok(Self)
    }

    /// The guest has kicked.
    pub(crate) fn kick(&self) {}

    /// Returns when no lane executes anything.
    pub(crate) fn pause(&self) {}

    /// Goes on.
    pub(crate) fn resume(&self) {}

    /// Ends the lanes' threads.
    pub(crate) fn stop(&self) {}
}

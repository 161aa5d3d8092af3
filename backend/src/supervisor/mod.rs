//! The supervisor.
use crate::{config::Config, spawner::Spawner};
pub(crate) struct Listeners;
#[derive(Debug, thiserror::Error)]
#[error("not there yet")]
pub(crate) struct SupervisorError;
impl Listeners {
    pub(crate) fn bind(_: &Config) -> Result<Self, SupervisorError> {
        Ok(Self)
    }
}
pub(crate) struct Supervisor;
impl Supervisor {
    pub(crate) fn new(_: Config, _: Spawner, _: Listeners) -> Result<Self, SupervisorError> {
        Ok(Self)
    }
    pub(crate) fn run(self) -> Result<(), SupervisorError> {
        Ok(())
    }
}

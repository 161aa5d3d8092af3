//! A compute device that misbehaves in a named way: the guest's driver and programs have to bear it.
//!
//! Read [`fault`] (what can be wrong) first, then [`device`] (the vhost-user device), [`control`] (requests and answers),
//! [`lanes`] (calls of a session). [`queue`] and [`region`] are about guest memory.

mod control;
mod device;
mod fault;
mod information;
mod lanes;
mod noise;
mod queue;
mod region;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};
use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use crate::device::Device;
use crate::fault::Fault;

#[derive(Parser)]
#[command(about = "A compute device that misbehaves in a named way", max_term_width = 110)]
struct Arguments {
    /// What is wrong; of several, separated by commas, the next one begins when the guest's driver resets the device
    #[arg(long, alias = "driver", required_unless_present = "list", value_delimiter = ',')]
    fault: Vec<Fault>,
    /// Where QEMU connects
    #[arg(long, required_unless_present = "list")]
    socket_path: Option<PathBuf>,
    /// Print the names of all faults, one a line, and end
    #[arg(long)]
    list: bool,
}

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let arguments = Arguments::parse();
    if arguments.list {
        let mut to = std::io::stdout().lock();
        return Fault::value_variants()
            .iter()
            .filter_map(Fault::to_possible_value)
            .try_for_each(|value| writeln!(to, "{}", value.get_name()))
            .context("print the names");
    }
    let path = &arguments.socket_path.context("--socket-path is missing")?;
    let mut listener = Listener::new(path, true).with_context(|| format!("listen at {}", path.display()))?;
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let device = Arc::new(Device::new(memory.clone(), arguments.fault));
    let mut daemon = VhostUserDaemon::new("faulty-device".to_owned(), device, memory)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    daemon.start(&mut listener).map_err(|error| anyhow::anyhow!("{error}"))?;
    match daemon.wait() {
        Ok(()) | Err(Error::HandleRequest(VhostUserError::Disconnected)) => Ok(()),
        Err(error) => Err(anyhow::anyhow!("the connection to QEMU: {error}")),
    }
}

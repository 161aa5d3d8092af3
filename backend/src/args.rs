//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// A virtio compute device for stock QEMU: CUDA in guests, over vhost-user.
#[derive(Debug, Default, Parser)]
#[command(name = "vhost-user-compute", version)]
pub(crate) struct Args {
    /// Where QEMU's vhost-user chardev connects.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket_path: Option<PathBuf>,

    /// Where processes of this host connect (containers, sandboxes, tests).
    #[arg(long, value_name = "PATH")]
    pub(crate) local_socket: Option<PathBuf>,

    /// The CUDA driver: a library's path, "soft" (in software), or "auto" (the host's, else in software).
    #[arg(long, value_name = "PATH|soft|auto")]
    pub(crate) driver: Option<String>,

    /// The host's GPUs that this VM sees: ordinals as nvidia-smi counts them, or UUIDs, separated by commas.
    #[arg(long, value_name = "GPU[,GPU...]")]
    pub(crate) gpu: Option<String>,

    /// Which log lines are written, e.g. "info" or "warn,vhost_user_compute=debug".
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// A TOML file with the same keys and with limits; the command line takes precedence.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

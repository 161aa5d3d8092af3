//! Where log lines go and which are written; `docs/logging.md` says what each level means.

/// What is logged when nobody says otherwise.
pub(crate) const DEFAULT_FILTER: &str = "info";

/// Starts logging to standard error. Every line names the kind of process that wrote it, and its process ID.
///
/// `virtio_queue` reports every malformed ring at level error, each time that it looks: a guest could fill the disk.
/// What it finds is reported by its caller, once.
pub(crate) fn start(role: &'static str, filter: &str) {
    use std::{io::Write as _, os::fd::AsFd as _};

    let process = std::process::id();
    let mut builder = env_logger::Builder::new();
    // A descriptor of its own: a worker's standard error becomes what kernels print.
    if let Ok(error) = std::io::stderr().as_fd().try_clone_to_owned() {
        builder.target(env_logger::Target::Pipe(Box::new(std::fs::File::from(error))));
    }
    builder.parse_filters(filter);
    builder.filter_module("virtio_queue", log::LevelFilter::Off);
    builder.format(move |out, record| {
        writeln!(out, "{} {:5} {role}[{process}] {}", out.timestamp_millis(), record.level(), record.args())
    });
    if builder.try_init().is_err() {
        log::debug!("logging had been started before");
    }
}

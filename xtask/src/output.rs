//! What a person sees: progress with the time since the start, on standard output.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::Instant;

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Lets the libraries' log lines come out as progress. `RUST_LOG` says which (default: info).
pub(crate) fn init() {
    LazyLock::force(&BEGIN);
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .target(env_logger::Target::Stdout)
        .format(|to, record| writeln!(to, "[{:6.1} s] {}", BEGIN.elapsed().as_secs_f32(), record.args()))
        .init();
}

/// Prints one line. A closed pipe is nobody listening, and no reason to stop.
pub(crate) fn say(line: Arguments<'_>) {
    let mut to = io::stdout().lock();
    let _ = writeln!(to, "{line}").and_then(|()| to.flush());
}

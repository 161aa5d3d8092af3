//! Lines for a person. A closed pipe is nobody listening, and no reason to stop.

use std::fmt::Arguments;
use std::io::{self, BufRead, IsTerminal, Write};

/// Prints one line.
pub(crate) fn say(line: Arguments<'_>) {
    let mut to = io::stdout().lock();
    let _ = writeln!(to, "{line}").and_then(|()| to.flush());
}

/// Something that a person should know, though the work goes on.
pub(crate) fn warn(line: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "warning: {line}");
}

/// Why it ends here, with every cause.
pub(crate) fn fail(error: &anyhow::Error) {
    let _ = writeln!(io::stderr().lock(), "error: {error:#}");
}

/// Asks; only "y" and "yes" mean yes. Without a person there is no answer.
pub(crate) fn agrees(question: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    let mut to = io::stdout().lock();
    let _ = write!(to, "{question} [y/N] ").and_then(|()| to.flush());
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

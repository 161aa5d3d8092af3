//! Log lines about what a guest can bring about as often as it likes.

use std::{
    fmt::Arguments,
    time::{Duration, Instant},
};

/// Lines in one window.
const LINES: u32 = 10;

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(10);

/// Lets a few lines through at level info; the others are at level debug.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    since: Option<Instant>,
    lines: u32,
}

impl Throttle {
    /// Logs a line.
    pub(crate) fn log(&mut self, line: Arguments<'_>) {
        let level = if self.allows(Instant::now()) { log::Level::Info } else { log::Level::Debug };
        log::log!(level, "{line}");
    }

    fn allows(&mut self, now: Instant) -> bool {
        let fresh = self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW);
        if fresh {
            (self.since, self.lines) = (Some(now), 0);
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_lets_a_few_lines_through() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let allowed = (0..100).filter(|_| throttle.allows(start)).count();
        assert_eq!(allowed, 10);
        assert!(throttle.allows(start + WINDOW));
    }
}

//! One log line on what is kept ready: warm workers, and images.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::supervisor::Supervisor;

/// How long a change waits to be told: others come with it.
const CALM: Duration = Duration::from_secs(1);

/// Between two lines: sessions come and go as often as guests like.
const PAUSE: Duration = Duration::from_secs(10);

/// What is kept ready.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Kept {
    /// Warm workers that are ready, without and with a context.
    workers: usize,
    contexts: usize,
    images: usize,
    image_bytes: u64,
}

impl fmt::Display for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workers, contexts, images, image_bytes } = self;
        let mebibytes = image_bytes >> 20;
        write!(
            formatter,
            "ready: {workers} warm workers without a context, {contexts} with one; {images} images kept ({mebibytes} MiB)"
        )
    }
}

/// What has been told, and what is to be told.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    told: Kept,
    told_at: Option<Instant>,
    due: Option<Instant>,
}

impl Summary {
    /// When there is something to tell.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The line that is due.
    fn line(&mut self, kept: Kept, now: Instant) -> Option<String> {
        // Not put off by further changes: where sessions come and go all the time there is no calm.
        if kept != self.told && self.due.is_none() {
            let earliest = self.told_at.and_then(|told| told.checked_add(PAUSE));
            let calm = now.checked_add(CALM)?;
            self.due = Some(earliest.map_or(calm, |earliest| earliest.max(calm)));
        }
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = None;
        if kept == self.told {
            return None;
        }
        (self.told, self.told_at) = (kept, Some(now));
        Some(kept.to_string())
    }
}

impl Supervisor {
    /// Tells what is kept ready, if that has changed.
    pub(crate) fn settle_summary(&mut self, now: Instant) {
        let (workers, contexts) = self.spares.ready();
        let (images, image_bytes) = self.images.held();
        if let Some(line) = self.summary.line(Kept { workers, contexts, images, image_bytes }, now) {
            log::info!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_not_too_often() {
        let mut summary = Summary::default();
        let start = Instant::now();
        let kept = |workers| Kept { workers, ..Kept::default() };
        assert_eq!(summary.line(kept(0), start), None);
        assert_eq!(summary.line(kept(1), start), None, "it may change at once");
        let later = start + CALM;
        assert!(summary.line(kept(1), later).is_some_and(|line| line.starts_with("ready: 1 warm workers")));
        assert_eq!(summary.line(kept(1), later + PAUSE), None);
        assert_eq!(summary.line(kept(2), later + CALM), None);
        assert_eq!(summary.deadline(), Some(later + PAUSE));
        assert_eq!(summary.line(kept(3), later + PAUSE - CALM), None);
        assert!(summary.line(kept(4), later + PAUSE).is_some_and(|line| line.starts_with("ready: 4")));
        assert_eq!(summary.deadline(), None);
    }
}

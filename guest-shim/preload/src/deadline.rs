//! How long early init may take.
//!
//! No step waits, so this bounds what is outside of the process's hands: a machine that stands still between two steps.
//! The kernel's coarse clock is read without a system call whatever the machine's clock is; it moves in steps of 1 to
//! 10 ms, so a deadline that short can be over early.

/// A moment from which on time counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    start_ms: Option<i64>,
}

impl Deadline {
    /// Now.
    pub(crate) fn start() -> Self {
        Self { start_ms: now_ms() }
    }

    /// Whether `limit_ms` have gone by; also if there is no clock.
    pub(crate) fn is_over(self, limit_ms: u16) -> bool {
        match (self.start_ms, now_ms()) {
            (Some(start), Some(now)) => now.saturating_sub(start) >= i64::from(limit_ms),
            _ => true,
        }
    }
}

/// Milliseconds since the machine's start.
pub(crate) fn now_ms() -> Option<i64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for a time.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    (result == 0).then(|| time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_by() {
        let start = Deadline::start();
        assert!(!start.is_over(1000));
        let long_ago = Deadline { start_ms: start.start_ms.map(|now| now - 1000) };
        assert!(long_ago.is_over(1000));
        assert!(Deadline { start_ms: None }.is_over(1000), "without a clock there is no time");
    }
}

//! How often something may be done anew that ought not to be needed.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What [`Budget`] counts over.
const WINDOW: Duration = Duration::from_secs(60);

/// Times in one window.
const MOST: usize = 5;

/// Five times a minute.
#[derive(Debug, Default)]
pub(crate) struct Budget(VecDeque<Instant>);

impl Budget {
    /// Takes one. `Err`: when there is one again.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        while let Some(due) = self.0.front().and_then(|first| first.checked_add(WINDOW)) {
            if now < due {
                if self.0.len() < MOST {
                    break;
                }
                return Err(due);
            }
            self.0.pop_front();
        }
        self.0.push_back(now);
        Ok(())
    }

    /// How many were taken in the last window.
    pub(crate) fn taken(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_a_minute_and_no_more() {
        let mut budget = Budget::default();
        let start = Instant::now();
        for second in 0..5 {
            assert_eq!(budget.take(start + Duration::from_secs(second)), Ok(()));
        }
        let next = start + WINDOW;
        assert_eq!(budget.take(start + Duration::from_secs(30)), Err(next));
        assert_eq!(budget.take(next), Ok(()));
        assert_eq!(budget.take(next), Err(next + Duration::from_secs(1)));
        assert_eq!(budget.taken(), MOST);
    }
}

//! What became of the changes, in memory that does not grow.

use std::time::Duration;

use rollproof::timeline::{Moment, Trigger};

/// All rounds so far.
pub(super) struct Tally {
    began: Moment,
    pub(super) noticed: u64,
    pub(super) unnoticed: u64,
    pub(super) unacknowledged: u64,
    slowest: Duration,
    /// Why the last update failed.
    failure: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let (began, slowest) = (Moment::now(), Duration::ZERO);
        Self { began, noticed: 0, unnoticed: 0, unacknowledged: 0, slowest, failure: None }
    }

    pub(super) fn add(&mut self, round: &Trigger) {
        match (&round.failure, round.noticed) {
            (Some(failure), _) => {
                self.unacknowledged += 1;
                self.failure = Some(failure.text.clone());
            }
            (None, Some(after)) => {
                self.noticed += 1;
                self.slowest = self.slowest.max(after);
            }
            (None, None) => self.unnoticed += 1,
        }
    }

    /// What was wrong with the updates; else, `nothing`.
    pub(super) fn trouble(&self, nothing: &str) -> String {
        self.failure.clone().unwrap_or_else(|| nothing.to_owned())
    }

    /// All of it in one line.
    pub(super) fn summary(&self, patience: Duration, interruptions: u64) -> String {
        let Self { noticed, unnoticed, unacknowledged, .. } = self;
        let (span, slowest) = (Moment::now().since(self.began).as_secs_f64(), self.slowest.as_secs_f64());
        format!(
            "{span:.0} s: {noticed} changes noticed, the slowest after {slowest:.3} s; {unnoticed} not noticed within {patience:?}; \
             {unacknowledged} updates not acknowledged; the watch was interrupted {interruptions} times"
        )
    }
}

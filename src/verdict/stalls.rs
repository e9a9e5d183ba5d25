//! When we ourselves did not run, looked up by time.
//!
//! ```text
//! stalls at 1 s for 0.3 s, at 4 s for 0.6 s, at 9 s for 0.1 s    ->  within 1.2 s to 5 s: the first two, together 0.9 s
//! ```

use std::time::Duration;

use super::overlap::Lasting;
use crate::timeline::Moment;

/// The stalls of a recording.
pub(super) struct Stalls {
    all: Lasting<(Moment, Duration)>,
    /// How long they were together before each of them, and all of them.
    before: Vec<Duration>,
}

impl Stalls {
    pub(super) fn of(all: Vec<(Moment, Duration)>) -> Self {
        let all = Lasting::of(all, |(at, _)| *at, |(_, span)| *span);
        let mut before = vec![Duration::ZERO];
        for (place, (_, span)) in all.all().iter().enumerate() {
            before.push(before[place].saturating_add(*span));
        }
        Self { all, before }
    }

    /// Those that reach into that time, in order.
    pub(super) fn within(&self, from: Moment, until: Moment) -> impl Iterator<Item = (Moment, Duration)> {
        let near = self.all.within(from, until).iter().copied();
        near.filter(move |(at, span)| *at + *span >= from)
    }

    /// How long those were together.
    pub(super) fn total(&self, from: Moment, until: Moment) -> Duration {
        let all = self.all.all();
        let first = all.partition_point(|(at, _)| *at < from);
        let end = all.partition_point(|(at, _)| *at <= until).max(first);
        let reaching = self.within(from, until).take_while(|(at, _)| *at < from);
        let reaching: Duration = reaching.map(|(_, span)| span).sum();
        reaching.saturating_add(self.before[end].saturating_sub(self.before[first]))
    }
}

//! Things that last, looked up by time, so that many of them beside many faults take no longer than their number.
//!
//! ```text
//! 0-5  2-3  6-9  8-8, asked for 4-7    ->  0-5 2-3 6-9: none is longer than 5, so what began before -1 is over; 8-8 began too late
//! ```

use std::time::Duration;

use crate::timeline::Moment;

/// Things that last, in order of their beginning.
pub(super) struct Lasting<T> {
    all: Vec<T>,
    longest: Duration,
    began: fn(&T) -> Moment,
}

impl<T> Lasting<T> {
    /// All of them, with when each began, and how long it lasted.
    pub(super) fn of(mut all: Vec<T>, began: fn(&T) -> Moment, lasted: impl Fn(&T) -> Duration) -> Self {
        all.sort_by_key(began);
        let longest = all.iter().map(lasted).max().unwrap_or_default();
        Self { all, longest, began }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[T] {
        &self.all
    }

    /// Those that may reach into that time, its edges included; none that does is missing.
    pub(super) fn within(&self, from: Moment, until: Moment) -> &[T] {
        let first = self.all.partition_point(|it| (self.began)(it) + self.longest < from);
        let end = self.all.partition_point(|it| (self.began)(it) <= until).max(first);
        &self.all[first..end]
    }
}

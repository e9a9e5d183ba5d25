//! The ticker: watches us, not the subject. A tick that comes late means that we were paused, starved or blocked, and that
//! whatever a probe did meanwhile was late too. That none came late says something only as long as there were ticks: so it leaves a sign of
//! life as well.
//!
//! ```text
//! ticks at 0.000, 0.020, ... 1.000     ->  ticked at 0.000: lasted 1.000 s, latest 0.001 s
//! the next at 1.020, 1.740, ... 2.001  ->  stall at 1.020: 0.700 s (limit: 0.5 s)
//!                                          ticked at 1.000: lasted 1.001 s, latest 0.700 s
//! dropped at 2.300                     ->  ticked at 2.001: lasted 0.299 s, latest 0.001 s
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use crate::timeline::{Event, Moment, Recorder, Ticked};
use crate::timing;

/// A ticker at work, until dropped. It runs on the probes' own runtime, so it stalls when they do.
pub struct Ticker {
    clock: Arc<Clock>,
    task: AbortOnDropHandle<()>,
}

struct Clock {
    recorder: Recorder,
    /// How late a tick may be without being recorded as a stall.
    limit: Duration,
    span: Mutex<Span>,
}

/// What has passed since the last sign of life.
struct Span {
    began: Moment,
    /// When the last tick came.
    last: Moment,
    /// How late the latest tick was.
    latest: Duration,
}

impl Ticker {
    /// Starts ticking every [`timing::TICK_EVERY`]. A tick late by more than `limit` is recorded, and every [`timing::TICKED_EVERY`] that it
    /// ticked.
    pub fn start(recorder: Recorder, limit: Duration) -> Self {
        let clock = Arc::new(Clock { recorder, limit, span: Mutex::new(Span::from(Moment::now())) });
        let ticking = clock.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(timing::TICK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                ticking.tick(timing::TICKED_EVERY);
            }
        });
        Self { clock, task: AbortOnDropHandle::new(task) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.task.abort();
        // How late the next tick is by now counts, too.
        self.clock.tick(Duration::ZERO);
    }
}

impl Clock {
    /// A tick comes. The span is told of, and the next one begins, if it has lasted for so long.
    fn tick(&self, long: Duration) {
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Moment::now();
        let late = now.since(span.last).saturating_sub(timing::TICK_EVERY);
        if late > self.limit {
            self.recorder.record_at(span.last, Event::Stall(late));
        }
        span.last = now;
        span.latest = span.latest.max(late);
        let lasted = now.since(span.began);
        if lasted >= long {
            self.recorder.record_at(span.began, Event::Ticked(Ticked { lasted, latest: span.latest }));
            *span = Span::from(now);
        }
    }
}

impl From<Moment> for Span {
    fn from(began: Moment) -> Self {
        Self { began, last: began, latest: Duration::ZERO }
    }
}

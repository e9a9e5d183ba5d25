//! The ticker: watches us, not the subject. A tick that comes late means that we were paused, starved or blocked, and that
//! whatever a probe did meanwhile was late too.

use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use crate::timeline::{Event, Moment, Recorder};
use crate::timing;

/// A ticker at work, until dropped. It runs on the probes' own runtime, so it stalls when they do.
pub struct Ticker {
    _task: AbortOnDropHandle<()>,
}

impl Ticker {
    /// Starts ticking every [`timing::TICK_EVERY`]. A tick late by more than `limit` is recorded.
    pub fn start(recorder: Recorder, limit: std::time::Duration) -> Self {
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(timing::TICK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut last = Moment::now();
            loop {
                ticks.tick().await;
                let now = Moment::now();
                let stalled = now.since(last).saturating_sub(timing::TICK_EVERY);
                if stalled > limit {
                    recorder.record_at(last, Event::Stall(stalled));
                }
                last = now;
            }
        });
        Self { _task: AbortOnDropHandle::new(task) }
    }
}

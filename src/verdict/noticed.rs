//! IDLE-4: a change is noticed, however long the watch was idle.
//!
//! Only those rounds put it to the test before which the watch was idle for longer than the balancer allows, and was ended, or opened again, for it.
//!
//! ```text
//! idle for 25 s of 11 s, reset, opened again; changed, noticed after 0.1 s            ->  upheld
//! idle for 25 s of 11 s; changed, not noticed within 10 s                             ->  violated
//! idle for 25 s of 11 s, still open; changed, noticed after 0.1 s                     ->  inconclusive: no timeout was met
//! idle for 5 s of 11 s; changed, noticed                                              ->  inconclusive
//! ```

use super::conclusive::conclude;
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{Call, Event, Moment, Trigger};
use crate::timing::CLOSE_NOTICED;

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let rounds: Vec<_> = facts
        .recording
        .each(|event| match event {
            Event::Trigger(round) => Some(round),
            _ => None,
        })
        .collect();
    let tested: Vec<_> = rounds.iter().filter(|(_, round)| was_idle(round)).collect();
    let missed = rounds.iter().find(|(_, round)| round.failure.is_none() && round.noticed.is_none());
    let found = match missed {
        Some((at, round)) => Verdict::Violated {
            expected: format!("the change to be noticed within {:.3} s", round.patience.as_secs_f64()),
            actual: format!(
                "{} had heard nothing for {:.3} s, and did not notice change {} in that time",
                round.probe,
                round.idle.as_secs_f64(),
                round.change
            ),
            excerpt: excerpt(facts, *at, |event| concerns(round, event)),
        },
        None if tested.is_empty() => {
            Verdict::inconclusive("no change came to a watch that had been idle for longer than the balancer allows")
        }
        None => match tested.iter().find(|(at, round)| !was_replaced(facts, *at, round)) {
            Some((_, round)) => Verdict::inconclusive(format!(
                "the watch was idle for {:.3} s, and not ended: no timeout was met",
                round.idle.as_secs_f64()
            )),
            None => Verdict::Upheld,
        },
    };
    let slowest = rounds.iter().filter_map(|(_, round)| round.noticed).max();
    let mut figures = vec![Figure::count("changes after an idle time", tested.len())];
    figures.extend(slowest.map(|slowest| Figure::seconds("slowest to be noticed", slowest)));
    (conclude(facts, &[], found), figures)
}

/// Whether a connection that was only the watch's has met the balancer's timeout before.
fn was_idle(round: &Trigger) -> bool {
    round.failure.is_none() && round.idle_timeout.is_some_and(|timeout| round.idle > timeout)
}

/// Whether another watch was asked for when the balancer's timeout could have come: not before.
fn was_replaced(facts: &Facts<'_>, at: Moment, round: &Trigger) -> bool {
    let Some(timeout) = round.idle_timeout else { return false };
    let mut calls = facts.recording.each(|event| match event {
        Event::ListWatch(call) if call.probe == round.probe && call.call == Call::Watch => Some(call),
        _ => None,
    });
    let noticed = at + round.took + round.noticed.unwrap_or(round.patience);
    calls.any(|(asked, _)| asked + round.idle + CLOSE_NOTICED > at + timeout && asked < noticed)
}

fn concerns(round: &Trigger, event: &Event) -> bool {
    match event {
        Event::Trigger(other) => other.probe == round.probe,
        Event::ListWatch(call) => call.probe == round.probe,
        Event::WatchEnded(end) => end.probe == round.probe,
        Event::LossOn(_) | Event::LossOff(_) => true,
        _ => false,
    }
}

//! IDLE-4: a change is noticed, however long the watch was idle.
//!
//! Only those rounds put it to the test before which the watch was idle for longer than the balancer allows, and was ended, or opened again, for it.
//!
//! ```text
//! idle for 25 s of 11 s, reset, opened again; changed, noticed after 0.1 s            ->  upheld
//! idle for 25 s of 11 s; changed, not noticed within 10 s                             ->  violated
//! idle for 25 s of 11 s; changed, noticed after 45 s, and it had 10 s                 ->  violated
//! the same, and we did not run for 0.6 s of the 10 s                                  ->  inconclusive
//! idle for 25 s of 11 s, still open; changed, noticed after 0.1 s                     ->  inconclusive: no timeout was met
//! idle for 5 s of 11 s; changed, noticed                                              ->  inconclusive
//! ```

use std::collections::HashMap;
use std::time::Duration;

use super::conclusive::{Rests, conclude_from_records, first_breach, stalled};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{Call, Event, Moment, Trigger};

/// When each probe asked for a watch, in order.
type Asked<'a> = HashMap<&'a str, Vec<Moment>>;

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let rounds = facts.recording.each(|event| if let Event::Trigger(round) = event { Some(round) } else { None });
    let rounds: Vec<_> = rounds.collect();
    let tested: Vec<_> = rounds.iter().filter(|(_, round)| was_idle(round)).collect();
    let missed = rounds.iter().filter(|(_, round)| round.failure.is_none() && too_late(facts, round));
    let missed = missed.map(|(at, round)| {
        let acknowledged = *at + round.took;
        (Rests::OnTime(acknowledged, acknowledged + patience(facts, round)), (*at, *round))
    });
    let found = first_breach(facts, missed, |(at, round)| violated(facts, at, round)).unwrap_or(Verdict::Upheld);
    let found = match found {
        Verdict::Upheld if tested.is_empty() => {
            Verdict::inconclusive("no change came to a watch that had been idle for longer than the balancer allows")
        }
        Verdict::Upheld => {
            let asked = asked(facts);
            let kept = tested.iter().find(|(at, round)| !was_replaced(facts, &asked, *at, round));
            kept.map_or(Verdict::Upheld, |(_, round)| {
                let idle = round.idle.as_secs_f64();
                Verdict::inconclusive(format!("the watch was idle for {idle:.3} s, and not ended: no timeout was met"))
            })
        }
        found => found,
    };
    let slowest = rounds.iter().filter_map(|(_, round)| round.noticed).max();
    let mut figures = vec![Figure::count("changes after an idle time", tested.len())];
    figures.extend(slowest.map(|slowest| Figure::seconds("slowest to be noticed", slowest)));
    // What a stall lies beside, it cannot hide.
    let hidden = || {
        let mut tested = tested.iter().map(|(at, round)| (*at, *at + round.took + round.noticed.unwrap_or_default()));
        tested.find_map(|(from, until)| stalled(facts, from, until))
    };
    let found = match conclude_from_records(facts, &[], found) {
        Verdict::Upheld => hidden().map_or(Verdict::Upheld, Verdict::inconclusive),
        found => found,
    };
    (found, figures)
}

/// How long it has to be noticed: as long as it was waited for, but no longer than the bound.
fn patience(facts: &Facts<'_>, round: &Trigger) -> Duration {
    round.patience.min(facts.bounds.resumed)
}

fn too_late(facts: &Facts<'_>, round: &Trigger) -> bool {
    round.noticed.is_none_or(|after| after > patience(facts, round))
}

fn violated(facts: &Facts<'_>, at: Moment, round: &Trigger) -> Verdict {
    let (probe, change, seconds) = (&round.probe, round.change, |span: Duration| span.as_secs_f64());
    let outcome = match round.noticed {
        None => format!("did not notice change {change} in that time"),
        Some(after) => format!("noticed change {change} after {:.3} s", seconds(after)),
    };
    Verdict::Violated {
        expected: format!("the change to be noticed within {:.3} s", seconds(patience(facts, round))),
        actual: format!("{probe} had heard nothing for {:.3} s, and {outcome}", seconds(round.idle)),
        excerpt: excerpt(facts, at, |event| concerns(round, event)),
    }
}

/// Whether a connection that was only the watch's has met the balancer's timeout before.
fn was_idle(round: &Trigger) -> bool {
    round.failure.is_none() && round.idle_timeout.is_some_and(|timeout| round.idle > timeout)
}

fn asked<'a>(facts: &Facts<'a>) -> Asked<'a> {
    let mut asked = Asked::new();
    let calls = facts.recording.each(|event| match event {
        Event::ListWatch(call) if call.call == Call::Watch => Some(call.probe.as_str()),
        _ => None,
    });
    calls.for_each(|(at, probe)| asked.entry(probe).or_default().push(at));
    asked
}

/// Whether another watch was asked for when the balancer's timeout could have come: not before.
fn was_replaced(facts: &Facts<'_>, asked: &Asked<'_>, at: Moment, round: &Trigger) -> bool {
    let Some(timeout) = round.idle_timeout else { return false };
    let Some(asked) = asked.get(round.probe.as_str()) else { return false };
    let noticed = at + round.took + round.noticed.unwrap_or(round.patience);
    let first = asked.partition_point(|asked| *asked + round.idle + facts.bounds.close_noticed <= at + timeout);
    asked.get(first).is_some_and(|asked| *asked < noticed)
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

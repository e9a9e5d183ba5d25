//! IDLE-3: a watch that was ended while idle goes on.
//!
//! ```text
//! watch reset at 30.0 s, another from revision 812 answered at 30.1 s       ->  upheld
//! watch reset at 30.0 s, another answered at 45.0 s, bound 10 s             ->  violated
//! watch reset at 30.0 s, then a list                                        ->  violated
//! no watch was cut                                                          ->  inconclusive
//! ```

use super::conclusive::conclude;
use super::excerpt::{describe, excerpt};
use super::facts::Facts;
use super::watches::{Watch, concerns};
use super::{Figure, Verdict};
use crate::timeline::{Call, Event, Moment, Observation};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let ends: Vec<_> = facts.watches.iter().flat_map(|watch| ends(watch).map(move |end| (watch, end))).collect();
    let found = Verdict::worst(ends.iter().map(|(watch, end)| claim(facts, watch, end)));
    let found = found.unwrap_or_else(|| Verdict::inconclusive("no watch was cut, so none had to resume"));
    let took = ends.iter().filter_map(|(watch, end)| Some(resumed(watch, end)?.0.since(end.at)));
    let mut figures = vec![Figure::count("watches cut", ends.len())];
    figures.extend(took.max().map(|took| Figure::seconds("longest until resumed", took)));
    (conclude(facts, &[], found), figures)
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>, end: &Observation) -> Verdict {
    let bound = facts.bounds.resumed;
    let began = facts.recording.header.began_at;
    let relisted = after(watch, end).find(|seen| match &seen.event {
        Event::ListWatch(call) => call.call == Call::List || call.from.is_none(),
        _ => false,
    });
    let resumed = resumed(watch, end);
    let actual = match (relisted, resumed) {
        (Some(list), Some((answered, _))) if list.at <= answered => describe(began, list),
        (Some(list), None) => describe(began, list),
        (_, Some((answered, _))) if answered.since(end.at) <= bound => return Verdict::Upheld,
        (_, Some((answered, _))) => {
            format!("{} was open again after {:.3} s", watch.probe, answered.since(end.at).as_secs_f64())
        }
        (None, None) if facts.end.since(end.at) <= bound => {
            return Verdict::inconclusive(format!("the recording ends soon after {} was cut", watch.probe));
        }
        (None, None) => format!("{} was never open again", watch.probe),
    };
    Verdict::Violated {
        expected: format!("another watch, from the last known revision, within {:.3} s", bound.as_secs_f64()),
        actual,
        excerpt: excerpt(facts, end.at, concerns(watch, "")),
    }
}

/// Each end of the watch that came as an error: a clean one is a server's doing.
fn ends<'a>(watch: &Watch<'a>) -> impl Iterator<Item = &'a Observation> {
    watch.story.iter().copied().filter(|seen| match &seen.event {
        Event::WatchEnded(end) => end.failure.is_some(),
        _ => false,
    })
}

fn after<'a>(watch: &Watch<'a>, end: &Observation) -> impl Iterator<Item = &'a Observation> {
    watch.story.iter().copied().filter(|seen| seen.at > end.at)
}

/// When the next watch was answered, and from which revision.
fn resumed(watch: &Watch<'_>, end: &Observation) -> Option<(Moment, Option<u64>)> {
    after(watch, end).find_map(|seen| match &seen.event {
        Event::ListWatch(call) if call.call == Call::Watch && call.answer == Ok(200) => {
            Some((seen.at + call.took, call.from))
        }
        _ => None,
    })
}

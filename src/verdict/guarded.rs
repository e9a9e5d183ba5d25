//! ROLLOUT-15: of two writers with optimistic locking, no acknowledged update is lost.
//!
//! They share a counter that begins at 0. Each reads it, and writes one more in the place of the revision that it has read. So the
//! acknowledged updates, in order of their revisions, are a chain in which each replaces the one before; where a link is missing, an update
//! whose answer was lost has to be it.
//!
//! ```text
//! 1 at revision 11 for 10, 2 at 12 for 11, at last 2                       ->  upheld
//! 1 at 11 for 10, 2 lost for 11, 3 at 13 for 12, at last 3                 ->  upheld: the lost one took effect
//! 1 at 11 for 10, 409 for 10, 2 at 12 for 11                               ->  upheld: 409 is no failure
//! 1 at 11 for 10, 1 at 12 for 10                                           ->  violated: both replaced 10
//! 1 at 11 for 10, 3 at 12 for 11                                           ->  violated: it had read 1
//! 1 at 11 for 10, 2 at 12 for 11, at last 1                                ->  violated: the second is lost
//! 1 at 11 for 10, 409 for 11, 3 at 13 for 12                               ->  violated: what was refused took effect
//! 1 at 11 for 10, 2 at 12 for 11, nobody looked at last                    ->  inconclusive
//! one writer only, or none for 3 s of a restart                            ->  inconclusive
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::conclusive::{Traffic, conclude_from_records};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::read_your_writes::gap;
use super::{Figure, Verdict};
use crate::timeline::{Effect, Event, GuardedLeft, GuardedUpdate, Moment};

type Update<'a> = (Moment, &'a GuardedUpdate);

/// One counter.
#[derive(Default)]
struct Counter<'a> {
    /// In order of their beginning.
    updates: Vec<Update<'a>>,
    /// What it was at last, and when that was looked at.
    left: Option<(Moment, &'a GuardedLeft)>,
}

/// What contradicts optimistic locking.
struct Broken {
    at: Moment,
    what: String,
}

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut counters: BTreeMap<&str, Counter<'_>> = BTreeMap::new();
    for seen in &facts.recording.observations {
        match &seen.event {
            Event::GuardedUpdate(update) => {
                counters.entry(&update.object).or_default().updates.push((seen.at, update));
            }
            Event::GuardedLeft(left) => counters.entry(&left.object).or_default().left = Some((seen.at, left)),
            _ => {}
        }
    }
    let figures = figures(&counters);
    if counters.is_empty() {
        return (Verdict::inconclusive("no updates with optimistic locking are in the recording"), figures);
    }
    let verdicts = counters.iter().map(|(object, counter)| claim(facts, object, counter));
    (Verdict::worst(verdicts).unwrap_or(Verdict::Upheld), figures)
}

fn claim(facts: &Facts<'_>, object: &str, counter: &Counter<'_>) -> Verdict {
    let acknowledged = || counter.updates.iter().filter(|(_, update)| update.exchange.effect() == Effect::Certain);
    if let Some(Broken { at, what }) = broken(counter) {
        return Verdict::Violated {
            expected: "each acknowledged update to replace the one before it, and none to be lost".to_owned(),
            actual: format!("{object}: {what}"),
            excerpt: excerpt(facts, at, |event| match event {
                Event::GuardedUpdate(update) => update.object == object,
                Event::GuardedLeft(left) => left.object == object,
                Event::Lifecycle(_) => true,
                _ => false,
            }),
        };
    }
    let Some((looked, _)) = counter.left else {
        return Verdict::inconclusive(format!("nobody looked at what {object} was at last"));
    };
    if counter.updates.iter().any(|(at, update)| *at + update.exchange.took > looked) {
        return Verdict::inconclusive(format!("{object} was looked at before its writers had ended"));
    }
    if acknowledged().any(|(_, update)| update.revision.is_none()) {
        return Verdict::inconclusive(format!("an acknowledged update of {object} has no revision"));
    }
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    acknowledged().for_each(|(_, update)| *counts.entry(&update.probe).or_default() += 1);
    let wrote = counts.values().filter(|count| **count >= facts.bounds.samples).count();
    if wrote < 2 {
        let least = facts.bounds.samples;
        return Verdict::inconclusive(format!(
            "{wrote} writers of {object} have at least {least} acknowledged updates; 2 are needed"
        ));
    }
    // Each by itself: one that rests loses nothing.
    let traffic = counts.keys().map(|probe| {
        let its = counter.updates.iter().filter(|(_, update)| update.probe == *probe && !lost(update));
        let samples = its.map(|(at, update)| (*at, update.exchange.took, update.exchange.effect() == Effect::Certain));
        Traffic::of(facts, format!("the writer {probe} of {object}"), gap(facts), samples).steady()
    });
    let traffic: Vec<_> = traffic.collect();
    conclude_from_records(facts, &traffic.iter().collect::<Vec<_>>(), Verdict::Upheld)
}

/// Whether an update was not answered at all: it shows nothing.
fn lost(update: &GuardedUpdate) -> bool {
    update.exchange.status.is_none()
}

/// Walks the chain of acknowledged updates, from 0 to what the counter was at last.
fn broken(counter: &Counter<'_>) -> Option<Broken> {
    let mut doubtful = Doubtful::of(&counter.updates);
    let mut chain: Vec<(u64, Moment, &GuardedUpdate)> = Vec::new();
    for (at, update) in &counter.updates {
        if let (Effect::Certain, Some(revision)) = (update.exchange.effect(), update.revision) {
            chain.push((revision, *at, update));
        }
    }
    chain.sort_by_key(|(revision, at, _)| (*revision, *at));
    let (mut revision, mut count) = (None, 0_u64);
    for (at_revision, at, update) in &chain {
        let GuardedUpdate { probe, replaces, count: wrote, .. } = update;
        let wrong = match revision {
            Some(before) if before == *at_revision => Some(format!("was acknowledged at revision {before} twice")),
            Some(before) if *replaces < before => Some(format!(
                "took the place of revision {replaces}, which revision {before} had taken: that update is lost"
            )),
            _ if replaces >= at_revision => Some(format!("took the place of revision {replaces}, which came later")),
            Some(before) if *replaces == before && *wrote != count.saturating_add(1) => {
                Some(format!("was {count} at revision {before}, which was replaced by {wrote}"))
            }
            Some(before) if *replaces > before && *wrote < count.saturating_add(2) => Some(format!(
                "took the place of revision {replaces}, which no update explains, after {count} at revision {before}"
            )),
            // A writer that begins with a later revision has read what an update without an answer wrote.
            _ => doubtful.explain(count, wrote.saturating_sub(1)).map(|what| format!("had read {what}")),
        };
        if let Some(what) = wrong {
            return Some(Broken { at: *at, what: format!("{what} ({probe} at revision {at_revision})") });
        }
        (revision, count) = (Some(*at_revision), *wrote);
    }
    let (at, left) = counter.left?;
    let wrong = match revision {
        Some(last) if left.revision < last => {
            Some(format!("is at revision {} at last, and an update at revision {last} was acknowledged", left.revision))
        }
        Some(last) if left.revision == last && left.count != count => {
            Some(format!("is {} at revision {last} at last, and {count} was written there", left.count))
        }
        Some(last) if left.revision > last && left.count == count => {
            Some(format!("is at revision {} at last, which no update explains, after {last}", left.revision))
        }
        _ => doubtful.explain(count, left.count).map(|what| format!("is at last {what}")),
    };
    wrong.map(|what| Broken { at, what })
}

/// Updates whose answers were lost, and those that were refused, by the count that they were to write.
struct Doubtful {
    lost: HashMap<u64, usize>,
    refused: BTreeSet<u64>,
}

impl Doubtful {
    fn of(updates: &[Update<'_>]) -> Self {
        let mut doubtful = Self { lost: HashMap::new(), refused: BTreeSet::new() };
        for (_, update) in updates {
            match update.exchange.effect() {
                Effect::Maybe => *doubtful.lost.entry(update.count).or_default() += 1,
                Effect::Never => drop(doubtful.refused.insert(update.count)),
                // Its revision is not known, so it is in no chain.
                Effect::Certain if update.revision.is_none() => *doubtful.lost.entry(update.count).or_default() += 1,
                Effect::Certain => {}
            }
        }
        doubtful
    }

    /// Whether updates without an answer can have brought the counter from one count to another: what is wrong if not. Each does so once.
    fn explain(&mut self, from: u64, to: u64) -> Option<String> {
        if to < from {
            return Some(format!("{to} after it had been {from}: acknowledged updates are lost"));
        }
        for count in from.saturating_add(1)..=to {
            match self.lost.get_mut(&count).filter(|left| **left > 0) {
                Some(left) => *left -= 1,
                None if self.refused.contains(&count) => {
                    return Some(format!(
                        "{count}, which nobody was told to have written: what was refused took effect"
                    ));
                }
                None => return Some(format!("{count}, which nobody wrote")),
            }
        }
        None
    }
}

fn figures(counters: &BTreeMap<&str, Counter<'_>>) -> Vec<Figure> {
    let updates = || counters.values().flat_map(|counter| &counter.updates).map(|(_, update)| update);
    let with = |effect| updates().filter(|update| update.exchange.effect() == effect).count();
    vec![
        Figure::count("acknowledged updates", with(Effect::Certain)),
        Figure::count("conflicts", updates().filter(|update| update.exchange.status == Some(409)).count()),
        Figure::count("updates without an answer", with(Effect::Maybe)),
    ]
}

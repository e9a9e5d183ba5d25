//! WATCH-5: what a watch delivers is what was written.
//!
//! ```text
//! wrote 1 2            | saw 1 2                              ->  upheld
//! wrote 1 2            | saw 1 2 7                            ->  violated: no write explains change 7
//! wrote 1 never 2      | saw 1 2                              ->  violated: 2 was refused, and seen all the same
//! wrote 1 2            | saw 1, change 2 at revision 9        ->  violated: it was written at revision 2
//! wrote 1 after it     | saw 1                                ->  violated: it was seen before it was begun
//! wrote 1 -2 b3        | saw 1, DELETED at revision 3         ->  violated: revision 3 is that of change 3
//! wrote 1 maybe 2 3 -4 | saw 1 3, DELETED with change 2       ->  upheld: 2 may have taken effect after 3
//! wrote 1 2 3          | saw 1, relist of change 1 at 3       ->  violated: the list is not the state at 3
//! ```

use super::excerpt::{excerpt, kind, verb};
use super::facts::{Facts, Writes};
use super::relisted::Relists;
use super::watches::{Watch, concerns, each_watch, figures};
use super::{Figure, Verdict};
use crate::timeline::{ChangeKind, Delivered, Effect, Event, Moment, Verb, Write};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    (each_watch(facts, |watch| claim(facts, watch)), figures(facts))
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let (mut seen_so_far, mut relists) = (Seen::default(), Relists::of(watch, &facts.writes));
    for (place, seen) in watch.story.iter().enumerate() {
        let event = match &seen.event {
            Event::Delivered(event) => {
                let why = match watch.shows_state(place) {
                    true => wrong_initial(watch, &facts.writes, place, seen.at, event),
                    false => unexplained(watch, &facts.writes, &seen_so_far, seen.at, event),
                };
                seen_so_far.note(event, &facts.writes);
                why.map(|why| (event.object.as_str(), format!("{}: {why}", what(event))))
            }
            _ => None,
        };
        let list = watch.lists.at(place).filter(|_| event.is_none());
        if let Some((object, why)) = event.or_else(|| list.and_then(|list| relists.wrong(list))) {
            return Verdict::Violated {
                expected: "nothing but what was written, as it was written".to_owned(),
                actual: format!("{why} (seen at {}; {})", facts.clock(seen.at), watch.probe),
                excerpt: excerpt(facts, seen.at, concerns(watch, object)),
            };
        }
    }
    Verdict::Upheld
}

/// When changes took effect whose answers were lost, as far as events have told.
#[derive(Default)]
pub(super) struct Seen<'a>(std::collections::HashMap<&'a str, (u64, u64)>);

impl<'a> Seen<'a> {
    fn note(&mut self, event: &'a Delivered, writes: &Writes<'_>) {
        let doubtful = writes
            .of(&event.object, event.change)
            .is_some_and(|(_, write)| write.effect() == Effect::Maybe && event.kind != ChangeKind::Deleted);
        if doubtful {
            let last = self.0.entry(&event.object).or_default();
            *last = (*last).max((event.revision, event.change));
        }
    }

    /// Why a change is not the last one of its object, whose other changes are these (revision, change), if so.
    fn outdated(&self, object: &str, change: u64, doubtful: bool, versions: &[(u64, u64)]) -> Option<u64> {
        let told = self.0.get(object).copied();
        let last = versions.last().copied().max(told)?;
        // One of which no event has told may have taken effect at any time.
        let at_any_time = doubtful && told.is_none_or(|(_, told)| told != change);
        (last.1 != change && !at_any_time).then_some(last.1)
    }
}

/// What an event says, in a few words.
fn what(event: &Delivered) -> String {
    let Delivered { object, revision, change, .. } = event;
    format!("{} {object} at revision {revision}, change {change}", kind(event.kind))
}

/// What is wrong with an event, if anything.
fn unexplained(
    watch: &Watch<'_>,
    writes: &Writes<'_>,
    seen: &Seen<'_>,
    at: Moment,
    event: &Delivered,
) -> Option<String> {
    let Delivered { object, change, .. } = event;
    if event.kind == ChangeKind::Deleted {
        let Some((begun, delete)) = writes.delete_of(object) else { return Some("nobody deleted it".to_owned()) };
        if delete.effect() == Effect::Never {
            return Some("its delete was refused".to_owned());
        }
        return too_early(at, begun)
            .or_else(|| last_state(watch, writes, seen, event))
            .or_else(|| wrong_revision(writes, event, delete, begun, at));
    }
    let Some((begun, write)) = writes.of(object, *change) else {
        return (!was_there(watch, object, *change)).then(|| "no write explains it".to_owned());
    };
    let fits = match event.kind {
        ChangeKind::Added => write.verb == Verb::Create,
        ChangeKind::Modified => write.verb == Verb::Update,
        ChangeKind::Applied | ChangeKind::Deleted => write.verb != Verb::Delete,
    };
    if write.effect() == Effect::Never {
        Some("it was refused, and seen all the same".to_owned())
    } else if !fits {
        Some(format!("that change was a {}", verb(write.verb)))
    } else {
        too_early(at, begun).or_else(|| wrong_revision(writes, event, write, begun, at))
    }
}

/// What is wrong with an event that shows the state, if anything: it may come with a later change than its object's first. What it may lack is
/// told by the list that it becomes a part of.
fn wrong_initial(
    watch: &Watch<'_>,
    writes: &Writes<'_>,
    place: usize,
    at: Moment,
    event: &Delivered,
) -> Option<String> {
    if event.kind == ChangeKind::Deleted {
        return None;
    }
    let Some((begun, write)) = writes.of(&event.object, event.change) else {
        // Nobody knows what was there before the first state was shown.
        let known = watch.lists.first().is_some_and(|list| list.place < place);
        return (known && !was_there(watch, &event.object, event.change)).then(|| "no write explains it".to_owned());
    };
    match write.effect() {
        Effect::Never => Some("it was refused, and seen all the same".to_owned()),
        _ => too_early(at, begun).or_else(|| wrong_revision(writes, event, write, begun, at)),
    }
}

fn too_early(at: Moment, begun: Moment) -> Option<String> {
    (at < begun).then(|| format!("its write was begun {:.3} s later", begun.since(at).as_secs_f64()))
}

/// What is wrong with an event's revision, if anything: it is that of its write; where the answer gave none, nobody else's, and it lies between
/// what had been acknowledged before that write and what was begun after it.
fn wrong_revision(writes: &Writes<'_>, event: &Delivered, write: &Write, begun: Moment, at: Moment) -> Option<String> {
    let revision = event.revision;
    if let Some(written) = write.revision {
        return (written != revision).then(|| format!("it was written at revision {written}"));
    }
    if let Some(other) = writes.history.written(revision) {
        return Some(format!("that is the revision of change {} of {}", other.change, other.object));
    }
    let before = match write.verb {
        Verb::Delete => writes.history.floor(writes, &write.object, begun).saturating_sub(1),
        Verb::Create | Verb::Update => writes.history.acknowledged_by(begun),
    };
    if revision <= before {
        return Some(format!("revision {before} had been acknowledged before that was begun"));
    }
    // A write whose answer was lost may take effect at any time, but before its event.
    let done = if write.effect() == Effect::Certain { begun + write.exchange.took } else { at };
    let later = writes.history.begun_after(done).filter(|later| *later < revision)?;
    Some(format!("revision {later} was begun after that"))
}

/// What is wrong with the state that a DELETED event carries, if anything: it is the last one before the delete.
fn last_state(watch: &Watch<'_>, writes: &Writes<'_>, seen: &Seen<'_>, event: &Delivered) -> Option<String> {
    let (object, change) = (&event.object, event.change);
    let written = writes.of(object, change).filter(|(_, write)| write.effect() != Effect::Never);
    if written.is_none() && !was_there(watch, object, change) {
        return Some("no write explains the state it carries".to_owned());
    }
    let doubtful = written.is_some_and(|(_, write)| write.effect() == Effect::Maybe);
    let versions = writes.versions.get(object.as_str()).map_or(&[][..], Vec::as_slice);
    let last = seen.outdated(object, change, doubtful, versions)?;
    Some(format!("the last change before was {last}"))
}

/// Whether the watch's first list showed this: it was there before.
pub(super) fn was_there(watch: &Watch<'_>, object: &str, change: u64) -> bool {
    watch.lists.first().is_some_and(|list| list.objects.get(object) == Some(&change))
}

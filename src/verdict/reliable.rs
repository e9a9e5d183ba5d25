//! WATCH-5: what a watch delivers is what was written.
//!
//! ```text
//! wrote 1 2         | saw 1 2                     ->  upheld
//! wrote 1 2         | saw 1 2 7                   ->  violated: no write explains change 7
//! wrote 1 never 2   | saw 1 2                     ->  violated: 2 was refused, and seen all the same
//! wrote 1 2         | saw 1, change 2 at revision 9  ->  violated: it was written at revision 2
//! wrote 1 2 3       | saw 1, relist of change 1 at revision 3  ->  violated: the list is not the state at 3
//! ```

use super::excerpt::{excerpt, kind};
use super::facts::{Facts, Writes};
use super::watches::{Watch, concerns, each_watch, figures, state};
use super::{Figure, Verdict};
use crate::timeline::{ChangeKind, Delivered, Effect, Event, Listed, Moment, Verb};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    (each_watch(facts, |watch| claim(facts, watch)), figures(facts))
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    for seen in &watch.story {
        let breach = match &seen.event {
            Event::Delivered(event) => unexplained(watch, &facts.writes, event).map(|why| (event.object.as_str(), why)),
            Event::Listed(list) => wrong_state(watch, &facts.writes, seen.at, list),
            _ => None,
        };
        if let Some((object, why)) = breach {
            return Verdict::Violated {
                expected: "nothing but what was written, as it was written".to_owned(),
                actual: format!("{why} (seen at {}; {})", facts.clock(seen.at), watch.probe),
                excerpt: excerpt(facts, seen.at, concerns(watch, object)),
            };
        }
    }
    Verdict::Upheld
}

/// What is wrong with an event, if anything.
fn unexplained(watch: &Watch<'_>, writes: &Writes<'_>, event: &Delivered) -> Option<String> {
    let Delivered { object, revision, change, .. } = event;
    let what = format!("{} {object} at revision {revision}, change {change}", kind(event.kind));
    if event.kind == ChangeKind::Deleted {
        return match writes.delete_of(object) {
            None => Some(format!("{what}: nobody deleted it")),
            Some((_, delete)) if delete.effect() == Effect::Never => Some(format!("{what}: its delete was refused")),
            Some(_) => last_state(watch, writes, event).map(|why| format!("{what}: {why}")),
        };
    }
    let Some(write) = writes.of(object, *change) else {
        return (!was_there(watch, object, *change)).then(|| format!("{what}: no write explains it"));
    };
    let fits = match event.kind {
        ChangeKind::Added => write.verb == Verb::Create,
        ChangeKind::Modified => write.verb == Verb::Update,
        ChangeKind::Applied | ChangeKind::Deleted => write.verb != Verb::Delete,
    };
    if write.effect() == Effect::Never {
        Some(format!("{what}: it was refused, and seen all the same"))
    } else if !fits {
        Some(format!("{what}: that change was a {}", super::excerpt::verb(write.verb)))
    } else {
        let written = write.revision.filter(|written| written != revision)?;
        Some(format!("{what}: it was written at revision {written}"))
    }
}

/// What is wrong with the state that a DELETED event carries, if anything: it is the last one before the delete.
fn last_state(watch: &Watch<'_>, writes: &Writes<'_>, event: &Delivered) -> Option<String> {
    let (object, change) = (&event.object, event.change);
    let written = writes.of(object, change).is_some_and(|write| write.effect() != Effect::Never);
    if !written && !was_there(watch, object, change) {
        return Some("no write explains the state it carries".to_owned());
    }
    let versions = writes.versions.get(object.as_str())?;
    let (_, last) = versions.last()?;
    (change < *last).then(|| format!("the last change before was {last}"))
}

/// What is wrong with a list, if anything: it shows what was never written, what came after its revision, or misses
/// what was there at its revision.
fn wrong_state<'b>(watch: &Watch<'b>, writes: &Writes<'b>, at: Moment, list: &'b Listed) -> Option<(&'b str, String)> {
    for (object, change) in &list.objects {
        let what = format!("a list shows {object} at change {change}");
        let why =
            match writes.of(object, *change) {
                None if was_there(watch, object, *change) => None,
                // Without a list to begin with, nobody knows what was there before.
                None if watch.first_list.is_none() && !writes.versions.contains_key(object.as_str()) => None,
                None => Some(format!("{what}: no write explains it")),
                Some(write) if write.effect() == Effect::Never => Some(format!("{what}: it was refused")),
                Some(write) => write.revision.zip(list.revision).filter(|(written, listed)| written > listed).map(
                    |(written, listed)| format!("{what} at revision {listed}: it was written at revision {written}"),
                ),
            };
        if let Some(why) = why {
            return Some((object, why));
        }
    }

    let revision = list.revision?;
    let shown = state(list);
    let stale = |object: &str, versions: &[(u64, u64)]| {
        let (_, due) = versions[..versions.partition_point(|(written, _)| *written <= revision)].last()?;
        let gone =
            writes.delete_of(object).is_some_and(|(began, delete)| began <= at && delete.effect() != Effect::Never);
        match shown.get(object) {
            Some(change) if change >= due => None,
            None if gone => None,
            Some(change) => Some(format!("a list at revision {revision} shows {object} at change {change}, not {due}")),
            None => Some(format!("a list at revision {revision} does not show {object}, change {due}")),
        }
    };
    // The table has no order of its own: of several objects, name the same one each time.
    let broken = writes.versions.iter().filter_map(|(object, versions)| Some((*object, stale(object, versions)?)));
    broken.min_by_key(|(object, _)| *object)
}

/// Whether the watch's first list showed this: it was there before.
fn was_there(watch: &Watch<'_>, object: &str, change: u64) -> bool {
    watch.first_list.as_ref().is_some_and(|list| list.get(object) == Some(&change))
}

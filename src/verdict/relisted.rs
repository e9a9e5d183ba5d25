//! What is wrong with the whole states that a watch's client was shown: a part of WATCH-5.
//!
//! A state that says its revision is the state at that revision, no more and no less. One that does not, and was asked for without a revision,
//! has at least what had been acknowledged before, and what its client had seen.
//!
//! ```text
//! wrote 1 b2 -b3 4 | list at 4: x at change 4       ->  right
//!                  | list at 4: x at change 1       ->  wrong: x is at change 4
//!                  | list at 4: empty               ->  wrong: x is not there
//!                  | list at 4: x at 4, b at 2      ->  wrong: b was deleted before the list was asked for
//!                  | list at 1: x at change 4       ->  wrong: that was written at revision 4
//! ```

use std::collections::HashMap;

use super::facts::Writes;
use super::lists::Shown;
use super::reliable::was_there;
use super::watches::Watch;
use crate::timeline::{ChangeKind, Effect, Moment};

/// The states of a watch, looked at in order.
pub(super) struct Relists<'r, 'a> {
    watch: &'r Watch<'a>,
    writes: &'r Writes<'a>,
    there: There<'a>,
    /// Of each object that the watch was told is deleted: the place in its story, and the revision.
    told: HashMap<&'a str, (usize, u64)>,
}

impl<'r, 'a> Relists<'r, 'a> {
    pub(super) fn of(watch: &'r Watch<'a>, writes: &'r Writes<'a>) -> Self {
        let mut told = HashMap::new();
        // Without a list there is nothing to compare with what.
        if !watch.lists.all.is_empty() {
            for (place, _, event) in watch.events() {
                if event.kind == ChangeKind::Deleted {
                    told.entry(event.object.as_str()).or_insert((place, event.revision));
                }
            }
        }
        Self { watch, writes, there: There::of(watch, writes), told }
    }

    /// What is wrong with a state, if anything, and with which object. They are to be asked about in order.
    pub(super) fn wrong(&mut self, list: &Shown<'a>) -> Option<(&'a str, String)> {
        let mut shown: Vec<_> = list.objects.iter().collect();
        shown.sort_unstable();
        let wrong = shown.iter().find_map(|(object, change)| {
            let why = self.not_then(list, object, **change).or_else(|| self.back_again(list, object));
            Some((**object, format!("{} shows {object} at change {change}: {}", name(list), why?)))
        });
        wrong.or_else(|| self.lacking(list))
    }

    /// Why an object was not like that, if so.
    fn not_then(&self, list: &Shown<'_>, object: &str, change: u64) -> Option<String> {
        let Some((begun, write)) = self.writes.of(object, change) else {
            // Without a list to begin with, nobody knows what was there before.
            let before = self.watch.lists.first().is_none() && !self.writes.versions.contains_key(object);
            return (!before && !was_there(self.watch, object, change)).then(|| "no write explains it".to_owned());
        };
        if write.effect() == Effect::Never {
            return Some("it was refused".to_owned());
        }
        if list.at < begun {
            return Some(format!("its write was begun {:.3} s later", begun.since(list.at).as_secs_f64()));
        }
        let later = write.revision.zip(list.revision).filter(|(written, listed)| written > listed);
        if let Some((written, _)) = later {
            return Some(format!("that was written at revision {written}"));
        }
        let (due_at, due) = self.writes.version_at(object, list.no_older_than(self.writes))?;
        // One whose answer was lost may have taken effect after later ones.
        let outdated =
            write.effect() == Effect::Certain && write.revision.map_or(change < due, |written| written < due_at);
        outdated.then(|| format!("it was at change {due} by then"))
    }

    /// Why an object that is shown had certainly been deleted, if so.
    fn back_again(&self, list: &Shown<'_>, object: &str) -> Option<String> {
        let told = self.told.get(object).copied().filter(|(place, _)| *place < list.place);
        let told_then = told.filter(|(_, revision)| list.revision.is_some_and(|listed| listed >= *revision));
        if let Some((_, revision)) = told_then {
            return Some(format!("it was deleted at revision {revision}"));
        }
        // What is not the most recent state may be from before.
        let newest = list.asked.is_none_or(|asked| asked.newest);
        if let Some((place, _)) = told.filter(|_| newest) {
            let at = self.watch.story.get(place).map(|seen| seen.at)?;
            let asked_before = list.asked.is_some_and(|asked| asked.at < at);
            if !asked_before {
                return Some("its client had been told that it was deleted".to_owned());
            }
        }
        let (_, acknowledged) = self.writes.history.deleted(object)?;
        let asked_later = newest && list.asked.is_some_and(|asked| asked.at >= acknowledged);
        let later = self.writes.history.begun_after(acknowledged);
        let listed_later = list.revision.zip(later).is_some_and(|(listed, later)| listed >= later);
        (asked_later || listed_later).then(|| "its delete had been acknowledged before".to_owned())
    }

    /// The first object that a state lacks, if any.
    fn lacking(&mut self, list: &Shown<'a>) -> Option<(&'a str, String)> {
        let no_older_than = list.no_older_than(self.writes);
        let due = self.there.at(no_older_than, list.at);
        let shown = list.objects.keys().filter(|object| self.there.has(object, no_older_than)).count();
        if shown >= due {
            return None;
        }
        let missing = self.there.all(no_older_than).filter(|object| !list.objects.contains_key(object)).min()?;
        let before = || self.watch.lists.first().and_then(|list| list.objects.get(missing).copied());
        let written = self.writes.version_at(missing, no_older_than).map(|(_, change)| change);
        let change = written.or_else(before).unwrap_or(0);
        Some((missing, format!("{} does not show {missing}, change {change}", name(list))))
    }
}

fn name(list: &Shown<'_>) -> String {
    list.revision.map_or("a list without a revision".to_owned(), |revision| format!("a list at revision {revision}"))
}

/// Which objects are there at which revision: how many is known without looking at each (Fenwick's tree), so that a long recording with many lists
/// takes no longer than it has to.
struct There<'a> {
    /// Objects by the first revision that is known of them.
    objects: Vec<(u64, &'a str)>,
    /// Deletes that may have taken effect, by their beginning, latest first: when, and which place among the objects.
    deletes: Vec<(Moment, usize)>,
    /// Which are not known to be deleted.
    standing: Vec<bool>,
    /// Partial sums of those.
    sums: Vec<usize>,
    places: HashMap<&'a str, usize>,
}

impl<'a> There<'a> {
    fn of(watch: &Watch<'a>, writes: &Writes<'a>) -> Self {
        let mut objects = Vec::new();
        if !watch.lists.all.is_empty() {
            objects
                .extend(writes.versions.iter().filter_map(|(object, versions)| Some((versions.first()?.0, *object))));
        }
        // What was there before anybody wrote is there until somebody deletes it.
        let first = watch.lists.first().into_iter().flat_map(|list| list.objects.keys());
        objects.extend(first.filter(|object| !writes.versions.contains_key(*object)).map(|object| (0, *object)));
        objects.sort_unstable();
        let places: HashMap<_, _> = objects.iter().enumerate().map(|(place, (_, object))| (*object, place)).collect();
        let begun = |object: &str| {
            let (begun, delete) = writes.delete_of(object)?;
            (delete.effect() != Effect::Never).then_some(begun)
        };
        let deletes = objects.iter().enumerate().filter_map(|(place, (_, object))| Some((begun(object)?, place)));
        let mut deletes: Vec<_> = deletes.collect();
        deletes.sort_unstable_by(|one, other| other.cmp(one));
        let count = objects.len();
        let sums = (0..=count).map(|end| end & end.wrapping_neg()).collect();
        Self { objects, deletes, standing: vec![true; count], sums, places }
    }

    /// How many are there at a revision, as nobody had begun to delete them by then. Moments are asked for in order.
    fn at(&mut self, revision: u64, at: Moment) -> usize {
        while let Some((_, place)) = self.deletes.pop_if(|(begun, _)| *begun <= at) {
            self.standing[place] = false;
            let mut end = place + 1;
            while end < self.sums.len() {
                self.sums[end] -= 1;
                end += end & end.wrapping_neg();
            }
        }
        let (mut end, mut count) = (self.objects.partition_point(|(first, _)| *first <= revision), 0);
        while end > 0 {
            count += self.sums[end];
            end &= end - 1;
        }
        count
    }

    /// Whether an object is among these.
    fn has(&self, object: &str, revision: u64) -> bool {
        self.places.get(object).is_some_and(|place| self.standing[*place] && self.objects[*place].0 <= revision)
    }

    /// These.
    fn all(&self, revision: u64) -> impl Iterator<Item = &'a str> {
        let until = self.objects.partition_point(|(first, _)| *first <= revision);
        let standing = self.objects[..until].iter().enumerate().filter(|(place, _)| self.standing[*place]);
        standing.map(|(_, (_, object))| *object)
    }
}

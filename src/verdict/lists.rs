//! Whole states that a watch's client was shown, in a list or in initial events, and which changes they stand for.
//!
//! ```text
//! list at 7 shows x at change 5                  ->  stands for changes 1 to 5 of x
//! list at 7 does not show x, deleted before it   ->  stands for all changes of x, its delete included
//! list without a revision, then a watch from 7   ->  it was at 7: a client library that keeps a list's revision to itself goes on from it
//! ```

use std::collections::HashMap;

use super::facts::Writes;
use crate::timeline::{Effect, ListWatch, Moment, Write};

/// How a whole state was asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) at: Moment,
    /// Without a revision: then it is the most recent state.
    pub(super) newest: bool,
    /// With revision 0: then it is any state.
    pub(super) any: bool,
    /// The greatest revision that the client had seen by then.
    pub(super) known: u64,
}

impl Asked {
    pub(super) fn by(call: &ListWatch, at: Moment, known: u64) -> Self {
        Self { at, newest: call.from.is_none() && !call.any, any: call.any, known }
    }
}

/// A whole state, as it was shown.
pub(super) struct Shown<'a> {
    /// Its place in the watch's story.
    pub(super) place: usize,
    pub(super) at: Moment,
    /// How it was asked for, where that was seen.
    pub(super) asked: Option<Asked>,
    /// Its revision: as it says itself, or as the next watch tells.
    pub(super) revision: Option<u64>,
    /// The greatest revision that the client had seen before.
    pub(super) known: u64,
    pub(super) objects: HashMap<&'a str, u64>,
}

impl Shown<'_> {
    /// A revision whose changes it has to show, if it does not say its own: what its client had seen; and what had been acknowledged, where the most
    /// recent state was asked for.
    pub(super) fn no_older_than(&self, writes: &Writes<'_>) -> u64 {
        let due = || match self.asked {
            None => self.known,
            Some(asked) if asked.any => 0,
            Some(asked) if asked.newest => asked.known.max(writes.history.acknowledged_by(asked.at)),
            Some(asked) => asked.known,
        };
        self.revision.unwrap_or_else(due)
    }
}

/// All of them, in order.
#[derive(Default)]
pub(super) struct Lists<'a> {
    pub(super) all: Vec<Shown<'a>>,
    /// Whether the watch began with the first of them.
    pub(super) began_with_one: bool,
    /// Whether a watch was asked for since the last.
    followed: bool,
    /// Of each object, when it was shown at which change.
    showing: HashMap<&'a str, Vec<(Moment, u64)>>,
    /// The greatest revision that one was no older than until then.
    reached: Vec<u64>,
}

impl<'a> Lists<'a> {
    /// Adds the next one; `told` says whether a change was delivered before.
    pub(super) fn add(&mut self, shown: Shown<'a>, told: bool) {
        self.began_with_one |= self.all.is_empty() && !told;
        self.followed = false;
        self.all.push(shown);
    }

    /// A watch is asked for: from the last list's revision, where that is not known.
    pub(super) fn are_followed_from(&mut self, from: Option<u64>) {
        if let Some(last) = self.all.last_mut().filter(|_| !self.followed) {
            last.revision = last.revision.or(from);
        }
        self.followed = true;
    }

    /// An object is shown, without the others.
    pub(super) fn show(&mut self, at: Moment, object: &'a str, change: u64) {
        self.showing.entry(object).or_default().push((at, change));
    }

    /// All have been added: which changes they stand for can be asked from now on.
    pub(super) fn close(&mut self, writes: &Writes<'_>) {
        let mut reached = 0;
        for list in &self.all {
            let no_older_than = list.no_older_than(writes);
            reached = no_older_than.max(reached);
            self.reached.push(reached);
            for (object, change) in &list.objects {
                // A change whose answer was lost may have taken effect after later ones.
                let late = writes.of(object, *change).is_some_and(|(_, write)| write.effect() == Effect::Maybe);
                let (_, due) = writes.version_at(object, no_older_than).filter(|_| late).unwrap_or_default();
                self.showing.entry(object).or_default().push((list.at, due.max(*change)));
            }
        }
        for shown in self.showing.values_mut() {
            shown.sort_unstable();
            let mut newest = 0;
            for (_, change) in shown {
                newest = newest.max(*change);
                *change = newest;
            }
        }
    }

    /// The one at this place in the story.
    pub(super) fn at(&self, place: usize) -> Option<&Shown<'a>> {
        self.all.binary_search_by_key(&place, |list| list.place).ok().map(|position| &self.all[position])
    }

    /// The one that the watch began with.
    pub(super) fn first(&self) -> Option<&Shown<'a>> {
        self.all.first().filter(|_| self.began_with_one)
    }

    /// Those that stand in for events.
    pub(super) fn again(&self) -> &[Shown<'a>] {
        &self.all[usize::from(self.began_with_one)..]
    }

    /// The greatest revision that one of them was no older than.
    pub(super) fn reached(&self) -> u64 {
        self.reached.last().copied().unwrap_or(0)
    }

    /// Since when somebody who has these lists needs no event of a change any more, whose revision is at least `floor`: a list shows its object at
    /// it or later, or does not show it because it was deleted.
    pub(super) fn stand_for(&self, write: &Write, floor: u64, writes: &Writes<'_>) -> Option<Moment> {
        let shown = self.showing.get(write.object.as_str()).and_then(|shown| {
            let first = shown.partition_point(|(_, change)| *change < write.change);
            shown.get(first).map(|(at, _)| *at)
        });
        shown.or_else(|| {
            let (begun, _) = writes.delete_of(&write.object).filter(|(_, delete)| delete.effect() != Effect::Never)?;
            let without = |list: &&Shown<'_>| {
                list.at >= begun
                    && list.no_older_than(writes) >= floor
                    && !list.objects.contains_key(write.object.as_str())
            };
            let late = self.all.partition_point(|list| list.at < begun);
            let new = self.reached.partition_point(|reached| *reached < floor);
            let first = self.all.get(late.max(new)).filter(without);
            first.or_else(|| self.all.last().filter(without)).map(|list| list.at)
        })
    }
}

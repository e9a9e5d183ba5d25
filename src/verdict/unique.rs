//! WATCH-3: no event comes twice.
//!
//! ```text
//! wrote 1 2   | saw 1 2                    ->  upheld
//! wrote 1 2   | saw 1 (cut) 1 2            ->  violated: revision 1 arrived twice
//! wrote 1 2   | saw 1 2 (cut, relist 2)    ->  upheld: a relist may repeat the state
//! wrote 1 2   | saw 1 2 (cut, relist 1) 2  ->  upheld: that the relist was older is WATCH-7's
//! ```

use std::collections::BTreeMap;

use super::excerpt::excerpt;
use super::facts::Facts;
use super::watches::{Watch, concerns, each_watch, figures};
use super::{Figure, Verdict};
use crate::timeline::{Delivered, Moment};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    (each_watch(facts, |watch| claim(facts, watch)), figures(facts))
}

/// What was delivered, since the last list that was older than that.
#[derive(Default)]
pub(super) struct Before<'a>(BTreeMap<(u64, &'a str), Moment>);

impl<'a> Before<'a> {
    /// When an event was delivered before, if it was; from now on, it was.
    pub(super) fn had(&mut self, event: &'a Delivered, at: Moment) -> Option<Moment> {
        self.0.insert((event.revision, event.object.as_str()), at)
    }

    /// The client was shown the state at this revision: what comes after it comes, whether or not it had come before.
    pub(super) fn begins_anew_at(&mut self, revision: u64) {
        self.0.split_off(&(revision.saturating_add(1), ""));
    }
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let mut before = Before::default();
    let mut lists = watch.lists.all.iter().peekable();
    for (place, at, event) in watch.events() {
        while let Some(list) = lists.next_if(|list| list.place < place) {
            before.begins_anew_at(list.revision.unwrap_or(u64::MAX));
        }
        if watch.shows_state(place) {
            continue;
        }
        if let Some(first) = before.had(event, at) {
            let (revision, object, probe) = (event.revision, &event.object, watch.probe);
            let (first, second) = (facts.clock(first), facts.clock(at));
            return Verdict::Violated {
                expected: "every event once".to_owned(),
                actual: format!("revision {revision} arrived twice, at {first} and {second} ({object}; {probe})"),
                excerpt: excerpt(facts, at, concerns(watch, object)),
            };
        }
    }
    Verdict::Upheld
}

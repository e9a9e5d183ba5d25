//! WATCH-2: events come in the order of their revisions.
//!
//! An event that was delivered before is not out of order, it is WATCH-3's. A list that says its revision is a point in
//! that order: an event after it is newer.
//!
//! ```text
//! wrote 1 2   | saw 1 2        ->  upheld
//! wrote 1 2   | saw 2 1        ->  violated: revision 1 arrived after 2
//! wrote 1 2   | saw 1 2 1      ->  upheld (1 is a repetition)
//! ```

use std::collections::HashSet;

use super::excerpt::excerpt;
use super::facts::Facts;
use super::watches::{Watch, concerns, each_watch, figures};
use super::{Figure, Verdict};
use crate::timeline::Event;

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    (each_watch(facts, |watch| claim(facts, watch)), figures(facts))
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let mut newest = 0;
    let mut before = HashSet::new();
    for seen in &watch.story {
        match &seen.event {
            Event::Listed(list) => newest = newest.max(list.revision.unwrap_or(0)),
            Event::Delivered(event) if before.insert((event.revision, event.object.as_str())) => {
                let (revision, object, probe) = (event.revision, &event.object, watch.probe);
                if revision <= newest {
                    return Verdict::Violated {
                        expected: "events in increasing order of their revisions".to_owned(),
                        actual: format!("revision {revision} arrived after {newest} ({object}; {probe})"),
                        excerpt: excerpt(facts, seen.at, concerns(watch, object)),
                    };
                }
                newest = revision;
            }
            _ => {}
        }
    }
    Verdict::Upheld
}

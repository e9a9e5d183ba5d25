//! WATCH-2: events come in the order of their revisions.
//!
//! An event that was delivered before is not out of order, it is WATCH-3's. A list, or a bookmark that ends initial events, is a point in that
//! order: an event after it is newer. Initial events show the state, in no order. A list that is older than what was seen before is WATCH-7's, and
//! what comes after it begins anew there.
//!
//! ```text
//! wrote 1 2   | saw 1 2               ->  upheld
//! wrote 1 2   | saw 2 1               ->  violated: revision 1 arrived after 2
//! wrote 1 2   | saw 1 2 1             ->  upheld (1 is a repetition)
//! wrote 1 b2  | saw (initial b2 1)    ->  upheld: initial events
//! ```

use super::excerpt::excerpt;
use super::facts::Facts;
use super::unique::Before;
use super::watches::{Watch, concerns, each_watch, figures};
use super::{Figure, Verdict};
use crate::timeline::Event;

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    (each_watch(facts, |watch| claim(facts, watch)), figures(facts))
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let mut newest = 0;
    let mut before = Before::default();
    for (place, seen) in watch.story.iter().enumerate() {
        if let Some(revision) = watch.lists.at(place).and_then(|list| list.revision) {
            before.begins_anew_at(revision);
            newest = revision;
        }
        let Event::Delivered(event) = &seen.event else { continue };
        if watch.shows_state(place) || before.had(event, seen.at).is_some() {
            continue;
        }
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
    Verdict::Upheld
}

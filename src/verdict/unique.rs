//! WATCH-3: no event comes twice.
//!
//! ```text
//! wrote 1 2   | saw 1 2                    ->  upheld
//! wrote 1 2   | saw 1 (cut) 1 2            ->  violated: revision 1 arrived twice
//! wrote 1 2   | saw 1 2 (cut, relist 2)    ->  upheld: a relist may repeat the state
//! ```

use std::collections::HashMap;

use super::excerpt::excerpt;
use super::facts::Facts;
use super::watches::{Watch, concerns, each_watch, figures};
use super::{Figure, Verdict};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    (each_watch(facts, |watch| claim(facts, watch)), figures(facts))
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let mut before = HashMap::new();
    for (at, event) in watch.delivered() {
        if let Some(first) = before.insert((event.revision, event.object.as_str()), at) {
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

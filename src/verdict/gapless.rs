//! WATCH-1: no acknowledged change is lost.
//!
//! ```text
//! wrote 1 2 3 | saw 1 2 (cut) 3            ->  upheld
//! wrote 1 2 3 | saw 1 (cut) 3              ->  violated: revision 2 was written and never seen
//! wrote 1 2 3 | saw 1 2 (cut, relist 3)    ->  upheld: the relist stands for 3
//! wrote 1 maybe 2 3 | saw 1 3              ->  upheld: the answer to 2 was lost, it may not have happened
//! ```

use super::excerpt::{excerpt, verb};
use super::facts::Facts;
use super::watches::{Fate, Watch, concerns, each_watch, figures};
use super::{Figure, Verdict};
use crate::timeline::{Moment, Write};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let owed = facts.watches.iter().map(|watch| watch.owed(&facts.writes).count()).sum();
    let lost = facts.watches.iter().map(|watch| missing(facts, watch).count()).sum();
    let mut own = vec![Figure::count("changes lost", lost), Figure::count("changes owed", owed)];
    own.extend(figures(facts));
    (each_watch(facts, |watch| claim(facts, watch)), own)
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let mut missing = missing(facts, watch);
    let Some((acknowledged, write)) = missing.next() else { return Verdict::Upheld };
    let others = missing.count();
    let (probe, verb, object, change) = (watch.probe, verb(write.verb), &write.object, write.change);
    let more = if others > 0 { format!(", and {others} more") } else { String::new() };
    let (name, at) = (named(write), facts.clock(acknowledged));
    Verdict::Violated {
        expected: "every acknowledged change as an event or in a relist".to_owned(),
        actual: format!(
            "{name} was written and never seen ({verb} {object}, change {change}, acknowledged at {at}; {probe}){more}"
        ),
        excerpt: excerpt(facts, acknowledged, concerns(watch, object)),
    }
}

fn missing<'a>(facts: &Facts<'a>, watch: &Watch<'a>) -> impl Iterator<Item = (Moment, &'a Write)> {
    watch.owed(&facts.writes).filter(|(.., fate)| matches!(fate, Fate::Missing)).map(|(at, write, _)| (at, write))
}

/// A write by its revision, or by its change where the answer gave none.
pub(super) fn named(write: &Write) -> String {
    match write.revision {
        Some(revision) => format!("revision {revision}"),
        None => format!("change {}", write.change),
    }
}

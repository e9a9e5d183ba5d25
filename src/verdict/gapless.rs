//! WATCH-1: no acknowledged change is lost.
//!
//! A change is missing once its watch has gone on past it: to a greater revision, in an event, a bookmark or a list. A watch that tells of nothing
//! more may yet tell of it, for as long as a change may be late.
//!
//! ```text
//! wrote 1 2 3 | saw 1 2 (cut) 3            ->  upheld
//! wrote 1 2 3 | saw 1 (cut) 3              ->  violated: revision 2 was written and never seen
//! wrote 1 2 3 | saw 1 2 (cut, relist 3)    ->  upheld: the relist stands for 3
//! wrote 1 maybe 2 3 | saw 1 3              ->  upheld: the answer to 2 was lost, it may not have happened
//! wrote 1 2 3 | saw 1 2 (silence)          ->  violated: nor within the time that a change may be late
//! wrote 1 2 3 | saw 1 2                    ->  inconclusive: the recording ends before that
//! ```

use super::conclusive::{Rests, first_breach};
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
    let late = facts.bounds.fresh;
    let (passed, silent): (Vec<_>, Vec<_>) =
        missing(facts, watch).partition(|(acknowledged, write)| watch.went_past(*acknowledged, write, &facts.writes));
    let (hung, soon): (Vec<_>, Vec<_>) =
        silent.into_iter().partition(|(acknowledged, _)| facts.end.since(*acknowledged) > late);
    let count = passed.len() + hung.len();
    let passed = passed.into_iter().map(|change| (Rests::OnRecord, change));
    let hung = hung.into_iter().map(|change| (Rests::OnTime(change.0, change.0 + late), change));
    let found = first_breach(facts, passed.chain(hung), |(acknowledged, write)| {
        let (probe, verb, object, change) = (watch.probe, verb(write.verb), &write.object, write.change);
        let more = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
        let (name, at) = (named(write), facts.clock(acknowledged));
        Verdict::Violated {
            expected: "every acknowledged change as an event or in a relist".to_owned(),
            actual: format!(
                "{name} was written and never seen ({verb} {object}, change {change}, acknowledged at {at}; {probe}){more}"
            ),
            excerpt: excerpt(facts, acknowledged, concerns(watch, object)),
        }
    }).unwrap_or(Verdict::Upheld);
    match (found, soon.first()) {
        (Verdict::Upheld, Some((acknowledged, write))) => Verdict::inconclusive(format!(
            "the recording ends {:.3} s after {} was acknowledged, and {} had not come so far",
            facts.end.since(*acknowledged).as_secs_f64(),
            named(write),
            watch.probe
        )),
        (found, _) => found,
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

//! WATCH-6: changes arrive soon.
//!
//! From the acknowledgement of a change to its event, or to the relist that stands for it. A change that never arrives
//! is stale once the recording has gone on for longer than the bound.
//!
//! ```text
//! acknowledged at 1.0 s, seen at 2.0 s, bound 3.5 s                              ->  upheld
//! acknowledged at 1.0 s, seen at 5.0 s, bound 3.5 s                              ->  violated: 4 s
//! the same, and we did not run for 0.6 s at 3.0 s                                ->  inconclusive
//! acknowledged at 1.0 s, never seen, bound 3.5 s, recording ends at 2.0 s        ->  upheld, as far as freshness goes
//! ```

use std::time::Duration;

use super::conclusive::{Rests, first_breach};
use super::excerpt::{excerpt, verb};
use super::facts::Facts;
use super::gapless::named;
use super::watches::{Fate, Watch, concerns, each_watch_in_time, figures};
use super::{Figure, Verdict};
use crate::timeline::{Moment, Write};

/// How old a change was when it arrived, or when the recording ended.
struct Age<'a> {
    age: Duration,
    /// When it was acknowledged, or the watch open.
    since: Moment,
    write: &'a Write,
    arrived: bool,
}

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let worst = facts.watches.iter().filter_map(|watch| ages(facts, watch).map(|it| it.age).max()).max();
    let mut own: Vec<_> = worst.map(|age| Figure::millis("stalest change", age)).into_iter().collect();
    own.extend(figures(facts));
    (each_watch_in_time(facts, |watch| claim(facts, watch)), own)
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let bound = facts.bounds.fresh;
    let mut stale: Vec<_> = ages(facts, watch).filter(|it| it.age > bound).collect();
    stale.sort_by_key(|it| std::cmp::Reverse(it.age));
    // Only what came before it was due to be there can have made it late.
    let breaches = stale.into_iter().map(|it| (Rests::OnTime(it.since, it.since + bound), it));
    first_breach(facts, breaches, |Age { age, since, write, arrived }| {
        let (probe, name, verb, object) = (watch.probe, named(write), verb(write.verb), &write.object);
        let (at, age) = (facts.clock(since), age.as_secs_f64());
        let fate =
            if arrived { format!("arrived {age:.3} s later") } else { format!("had not arrived {age:.3} s later") };
        Verdict::Violated {
            expected: format!("every change within {:.3} s of its acknowledgement", bound.as_secs_f64()),
            actual: format!("{name} ({verb} {object}) was acknowledged at {at} and {fate} ({probe})"),
            excerpt: excerpt(facts, since, concerns(watch, object)),
        }
    })
    .unwrap_or(Verdict::Upheld)
}

/// The age of each change that a watch owed.
fn ages<'a>(facts: &Facts<'a>, watch: &Watch<'a>) -> impl Iterator<Item = Age<'a>> {
    watch.owed(&facts.writes).map(|(acknowledged, write, fate)| {
        let since = watch.opened.map_or(acknowledged, |opened| opened.max(acknowledged));
        let (until, arrived) = match fate {
            Fate::Delivered(at) | Fate::Relisted(at) => (at, true),
            Fate::Missing => (facts.end, false),
        };
        Age { age: until.since(since), since, write, arrived }
    })
}

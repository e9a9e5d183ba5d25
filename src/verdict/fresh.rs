//! WATCH-6: changes arrive soon.
//!
//! From the acknowledgement of a change to its event, or to the relist that stands for it. A change that never arrives
//! is stale once the recording has gone on for longer than the bound.
//!
//! ```text
//! acknowledged at 1.0 s, seen at 2.0 s, bound 3.5 s                              ->  upheld
//! acknowledged at 1.0 s, seen at 5.0 s, bound 3.5 s                              ->  violated: 4 s
//! acknowledged at 1.0 s, never seen, bound 3.5 s, recording ends at 2.0 s        ->  upheld, as far as freshness goes
//! ```

use std::time::Duration;

use super::excerpt::{excerpt, verb};
use super::facts::Facts;
use super::gapless::named;
use super::watches::{Fate, Watch, concerns, each_watch, figures};
use super::{Figure, Verdict};
use crate::timeline::{Moment, Write};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let worst = facts.watches.iter().filter_map(|watch| stalest(facts, watch)).map(|(age, ..)| age).max();
    let mut own: Vec<_> = worst.map(|age| Figure::millis("stalest change", age)).into_iter().collect();
    own.extend(figures(facts));
    (each_watch(facts, |watch| claim(facts, watch)), own)
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let bound = facts.bounds.fresh;
    let Some((age, acknowledged, write, seen)) = stalest(facts, watch).filter(|(age, ..)| *age > bound) else {
        return Verdict::Upheld;
    };
    let (probe, name, verb, object) = (watch.probe, named(write), verb(write.verb), &write.object);
    let (at, age) = (facts.clock(acknowledged), age.as_secs_f64());
    let fate = if seen { format!("arrived {age:.3} s later") } else { format!("had not arrived {age:.3} s later") };
    Verdict::Violated {
        expected: format!("every change within {:.3} s of its acknowledgement", bound.as_secs_f64()),
        actual: format!("{name} ({verb} {object}) was acknowledged at {at} and {fate} ({probe})"),
        excerpt: excerpt(facts, acknowledged, concerns(watch, object)),
    }
}

/// The change that took longest: how long, when it was acknowledged, which one, and whether it ever arrived.
fn stalest<'a>(facts: &Facts<'a>, watch: &Watch<'a>) -> Option<(Duration, Moment, &'a Write, bool)> {
    watch
        .owed(&facts.writes)
        .map(|(acknowledged, write, fate)| match fate {
            Fate::Delivered(at) | Fate::Relisted(at) => (at.since(acknowledged), acknowledged, write, true),
            Fate::Missing => (facts.end.since(acknowledged), acknowledged, write, false),
        })
        .max_by_key(|(age, ..)| *age)
}

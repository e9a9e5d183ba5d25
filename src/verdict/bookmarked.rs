//! WATCH-8: what a bookmark says is true.
//!
//! A bookmark at a revision says that everything up to it was delivered. So nothing up to it follows on that watch, and everything that was written
//! up to it came before. A watch that is to begin with the state (`sendInitialEvents`) is told by one when that is over.
//!
//! ```text
//! wrote 1 2 3 | saw 1 2 (bookmark 2) 3          ->  upheld
//! wrote 1 2 3 | saw 1 2 (bookmark 3) 3          ->  violated: revision 3 came after the bookmark at 3
//! wrote 1 2 3 | saw 1 (bookmark 2) (silence)    ->  violated: revision 2 had not been delivered
//! asked for initial events, open for 40 s, no bookmark that ends them      ->  violated
//! wrote 1 2 3 | saw 1 2 3                       ->  inconclusive: no bookmark
//! kube-rs's watcher                             ->  not asked: it keeps bookmarks to itself
//! ```

use super::conclusive::{Rests, first_breach};
use super::excerpt::{excerpt, kind};
use super::facts::Facts;
use super::gapless::named;
use super::watches::{Fate, Watch, concerns, each_of, figures};
use super::{Figure, Verdict};
use crate::timeline::{Bookmark, Event, Moment};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let asked = facts.watches.iter().filter(|watch| tells_of_bookmarks(watch));
    let verdict = each_of(facts, asked, |watch| claim(facts, watch))
        .unwrap_or_else(|| Verdict::inconclusive("no watch that tells of bookmarks is in the recording"));
    let sum = facts.watches.iter().map(|watch| bookmarks(watch).count()).sum();
    let mut own = vec![Figure::count("bookmarks", sum)];
    own.extend(figures(facts));
    (verdict, own)
}

/// Whether the client would tell of bookmarks: one that keeps the revision of its lists to itself does not.
fn tells_of_bookmarks(watch: &Watch<'_>) -> bool {
    let told = |event: &Event| match event {
        Event::Listed(list) => Some(list.revision.is_some()),
        Event::Bookmark(_) => Some(true),
        _ => None,
    };
    let lists = || watch.story.iter().filter_map(|seen| told(&seen.event));
    let silent = !watch.story.iter().any(|seen| matches!(seen.event, Event::Delivered(_) | Event::Listed(_)));
    !silent && lists().all(|tells| tells) || !watch.begun.is_empty()
}

fn bookmarks<'a>(watch: &Watch<'a>) -> impl Iterator<Item = (Moment, &'a Bookmark)> {
    watch.story.iter().filter_map(|seen| match &seen.event {
        Event::Bookmark(bookmark) => Some((seen.at, bookmark)),
        _ => None,
    })
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let followed = followed(watch);
    let lacking = lacking(facts, watch);
    let endless = endless(facts, watch);
    let breaches = followed.into_iter().chain(lacking).map(|breach| (Rests::OnRecord, breach));
    let endless = endless.map(|(from, until, breach)| (Rests::OnTime(from, until), breach));
    let found = first_breach(facts, breaches.chain(endless), |Breach { at, object, actual }| Verdict::Violated {
        expected: "a bookmark when everything up to its revision was delivered, and nothing of it afterwards"
            .to_owned(),
        actual: format!("{actual} ({})", watch.probe),
        excerpt: excerpt(facts, at, concerns(watch, object)),
    })
    .unwrap_or(Verdict::Upheld);
    // One that came before anything was disturbed says nothing of what came after.
    let since = if facts.disturbance().is_some() { facts.disturbed().0 } else { Moment::default() };
    match found {
        Verdict::Upheld if !bookmarks(watch).any(|(at, _)| at >= since) => {
            let when = if facts.disturbance().is_some() { " since the first fault" } else { "" };
            Verdict::inconclusive(format!("{} was sent no bookmark{when}", watch.probe))
        }
        Verdict::Upheld if watch.begun.iter().any(|begun| begun.complete.is_none()) => {
            Verdict::inconclusive(format!("initial events of {} were not said to be over", watch.probe))
        }
        found => found,
    }
}

struct Breach<'a> {
    at: Moment,
    object: &'a str,
    actual: String,
}

/// The first event that a bookmark before it on the same watch says had come.
fn followed<'a>(watch: &Watch<'a>) -> Option<Breach<'a>> {
    let mut all_up_to = 0;
    watch.story.iter().enumerate().find_map(|(place, seen)| match &seen.event {
        // Another watch: what it begins with is its client's choice.
        Event::ListWatch(_) | Event::Listed(_) => {
            all_up_to = 0;
            None
        }
        // The state may be as old as it is.
        Event::Bookmark(bookmark) => {
            all_up_to = all_up_to.max(bookmark.revision);
            None
        }
        Event::Delivered(event) if event.revision <= all_up_to && !watch.shows_state(place) => Some(Breach {
            at: seen.at,
            object: &event.object,
            actual: format!(
                "{} {} at revision {} came after a bookmark at {all_up_to}",
                kind(event.kind),
                event.object,
                event.revision
            ),
        }),
        _ => None,
    })
}

/// The first bookmark that came before something of what it speaks of, or without it.
fn lacking<'a>(facts: &Facts<'a>, watch: &Watch<'a>) -> Option<Breach<'a>> {
    let writes = &facts.writes;
    let owed = watch.owed(writes).filter_map(|(acknowledged, write, fate)| {
        // Of a delete, no more is known than what was begun after it.
        let revision = write.revision.or_else(|| writes.history.begun_after(acknowledged))?;
        let arrived = match fate {
            Fate::Delivered(at) | Fate::Relisted(at) => at,
            Fate::Missing => Moment(u64::MAX),
        };
        Some((revision, arrived, write))
    });
    let mut owed: Vec<_> = owed.collect();
    owed.sort_by_key(|(revision, ..)| *revision);
    // Of what comes up to each revision, that which came last.
    let mut last = 0;
    let latest: Vec<usize> = (0..owed.len())
        .map(|place| {
            last = if owed[place].1 > owed[last].1 { place } else { last };
            last
        })
        .collect();
    bookmarks(watch).find_map(|(at, bookmark)| {
        let until = owed.partition_point(|(revision, ..)| *revision <= bookmark.revision);
        let (_, arrived, write) = owed[*latest[..until].last()?];
        let (bookmark, name) = (bookmark.revision, named(write));
        (arrived > at).then(|| Breach {
            at,
            object: &write.object,
            actual: format!(
                "a bookmark at {bookmark} came at {}, and {name} of {} had not been delivered",
                facts.clock(at),
                write.object
            ),
        })
    })
}

/// The watches whose initial events were not said to be over within the time that a change may be late: from when, until when.
fn endless<'w, 'a>(
    facts: &'w Facts<'_>,
    watch: &'w Watch<'a>,
) -> impl Iterator<Item = (Moment, Moment, Breach<'a>)> + use<'w, 'a> {
    let (bound, end) = (facts.bounds.fresh, facts.end);
    let late = watch.begun.iter().filter(move |begun| {
        let until = begun.complete.or(begun.over).unwrap_or(end);
        until.since(begun.answered) > bound
    });
    late.map(move |begun| {
        let (at, object) = (begun.answered, "");
        let actual = format!(
            "initial events from {} on were not said to be over within {:.3} s",
            facts.clock(at),
            bound.as_secs_f64()
        );
        (at, at + bound, Breach { at, object, actual })
    })
}

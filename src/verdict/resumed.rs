//! IDLE-3: a watch that was ended while idle goes on.
//!
//! ```text
//! watch reset at 30.0 s, another from revision 812 answered at 30.1 s       ->  upheld
//! watch reset at 30.0 s, another answered at 45.0 s, bound 10 s             ->  violated
//! watch reset at 30.0 s, then a list                                        ->  violated
//! watch reset at 30.0 s, another answered 410, then a list                  ->  upheld
//! last event at 812, watch reset, another from revision 2                   ->  violated: it knew 812
//! no watch was cut                                                          ->  inconclusive
//! ```

use std::time::Duration;

use super::conclusive::{Rests, conclude_from_records, first_breach, stalled};
use super::excerpt::{describe, excerpt};
use super::facts::Facts;
use super::resumable::says_gone;
use super::watches::{Watch, concerns};
use super::{Figure, Verdict};
use crate::timeline::{Call, Event, Moment, Observation};

/// A watch that was cut, and how it went on.
struct Cut {
    at: Moment,
    /// When another was answered, if one was.
    resumed: Option<Moment>,
    /// What was wrong with how it was asked for, if anything.
    wrong: Option<String>,
    /// Whether it was told that what it knows is too old.
    gone: bool,
    /// Whether it was a server's doing, and no cut: how the watch goes on is asked all the same.
    clean: bool,
}

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let cut: Vec<_> = facts.watches.iter().map(|watch| (watch, cuts(facts, watch))).collect();
    let all = || cut.iter().flat_map(|(_, cuts)| cuts).filter(|cut| !cut.clean);
    let found =
        Verdict::worst(cut.iter().filter(|(_, cuts)| !cuts.is_empty()).map(|(watch, cuts)| claim(facts, watch, cuts)));
    let found = match found.unwrap_or(Verdict::Upheld) {
        Verdict::Upheld if all().next().is_none() => Verdict::inconclusive("no watch was cut, so none had to resume"),
        found => found,
    };
    let took = all().filter_map(|cut| Some(cut.resumed?.since(cut.at)));
    let mut figures = vec![Figure::count("watches cut", all().count())];
    figures.extend(took.max().map(|took| Figure::seconds("longest until resumed", took)));
    // What a stall lies beside, it cannot hide.
    let hidden = || all().find_map(|cut| stalled(facts, cut.at, cut.resumed.unwrap_or(facts.end)));
    let found = match conclude_from_records(facts, &[], found) {
        Verdict::Upheld => hidden().map_or(Verdict::Upheld, Verdict::inconclusive),
        found => found,
    };
    (found, figures)
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>, cuts: &[Cut]) -> Verdict {
    let bound = facts.bounds.resumed;
    let wrong = cuts.iter().filter_map(|cut| Some((Rests::OnRecord, (cut.at, cut.wrong.clone()?))));
    let late = cuts.iter().filter(|cut| !cut.clean && waited(facts, cut) > bound).map(|cut| {
        let actual = match cut.resumed {
            Some(_) => format!("{} was open again after {:.3} s", watch.probe, waited(facts, cut).as_secs_f64()),
            None => format!("{} was never open again", watch.probe),
        };
        (Rests::OnTime(cut.at, cut.at + bound), (cut.at, actual))
    });
    let found = first_breach(facts, wrong.chain(late), |(at, actual)| Verdict::Violated {
        expected: format!("another watch, from the last known revision, within {:.3} s", bound.as_secs_f64()),
        actual,
        excerpt: excerpt(facts, at, concerns(watch, "")),
    })
    .unwrap_or(Verdict::Upheld);
    match found {
        Verdict::Upheld if cuts.iter().any(|cut| !cut.clean && cut.resumed.is_none()) => {
            Verdict::inconclusive(format!("the recording ends soon after {} was cut", watch.probe))
        }
        found => found,
    }
}

/// How long a watch was not open, as far as the recording goes.
fn waited(facts: &Facts<'_>, cut: &Cut) -> Duration {
    cut.resumed.unwrap_or(facts.end).since(cut.at)
}

/// Each end of an open watch, in order.
fn cuts(facts: &Facts<'_>, watch: &Watch<'_>) -> Vec<Cut> {
    let describe = |seen: &Observation| describe(facts.recording.header.began_at, seen);
    let (mut cuts, mut open, mut known): (Vec<Cut>, _, _) = (Vec::new(), false, None::<u64>);
    for (place, seen) in watch.story.iter().copied().enumerate() {
        if let Event::WatchEnded(end) = &seen.event
            && std::mem::take(&mut open)
        {
            let clean = end.failure.is_none();
            cuts.push(Cut { at: seen.at, resumed: None, wrong: None, gone: false, clean });
        }
        let pending = cuts.last_mut().filter(|cut| cut.resumed.is_none());
        match &seen.event {
            Event::Delivered(event) if !watch.shows_state(place) => known = Some(event.revision),
            Event::Bookmark(bookmark) => known = Some(bookmark.revision),
            Event::Listed(list) => {
                known = list.revision.or(known);
                if let Some(cut) = pending.filter(|cut| !cut.gone) {
                    cut.wrong.get_or_insert_with(|| describe(seen));
                }
            }
            Event::ListWatch(call) if call.call == Call::List => {
                if let Some(cut) = pending.filter(|cut| !cut.gone) {
                    cut.wrong.get_or_insert_with(|| describe(seen));
                }
            }
            Event::ListWatch(call) => {
                let older = call.from.zip(known).filter(|(from, known)| from < known);
                if let Some(cut) = pending {
                    if call.from.is_none() && !cut.gone {
                        cut.wrong.get_or_insert_with(|| describe(seen));
                    }
                    if let Some((_, known)) = older {
                        cut.wrong.get_or_insert_with(|| format!("{}, and it knew revision {known}", describe(seen)));
                    }
                    cut.gone |= says_gone(&seen.event);
                    cut.resumed = (call.answer == Ok(200)).then(|| seen.at + call.took);
                }
                open |= call.answer == Ok(200);
                // One that began anew knows nothing yet; a client library keeps to itself what bookmarks and lists told it.
                known = call.from.map(|from| known.map_or(from, |known| known.max(from)));
            }
            Event::WatchEnded(_) => {
                if let Some(cut) = pending {
                    cut.gone |= says_gone(&seen.event);
                }
            }
            _ => {}
        }
    }
    cuts
}

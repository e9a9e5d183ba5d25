//! WATCH-7: time never goes back for a client.
//!
//! A list that was asked for without a resourceVersion is the most recent state, and one from a known resourceVersion no older than that: neither is
//! older than what its client has seen, in an event, a bookmark or a list. A client that asks for resourceVersion 0 takes what there is: that is counted,
//! and not judged.
//!
//! ```text
//! saw 1 2 (cut, relist 2)                       ->  upheld
//! saw 1 2 (cut, relist 1)                       ->  violated: a list at revision 1, and 2 had been seen before
//! saw 1 2 (cut, relist any 1)                   ->  as far as this goes nothing was put to the test
//! reader: list at 812, list at 811              ->  violated
//! reader: list asked for while the first was    ->  that is not before
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::conclusive::{Traffic, conclude_from_records};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::lists::Shown;
use super::read_your_writes::gap;
use super::watches::{Watch, concerns, each_of, figures};
use super::{Figure, Verdict};
use crate::timeline::{Event, Moment, Read};

/// The reads of a probe, in order.
type Reads<'a> = Vec<(Moment, &'a Read)>;

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut readers: BTreeMap<&str, Reads<'_>> = BTreeMap::new();
    for (at, read) in facts.recording.each(|event| if let Event::Read(read) = event { Some(read) } else { None }) {
        readers.entry(&read.probe).or_default().push((at, read));
    }
    let listed = facts.watches.iter().filter(|watch| put_to_the_test(watch).next().is_some());
    let by_watches = each_of(facts, listed, |watch| claim(facts, watch));
    let by_readers = readers.iter().map(|(probe, reads)| reader(facts, probe, reads));
    let verdict = Verdict::worst(by_watches.into_iter().chain(by_readers))
        .unwrap_or_else(|| Verdict::inconclusive("nobody listed again, so none could go back in time"));
    let any = facts.watches.iter().flat_map(|watch| &watch.lists.all);
    let back = any.filter(|list| is_any(list) && before(list).is_some()).count();
    let tested = facts.watches.iter().map(|watch| put_to_the_test(watch).count()).sum();
    let mut own = vec![
        Figure::count("lists older than what was seen, as resourceVersion=0 allows", back),
        Figure::count("lists that may not be", tested),
        Figure::count("reads", readers.values().map(Vec::len).sum()),
    ];
    own.extend(figures(facts));
    (verdict, own)
}

fn is_any(list: &Shown<'_>) -> bool {
    list.asked.is_some_and(|asked| asked.any)
}

/// What its client had seen before, and its own revision, which is older.
fn before(list: &Shown<'_>) -> Option<(u64, u64)> {
    // What came while it was on its way was not before.
    let known = list.asked.map_or(list.known, |asked| asked.known);
    list.revision.filter(|revision| *revision < known).map(|revision| (known, revision))
}

/// The lists of a watch whose client had seen something.
fn put_to_the_test<'w>(watch: &'w Watch<'_>) -> impl Iterator<Item = &'w Shown<'w>> {
    watch.lists.again().iter().filter(|list| !is_any(list) && list.revision.is_some())
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let back = put_to_the_test(watch).find_map(|list| Some((list, before(list)?)));
    let Some((list, (known, revision))) = back else { return Verdict::Upheld };
    violated(facts, list.at, watch.probe, known, revision, concerns(watch, ""))
}

fn reader(facts: &Facts<'_>, probe: &str, reads: &Reads<'_>) -> Verdict {
    // A read that failed shows nothing, nor one without a revision.
    let samples = reads.iter().filter(|(_, read)| read.exchange.succeeded() && read.revision.is_some());
    let samples = samples.map(|(at, read)| (*at, read.exchange.took, true));
    let traffic = Traffic::of(facts, format!("the reader {probe}"), gap(facts), samples).steady();
    let listed = reads.iter().filter(|(_, read)| read.exchange.succeeded());
    let listed = listed.filter_map(|(at, read)| Some((*at, read.exchange.took, read.revision?)));
    let found = match went_back(listed.collect()) {
        None => Verdict::Upheld,
        Some((at, known, revision)) => {
            let by_it = |event: &Event| match event {
                Event::Read(read) => read.probe == probe,
                Event::FaultOn(_) | Event::FaultOff(_) => true,
                _ => false,
            };
            violated(facts, at, probe, known, revision, by_it)
        }
    };
    conclude_from_records(facts, &[&traffic], found)
}

/// When a list was asked for that is older than what one had been answered before; that one's revision, and its own.
fn went_back(listed: Vec<(Moment, Duration, u64)>) -> Option<(Moment, u64, u64)> {
    let mut answered: Vec<_> = listed.iter().map(|(at, took, revision)| (*at + *took, *revision)).collect();
    answered.sort_unstable();
    let (mut answered, mut known) = (answered.into_iter().peekable(), 0);
    listed.into_iter().find_map(|(at, _, revision)| {
        while let Some((_, before)) = answered.next_if(|(answered, _)| *answered <= at) {
            known = known.max(before);
        }
        (revision < known).then_some((at, known, revision))
    })
}

fn violated(
    facts: &Facts<'_>,
    at: Moment,
    probe: &str,
    known: u64,
    revision: u64,
    concern: impl Fn(&Event) -> bool,
) -> Verdict {
    Verdict::Violated {
        expected: "no list that is older than what its client has seen".to_owned(),
        actual: format!(
            "a list at revision {revision} at {}, and {probe} had seen revision {known} before",
            facts.clock(at)
        ),
        excerpt: excerpt(facts, at, concern),
    }
}

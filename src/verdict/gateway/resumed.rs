//! GATEWAY-6: a watch that was ended goes on where it was.
//!
//! ```text
//! a watch ended and did not go on, and change 7 was acknowledged                       ->  violated
//! a watch ended, went on, and change 7, acknowledged meanwhile, never came             ->  violated
//! a watch told of change 6 at revision 60, and went on from revision 10                ->  violated
//! a watch went on from revision 60, and told of change 5 again                         ->  violated
//! an informer began anew after a reset, or any watch after 410                         ->  it is told of states, and owed what comes after
//! a watch went on, and nobody knows from where                                         ->  inconclusive
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::{Ground, is_watch, seconds, unless};
use crate::timeline::{Effect, ErrorClass, Event, GatewayStream, Moment, Shape, Verb, Write};
use crate::verdict::breaches::{Breach, first_breach};
use crate::verdict::conclusive::{Rests, conclude};
use crate::verdict::excerpt::excerpt;
use crate::verdict::facts::Facts;
use crate::verdict::streams::{Stream, ended};
use crate::verdict::{Figure, Verdict};

/// GATEWAY-6.
pub(in crate::verdict) fn resumed_ones_miss_nothing(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let ground = Ground::of(facts);
    let writes = Changes::of(facts);
    let mut chains: BTreeMap<(&str, &str), Vec<Stream<'_>>> = BTreeMap::new();
    for stream in ground.streams.all().iter().filter(|(_, stream)| is_watch(stream)) {
        chains.entry((&stream.1.gateway, &stream.1.client)).or_default().push(*stream);
    }
    let disturbed = ground.deaths.iter().map(|(death, _)| death.on).min();
    let (mut breaches, mut resumes, mut went_on, mut unknown) = (Vec::new(), Vec::new(), false, None);
    for ((gateway, client), chain) in &chains {
        // The last of those that were tried until there was one on each apiserver is the first that counts. What was
        // refused meanwhile was no watch yet.
        let replaced = |place: usize| {
            let next = chain.get(place + 1).map(|(began, _)| *began);
            next.zip(disturbed).filter(|(next, from)| next >= from).map(|(next, _)| next)
        };
        let over = |place: usize| ended(&chain[place]).or_else(|| replaced(place));
        let first =
            (0..chain.len()).find_map(|place| over(place).filter(|_| chain[place].1.succeeded()).zip(Some(place)));
        let Some((end, first)) = first else { continue };
        let later = &chain[first + 1..];
        let again = later.iter().find(|(_, stream)| stream.succeeded());
        resumes.extend(again.and_then(|(at, stream)| Some((*at + stream.answered?.after).since(end))));
        let told = || {
            let goes_on = match again {
                Some(_) => String::new(),
                None => format!(" was ended at {} and did not go on; it", facts.clock(end)),
            };
            format!("{client} through {gateway}{goes_on}")
        };
        let concern =
            |event: &Event| matches!(event, Event::GatewayStream(it) if it.gateway == *gateway && it.client == *client);
        let mut breach = |at, rests, actual| {
            breaches.push(Breach {
                rests,
                expected: "to go on from the last revision, and every acknowledged change once".to_owned(),
                actual,
                excerpt: Box::new(move || excerpt(facts, at, concern)),
            });
        };
        match backwards(&writes, chain) {
            Some(Strayed::From(at, what)) => breach(at, Rests::OnRecord, format!("{client} through {gateway} {what}")),
            Some(Strayed::Unknown(at)) => {
                let what =
                    || format!("nobody knows from where {client} through {gateway} went on at {}", facts.clock(at));
                unknown = unknown.or_else(|| Some(what()));
            }
            None => {}
        }
        match missed(facts, &writes, chain, first) {
            Some((at, write, more, rests)) => {
                let (told, change, when) = (told(), write.change, facts.clock(at + write.exchange.took));
                let actual = format!("{told} never told of change {change}, acknowledged at {when}, and {more} more");
                breach(at, rests, actual);
            }
            // One that ended when it had told of everything has nothing to go on for.
            None => went_on |= again.is_some(),
        }
    }
    let nobody = || {
        if went_on { Verdict::Upheld } else { Verdict::inconclusive("no watch was ended and went on") }
    };
    let found = first_breach(facts, breaches).unwrap_or_else(nobody);
    let doubts: Option<Vec<_>> = ground.deaths.iter().map(|(_, doubt)| doubt.clone()).collect();
    let lacking = unknown.or_else(|| doubts?.into_iter().next());
    let longest = resumes.iter().max().map(|span| Figure::seconds("longest until resumed", *span));
    (conclude(facts, &[], unless(found, lacking)), longest.into_iter().collect())
}

/// What was written that a watch tells of by its change: deletes carry the change before.
struct Changes<'a> {
    /// In order of their beginning.
    all: Vec<(Moment, &'a Write)>,
    by_change: HashMap<u64, usize>,
}

impl<'a> Changes<'a> {
    fn of(facts: &Facts<'a>) -> Self {
        let certain = facts.writes.all.iter().copied();
        let certain = certain.filter(|(_, write)| write.effect() == Effect::Certain && write.verb != Verb::Delete);
        let all: Vec<_> = certain.collect();
        let by_change = all.iter().enumerate().map(|(place, (_, write))| (write.change, place)).collect();
        Self { all, by_change }
    }

    fn revision(&self, change: u64) -> Option<u64> {
        self.all[*self.by_change.get(&change)?].1.revision
    }
}

/// The first change that a chain of streams owes and never tells of, how many more there are, and what that rests on.
fn missed<'a>(
    facts: &Facts<'a>,
    writes: &Changes<'a>,
    chain: &[Stream<'_>],
    first: usize,
) -> Option<(Moment, &'a Write, usize, Rests)> {
    // What has begun anew was told of states, and is owed what came after that.
    let anew = (first + 1..chain.len()).rfind(|place| begins_anew(chain, *place) && chain[*place].1.succeeded());
    let opened = anew.map_or(chain[first].0, |place| {
        let (at, it) = chain[place];
        at + it.answered.map_or(Duration::ZERO, |it| it.after)
    });
    let owed = &writes.all[writes.all.partition_point(|(at, _)| *at <= opened)..];
    let heard: HashSet<u64> =
        chain.iter().flat_map(|(_, stream)| stream.heard.iter().filter_map(|heard| heard.change)).collect();
    let (at, write) = owed.iter().find(|(_, write)| !heard.contains(&write.change))?;
    let from = writes.all.len() - owed.len();
    let places = || heard.iter().filter_map(|change| writes.by_change.get(change)).filter(|place| **place >= from);
    let later = places().any(|place| writes.all[*place].0 > *at);
    // What was told later shows that it was left out; else it might have come at the very end.
    let rests = if later { Rests::OnRecord } else { Rests::OnTime(facts.end, facts.end) };
    Some((*at, write, owed.len() - places().count() - 1, rests))
}

/// What a stream that goes on does wrong.
enum Strayed {
    /// In words.
    From(Moment, String),
    /// Nobody knows from where it went on.
    Unknown(Moment),
}

/// Where a chain of streams goes on from elsewhere than the last revision that it knew, or tells of a change again.
fn backwards(writes: &Changes<'_>, chain: &[Stream<'_>]) -> Option<Strayed> {
    let mut seen: HashSet<u64> = HashSet::new();
    // The last revision that it knew; and whether it is known exactly: what others wrote, and deletes, are without one here.
    let mut known: Option<(u64, bool)> = None;
    let mut unknown = None;
    let succeeded = (0..chain.len()).filter(|place| chain[*place].1.succeeded());
    for place in succeeded {
        let (began, stream) = chain[place];
        let anew = begins_anew(chain, place);
        match (known, stream.from) {
            _ if anew => known = None,
            (None, _) => {}
            (Some(_), None) => drop(unknown.get_or_insert(Strayed::Unknown(began))),
            (Some((revision, exact)), Some(from)) if from < revision || (exact && from > revision) => {
                let what = format!("went on from revision {from}, and had come to revision {revision}");
                return Some(Strayed::From(began, what));
            }
            _ => {}
        }
        let mut known_here = known.or(stream.from.map(|from| (from, true)));
        // States come in no order.
        let mut states: HashSet<u64> = HashSet::new();
        for heard in &stream.heard {
            let Some(change) = heard.change else {
                known_here = known_here.map(|(revision, _)| (revision, false));
                continue;
            };
            let fresh = if anew { states.insert(change) } else { seen.insert(change) };
            if !fresh {
                let after = seconds(heard.after);
                return Some(Strayed::From(
                    began + heard.after,
                    format!("told of change {change} again, after {after}"),
                ));
            }
            let before = known_here.map_or(0, |(revision, _)| revision);
            known_here = match writes.revision(change) {
                Some(revision) => Some((revision.max(before), !anew)),
                None => known_here.map(|(revision, _)| (revision, false)),
            };
        }
        seen.extend(states);
        known = known_here.map(|(revision, exact)| (revision, exact && !anew));
    }
    unknown
}

/// Whether a stream asks for whatever there is, and may: client-go's reflector does where it lists, and everybody after 410.
fn begins_anew(chain: &[Stream<'_>], place: usize) -> bool {
    let gone = |stream: &GatewayStream| {
        let told = stream.told.as_ref().and_then(|end| end.failure.as_ref());
        told.is_some_and(|failure| failure.class == ErrorClass::Gone)
    };
    let (_, stream) = chain[place];
    let may = stream.shape == Shape::Informer || chain[..place].last().is_some_and(|(_, before)| gone(before));
    stream.from == Some(0) && may
}

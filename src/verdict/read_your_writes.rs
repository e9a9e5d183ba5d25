//! ROLLOUT-14: a read without resourceVersion shows every write that was acknowledged before it.
//!
//! A read is a list of all that the writers have written. A write whose answer was lost may take effect late, and overwrite a later one; what
//! somebody began to delete before the read was over may be missing.
//!
//! ```text
//! create 1 ok, update 2 ok, read x=2                     ->  upheld
//! create 1 ok, update 2 ok, read x=1                     ->  violated: stale
//! create 1 ok, update 2 lost, update 3 ok, read x=2      ->  upheld: the second came late
//! create 1 ok, read nothing                              ->  violated
//! create 1 ok, delete begun, read nothing                ->  upheld
//! create 1 ok, delete ok, read x=1                       ->  violated: it was gone
//! create 1 ok, read x=7                                  ->  violated: nobody wrote that
//! reads for 3 s of a restart: none, or all failed        ->  inconclusive
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::conclusive::{Traffic, conclude_from_records};
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{Effect, Event, Moment, Read, Restart, Step, Verb, Write};
use crate::timing::Bounds;

/// What a read contradicts.
struct Stale<'a> {
    at: Moment,
    read: &'a Read,
    object: &'a str,
    what: String,
}

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let reads = facts.recording.each(|event| if let Event::Read(read) = event { Some(read) } else { None });
    let reads: Vec<(Moment, &Read)> = reads.collect();
    let shown: Vec<_> = reads.iter().copied().filter(|(_, read)| read.exchange.succeeded()).collect();
    let stale = Written::of(facts).stale(&shown);
    let figures = vec![
        Figure::count("reads", shown.len()),
        Figure::count("failed reads", reads.len() - shown.len()),
        Figure::count("stale reads", stale.len()),
    ];
    if reads.is_empty() {
        return (Verdict::inconclusive("nobody read what was written"), figures);
    }
    let mut probes: BTreeMap<&str, Vec<(Moment, &Read)>> = BTreeMap::new();
    for (at, read) in &reads {
        probes.entry(&read.probe).or_default().push((*at, read));
    }
    // A read that failed shows nothing.
    let traffic = probes.into_iter().map(|(probe, reads)| {
        let samples = reads.into_iter().filter(|(_, read)| read.exchange.succeeded());
        let samples = samples.map(|(at, read)| (at, read.exchange.took, true));
        Traffic::of(facts, format!("the reader {probe}"), gap(facts), samples).steady()
    });
    let writes = facts.writes.all.iter().map(|(at, write)| {
        let certain = write.effect() == Effect::Certain;
        (*at, write.exchange.took, certain)
    });
    let writer = Traffic::of(facts, "the writer".to_owned(), gap(facts), writes).steady();
    let traffic: Vec<_> = traffic.chain([writer]).collect();
    let found = match stale.first() {
        Some(first) => violated(facts, first, stale.len()),
        None => unasked(facts, &shown).map_or(Verdict::Upheld, Verdict::inconclusive),
    };
    (conclude_from_records(facts, &traffic.iter().collect::<Vec<_>>(), found), figures)
}

/// An apiserver that was started anew and answered no read after that, if that can be known.
fn unasked(facts: &Facts<'_>, shown: &[(Moment, &Read)]) -> Option<String> {
    let answered = || shown.iter().filter_map(|(at, read)| Some((*at, read.exchange.server.as_deref()?)));
    answered().next()?;
    let again = |restart: &&Restarted<'_>| {
        let started = restart.at(Step::Started).unwrap_or(facts.end);
        !answered().any(|(at, server)| server == restart.server && at >= started)
    };
    let restart = facts.restarts.iter().find(again)?;
    Some(format!("{} answered no read after its restart", restart.server))
}

/// How long nothing may have been read or written: a kill costs everybody some time.
pub(super) fn gap(facts: &Facts<'_>) -> Duration {
    let Bounds { health_gap, outage_after_kill, .. } = facts.bounds;
    if facts.disturbance() == Some(Restart::Killed) { health_gap.max(outage_after_kill) } else { health_gap }
}

fn violated(facts: &Facts<'_>, first: &Stale<'_>, count: usize) -> Verdict {
    let Stale { at, read, object, what } = first;
    let server = read.exchange.server.as_ref().map_or(String::new(), |server| format!(" of {server}"));
    let (probe, when) = (&read.probe, facts.clock(*at));
    Verdict::Violated {
        expected: "each read to show every write that was acknowledged before it".to_owned(),
        actual: format!("{count} reads do not, the first{server} at {when} ({probe}): {object} {what}"),
        excerpt: excerpt(facts, *at, |event| match event {
            Event::Write(write) => write.object == *object,
            Event::Read(other) => other.probe == *probe,
            Event::Lifecycle(_) => true,
            _ => false,
        }),
    }
}

/// All that was written, and when.
struct Written<'a> {
    /// By change.
    writes: HashMap<u64, (Moment, &'a Write)>,
    /// Certain creates and updates, by when they were acknowledged.
    acknowledged: Vec<(Moment, Moment, &'a Write)>,
    /// Deletes that may have taken effect, by when they were begun.
    deletes: Vec<(Moment, &'a str)>,
    /// Of each object, when the first of its deletes was acknowledged.
    gone: HashMap<&'a str, Moment>,
}

impl<'a> Written<'a> {
    fn of(facts: &Facts<'a>) -> Self {
        let mut written =
            Self { writes: HashMap::new(), acknowledged: Vec::new(), deletes: Vec::new(), gone: HashMap::new() };
        for (at, write) in facts.writes.all.iter().copied() {
            let (effect, over) = (write.effect(), at + write.exchange.took);
            match write.verb {
                Verb::Delete if effect != Effect::Never => {
                    written.deletes.push((at, &write.object));
                    if effect == Effect::Certain {
                        let gone = written.gone.entry(&write.object).or_insert(over);
                        *gone = over.min(*gone);
                    }
                }
                Verb::Delete => {}
                Verb::Create | Verb::Update => {
                    written.writes.insert(write.change, (at, write));
                    if effect == Effect::Certain {
                        written.acknowledged.push((over, at, write));
                    }
                }
            }
        }
        written.acknowledged.sort_by_key(|(over, ..)| *over);
        written.deletes.sort_by_key(|(at, _)| *at);
        written
    }

    /// The first contradiction of each read, given in order of their beginning.
    fn stale(&self, reads: &[(Moment, &'a Read)]) -> Vec<Stale<'a>> {
        let mut acknowledged = self.acknowledged.iter().peekable();
        let mut deletes = self.deletes.iter().peekable();
        // Of each object, when its latest acknowledged write was begun, and its change.
        let mut latest: HashMap<&str, (Moment, u64)> = HashMap::new();
        // Those that have to be there: nobody has begun to delete them.
        let mut standing: BTreeSet<&str> = BTreeSet::new();
        let mut deleted: HashSet<&str> = HashSet::new();
        let mut found = Vec::new();
        for (at, read) in reads.iter().copied() {
            while let Some((_, begun, write)) = acknowledged.next_if(|(over, ..)| *over < at) {
                let known = latest.entry(&write.object).or_insert((*begun, write.change));
                *known = (*known).max((*begun, write.change));
                if !deleted.contains(write.object.as_str()) {
                    standing.insert(&write.object);
                }
            }
            while let Some((_, object)) = deletes.next_if(|(begun, _)| *begun <= at) {
                deleted.insert(object);
                standing.remove(object);
            }
            let over = at + read.exchange.took;
            let going: HashSet<&str> =
                deletes.clone().take_while(|(begun, _)| *begun <= over).map(|(_, object)| *object).collect();
            let wrong = read.objects.iter().find_map(|(object, change)| {
                let what = self.wrong(at, over, object, *change, latest.get(object.as_str()))?;
                Some((object.as_str(), what))
            });
            let missing = || {
                let shown: HashSet<&str> = read.objects.iter().map(|(object, _)| object.as_str()).collect();
                let missing = |object: &&&str| !shown.contains(**object) && !going.contains(**object);
                let object = standing.iter().find(missing)?;
                let (_, change) = latest.get(object)?;
                Some((*object, format!("is missing, and change {change} had been acknowledged")))
            };
            found.extend(wrong.or_else(missing).map(|(object, what)| Stale { at, read, object, what }));
        }
        found
    }

    /// What is wrong with an object that a read shows, if anything.
    fn wrong(
        &self,
        at: Moment,
        over: Moment,
        object: &str,
        change: u64,
        latest: Option<&(Moment, u64)>,
    ) -> Option<String> {
        let Some((begun, write)) = self.writes.get(&change).filter(|(_, write)| write.object == object) else {
            return Some(format!("is shown at change {change}, which nobody wrote"));
        };
        if *begun > over {
            return Some(format!("is shown at change {change}, which was not yet written"));
        }
        if write.effect() == Effect::Never {
            return Some(format!("is shown at change {change}, which was refused"));
        }
        if self.gone.get(object).is_some_and(|gone| *gone < at) {
            return Some(format!("is shown at change {change}, and its delete had been acknowledged"));
        }
        // A write without an answer may take effect at any time.
        let (since, newest) = latest.filter(|_| write.effect() == Effect::Certain)?;
        let superseded = *begun + write.exchange.took < *since;
        superseded.then(|| format!("is shown at change {change}, and change {newest} had been acknowledged"))
    }
}

//! What the sentences of the requirements say about a recording: loops over all of it, without a thought for time.
//!
//! It knows no bound on evidence, no stall and no excuse but those that a sentence grants: a recording of the model is whole. Where a sentence
//! leaves something open, so does the oracle.

use std::collections::BTreeMap;

use rollproof::timeline::*;
use rollproof::timing::secs;

/// What a sentence says about a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is broken, by this.
    Broken(String),
    Fine,
    /// It does not decide this.
    Open,
}

/// All that the sentences speak of.
pub(super) struct Oracle<'a> {
    pub(super) recording: &'a Recording,
    pub(super) writes: Vec<(Moment, &'a Write)>,
    pub(super) watches: BTreeMap<&'a str, Vec<(Moment, &'a Event)>>,
    end: Moment,
}

pub(super) fn acknowledged((at, write): &(Moment, &Write)) -> Option<Moment> {
    (write.effect() == Effect::Certain).then_some(*at + write.exchange.took)
}

pub(super) fn broken(found: Option<String>) -> Said {
    found.map_or(Said::Fine, Said::Broken)
}

impl<'a> Oracle<'a> {
    pub(super) fn of(recording: &'a Recording) -> Self {
        let writes = recording.each(|event| if let Event::Write(write) = event { Some(write) } else { None }).collect();
        let mut watches: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for seen in &recording.observations {
            let probe = match &seen.event {
                Event::ListWatch(call) => &call.probe,
                Event::Listed(list) => &list.probe,
                Event::Delivered(event) => &event.probe,
                Event::WatchEnded(end) => &end.probe,
                Event::Bookmark(bookmark) => &bookmark.probe,
                _ => continue,
            };
            watches.entry(probe).or_default().push((seen.at, &seen.event));
        }
        let ours = |event: &Event| !matches!(event, Event::Audited(_) | Event::AuditLog(_));
        let end = recording.observations.iter().rfind(|seen| ours(&seen.event)).expect("something was seen").at;
        Self { recording, writes, watches, end }
    }

    pub(super) fn says(&self, id: &str) -> Said {
        match id {
            "WATCH-1" => broken(self.each_watch(|watch| self.lost(watch))),
            "WATCH-2" => self.out_of_order(),
            "WATCH-3" => self.twice(),
            "WATCH-4" => self.not_resumed(),
            "WATCH-5" => broken(self.each_watch(|watch| self.unwritten(watch))),
            "WATCH-6" => broken(self.each_watch(|watch| self.stale(watch))),
            "WATCH-7" => broken(self.each_watch(goes_back).or_else(|| self.read_goes_back())),
            "WATCH-8" => self.bookmark_broken(),
            "ROLLOUT-1" => self.new_ones_fail(),
            "ROLLOUT-2" => self.kept_ones_fail(),
            "ROLLOUT-10" => self.ledger(),
            "ROLLOUT-14" => broken(self.misread()),
            "ROLLOUT-15" => broken(self.update_lost()),
            _ => Said::Open,
        }
    }

    fn each_watch(&self, claim: impl Fn(&[(Moment, &'a Event)]) -> Option<String>) -> Option<String> {
        self.watches.iter().find_map(|(probe, watch)| claim(watch).map(|what| format!("{probe}: {what}")))
    }

    pub(super) fn write_of(&self, object: &str, change: u64) -> Option<&(Moment, &'a Write)> {
        self.writes.iter().find(|(_, write)| write.object == object && write.change == change)
    }

    /// The delete of an object that may have taken effect.
    pub(super) fn delete_of(&self, object: &str) -> Option<&(Moment, &'a Write)> {
        let deletes = |(_, write): &&(Moment, &Write)| write.verb == Verb::Delete && write.effect() != Effect::Never;
        self.writes.iter().filter(deletes).find(|(_, write)| write.object == object)
    }

    /// When a watch has each change that it owes: acknowledged, begun after it was open.
    fn owed(&self, watch: &[(Moment, &'a Event)]) -> Vec<(Moment, &'a Write, Option<Moment>)> {
        let opened = watch.iter().find(|(_, event)| matches!(event, Event::Listed(_))).map(|(at, _)| *at);
        let Some(opened) = opened else { return Vec::new() };
        let mut owed = Vec::new();
        for write in self.writes.iter().filter(|(at, _)| *at > opened) {
            let Some(told) = acknowledged(write) else { continue };
            let write = write.1;
            let has = |(at, event): &(Moment, &Event)| match event {
                Event::Delivered(event) if write.verb == Verb::Delete => {
                    event.kind == ChangeKind::Deleted && event.object == write.object
                }
                Event::Delivered(event) => {
                    event.kind != ChangeKind::Deleted && event.object == write.object && event.change == write.change
                }
                Event::Listed(list) if *at > opened => {
                    match list.objects.iter().find(|(object, _)| *object == write.object) {
                        Some((_, shown)) => {
                            *shown >= write.change && write.verb != Verb::Delete || self.maybe(&write.object, *shown)
                        }
                        None => self.delete_of(&write.object).is_some_and(|(began, _)| began <= at),
                    }
                }
                _ => false,
            };
            owed.push((told, write, watch.iter().find(|seen| has(seen)).map(|(at, _)| *at)));
        }
        owed
    }

    pub(super) fn maybe(&self, object: &str, change: u64) -> bool {
        self.write_of(object, change).is_some_and(|(_, write)| write.effect() == Effect::Maybe)
    }

    fn lost(&self, watch: &[(Moment, &'a Event)]) -> Option<String> {
        let (_, write, _) = self.owed(watch).into_iter().find(|(.., has)| has.is_none())?;
        Some(format!("{:?} {}, change {}, never came", write.verb, write.object, write.change))
    }

    fn stale(&self, watch: &[(Moment, &'a Event)]) -> Option<String> {
        let bound = self.recording.header.bounds.fresh;
        let late = |(told, _, has): &(Moment, &Write, Option<Moment>)| has.unwrap_or(self.end).since(*told) > bound;
        let (_, write, _) = self.owed(watch).into_iter().find(late)?;
        Some(format!("change {} came late or never", write.change))
    }

    /// Events of a watch in order, and whether a list stood before each since the one before.
    fn events(watch: &[(Moment, &'a Event)]) -> Vec<(&'a Delivered, bool)> {
        let (mut events, mut listed) = (Vec::new(), false);
        for (_, event) in watch {
            match event {
                Event::Listed(_) => listed = true,
                Event::Delivered(event) => events.push((event, std::mem::take(&mut listed))),
                _ => {}
            }
        }
        events
    }

    fn out_of_order(&self) -> Said {
        let mut said = Said::Fine;
        for watch in self.watches.values() {
            let events = Self::events(watch);
            for (place, (event, _)) in events.iter().enumerate() {
                let before = &events[..place];
                let repeated =
                    before.iter().any(|(other, _)| (other.revision, &other.object) == (event.revision, &event.object));
                let Some((older, _)) = before.iter().find(|(other, _)| other.revision >= event.revision) else {
                    continue;
                };
                // A repetition is another sentence's, and what follows a list another's, too.
                if repeated || events[..=place].iter().any(|(_, listed)| *listed) && place > 0 && self.relisted(watch) {
                    said = if said == Said::Fine { Said::Open } else { said };
                } else {
                    return Said::Broken(format!("{} after {}", event.revision, older.revision));
                }
            }
        }
        said
    }

    fn relisted(&self, watch: &[(Moment, &'a Event)]) -> bool {
        watch.iter().filter(|(_, event)| matches!(event, Event::Listed(_))).count() > 1
    }

    fn twice(&self) -> Said {
        let mut said = Said::Fine;
        for watch in self.watches.values() {
            let events = Self::events(watch);
            for (place, (event, _)) in events.iter().enumerate() {
                let same = |(other, _): &(&Delivered, bool)| {
                    (other.revision, &other.object) == (event.revision, &event.object)
                };
                let Some(first) = events[..place].iter().position(same) else { continue };
                // A list between them is what a relist may repeat.
                if events[first + 1..=place].iter().any(|(_, listed)| *listed) {
                    said = Said::Open;
                } else {
                    return Said::Broken(format!("revision {} twice", event.revision));
                }
            }
        }
        said
    }

    fn not_resumed(&self) -> Said {
        if self.recording.header.disturbance != Some(Restart::Graceful) {
            return Said::Open;
        }
        let mut said = Said::Fine;
        for watch in self.watches.values() {
            let opened = watch.iter().position(|(_, event)| is_open_watch(event)).unwrap_or(watch.len());
            for place in opened..watch.len() {
                let anew = match watch[place].1 {
                    Event::ListWatch(call) => call.call == Call::List || call.from.is_none_or(|from| from == 0),
                    Event::Listed(_) => true,
                    _ => false,
                };
                let ended = watch[..place].iter().rfind(|(_, event)| matches!(event, Event::WatchEnded(_)));
                match ended {
                    _ if !anew => {}
                    Some((at, _)) if self.in_a_restart(*at) => return Said::Broken("it began anew".to_owned()),
                    _ => said = Said::Open,
                }
            }
            let last = watch.iter().rposition(|(_, event)| is_open_watch(event)).unwrap_or(0);
            let never = watch[last..].iter().find(|(_, event)| matches!(event, Event::WatchEnded(_)));
            match never {
                Some((at, _)) if self.in_a_restart(*at) && self.end.since(*at) > secs(5) => {
                    return Said::Broken("it never went on".to_owned());
                }
                Some(_) => said = Said::Open,
                None => {}
            }
        }
        said
    }

    /// Whether an apiserver was being stopped then, or had just been.
    fn in_a_restart(&self, at: Moment) -> bool {
        let lives = self.recording.each(|event| if let Event::Lifecycle(life) = event { Some(life) } else { None });
        let lives: Vec<_> = lives.collect();
        let terms = lives.iter().filter(|(_, life)| life.step == Step::TermSent);
        terms.into_iter().any(|(sent, term)| {
            let exit = lives.iter().find(|(_, life)| life.server == term.server && life.step == Step::Exited);
            at >= *sent && exit.is_some_and(|(exited, _)| at <= *exited)
        })
    }

    /// The most that an acknowledged write's revision can be: a delete's is older than what was begun after it was told.
    fn at_most(&self, write: &Write) -> Option<u64> {
        let told = self.write_of(&write.object, write.change).and_then(acknowledged)?;
        let later =
            self.writes.iter().filter(|(began, _)| *began >= told).filter_map(|(_, later)| later.revision).min();
        write.revision.or_else(|| Some(later? - 1))
    }

    /// A reader lists as well.
    fn read_goes_back(&self) -> Option<String> {
        let mut seen = 0;
        let reads = self.recording.each(|event| if let Event::Read(read) = event { read.revision } else { None });
        for (at, revision) in reads {
            if revision < seen {
                return Some(format!("a read at {at}, of revision {revision} after {seen}"));
            }
            seen = revision;
        }
        None
    }

    fn bookmark_broken(&self) -> Said {
        let mut said = Said::Fine;
        for watch in self.watches.values() {
            for (place, (at, event)) in watch.iter().enumerate() {
                let Event::Bookmark(bookmark) = event else { continue };
                for (_, later) in &watch[place..] {
                    match later {
                        Event::Listed(_) => break,
                        Event::Delivered(event) if event.revision <= bookmark.revision => {
                            let repeated = watch[..place]
                                .iter()
                                .any(|(_, before)| matches!(before, Event::Delivered(before) if before == event));
                            if !repeated {
                                return Said::Broken(format!(
                                    "{} after a bookmark at {}",
                                    event.revision, bookmark.revision
                                ));
                            }
                            said = Said::Open;
                        }
                        _ => {}
                    }
                }
                let missing = self.owed(watch).into_iter().find(|(_, write, has)| {
                    self.at_most(write).is_some_and(|most| most <= bookmark.revision) && has.is_none_or(|has| has > *at)
                });
                if let Some((_, write, _)) = missing {
                    return Said::Broken(format!(
                        "change {} was not there before a bookmark at {}",
                        write.change, bookmark.revision
                    ));
                }
            }
        }
        said
    }
}

fn is_open_watch(event: &Event) -> bool {
    matches!(event, Event::ListWatch(call) if call.call == Call::Watch && call.answer == Ok(200))
}

/// From which revision the next watch was asked for: that of a list that does not say its own.
pub(super) fn next_from(watch: &[(Moment, &Event)]) -> Option<u64> {
    watch.iter().find_map(|(_, event)| match event {
        Event::ListWatch(call) if call.call == Call::Watch => Some(call.from),
        _ => None,
    })?
}

/// A list that is older than what its client has seen.
fn goes_back(watch: &[(Moment, &Event)]) -> Option<String> {
    let mut seen = 0;
    for (place, (_, event)) in watch.iter().enumerate() {
        match event {
            Event::Delivered(event) => seen = seen.max(event.revision),
            Event::Bookmark(bookmark) => seen = seen.max(bookmark.revision),
            Event::Listed(list) => {
                let revision = list.revision.or_else(|| next_from(&watch[place..]))?;
                if revision < seen {
                    return Some(format!("a list at {revision} after {seen}"));
                }
                seen = seen.max(revision);
            }
            _ => {}
        }
    }
    None
}

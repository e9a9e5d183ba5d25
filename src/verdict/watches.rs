//! What each watch saw, and what it should have seen: shared by the WATCH claims.
//!
//! A watch that was opened without a revision begins with events that show the state, in no order: they are no changes. Where it asked for them
//! (`sendInitialEvents`), a bookmark says when they are over, and they are as good as a list.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::conclusive::{Traffic, conclude, conclude_from_records, seen_working};
use super::facts::{Facts, Writes};
use super::lists::{Asked, Lists, Shown};
use super::{Figure, Verdict};
use crate::timeline::{
    Bookmark, Call, ChangeKind, Delivered, Effect, Event, ListWatch, Moment, Observation, Verb, Write,
};

/// One watch probe.
pub(super) struct Watch<'a> {
    pub(super) probe: &'a str,
    /// When it was open for the first time; `None` if it never came so far.
    pub(super) opened: Option<Moment>,
    /// All its observations, in order.
    pub(super) story: Vec<&'a Observation>,
    /// Whole states that it was shown.
    pub(super) lists: Lists<'a>,
    /// Watches that were to begin with the state, as events, and were answered.
    pub(super) begun: Vec<Begun>,
    /// The revision after which it owes every change, where it is known.
    since: Option<u64>,
    /// The greatest revision that it has come to, as it was told in order.
    reached: u64,
    /// Places in the story of events that show the state.
    initial: HashSet<usize>,
    /// First delivery of each change that a write explains, deletes aside.
    applied: HashMap<u64, Moment>,
    /// First delivery of each object's delete.
    deleted: HashMap<&'a str, Moment>,
}

/// A watch that was to begin with the state, as events.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    pub(super) answered: Moment,
    /// When a bookmark said that they were over, if one did.
    pub(super) complete: Option<Moment>,
    /// When that watch was over, if it was.
    pub(super) over: Option<Moment>,
}

/// What became of a change that a watch owed.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// It was delivered.
    Delivered(Moment),
    /// A relist stands for it.
    Relisted(Moment),
    /// Neither.
    Missing,
}

/// Events that show the state, while they come.
struct Initial<'a> {
    answered: Moment,
    asked: Asked,
    /// The state so far, where a bookmark will say that it is whole.
    state: Option<HashMap<&'a str, u64>>,
}

impl<'a> Initial<'a> {
    /// Whether an event is one of them, of a change that was begun then.
    fn takes(&mut self, event: &'a Delivered, begun: Option<Moment>) -> bool {
        match &mut self.state {
            Some(state) if event.kind == ChangeKind::Deleted => drop(state.remove(event.object.as_str())),
            Some(state) => drop(state.insert(&event.object, event.change)),
            None => {
                return matches!(event.kind, ChangeKind::Added | ChangeKind::Applied)
                    && begun.is_none_or(|begun| begun <= self.answered);
            }
        }
        true
    }
}

/// Goes through a watch's story.
struct Reading<'a, 'w> {
    writes: &'w Writes<'a>,
    watch: Watch<'a>,
    /// How the next list was asked for.
    asked: Option<Asked>,
    initial: Option<Initial<'a>>,
    /// The greatest revision that the client has seen.
    known: u64,
    listed_at: Option<Moment>,
    watch_at: Option<Moment>,
    delivered_at: Option<Moment>,
    /// Where the first watch was asked from.
    first_from: Option<Option<u64>>,
}

impl<'a> Reading<'a, '_> {
    fn list_watch(&mut self, at: Moment, call: &'a ListWatch) {
        self.over(at);
        let answered = call.answer == Ok(200);
        if call.call == Call::List {
            if answered {
                self.asked.get_or_insert(Asked::by(call, at, self.known));
            }
            return;
        }
        self.asked = None;
        self.watch.lists.are_followed_from(call.from);
        self.known = self.known.max(call.from.unwrap_or(0));
        self.first_from.get_or_insert(call.from);
        if !answered {
            return;
        }
        let answered = at + call.took;
        self.watch_at.get_or_insert(answered);
        if call.from.is_none() {
            let state = call.initial_events.then(HashMap::new);
            self.initial = Some(Initial { answered, asked: Asked::by(call, at, self.known), state });
            if call.initial_events {
                self.watch.begun.push(Begun { answered, complete: None, over: None });
            }
        }
    }

    /// A watch that was open is so no more.
    fn over(&mut self, at: Moment) {
        self.initial = None;
        if let Some(begun) = self.watch.begun.last_mut() {
            begun.over.get_or_insert(at);
        }
    }

    fn delivered(&mut self, place: usize, at: Moment, event: &'a Delivered) {
        let written = self.writes.of(&event.object, event.change);
        if event.kind == ChangeKind::Deleted {
            self.watch.deleted.entry(&event.object).or_insert(at);
        } else if written.is_some() {
            self.watch.applied.entry(event.change).or_insert(at);
        }
        let begun = written.map(|(begun, _)| begun);
        self.initial = self.initial.take().and_then(|mut initial| initial.takes(event, begun).then_some(initial));
        let Some(initial) = &self.initial else {
            self.known = self.known.max(event.revision);
            self.watch.reached = self.watch.reached.max(event.revision);
            self.delivered_at.get_or_insert(at);
            return;
        };
        self.watch.initial.insert(place);
        if initial.state.is_none() {
            self.watch.lists.show(at, &event.object, event.change);
            self.known = self.known.max(event.revision);
        }
    }

    fn bookmark(&mut self, place: usize, at: Moment, bookmark: &Bookmark) {
        // Events that nobody announced are over with whatever comes in order.
        let announced = |initial: &Initial<'_>| initial.state.is_some();
        self.initial = self.initial.take().filter(announced);
        if bookmark.initial_events_end
            && let Some(Initial { asked, state: Some(objects), .. }) = self.initial.take()
        {
            self.listed(Shown {
                place,
                at,
                asked: Some(asked),
                revision: Some(bookmark.revision),
                known: self.known,
                objects,
            });
            if let Some(begun) = self.watch.begun.last_mut() {
                begun.complete.get_or_insert(at);
            }
        }
        // What is not over yet has been told of nothing in order.
        if self.initial.is_none() {
            self.known = self.known.max(bookmark.revision);
            self.watch.reached = self.watch.reached.max(bookmark.revision);
        }
    }

    fn listed(&mut self, shown: Shown<'a>) {
        self.listed_at.get_or_insert(shown.at);
        self.known = self.known.max(shown.revision.unwrap_or(0));
        self.watch.lists.add(shown, self.delivered_at.is_some());
    }

    fn done(mut self) -> Watch<'a> {
        self.watch.lists.close(self.writes);
        let first = self.watch.lists.first();
        self.watch.since = first.map_or(self.first_from.flatten(), |list| list.revision);
        let listed_at = self.listed_at.filter(|_| first.is_some());
        self.watch.opened = listed_at.or(self.watch_at.into_iter().chain(self.delivered_at).min());
        self.watch.reached = self.watch.reached.max(self.watch.lists.reached());
        self.watch
    }
}

impl<'a> Watch<'a> {
    pub(super) fn of(probe: &'a str, story: Vec<&'a Observation>, writes: &Writes<'a>) -> Self {
        let watch = Self {
            probe,
            opened: None,
            story: Vec::new(),
            lists: Lists::default(),
            begun: Vec::new(),
            since: None,
            reached: 0,
            initial: HashSet::new(),
            applied: HashMap::new(),
            deleted: HashMap::new(),
        };
        let mut reading = Reading {
            writes,
            watch,
            asked: None,
            initial: None,
            known: 0,
            listed_at: None,
            watch_at: None,
            delivered_at: None,
            first_from: None,
        };
        for (place, Observation { at, event }) in story.iter().copied().enumerate() {
            match event {
                Event::ListWatch(call) => reading.list_watch(*at, call),
                Event::Listed(listed) => {
                    let objects = listed.objects.iter().map(|(object, change)| (object.as_str(), *change)).collect();
                    let (asked, known) = (reading.asked.take(), reading.known);
                    reading.listed(Shown { place, at: *at, asked, revision: listed.revision, known, objects });
                }
                Event::Delivered(event) => reading.delivered(place, *at, event),
                Event::Bookmark(bookmark) => reading.bookmark(place, *at, bookmark),
                Event::WatchEnded(_) => reading.over(*at),
                _ => {}
            }
        }
        Self { story, ..reading.done() }
    }

    /// Its events with their places in the story, in order; whether they show the state or a change.
    pub(super) fn events(&self) -> impl Iterator<Item = (usize, Moment, &'a Delivered)> {
        self.story.iter().enumerate().filter_map(|(place, seen)| match &seen.event {
            Event::Delivered(delivered) => Some((place, seen.at, delivered)),
            _ => None,
        })
    }

    /// Whether an event at this place in the story shows the state, and no change.
    pub(super) fn shows_state(&self, place: usize) -> bool {
        self.initial.contains(&place)
    }

    /// The changes it owes, each with its acknowledgement and what became of it: those whose revision is greater than that of the state that it
    /// began with. Where that is not known, those that were begun after it was open.
    pub(super) fn owed(&self, writes: &Writes<'a>) -> impl Iterator<Item = (Moment, &'a Write, Fate)> {
        let certain =
            writes.all.iter().filter(|(at, write)| write.effect() == Effect::Certain && self.owes(*at, write, writes));
        certain.map(|(at, write)| (*at + write.exchange.took, *write, self.fate(*at, write, writes)))
    }

    fn owes(&self, begun: Moment, write: &Write, writes: &Writes<'_>) -> bool {
        let Some(opened) = self.opened else { return false };
        let object = write.object.as_str();
        match (self.since, write.revision) {
            (Some(since), Some(revision)) => revision > since,
            (Some(since), None) if write.verb == Verb::Delete => {
                let was_there = self.lists.first().is_some_and(|list| list.objects.contains_key(object));
                begun > opened || was_there || writes.history.floor(writes, object, begun) > since
            }
            _ => begun > opened,
        }
    }

    fn fate(&self, begun: Moment, write: &Write, writes: &Writes<'_>) -> Fate {
        let event = match write.verb {
            Verb::Delete => self.deleted.get(write.object.as_str()),
            Verb::Create | Verb::Update => self.applied.get(&write.change),
        };
        let floor = || write.revision.unwrap_or_else(|| writes.history.floor(writes, &write.object, begun));
        event.map_or_else(
            || self.lists.stand_for(write, floor(), writes).map_or(Fate::Missing, Fate::Relisted),
            |at| Fate::Delivered(*at),
        )
    }

    /// Whether it went on past a change that was acknowledged then: what it was told in order, or a list, is newer.
    pub(super) fn went_past(&self, acknowledged: Moment, write: &Write, writes: &Writes<'_>) -> bool {
        match write.revision {
            Some(revision) => self.reached >= revision,
            None => writes.history.begun_after(acknowledged).is_some_and(|later| self.reached >= later),
        }
    }

    /// How often a watch was opened again after it had been open.
    pub(super) fn reconnects(&self) -> usize {
        let opened = |event: &Event| match event {
            Event::ListWatch(call) => call.call == Call::Watch && call.answer == Ok(200),
            _ => false,
        };
        self.story.iter().filter(|seen| opened(&seen.event)).count().saturating_sub(1)
    }
}

/// Puts a claim about what is written down to each watch; the worst wins. No stall of ours can hide anything of it.
pub(super) fn each_watch(facts: &Facts<'_>, claim: impl Fn(&Watch<'_>) -> Verdict) -> Verdict {
    each(facts, facts.watches.iter(), |watch, traffic| conclude_from_records(facts, traffic, claim(watch)))
}

/// Puts a claim about what is written down to some of them.
pub(super) fn each_of<'w, 'a: 'w>(
    facts: &'w Facts<'a>,
    watches: impl Iterator<Item = &'w Watch<'a>>,
    claim: impl Fn(&Watch<'_>) -> Verdict,
) -> Option<Verdict> {
    worst(facts, watches, |watch, traffic| conclude_from_records(facts, traffic, claim(watch)))
}

/// Likewise a claim about time.
pub(super) fn each_watch_in_time(facts: &Facts<'_>, claim: impl Fn(&Watch<'_>) -> Verdict) -> Verdict {
    each(facts, facts.watches.iter(), |watch, traffic| {
        conclude(facts, traffic, seen_working(facts, traffic[1], claim(watch)))
    })
}

fn each<'w, 'a: 'w>(
    facts: &'w Facts<'a>,
    watches: impl Iterator<Item = &'w Watch<'a>>,
    judge: impl Fn(&Watch<'a>, &[&Traffic; 2]) -> Verdict,
) -> Verdict {
    worst(facts, watches, judge).unwrap_or_else(|| Verdict::inconclusive("no watch is in the recording"))
}

fn worst<'w, 'a: 'w>(
    facts: &'w Facts<'a>,
    watches: impl Iterator<Item = &'w Watch<'a>>,
    judge: impl Fn(&Watch<'a>, &[&Traffic; 2]) -> Verdict,
) -> Option<Verdict> {
    let writes = facts.writes.all.iter();
    let writes = writes.map(|(at, write)| (*at, write.exchange.took, write.effect() == Effect::Certain));
    let writer = Traffic::of(facts, "the writer".to_owned(), facts.bounds.request_gap, writes);
    // Beside requesters it does not rest.
    let writer = if facts.requesters.is_empty() { writer } else { writer.steady() };
    let unnumbered =
        facts.writes.all.iter().find(|(_, write)| {
            write.verb != Verb::Delete && write.effect() == Effect::Certain && write.revision.is_none()
        });
    let unnumbered = || unnumbered.map(|(_, write)| format!("the answer to change {} gave no revision", write.change));
    Verdict::worst(watches.map(|watch| {
        let events = watch.events().map(|(_, at, _)| (at, Duration::ZERO, true));
        // A reconnect may take as long as a change may be late.
        let gap = facts.bounds.fresh + facts.bounds.request_gap;
        let watch_traffic = Traffic::of(facts, format!("the watch {}", watch.probe), gap, events);
        // With samples before the first fault, it was open then.
        match judge(watch, &[&writer, &watch_traffic]) {
            Verdict::Upheld => unnumbered().map_or(Verdict::Upheld, Verdict::inconclusive),
            judged => judged,
        }
    }))
}

/// The figures that all WATCH claims share.
pub(super) fn figures(facts: &Facts<'_>) -> Vec<Figure> {
    let sum = |count: fn(&Watch<'_>) -> usize| facts.watches.iter().map(count).sum();
    vec![
        Figure::count("events", sum(|watch| watch.events().count())),
        Figure::count("watches", facts.watches.len()),
        Figure::count("watch reconnects", sum(|watch| watch.reconnects())),
        Figure::count("relists", sum(|watch| watch.lists.again().len())),
    ]
}

/// The observations that matter to one object on one watch: an excerpt's filter.
pub(super) fn concerns<'b>(watch: &'b Watch<'_>, object: &'b str) -> impl Fn(&Event) -> bool + 'b {
    move |event| match event {
        Event::Delivered(seen) => seen.probe == watch.probe,
        Event::Listed(seen) => seen.probe == watch.probe,
        Event::WatchEnded(seen) => seen.probe == watch.probe,
        Event::ListWatch(seen) => seen.probe == watch.probe,
        Event::Bookmark(seen) => seen.probe == watch.probe,
        Event::Write(write) => write.object == object,
        Event::FaultOn(_) | Event::FaultOff(_) => true,
        _ => false,
    }
}

//! What each watch saw, and what it should have seen: shared by the WATCH claims.

use std::collections::HashMap;
use std::time::Duration;

use super::conclusive::{Traffic, conclude};
use super::facts::{Facts, Writes};
use super::{Figure, Verdict};
use crate::timeline::{Call, ChangeKind, Delivered, Effect, Event, Listed, Moment, Observation, Verb, Write};

/// One watch probe.
pub(super) struct Watch<'a> {
    pub(super) probe: &'a str,
    /// From here on it owes every change; `None` if it never came so far.
    pub(super) opened: Option<Moment>,
    /// All its observations, in order.
    pub(super) story: Vec<&'a Observation>,
    /// What the list that it began with showed, if it began with one.
    pub(super) first_list: Option<HashMap<&'a str, u64>>,
    /// The lists after the first, or after the first event.
    pub(super) relists: Vec<Relist<'a>>,
    /// First delivery of each change that a write explains, deletes aside.
    applied: HashMap<u64, Moment>,
    /// First delivery of each object's delete.
    deleted: HashMap<&'a str, Moment>,
}

/// A list that stands in for events.
pub(super) struct Relist<'a> {
    pub(super) at: Moment,
    pub(super) listed: &'a Listed,
    state: HashMap<&'a str, u64>,
}

/// What became of a change that a watch owed.
pub(super) enum Fate {
    /// It was delivered.
    Delivered(Moment),
    /// A relist stands for it.
    Relisted(Moment),
    /// Neither.
    Missing,
}

impl<'a> Watch<'a> {
    pub(super) fn of(probe: &'a str, story: Vec<&'a Observation>, writes: &Writes<'a>) -> Self {
        let (mut first_list, mut listed_at, mut watch_at, mut delivered_at) = (None, None, None, None);
        let mut relists = Vec::new();
        let (mut applied, mut deleted) = (HashMap::new(), HashMap::new());
        for Observation { at, event } in story.iter().copied() {
            match event {
                Event::Listed(listed) if first_list.is_none() && delivered_at.is_none() => {
                    first_list = Some(state(listed));
                    listed_at = Some(*at);
                }
                Event::Listed(listed) => {
                    relists.push(Relist { at: *at, listed, state: state(listed) });
                }
                Event::ListWatch(call) if call.call == Call::Watch && call.answer == Ok(200) => {
                    watch_at.get_or_insert(*at + call.took);
                }
                Event::Delivered(seen) => {
                    delivered_at.get_or_insert(*at);
                    if seen.kind == ChangeKind::Deleted {
                        deleted.entry(seen.object.as_str()).or_insert(*at);
                    } else if writes.of(&seen.object, seen.change).is_some() {
                        applied.entry(seen.change).or_insert(*at);
                    }
                }
                _ => {}
            }
        }
        let opened = listed_at.or(watch_at.into_iter().chain(delivered_at).min());
        Self { probe, opened, story, first_list, relists, applied, deleted }
    }

    /// Its events, in order.
    pub(super) fn delivered(&self) -> impl Iterator<Item = (Moment, &'a Delivered)> {
        self.story.iter().filter_map(|seen| match &seen.event {
            Event::Delivered(delivered) => Some((seen.at, delivered)),
            _ => None,
        })
    }

    /// The changes it owes, acknowledged and begun after it was open, each with its acknowledgement and what became of
    /// it.
    pub(super) fn owed(&self, writes: &Writes<'a>) -> impl Iterator<Item = (Moment, &'a Write, Fate)> {
        writes
            .all
            .iter()
            .filter(|(at, write)| self.opened.is_some_and(|opened| *at > opened) && write.effect() == Effect::Certain)
            .map(|(at, write)| (*at + write.exchange.took, *write, self.fate(write, writes)))
    }

    fn fate(&self, write: &Write, writes: &Writes<'_>) -> Fate {
        let event = match write.verb {
            Verb::Delete => self.deleted.get(write.object.as_str()),
            Verb::Create | Verb::Update => self.applied.get(&write.change),
        };
        let relist = || self.relists.iter().find(|relist| relist.stands_for(write, writes));
        match event {
            Some(at) => Fate::Delivered(*at),
            None => relist().map_or(Fate::Missing, |relist| Fate::Relisted(relist.at)),
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

impl Relist<'_> {
    /// Whether somebody who has this list needs no event of that change any more: the list shows its object at it or
    /// later, or does not show it because it was deleted.
    fn stands_for(&self, write: &Write, writes: &Writes<'_>) -> bool {
        if let Some(change) = self.state.get(write.object.as_str()) {
            return *change >= write.change;
        }
        let later = self.listed.revision.zip(write.revision).is_none_or(|(list, write)| list >= write);
        let deleted = writes
            .delete_of(&write.object)
            .is_some_and(|(at, delete)| delete.effect() != Effect::Never && at <= self.at);
        later && deleted
    }
}

/// Each object of a list with the change it carries.
pub(super) fn state(list: &Listed) -> HashMap<&str, u64> {
    list.objects.iter().map(|(object, change)| (object.as_str(), *change)).collect()
}

/// Puts a claim to each watch; the worst wins.
pub(super) fn each_watch(facts: &Facts<'_>, claim: impl Fn(&Watch<'_>) -> Verdict) -> Verdict {
    let writes = facts.writes.all.iter();
    let writes = writes.map(|(at, write)| (*at, write.exchange.took, write.effect() == Effect::Certain));
    let writer = Traffic::of(facts, "the writer".to_owned(), facts.bounds.request_gap, writes);
    Verdict::worst(facts.watches.iter().map(|watch| {
        let events = watch.delivered().map(|(at, _)| (at, Duration::ZERO, true));
        // A reconnect may take as long as a change may be late.
        let gap = facts.bounds.fresh + facts.bounds.request_gap;
        let watch_traffic = Traffic::of(facts, format!("the watch {}", watch.probe), gap, events);
        conclude(facts, &[&writer, &watch_traffic], claim(watch))
    }))
    .unwrap_or_else(|| Verdict::inconclusive("no watch is in the recording"))
}

/// The figures that all WATCH claims share.
pub(super) fn figures(facts: &Facts<'_>) -> Vec<Figure> {
    let sum = |count: fn(&Watch<'_>) -> usize| facts.watches.iter().map(count).sum();
    vec![
        Figure::count("events", sum(|watch| watch.delivered().count())),
        Figure::count("watches", facts.watches.len()),
        Figure::count("watch reconnects", sum(|watch| watch.reconnects())),
        Figure::count("relists", sum(|watch| watch.relists.len())),
    ]
}

/// The observations that matter to one object on one watch: an excerpt's filter.
pub(super) fn concerns<'b>(watch: &'b Watch<'_>, object: &'b str) -> impl Fn(&Event) -> bool + 'b {
    move |event| match event {
        Event::Delivered(seen) => seen.probe == watch.probe,
        Event::Listed(seen) => seen.probe == watch.probe,
        Event::WatchEnded(seen) => seen.probe == watch.probe,
        Event::ListWatch(seen) => seen.probe == watch.probe,
        Event::Write(write) => write.object == object,
        Event::FaultOn(_) | Event::FaultOff(_) => true,
        _ => false,
    }
}

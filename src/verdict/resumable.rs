//! WATCH-4: a watch that ends goes on where it was, soon and without a relist.
//!
//! An apiserver that was itself started after the last revision its client knows may answer 410: its watch cache begins later. That is excused once for
//! each watch and start, with the one list that follows. A client that opens a watch from an older revision than the last one delivered repeats events: that
//! is WATCH-3's. From a newer one: a bookmark may have told it, and if not, WATCH-1 will.
//!
//! ```text
//! wrote 1 2   | saw 1 (cut) 2                                  ->  upheld
//! wrote 1 2   | saw 1 (cut, relist 2)                          ->  violated: relisted
//! watch from 5, ended; watch from the newest                   ->  violated: it has forgotten where it was
//! watch ended, and was never answered again; or after 40 s     ->  violated
//! relist, and then apiservers are restarted                    ->  that was not because of them
//! 410 by an apiserver that was ready before revision 5 came    ->  violated, if a list follows
//! 410 by one that was started after it, then a list            ->  upheld: gone-after-restart
//! apiservers restarted, and the watch was never interrupted    ->  inconclusive
//! ```

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::audit::Received;
use super::conclusive::{Rests, first_breach};
use super::excerpt::{describe, excerpt};
use super::facts::Facts;
use super::watches::{Watch, concerns, each_watch, figures};
use super::{Figure, Verdict};
use crate::spec::excuse::GONE_AFTER_RESTART;
use crate::timeline::{Call, ErrorClass, Event, Failure, ListWatch, Moment, Observation, Step};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let verdict = each_watch(facts, |watch| claim(facts, watch));
    let granted = facts.watches.iter().map(|watch| Resuming::through(facts, watch).granted.len()).sum();
    let mut own = figures(facts);
    own.push(Figure::granted(&GONE_AFTER_RESTART, granted, facts.watches.len() * facts.restarts.len()));
    (verdict, own)
}

fn claim(facts: &Facts<'_>, watch: &Watch<'_>) -> Verdict {
    let Resuming { breaches, doubt, soon, interrupted, .. } = Resuming::through(facts, watch);
    let began = facts.recording.header.began_at;
    let found = first_breach(facts, breaches, |Breach { at, actual }| {
        let gone = watch.story.iter().rfind(|seen| seen.at <= at && says_gone(&seen.event));
        let because = gone.map_or(String::new(), |gone| format!("; it had been told 410: {}", describe(began, gone)));
        Verdict::Violated {
            expected: "a watch that is soon open again from the last revision it knew, without a relist".to_owned(),
            actual: format!("{actual}{because}"),
            excerpt: excerpt(facts, at, concerns(watch, "")),
        }
    })
    .unwrap_or(Verdict::Upheld);
    let unknown = doubt.or_else(|| {
        soon.map(|_| format!("the recording ends soon after {} was interrupted", watch.probe)).or_else(|| {
            let never = format!("the watch {} was not interrupted, so it did not have to resume", watch.probe);
            (!interrupted).then_some(never)
        })
    });
    match (found, unknown) {
        (Verdict::Upheld, Some(why)) => Verdict::inconclusive(why),
        (found, _) => found,
    }
}

struct Breach {
    at: Moment,
    actual: String,
}

/// Goes through a watch's story, from end to end of what it is connected to.
struct Resuming<'f, 'a> {
    facts: &'f Facts<'a>,
    probe: &'a str,
    /// When each apiserver's process ended.
    exits: HashMap<&'a str, Vec<Moment>>,
    /// The last watch request since one was open, and when the watch before it had ended.
    last: Option<(Moment, &'a ListWatch, Option<Moment>)>,
    /// Whether it is open.
    open: bool,
    /// Since when it is not open any more.
    down: Option<Moment>,
    /// The last revision it knows, and when it came.
    known: Option<(u64, Moment)>,
    /// Whether it knows any: that one, or one that its library keeps to itself.
    knows: bool,
    /// Whether one list is excused.
    list_excused: bool,
    breaches: Vec<(Rests, Breach)>,
    /// The starts of apiservers for which it was told 410, and excused.
    granted: HashSet<(&'a str, Moment)>,
    /// Why it may be excused, and nobody knows.
    doubt: Option<String>,
    /// When it was interrupted at last, if the recording ends too soon after.
    soon: Option<Moment>,
    interrupted: bool,
}

impl<'f, 'a> Resuming<'f, 'a> {
    fn through(facts: &'f Facts<'a>, watch: &Watch<'a>) -> Self {
        let mut exits: HashMap<_, Vec<_>> = HashMap::new();
        for (at, step) in facts.lifecycle.iter().filter(|(_, step)| step.step == Step::Exited) {
            exits.entry(step.server.as_str()).or_default().push(*at);
        }
        let mut resuming = Self {
            facts,
            probe: watch.probe,
            exits,
            last: None,
            open: false,
            down: None,
            known: None,
            knows: false,
            list_excused: false,
            breaches: Vec::new(),
            granted: HashSet::new(),
            doubt: None,
            soon: None,
            interrupted: false,
        };
        for (place, seen) in watch.story.iter().copied().enumerate() {
            match &seen.event {
                Event::ListWatch(call) => resuming.call(seen, call),
                Event::WatchEnded(_) => {
                    resuming.ended(seen.at);
                    resuming.gone(seen);
                }
                Event::Listed(list) => {
                    let first = watch.lists.first().is_some_and(|first| first.place == place);
                    resuming.listed(seen, first, list.revision);
                }
                Event::Bookmark(bookmark) => resuming.learns(bookmark.revision, seen.at),
                // What shows the state up to a bookmark says nothing before it.
                Event::Delivered(event) if !watch.shows_state(place) => resuming.learns(event.revision, seen.at),
                _ => {}
            }
        }
        resuming.exited(facts.end);
        if let Some(down) = resuming.down {
            resuming.never_open_again(down);
        }
        resuming
    }

    fn learns(&mut self, revision: u64, at: Moment) {
        (self.known, self.knows) = (Some((revision, at)), true);
    }

    /// The watch was open until then, if it was at all.
    fn ended(&mut self, at: Moment) {
        if self.last.is_some() && std::mem::take(&mut self.open) {
            self.down.get_or_insert(at);
            let (from, until) = self.facts.disturbed();
            self.interrupted |= at >= from && at <= until + self.facts.bounds.close_noticed;
        }
    }

    /// A watch ends with the process that it leads to, whatever its client is told.
    fn exited(&mut self, before: Moment) {
        let Some((at, call, _)) = self.last.filter(|_| self.open) else { return };
        let exits = self.facts.audit.server_of(&call.audit_id).and_then(|server| self.exits.get(server));
        let Some(exits) = exits else { return };
        let next = exits.partition_point(|exit| *exit < at + call.took);
        if let Some(exit) = exits.get(next).copied().filter(|exit| *exit < before) {
            self.ended(exit);
        }
    }

    fn call(&mut self, seen: &'a Observation, call: &'a ListWatch) {
        let again = self.last.is_some();
        self.exited(seen.at);
        if again {
            self.ended(seen.at);
        }
        if call.call == Call::List {
            if again && !self.list_excused {
                self.breach(seen);
            }
            return;
        }
        let from_nowhere = call.from.unwrap_or(0) == 0;
        if self.knows && again && from_nowhere {
            if self.list_excused {
                // It begins anew with the state as events.
                (self.known, self.knows) = (None, false);
            } else {
                self.breach(seen);
            }
        }
        self.knows |= !from_nowhere;
        let ended = self.down;
        if call.answer == Ok(200) {
            let answered = seen.at + call.took;
            if let Some(down) = self.down.take() {
                self.open_again(down, answered);
            }
            (self.open, self.list_excused) = (true, false);
        }
        // One that was never open has nothing to go on from.
        if again || self.open {
            self.last = Some((seen.at, call, ended));
        }
        self.gone(seen);
    }

    fn listed(&mut self, seen: &'a Observation, first: bool, revision: Option<u64>) {
        if !first && !std::mem::take(&mut self.list_excused) {
            self.breach(seen);
        }
        if let Some(revision) = revision {
            self.learns(revision, seen.at);
        }
    }

    /// Whether something happened because of what was done.
    fn because(&self, at: Moment) -> bool {
        self.facts.disturbance().is_none() || at >= self.facts.disturbed().0
    }

    fn breach(&mut self, seen: &Observation) {
        if self.because(seen.at) {
            let actual = describe(self.facts.recording.header.began_at, seen);
            self.breaches.push((Rests::OnRecord, Breach { at: seen.at, actual }));
        }
    }

    fn bound(&self) -> Duration {
        self.facts.bounds.fresh.max(self.facts.bounds.resumed)
    }

    fn open_again(&mut self, down: Moment, answered: Moment) {
        let took = answered.since(down);
        if took > self.bound() && self.because(down) {
            let actual = format!("{} was open again after {:.3} s", self.probe, took.as_secs_f64());
            self.breaches.push((Rests::OnTime(down, down + self.bound()), Breach { at: down, actual }));
        }
    }

    fn never_open_again(&mut self, down: Moment) {
        let (from, until) = self.facts.disturbed();
        if down < from && self.facts.disturbance().is_some() {
            return;
        }
        if self.facts.end.since(down) > self.bound() {
            let end = self.facts.clock(self.facts.end);
            let actual = format!("{} was never open again, until {end}", self.probe);
            self.breaches.push((Rests::OnTime(down, down + self.bound()), Breach { at: down, actual }));
        } else if down <= until {
            self.soon = Some(down);
        }
    }

    /// It is told 410, if it is: whether a list is excused then.
    fn gone(&mut self, seen: &Observation) {
        let (Some((asked, call, ended)), true) = (self.last, says_gone(&seen.event)) else { return };
        self.ended(seen.at);
        // Of one answer, its client may tell twice.
        if self.list_excused {
            return;
        }
        match self.facts.audit.received(&call.audit_id, None) {
            Received::Yes => {
                let start = self.facts.audit.server_of(&call.audit_id).and_then(|server| {
                    let started = self.start_after_what_it_knew(server, asked, call, ended)?;
                    Some((server, started))
                });
                self.list_excused = start.is_some_and(|start| self.granted.insert(start));
            }
            Received::No => {}
            Received::Unknown(why) => {
                self.list_excused = true;
                let at = self.facts.clock(seen.at);
                let doubt = format!("{} was told 410 at {at}, and nobody knows by which apiserver: {why}", self.probe);
                self.doubt.get_or_insert(doubt);
            }
        }
    }

    /// When an apiserver was started last, if it was not ready before the revision came that it was asked for.
    fn start_after_what_it_knew(
        &self,
        server: &str,
        asked: Moment,
        call: &ListWatch,
        ended: Option<Moment>,
    ) -> Option<Moment> {
        let (revision, came) = self.known?;
        let from = call.from.filter(|from| *from >= revision)?;
        // A newer one came by a bookmark that was not told of, some time before the watch had ended.
        let came = if from > revision { ended.unwrap_or(asked) } else { came };
        let until = self.facts.lifecycle.partition_point(|(at, _)| *at <= asked + call.took);
        let life = self.facts.lifecycle[..until].iter().rev().filter(|(_, step)| step.server == server);
        let (mut ready, mut started) = (None, None);
        for (at, step) in life {
            match step.step {
                Step::Ready => ready = Some(*at),
                Step::Started => {
                    started = Some(*at);
                    break;
                }
                _ => {}
            }
        }
        started.filter(|_| ready.is_none_or(|ready| ready > came))
    }
}

/// Whether a client is told that the revision is too old: by the answer, or by an event of a watch that was answered.
pub(super) fn says_gone(event: &Event) -> bool {
    // kube-rs's watcher has a class of its own for errors that come as events.
    let is_gone =
        |failure: &Failure| failure.class == ErrorClass::Gone || failure.text.contains("too old resource version");
    match event {
        Event::ListWatch(call) => match &call.answer {
            Ok(status) => *status == 410,
            Err(failure) => is_gone(failure),
        },
        Event::WatchEnded(end) => end.failure.as_ref().is_some_and(is_gone),
        _ => false,
    }
}

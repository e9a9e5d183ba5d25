//! Watches on the writer's objects: one by a careful user, and one by a library that does not say of which revision its lists are.

use std::collections::BTreeMap;

use rollproof::timeline::*;

use super::apiserver::{Change, ControlPlane};
use super::{Bug, END, Simulation};
use crate::shorthand::{WATCH, list_call};

/// Who watches.
struct Watcher {
    probe: &'static str,
    /// Whether it is a library that says "applied", keeps bookmarks and the revisions of lists to itself, and waits before it tries again.
    library: bool,
    /// The last revision that it knows.
    last: u64,
    now: u64,
    requests: u64,
    /// Whether it has listed since it was open.
    listed: bool,
}

/// How many ends of watches there are, more or less, and how many events on one watch.
const ENDS: u64 = 4;
const EVENTS: u64 = 180;

pub(super) fn watch(plane: &ControlPlane, run: &mut Simulation) {
    for (probe, library) in [(WATCH, false), ("watcher", true)] {
        let mut watcher = Watcher { probe, library, last: 0, now: 400, requests: 0, listed: false };
        watcher.list(plane, run, true);
        while watcher.now < END {
            if !watcher.stays_open(plane, run) {
                watcher.list(plane, run, false);
            }
        }
    }
}

impl Watcher {
    fn call(
        &mut self,
        run: &mut Simulation,
        call: Call,
        from: Option<u64>,
        answer: Result<u16, Failure>,
        server: usize,
    ) {
        self.requests += 1;
        let audit_id = format!("{}-{}", self.probe, self.requests);
        if answer.is_ok() {
            run.audited.push((audit_id.clone(), server, true));
        }
        let mut event = list_call(call, from);
        if let Event::ListWatch(call) = &mut event {
            (call.probe, call.audit_id, call.answer) = (self.probe.into(), audit_id, answer);
        }
        run.see(self.now, event);
        self.now += 1;
    }

    /// A list of the most recent state, by whichever apiserver.
    fn list(&mut self, plane: &ControlPlane, run: &mut Simulation, first: bool) {
        let server = self.connect(plane, run);
        let asked = self.now;
        self.call(run, Call::List, None, Ok(200), server);
        let mut revision = plane.revision_at(asked);
        let mut state = plane.state_at(revision);
        if !first && run.strikes(Bug::StaleRelist, 1) {
            revision = plane.revision_at(asked.saturating_sub(4000));
            state = plane.state_at(revision);
        }
        if !first && run.strikes(Bug::OldStateAtANewRevision, 1) {
            state = plane.state_at(plane.revision_at(asked.saturating_sub(4000)));
        }
        if !first && run.strikes(Bug::EmptyRelist, 1) {
            state = BTreeMap::new();
        }
        if !first && run.strikes(Bug::ResurrectedInARelist, 1) {
            let deleted = plane.history.iter().rfind(|it| it.kind == ChangeKind::Deleted && it.at + 1000 < asked);
            state.extend(deleted.map(|it| (it.object.clone(), it.change)));
        }
        let said = Some(revision).filter(|_| !self.library);
        let objects = state.into_iter().collect();
        run.see(self.now, Event::Listed(Listed { probe: self.probe.into(), revision: said, objects }));
        (self.last, self.now, self.listed) = (revision, self.now + 1, true);
    }

    /// Goes through the balancer until somebody is there.
    fn connect(&mut self, plane: &ControlPlane, run: &mut Simulation) -> usize {
        loop {
            let server = plane.new_connection(self.now, &mut run.random);
            if plane.servers[server].is_there(self.now) {
                return server;
            }
            let failure = Failure { class: ErrorClass::ConnectionRefused, text: String::new() };
            self.call(run, Call::Watch, Some(self.last), Err(failure.clone()), server);
            self.ended(run, Some(failure));
        }
    }

    fn ended(&mut self, run: &mut Simulation, failure: Option<Failure>) {
        run.see(self.now, Event::WatchEnded(WatchEnded { probe: self.probe.into(), failure }));
        self.now += if self.library { 300 } else { 2 };
    }

    /// Watches until the watch ends. False: it has to list.
    fn stays_open(&mut self, plane: &ControlPlane, run: &mut Simulation) -> bool {
        let server = self.connect(plane, run);
        let oldest = plane.reaches_back_to(self.now);
        if self.last < oldest {
            self.call(run, Call::Watch, Some(self.last), Ok(410), server);
            self.ended(run, Some(Failure { class: ErrorClass::Gone, text: "too old resource version".into() }));
            return false;
        }
        let resumes = !std::mem::take(&mut self.listed);
        let mut from = Some(self.last);
        if resumes && run.strikes(Bug::ResumesTooOld, ENDS) {
            from = Some(plane.revision_at(self.now.saturating_sub(800)).min(self.last - 1));
        }
        if resumes && run.strikes(Bug::ResumesTooNew, ENDS) {
            from = Some(plane.revision_at(self.now + 600));
        }
        if resumes && run.strikes(Bug::ResumesFromTheNewest, ENDS) {
            from = None;
        }
        let opened = self.now;
        self.call(run, Call::Watch, from, Ok(200), server);
        self.last = from.unwrap_or_else(|| plane.revision_at(opened));
        let apiserver = &plane.servers[server];
        // It has only so long, as it asked.
        let timeout = opened + run.random.from(4000, 14_000);
        let ends = apiserver
            .ends_watches(opened)
            .saturating_add(run.random.from(1, if plane.how == Some(Restart::Killed) { 10 } else { 200 }))
            .min(timeout)
            .min(END);
        self.deliver(plane, run, server, ends);
        self.now = ends;
        if ends == END {
            return true;
        }
        let killed = plane.how == Some(Restart::Killed) && ends < timeout;
        let failure = killed.then(|| Failure { class: ErrorClass::ConnectionReset, text: String::new() });
        self.ended(run, failure);
        if run.strikes(Bug::NeverReopens, ENDS) {
            self.now = END;
        }
        // Bugs of lists take a list.
        let lists = [Bug::StaleRelist, Bug::OldStateAtANewRevision, Bug::EmptyRelist, Bug::ResurrectedInARelist];
        let relists =
            run.strikes(Bug::RelistsInstead, ENDS) || (ends > 5000 && lists.into_iter().any(|bug| run.has(bug)));
        !relists
    }

    /// What comes on one watch, until it ends.
    fn deliver(&mut self, plane: &ControlPlane, run: &mut Simulation, server: usize, ends: u64) {
        let apiserver = &plane.servers[server];
        let (mut at, mut bookmark) = (self.now, self.now + 900);
        let (mut due, mut withheld): (Vec<(u64, Change)>, _) = (Vec::new(), 0);
        for change in plane.history.iter().filter(|change| change.revision > self.last) {
            at = at.max(change.at + apiserver.lag(change.at)) + 1;
            if run.strikes(Bug::LateEvent, EVENTS) {
                withheld = 5000;
            }
            at += std::mem::take(&mut withheld);
            due.push((at, change.clone()));
        }
        let place = due.iter().position(|_| run.strikes(Bug::SwapsEvents, EVENTS));
        if let Some(place) = place.filter(|place| place + 1 < due.len()) {
            let (one, other) = (due[place].1.clone(), due[place + 1].1.clone());
            (due[place].1, due[place + 1].1) = (other, one);
            // Neither came before it was written.
            due[place].0 = due[place + 1].0;
        }
        for (at, change) in &due {
            while bookmark < (*at).min(ends) {
                // It has come as far as that, others' revisions included.
                let told = plane.revision_at(bookmark.saturating_sub(apiserver.lag(bookmark))).min(change.revision - 1);
                let early = !self.library && run.strikes(Bug::BookmarkTooNew, 15);
                self.last = if early { change.revision } else { told.max(self.last) };
                let bookmarked = Bookmark { probe: self.probe.into(), revision: self.last, initial_events_end: false };
                if !self.library {
                    run.see(bookmark, Event::Bookmark(bookmarked));
                }
                bookmark += 900;
            }
            if *at >= ends {
                return;
            }
            self.event(plane, run, *at, change);
        }
    }

    fn event(&mut self, plane: &ControlPlane, run: &mut Simulation, at: u64, change: &Change) {
        let Change { revision, object, change: carries, kind, at: committed } = change.clone();
        let kind = if self.library && kind != ChangeKind::Deleted { ChangeKind::Applied } else { kind };
        let mut event = Delivered { probe: self.probe.into(), kind, object, revision, change: carries };
        self.last = self.last.max(revision);
        if run.strikes(Bug::DropsAnEvent, EVENTS) {
            return;
        }
        let others = || plane.history.iter().rfind(|other| other.at < committed && other.object != change.object);
        if run.strikes(Bug::WrongRevision, EVENTS) {
            event.revision += 1;
        }
        if run.strikes(Bug::WrongContent, EVENTS) {
            event.change += 100_000;
        }
        if run.strikes(Bug::WrongObject, EVENTS) {
            event.object = others().map_or_else(|| "stranger".to_owned(), |other| other.object.clone());
        }
        if kind != ChangeKind::Applied && run.strikes(Bug::WrongKind, EVENTS / 2) {
            event.kind = if kind == ChangeKind::Added { ChangeKind::Modified } else { ChangeKind::Added };
        }
        if kind == ChangeKind::Deleted
            && let Some(other) = others().map(|other| other.revision)
            && run.strikes(Bug::DeletedAtAnothersRevision, EVENTS / 6)
        {
            event.revision = other;
        }
        let early = if run.strikes(Bug::EventBeforeItsWrite, EVENTS) { 3000 } else { 0 };
        if run.strikes(Bug::RepeatsAnEvent, EVENTS) {
            run.see(at, Event::Delivered(event.clone()));
        }
        run.see(at.saturating_sub(early).max(500), Event::Delivered(event));
    }
}

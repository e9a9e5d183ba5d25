//! A recording, sorted by who did what: built in one pass, so that judging stays linear.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::audit::AuditLogs;
use super::history::History;
use super::stalls::Stalls;
use super::watches::Watch;
use crate::timeline::{
    BackendHealth, ConnectionKind, Effect, Event, Fault, InFlight, Lifecycle, Load, LoadLeft, Loss, Moment,
    Observation, Recording, Request, Restart, ServerHealth, Step, Ticked, Verb, Write,
};
use crate::timing::Bounds;

/// What the judges look at.
pub(super) struct Facts<'a> {
    pub(super) recording: &'a Recording,
    pub(super) bounds: Bounds,
    /// The gateway that is judged, where there are several side by side.
    pub(super) gateway: Option<&'a str>,
    /// The last thing that a probe, a server or the balancer did: logs are read later.
    pub(super) end: Moment,
    /// The faults of the announced kind, in order.
    pub(super) restarts: Vec<Restarted<'a>>,
    /// From the first of them on to the end of the last.
    disturbed: (Moment, Moment),
    /// The others.
    pub(super) other_faults: Vec<(Moment, &'a Fault)>,
    /// When a requester, a writer or a worker asked for something at last.
    pub(super) asked_until: Moment,
    /// How long the slowest look at an apiserver's health took.
    pub(super) longest_look: Duration,
    /// Steps in the life of all apiservers, in order.
    pub(super) lifecycle: Vec<(Moment, &'a Lifecycle)>,
    pub(super) health: Vec<(Moment, &'a ServerHealth)>,
    pub(super) stalls: Stalls,
    /// Signs of life of our own, in order.
    pub(super) ticked: Vec<(Moment, Ticked)>,
    /// Losses of packets on purpose: from when, until when if they were over, and to whom.
    pub(super) losses: Vec<(Moment, Option<Moment>, &'a Loss)>,
    /// Whom the balancer took out of service because a check was not answered in time.
    pub(super) unanswered: Vec<(Moment, &'a BackendHealth)>,
    /// What the audit logs have, and whether their silence says anything.
    pub(super) audit: AuditLogs<'a>,
    pub(super) requesters: BTreeMap<&'a str, Vec<(Moment, &'a Request)>>,
    pub(super) watches: Vec<Watch<'a>>,
    pub(super) writes: Writes<'a>,
    /// The steps of each worker of the load.
    pub(super) load: BTreeMap<&'a str, Vec<(Moment, &'a Load)>>,
    /// What the load left behind, if that was looked at.
    pub(super) load_left: Option<(Moment, &'a LoadLeft)>,
    /// Requests that were held in flight.
    pub(super) in_flight: Vec<(Moment, &'a InFlight)>,
}

/// What the writers did.
#[derive(Default)]
pub(super) struct Writes<'a> {
    /// In order of their start.
    pub(super) all: Vec<(Moment, &'a Write)>,
    /// Position in `all` by [`Write::change`].
    by_change: HashMap<u64, usize>,
    /// Position in `all` of each object's delete. Names are never used again.
    deletes: HashMap<&'a str, usize>,
    /// Each object's certain creates and updates whose revision is known: (revision, change), by revision.
    pub(super) versions: HashMap<&'a str, Vec<(u64, u64)>>,
    /// The order in which they took effect.
    pub(super) history: History<'a>,
}

/// One fault and what became of the server.
pub(super) struct Restarted<'a> {
    pub(super) server: &'a str,
    /// When the fault was over, if it was.
    pub(super) off: Option<Moment>,
    pub(super) on: Moment,
    /// From the signal that stopped it to the next one, or to the end.
    pub(super) steps: Vec<(Moment, &'a Lifecycle)>,
}

impl<'a> Facts<'a> {
    /// What is behind the apiservers where sessions lead.
    pub(super) fn behind_sessions(&self) -> &'static str {
        let stand_in = self.recording.header.subjects.iter().any(|subject| subject.name == "kwok");
        if stand_in { "kwok (no containers)" } else { "pods" }
    }

    /// When an apiserver was frozen: from when, until when if it was thawed, and which.
    pub(super) fn frozen(&self) -> impl Iterator<Item = (Moment, Option<Moment>, &'a str)> {
        let frozen = self.lifecycle.iter().filter(|(_, step)| step.step == Step::Frozen);
        frozen.map(|(on, frozen)| {
            let mut later = self.lifecycle.iter().filter(|(at, step)| at >= on && step.server == frozen.server);
            let thawed = later.find(|(_, step)| step.step == Step::Thawed);
            (*on, thawed.map(|(at, _)| *at), frozen.server.as_str())
        })
    }

    pub(super) fn of(recording: &'a Recording) -> Self {
        let mut facts = Self {
            recording,
            bounds: recording.header.bounds,
            gateway: None,
            end: end(recording),
            restarts: Vec::new(),
            disturbed: Default::default(),
            other_faults: Vec::new(),
            asked_until: recording.header.began_at,
            longest_look: Duration::ZERO,
            lifecycle: Vec::new(),
            health: Vec::new(),
            stalls: Stalls::of(Vec::new()),
            ticked: Vec::new(),
            losses: Vec::new(),
            unanswered: Vec::new(),
            audit: AuditLogs::of(recording),
            requesters: BTreeMap::new(),
            watches: Vec::new(),
            writes: Writes::default(),
            load: BTreeMap::new(),
            load_left: None,
            in_flight: Vec::new(),
        };
        let mut stories: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        let mut stalls = Vec::new();
        for seen in &recording.observations {
            let at = seen.at;
            if matches!(&seen.event, Event::Request(_) | Event::Write(_) | Event::Load(_)) {
                facts.asked_until = facts.asked_until.max(at);
            }
            match &seen.event {
                Event::Request(request) => facts.requesters.entry(&request.probe).or_default().push((at, request)),
                Event::Write(write) => facts.writes.add(at, write),
                Event::Load(load) => facts.load.entry(&load.worker).or_default().push((at, load)),
                Event::LoadLeft(left) => facts.load_left = Some((at, left)),
                Event::InFlight(held) => facts.in_flight.push((at, held)),
                Event::ListWatch(call) => stories.entry(&call.probe).or_default().push(seen),
                Event::Delivered(delivered) => stories.entry(&delivered.probe).or_default().push(seen),
                Event::Listed(listed) => stories.entry(&listed.probe).or_default().push(seen),
                Event::WatchEnded(ended) => stories.entry(&ended.probe).or_default().push(seen),
                Event::Bookmark(bookmark) => stories.entry(&bookmark.probe).or_default().push(seen),
                Event::Lifecycle(step) => facts.lifecycle.push((at, step)),
                Event::ServerHealth(health) => {
                    facts.longest_look = facts.longest_look.max(health.took);
                    facts.health.push((at, health));
                }
                Event::FaultOn(fault) if Some(fault.restart) != recording.header.disturbance => {
                    facts.other_faults.push((at, fault));
                }
                Event::BackendHealth(health) if health.unanswered => facts.unanswered.push((at, health)),
                Event::LossOn(loss) => facts.losses.push((at, None, loss)),
                Event::LossOff(loss) => {
                    let lasting = |(_, off, other): &&mut (_, Option<Moment>, &Loss)| off.is_none() && *other == loss;
                    if let Some((_, off, _)) = facts.losses.iter_mut().rfind(lasting) {
                        *off = Some(at);
                    }
                }
                Event::Stall(span) => stalls.push((at, *span)),
                Event::Ticked(ticked) => facts.ticked.push((at, *ticked)),
                _ => {}
            }
        }
        facts.stalls = Stalls::of(stalls);
        facts.writes.versions.values_mut().for_each(|versions| versions.sort_unstable());
        facts.writes.history = History::of(&facts.writes.all);
        facts.watches = stories.into_iter().map(|(probe, story)| Watch::of(probe, story, &facts.writes)).collect();
        facts.restarts = restarts(recording, &facts.lifecycle);
        let from = facts.restarts.iter().map(|restart| restart.on).min().unwrap_or(recording.header.began_at);
        let until = facts.restarts.iter().map(|restart| restart.off.unwrap_or(facts.end)).max().unwrap_or(facts.end);
        facts.disturbed = (from, until);
        facts
    }

    /// How likely an apiserver is to answer a request over HTTP/2 with GOAWAY as well (`--goaway-chance`).
    pub(super) fn goaway_chance(&self) -> f64 {
        let flags = self.recording.header.servers.iter().flat_map(|server| &server.flags);
        let chances = flags.filter_map(|flag| flag.strip_prefix("--goaway-chance=")?.parse().ok());
        chances.fold(0.0, f64::max)
    }

    /// What the scenario set out to do.
    pub(super) fn disturbance(&self) -> Option<Restart> {
        self.recording.header.disturbance
    }

    /// From the first fault on to the last fault off (the end, where one never was); the whole recording without
    /// faults.
    pub(super) fn disturbed(&self) -> (Moment, Moment) {
        self.disturbed
    }

    /// From the first sample of a probe to the last; `None` where there is none.
    pub(super) fn probed(&self) -> Option<(Moment, Moment)> {
        let by_probe = |event: &Event| {
            matches!(
                event,
                Event::Request(_)
                    | Event::Write(_)
                    | Event::Load(_)
                    | Event::Read(_)
                    | Event::GuardedUpdate(_)
                    | Event::ListWatch(_)
                    | Event::ServerHealth(_)
                    | Event::Cluster(_)
                    | Event::Session(_)
                    | Event::Timer(_)
                    | Event::Trigger(_)
                    | Event::GatewayStream(_)
            )
        };
        let observations = &self.recording.observations;
        // Some are written down when they are over, at their beginning.
        let over = |seen: &Observation| match &seen.event {
            Event::Session(session) => session.ended.max(seen.at),
            Event::Timer(connection) => seen.at + connection.lasted,
            Event::GatewayStream(stream) => seen.at + stream.lasted,
            Event::Trigger(round) => seen.at + round.took + round.noticed.unwrap_or(round.patience),
            _ => seen.at,
        };
        let mut all = observations.iter().filter(|seen| by_probe(&seen.event));
        let first = all.next()?;
        let last = all.map(over).chain([over(first)]).max()?;
        // A probe may have been at work before there was a recording.
        Some((first.at.max(self.recording.header.began_at), last))
    }

    /// Requesters of one kind with their requests. A retry may be on a connection of the other kind: the first request
    /// tells.
    pub(super) fn requesters_on(
        &self,
        on: ConnectionKind,
    ) -> impl Iterator<Item = (&'a str, &[(Moment, &'a Request)])> {
        let requesters = self.requesters.iter().filter(move |(_, requests)| requests[0].1.on == on);
        requesters.map(|(probe, requests)| (*probe, requests.as_slice()))
    }

    /// An apiserver's answers about itself, asked from `from` on and before `until`.
    pub(super) fn health(
        &self,
        server: &str,
        path: &str,
        from: Moment,
        until: Moment,
    ) -> Vec<(Moment, &'a ServerHealth)> {
        let first = self.health.partition_point(|(at, _)| *at < from);
        let window = self.health[first..].iter().take_while(|(at, _)| *at < until);
        window.filter(|(_, health)| health.server == server && health.path == path).copied().collect()
    }

    /// A moment, relative to the beginning of the recording.
    pub(super) fn clock(&self, at: Moment) -> String {
        super::excerpt::clock(self.recording.header.began_at, at)
    }
}

impl<'a> Writes<'a> {
    fn add(&mut self, at: Moment, write: &'a Write) {
        let position = self.all.len();
        self.all.push((at, write));
        self.by_change.insert(write.change, position);
        match (write.verb, write.effect(), write.revision) {
            (Verb::Delete, ..) => {
                // One that may have taken effect explains more than one that was refused.
                let known = self.deletes.entry(&write.object).or_insert(position);
                if self.all[*known].1.effect() == Effect::Never {
                    *known = position;
                }
            }
            (_, Effect::Certain, Some(revision)) => {
                self.versions.entry(&write.object).or_default().push((revision, write.change));
            }
            _ => {}
        }
    }

    /// The write with this change, if it was to this object, and when it was begun.
    pub(super) fn of(&self, object: &str, change: u64) -> Option<(Moment, &'a Write)> {
        self.by_change.get(&change).map(|position| self.all[*position]).filter(|(_, write)| write.object == object)
    }

    /// The last certain create or update of an object up to a revision: (revision, change).
    pub(super) fn version_at(&self, object: &str, revision: u64) -> Option<(u64, u64)> {
        let versions = self.versions.get(object)?;
        versions[..versions.partition_point(|(written, _)| *written <= revision)].last().copied()
    }

    /// The delete of this object, refused or not.
    pub(super) fn delete_of(&self, object: &str) -> Option<(Moment, &'a Write)> {
        self.deletes.get(object).map(|position| self.all[*position])
    }
}

impl Restarted<'_> {
    /// When the server first went through this step.
    pub(super) fn at(&self, step: Step) -> Option<Moment> {
        self.steps.iter().find(|(_, seen)| seen.step == step).map(|(at, _)| *at)
    }

    /// When it was sent the signal that stopped it; when the fault was put on, if none is in the recording.
    pub(super) fn signal(&self) -> Moment {
        self.at(Step::TermSent).or_else(|| self.at(Step::KillSent)).unwrap_or(self.on)
    }

    /// From the signal until it was back, or until the recording ends.
    pub(super) fn window(&self, end: Moment) -> (Moment, Moment) {
        (self.signal().min(self.on), self.off.unwrap_or(end))
    }
}

/// When the last thing happened that is no reading of logs.
fn end(recording: &Recording) -> Moment {
    let read_later = |event: &Event| matches!(event, Event::Audited(_) | Event::AuditLog(_) | Event::GatewayLogged(_));
    let last = recording.observations.iter().rev().find(|seen| !read_later(&seen.event));
    last.map_or(recording.header.began_at, |seen| seen.at)
}

/// Pairs each fault with the life of its server from the signal on.
fn restarts<'a>(recording: &'a Recording, lifecycle: &[(Moment, &'a Lifecycle)]) -> Vec<Restarted<'a>> {
    let mut found: Vec<Restarted<'a>> = Vec::new();
    for seen in &recording.observations {
        match &seen.event {
            Event::FaultOn(fault) if Some(fault.restart) == recording.header.disturbance => {
                found.push(Restarted { server: &fault.server, on: seen.at, off: None, steps: Vec::new() });
            }
            Event::FaultOff(fault) => {
                let open = found.iter_mut().rev().find(|open| open.server == fault.server && open.off.is_none());
                if let Some(open) = open {
                    open.off = Some(seen.at);
                }
            }
            _ => {}
        }
    }

    // A life ends with a signal, which is the beginning of the next one; a SIGKILL after SIGTERM belongs to the same
    // end.
    let mut lives: Vec<(&str, Vec<(Moment, &'a Lifecycle)>)> = Vec::new();
    for (at, seen) in lifecycle.iter().copied() {
        let life = lives.iter_mut().rev().find(|(server, _)| *server == seen.server);
        let signal = matches!(seen.step, Step::TermSent | Step::KillSent);
        match life {
            Some((_, steps)) if !signal || !steps.iter().any(|(_, step)| step.step == Step::Started) => {
                steps.push((at, seen));
            }
            _ if signal => lives.push((&seen.server, vec![(at, seen)])),
            _ => {}
        }
    }
    for fault in &mut found {
        // The signal is sent while the fault is being put on: FaultOn may be written down a moment before it or after
        // it.
        let until = fault.off.unwrap_or(Moment(u64::MAX));
        let life = lives.iter().position(|(server, steps)| *server == fault.server && steps[0].0 <= until);
        if let Some(position) = life {
            fault.steps = lives.remove(position).1;
        }
    }
    found
}

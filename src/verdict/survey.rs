//! What befell each probe, and which apiserver it is to be laid to: what reports show beside the verdicts. It decides nothing.
//!
//! Outages are counted as the requirements count them, whether or not the recording was made for these.

use std::collections::{BTreeMap, HashSet};
use std::ptr;
use std::time::Duration;

use super::attribution::{Attributed, Failed, attribute};
use super::facts::Facts;
use super::{load, outage};
use crate::timeline::{
    Call, ConnectionKind, Counted, Event, Lives, Moment, Observation, Outage, Protocol, Recording, Symptom,
};

/// A recording, as a report shows it.
#[derive(Clone, Debug)]
pub struct Survey<'a> {
    /// Its beginning, and the last that a probe, a server or the balancer did.
    pub span: (Moment, Moment),
    /// The lives of the apiservers.
    pub lives: Lives<'a>,
    /// What befell each probe, in the order of [`Role`] and then of names.
    pub probes: Vec<Befallen<'a>>,
    /// Every failed sample, in the order in which they failed.
    pub failed: Vec<Attributed<'a>>,
}

/// One probe; the workers of the load together are one.
#[derive(Clone, Debug)]
pub struct Befallen<'a> {
    /// What it does.
    pub role: Role,
    /// Its name.
    pub probe: &'a str,
    /// How often it asked; of a watch, how many changes it saw.
    pub samples: usize,
    /// The outages that count, in order; of a watch, the stretches without one.
    pub outages: Vec<Stretch>,
}

/// What a probe does, as the reports tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A watch, by itself or by a client library.
    Watch,
    /// The writer, past the balancer: it goes to another server when one fails, and has no outages.
    Writer,
    /// A requester, each request on a connection of its own.
    New(Protocol),
    /// A requester on a kept connection.
    Reused(Protocol),
    /// A requester by way of a client library, after its retries.
    Library,
    /// The load.
    Load,
    /// Requests that were held in flight.
    InFlight,
}

/// An outage's beginning and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// When it began.
    pub from: Moment,
    /// When it was over.
    pub until: Moment,
    /// Whether it was; if not, `until` is as far as it was seen.
    pub recovered: bool,
}

impl<T> From<&Outage<'_, T>> for Stretch {
    fn from(outage: &Outage<'_, T>) -> Self {
        Self { from: outage.from, until: outage.until, recovered: outage.recovered }
    }
}

impl Stretch {
    /// How long it was.
    pub fn length(&self) -> Duration {
        self.until.since(self.from)
    }
}

impl Befallen<'_> {
    /// The longest outage; zero without one.
    pub fn worst(&self) -> Duration {
        self.outages.iter().map(Stretch::length).max().unwrap_or_default()
    }
}

/// Lays out a recording for a report.
pub fn survey(recording: &Recording) -> Survey<'_> {
    let facts = Facts::of(recording);
    let (mut probes, mut failed) = (Vec::new(), Vec::new());
    for (probe, requests) in &facts.requesters {
        let (first, protocol) = (requests[0].1.on, requests[0].1.exchange.protocol);
        let (outages, _) = outage::counted(&facts, first, requests);
        let role = match first {
            ConnectionKind::New => Role::New(protocol),
            ConnectionKind::Reused => Role::Reused(protocol),
            ConnectionKind::Library => Role::Library,
        };
        let counted = in_outages(&outages);
        for (at, request) in requests {
            // The library made another attempt, so its user was not told of these.
            let repeated = request.attempts.iter().filter(|attempt| !attempt.exchange.succeeded());
            failed.extend(repeated.map(|one| Failed::of(role, probe, one.at, &one.exchange).excused(true)));
            if !request.succeeded() {
                let excused = !counted.contains(&ptr::from_ref(*request));
                failed.push(Failed::of(role, probe, *at, &request.exchange).excused(excused));
            }
        }
        let outages = outages.iter().map(Stretch::from).collect();
        probes.push(Befallen { role, probe, samples: requests.len(), outages });
    }
    if !facts.load.is_empty() {
        let mut all = Befallen { role: Role::Load, probe: "load", samples: 0, outages: Vec::new() };
        for (worker, steps) in &facts.load {
            let (outages, _) = load::counted(&facts, steps);
            let counted = in_outages(&outages);
            let steps_failed = steps.iter().filter(|(_, step)| !step.succeeded());
            failed.extend(steps_failed.map(|(at, step)| {
                Failed::of(Role::Load, worker, *at, &step.exchange).excused(!counted.contains(&ptr::from_ref(*step)))
            }));
            all.samples += steps.len();
            all.outages.extend(outages.iter().map(Stretch::from));
        }
        all.outages.sort_by_key(|outage| outage.from);
        probes.push(all);
    }
    let writes = facts.writes.all.iter();
    probes.extend(without_outages(Role::Writer, writes.clone().map(|(_, write)| write.probe.as_str())));
    failed.extend(
        writes
            .filter(|(_, write)| !write.exchange.succeeded())
            .map(|(at, write)| Failed::of(Role::Writer, &write.probe, *at, &write.exchange).excused(true)),
    );
    let held = facts.in_flight.iter();
    probes.extend(without_outages(Role::InFlight, held.clone().map(|(_, held)| held.probe.as_str())));
    failed.extend(held.filter(|(_, held)| !held.completed()).map(|(at, held)| Failed::in_flight(*at, held)));
    for watch in &facts.watches {
        probes.push(watched(watch.probe, &watch.story, facts.end, &mut failed));
    }
    probes.sort_by(|one, other| (one.role, one.probe).cmp(&(other.role, other.probe)));

    let lives = Lives::of(recording);
    let failed = attribute(recording, &lives, failed);
    // Audit logs are read when all is over.
    let read_later = |event: &Event| matches!(event, Event::Audited(_) | Event::AuditLog(_));
    let mut acts = recording.observations.iter().rev().filter(|seen| !read_later(&seen.event));
    let began = recording.header.began_at;
    let end = acts.next().map_or(began, |seen| seen.at).max(began);
    Survey { span: (began, end), lives, probes, failed }
}

/// Probes of which only single samples fail, by the names on these samples.
fn without_outages<'a>(role: Role, names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Befallen<'a>> {
    let mut samples: BTreeMap<&str, usize> = BTreeMap::new();
    names.for_each(|probe| *samples.entry(probe).or_default() += 1);
    samples.into_iter().map(move |(probe, samples)| Befallen { role, probe, samples, outages: Vec::new() })
}

/// A watch: it is out from its end until a watch request is answered again.
fn watched<'a>(probe: &'a str, story: &[&'a Observation], end: Moment, failed: &mut Vec<Failed<'a>>) -> Befallen<'a> {
    let mut seen = Befallen { role: Role::Watch, probe, samples: 0, outages: Vec::new() };
    let mut open = None;
    for Observation { at, event } in story.iter().copied() {
        match event {
            Event::Delivered(_) => seen.samples += 1,
            Event::WatchEnded(ended) => {
                if seen.outages.last().is_none_or(|outage| outage.recovered) {
                    seen.outages.push(Stretch { from: *at, until: end, recovered: false });
                }
                if let Some(failure) = &ended.failure {
                    failed.push(Failed::watch(probe, *at, failure.into(), open));
                }
            }
            Event::ListWatch(call) => match &call.answer {
                Ok(200) => {
                    if call.call == Call::Watch {
                        open = Some((*at, call.audit_id.as_str()));
                        let out = seen.outages.last_mut().filter(|outage| !outage.recovered);
                        if let Some(outage) = out {
                            (outage.until, outage.recovered) = (*at + call.took, true);
                        }
                    }
                }
                answer => {
                    let symptom = match answer {
                        Ok(status) => Symptom::of_status(*status),
                        Err(failure) => failure.into(),
                    };
                    failed.push(Failed::watch(probe, *at + call.took, symptom, Some((*at, &call.audit_id))));
                }
            },
            _ => {}
        }
    }
    seen
}

/// The samples that outages are made of. Not every sample has an Audit-ID.
fn in_outages<T>(outages: &[Outage<'_, T>]) -> HashSet<*const T> {
    outages.iter().flat_map(|outage| &outage.failed).map(|failed| ptr::from_ref(*failed)).collect()
}

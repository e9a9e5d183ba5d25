//! Judging takes time in proportion to the recording, whatever goes wrong in it, and however often.
//!
//! Of each requirement a recording in which it is violated ([`tooth`]) is made many times as long: what it shows happens again and again, with other
//! names and at other times. Speed is claimed as a ratio: a recording eight times as long may take no more than three times eight as long to judge.
//! A loop over the whole recording for each breach takes sixty-four times as long.

use std::time::Duration;

use rollproof::spec::{self, Requirement};
use rollproof::timeline::*;
use rollproof::timing::millis;
use rollproof::verdict::judge;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::runs::*;
use crate::shorthand::*;
use crate::teeth::tooth;

/// How much longer the longer recording is, and how much more time it may take: three times, for caches, the allocator and neighbours.
const LONGER: usize = 8;
const MAY_TAKE: u32 = 24;
/// What is too short to be told from noise.
const NOISE: Duration = millis(50);
/// How often a measurement is repeated that was too long: what is quadratic is so each time.
const TRIES: usize = 3;

/// A recording that is made longer by repetition.
struct Pattern {
    header: Header,
    /// As JSON, since every observation has its own names and times.
    seen: Vec<Value>,
    /// From one repetition to the next, nanoseconds.
    period: u64,
    /// More than any number of a change or revision in it.
    numbers: u64,
}

impl Pattern {
    fn of(recording: &Recording) -> Self {
        let seen: Vec<Value> =
            recording.observations.iter().map(|seen| serde_json::to_value(seen).expect("JSON")).collect();
        let last = recording.observations.last().expect("something happened").at.0;
        Self { header: recording.header.clone(), seen, period: last + 1_000_000_000, numbers: 10_000 }
    }

    fn repeated(&self, times: usize) -> Recording {
        let observations = (0..times).flat_map(|turn| {
            self.seen.iter().map(move |seen| {
                let mut seen = seen.clone();
                self.shift(&mut seen, turn as u64);
                serde_json::from_value(seen).expect("as it was")
            })
        });
        let mut observations: Vec<Observation> = observations.collect();
        observations.sort_by_key(|seen| seen.at);
        Recording { header: self.header.clone(), observations }
    }

    fn shift(&self, value: &mut Value, turn: u64) {
        let Value::Object(fields) = value else {
            if let Value::Array(items) = value {
                items.iter_mut().for_each(|item| self.shift(item, turn));
            }
            return;
        };
        for (name, field) in fields {
            match (name.as_str(), &*field) {
                ("at" | "ended" | "last_line" | "received" | "resumed" | "finished", Value::Number(at)) => {
                    *field = Value::from(at.as_u64().unwrap_or(0) + turn * self.period);
                }
                ("change" | "revision" | "from" | "replaces" | "count", Value::Number(number)) => {
                    *field = Value::from(number.as_u64().unwrap_or(0) + turn * self.numbers);
                }
                ("audit_id" | "retries" | "object" | "local", Value::String(name)) if !name.is_empty() => {
                    *field = Value::from(format!("{name}/{turn}"));
                }
                // Objects and their changes, or resources and objects.
                ("objects", Value::Array(_)) => {
                    let pairs = field.as_array_mut().into_iter().flatten().filter_map(Value::as_array_mut);
                    for pair in pairs {
                        if let Some(change) = pair[1].as_u64() {
                            pair[0] = Value::from(format!("{}/{turn}", pair[0].as_str().unwrap_or_default()));
                            pair[1] = Value::from(change + turn * self.numbers);
                        } else {
                            pair[1] = Value::from(format!("{}/{turn}", pair[1].as_str().unwrap_or_default()));
                        }
                    }
                }
                _ => self.shift(field, turn),
            }
        }
    }
}

/// About so many observations of a recording: all that is rare, all that failed, and each so-manieth of what is done all the time.
fn thinned(mut recording: Recording, to: usize) -> Recording {
    let keep_each = recording.observations.len().div_ceil(to);
    let mut place = 0;
    recording.observations.retain(|seen| {
        let failed = match &seen.event {
            Event::Request(request) => !request.exchange.succeeded() || request.retries.is_some(),
            Event::Load(load) => !load.succeeded() || load.retries.is_some(),
            Event::Write(_) | Event::Delivered(_) | Event::ServerHealth(_) | Event::Audited(_) | Event::Ticked(_) => {
                false
            }
            _ => true,
        };
        place += 1;
        failed || place % keep_each == 0
    });
    recording
}

/// The time of a processor, not of the clock on the wall: what others do on this machine is none of a judge's.
fn took(requirement: &Requirement, recording: &Recording) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let began = now();
    let _ = judge(requirement, recording);
    now() - began
}

/// How long the shorter and the longer one take, if that is not in proportion.
fn out_of_proportion(requirement: &Requirement, short: &Recording, long: &Recording) -> Option<(Duration, Duration)> {
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..TRIES {
        // A short one that was disturbed would excuse the long one.
        let quick = (0..TRIES).map(|_| took(requirement, short)).min().unwrap_or_default();
        best = (best.0.min(quick), best.1.min(took(requirement, long)));
        if best.1 <= best.0 * MAY_TAKE + NOISE {
            return None;
        }
    }
    Some(best)
}

fn check_growth<'a>(
    what: &str,
    of: impl Iterator<Item = &'a str>,
    grown: impl Fn(usize) -> Recording,
    size: usize,
) -> Vec<String> {
    let (short, long) = (grown(size), grown(size * LONGER));
    let (one, other) = (short.observations.len(), long.observations.len());
    let slow = of.filter_map(|id| {
        let requirement = spec::requirement(id).expect("a requirement");
        let (quick, slow) = out_of_proportion(requirement, &short, &long)?;
        Some(format!("{id}, {what}: {one} observations {quick:?}, {other} observations {slow:?}"))
    });
    slow.collect()
}

#[test]
fn judging_takes_time_in_proportion_to_the_breaches() {
    /// So many observations has one repetition at most, and the shorter recording at least.
    const THIN: usize = 150;
    const SHORT: usize = 1200;
    let mut slow = Vec::new();
    for requirement in spec::requirements() {
        let recording = tooth(requirement.id).unwrap_or_else(|| panic!("{} is nowhere seen failing", requirement.id));
        let pattern = Pattern::of(&thinned(recording, THIN));
        let times = SHORT.div_ceil(pattern.seen.len());
        // What is no breach of its neighbour's is looked at as well.
        let family = |other: &&&Requirement| other.id.split('-').next() == requirement.id.split('-').next();
        let mut judges: Vec<_> = spec::requirements().filter(|other| family(&other)).map(|other| other.id).collect();
        let own = judges.iter().position(|id| *id == requirement.id).expect("one of its family");
        judges.rotate_left(own);
        judges.truncate(2);
        let what = format!("what {} is broken by", requirement.id);
        slow.extend(check_growth(&what, judges.into_iter(), |size| pattern.repeated(size), times));
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

/// So much of everything that could have caused an outage: breaches, short stalls of ours, and checks of the balancer that were not answered.
fn troubled(size: usize) -> Recording {
    let mut run = Run(thinned(run(Some(Restart::Graceful)).0, 300));
    for n in 0..size as u64 {
        let at = 20_000 + 20 * n;
        for (after, on) in [(0, ConnectionKind::New), (1, ConnectionKind::Reused), (2, ConnectionKind::Library)] {
            let mut refused = request(on, at + after);
            refused.exchange = Exchange {
                audit_id: format!("refused-{at}-{after}"),
                ..failed(Phase::Dial, ErrorClass::ConnectionRefused)
            };
            run.0.observations.push(observed(at + after, Event::Request(refused)));
            run.0.observations.push(observed(at + after + 10, Event::Request(request(on, at + after + 10))));
        }
        let why = "no answer".to_owned();
        let unanswered =
            BackendHealth { server: SERVERS[(n % 2) as usize].into(), healthy: false, why, unanswered: true };
        run.0.observations.push(observed(at + 5, Event::Stall(millis(1))));
        run.0.observations.push(observed(at + 6, Event::BackendHealth(unanswered)));
    }
    let mut recording = run.whole();
    recording.observations.sort_by_key(|seen| seen.at);
    recording
}

/// Changes that no watch saw, and relists that do not show them either.
fn relisted(size: usize) -> Recording {
    let mut run = Run(thinned(run(None).0, 100));
    for n in 0..size as u64 {
        let (at, change) = (20_000 + 20 * n, 1000 + n);
        let object = format!("unseen-{n}");
        let objects = vec![(format!("unseen-{}", n / 2), 1000 + n / 2)];
        let listed = Listed { probe: WATCH.into(), revision: Some(change), objects };
        let failure = Some(Failure { class: ErrorClass::ConnectionReset, text: String::new() });
        run.0.observations.extend([
            observed(at, Event::Write(written(change, Verb::Create, &object, Effect::Certain))),
            observed(at + 5, Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure })),
            observed(at + 6, list_call(Call::List, None)),
            observed(at + 7, Event::Listed(listed)),
            observed(at + 8, list_call(Call::Watch, Some(change))),
        ]);
    }
    run.whole()
}

/// Each request fails and is repaired by a retry, and each event is a repetition.
fn repaired(size: usize) -> Recording {
    let mut run = Run(thinned(run(None).0, 100));
    for n in 0..size as u64 {
        let at = 20_000 + 3 * n;
        let mut first = request(ConnectionKind::Reused, at);
        (first.exchange.status, first.exchange.retry_after) = (Some(503), Some(1));
        let retries = Some(first.exchange.audit_id.clone());
        let object = format!("many-{n}");
        let (kind, change) = (ChangeKind::Added, 1000 + n);
        let delivered = Delivered { probe: WATCH.into(), kind, object: object.clone(), revision: 1000, change };
        run.0.observations.extend([
            observed(at, Event::Request(first)),
            observed(at, Event::Request(Request { retries, ..request(ConnectionKind::Reused, at + 1) })),
            observed(at, Event::Write(written(change, Verb::Create, &object, Effect::Certain))),
            observed(at + 1, Event::Delivered(delivered)),
        ]);
    }
    run.whole()
}

/// A watch that is cut, is opened again, and notices a change, round after round.
fn noticed(size: usize) -> Recording {
    let rounds = Pattern::of(&tooth("IDLE-4").expect("it is seen failing")).repeated(size);
    let mut run = Run(rounds);
    for seen in &mut run.0.observations {
        if let Event::Trigger(round) = &mut seen.event {
            round.noticed = Some(millis(10));
        }
    }
    run.0
}

#[test]
fn judging_takes_time_in_proportion_to_what_could_explain_a_breach() {
    let watch = || spec::requirements().map(|it| it.id).filter(|id| id.starts_with("WATCH") || id.starts_with("IDLE"));
    let roll =
        || spec::requirements().map(|it| it.id).filter(|id| id.starts_with("ROLLOUT") || id.starts_with("BALANCER"));
    let slow = [
        check_growth("many stalls beside many outages", roll(), troubled, 150),
        check_growth("many relists beside many changes that are missing", watch(), relisted, 250),
        check_growth("many changes that are noticed", ["IDLE-4"].into_iter(), noticed, 400),
        check_growth("many retries and repetitions", watch().chain(roll()), repaired, 300),
    ];
    assert!(slow.iter().all(Vec::is_empty), "{slow:#?}");
}

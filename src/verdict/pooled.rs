//! IDLE-5: a pooled connection that was ended while idle carries no request.
//!
//! When it was ended is the balancer's to say (its record of connections), or the wire's (the first RST or FIN to the client): not the client's. Of a
//! connection that was forgotten silently, neither says anything: there a request that nobody answers tells.
//!
//! ```text
//! connection 4 reset at 11.0 s; the next request at 26.0 s on connection 5, 200      ->  upheld
//! connection 4 reset at 11.0 s; the next request at 26.0 s on connection 4           ->  violated
//! connection 4 reset at 11.0 s; the next request at 26.0 s on connection 5, failed   ->  violated
//! connection 4 idle for 26.0 s; a request on it is not answered                      ->  violated
//! connection 4 reset at 11.0 s; the next request at 26.0 s could not be sent         ->  violated
//! no connection was ended between two requests                                       ->  inconclusive
//! ```

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::breaches::{Breach, first_breach};
use super::conclusive::{Rests, conclude};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{
    ConnectionKind, ConnectionUse, End, ErrorClass, Event, Exchange, Moment, Party, Phase, SegmentKind,
};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let ended = Ended::of(facts);
    let (mut after, mut longest, mut breaches) = (0, None, Vec::new());
    for (probe, exchanges) in by_probe(facts) {
        let mut last = None;
        for (at, exchange) in exchanges {
            let dead = |local: Option<&str>| {
                last.is_some_and(|(last, until)| local != Some(last) && ended.before(at, last, until).is_some())
            };
            let Some(used) = &exchange.connection else {
                // A dial that a library does not tell of: which connection it would have been nobody knows, but none that answers.
                if dead(None) && !exchange.succeeded() {
                    after += 1;
                    breaches.push(told(facts, probe, at, "", unanswered(at, exchange, "was to go on, and failed")));
                }
                continue;
            };
            let replaces = dead(Some(&used.local));
            let found = breach(&ended, at, exchange, used, replaces);
            if replaces || found.is_some() {
                after += 1;
                longest = longest.max(Some(exchange.took));
            }
            breaches.extend(found.map(|found| told(facts, probe, at, &used.local, found)));
            last = Some((used.local.as_str(), at + exchange.took));
        }
    }
    let found = first_breach(facts, breaches).unwrap_or_else(|| match after {
        0 => Verdict::inconclusive("no pooled connection was ended between two requests"),
        _ => Verdict::Upheld,
    });
    let mut figures = vec![Figure::count("requests after an idle end", after)];
    figures.extend(longest.map(|took| Figure::seconds("longest of them", took)));
    (conclude(facts, &[], found), figures)
}

/// A breach in full, given what it rests on and what was seen.
fn told<'a>(
    facts: &'a Facts<'_>,
    probe: &'a str,
    at: Moment,
    local: &'a str,
    (rests, actual): (Rests, String),
) -> Breach<'a> {
    Breach {
        rests,
        expected: "a request after an idle time to go out on a live connection, and to be answered".to_owned(),
        actual: format!("{probe} {actual}"),
        excerpt: Box::new(move || excerpt(facts, at, |event| concerns(probe, local, event))),
    }
}

/// What a request does wrong. That it used what somebody else says was ended is on record; that it was not answered, we waited for.
fn breach(
    ended: &Ended<'_>,
    at: Moment,
    exchange: &Exchange,
    used: &ConnectionUse,
    replaces: bool,
) -> Option<(Rests, String)> {
    let (local, idle, took) = (&used.local, used.idle.as_secs_f64(), exchange.took.as_secs_f64());
    let timed_out =
        exchange.phase == Phase::Headers && exchange.failure.as_ref().is_some_and(|it| it.class == ErrorClass::Timeout);
    match ended.before(at, local, at + exchange.took) {
        Some(end) => {
            let since = at.since(end).as_secs_f64();
            let what = format!("used {local}, which had been ended {since:.3} s before: {}", outcome(exchange));
            Some((Rests::OnRecord, what))
        }
        None if used.reused && timed_out => {
            let what = format!("used {local} after {idle:.3} s, and was not answered in {took:.3} s");
            Some((Rests::OnTime(at, at + exchange.took), what))
        }
        None if replaces && !exchange.succeeded() => {
            Some(unanswered(at, exchange, &format!("went on to {local}, and failed")))
        }
        None => None,
    }
}

fn unanswered(at: Moment, exchange: &Exchange, what: &str) -> (Rests, String) {
    (Rests::OnTime(at, at + exchange.took), format!("{what}: {}", outcome(exchange)))
}

fn outcome(exchange: &Exchange) -> String {
    match &exchange.failure {
        Some(failure) => format!("{} after {:.3} s", failure.class, exchange.took.as_secs_f64()),
        None => format!("status {}", exchange.status.unwrap_or(0)),
    }
}

/// When connections were opened, and ended by the balancer or in the server's name, by the client's end of each.
struct Ended<'a> {
    all: HashMap<&'a str, Vec<(Moment, Option<Moment>)>>,
    /// How long an end may take to reach who uses the connection.
    noticed: Duration,
}

impl<'a> Ended<'a> {
    fn of(facts: &Facts<'a>) -> Self {
        let mut all: HashMap<&str, Vec<_>> = HashMap::new();
        for seen in &facts.recording.observations {
            let (client, end) = match &seen.event {
                Event::Connection(connection) => {
                    let ended = matches!(connection.end, End::Reset | End::Fin | End::Silent);
                    let by_balancer = ended && connection.ended_by == Party::Balancer;
                    (&connection.client, by_balancer.then_some(seen.at + connection.lasted))
                }
                Event::Packets(packets)
                    if packets.interface == "to-client"
                        && packets.first(seen.at, SegmentKind::Syn, Party::Client).is_some() =>
                {
                    let ends = [SegmentKind::Reset, SegmentKind::Fin];
                    let first = ends.into_iter().filter_map(|kind| packets.first(seen.at, kind, Party::Server)).min();
                    (&packets.client, first)
                }
                _ => continue,
            };
            all.entry(client).or_default().push((seen.at, end));
        }
        all.values_mut().for_each(|known| known.sort_unstable());
        Self { all, noticed: facts.bounds.close_noticed }
    }

    /// When the connection with that end, which was in use until then, had been ended; if that was long enough before `at`. Ports come again: the last
    /// that was opened by then is meant, whoever tells of it.
    fn before(&self, at: Moment, local: &str, until: Moment) -> Option<Moment> {
        let known = self.all.get(local)?;
        let known = &known[..known.partition_point(|(opened, _)| *opened <= until)];
        let (last, _) = known.last()?;
        let of_it = known.iter().rev().take_while(|(opened, _)| *opened + self.noticed >= *last);
        let end = of_it.filter_map(|(_, end)| *end).min();
        end.filter(|end| *end + self.noticed < at)
    }
}

/// What was asked on connections that are kept, in order.
fn by_probe<'a>(facts: &Facts<'a>) -> BTreeMap<&'a str, Vec<(Moment, &'a Exchange)>> {
    let mut all: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for seen in &facts.recording.observations {
        match &seen.event {
            Event::Request(request) if request.on != ConnectionKind::New => {
                all.entry(&request.probe).or_default().extend(request.exchanges(seen.at));
            }
            Event::Load(load) => all.entry(&load.worker).or_default().push((seen.at, &load.exchange)),
            _ => {}
        }
    }
    all
}

fn concerns(probe: &str, local: &str, event: &Event) -> bool {
    match event {
        Event::Request(request) => request.probe == probe,
        Event::Load(load) => load.worker == probe,
        Event::Connection(connection) => connection.client == local,
        Event::Packets(packets) => packets.client == local,
        Event::LossOn(_) | Event::LossOff(_) => true,
        _ => false,
    }
}

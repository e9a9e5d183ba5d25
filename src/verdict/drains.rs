//! BALANCER-3: established connections live on when their apiserver turns unhealthy.
//!
//! The builtin balancer writes down who ended a connection. Of another balancer we know what its clients met: until its
//! shutdown delay is over an apiserver ends no connection by itself, so a watch that breaks before, and a kept connection
//! that is gone before, were cut on the way. A watch that ends cleanly may have run out of its time.
//!
//! After its delay an apiserver ends kept connections as soon as they are idle, and asks its watches to end, which they do cleanly. What
//! it does not do before its process ends is to break a watch, or a request: who did, nobody can tell.
//!
//! All of that is written down, by the balancer or by a client that was told: no stall of ours makes it happen.
//!
//! ```text
//! red, the kept connection is used on, delay over, closed                        ->  upheld
//! red, (0.9 s) kept connection reset by the balancer                             ->  violated
//! red, (0.9 s) a watch breaks, the delay is 3 s                                  ->  violated
//! red, (3.2 s) a watch breaks, the delay is 3 s, the process ends at 8 s         ->  inconclusive
//! the same behind the builtin balancer, whose record says: by the apiserver      ->  upheld
//! red, (0.9 s) a watch breaks, and the builtin balancer has no record of it      ->  inconclusive
//! nothing was established on a stopped apiserver                                 ->  inconclusive
//! ```

use std::collections::{BTreeMap, HashSet};

use super::carried::{OpenWatch, shares, through_balancer, watches};
use super::conclusive::{Rests, Traffic, breach, conclude, conclude_from_records, unproven};
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{Call, ConnectionKind, End, ErrorClass, Event, Moment, Party, Protocol, Restart, Step};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() != Some(Restart::Graceful) {
        return (Verdict::inconclusive("no apiserver was stopped gracefully here"), Vec::new());
    }
    let kept = Kept::of(facts);
    let claims = facts.restarts.iter().map(|restart| claim(facts, restart, &kept));
    let found = Verdict::worst(claims).unwrap_or(Verdict::Upheld);
    let established: usize = facts.restarts.iter().map(|restart| kept.established(facts, restart)).sum();
    let found = match found {
        Verdict::Upheld if established == 0 => {
            Verdict::inconclusive("no connection was established on an apiserver when it was stopped")
        }
        found => found,
    };
    let mut figures = vec![Figure::count("established when stopped", established)];
    figures.extend(shares(facts));
    figures.extend(costs(facts));
    // The balancer's record has every connection. Clients tell of what they used, and have to use it throughout.
    let verdict = match (kept.is_recorded(), used(facts)) {
        (true, _) => conclude_from_records(facts, &[], found),
        (false, Some(used)) => conclude(facts, &[&used], found),
        (false, None) => conclude(facts, &[], found),
    };
    (verdict, figures)
}

/// The traffic on kept connections; without any, watches are all that tells.
fn used(facts: &Facts<'_>) -> Option<Traffic> {
    let requests: Vec<_> = facts.requesters_on(ConnectionKind::Reused).flat_map(|(_, requests)| requests).collect();
    let samples = requests.iter().map(|(at, request)| (*at, request.exchange.took, request.exchange.succeeded()));
    let traffic = Traffic::of(facts, "the requester on kept connections".to_owned(), facts.bounds.request_gap, samples);
    (!requests.is_empty()).then(|| traffic.steady())
}

/// A connection that was over while its apiserver was there, as far as one can see.
struct Cut<'a> {
    at: Moment,
    server: &'a str,
    what: String,
    /// Whether an apiserver does that by itself once its shutdown delay is over.
    usual: bool,
}

/// What happened to connections that were not new.
struct Kept<'a> {
    watches: Vec<OpenWatch<'a>>,
    /// When a kept connection was seen alive, and on whom.
    used: Vec<(Moment, &'a str)>,
    /// What the builtin balancer cut, by its own record.
    cut: Vec<Cut<'a>>,
    /// What clients met, but for what that record has.
    met: Vec<Cut<'a>>,
    /// From when to when a connection was carried, and to whom, as the builtin balancer wrote it down.
    carried: Vec<(Moment, Moment, &'a str)>,
}

impl<'a> Kept<'a> {
    fn of(facts: &Facts<'a>) -> Self {
        let mut kept =
            Self { watches: watches(facts), used: Vec::new(), cut: Vec::new(), met: Vec::new(), carried: Vec::new() };
        let mut clients = HashSet::new();
        for seen in &facts.recording.observations {
            let Event::Connection(connection) = &seen.event else { continue };
            let Some(server) = connection.backend.as_deref() else { continue };
            let ended = seen.at + connection.lasted;
            clients.insert(connection.client.as_str());
            kept.carried.push((seen.at, ended, server));
            if connection.ended_by == Party::Balancer && matches!(connection.end, End::Fin | End::Reset) {
                let what = format!("the balancer ended the connection of {} ({:?})", connection.client, connection.end);
                kept.cut.push(Cut { at: ended, server, what, usual: false });
            }
        }
        kept.broken_watches(facts);
        kept.met_by_requesters(facts, &clients);
        kept
    }

    /// Whether the balancer told of its connections.
    fn is_recorded(&self) -> bool {
        !self.carried.is_empty()
    }

    fn broken_watches(&mut self, facts: &Facts<'a>) {
        // A watch does not tell its connection: which of the record's it was, only the moment says.
        let mut ends: BTreeMap<&str, Vec<Moment>> = BTreeMap::new();
        for (_, ended, server) in &self.carried {
            ends.entry(server).or_default().push(*ended);
        }
        ends.values_mut().for_each(|ends| ends.sort_unstable());
        for watch in &self.watches {
            let Some((at, true)) = watch.ended else { continue };
            let near = ends.get(watch.server).is_some_and(|ends| {
                let first = ends.partition_point(|ended| *ended + facts.bounds.stall < at);
                ends.get(first).is_some_and(|ended| *ended <= at + facts.bounds.stall)
            });
            if !near {
                let what = format!("a watch of {} broke", watch.probe);
                self.met.push(Cut { at, server: watch.server, what, usual: false });
            }
        }
    }

    fn met_by_requesters(&mut self, facts: &Facts<'a>, recorded: &HashSet<&str>) {
        // With GOAWAYs by chance, an apiserver ends HTTP/2 connections whenever it likes.
        let by_chance = facts.goaway_chance() > 0.0;
        let mut last = BTreeMap::new();
        for (at, request, connection) in through_balancer(facts).filter(|(_, it, _)| it.on == ConnectionKind::Reused) {
            let exchange = &request.exchange;
            let (probe, server) = (request.probe.as_str(), exchange.server.as_deref());
            let before = last.remove(probe).filter(|_| !(by_chance && exchange.protocol == Protocol::Http2));
            let ended = match &exchange.failure {
                // A GOAWAY comes from the apiserver.
                Some(failure) => {
                    connection.reused && !matches!(failure.class, ErrorClass::Timeout | ErrorClass::Goaway)
                }
                None => false,
            };
            if let Some(server) = server.filter(|_| ended) {
                let usual = exchange.met_a_closed_connection(facts.bounds.close_noticed);
                let what = format!("the kept connection of {probe} broke");
                let unknown = !recorded.contains(connection.local.as_str());
                self.met.extend(unknown.then(|| Cut { at: at + exchange.took, server, what, usual }));
            } else if let Some((local, server)) = before.filter(|(local, _)| *local != connection.local) {
                let what = format!("the kept connection of {probe} ({local}) was gone");
                let unknown = !recorded.contains(local);
                self.met.extend(unknown.then_some(Cut { at, server, what, usual: true }));
            }
            if let Some(server) = server.filter(|_| exchange.failure.is_none()) {
                last.insert(probe, (connection.local.as_str(), server));
                self.used.extend(connection.reused.then_some((at, server)));
            }
        }
    }

    /// How many connections were established on an apiserver when it was stopped, as far as is known.
    fn established(&self, facts: &Facts<'_>, restart: &Restarted<'_>) -> usize {
        let Some((term, until)) = restart.at(Step::TermSent).zip(restart.at(Step::Exited)) else { return 0 };
        let mine = |server: &str| server == restart.server;
        let carried = self.carried.iter().filter(|(from, to, server)| mine(server) && *from < term && *to > term);
        // One of which no end is known, though its apiserver ended, may have ended at any time.
        let known = |ended: Moment| ended > term && ended <= until + facts.bounds.close_noticed;
        let watched = self.watches.iter().filter(|watch| {
            mine(watch.server) && watch.from < term && watch.ended.is_some_and(|(ended, _)| known(ended))
        });
        let used = self.used.iter().any(|(at, server)| mine(server) && *at > term && *at < until);
        carried.count().max(watched.count() + usize::from(used))
    }
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>, kept: &Kept<'_>) -> Verdict {
    let server = restart.server;
    if let Some(why) = unproven(Restart::Graceful, restart) {
        return Verdict::inconclusive(why);
    }
    let Some((term, exited)) = restart.at(Step::TermSent).zip(restart.at(Step::Exited)) else {
        return Verdict::inconclusive(format!("no SIGTERM to {server} is in the recording"));
    };
    let first = |cuts: &[Cut<'_>], from: Moment, until: Moment| {
        let mine = cuts.iter().filter(|cut| cut.server == server && cut.at >= from && cut.at < until);
        let count = mine.clone().count();
        mine.min_by_key(|cut| cut.at).map(|cut| (cut.at, cut.what.clone(), count))
    };
    // Until then the apiserver ends nothing; after that, who ended what is not certain before its process has.
    let logged = [Step::AfterShutdownDelayDuration, Step::NotAcceptingNewRequest].map(|step| restart.at(step));
    let delayed = logged.into_iter().flatten().fold(term + facts.recording.header.timers.shutdown_delay, Moment::min);
    let ending = exited - facts.bounds.close_noticed;
    let serves = if exited < delayed { ending } else { delayed };

    let by_balancer = first(&kept.cut, term, exited);
    let by_somebody = first(&kept.met, term, serves);
    let violated = match (by_balancer, by_somebody) {
        (Some(cut), _) => Some(cut),
        (None, Some((at, what, _))) if kept.is_recorded() => {
            let (what, at) = (format!("{what} on {server}"), facts.clock(at));
            return Verdict::inconclusive(format!(
                "{what} at {at}, and the balancer's record does not say who ended it"
            ));
        }
        (None, cut) => cut,
    };
    if let Some((at, what, count)) = violated {
        let after = at.since(term).as_secs_f64();
        let violated = Verdict::Violated {
            expected: "established connections that live until their apiserver ends them".to_owned(),
            actual: format!("connections to {server} cut: {count}; the first {after:.3} s after SIGTERM: {what}"),
            excerpt: excerpt(facts, at, |event| match event {
                Event::Request(request) => request.on == ConnectionKind::Reused,
                Event::Connection(connection) => connection.backend.as_deref() == Some(server),
                Event::Lifecycle(step) => step.server == server,
                Event::BackendHealth(health) => health.server == server,
                Event::WatchEnded(_) => true,
                _ => false,
            }),
        };
        return breach(facts, Rests::OnRecord, violated);
    }
    let doubtful = kept.met.iter().filter(|cut| !cut.usual && cut.server == server);
    match doubtful.filter(|cut| cut.at >= serves && cut.at < ending).min_by_key(|cut| cut.at) {
        Some(cut) => Verdict::inconclusive(format!(
            "{} on {server} at {}, after its shutdown delay and before its process ended: nobody knows who ended it",
            cut.what,
            facts.clock(cut.at)
        )),
        None => Verdict::Upheld,
    }
}

/// What the roll cost clients beside outages: lists and watches that were asked for again.
fn costs(facts: &Facts<'_>) -> [Figure; 2] {
    let (from, _) = facts.disturbed();
    let again = |wanted: Call| {
        let calls = facts.recording.each(move |event| match event {
            Event::ListWatch(call) if call.call == wanted => Some(call),
            _ => None,
        });
        calls.filter(|(at, _)| *at >= from).count()
    };
    [Figure::count("relists", again(Call::List)), Figure::count("reconnects", again(Call::Watch))]
}

//! BALANCER-3: established connections live on when their apiserver turns unhealthy.
//!
//! The builtin balancer writes down who ended a connection. Of another balancer we know what its clients met: until its
//! shutdown delay is over an apiserver ends no connection by itself, so a watch that breaks before, and a kept connection
//! that is gone before, were cut on the way. A watch that ends cleanly may have run out of its time.
//!
//! ```text
//! red, the kept connection is used on, delay over, closed        ->  upheld
//! red, (0.9 s) kept connection reset by the balancer             ->  violated
//! red, (0.9 s) a watch breaks, the delay is 3 s                  ->  violated
//! nothing was established on a stopped apiserver                 ->  inconclusive
//! ```

use super::carried::{OpenWatch, shares, through_balancer, watches};
use super::conclusive::conclude;
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
    let established: usize = facts.restarts.iter().map(|restart| kept.established(restart)).sum();
    let found = match found {
        Verdict::Upheld if established == 0 => {
            Verdict::inconclusive("no connection was established on an apiserver when it was stopped")
        }
        found => found,
    };
    let mut figures = vec![Figure::count("established when stopped", established)];
    figures.extend(shares(facts));
    figures.extend(costs(facts));
    (conclude(facts, &[], found), figures)
}

/// What happened to connections that were not new.
struct Kept<'a> {
    watches: Vec<OpenWatch<'a>>,
    /// When a kept connection was seen alive, and on whom.
    used: Vec<(Moment, &'a str)>,
    /// When something was seen to be cut, on whom, and what.
    cuts: Vec<(Moment, &'a str, String)>,
    /// From when to when a connection was carried, and to whom, as the builtin balancer wrote it down.
    carried: Vec<(Moment, Moment, &'a str)>,
}

impl<'a> Kept<'a> {
    fn of(facts: &Facts<'a>) -> Self {
        let mut kept = Self { watches: watches(facts), used: Vec::new(), cuts: Vec::new(), carried: Vec::new() };
        let mut by_balancer = Vec::new();
        for seen in &facts.recording.observations {
            let Event::Connection(connection) = &seen.event else { continue };
            let Some(server) = connection.backend.as_deref() else { continue };
            let ended = seen.at + connection.lasted;
            kept.carried.push((seen.at, ended, server));
            if connection.ended_by == Party::Balancer && matches!(connection.end, End::Fin | End::Reset) {
                let text = format!("the balancer ended the connection of {} ({:?})", connection.client, connection.end);
                by_balancer.push((ended, server, text));
            }
        }
        kept.met_by_clients(facts);
        // Where the balancer's own word is to be had, it is not our guess who cut.
        if !kept.carried.is_empty() {
            kept.cuts = by_balancer;
        }
        kept
    }

    fn met_by_clients(&mut self, facts: &Facts<'a>) {
        let broken = self.watches.iter().filter_map(|watch| match watch.ended {
            Some((at, true)) => Some((at, watch.server, format!("a watch of {} broke", watch.probe))),
            _ => None,
        });
        self.cuts.extend(broken);

        // With GOAWAYs by chance, an apiserver ends HTTP/2 connections whenever it likes.
        let by_chance = facts.flagged("goaway-chance");
        let mut last = std::collections::BTreeMap::new();
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
                self.cuts.push((at + exchange.took, server, format!("the kept connection of {probe} broke")));
            } else if let Some((local, server)) = before.filter(|(local, _)| *local != connection.local) {
                self.cuts.push((at, server, format!("the kept connection of {probe} ({local}) was gone")));
            }
            if let Some(server) = server.filter(|_| exchange.failure.is_none()) {
                last.insert(probe, (connection.local.as_str(), server));
                self.used.extend(connection.reused.then_some((at, server)));
            }
        }
    }

    /// How many connections were established on an apiserver when it was stopped, as far as is known.
    fn established(&self, restart: &Restarted<'_>) -> usize {
        let Some((term, until)) = restart.at(Step::TermSent).zip(restart.at(Step::Exited)) else { return 0 };
        let mine = |server: &str| server == restart.server;
        let carried = self.carried.iter().filter(|(from, to, server)| mine(server) && *from < term && *to > term);
        let watched = self.watches.iter().filter(|watch| {
            mine(watch.server) && watch.from < term && watch.ended.is_none_or(|(ended, _)| ended > term)
        });
        let used = self.used.iter().any(|(at, server)| mine(server) && *at > term && *at < until);
        carried.count().max(watched.count() + usize::from(used))
    }
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>, kept: &Kept<'_>) -> Verdict {
    let server = restart.server;
    let Some(term) = restart.at(Step::TermSent) else {
        return Verdict::inconclusive(format!("no SIGTERM to {server} is in the recording"));
    };
    let until = match kept.carried.is_empty() {
        true => term + facts.recording.header.timers.shutdown_delay,
        false => restart.at(Step::Exited).unwrap_or(facts.end),
    };
    let mut cuts: Vec<_> = kept.cuts.iter().filter(|(at, on, _)| *on == server && *at >= term && *at < until).collect();
    cuts.sort_by_key(|(at, ..)| *at);
    let Some((at, _, what)) = cuts.first() else { return Verdict::Upheld };
    let (count, after) = (cuts.len(), at.since(term).as_secs_f64());
    Verdict::Violated {
        expected: "established connections that live until their apiserver ends them".to_owned(),
        actual: format!("connections to {server} cut: {count}; the first {after:.3} s after SIGTERM: {what}"),
        excerpt: excerpt(facts, *at, |event| match event {
            Event::Request(request) => request.on == ConnectionKind::Reused,
            Event::Connection(connection) => connection.backend.as_deref() == Some(server),
            Event::Lifecycle(step) => step.server == server,
            Event::BackendHealth(health) => health.server == server,
            Event::WatchEnded(_) => true,
            _ => false,
        }),
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

//! BALANCER-2: no new connection is carried to an apiserver before its /readyz was ever 200.
//!
//! We notice the first 200 a moment late, so what certainly counts is what came before the last answer that was not 200. Of a connection
//! between that and the first 200, nobody can tell.
//!
//! ```text
//! Started, red ... red, Ready, carried                          ->  upheld
//! Started, red, carried, red ... Ready                          ->  violated
//! Started, red ... red, carried, Ready                          ->  inconclusive
//! Started, red, refused, red ... Ready, no record to whom       ->  inconclusive
//! Started, red, /readyz not asked for 3 s, Ready                ->  inconclusive
//! ```

use super::carried::{Carried, Connections, never_met, traffic};
use super::conclusive::{Traffic, conclude, no_time, unproven};
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{Event, Moment, Restart, Step};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() != Some(Restart::Graceful) {
        return (Verdict::inconclusive("no apiserver was stopped gracefully here"), Vec::new());
    }
    let connections = Connections::of(facts);
    let claims = facts.restarts.iter().map(|restart| claim(facts, restart, &connections));
    let verdict = Verdict::worst(claims).unwrap_or(Verdict::Upheld);
    let starts = facts.restarts.iter().filter_map(|restart| Some((restart.server, Start::of(facts, restart)?)));
    let early = starts.map(|(server, start)| start.early(server, &connections).len());
    let figures = vec![Figure::count("early connections", early.sum())];
    (conclude(facts, &[&traffic(facts)], verdict), figures)
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>, connections: &Connections<'_>) -> Verdict {
    let server = restart.server;
    if let Some(why) = unproven(Restart::Graceful, restart).or_else(|| never_met(restart, connections)) {
        return Verdict::inconclusive(why);
    }
    let Some(start) = Start::of(facts, restart) else {
        return Verdict::inconclusive(format!(
            "/readyz of {server} was not seen red between its start and its first 200"
        ));
    };
    let early = start.early(server, connections);
    let mut excuse = None;
    for carried in &early {
        // It was made somewhere between its beginning and the certificate, or whatever else said whom it met.
        match no_time(facts, carried.at, carried.met.min(start.red)) {
            Some(why) => excuse = excuse.or(Some(why)),
            None => return violated(facts, server, carried.at, early.len(), start.at),
        }
    }
    if let Some(why) = excuse {
        return Verdict::inconclusive(why);
    }
    let doubtful = connections.to(server, start.at, start.green);
    if let Some(carried) = doubtful.first() {
        return Verdict::inconclusive(format!(
            "a new connection met {server} at {}, and nobody knows whether its /readyz was 200 by then",
            facts.clock(carried.at)
        ));
    }
    let unseen = start.unseen.as_ref().map(|(from, until)| {
        let (seconds, from) = (until.since(*from).as_secs_f64(), facts.clock(*from));
        format!("/readyz of {server}, which had been started, was not asked for {seconds:.3} s from {from} on")
    });
    let untold = || connections.untold(facts, server, start.at, start.green);
    unseen.or_else(untold).map_or(Verdict::Upheld, Verdict::inconclusive)
}

fn violated(facts: &Facts<'_>, server: &str, first: Moment, count: usize, started: Moment) -> Verdict {
    let after = first.since(started).as_secs_f64();
    Verdict::Violated {
        expected: "no new connection to an apiserver that has not been ready since its start".to_owned(),
        actual: format!("early connections to {server}: {count}, the first {after:.3} s after its start"),
        excerpt: excerpt(facts, first, |event| match event {
            Event::Request(request) => request.exchange.server.as_deref() == Some(server),
            Event::Connection(connection) => connection.backend.as_deref() == Some(server),
            Event::ServerHealth(health) => health.server == server && health.path == "/readyz",
            Event::Lifecycle(step) => step.server == server,
            Event::BackendHealth(health) => health.server == server,
            _ => false,
        }),
    }
}

/// The start of a new process, as its /readyz told of it.
struct Start {
    at: Moment,
    /// The last moment at which it was certainly not ready.
    red: Moment,
    /// When it certainly was.
    green: Moment,
    /// A time before that in which nobody asked, if it was too long.
    unseen: Option<(Moment, Moment)>,
}

impl Start {
    /// `None` where it was not seen red.
    fn of(facts: &Facts<'_>, restart: &Restarted<'_>) -> Option<Self> {
        let at = restart.at(Step::Started)?;
        let until = restart.at(Step::Ready).unwrap_or(facts.end);
        let answers = facts.health(restart.server, "/readyz", at, until);
        let is_red = |(_, health): &&(Moment, &crate::timeline::ServerHealth)| health.answer != Ok(200);
        // What comes after the first 200 is no start any more.
        let red = answers.iter().take_while(is_red).last()?.0;
        let first = answers.iter().find(|answer| !is_red(answer));
        let green = first.map_or(until, |(at, health)| (*at + health.took).min(until));
        let samples = answers.iter().map(|(at, health)| (*at, health.took, true));
        let asked = Traffic::of(facts, String::new(), facts.bounds.health_gap, samples);
        Some(Self { at, red, green, unseen: asked.hole((at, green)) })
    }

    /// The connections that were carried before it was ready.
    fn early<'c, 'a>(&self, server: &str, connections: &'c Connections<'a>) -> Vec<&'c Carried<'a>> {
        connections.to(server, self.at, self.red)
    }
}

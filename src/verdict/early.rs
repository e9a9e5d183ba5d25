//! BALANCER-2: no new connection is carried to an apiserver before its /readyz was ever 200.
//!
//! We notice the first 200 a moment late, so what counts is the last answer that was not 200: until then it was not ready.
//!
//! ```text
//! Started, red ... red, Ready, carried                 ->  upheld
//! Started, red, carried, red ... Ready                 ->  violated
//! Started, Ready, /readyz never asked between          ->  inconclusive
//! ```

use super::carried::{Carried, never_met, new_connections, traffic};
use super::conclusive::conclude;
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{Event, Moment, Restart, Step};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() != Some(Restart::Graceful) {
        return (Verdict::inconclusive("no apiserver was stopped gracefully here"), Vec::new());
    }
    let connections = new_connections(facts);
    let claims = facts.restarts.iter().map(|restart| claim(facts, restart, &connections));
    let verdict = Verdict::worst(claims).unwrap_or(Verdict::Upheld);
    let early =
        facts.restarts.iter().filter_map(|restart| Some(early(&connections, restart, unready(facts, restart)?)));
    let figures = vec![Figure::count("early connections", early.map(|early| early.len()).sum())];
    (conclude(facts, &[&traffic(facts)], verdict), figures)
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>, connections: &[Carried<'_>]) -> Verdict {
    let server = restart.server;
    if let Some(why) = never_met(restart, connections) {
        return Verdict::inconclusive(why);
    }
    let Some((started, until)) = unready(facts, restart) else {
        return Verdict::inconclusive(format!(
            "/readyz of {server} was not seen red between its start and its first 200"
        ));
    };
    let early = early(connections, restart, (started, until));
    let Some(first) = early.first() else { return Verdict::Upheld };
    let (count, after) = (early.len(), first.at.since(started).as_secs_f64());
    Verdict::Violated {
        expected: "no new connection to an apiserver that has not been ready since its start".to_owned(),
        actual: format!("early connections to {server}: {count}, the first {after:.3} s after its start"),
        excerpt: excerpt(facts, first.at, |event| match event {
            Event::Request(request) => request.exchange.server.as_deref() == Some(server),
            Event::Connection(connection) => connection.backend.as_deref() == Some(server),
            Event::ServerHealth(health) => health.server == server && health.path == "/readyz",
            Event::Lifecycle(step) => step.server == server,
            Event::BackendHealth(health) => health.server == server,
            _ => false,
        }),
    }
}

/// From the start of the new process to the last moment at which it was certainly not ready.
fn unready(facts: &Facts<'_>, restart: &Restarted<'_>) -> Option<(Moment, Moment)> {
    let started = restart.at(Step::Started)?;
    let until = restart.at(Step::Ready).unwrap_or(facts.end);
    let answers = facts.health(restart.server, "/readyz", started, until);
    // What comes after the first 200 is no start any more.
    let red = answers.iter().take_while(|(_, health)| health.answer != Ok(200)).last()?;
    Some((started, red.0))
}

fn early<'a>(
    connections: &'a [Carried<'a>],
    restart: &Restarted<'_>,
    (from, until): (Moment, Moment),
) -> Vec<&'a Carried<'a>> {
    let mine = connections.iter().filter(|carried| carried.server == restart.server);
    mine.filter(|carried| carried.at >= from && carried.at < until).collect()
}

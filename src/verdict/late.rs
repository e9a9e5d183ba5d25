//! BALANCER-1: no new connection is carried to an apiserver late in its shutdown delay.
//!
//! A stall of ours excuses a late connection that comes so soon after it that the balancer may not have noticed yet, and no later one.
//!
//! ```text
//! delay 3 s: red, carried 0.4 s and 0.9 s after                ->  upheld
//! delay 3 s: red, carried 2.5 s after (80 % are 2.4 s)         ->  violated
//! the same, we did not run for 1 s from 1.2 s on               ->  inconclusive
//! delay 0.2 s: red, refused 0.3 s after                        ->  violated
//! delay 3 s: refused 2.6 s after, and no record to whom        ->  inconclusive
//! no new connection for 2 s of a restart                       ->  inconclusive
//! no delay                                                     ->  inconclusive: nothing can be in time
//! ```

use super::carried::{Connections, all_excused, max_elapsed, never_met, red, traffic};
use super::conclusive::{conclude, unproven};
use super::excerpt::excerpt;
use super::facts::{Facts, Restarted};
use super::{Figure, Verdict};
use crate::timeline::{ConnectionKind, Event, Restart, Step};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    if facts.disturbance() != Some(Restart::Graceful) {
        return (Verdict::inconclusive("no apiserver was stopped gracefully here"), Vec::new());
    }
    let connections = Connections::of(facts);
    let claims = facts.restarts.iter().map(|restart| claim(facts, restart, &connections));
    let verdict = Verdict::worst(claims).unwrap_or(Verdict::Upheld);
    let figures = max_elapsed(facts, ConnectionKind::New);
    (conclude(facts, &[&traffic(facts)], verdict), figures)
}

fn claim(facts: &Facts<'_>, restart: &Restarted<'_>, connections: &Connections<'_>) -> Verdict {
    let (server, timers) = (restart.server, &facts.recording.header.timers);
    if timers.shutdown_delay.is_zero() {
        return Verdict::inconclusive("without a shutdown delay no connection can be in time");
    }
    if let Some(why) = unproven(Restart::Graceful, restart).or_else(|| never_met(restart, connections)) {
        return Verdict::inconclusive(why);
    }
    let Some(red) = red(facts, restart) else {
        return Verdict::inconclusive(format!("/readyz of {server} was not seen to turn red"));
    };
    let allowed = timers.shutdown_delay * facts.bounds.late_percent / 100;
    let until = restart.at(Step::Started).unwrap_or(facts.end);
    let late = connections.to(server, red + allowed, until);
    let (Some(first), Some(last)) = (late.first(), late.last()) else {
        let untold = connections.untold(facts, server, red + allowed, until);
        return untold.map_or(Verdict::Upheld, Verdict::inconclusive);
    };
    if let Some(why) = all_excused(facts, red, timers.detection() + facts.bounds.stall, &late) {
        return Verdict::inconclusive(why);
    }
    let (count, after) = (late.len(), last.at.since(red).as_secs_f64());
    Verdict::Violated {
        expected: format!("no new connection to a stopping apiserver later than {:.3} s", allowed.as_secs_f64()),
        actual: format!("late connections to {server}: {count}, the last {after:.3} s after its /readyz turned red"),
        excerpt: excerpt(facts, first.at, |event| match event {
            Event::Request(request) => request.exchange.server.as_deref() == Some(server),
            Event::Connection(connection) => connection.backend.as_deref() == Some(server),
            Event::Lifecycle(step) => step.server == server,
            Event::BackendHealth(health) => health.server == server,
            _ => false,
        }),
    }
}

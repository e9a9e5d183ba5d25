//! LOST-2: a dead connection is not used twice.
//!
//! That a request was not answered is what makes its connection dead, whatever was done to the apiserver; so nothing has to be known of a loss.
//! Ports come again: a first request on a connection is on a new one.
//!
//! ```text
//! GET on 127.0.0.1:4 timed out; the next GET on 127.0.0.1:5                 ->  upheld
//! GET on 127.0.0.1:4 timed out; the next GET on 127.0.0.1:4 again           ->  violated
//! the same, and that GET was the first on 127.0.0.1:4                       ->  violated
//! GET on 127.0.0.1:4 timed out, and nothing was asked after that            ->  inconclusive
//! no request on a pooled connection timed out                               ->  inconclusive
//! ```

use std::collections::HashMap;

use super::breaches::{Breach, first_breach};
use super::conclusive::{Rests, conclude_from_records};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{ConnectionKind, ErrorClass, Event, Exchange, Moment, Phase};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let pools = facts
        .requesters_on(ConnectionKind::Library)
        .map(|(probe, requests)| pool(facts, probe, requests.iter().flat_map(|(at, request)| request.exchanges(*at))));
    let pools: Vec<Pool<'_>> = pools.collect();
    let dead: usize = pools.iter().map(|pool| pool.dead).sum();
    let tested: usize = pools.iter().map(|pool| pool.tested).sum();
    let otherwise = match (dead, tested) {
        (0, _) => Verdict::inconclusive("no request on a pooled connection was left without an answer"),
        (_, 0) => Verdict::inconclusive("nothing was asked after a request that was left without an answer"),
        _ => Verdict::Upheld,
    };
    let found = first_breach(facts, pools.into_iter().filter_map(|pool| pool.breach));
    let figures = vec![Figure::count("dead connections", dead)];
    (conclude_from_records(facts, &[], found.unwrap_or(otherwise)), figures)
}

/// What became of the connections of one pool.
struct Pool<'a> {
    /// How many of its connections turned out to be dead.
    dead: usize,
    /// How many of them had turned out to be so when the pool chose a connection that is known.
    tested: usize,
    breach: Option<Breach<'a>>,
}

fn pool<'a>(facts: &'a Facts<'_>, probe: &'a str, exchanges: impl Iterator<Item = (Moment, &'a Exchange)>) -> Pool<'a> {
    let mut dead: HashMap<&str, Moment> = HashMap::new();
    let mut found = Pool { dead: 0, tested: 0, breach: None };
    for (at, exchange) in exchanges {
        let Some(used) = exchange.connection.as_ref().filter(|used| !used.local.is_empty()) else { continue };
        found.tested = found.dead;
        if !used.reused {
            dead.remove(used.local.as_str());
        }
        if let Some(since) = dead.get(used.local.as_str()).filter(|_| found.breach.is_none()) {
            let (local, since) = (&used.local, facts.clock(*since));
            found.breach = Some(Breach {
                rests: Rests::OnRecord,
                expected: "another connection after a request that was not answered in time".to_owned(),
                actual: format!("{probe} used {local} again, whose request of {since} had been given up"),
                excerpt: Box::new(move || {
                    excerpt(facts, at, |event| match event {
                        Event::Request(request) => request.probe == probe,
                        Event::LossOn(_) | Event::LossOff(_) => true,
                        _ => false,
                    })
                }),
            });
        }
        let timed_out = exchange.failure.as_ref().is_some_and(|failure| failure.class == ErrorClass::Timeout);
        if timed_out && exchange.phase >= Phase::Headers && dead.insert(&used.local, at).is_none() {
            found.dead += 1;
        }
    }
    found
}

//! LOST-2: a dead connection is not used twice.
//!
//! ```text
//! GET on 127.0.0.1:4 timed out; the next GET on 127.0.0.1:5                 ->  upheld
//! GET on 127.0.0.1:4 timed out; the next GET on 127.0.0.1:4 again           ->  violated
//! no request on a pooled connection timed out                               ->  inconclusive
//! ```

use std::collections::HashMap;

use super::conclusive::conclude;
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{ConnectionKind, ErrorClass, Event, Exchange, Moment};

pub(super) fn judge(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let pools = facts.requesters_on(ConnectionKind::Library).map(|(probe, requests)| {
        let exchanges = requests.iter().flat_map(|(at, request)| {
            let attempts = request.attempts.iter().map(|attempt| (attempt.at, &attempt.exchange));
            attempts.chain([(*at, &request.exchange)])
        });
        pool(facts, probe, exchanges)
    });
    let (verdicts, dead): (Vec<_>, Vec<_>) = pools.unzip();
    let dead: usize = dead.iter().sum();
    let found = match Verdict::worst(verdicts) {
        Some(Verdict::Upheld) | None if dead == 0 => {
            Verdict::inconclusive("no request on a pooled connection was left without an answer")
        }
        found => found.unwrap_or(Verdict::Upheld),
    };
    (conclude(facts, &[], found), vec![Figure::count("dead connections", dead)])
}

/// The verdict on one pool, and how many of its connections turned out to be dead.
fn pool<'a>(
    facts: &Facts<'_>,
    probe: &str,
    exchanges: impl Iterator<Item = (Moment, &'a Exchange)>,
) -> (Verdict, usize) {
    let mut dead: HashMap<&str, Moment> = HashMap::new();
    let mut verdict = Verdict::Upheld;
    for (at, exchange) in exchanges {
        let Some(used) = exchange.connection.as_ref().filter(|used| used.reused) else { continue };
        if let Some(since) = dead.get(used.local.as_str()).filter(|_| verdict == Verdict::Upheld) {
            let (local, since) = (&used.local, facts.clock(*since));
            verdict = Verdict::Violated {
                expected: "another connection after a request that was not answered in time".to_owned(),
                actual: format!("{probe} used {local} again, whose request of {since} had been given up"),
                excerpt: excerpt(facts, at, |event| match event {
                    Event::Request(request) => request.probe == probe,
                    Event::LossOn(_) | Event::LossOff(_) => true,
                    _ => false,
                }),
            };
        }
        if exchange.failure.as_ref().is_some_and(|failure| failure.class == ErrorClass::Timeout) {
            dead.insert(&used.local, at);
        }
    }
    (verdict, dead.len())
}

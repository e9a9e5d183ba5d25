//! Who grants an excuse, on which condition, and how often: the table is [`spec::excuse`](crate::spec::excuse).
//!
//! An excuse is granted to one failure at a time, in order of time, until its budget is spent. A failure that has all of an excuse's condition
//! but one, which the recording cannot tell (was it received?), is in doubt: then nothing is upheld, and nothing violated.
//!
//! ```text
//! kept connection to apiserver-0, which is stopping: EOF, in no complete log, retry ok     ->  granted, 1 of 1
//! the same again in the same restart                                                       ->  counts
//! the same while nobody is stopping                                                        ->  counts
//! the same, and the log of apiserver-0 lacks other answers                                 ->  in doubt
//! 429 with Retry-After 3.1 s after SIGTERM, delay 3 s, retry ok                            ->  granted
//! 429 with Retry-After 1 s after SIGTERM, or from an apiserver that is starting            ->  counts
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Figure;
use super::audit::Received;
use super::facts::{Facts, Restarted};
use crate::spec::excuse::{CLOSED_WHILE_IDLE, CREATE_NOT_REPEATED, Excuse, READ_NOT_REPEATED, REFUSED_WHILE_STOPPING};
use crate::timeline::{
    Counted, ErrorClass, Exchange, Load, LoadVerb, Moment, Phase, Protocol, Request, Step, repaired,
};

/// What was granted to one probe, and what is in doubt.
#[derive(Default)]
pub(super) struct Grants {
    /// The failures that count no more: their place among the probe's requests.
    excused: HashSet<usize>,
    /// Those that may.
    doubtful: HashSet<usize>,
    /// Why the first of them is in doubt.
    pub(super) doubt: Option<String>,
    /// How often each excuse was granted.
    granted: BTreeMap<&'static str, usize>,
    /// How often it could have been, all excuses together.
    budget: usize,
}

/// The one restart or connection that an excuse is granted for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Occasion<'a> {
    /// A restart, by its place among them.
    Restart(usize),
    /// A connection whose apiserver asked for another.
    Connection(&'a str),
}

impl Grants {
    /// Whether a failure at this place counts.
    pub(super) fn excuses(&self, place: usize) -> bool {
        self.excused.contains(&place) || self.doubtful.contains(&place)
    }

    /// Of a requester with one kept connection.
    pub(super) fn to_requester(facts: &Facts<'_>, requests: &[(Moment, &Request)]) -> Self {
        let repaired = repaired(requests.iter().map(|(_, request)| *request), facts.bounds.close_noticed);
        grant(facts, requests, |_, request| {
            let repaired = repaired.contains(request.exchange.audit_id.as_str());
            repaired.then(|| reason(facts, &request.exchange)).flatten()
        })
    }

    /// Of a worker of the load, which has one kept connection.
    pub(super) fn to_worker(facts: &Facts<'_>, steps: &[(Moment, &Load)]) -> Self {
        let repaired = repaired(steps.iter().map(|(_, step)| *step), facts.bounds.close_noticed);
        grant(facts, steps, |place, step| {
            if repaired.contains(step.exchange.audit_id.as_str()) {
                return reason(facts, &step.exchange);
            }
            let lost = step.verb == LoadVerb::Create
                && step.retries.is_none()
                && !step.exchange.unsent
                && step.exchange.met_a_closed_connection(facts.bounds.close_noticed)
                // One that was not idle closes the next one too, or leads nowhere.
                && steps.get(place + 1).is_some_and(|(_, next)| next.succeeded());
            lost.then_some(&CREATE_NOT_REPEATED)
        })
    }

    /// Of a client library with a pool, that asks one request after the other.
    pub(super) fn to_library(facts: &Facts<'_>, requests: &[(Moment, &Request)]) -> Self {
        grant(facts, requests, |place, request| {
            let Exchange { phase, failure, .. } = &request.exchange;
            let closed = failure.as_ref().is_some_and(|failure| {
                matches!(
                    failure.class,
                    ErrorClass::UnexpectedEof | ErrorClass::ConnectionReset | ErrorClass::BrokenPipe
                )
            });
            let single = place.checked_sub(1).is_none_or(|before| requests[before].1.succeeded())
                && requests.get(place + 1).is_some_and(|(_, next)| next.succeeded());
            let lost = closed && *phase == Phase::Headers && request.exchange.was_kept() && single;
            lost.then_some(&READ_NOT_REPEATED)
        })
    }

    /// How often each of these was granted, of how many.
    pub(super) fn figures<'g>(all: impl Iterator<Item = &'g Self> + Clone, excuses: &[&'static Excuse]) -> Vec<Figure> {
        let budget = all.clone().map(|grants| grants.budget).sum();
        let granted = |id| all.clone().filter_map(|grants| grants.granted.get(id)).sum();
        excuses.iter().map(|excuse| Figure::granted(excuse, granted(excuse.id), budget)).collect()
    }
}

/// Why a failure that was repaired by a retry may be excused, by what its client saw.
fn reason(facts: &Facts<'_>, exchange: &Exchange) -> Option<&'static Excuse> {
    if exchange.met_a_closed_connection(facts.bounds.close_noticed) {
        return Some(&CLOSED_WHILE_IDLE);
    }
    exchange.refused_for_now().then_some(&REFUSED_WHILE_STOPPING)
}

/// Grants the excuses that `reason` sees to the failures whose conditions the recording shows, one for each occasion.
fn grant<'a, T: Counted>(
    facts: &Facts<'_>,
    requests: &[(Moment, &'a T)],
    reason: impl Fn(usize, &'a T) -> Option<&'static Excuse>,
) -> Grants {
    let mut grants = Grants { budget: facts.restarts.len(), ..Grants::default() };
    let mut spent: HashMap<Occasion<'a>, ()> = HashMap::new();
    for (place, (at, request)) in requests.iter().enumerate().filter(|(_, (_, request))| !request.succeeded()) {
        let Some(excuse) = reason(place, request) else { continue };
        let exchange = request.exchange();
        let Some(occasion) = occasion(facts, *at, exchange, excuse) else { continue };
        let received = facts.audit.received(&exchange.audit_id, exchange.server.as_deref());
        if received == Received::Yes || spent.insert(occasion, ()).is_some() {
            continue;
        }
        grants.budget += usize::from(matches!(occasion, Occasion::Connection(_)));
        match received {
            Received::Unknown(why) => {
                grants.doubtful.insert(place);
                grants.doubt.get_or_insert_with(|| {
                    let what = format!("a failure at {} may be excused ({})", facts.clock(*at), excuse.id);
                    format!("{what}, but nobody knows whether an apiserver had received the request: {why}")
                });
            }
            _ => {
                grants.excused.insert(place);
                *grants.granted.entry(excuse.id).or_default() += 1;
            }
        }
    }
    grants
}

/// What a failure is excused for: the restart of the apiserver that it was on; of any, where nobody can tell (a library, or a balancer that
/// ends TLS).
fn occasion<'a>(
    facts: &Facts<'_>,
    at: Moment,
    exchange: &'a Exchange,
    excuse: &'static Excuse,
) -> Option<Occasion<'a>> {
    let ended = at + exchange.took;
    let refused = excuse == &REFUSED_WHILE_STOPPING;
    let stopping = facts.restarts.iter().position(|restart| {
        let its = exchange.server.as_deref().is_none_or(|server| server == restart.server);
        its && if refused { refuses(facts, restart, ended) } else { is_stopping(facts, restart, ended) }
    });
    let by_chance = || {
        let asked = exchange.protocol == Protocol::Http2 && facts.flagged("goaway-chance") && !refused;
        asked.then(|| exchange.connection.as_ref().map(|used| Occasion::Connection(used.local.as_str()))).flatten()
    };
    stopping.map(Occasion::Restart).or_else(by_chance)
}

/// Whether an apiserver was being stopped then, or its process had just ended.
fn is_stopping(facts: &Facts<'_>, restart: &Restarted<'_>, at: Moment) -> bool {
    let gone = restart.at(Step::Exited).map(|exited| exited + facts.bounds.close_noticed);
    at >= restart.signal() && at <= gone.unwrap_or(facts.end)
}

/// Whether it was, and its shutdown delay was over: we may see both a little early or late.
fn refuses(facts: &Facts<'_>, restart: &Restarted<'_>, at: Moment) -> bool {
    let delay = facts.recording.header.timers.shutdown_delay;
    let over = restart.at(Step::AfterShutdownDelayDuration).unwrap_or(restart.signal() + delay);
    at + facts.bounds.stall >= over && is_stopping(facts, restart, at)
}

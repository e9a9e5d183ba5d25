//! Who grants an excuse, on which condition, and how often: the table is [`spec::excuse`](crate::spec::excuse).
//!
//! An excuse is granted to one failure at a time, in order of time, until its budget is spent. A failure that has all of an excuse's condition
//! but one, which the recording cannot tell (was it received?), is in doubt: then nothing is upheld, and nothing violated.
//!
//! ```text
//! kept connection to apiserver-0, which is stopping: EOF, in no complete log, retry ok     ->  granted, 1 of 1
//! the same again in the same restart                                                       ->  counts
//! the same while nobody is stopping, or only apiserver-1 is                                ->  counts
//! the same, and the retry came three seconds later, or on a kept connection                ->  counts
//! the same, and the log of apiserver-0 lacks other answers                                 ->  in doubt
//! 429 with Retry-After 3.1 s after SIGTERM, delay 3 s, retry ok                            ->  granted
//! 429 with Retry-After 1 s after SIGTERM, or from an apiserver that is starting            ->  counts
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Figure;
use super::audit::Received;
use super::facts::{Facts, Restarted};
use crate::spec::excuse::{CLOSED_WHILE_IDLE, CREATE_NOT_REPEATED, Excuse, READ_NOT_REPEATED, REFUSED_WHILE_STOPPING};
use crate::timeline::{Counted, ErrorClass, Exchange, Load, LoadVerb, Moment, Phase, Protocol, Request, Step};

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
    /// Whether a failure at this place is excused, or may be.
    pub(super) fn excuses(&self, place: usize) -> bool {
        self.excused.contains(&place) || self.doubtful.contains(&place)
    }

    /// Of a requester with one kept connection.
    pub(super) fn to_requester(facts: &Facts<'_>, requests: &[(Moment, &Request)]) -> Self {
        let repaired = repaired(facts, requests);
        grant(facts, requests, |place, request| {
            repaired.contains(&place).then(|| reason(facts, &request.exchange)).flatten()
        })
    }

    /// Of a worker of the load, which has one kept connection.
    pub(super) fn to_worker(facts: &Facts<'_>, steps: &[(Moment, &Load)]) -> Self {
        let repaired = repaired(facts, steps);
        grant(facts, steps, |place, step| {
            if repaired.contains(&place) {
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
            let Exchange { phase, failure, took, .. } = &request.exchange;
            let closed = failure.as_ref().is_some_and(|failure| {
                matches!(
                    failure.class,
                    ErrorClass::UnexpectedEof | ErrorClass::ConnectionReset | ErrorClass::BrokenPipe
                )
            });
            // Which includes the library's own attempts before it: what it has repeated for long was no race.
            let at_once = *took <= facts.bounds.close_noticed;
            let single = place.checked_sub(1).is_none_or(|before| requests[before].1.succeeded())
                && requests.get(place + 1).is_some_and(|(_, next)| next.succeeded());
            let lost = closed && at_once && *phase == Phase::Headers && request.exchange.was_kept() && single;
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

/// The failures, by their place, that one retry at once and on a fresh connection repaired.
fn repaired<T: Counted>(facts: &Facts<'_>, requests: &[(Moment, &T)]) -> HashSet<usize> {
    let noticed = facts.bounds.close_noticed;
    let fair = requests.iter().enumerate().filter(|(_, (_, request))| {
        !request.succeeded() && request.retries().is_none() && request.exchange().may_be_repeated(noticed)
    });
    let failed: HashMap<&str, (usize, Moment)> = fair
        .map(|(place, (at, request))| (request.exchange().audit_id.as_str(), (place, *at + request.exchange().took)))
        .collect();
    let retries = requests.iter().filter(|(_, request)| request.succeeded() && !request.exchange().was_kept());
    let repaired = retries.filter_map(|(at, retry)| {
        let (place, over) = failed.get(retry.retries()?)?;
        (*at <= *over + noticed).then_some(*place)
    });
    repaired.collect()
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
    let mut spent: HashSet<Occasion<'a>> = HashSet::new();
    // What chance can explain, generously: three times as many as are due, and three.
    let mut chances = (facts.goaway_chance() * requests.len() as f64 * 3.0).ceil() as usize + 3;
    // By the client's end of a connection: the apiserver that it led to, as an earlier answer on it told.
    let mut led_to: HashMap<&'a str, &'a str> = HashMap::new();
    for (place, (at, request)) in requests.iter().enumerate() {
        let exchange = request.exchange();
        let local = exchange.connection.as_ref().map(|used| used.local.as_str()).filter(|local| !local.is_empty());
        let server = match (exchange.server.as_deref(), local) {
            (Some(server), Some(local)) => {
                led_to.insert(local, server);
                Some(server)
            }
            (None, Some(local)) if exchange.was_kept() => led_to.get(local).copied(),
            (server, _) => server,
        };
        if request.succeeded() {
            continue;
        }
        let Some(excuse) = reason(place, request) else { continue };
        let Some(occasion) = occasion(facts, *at, exchange, server, excuse) else { continue };
        let received = facts.audit.received(&exchange.audit_id, server);
        let by_chance = matches!(occasion, Occasion::Connection(_));
        if received == Received::Yes || (by_chance && chances == 0) || !spent.insert(occasion) {
            continue;
        }
        if by_chance {
            chances -= 1;
            grants.budget += 1;
        }
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
    server: Option<&str>,
    excuse: &'static Excuse,
) -> Option<Occasion<'a>> {
    let ended = at + exchange.took;
    let refused = excuse == &REFUSED_WHILE_STOPPING;
    let stopping = facts.restarts.iter().position(|restart| {
        let its = server.is_none_or(|server| server == restart.server);
        its && if refused { refuses(facts, restart, at, ended) } else { is_stopping(facts, restart, ended) }
    });
    let by_chance = || {
        let told = exchange
            .failure
            .as_ref()
            .is_some_and(|failure| matches!(failure.class, ErrorClass::Goaway | ErrorClass::UnexpectedEof));
        let asked = excuse == &CLOSED_WHILE_IDLE && exchange.protocol == Protocol::Http2 && facts.goaway_chance() > 0.0;
        (told && asked).then(|| Some(Occasion::Connection(exchange.connection.as_ref()?.local.as_str()))).flatten()
    };
    stopping.map(Occasion::Restart).or_else(by_chance)
}

/// When the process that was stopped had ended; when the next one was started, or the fault was over, where its end was not seen.
fn gone(facts: &Facts<'_>, restart: &Restarted<'_>) -> Moment {
    restart.at(Step::Exited).or_else(|| restart.at(Step::Started)).or(restart.off).unwrap_or(facts.end)
}

/// Whether an apiserver was being stopped then, or its process had just ended.
fn is_stopping(facts: &Facts<'_>, restart: &Restarted<'_>, ended: Moment) -> bool {
    ended >= restart.signal() && ended <= gone(facts, restart) + facts.bounds.close_noticed
}

/// Whether a request that began and ended then can have been refused by one that is stopping: its shutdown delay was over, and its process had
/// not ended. The delay begins after SIGTERM was sent, so it can only be over later than that.
fn refuses(facts: &Facts<'_>, restart: &Restarted<'_>, began: Moment, ended: Moment) -> bool {
    let delay = facts.recording.header.timers.shutdown_delay;
    let due = restart.signal() + delay;
    let over = restart.at(Step::AfterShutdownDelayDuration).map_or(due, |seen| seen.min(due));
    ended >= over && began <= gone(facts, restart)
}

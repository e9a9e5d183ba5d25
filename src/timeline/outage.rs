//! Outages: stretches of time in which a requester did not get what it asked for.

use std::collections::HashSet;
use std::time::Duration;

use super::{Exchange, Load, Moment, Request};

/// A stretch of failures. `[start of the first failure, start of the next success)`, as OpenShift's disruption monitors
/// count; but failures of different kinds in a row are one outage, since the client was without service all along, and it
/// lasts at least until the last of them had failed: who waits ten seconds for an error is without service for as long.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage<'a, T = Request> {
    /// Start of the first failed request.
    pub from: Moment,
    /// Start of the next successful one, or the end of the last failed one if that is later.
    pub until: Moment,
    /// Whether a success ended it.
    pub recovered: bool,
    /// The failed requests.
    pub failed: Vec<&'a T>,
}

impl<T> Outage<'_, T> {
    /// How long it was.
    pub fn length(&self) -> Duration {
        self.until.since(self.from)
    }
}

/// A request that counts in outages.
pub trait Counted {
    /// How it went.
    fn exchange(&self) -> &Exchange;
    /// The Audit-ID of the request that it repeats.
    fn retries(&self) -> Option<&str>;
    /// Whether the client got what it asked for.
    fn succeeded(&self) -> bool;
}

impl Counted for Request {
    fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    fn retries(&self) -> Option<&str> {
        self.retries.as_deref()
    }

    fn succeeded(&self) -> bool {
        self.exchange.succeeded()
    }
}

impl Counted for Load {
    fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    fn retries(&self) -> Option<&str> {
        self.retries.as_deref()
    }

    fn succeeded(&self) -> bool {
        Self::succeeded(self)
    }
}

/// The outages among one requester's requests, which are given in order of their start. A failure that is `excused` neither begins an outage nor
/// prolongs one.
///
/// ```text
/// ok@1 error@2 error@3 ok@4 error@5          ->  [2, 4) recovered, [5, 5] not recovered
/// ok@1 error@2 ok@2.1 ok@3, error@2 excused  ->  none
/// ```
pub fn outages<'a, T: Counted>(
    requests: impl IntoIterator<Item = (Moment, &'a T)>,
    excused: impl Fn(&T) -> bool,
) -> Vec<Outage<'a, T>> {
    let mut found: Vec<Outage<'a, T>> = Vec::new();
    for (at, request) in requests {
        let open = found.last_mut().filter(|outage| !outage.recovered);
        match (request.succeeded(), open) {
            (true, Some(outage)) => {
                outage.until = outage.until.max(at);
                outage.recovered = true;
            }
            (true, None) => {}
            (false, _) if excused(request) => {}
            (false, Some(outage)) => {
                outage.until = outage.until.max(at + request.exchange().took);
                outage.failed.push(request);
            }
            (false, None) => {
                let until = at + request.exchange().took;
                found.push(Outage { from: at, until, recovered: false, failed: vec![request] });
            }
        }
    }
    found
}

/// The Audit-IDs of those requests that one retry on a fresh connection repaired: a failure beside which
/// [one retry is fair](Exchange::may_be_repeated), and the retry succeeded.
pub fn repaired<'a, T: Counted + 'a>(requests: impl IntoIterator<Item = &'a T>, noticed: Duration) -> HashSet<&'a str> {
    let requests: Vec<_> = requests.into_iter().collect();
    let succeeded = requests.iter().filter(|request| request.succeeded());
    let retried_well: HashSet<&str> = succeeded.filter_map(|request| request.retries()).collect();
    let first = requests.iter().filter(|request| request.retries().is_none() && !request.succeeded());
    let fair = first.filter(|request| request.exchange().may_be_repeated(noticed));
    fair.map(|request| request.exchange().audit_id.as_str()).filter(|id| retried_well.contains(id)).collect()
}

//! Outages: stretches of time in which a requester did not get what it asked for.

use std::collections::HashSet;
use std::time::Duration;

use super::{Moment, Request};

/// A stretch of failures. `[start of the first failure, start of the next success)`, as OpenShift's disruption monitors
/// count; but failures of different kinds in a row are one outage, since the client was without service all along, and it
/// lasts at least until the last of them had failed: who waits ten seconds for an error is without service for as long.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage<'a> {
    /// Start of the first failed request.
    pub from: Moment,
    /// Start of the next successful one, or the end of the last failed one if that is later.
    pub until: Moment,
    /// Whether a success ended it.
    pub recovered: bool,
    /// The failed requests.
    pub failed: Vec<&'a Request>,
}

impl Outage<'_> {
    /// How long it was.
    pub fn length(&self) -> Duration {
        self.until.since(self.from)
    }
}

/// The outages among one requester's requests, which are given in order of their start.
///
/// A 429 neither starts nor ends an outage: the server was there, and said when to come back. A failure on a kept
/// connection that one retry on a fresh one repaired is no outage if no server had taken up the request: the connection had
/// been closed while idle, as every HTTP client must expect (RFC 9110, 9.2.2), or led to a stopping apiserver that refused
/// it (503 with Retry-After). That is not the client's guess: the request must not be among those that a server has
/// `received`, by Audit-ID.
///
/// ```text
/// ok@1 error@2 error@3 ok@4 error@5      ->  [2, 4) recovered, [5, 5] not recovered
/// ok@1 error@2 ok@2.1(retries 2) ok@3    ->  none; if a server had received 2: [2, 2.1) recovered
/// ```
pub fn outages<'a>(
    requests: impl IntoIterator<Item = (Moment, &'a Request)>,
    received: impl Fn(&str) -> bool,
) -> Vec<Outage<'a>> {
    let requests: Vec<_> = requests.into_iter().collect();
    let retried_well: HashSet<&str> = requests
        .iter()
        .filter(|(_, request)| request.exchange.succeeded())
        .filter_map(|(_, request)| request.retries.as_deref())
        .collect();
    let repaired = |failed: &Request| {
        let id = failed.exchange.audit_id.as_str();
        failed.exchange.may_be_repeated() && failed.retries.is_none() && retried_well.contains(id) && !received(id)
    };

    let mut found: Vec<Outage<'a>> = Vec::new();
    for (at, request) in requests.iter().copied() {
        let open = found.last_mut().filter(|outage| !outage.recovered);
        if request.exchange.refused_for_now() {
            continue;
        }
        match (request.exchange.succeeded(), open) {
            (true, Some(outage)) => {
                outage.until = outage.until.max(at);
                outage.recovered = true;
            }
            (true, None) => {}
            (false, _) if repaired(request) => {}
            (false, Some(outage)) => {
                outage.until = outage.until.max(at + request.exchange.took);
                outage.failed.push(request);
            }
            (false, None) => {
                let until = at + request.exchange.took;
                found.push(Outage { from: at, until, recovered: false, failed: vec![request] });
            }
        }
    }
    found
}

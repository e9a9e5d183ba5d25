//! What a gateway tells of itself: its counters, and its access log.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::lab::http::Roster;
use crate::timeline::GatewayLogged;

/// What is counted of a cluster, as far as it tells of dead upstreams.
const OF_CLUSTERS: &[&str] = &[
    "upstream_cx_",
    "upstream_rq_",
    "health_check.",
    "outlier_detection.",
    "membership_",
    "update_success",
    "http2.keepalive_timeout",
];

/// The line of an access log, as far as we read it.
#[derive(Deserialize)]
struct Line {
    audit_id: String,
    status: u16,
    flags: String,
    details: Option<String>,
    upstream: Option<String>,
}

/// Counters and gauges that are not zero, from `/stats`: those of upstreams, and how many connections each worker of a listener was
/// given.
pub fn counters(stats: &str) -> BTreeMap<String, u64> {
    let told = |name: &str| match name.split_once('.') {
        Some(("cluster", rest)) => {
            rest.split_once('.').is_some_and(|(_, name)| OF_CLUSTERS.iter().any(|prefix| name.starts_with(prefix)))
        }
        Some(("listener", rest)) => rest.contains(".worker_") && rest.ends_with(".downstream_cx_total"),
        _ => false,
    };
    let lines = stats.lines().filter_map(|line| line.split_once(": "));
    let numbers = lines.filter(|(name, _)| told(name)).filter_map(|(name, value)| Some((name, value.parse().ok()?)));
    numbers.filter(|(_, value)| *value != 0).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a gateway's log says of the streams in `ours`, by Audit-ID, where it flags them: without a flag all went well.
pub fn logged(gateway: &str, log: &str, ours: &BTreeSet<String>, roster: &Roster) -> Vec<GatewayLogged> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let flagged = lines.filter(|line| line.flags != "-" && ours.contains(&line.audit_id));
    flagged
        .map(|Line { audit_id, status, flags, details, upstream }| GatewayLogged {
            gateway: gateway.to_owned(),
            audit_id,
            server: upstream.and_then(|address| roster.get(&address).cloned()),
            status,
            flags,
            details: details.unwrap_or_default(),
        })
        .collect()
}

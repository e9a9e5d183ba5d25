//! What gateways have counted themselves, from before the fault to their end: for people who know Envoy. It decides nothing.

use std::collections::BTreeMap;

use crate::timeline::{Event, GatewayCounted, Recording};

/// Counters of a cluster, as Envoy calls them, and what they count.
pub const COUNTED: &[(&str, &str)] = &[
    ("upstream_cx_total", "connections opened"),
    ("upstream_cx_connect_fail", "connects failed"),
    ("upstream_cx_destroy_local_with_active_rq", "closed with streams on them"),
    ("upstream_cx_destroy_remote_with_active_rq", "closed so by peer or kernel"),
    ("http2.keepalive_timeout", "PINGs unanswered"),
    ("health_check.failure", "health checks failed"),
    ("outlier_detection.ejections_enforced_total", "ejections"),
    ("upstream_rq_retry", "requests repeated"),
];

/// By how much each of [`COUNTED`] grew between the first and the last time that a gateway told, over all of its lanes. None of a
/// gateway that told only once.
pub fn counted(recording: &Recording) -> BTreeMap<&str, Vec<u64>> {
    let grown = told(recording).into_iter().filter_map(|(gateway, told)| {
        let [first, .., last] = told[..] else { return None };
        let grown = COUNTED.iter().map(|(name, _)| total(last, name).saturating_sub(total(first, name)));
        Some((gateway, grown.collect()))
    });
    grown.collect()
}

/// How many connections each gateway had to all apiservers in the lane of watches alone, when it told first.
pub fn connections_at_first(recording: &Recording) -> BTreeMap<&str, u64> {
    let told = told(recording).into_iter();
    let active = |counted: &GatewayCounted| counted.counters.get("cluster.alone.upstream_cx_active").copied();
    told.filter_map(|(gateway, told)| Some((gateway, active(told.first()?)?))).collect()
}

/// What each gateway told, in order.
fn told(recording: &Recording) -> BTreeMap<&str, Vec<&GatewayCounted>> {
    let mut told: BTreeMap<&str, Vec<&GatewayCounted>> = BTreeMap::new();
    let all = recording.each(|event| if let Event::GatewayCounted(counted) = event { Some(counted) } else { None });
    for (_, counted) in all {
        told.entry(&counted.gateway).or_default().push(counted);
    }
    told
}

/// A counter over all lanes.
fn total(counted: &GatewayCounted, name: &str) -> u64 {
    let of_it = |full: &str| {
        full.strip_prefix("cluster.").and_then(|rest| rest.split_once('.')).is_some_and(|(_, counter)| counter == name)
    };
    counted.counters.iter().filter(|(full, _)| of_it(full)).map(|(_, value)| value).sum()
}

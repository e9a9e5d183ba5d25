//! CLUSTER-1 to -3: kubelets, controller manager and scheduler as clients of the apiservers.
//!
//! ```text
//! Ready of a node: True True ... True                                       ->  CLUSTER-1 upheld
//! Ready of a node: True, and Unknown at 71.2 s                              ->  CLUSTER-1 violated
//! a lease of 40 s that was renewed 41.3 s ago                               ->  CLUSTER-2 violated
//! kube-scheduler's lease is held by another one at 31.0 s                   ->  CLUSTER-3 violated
//! a node that was never ready, no lease at all                              ->  inconclusive
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::conclusive::{Traffic, conclude};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{ClusterSeen, Event, LeaseSeen, Moment};

/// Where kubelets' leases are.
const OF_NODES: &str = "kube-node-lease/";

pub(super) fn nodes_ready(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut was_ready: BTreeMap<&str, bool> = BTreeMap::new();
    for (at, seen) in looks(facts) {
        for (node, ready) in &seen.ready {
            if ready == "True" {
                was_ready.insert(node, true);
            } else if *was_ready.entry(node).or_insert(false) {
                return concluded(
                    facts,
                    violated(facts, at, "every node to stay ready", &format!("{node} is {ready}")),
                );
            }
        }
    }
    let never = was_ready.iter().find(|(_, ready)| !**ready).map(|(node, _)| format!("{node} was never ready"));
    concluded(facts, never.map_or_else(|| upheld_of(was_ready.len(), "nodes"), Verdict::inconclusive))
}

pub(super) fn leases_renewed(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut worst: Option<(Moment, &str, &LeaseSeen)> = None;
    let mut leases = 0;
    for (at, seen) in looks(facts) {
        let of_nodes = seen.leases.iter().filter(|(name, _)| name.starts_with(OF_NODES));
        for (name, lease) in of_nodes {
            leases += 1;
            let left = |lease: &LeaseSeen| lease.duration.checked_sub(lease.age).unwrap_or(Duration::ZERO);
            if worst.is_none_or(|(.., other)| left(lease) < left(other)) {
                worst = Some((at, name, lease));
            }
        }
    }
    let figures = worst.map(|(.., lease)| Figure::seconds("oldest node lease", lease.age)).into_iter().collect();
    let found = match worst {
        Some((at, name, LeaseSeen { age, duration, .. })) if age > duration => {
            let expected = format!("every node's lease to be renewed within its {} s", duration.as_secs());
            violated(facts, at, &expected, &format!("{name} was renewed {:.1} s ago", age.as_secs_f64()))
        }
        _ => upheld_of(leases, "leases of nodes"),
    };
    (concluded(facts, found).0, figures)
}

pub(super) fn leaders_stay(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut leaders: BTreeMap<&str, &str> = BTreeMap::new();
    let mut changes = Vec::new();
    for (at, seen) in looks(facts) {
        for (name, lease) in seen.leases.iter().filter(|(name, _)| !name.starts_with(OF_NODES)) {
            let before = leaders.insert(name, &lease.holder);
            if let Some(before) = before.filter(|before| *before != lease.holder) {
                changes.push((at, format!("{name} is held by {:?} instead of {before:?}", lease.holder)));
            }
        }
    }
    let figures = vec![Figure::count("leaders lost", changes.len())];
    let found = match changes.first() {
        Some((at, what)) => violated(facts, *at, "those who lead to go on leading", what),
        None => upheld_of(leaders.len(), "leaders"),
    };
    (concluded(facts, found).0, figures)
}

fn looks<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (Moment, &'a ClusterSeen)> + use<'a> {
    facts.recording.each(|event| if let Event::Cluster(seen) = event { Some(seen) } else { None })
}

fn concluded(facts: &Facts<'_>, found: Verdict) -> (Verdict, Vec<Figure>) {
    let traffic = Traffic::of(
        facts,
        "cluster".to_owned(),
        facts.bounds.cluster_gap,
        looks(facts).map(|(at, _)| (at, Duration::ZERO, true)),
    );
    (conclude(facts, &[&traffic], found), Vec::new())
}

fn upheld_of(count: usize, what: &str) -> Verdict {
    match count {
        0 => Verdict::inconclusive(format!("no {what} were seen")),
        _ => Verdict::Upheld,
    }
}

fn violated(facts: &Facts<'_>, at: Moment, expected: &str, actual: &str) -> Verdict {
    Verdict::Violated {
        expected: expected.to_owned(),
        actual: format!("{actual} at {}", facts.clock(at)),
        excerpt: excerpt(facts, at, |event| {
            matches!(event, Event::Cluster(_) | Event::FaultOn(_) | Event::FaultOff(_) | Event::LossOn(_))
        }),
    }
}

//! What the verdicts say about the clients that a cluster has of its own.

use rollproof::timeline::*;
use rollproof::timing::{millis, secs};

use crate::runs::run;
use crate::shorthand::*;

const NODE: &str = "kube-node-lease/it-control-plane";
const LEADER: &str = "kube-system/kube-scheduler";

/// What is read while all is well.
fn well() -> ClusterSeen {
    let lease =
        |holder: &str, duration| LeaseSeen { holder: holder.into(), age: millis(1500), duration: secs(duration) };
    ClusterSeen {
        probe: "cluster".into(),
        ready: [("it-control-plane".to_owned(), "True".to_owned())].into(),
        leases: [(NODE.to_owned(), lease("it-control-plane", 40)), (LEADER.to_owned(), lease("one", 15))].into(),
    }
}

/// A graceful roll, and what is read meanwhile, made worse as `spoil` does it; times in milliseconds.
fn roll(spoil: impl Fn(u64, &mut ClusterSeen)) -> Recording {
    let ids = ["CLUSTER-1", "CLUSTER-2", "CLUSTER-3"];
    let judged_by = ids.map(|id| JudgedBy { requirement: id.to_owned(), expected: Expected::Upheld, gateway: None });
    let mut run = run(Some(Restart::Graceful)).header(|header| header.judged_by.extend(judged_by));
    for at in (200..20_000).step_by(200) {
        let mut seen = well();
        spoil(at, &mut seen);
        run = run.with(at, Event::Cluster(seen));
    }
    run.0
}

fn change(seen: &mut ClusterSeen, lease: &str, change: impl FnOnce(&mut LeaseSeen)) {
    change(seen.leases.get_mut(lease).unwrap());
}

pub(crate) fn a_node_unknown() -> Recording {
    roll(|at, seen| {
        if at == 12_000 {
            seen.ready.insert("it-control-plane".to_owned(), "Unknown".to_owned());
        }
    })
}

pub(crate) fn a_lease_not_renewed() -> Recording {
    roll(|at, seen| {
        if at == 12_000 {
            change(seen, NODE, |lease| lease.age = millis(40_100));
        }
    })
}

pub(crate) fn another_leader() -> Recording {
    roll(|at, seen| {
        if at >= 12_000 {
            change(seen, LEADER, |lease| lease.holder = "other".to_owned());
        }
    })
}

#[test]
fn a_cluster_whose_clients_notice_nothing_is_upheld() {
    upheld().compare(&roll(|_, _| ()));
    violated("CLUSTER-1", "it-control-plane is Unknown").compare(&a_node_unknown());
    violated("CLUSTER-2", "was renewed 40.1 s ago").compare(&a_lease_not_renewed());
    violated("CLUSTER-3", "is held by \"other\" instead of \"one\"").compare(&another_leader());
}

#[test]
fn what_was_not_seen_is_not_upheld() {
    let nothing = roll(|_, seen| *seen = ClusterSeen { probe: seen.probe.clone(), ..ClusterSeen::default() });
    inconclusive("CLUSTER-1", "no nodes were seen")
        .and_inconclusive("CLUSTER-2", "no leases of nodes were seen")
        .and_inconclusive("CLUSTER-3", "no leaders were seen")
        .compare(&nothing);
    let never = roll(|_, seen| drop(seen.ready.insert("it-control-plane".to_owned(), "False".to_owned())));
    inconclusive("CLUSTER-1", "it-control-plane was never ready").compare(&never);
}

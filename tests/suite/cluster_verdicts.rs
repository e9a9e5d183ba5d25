//! What the verdicts say about the clients that a cluster has of its own.

use rollproof::timeline::*;
use rollproof::timing::{millis, secs};

use crate::runs::run;
use crate::shorthand::*;

const NODE: &str = "kube-node-lease/it-control-plane";
const LEADER: &str = "kube-system/kube-scheduler";
const OTHER_LEADER: &str = "kube-system/kube-controller-manager";

/// What is read while all is well.
fn well() -> ClusterSeen {
    let lease =
        |holder: &str, duration| LeaseSeen { holder: holder.into(), age: millis(1500), duration: secs(duration) };
    ClusterSeen {
        probe: "cluster".into(),
        ready: [("it-control-plane".to_owned(), "True".to_owned())].into(),
        leases: [
            (NODE.to_owned(), lease("it-control-plane", 40)),
            (LEADER.to_owned(), lease("one", 15)),
            (OTHER_LEADER.to_owned(), lease("one", 15)),
        ]
        .into(),
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

const BEFORE: &str = "before any apiserver was disturbed";

fn node(seen: &mut ClusterSeen, ready: &str) {
    seen.ready.insert("it-control-plane".to_owned(), ready.to_owned());
}

#[test]
fn what_disappears_is_missed() {
    let no_node = |from: u64| {
        roll(move |at, seen| {
            if at >= from {
                seen.ready.clear();
            }
        })
    };
    violated("CLUSTER-1", "it-control-plane is not there any more at +12.000s").compare(&no_node(12_000));
    inconclusive("CLUSTER-1", BEFORE).compare(&no_node(1000));
    let no_lease = |lease: &'static str, from: u64| {
        roll(move |at, seen| {
            if at >= from {
                drop(seen.leases.remove(lease));
            }
        })
    };
    violated("CLUSTER-2", "it-control-plane is not there any more").compare(&no_lease(NODE, 12_000));
    violated("CLUSTER-3", "kube-scheduler is not there any more").compare(&no_lease(LEADER, 12_000));
    inconclusive("CLUSTER-2", BEFORE).compare(&no_lease(NODE, 1000));
    inconclusive("CLUSTER-3", BEFORE).compare(&no_lease(LEADER, 1000));
    // One that was there once, and is back at once.
    let flickers = roll(|at, seen| {
        if at == 12_000 {
            *seen = ClusterSeen { probe: seen.probe.clone(), ..ClusterSeen::default() }
        }
    });
    violated("CLUSTER-1", "not there any more")
        .and_violated("CLUSTER-2", "not there any more")
        .and_violated("CLUSTER-3", "not there any more")
        .compare(&flickers);
}

#[test]
fn what_a_kubelet_says_of_itself_is_not_its_apiservers_fault() {
    let is_false = |when: std::ops::Range<u64>| {
        roll(move |at, seen| {
            if when.contains(&at) {
                node(seen, "False");
            }
        })
    };
    inconclusive("CLUSTER-1", "it-control-plane is False at +12.000s, as its own kubelet says")
        .compare(&is_false(12_000..13_000));
    inconclusive("CLUSTER-1", "as its own kubelet says").compare(&is_false(1000..1200));
    let two = roll(|at, seen| {
        if at == 12_000 {
            seen.ready.insert("another".to_owned(), "Unknown".to_owned());
        } else {
            seen.ready.insert("another".to_owned(), "True".to_owned());
        }
        if at == 11_000 {
            node(seen, "False");
        }
    });
    violated("CLUSTER-1", "another is Unknown")
        .and_inconclusive("CLUSTER-2", "no lease kube-node-lease/another was seen")
        .compare(&two);
}

#[test]
fn what_was_so_before_is_not_because_of_an_apiserver() {
    let unknown = |from: u64| {
        roll(move |at, seen| {
            if at >= from {
                node(seen, "Unknown");
            }
        })
    };
    inconclusive("CLUSTER-1", BEFORE).compare(&unknown(1000));
    violated("CLUSTER-1", "is Unknown at +3.000s").compare(&unknown(3000));
    let old = |from: u64, until: u64| {
        roll(move |at, seen| {
            if (from..until).contains(&at) {
                change(seen, NODE, |lease| lease.age = secs(41));
                change(seen, LEADER, |lease| lease.age = secs(16));
            }
        })
    };
    let before = inconclusive("CLUSTER-2", BEFORE).and_inconclusive("CLUSTER-3", BEFORE);
    before.compare(&old(1000, 2000));
    before.compare(&old(1000, 20_000));
    let led = roll(|at, seen| {
        change(seen, LEADER, |lease| lease.holder = if at < 1000 { "other" } else { "one" }.to_owned());
    });
    inconclusive("CLUSTER-3", BEFORE).compare(&led);
    // A violation later is one all the same.
    let again = roll(|at, seen| {
        change(seen, LEADER, |lease| {
            lease.holder = if (1000..12_000).contains(&at) { "other" } else { "one" }.to_owned();
        });
    });
    violated("CLUSTER-3", "is held by \"one\" instead of \"other\" at +12.000s").compare(&again);
}

#[test]
fn a_leader_that_does_not_renew_does_not_lead() {
    let old = roll(|at, seen| {
        if at >= 12_000 {
            change(seen, LEADER, |lease| lease.age = secs(60));
        }
    });
    violated("CLUSTER-3", "kube-scheduler, which holds for 15 s, was renewed 60.0 s ago").compare(&old);
    let mut killed = another_leader();
    killed.header.disturbance = None;
    let verdict = rollproof::verdict::judge(rollproof::spec::requirement("CLUSTER-3").unwrap(), &killed).0;
    assert!(matches!(verdict, rollproof::verdict::Verdict::Inconclusive { .. }), "{verdict:?}");
}

#[test]
fn a_loss_or_a_freeze_is_a_disturbance_as_well() {
    let undisturbed = |disturb: &dyn Fn(u64) -> Event| {
        let mut recording = roll(|at, seen| {
            if at >= 12_000 {
                node(seen, "Unknown");
            }
        });
        recording.header.disturbance = None;
        recording.header.judged_by.retain(|by| by.requirement == "CLUSTER-1");
        recording
            .observations
            .retain(|seen| !matches!(&seen.event, Event::FaultOn(_) | Event::FaultOff(_) | Event::Lifecycle(_)));
        let at = 5000;
        recording.observations.push(observed(at, disturb(at)));
        recording.observations.sort_by_key(|seen| seen.at);
        recording
    };
    let nothing = |_| Event::Stall(millis(1));
    inconclusive("CLUSTER-1", BEFORE).compare(&undisturbed(&nothing));
    violated("CLUSTER-1", "is Unknown").compare(&undisturbed(&|_| life(SERVERS[0], Step::Frozen)));
    let loss = |_| Event::LossOn(Loss { server: SERVERS[0].into(), lost: Lost::Both });
    violated("CLUSTER-1", "is Unknown").compare(&undisturbed(&loss));
}

#[test]
fn what_was_not_read_for_too_long_may_have_happened() {
    let unread = |when: std::ops::Range<u64>, duration| {
        let mut recording = roll(move |at, seen| {
            change(seen, NODE, |lease| (lease.duration, lease.age) = (secs(duration), millis(at % 2000)));
        });
        let read =
            |seen: &Observation| !(matches!(seen.event, Event::Cluster(_)) && when.contains(&(seen.at.0 / 1_000_000)));
        recording.observations.retain(read);
        recording
    };
    let long = "was not read for 6.";
    inconclusive("CLUSTER-1", long)
        .and_inconclusive("CLUSTER-2", long)
        .and_inconclusive("CLUSTER-3", long)
        .compare(&unread(6000..12_000, 40));
    upheld().compare(&unread(6000..10_400, 40));
    // Shorter, but longer than this lease had left.
    inconclusive("CLUSTER-2", "it-control-plane was not read for 4.6 s from +5.800s on, and may have run out")
        .compare(&unread(6000..10_400, 4));
    upheld().compare(&unread(6000..7000, 4));
}

#[test]
fn what_the_api_says_is_no_matter_of_our_stalls() {
    let mut stalled = a_node_unknown();
    stalled.observations.insert(0, observed(11_500, Event::Stall(secs(1))));
    stalled.header.judged_by.retain(|by| by.requirement.starts_with("CLUSTER"));
    violated("CLUSTER-1", "it-control-plane is Unknown").compare(&stalled);
    // Nor does a restart that is never over void it.
    stalled.observations.retain(|seen| !matches!(&seen.event, Event::FaultOff(_)));
    let never = "was never over";
    violated("CLUSTER-1", "it-control-plane is Unknown")
        .and_inconclusive("CLUSTER-2", never)
        .and_inconclusive("CLUSTER-3", never)
        .compare(&stalled);
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

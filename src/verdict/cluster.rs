//! CLUSTER-1 to -3: kubelets, controller manager and scheduler as clients of the apiservers.
//!
//! What is judged is what the API said, so no stall of ours explains it. What it said before any apiserver was disturbed is not because of one.
//!
//! ```text
//! Ready of a node: True True ... True                                        ->  CLUSTER-1 upheld
//! Ready of a node: True, and Unknown at 71.2 s                               ->  CLUSTER-1 violated
//! Ready of a node: True, and at 71.2 s there is no such node                 ->  CLUSTER-1 violated
//! Ready of a node: True, and False at 71.2 s                                 ->  CLUSTER-1 inconclusive: its kubelet says so itself
//! Ready of a node: True, Unknown at 1 s, True, the first SIGTERM at 5 s      ->  CLUSTER-1 inconclusive
//! a lease of 40 s that was renewed 41.3 s ago                                ->  CLUSTER-2 violated
//! a lease of 4 s, nothing read for 6 s, renewed meanwhile                    ->  CLUSTER-2 inconclusive
//! kube-scheduler's lease is held by another one at 31.0 s                    ->  CLUSTER-3 violated
//! kube-scheduler's lease of 15 s was renewed 16 s ago                        ->  CLUSTER-3 violated: nobody led
//! a node that was never ready, no lease at all                               ->  inconclusive
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::conclusive::{Rests, Traffic, breach, conclude_from_records};
use super::excerpt::excerpt;
use super::facts::Facts;
use super::{Figure, Verdict};
use crate::timeline::{ClusterSeen, Event, LeaseSeen, Moment, Restart};

/// Where kubelets' leases are.
const OF_NODES: &str = "kube-node-lease/";

/// The leases of those that lead.
const LEADERS: [&str; 2] = ["kube-system/kube-controller-manager", "kube-system/kube-scheduler"];

/// CLUSTER-1.
pub(super) fn nodes_ready(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut found = Found::of(facts, "every node to stay ready");
    let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
    for (at, seen) in looks(facts) {
        for (name, ready) in &seen.ready {
            let node = nodes.entry(name).or_insert(Node::New);
            match (ready.as_str(), *node) {
                ("True", _) => *node = Node::Ready,
                ("Unknown", Node::Ready) => {
                    found.breach(at, &format!("{name} is Unknown"));
                    *node = Node::Ceased;
                }
                // The next word may be that nobody hears of it any more.
                (ready, Node::Ready) => {
                    found.doubt(|| format!("{name} is {ready} at {}, as its own kubelet says", facts.clock(at)));
                    *node = Node::Ceased;
                }
                (_, Node::New | Node::Ceased) => {}
            }
        }
        nodes.retain(|name, node| {
            let there = seen.ready.contains_key(*name);
            match (there, *node) {
                (false, Node::Ready) => found.breach(at, &format!("{name} is not there any more")),
                (false, Node::New) => found.doubt(|| format!("{name} was never ready")),
                _ => {}
            }
            there
        });
    }
    if let Some((name, _)) = nodes.iter().find(|(_, node)| **node == Node::New) {
        found.doubt(|| format!("{name} was never ready"));
    }
    if looks(facts).all(|(_, seen)| seen.ready.is_empty()) {
        found.doubt(|| "no nodes were seen".to_owned());
    }
    (found.concluded(), Vec::new())
}

/// A node, by what was read of it so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    /// It was not ready yet.
    New,
    /// It is ready.
    Ready,
    /// It was, and it is told already that it ceased to be.
    Ceased,
}

/// CLUSTER-2.
pub(super) fn leases_renewed(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut found = Found::of(facts, "every node's lease to be renewed in time");
    follow(facts, &mut found, "leases of nodes", |name| name.starts_with(OF_NODES));
    for node in looks(facts).flat_map(|(_, seen)| seen.ready.keys()).collect::<BTreeSet<_>>() {
        expect(facts, &mut found, &format!("{OF_NODES}{node}"));
    }
    let oldest = looks(facts).flat_map(|(_, seen)| &seen.leases).filter(|(name, _)| name.starts_with(OF_NODES));
    let oldest = oldest.map(|(_, lease)| lease).min_by_key(|lease| lease.duration.saturating_sub(lease.age));
    let figures = oldest.map(|lease| Figure::seconds("oldest node lease", lease.age)).into_iter().collect();
    (found.concluded(), figures)
}

/// CLUSTER-3.
pub(super) fn leaders_stay(facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    let mut found = Found::of(facts, "those who lead to go on leading");
    follow(facts, &mut found, "leaders", |name| !name.starts_with(OF_NODES));
    for leader in LEADERS {
        expect(facts, &mut found, leader);
    }
    let mut lost = 0;
    let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
    for (at, seen) in looks(facts) {
        for (name, lease) in seen.leases.iter().filter(|(name, _)| !name.starts_with(OF_NODES)) {
            let before = holders.insert(name, &lease.holder);
            if let Some(before) = before.filter(|before| *before != lease.holder) {
                lost += 1;
                found.breach(at, &format!("{name} is held by {:?} instead of {before:?}", lease.holder));
            }
        }
    }
    let verdict = match facts.disturbance() {
        Some(Restart::Graceful) => found.concluded(),
        _ => Verdict::inconclusive("no apiserver was stopped gracefully here"),
    };
    (verdict, vec![Figure::count("leaders lost", lost)])
}

/// A lease that has to be there.
fn expect(facts: &Facts<'_>, found: &mut Found<'_, '_>, name: &str) {
    if !looks(facts).any(|(_, seen)| seen.leases.contains_key(name)) {
        found.doubt(|| format!("no lease {name} was seen"));
    }
}

/// Follows leases from look to look: whether each is there, is renewed in time, and was looked at often enough to know.
fn follow<'a>(facts: &Facts<'a>, found: &mut Found<'_, 'a>, whose: &str, which: impl Fn(&str) -> bool) {
    let mut followed: BTreeMap<&str, Followed<'a>> = BTreeMap::new();
    let mut any = false;
    for (at, seen) in looks(facts) {
        for (name, lease) in seen.leases.iter().filter(|(name, _)| which(name)) {
            any = true;
            let ran_out = lease.age > lease.duration;
            let before = followed.insert(name, Followed { at, lease, ran_out });
            // What had run out already is told.
            let told = before.as_ref().is_some_and(|before| before.ran_out);
            if ran_out && !told {
                let (age, seconds) = (lease.age.as_secs_f64(), lease.duration.as_secs());
                found.breach(at, &format!("{name}, which holds for {seconds} s, was renewed {age:.1} s ago"));
            } else if let Some(before) = before.filter(|before| !told && before.may_have_run_out(at, lease)) {
                let (seconds, from) = (at.since(before.at).as_secs_f64(), facts.clock(before.at));
                found.doubt(|| format!("{name} was not read for {seconds:.1} s from {from} on, and may have run out"));
            }
        }
        followed.retain(|name, followed| {
            let there = seen.leases.contains_key(*name);
            if !there && !followed.ran_out {
                found.breach(at, &format!("{name} is not there any more"));
            }
            there
        });
    }
    if !any {
        found.doubt(|| format!("no {whose} were seen"));
    }
}

/// A lease as it was read last.
struct Followed<'a> {
    at: Moment,
    lease: &'a LeaseSeen,
    ran_out: bool,
}

impl Followed<'_> {
    /// Whether it may have run out since, though it had been renewed again by this look.
    fn may_have_run_out(&self, at: Moment, lease: &LeaseSeen) -> bool {
        let left = self.lease.duration.saturating_sub(self.lease.age);
        let passed = at.since(self.at);
        // It was renewed for the last time so long after the renewal that had been read; what was between, nobody has seen.
        let between = (passed + self.lease.age).saturating_sub(lease.age);
        passed > left && between > self.lease.duration
    }
}

/// What was found, as far as one has looked.
struct Found<'f, 'a> {
    facts: &'f Facts<'a>,
    expected: &'static str,
    /// Since when an apiserver was disturbed, if one was.
    since: Option<Moment>,
    violated: Option<Verdict>,
    doubt: Option<Verdict>,
}

impl<'f, 'a> Found<'f, 'a> {
    fn of(facts: &'f Facts<'a>, expected: &'static str) -> Self {
        Self { facts, expected, since: since(facts), violated: None, doubt: None }
    }

    /// Something that must not happen because of an apiserver.
    fn breach(&mut self, at: Moment, what: &str) {
        let actual = format!("{what} at {}", self.facts.clock(at));
        if self.since.is_none_or(|since| at < since) {
            return self.doubt(|| format!("{actual}, before any apiserver was disturbed"));
        }
        if self.violated.is_none() {
            let excerpt = excerpt(self.facts, at, |event| {
                matches!(event, Event::Cluster(_) | Event::FaultOn(_) | Event::FaultOff(_) | Event::LossOn(_))
            });
            let violated = Verdict::Violated { expected: self.expected.to_owned(), actual, excerpt };
            self.violated = Some(breach(self.facts, Rests::OnRecord, violated));
        }
    }

    fn doubt(&mut self, why: impl FnOnce() -> String) {
        self.doubt.get_or_insert_with(|| Verdict::inconclusive(why()));
    }

    fn concluded(mut self) -> Verdict {
        if self.since.is_none() {
            self.doubt(|| "no apiserver was disturbed".to_owned());
        }
        if let Some((from, until)) = unread(self.facts) {
            let (seconds, from) = (until.since(from).as_secs_f64(), self.facts.clock(from));
            self.doubt(|| format!("the cluster was not read for {seconds:.1} s from {from} on"));
        }
        let found = self.violated.or(self.doubt).unwrap_or(Verdict::Upheld);
        let looks = looks(self.facts).map(|(at, _)| (at, Duration::ZERO, true));
        let traffic = Traffic::of(self.facts, "cluster".to_owned(), self.facts.bounds.cluster_gap, looks);
        conclude_from_records(self.facts, &[&traffic], found)
    }
}

/// When an apiserver was disturbed for the first time: stopped, killed, frozen, or cut off.
fn since(facts: &Facts<'_>) -> Option<Moment> {
    let restarts = facts.restarts.iter().map(|restart| restart.window(facts.end).0);
    let others = facts.other_faults.iter().map(|(at, _)| *at).chain(facts.losses.iter().map(|(at, ..)| *at));
    restarts.chain(others).chain(facts.frozen().map(|(at, ..)| at)).min()
}

/// The first time that was too long between two looks.
fn unread(facts: &Facts<'_>) -> Option<(Moment, Moment)> {
    let looks: Vec<_> = looks(facts).map(|(at, _)| at).collect();
    let pairs = looks.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.into_iter().find(|(one, next)| next.since(*one) > facts.bounds.cluster_gap)
}

fn looks<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (Moment, &'a ClusterSeen)> + use<'a> {
    facts.recording.each(|event| if let Event::Cluster(seen) = event { Some(seen) } else { None })
}

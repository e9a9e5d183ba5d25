//! etcd's history, apiservers whose watch caches lag behind it, their restarts, and a balancer that follows their health.

use std::collections::BTreeMap;

use rollproof::timeline::*;

use super::{END, Random, Simulation};
use crate::runs::FAULTS;
use crate::shorthand::*;

/// A change of one of the writer's objects.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) at: u64,
    pub(super) revision: u64,
    pub(super) object: String,
    /// What the object carries; when it is deleted, what it carried last.
    pub(super) change: u64,
    pub(super) kind: ChangeKind,
}

/// The life of one apiserver, milliseconds; nothing ends it where nothing is disturbed.
#[derive(Clone, Debug)]
pub(super) struct Apiserver {
    /// How far its watch cache is behind, and how far while it is slow.
    lag: u64,
    slow: std::ops::Range<u64>,
    slow_lag: u64,
    /// From here the balancer leads no new connection to it.
    out_of_service: u64,
    /// From here it refuses what comes on kept connections, and ends its watches.
    pub(super) refuses: u64,
    /// From here nobody is there.
    pub(super) gone: u64,
    /// From here the balancer leads new connections to it again.
    back: u64,
}

pub(super) struct ControlPlane {
    pub(super) how: Option<Restart>,
    pub(super) servers: Vec<Apiserver>,
    /// All changes of the writer's objects, in the order of their revisions.
    pub(super) history: Vec<Change>,
    /// What exists now, and what it carries.
    pub(super) state: BTreeMap<String, u64>,
    /// When each revision was made, others' included.
    marks: Vec<(u64, u64)>,
    /// How many revisions a watch cache reaches back, in a run with kills.
    window: u64,
}

impl ControlPlane {
    pub(super) fn new(how: Option<Restart>, random: &mut Random) -> Self {
        let servers = FAULTS.iter().map(|fault| {
            let slow = random.from(1000, 15_000);
            let never = u64::MAX;
            let start = fault.start;
            let detected = start + random.from(400, 1500);
            let (refuses, gone) = match how {
                None => (never, never),
                Some(Restart::Graceful) => (start + 3013, start + 3600),
                Some(Restart::Killed) => (start + 5, start + 5),
            };
            Apiserver {
                lag: random.from(1, 60),
                slow: slow..slow + random.from(100, 3000),
                slow_lag: random.from(60, 800),
                out_of_service: if how.is_some() { detected } else { never },
                refuses,
                gone,
                back: if how.is_some() { start + 6500 } else { never },
            }
        });
        let servers = servers.collect();
        let window = random.from(10, 200);
        Self { how, servers, history: Vec::new(), state: BTreeMap::new(), marks: vec![(0, 100)], window }
    }

    /// What a roll leaves in a recording.
    pub(super) fn observe(&self, run: &mut Simulation) {
        let Some(restart) = self.how else { return };
        for ((name, fault), server) in SERVERS.into_iter().zip(FAULTS).zip(&self.servers) {
            let told = Fault { restart, server: name.into() };
            run.see(fault.start, Event::FaultOn(told.clone()));
            for (after, step) in steps_of(restart) {
                run.see(fault.start + after, life(name, step));
            }
            run.see(server.back.max(fault.end), Event::FaultOff(told));
        }
    }

    /// Somebody else writes something.
    pub(super) fn others_write(&mut self, at: u64, count: u64) {
        let revision = self.revision() + count;
        self.marks.push((at, revision));
    }

    /// A write of one of our objects takes effect. `None`: there is nothing to update or delete.
    pub(super) fn commit(&mut self, at: u64, verb: Verb, object: &str, change: u64) -> Option<u64> {
        let before = self.state.get(object).copied();
        let (kind, carries) = match (verb, before) {
            (Verb::Create, None) => (ChangeKind::Added, change),
            (Verb::Update, Some(_)) => (ChangeKind::Modified, change),
            (Verb::Delete, Some(before)) => (ChangeKind::Deleted, before),
            _ => return None,
        };
        match verb {
            Verb::Delete => drop(self.state.remove(object)),
            _ => drop(self.state.insert(object.to_owned(), change)),
        }
        let revision = self.revision() + 1;
        self.marks.push((at, revision));
        self.history.push(Change { at, revision, object: object.to_owned(), change: carries, kind });
        Some(revision)
    }

    /// The newest revision.
    pub(super) fn revision(&self) -> u64 {
        self.marks.last().map_or(0, |(_, revision)| *revision)
    }

    /// The newest revision then.
    pub(super) fn revision_at(&self, at: u64) -> u64 {
        let end = self.marks.partition_point(|(made, _)| *made <= at);
        self.marks[..end].last().map_or(0, |(_, revision)| *revision)
    }

    /// What existed at a revision.
    pub(super) fn state_at(&self, revision: u64) -> BTreeMap<String, u64> {
        let mut state = BTreeMap::new();
        for change in self.history.iter().take_while(|change| change.revision <= revision) {
            match change.kind {
                ChangeKind::Deleted => drop(state.remove(&change.object)),
                _ => drop(state.insert(change.object.clone(), change.change)),
            }
        }
        state
    }

    /// The oldest revision from which an apiserver's watch cache can tell what came after it.
    pub(super) fn reaches_back_to(&self, at: u64) -> u64 {
        if self.how == Some(Restart::Killed) { self.revision_at(at).saturating_sub(self.window) } else { 0 }
    }

    /// Where the balancer leads a new connection.
    pub(super) fn new_connection(&self, at: u64, random: &mut Random) -> usize {
        let in_service = |server: &usize| {
            let server = &self.servers[*server];
            at < server.out_of_service || at >= server.back
        };
        let all: Vec<usize> = (0..self.servers.len()).filter(in_service).collect();
        all[random.below(all.len() as u64) as usize]
    }
}

impl Apiserver {
    /// Whether somebody is there.
    pub(super) fn is_there(&self, at: u64) -> bool {
        at < self.gone || at >= self.back
    }

    /// Whether it refuses what comes on a kept connection.
    pub(super) fn is_refusing(&self, at: u64) -> bool {
        at >= self.refuses && at < self.back
    }

    /// How far its watch cache is behind etcd.
    pub(super) fn lag(&self, at: u64) -> u64 {
        if self.slow.contains(&at) { self.slow_lag } else { self.lag }
    }

    /// When a watch that was opened then is ended by its apiserver at the latest.
    pub(super) fn ends_watches(&self, opened: u64) -> u64 {
        if opened < self.refuses { self.refuses } else { END }
    }
}

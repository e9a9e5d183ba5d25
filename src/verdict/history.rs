//! The order in which writes took effect, as far as their answers tell.
//!
//! Revisions are one order for all that etcd stores, and an answer gives its write's. A delete's answer gives none, and a lost one neither:
//! they lie between what was acknowledged before they were begun, and what was begun after they were acknowledged.
//!
//! ```text
//! 4 acknowledged, delete of b begun and acknowledged, 6 begun     ->  the delete's revision is greater than 4, and less than 6
//! 4 acknowledged, update of b begun, its answer lost, 6 begun     ->  greater than 4: it may take effect at any time
//! ```

use std::collections::HashMap;

use super::facts::Writes;
use crate::timeline::{Effect, Moment, Verb, Write};

/// What revisions tell of the order of writes.
#[derive(Default)]
pub(super) struct History<'a> {
    /// Certain writes by their revision.
    written: HashMap<u64, &'a Write>,
    /// When something was acknowledged, and the greatest revision that had been until then, in order.
    acknowledged: Vec<(Moment, u64)>,
    /// When something was begun, and the least revision of it and of all that was begun later, in order.
    begun: Vec<(Moment, u64)>,
    /// Of each object that was certainly deleted: when that was begun, and when it was acknowledged.
    deleted: HashMap<&'a str, (Moment, Moment)>,
}

impl<'a> History<'a> {
    /// Of writes in the order of their beginning.
    pub(super) fn of(all: &[(Moment, &'a Write)]) -> Self {
        let mut history = Self::default();
        for (at, write) in all.iter().filter(|(_, write)| write.effect() == Effect::Certain) {
            let acknowledged = *at + write.exchange.took;
            if write.verb == Verb::Delete {
                history.deleted.entry(&write.object).or_insert((*at, acknowledged));
            } else if let Some(revision) = write.revision {
                history.written.insert(revision, write);
                history.acknowledged.push((acknowledged, revision));
                history.begun.push((*at, revision));
            }
        }
        history.acknowledged.sort_unstable();
        let mut greatest = 0;
        for (_, revision) in &mut history.acknowledged {
            greatest = greatest.max(*revision);
            *revision = greatest;
        }
        let mut least = u64::MAX;
        for (_, revision) in history.begun.iter_mut().rev() {
            least = least.min(*revision);
            *revision = least;
        }
        history
    }

    /// The certain write that has this revision.
    pub(super) fn written(&self, revision: u64) -> Option<&'a Write> {
        self.written.get(&revision).copied()
    }

    /// The greatest revision that had been acknowledged by then; 0 if none.
    pub(super) fn acknowledged_by(&self, at: Moment) -> u64 {
        let until = self.acknowledged.partition_point(|(acknowledged, _)| *acknowledged <= at);
        self.acknowledged[..until].last().map_or(0, |(_, revision)| *revision)
    }

    /// The least revision of what was begun after that moment; what took effect by then has a lesser one.
    pub(super) fn begun_after(&self, at: Moment) -> Option<u64> {
        let first = self.begun.partition_point(|(begun, _)| *begun <= at);
        self.begun.get(first).map(|(_, least)| *least)
    }

    /// When an object's delete was begun, and acknowledged, if it certainly was.
    pub(super) fn deleted(&self, object: &str) -> Option<(Moment, Moment)> {
        self.deleted.get(object).copied()
    }

    /// The least revision that a write can have, of those to which its answer gave none: more than what was acknowledged before it was begun, and
    /// than its object had.
    pub(super) fn floor(&self, writes: &Writes<'_>, object: &str, begun: Moment) -> u64 {
        let had = writes.versions.get(object).and_then(|versions| versions.last()).map_or(0, |(revision, _)| *revision);
        self.acknowledged_by(begun).max(had).saturating_add(1)
    }
}

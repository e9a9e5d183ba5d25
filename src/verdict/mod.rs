//! Verdicts: pure functions of (requirement, recording). No clock, no IO, no waiting, so that a saved recording gives
//! the same verdicts as the run that made it.
//!
//! One file per claim, each with a worked example, and one table from requirement to judge. A claim only says what the
//! recording shows; whether the recording is good enough to say so is [`conclusive`]'s business, the same for all.

mod attempts;
mod attribution;
mod audit;
mod back;
mod bookmarked;
mod breaches;
mod carried;
mod cluster;
mod conclusive;
mod counted;
mod cures;
mod drains;
mod early;
mod excerpt;
mod excuses;
mod facts;
mod follows;
mod fresh;
mod gapless;
mod gateway;
mod goaway;
mod guarded;
mod history;
mod idle;
mod in_flight;
mod informer;
mod late;
mod ledger;
mod lists;
mod livez;
mod load;
mod lost;
mod monotonic;
mod noticed;
mod ordered;
mod outage;
mod overlap;
mod pooled;
mod read_your_writes;
mod readyz;
mod reliable;
mod relisted;
mod resumable;
mod resumed;
mod reused;
mod session;
mod session_ends;
mod signal_order;
mod silence;
mod sound;
mod sporadic;
mod stalls;
mod streams;
mod survey;
mod unique;
mod watches;
mod wire;

pub use attribution::{Accepted, Attributed};
pub use counted::{COUNTED, connections_at_first, counted};
pub use cures::{Cure, OnTheWire, Recovery, cures, on_the_wire};
pub use excerpt::describe;
pub use informer::{Informer, Onward};
pub use survey::{Befallen, Role, Stretch, Survey, survey};

use std::time::Duration;

use self::facts::Facts;
use crate::spec::excuse::Excuse;
use crate::spec::{self, Requirement, balancer, requirement, rollout, watch};
use crate::timeline::{Expected, Recording};

/// What a recording says about a requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was put to the test and held.
    Upheld,
    /// It was broken.
    Violated {
        /// What should have been seen.
        expected: String,
        /// What was seen, the first or worst breach.
        actual: String,
        /// The observations around it, one line each, as [`describe`] writes them.
        excerpt: Vec<String>,
    },
    /// The recording cannot tell.
    Inconclusive {
        /// What is missing, or what spoiled it.
        why: String,
    },
}

impl Verdict {
    fn inconclusive(why: impl Into<String>) -> Self {
        Self::Inconclusive { why: why.into() }
    }

    /// The worst of several verdicts on the same requirement. A breach counts even where another probe could not tell; after the first, no
    /// more are asked for.
    fn worst(verdicts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut worst = None;
        for next in verdicts {
            match (&worst, &next) {
                (_, Self::Violated { .. }) => return Some(next),
                (Some(Self::Inconclusive { .. }), _) => {}
                _ => worst = Some(next),
            }
        }
        worst
    }
}

/// A number that goes with a verdict, for reports: it informs and decides nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// For example `worst outage`.
    pub name: String,
    /// In `unit`s.
    pub value: f64,
    /// `s`, `ms`, `%`, or empty for a count.
    pub unit: &'static str,
    /// Of an excuse: how often it could have been granted.
    pub of: Option<usize>,
}

impl Figure {
    fn count(name: impl Into<String>, count: usize) -> Self {
        Self { name: name.into(), value: count as f64, unit: "", of: None }
    }

    fn seconds(name: &str, span: Duration) -> Self {
        Self { name: name.to_owned(), value: span.as_secs_f64(), unit: "s", of: None }
    }

    fn millis(name: &str, span: Duration) -> Self {
        Self { name: name.to_owned(), value: span.as_secs_f64() * 1e3, unit: "ms", of: None }
    }

    /// How often an excuse was granted, and how often it could have been.
    fn granted(excuse: &Excuse, granted: usize, budget: usize) -> Self {
        Self { of: Some(budget), ..Self::count(format!("excused: {}", excuse.id), granted) }
    }
}

/// A verdict on one of the requirements that a recording was made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What was judged.
    pub requirement: &'static Requirement,
    /// What the scenario expects: `Violated` in a control.
    pub expected: Expected,
    /// What the recording shows.
    pub verdict: Verdict,
    /// Numbers for reports.
    pub figures: Vec<Figure>,
    /// Of several gateways side by side, the one that was judged.
    pub gateway: Option<String>,
}

impl Judgement {
    /// Whether the verdict is the one that the scenario expects.
    pub fn passed(&self) -> bool {
        matches!(
            (self.expected, &self.verdict),
            (Expected::Upheld, Verdict::Upheld) | (Expected::Violated, Verdict::Violated { .. })
        )
    }

    /// Why it did not pass, in one sentence; `None` if it did.
    pub fn complaint(&self) -> Option<String> {
        let id = self.requirement.id;
        match &self.verdict {
            _ if self.passed() => None,
            Verdict::Upheld => Some(format!(
                "{id} was expected to be violated and is upheld: the suite has lost its teeth or the fault did not bite"
            )),
            Verdict::Violated { expected, actual, .. } => {
                Some(format!("{id} is violated: expected {expected}; {actual}"))
            }
            Verdict::Inconclusive { why } => Some(format!("{id} is inconclusive: {why}")),
        }
    }
}

/// A recording names a requirement that this version of the suite does not know.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the recording asks for a verdict on {0:?}, which this rollproof does not know: judge it with the version that \
     recorded it (header, field suite)"
)]
pub struct UnknownRequirement(pub String);

/// A claim, put to a recording.
type Judge = fn(&Facts<'_>) -> (Verdict, Vec<Figure>);

/// Who judges what.
static JUDGES: &[(&Requirement, Judge)] = &[
    (&watch::GAPLESS, gapless::judge),
    (&watch::ORDERED, ordered::judge),
    (&watch::UNIQUE, unique::judge),
    (&watch::RESUMABLE, resumable::judge),
    (&watch::RELIABLE, reliable::judge),
    (&watch::FRESH, fresh::judge),
    (&watch::MONOTONIC, monotonic::judge),
    (&watch::BOOKMARKED, bookmarked::judge),
    (&rollout::NO_OUTAGE_NEW, outage::none_on_new),
    (&rollout::NO_OUTAGE_REUSED, outage::none_on_reused),
    (&rollout::READYZ_RED, readyz::judge),
    (&rollout::LIVEZ_GREEN, livez::judge),
    (&rollout::SIGNAL_ORDER, signal_order::judge),
    (&rollout::BACK, back::judge),
    (&rollout::KILL_OUTAGE_NEW, outage::bounded_on_new),
    (&rollout::KILL_OUTAGE_REUSED, outage::bounded_on_reused),
    (&rollout::IN_FLIGHT, in_flight::judge),
    (&rollout::LEDGER, ledger::judge),
    (&rollout::NO_OUTAGE_IN_LIBRARY, outage::none_in_library),
    (&rollout::NO_OUTAGE_LOAD, load::judge),
    (&rollout::ATTEMPTS, attempts::judge),
    (&rollout::READ_YOUR_WRITES, read_your_writes::judge),
    (&rollout::NO_LOST_UPDATE, guarded::judge),
    (&balancer::NEVER_LATE, late::judge),
    (&balancer::NEVER_EARLY, early::judge),
    (&balancer::DRAINS, drains::judge),
    (&balancer::FOLLOWS, follows::judge),
    (&spec::idle::ANNOUNCED, idle::announced),
    (&spec::idle::NOT_BEFORE, idle::not_before),
    (&spec::idle::RESUMED, resumed::judge),
    (&spec::idle::CHANGE_NOTICED, noticed::judge),
    (&spec::idle::NOT_REUSED, pooled::judge),
    (&spec::idle::HELD, idle::held),
    (&spec::lost::NOTICED, lost::judge),
    (&spec::lost::NOT_TWICE, reused::judge),
    (&spec::cluster::NODES_READY, cluster::nodes_ready),
    (&spec::cluster::LEASES_RENEWED, cluster::leases_renewed),
    (&spec::cluster::LEADERS_STAY, cluster::leaders_stay),
    (&spec::gateway::ENDED, gateway::dead_streams_end),
    (&spec::gateway::ELSEWHERE, gateway::new_ones_go_elsewhere),
    (&spec::gateway::UNTOUCHED, gateway::others_are_untouched),
    (&spec::gateway::QUIET, gateway::quiet_ones_live),
    (&spec::gateway::REPEATABLE, gateway::errors_can_be_repeated),
    (&spec::gateway::RESUMED, gateway::resumed_ones_miss_nothing),
    (&spec::session::NOT_CUT, session::not_cut),
    (&spec::session::QUIET, session::quiet),
    (&spec::session::TOLD, session::told),
    (&spec::session::NEW, session::opens),
];

/// The requirements that have a judge, in the order of the table.
pub fn judged() -> impl Iterator<Item = &'static Requirement> {
    JUDGES.iter().map(|(requirement, _)| *requirement)
}

/// The verdict on one requirement, with its figures: by what the claim speaks of, and not by whether header and observations agree.
pub fn judge(requirement: &Requirement, recording: &Recording) -> (Verdict, Vec<Figure>) {
    judge_with(requirement, &Facts::of(recording))
}

/// The verdicts on the requirements that the recording was made for, in the header's order.
///
/// # Errors
/// The header names a requirement that does not exist.
pub fn judge_all(recording: &Recording) -> Result<Vec<Judgement>, UnknownRequirement> {
    let mut facts = Facts::of(recording);
    let unsound = sound::unsound(&facts);
    recording
        .header
        .judged_by
        .iter()
        .map(|by| {
            let requirement = requirement(&by.requirement).ok_or_else(|| UnknownRequirement(by.requirement.clone()))?;
            facts.gateway = by.gateway.as_deref();
            let (verdict, figures) = judge_with(requirement, &facts);
            let verdict = match &unsound {
                Some(why) if verdict == Verdict::Upheld => Verdict::inconclusive(why),
                _ => verdict,
            };
            Ok(Judgement { requirement, expected: by.expected, verdict, figures, gateway: by.gateway.clone() })
        })
        .collect()
}

fn judge_with(requirement: &Requirement, facts: &Facts<'_>) -> (Verdict, Vec<Figure>) {
    match JUDGES.iter().find(|(judged, _)| judged.id == requirement.id) {
        Some((_, judge)) => judge(facts),
        None => (Verdict::inconclusive(format!("nobody judges {} yet", requirement.id)), Vec::new()),
    }
}

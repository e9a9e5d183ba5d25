//! One requirement's line in every result file.

use super::clean::one_line;
use super::text;
use super::{Outcome, ScenarioReport};
use crate::spec::{self, Requirement};
use crate::timeline::{Expected, JudgedBy};
use crate::verdict::{Figure, Judgement, Verdict};

/// How long a one-line reason may be, in characters.
const REASON: usize = 300;

/// What is said about one requirement in one scenario.
pub(super) struct Finding<'a> {
    /// The requirement's id; `scenario` where the scenario was to judge none.
    pub(super) id: &'a str,
    /// The requirement, where the id is one.
    pub(super) requirement: Option<&'static Requirement>,
    /// Of several gateways side by side, the one that it is about.
    pub(super) gateway: Option<&'a str>,
    /// What the scenario expects.
    pub(super) expected: Expected,
    /// What was found.
    pub(super) kind: Kind,
    /// Whether that is what was expected.
    pub(super) passed: bool,
    /// Why, in one line. Empty where the requirement is upheld.
    pub(super) reason: String,
    /// Why, in full.
    pub(super) text: String,
    /// What was measured, the main figure first.
    pub(super) figures: &'a [Figure],
}

/// What can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Upheld,
    Violated,
    Inconclusive,
    Skipped,
    Lab,
    Panic,
}

impl Kind {
    /// As `verdicts.jsonl` and the closing table name it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Upheld => "upheld",
            Self::Violated => "violated",
            Self::Inconclusive => "inconclusive",
            Self::Skipped => "skipped",
            Self::Lab | Self::Panic => "error",
        }
    }
}

/// All findings of a scenario: never none, and never fewer than the requirements that it was to judge.
pub(super) fn findings(report: &ScenarioReport) -> Vec<Finding<'_>> {
    let whole = |kind: Kind, why: &str| match &report.judged_by[..] {
        [] => vec![unjudged(report, ("scenario", None), Expected::Upheld, kind, why)],
        all => all.iter().map(|by| unjudged(report, named(by), by.expected, kind, why)).collect(),
    };
    match &report.outcome {
        Outcome::Lab(why) => whole(Kind::Lab, why),
        Outcome::Panicked(message) => whole(Kind::Panic, message),
        Outcome::Skipped { need, reason } => whole(Kind::Skipped, &format!("{need}: {reason}")),
        Outcome::Judged(judgements) if judgements.is_empty() => whole(Kind::Lab, NOT_JUDGED),
        Outcome::Judged(judgements) => {
            let has_verdict = |by: &JudgedBy| {
                judgements.iter().any(|it| it.requirement.id == by.requirement && it.gateway == by.gateway)
            };
            let mut all: Vec<_> = judgements.iter().map(|judgement| judged(report, judgement)).collect();
            for by in report.judged_by.iter().filter(|by| !has_verdict(by)) {
                all.push(unjudged(report, named(by), by.expected, Kind::Lab, NOT_JUDGED));
            }
            all
        }
    }
}

/// A scenario may not pass by judging less than it said.
const NOT_JUDGED: &str = "the scenario was to judge this, and no verdict came: a bug in the suite";

fn judged<'a>(report: &'a ScenarioReport, judgement: &'a Judgement) -> Finding<'a> {
    let (kind, reason) = match &judgement.verdict {
        Verdict::Upheld if judgement.passed() => (Kind::Upheld, String::new()),
        Verdict::Upheld => (Kind::Upheld, text::BLUNT_CONTROL.to_owned()),
        Verdict::Violated { actual, .. } => (Kind::Violated, one_line(actual, REASON)),
        Verdict::Inconclusive { why } => (Kind::Inconclusive, one_line(why, REASON)),
    };
    Finding {
        id: judgement.requirement.id,
        requirement: Some(judgement.requirement),
        gateway: judgement.gateway.as_deref(),
        expected: judgement.expected,
        kind,
        passed: judgement.passed(),
        reason,
        text: text::of_judgement(report, judgement),
        figures: &judgement.figures,
    }
}

fn named(by: &JudgedBy) -> (&str, Option<&str>) {
    (&by.requirement, by.gateway.as_deref())
}

fn unjudged<'a>(
    report: &ScenarioReport,
    (id, gateway): (&'a str, Option<&'a str>),
    expected: Expected,
    kind: Kind,
    why: &str,
) -> Finding<'a> {
    Finding {
        id,
        requirement: spec::requirement(id),
        gateway,
        expected,
        kind,
        passed: false,
        reason: one_line(why, REASON),
        text: text::of_error(report, kind, why),
        figures: &[],
    }
}

//! What a person reads when something is not as it should be.
//!
//! ```text
//! ROLLOUT-1 violated (MUST: no outage, new connections)
//!   cell       local/v1.37.2x2/builtin/http1/kube/pr
//!   sentence   While apiservers are gracefully restarted one after the other, every request ... succeeds.
//!   expected   no failed request
//!   actual     3 of 812 requests failed: connection refused, 12.480s to 12.610s, all of them by apiserver-1
//!   seen       12.480s requester-new GET /api: refused
//!              12.530s requester-new GET /api: refused
//!   failed     connection refused x3 +12.480s to +12.580s, apiserver-1: HTTPServerStoppedListening, accepted: never (...)
//!   figure     worst outage 130 ms
//!   recording  target/rollproof/latest/recordings/rollout.nothing_is_lost.jsonl
//!   evidence   target/rollproof/latest/evidence/rollout.nothing_is_lost
//!   remedy     The balancer must take an apiserver out of service before its listener closes: ...
//! ```

use std::fmt::Write as _;

use super::clean::{printable, typed};
use super::errors::Errors;
use super::finding::{Finding, Kind, findings};
use super::{Outcome, ScenarioReport};
use crate::timeline::Expected;
use crate::verdict::{Figure, Judgement, Verdict};

/// Why a control fails that finds nothing.
pub(super) const BLUNT_CONTROL: &str =
    "a control breaks this on purpose, and the suite did not find it: its other verdicts here prove little";

/// The whole text of a failed scenario; `None` if nothing failed.
pub(super) fn failure(report: &ScenarioReport) -> Option<String> {
    if matches!(report.outcome, Outcome::Skipped { .. }) {
        return None;
    }
    let all = findings(report);
    let failed: Vec<&Finding<'_>> = all.iter().filter(|finding| !finding.passed).collect();
    let first = failed.first()?;
    if !matches!(report.outcome, Outcome::Judged(_)) {
        // The same for every requirement, so once is enough.
        return Some(first.text.clone());
    }
    let mut text = format!("{} of {} requirements are not as expected", failed.len(), all.len());
    for finding in failed {
        let _ = write!(text, "\n\n{}", finding.text);
    }
    Some(text)
}

/// The text of one verdict.
pub(super) fn of_judgement(report: &ScenarioReport, judgement: &Judgement) -> String {
    let requirement = judgement.requirement;
    let found = match judgement.verdict {
        Verdict::Upheld => "upheld",
        Verdict::Violated { .. } => "violated",
        Verdict::Inconclusive { .. } => "inconclusive",
    };
    let control = match judgement.expected {
        Expected::Upheld => "",
        Expected::Violated => " (expected: violated)",
    };
    let mut block =
        Block::new(format!("{} {found}{control} ({}: {})", requirement.id, requirement.level, requirement.title));
    block.row("cell", &report.cell.to_string());
    block.row("sentence", requirement.sentence);
    match &judgement.verdict {
        Verdict::Upheld if judgement.passed() => {}
        Verdict::Upheld => block.row("actual", BLUNT_CONTROL),
        Verdict::Violated { expected, actual, excerpt } => {
            block.row("expected", expected);
            block.row("actual", actual);
            if !excerpt.is_empty() {
                block.row("seen", &excerpt.join("\n"));
            }
            block.errors(&report.errors);
        }
        Verdict::Inconclusive { why } => {
            block.row("why", why);
            block.row("meaning", "This says nothing about the subject, good or bad. Run it again on a calmer machine.");
        }
    }
    for figure in &judgement.figures {
        block.row("figure", &shown(figure));
    }
    block.places(report);
    if matches!(judgement.verdict, Verdict::Violated { .. }) {
        block.row("remedy", requirement.remedy);
    }
    block.text
}

/// The text of a scenario that came to no verdict.
pub(super) fn of_error(report: &ScenarioReport, kind: Kind, why: &str) -> String {
    let mut block = Block::new(match kind {
        Kind::Lab => "the lab broke: no verdict, and nothing said about the subject".to_owned(),
        Kind::Panic => "the scenario panicked: no verdict, and nothing said about the subject".to_owned(),
        kind => kind.word().to_owned(),
    });
    block.row("cell", &report.cell.to_string());
    block.row("why", why);
    block.places(report);
    block.text
}

/// A figure as text: `worst outage 130 ms`.
pub(super) fn shown(figure: &Figure) -> String {
    let Figure { name, value, unit, of } = figure;
    if let Some(of) = of {
        return format!("{name} {value:.0} of {of}");
    }
    let digits = if value.fract() == 0.0 || value.abs() >= 100.0 { 0 } else { 1 };
    format!("{name} {value:.digits$} {unit}").trim_end().to_owned()
}

/// A title, and rows of a label and a text whose further lines are indented.
struct Block {
    text: String,
}

impl Block {
    fn new(title: String) -> Self {
        Self { text: title }
    }

    fn row(&mut self, label: &str, text: &str) {
        for (number, line) in printable(text.trim_end()).lines().enumerate() {
            let label = if number == 0 { label } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(self.text, "\n  {label:<10} {line}");
        }
    }

    /// What failed in the same recording, whatever it was: the first few groups.
    fn errors(&mut self, errors: &[Errors]) {
        const MOST: usize = 6;
        let mut lines: Vec<String> = errors.iter().take(MOST).map(ToString::to_string).collect();
        if errors.len() > MOST {
            lines.push(format!("and {} kinds more: see the timeline", errors.len() - MOST));
        }
        if !lines.is_empty() {
            self.row("failed", &lines.join("\n"));
        }
    }

    fn places(&mut self, report: &ScenarioReport) {
        if let Some(recording) = &report.recording {
            self.row("recording", &typed(recording));
        }
        if let Some(timeline) = &report.timeline {
            self.row("timeline", &typed(timeline));
        }
        if let Some(evidence) = &report.evidence {
            self.row("evidence", &typed(evidence));
        }
    }
}

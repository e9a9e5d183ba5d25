//! `verdicts.jsonl`: one object a line, for scripts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::finding::{Finding, findings};
use super::{Outcome, RunDir, ScenarioReport};
use crate::timeline::Expected;
use crate::verdict::Figure;

/// One line: what was found about one requirement in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line<'a> {
    /// The requirement's id, or `scenario` for a scenario that was to judge none.
    pub requirement: Cow<'a, str>,
    /// `MUST` or `SHOULD`.
    pub level: Option<String>,
    /// The point of the matrix, as [`Cell`](crate::timeline::Cell) prints it.
    pub cell: String,
    /// As libtest names it.
    pub scenario: Cow<'a, str>,
    /// Of several gateways side by side, the one that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Cow<'a, str>>,
    /// `upheld`, `violated`, `inconclusive`, `skipped` or `error`.
    pub verdict: Cow<'a, str>,
    /// `violated` in a control: then a violation says nothing against the subject.
    pub expected: Expected,
    /// Whether the verdict is the expected one. A skipped requirement has not passed.
    pub passed: bool,
    /// Why, in one line; absent where it is upheld.
    pub reason: Option<String>,
    /// What was missing, where it was skipped: a need as `ROLLPROOF_REQUIRE` names it, or what the scenario is only about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<Cow<'a, str>>,
    /// What was measured.
    pub figures: BTreeMap<Cow<'a, str>, Measured<'a>>,
    /// The recording, relative to the run directory.
    pub recording: Option<String>,
}

/// A figure's value in its unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured<'a> {
    /// How much; absent where it is no finite number.
    pub value: Option<f64>,
    /// In what.
    pub unit: Cow<'a, str>,
    /// Of an excuse: how often it could have been granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<usize>,
}

/// Appends a scenario's lines.
///
/// # Errors
/// The file cannot be written; it then ends where it ended before.
pub(super) fn append(run: &RunDir, report: &ScenarioReport, findings: &[Finding<'_>]) -> anyhow::Result<()> {
    run.append_verdicts(&lines_of(Some(run), report, findings)?)
}

/// A scenario's lines as they stand in `verdicts.jsonl`, with the recording's path as it is.
///
/// # Errors
/// Something cannot be written as JSON.
pub fn verdict_lines(report: &ScenarioReport) -> anyhow::Result<String> {
    Ok(String::from_utf8(lines_of(None, report, &findings(report))?)?)
}

fn lines_of(run: Option<&RunDir>, report: &ScenarioReport, findings: &[Finding<'_>]) -> anyhow::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for finding in findings {
        serde_json::to_writer(&mut lines, &line(run, report, finding)).context("cannot write a verdict as JSON")?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn line<'a>(run: Option<&RunDir>, report: &'a ScenarioReport, finding: &'a Finding<'_>) -> Line<'a> {
    let measured = |figure: &Figure| {
        let value = figure.value.is_finite().then_some(figure.value);
        Measured { value, unit: figure.unit.into(), of: figure.of }
    };
    Line {
        requirement: finding.id.into(),
        level: finding.requirement.map(|requirement| requirement.level.to_string()),
        cell: report.cell.to_string(),
        scenario: report.scenario.as_str().into(),
        gateway: finding.gateway.map(Into::into),
        verdict: finding.kind.word().into(),
        expected: finding.expected,
        passed: finding.passed,
        reason: (!finding.reason.is_empty()).then(|| finding.reason.clone()),
        need: match &report.outcome {
            Outcome::Skipped { need, .. } => Some(need.as_str().into()),
            _ => None,
        },
        figures: finding.figures.iter().map(|figure| (figure.name.as_str().into(), measured(figure))).collect(),
        recording: report
            .recording
            .as_deref()
            .map(|path| run.map_or_else(|| path.display().to_string(), |run| run.relative(path))),
    }
}

//! Results: JUnit, `verdicts.jsonl`, the text of a failure, the closing table, and `REQUIREMENTS.md`.
//!
//! A scenario ends in one [`ScenarioReport`]. From it come [`Finding`](finding::Finding)s, one a requirement, and every
//! result file is a rendering of these: so no two of them can disagree.

mod cases;
mod clean;
mod closing;
mod cures;
mod drawing;
mod edges;
mod errors;
mod finding;
pub mod gate;
mod junit;
mod requirements_md;
mod run_dir;
mod text;
mod verdicts;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub use cases::{Case, cases_markdown};
pub use clean::{one_line, printable};
pub use closing::{Row, closing_rows, closing_table, terminal_width};
pub use cures::{Told as CureTold, cures_markdown};
pub use drawing::draw;
pub use edges::{Edges, edges_markdown};
pub use errors::{Errors, errors, summary};
pub use requirements_md::requirements_markdown;
pub use run_dir::RunDir;
pub use verdicts::{Line, verdict_lines};

use crate::timeline::{Cell, JudgedBy, Recording};
use crate::verdict::{Judgement, Survey};

/// What became of one scenario.
#[derive(Clone, Debug)]
pub struct ScenarioReport {
    /// As libtest names it, `::` and all.
    pub scenario: String,
    /// The point of the matrix.
    pub cell: Cell,
    /// The requirements it was to judge.
    pub judged_by: Vec<JudgedBy>,
    /// How it ended.
    pub outcome: Outcome,
    /// Its recording, where one was written.
    pub recording: Option<PathBuf>,
    /// The drawing of its recording, where there is one.
    pub timeline: Option<PathBuf>,
    /// What failed in its recording, beside the lives of the apiservers.
    pub errors: Vec<Errors>,
    /// The folder of its logs and the like, where there is one.
    pub evidence: Option<PathBuf>,
    /// How long it took, the lab's start and end included.
    pub took: Duration,
    /// Wall clock when it began.
    pub began: SystemTime,
}

/// How a scenario ended. Only the first says anything about the subject.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The recording was judged.
    Judged(Vec<Judgement>),
    /// The lab broke: what, where, and what to do.
    Lab(String),
    /// The scenario's body panicked, with this message.
    Panicked(String),
    /// The lab or the machine does not offer what the scenario needs.
    Skipped {
        /// The need, as `ROLLPROOF_REQUIRE` names it.
        need: String,
        /// Why it is not met here.
        reason: String,
    },
}

impl Outcome {
    /// Whether libtest's test is to pass: everything as expected, or skipped.
    pub fn passed(&self) -> bool {
        match self {
            Self::Judged(judgements) => judgements.iter().all(Judgement::passed),
            Self::Skipped { .. } => true,
            Self::Lab(_) | Self::Panicked(_) => false,
        }
    }
}

impl ScenarioReport {
    /// `Ok` if libtest's test is to pass: everything as expected, or skipped.
    ///
    /// # Errors
    /// The text that the test panics with: every requirement that was not as expected, with what speaks for it.
    pub fn verdict_text(&self) -> Result<(), String> {
        text::failure(self).map_or(Ok(()), Err)
    }
}

/// Draws a scenario's recording into the run directory. Returns the drawing's path.
///
/// # Errors
/// It cannot be written, or is already there.
pub fn write_timeline(run: &RunDir, recording: &Recording, survey: &Survey<'_>) -> anyhow::Result<PathBuf> {
    let path = run.timeline(&recording.header.scenario);
    let mut svg = Vec::new();
    draw(recording, survey, &mut svg)?;
    RunDir::write_whole(&path, &svg)?;
    Ok(path)
}

/// Writes a scenario's JUnit file and its lines of `verdicts.jsonl`, and notes its rows for the closing table.
///
/// # Errors
/// A file that cannot be written, by name, and why. The others are written all the same.
pub fn write(run: &RunDir, report: &ScenarioReport) -> anyhow::Result<()> {
    let findings = finding::findings(report);
    run.note(closing_rows(report));
    let results = [junit::write(run, report, &findings), verdicts::append(run, report, &findings)];
    let problems: Vec<String> = results.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
}

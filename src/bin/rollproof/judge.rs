//! `rollproof judge FILE...`: the verdicts of saved recordings, without a cluster.

use std::path::PathBuf;

use clap::Args;
use rollproof::report::{self, Outcome, ScenarioReport};
use rollproof::timeline::Recording;
use rollproof::verdict::{self, Verdict};

use crate::{Ended, complain, say};

#[derive(Args)]
pub(crate) struct Options {
    /// Recordings, as a run leaves them in its report folder
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// As JSON lines, in the form of verdicts.jsonl
    #[arg(long)]
    jsonl: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let (mut violated, mut failed) = (false, false);
    let mut rows = Vec::new();
    for file in &options.files {
        let judged = Recording::load(file)
            .map_err(anyhow::Error::from)
            .and_then(|recording| Ok((verdict::judge_all(&recording)?, recording)));
        let (judgements, recording) = match judged {
            Ok(judged) => judged,
            // The other files are judged all the same.
            Err(error) => {
                complain(&error);
                failed = true;
                continue;
            }
        };
        if judgements.is_empty() {
            complain(&anyhow::anyhow!("{}: its header names no requirement to judge it by", file.display()));
            failed = true;
            continue;
        }
        for judgement in judgements.iter().filter(|judgement| !judgement.passed()) {
            match &judgement.verdict {
                Verdict::Inconclusive { .. } => failed = true,
                Verdict::Violated { .. } | Verdict::Upheld => violated = true,
            }
        }
        let errors = report::errors(&verdict::survey(&recording));
        let header = recording.header;
        let report = ScenarioReport {
            scenario: header.scenario,
            cell: header.cell,
            judged_by: header.judged_by,
            outcome: Outcome::Judged(judgements),
            recording: Some(file.clone()),
            timeline: None,
            errors,
            evidence: None,
            took: std::time::Duration::ZERO,
            began: std::time::SystemTime::now(),
        };
        if options.jsonl {
            say(report::verdict_lines(&report)?.trim_end());
        } else if let Err(text) = report.verdict_text() {
            say(&text);
        }
        rows.extend(report::closing_rows(&report));
    }
    if !options.jsonl {
        say(report::closing_table(&rows, report::terminal_width(std::io::stdout())).trim_end());
    }
    Ok(match (violated, failed) {
        (true, _) => Ended::Violated,
        (false, true) => Ended::Failed,
        (false, false) => Ended::Fine,
    })
}

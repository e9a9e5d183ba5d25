//! `rollproof gate RESULTS...`: what a nightly run is held against.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use rollproof::report::Line;
use rollproof::report::gate::Expectations;

use crate::{Ended, say};

#[derive(Args)]
pub(crate) struct Options {
    /// Report folders, or folders that hold report folders
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// What is expected of them
    #[arg(long, default_value = "ci/expectations.toml")]
    expectations: PathBuf,
    /// These are the results of some cells only: none is missed
    #[arg(long)]
    partial: bool,
    /// Append the summary to this file, too ($GITHUB_STEP_SUMMARY)
    #[arg(long)]
    summary: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let file = &options.expectations;
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let expectations = Expectations::parse(&text).with_context(|| format!("{} is no good", file.display()))?;
    let expectations = if options.partial { expectations.of_some_cells() } else { expectations };
    let mut lines = Vec::new();
    for folder in &options.results {
        for results in verdict_files(folder)? {
            read(&results, &mut lines)?;
        }
    }
    let gate = expectations.judge(&lines, jiff::Zoned::now().date());
    let summary = gate.summary();
    say(summary.trim_end());
    if let Some(file) = &options.summary {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .and_then(|mut to| to.write_all(summary.as_bytes()))
            .with_context(|| format!("cannot append the summary to {}", file.display()))?;
    }
    Ok(if gate.green() { Ended::Fine } else { Ended::Violated })
}

/// The `verdicts.jsonl` of a report folder, or of the report folders in it.
fn verdict_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let own = folder.join("verdicts.jsonl");
    if own.exists() {
        return Ok(vec![own]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let inner = entry?.path().join("verdicts.jsonl");
        if inner.exists() {
            files.push(inner);
        }
    }
    if files.is_empty() {
        bail!("{} holds no verdicts.jsonl, and no folder in it does: is it a report folder?", folder.display());
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path, into: &mut Vec<Line<'static>>) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    for (at, line) in text.lines().enumerate() {
        let line =
            serde_json::from_str(line).with_context(|| format!("{}, line {}: no verdict", file.display(), at + 1))?;
        into.push(line);
    }
    Ok(())
}

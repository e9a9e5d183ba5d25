//! `rollproof cases PATH...`: the table of cases, from a report folder or single recordings.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use rollproof::report::{Case, cases_markdown};
use rollproof::timeline::Recording;
use rollproof::verdict;

use crate::{Ended, complain, say};

#[derive(Args)]
pub(crate) struct Options {
    /// Report folders, or recordings
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let mut cases = Vec::new();
    let mut ended = Ended::Fine;
    for path in &options.paths {
        for file in recordings(path)? {
            match case(&file) {
                Ok(case) => cases.push(case),
                // The other files have their rows all the same.
                Err(error) => {
                    complain(&error);
                    ended = Ended::Failed;
                }
            }
        }
    }
    say(cases_markdown(&cases).trim_end());
    Ok(ended)
}

fn case(file: &Path) -> anyhow::Result<Case> {
    let recording = Recording::load(file)?;
    let judgements = verdict::judge_all(&recording)?;
    Ok(Case::of(&recording, &verdict::survey(&recording), &judgements))
}

/// The recordings of a report folder, in the order of their names; a file is one by itself.
fn recordings(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let folder = path.join("recordings");
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("{} is no report folder: cannot read {}", path.display(), folder.display()))?;
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files)
}

//! `rollproof cures RECORDING...`: what each gateway's remedy came to.

use std::path::PathBuf;

use clap::Args;
use rollproof::lab::gateway::{self, Remedy};
use rollproof::report::{CureTold, cures_markdown};
use rollproof::timeline::Recording;

use crate::{Ended, say};

#[derive(Args)]
pub(crate) struct Options {
    /// Recordings of scenarios with gateways side by side
    #[arg(required = true)]
    recordings: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let recordings = options.recordings.iter().map(|path| Recording::load(path)).collect::<Result<Vec<_>, _>>()?;
    let told = |it: &Remedy| CureTold { name: it.name, settings: it.settings, why: it.why, file: it.as_set() };
    let remedies: Vec<_> = gateway::every().map(told).collect();
    say(cures_markdown(&recordings, &remedies).trim_end());
    Ok(Ended::Fine)
}

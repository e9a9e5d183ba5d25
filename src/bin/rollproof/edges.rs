//! `rollproof edges RECORDING...`: how exact recorded times are, beside the packets of the same run.

use std::path::PathBuf;

use clap::Args;
use rollproof::report::edges_markdown;
use rollproof::timeline::Recording;

use crate::{Ended, say};

#[derive(Args)]
pub(crate) struct Options {
    /// Recordings of scenarios whose packets were captured: those in network namespaces
    #[arg(required = true)]
    recordings: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let recordings = options.recordings.iter().map(|path| Recording::load(path)).collect::<Result<Vec<_>, _>>()?;
    say(edges_markdown(&recordings).trim_end());
    Ok(Ended::Fine)
}

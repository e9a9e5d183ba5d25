//! `rollproof timeline FILE [-o out.svg]`: a saved recording as a drawing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use rollproof::report;
use rollproof::timeline::Recording;
use rollproof::verdict;

use crate::Ended;

#[derive(Args)]
pub(crate) struct Options {
    /// A recording, as a run leaves it in its report folder
    file: PathBuf,
    /// Where to write it; the standard output without
    #[arg(short, long)]
    output: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let recording = Recording::load(&options.file)?;
    let survey = verdict::survey(&recording);
    let drawn = |mut out: &mut dyn Write| report::draw(&recording, &survey, &mut out).and_then(|()| out.flush());
    match &options.output {
        Some(path) => File::create(path)
            .and_then(|file| drawn(&mut BufWriter::new(file)))
            .with_context(|| format!("cannot write {}", path.display()))?,
        // A reader that has gone is no failure.
        None => drop(drawn(&mut BufWriter::new(io::stdout().lock()))),
    }
    Ok(Ended::Fine)
}

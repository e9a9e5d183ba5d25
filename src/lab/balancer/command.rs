//! Somebody else's balancer, `command:CMD`: how it is told what to do, and whether it does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;

use super::Backend;
use crate::lab::control_plane::last_words;
use crate::lab::http::{Ask, Endpoint};
use crate::lab::keeper::{Child, Claim, Keeper, Program};
use crate::lab::network::Site;
use crate::lab::wait;
use crate::timeline::Moment;
use crate::timing;

/// A balancer command at work.
pub struct Command {
    words: Vec<String>,
    listen: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Command {
    /// Starts it as a child of a lab; `words` are its [`arguments`], `environment` is [`environment`]'s, and `listen` what
    /// it is told there. It runs at `site`.
    ///
    /// # Errors
    /// There is no such program, or it cannot be executed.
    pub async fn start(
        keeper: &Keeper,
        claim: &Claim,
        words: &[String],
        environment: BTreeMap<String, String>,
        site: &Site,
        listen: SocketAddr,
    ) -> anyhow::Result<Self> {
        let log = claim.folder.join("balancer.log");
        let (program, args) = words.split_first().context("the balancer command is empty")?;
        let program = Program {
            lab: claim.lab,
            program: program.into(),
            args: args.to_vec(),
            env: environment,
            network: site.file(),
            folder: None,
            log: log.clone(),
        };
        let child = keeper.spawn(program).await.context("cannot start the balancer command")?;
        Ok(Self { words: words.to_vec(), listen, child, log })
    }

    /// Waits until a request through it is served, for at most `limit`.
    ///
    /// # Errors
    /// It ended, or served nothing within the limit; with the end of what it printed.
    pub async fn ready(&self, through: &Endpoint, limit: Duration) -> anyhow::Result<()> {
        let ready = wait::until(limit, "a request to be served through the balancer command", async || {
            match self.child.exit() {
                Some(exit) => ControlFlow::Break(Err(exit)),
                None => serves(through).await.map_break(Ok),
            }
        });
        match ready.await.with_context(|| self.last_words())? {
            Ok(()) => Ok(()),
            Err(exit) => bail!(
                "the balancer command ended with {} instead of serving on {}; it has to stay in the foreground\n{}",
                exit.status,
                self.listen,
                self.last_words()
            ),
        }
    }

    /// Where it was told to listen.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Its words, as it was given.
    pub fn line(&self) -> String {
        self.words.join(" ")
    }

    /// What it prints.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Says so if it has ended by itself.
    ///
    /// # Errors
    /// It has.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.child.exit() {
            None => Ok(()),
            Some(exit) => {
                bail!("the balancer command ended with {} in the middle of the run\n{}", exit.status, self.last_words())
            }
        }
    }

    /// Asks it to end (SIGTERM) and gives it [`timing::COMMAND_STOP`]; whatever then still runs is the keeper's.
    pub async fn end(&self) {
        if self.child.signal(Signal::TERM).await.is_ok() {
            let _ = tokio::time::timeout(timing::COMMAND_STOP, self.child.exited()).await;
        }
    }

    fn last_words(&self) -> String {
        last_words("the balancer command", &self.log)
    }
}

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

/// Looks whether a request through a balancer is served; else tells what comes instead.
pub(in crate::lab) async fn serves(through: &Endpoint) -> ControlFlow<(), String> {
    let ask = Ask::get("/readyz", format!("rollproof-balancer-{}", Moment::now().0), "rollproof-lab");
    let (exchange, _) = through.exchange(&mut None, &ask).await;
    match (exchange.status, exchange.failure) {
        (Some(200), None) => ControlFlow::Break(()),
        (Some(status), None) => ControlFlow::Continue(format!("/readyz answers {status}")),
        (_, failure) => ControlFlow::Continue(failure.map(|failure| failure.text).unwrap_or_default()),
    }
}

//! The balancer of a lab, whichever was asked for.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use super::{Backend, Builtin, Settings, command};
use crate::config::BalancerKind;
use crate::lab::control_plane::{ControlPlane, last_words};
use crate::lab::http::{Ask, Endpoint};
use crate::lab::keeper::{Child, Claim, Keeper, Program};
use crate::lab::{Setup, network, wait};
use crate::timeline::{Moment, Recorder, Subject};
use crate::timing;

/// What stands between the clients and the apiservers of one lab.
pub enum Balancer {
    /// Ours.
    Builtin(Builtin),
    /// Somebody else's.
    Command(Command),
}

/// Somebody else's balancer, at work.
pub struct Command {
    words: Vec<String>,
    address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Balancer {
    /// Starts the balancer in front of a control plane; [`Balancer::ready`] waits for it.
    ///
    /// # Errors
    /// Its address is taken, or its command cannot be executed.
    pub async fn start(
        claim: &Claim,
        keeper: &Keeper,
        control_plane: &ControlPlane,
        setup: &Setup,
        kind: &BalancerKind,
        recorder: &Recorder,
    ) -> anyhow::Result<Self> {
        let listen = network::balancer(claim.lab);
        network::expect_free(listen)?;
        let backends: Vec<Backend> = control_plane
            .servers
            .iter()
            .map(|server| Backend { name: server.name.clone(), address: server.address() })
            .collect();
        let settings = Settings {
            listen,
            health: setup.health,
            on_unhealthy: setup.on_unhealthy,
            redispatch: setup.redispatch,
            ..Settings::new(backends, control_plane.ca.clone(), &setup.timers)
        };
        match kind {
            BalancerKind::Builtin => Ok(Self::Builtin(Builtin::start(settings, recorder.clone()).await?)),
            BalancerKind::Command(words) => {
                let log = claim.folder.join("balancer.log");
                let (program, args) = words.split_first().context("the balancer command is empty")?;
                let program = Program {
                    lab: claim.lab,
                    program: program.into(),
                    args: args.to_vec(),
                    env: command::environment(
                        listen,
                        &settings.backends,
                        &settings.readyz,
                        &control_plane.ca_file,
                        settings.interval,
                        settings.fall,
                        timing::COMMAND_IDLE_TIMEOUT,
                    ),
                    folder: None,
                    log: log.clone(),
                };
                let child = keeper.spawn(program).await.context("cannot start the balancer command")?;
                Ok(Self::Command(Command { words: words.clone(), address: listen, child, log }))
            }
        }
    }

    /// Waits until a request through it is served.
    ///
    /// # Errors
    /// It ended, or served nothing within its time; with the end of what it printed.
    pub async fn ready(&self, through: &Endpoint) -> anyhow::Result<()> {
        let ready = wait::until(timing::BALANCER_READY, "a request to be served through the balancer", async || {
            if let Self::Command(command) = self
                && let Some(exit) = command.child.exit()
            {
                return ControlFlow::Break(Err(exit));
            }
            let ask = Ask::get("/readyz", format!("rollproof-balancer-{}", Moment::now().0), "rollproof-lab");
            let (exchange, _) = through.exchange(&mut None, &ask).await;
            match (exchange.status, exchange.failure) {
                (Some(200), None) => ControlFlow::Break(Ok(())),
                (Some(status), None) => ControlFlow::Continue(format!("/readyz answers {status}")),
                (_, failure) => ControlFlow::Continue(failure.map(|failure| failure.text).unwrap_or_default()),
            }
        });
        let ready = match self {
            Self::Builtin(_) => ready.await?,
            Self::Command(command) => ready.await.with_context(|| command.last_words())?,
        };
        match (ready, self) {
            (Err(exit), Self::Command(command)) => {
                let words = command.last_words();
                bail!(
                    "the balancer command ended with {} instead of listening on {}\n{words}",
                    exit.status,
                    command.address
                )
            }
            _ => Ok(()),
        }
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Builtin(builtin) => builtin.address(),
            Self::Command(command) => command.address,
        }
    }

    /// What is known about it as a program under test.
    pub fn subject(&self) -> Subject {
        let (name, version) = match self {
            Self::Builtin(_) => ("builtin".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            Self::Command(command) => (format!("command:{}", command.words.join(" ")), String::new()),
        };
        Subject { name, version, digest: String::new() }
    }

    /// What it printed, if it is a command: the name as evidence, and the file.
    pub fn log(&self) -> Option<(String, PathBuf)> {
        match self {
            Self::Builtin(_) => None,
            Self::Command(command) => Some(("balancer.log".to_owned(), command.log.clone())),
        }
    }

    /// Says so if it has ended by itself: then the lab is broken, not the subject.
    ///
    /// # Errors
    /// It has.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Self::Command(command) = self
            && let Some(exit) = command.child.exit()
        {
            bail!("the balancer command ended with {} in the middle of the run\n{}", exit.status, command.last_words());
        }
        Ok(())
    }

    /// Asks a command to end (SIGTERM) and gives it [`timing::COMMAND_STOP`]; whatever then still runs is the keeper's. To
    /// be called before the lab is struck, and before evidence is collected: its last words are evidence too.
    pub async fn end_command(&self) {
        if let Self::Command(command) = self
            && command.child.signal(Signal::TERM).await.is_ok()
        {
            let _ = tokio::time::timeout(timing::COMMAND_STOP, command.child.exited()).await;
        }
    }

    /// Ends the builtin balancer.
    pub async fn stop(self) {
        if let Self::Builtin(builtin) = self {
            builtin.stop().await;
        }
    }
}

impl Command {
    fn last_words(&self) -> String {
        last_words("the balancer command", &self.log)
    }
}

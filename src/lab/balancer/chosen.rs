//! The balancer of a lab, whichever was asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;

use super::command::{self, Command, serves};
use super::product::{EnvoyFile, Told};
use super::{Backend, Builtin, Kernel, Settings, product};
use crate::config::BalancerKind;
use crate::lab::control_plane::ControlPlane;
use crate::lab::http::Endpoint;
use crate::lab::keeper::{Claim, Keeper};
use crate::lab::network::{self, Network};
use crate::lab::{Setup, machine, wait};
use crate::timeline::{Recorder, Subject};
use crate::timing;

/// What stands between the clients and the apiservers of one lab.
pub enum Balancer {
    /// Ours.
    Builtin(Builtin),
    /// The kernel's.
    Kernel(Kernel),
    /// A product.
    Product(product::Running),
    /// Somebody else's.
    Command(Command),
}

impl Balancer {
    /// Starts the balancer in front of a control plane; [`Balancer::ready`] waits for it.
    ///
    /// # Errors
    /// Its address is taken, its user's configuration cannot be used, or its command cannot be executed.
    pub async fn start(
        claim: &Claim,
        keeper: &Keeper,
        control_plane: &ControlPlane,
        setup: &Setup,
        kind: &BalancerKind,
        network: &Network,
        recorder: &Recorder,
    ) -> anyhow::Result<Self> {
        let listen = network::balancer(claim.lab);
        network.balancer.expect_free(listen)?;
        let backends: Vec<Backend> = control_plane
            .servers
            .iter()
            .map(|server| Backend { name: server.name().to_owned(), address: server.address() })
            .collect();
        let nodes = |wanted: bool| -> BTreeMap<_, _> {
            let nodes = (0..).zip(&control_plane.servers).filter(|_| wanted);
            nodes.map(|(index, server)| (network::node(claim.lab, index), server.name().to_owned())).collect()
        };
        let settings = Settings {
            site: network.balancer.clone(),
            listen,
            readyz: setup.health_path.to_owned(),
            health: setup.health,
            on_unhealthy: setup.on_unhealthy,
            redispatch: setup.redispatch,
            idle: setup.idle(),
            hairpin: nodes(setup.hairpin),
            loops_lost: nodes(setup.loops_lost),
            ..Settings::new(backends, control_plane.ca.clone(), &setup.timers)
        };
        let run = async |told| {
            let idle = timing::COMMAND_IDLE_TIMEOUT;
            let running = product::Running::start(told, keeper, claim, &settings, control_plane, idle);
            Ok(Self::Product(running.await?))
        };
        match kind {
            BalancerKind::Builtin | BalancerKind::Kernel => Self::ours(kind, settings, recorder).await,
            BalancerKind::Product(product) => run(Told::Usual(*product)).await,
            BalancerKind::HaproxyHttp => run(Told::HaproxyHttp).await,
            BalancerKind::Envoy(file) => run(Told::EnvoyFile(EnvoyFile::read(file)?)).await,
            BalancerKind::Command(words) => {
                let environment = command::environment(
                    listen,
                    &settings.backends,
                    &settings.readyz,
                    &control_plane.ca_file,
                    settings.interval,
                    settings.fall,
                    timing::COMMAND_IDLE_TIMEOUT,
                );
                Ok(Self::Command(Command::start(keeper, claim, words, environment, &settings.site, listen).await?))
            }
        }
    }

    /// Starts one that the suite itself decides about, as it is told.
    ///
    /// # Errors
    /// As [`Builtin::start`] and [`Kernel::start`]; or it is somebody else's.
    pub async fn ours(kind: &BalancerKind, settings: Settings, recorder: &Recorder) -> anyhow::Result<Self> {
        match kind {
            BalancerKind::Builtin => Ok(Self::Builtin(Builtin::start(settings, recorder.clone()).await?)),
            BalancerKind::Kernel => Ok(Self::Kernel(Kernel::start(settings, recorder.clone()).await?)),
            _ => bail!("{kind} cannot be told how to carry connections"),
        }
    }

    /// Waits until a request through it is served.
    ///
    /// # Errors
    /// It ended, or served nothing within its time; with the end of what it printed.
    pub async fn ready(&self, through: &Endpoint) -> anyhow::Result<()> {
        let limit = timing::BALANCER_READY;
        match self {
            Self::Builtin(_) | Self::Kernel(_) => {
                wait::until(limit, "a request to be served through the balancer", async || serves(through).await).await
            }
            Self::Product(product) => product.ready(through).await,
            Self::Command(command) => command.ready(through, limit).await,
        }
    }

    /// Returns when it acts on what its health checks have found so far, if it is one of ours.
    pub async fn applied(&self) {
        if let Self::Kernel(kernel) = self {
            kernel.applied().await;
        }
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Builtin(builtin) => builtin.address(),
            Self::Kernel(kernel) => kernel.address(),
            Self::Product(product) => product.address(),
            Self::Command(command) => command.address(),
        }
    }

    /// Whether it ends TLS itself, so that neither certificate comes through it.
    pub fn ends_tls(&self) -> bool {
        matches!(self, Self::Product(product) if product.ends_tls())
    }

    /// What is known about it as a program under test.
    pub fn subjects(&self) -> Vec<Subject> {
        let (name, version) = match self {
            Self::Builtin(_) => ("builtin".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            Self::Kernel(_) => ("kernel".to_owned(), machine::kernel()),
            Self::Product(product) => return product.subjects.clone(),
            Self::Command(command) => (format!("command:{}", command.line()), String::new()),
        };
        vec![Subject { name, version, digest: String::new() }]
    }

    /// What it printed, if it is a process: the names as evidence, and the files.
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        match self {
            Self::Builtin(_) | Self::Kernel(_) => Vec::new(),
            Self::Product(product) => product.logs(),
            Self::Command(command) => vec![("balancer.log".to_owned(), command.log().to_owned())],
        }
    }

    /// Says so if it has ended by itself: then the lab is broken, not the subject.
    ///
    /// # Errors
    /// It has.
    pub fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Builtin(_) => Ok(()),
            Self::Kernel(kernel) => kernel.check(),
            Self::Product(product) => product.check(),
            Self::Command(command) => command.check(),
        }
    }

    /// Ends it. A process is asked to (SIGTERM) and given [`timing::COMMAND_STOP`]; whatever then still runs is the keeper's.
    /// To be called before evidence is collected and the recording finished: connections that end now, and a command's last
    /// words, belong to both.
    pub async fn end(&self) {
        match self {
            Self::Builtin(builtin) => builtin.stop().await,
            Self::Kernel(kernel) => kernel.stop().await,
            Self::Product(product) => product.end().await,
            Self::Command(command) => command.end().await,
        }
    }
}

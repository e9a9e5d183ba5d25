//! Gateways side by side: one for each remedy, in front of the same apiservers, so that one fault serves them all. Most are Envoys.
//!
//! Each listens on a port for every lane. A lane has upstream connections of its own, so what is sent on one of them is nothing to
//! the kernel's timers on another.

mod beside;
mod endpoints;
mod file;
mod istio;
mod lanes;
mod pilot;
mod remedy;
mod told;

pub(in crate::lab) use beside::{set_kernel, start};
pub use file::File;
pub use istio::{BY_ISTIO, ISTIO, ISTIO_RECOMMENDED, Wishes, bootstrap};
pub use lanes::{Lane, configuration};
pub use remedy::*;
pub use told::{counters, logged};

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::balancer::command::serves;
use super::balancer::product::envoy;
use super::balancer::{Backend, HealthPolicy, Settings};
use super::control_plane::{ControlPlane, last_words, pki};
use super::http::{Endpoint, Roster};
use super::keeper::{Child, Claim, Exit, Keeper, Program};
use super::network::{self, Network};
use super::provision::{self, Binary, Sources};
use super::{Setup, wait};
use crate::timeline::{Event, GatewayCounted, Recorder};
use crate::timing;
use pilot::Pilot;

/// All remedies, of every product, in the order of the table.
pub fn every() -> impl Iterator<Item = &'static Remedy> {
    REMEDIES.iter().chain(BY_ISTIO).chain(OTHER_PRODUCTS)
}

/// One gateway with one remedy.
pub struct Gateway {
    /// What it does about a dead upstream.
    pub remedy: Remedy,
    /// Where it listens, in the order of [`Lane::ALL`].
    ports: [SocketAddr; 4],
    /// How many workers it has: each has upstream connections of its own.
    workers: u32,
    roster: Arc<Roster>,
    /// With their logs. Envoy is one; of another product there is one for each of [`Lane::ALL`].
    processes: Vec<(Child, PathBuf)>,
    /// What configures it, where the lab does not.
    pilot: Option<Pilot>,
    folder: PathBuf,
}

/// What runs a gateway, or a lane of it.
struct Process {
    arguments: Vec<String>,
    log: PathBuf,
}

/// The binary that every Envoy among them is. Blocks: milliseconds when warm, a download when not.
///
/// # Errors
/// There is none to be had: what was tried.
pub fn binary(progress: &dyn Fn(&str)) -> anyhow::Result<Binary> {
    provision::envoy(&Sources::from_env()?, progress)
}

/// What configures those of [`BY_ISTIO`]. Blocks: milliseconds when warm, many minutes when it has to be built.
///
/// # Errors
/// There is none to be had: what was tried.
pub fn istio_binary(progress: &dyn Fn(&str)) -> anyhow::Result<Binary> {
    provision::istio(&Sources::from_env()?, progress)
}

impl Gateway {
    /// Starts it; [`Gateway::ready`] waits for it. `index` is its number among the gateways of its lab, `backends` are the apiservers
    /// that it knows of.
    ///
    /// # Errors
    /// Its configuration cannot be written, or it cannot be executed.
    async fn start(
        (keeper, claim): (&Keeper, &Claim),
        (control_plane, network): (&ControlPlane, &Network),
        ((binary, istio), setup): ((&Path, Option<&Binary>), &Setup),
        backends: Vec<Backend>,
        (index, remedy): (u8, Remedy),
    ) -> anyhow::Result<Self> {
        let folder = claim.folder.join(format!("gateway-{}", remedy.name));
        tokio::fs::create_dir(&folder).await.with_context(|| format!("cannot make {}", folder.display()))?;
        let ports = Lane::ALL.map(|lane| network::gateway(claim.lab, index, lane as u8));
        let settings = Settings {
            site: network.balancer.clone(),
            listen: ports[0],
            health: if remedy.checks_health() { HealthPolicy::Follow } else { HealthPolicy::Ignore },
            ..Settings::new(backends.clone(), control_plane.ca.clone(), &setup.timers)
        };
        let shown = shown(control_plane);
        let mut pilot = None;
        let started = match (remedy.file(), Wishes::of(&remedy, settings.clone(), ports, &control_plane.ca_file, shown))
        {
            (Some(file), _) => lane_processes(control_plane, &settings, file, &ports, &folder)?,
            (None, None) => {
                let by_file = setup.told_of_endpoints.then_some(&*folder);
                if let Some(folder) = by_file {
                    endpoints::write(folder, &backends)?;
                }
                let idle = timing::COMMAND_IDLE_TIMEOUT;
                let balancer = envoy::configuration(&settings, &control_plane.ca_file, idle, &folder, shown);
                let told = configuration(balancer, remedy, &ports, setup.gateway_workers, by_file);
                vec![envoy_process(&told, setup.gateway_workers, &folder)?]
            }
            (None, Some(wishes)) => {
                let istio = istio.context("Istio was not found")?;
                let listen = [9, 8, 7].map(|port| network::gateway(claim.lab, index, port));
                let (from, said) = ((control_plane, network, istio), (wishes, &*backends));
                pilot = Some(Pilot::start((keeper, claim), from, said, listen, &folder).await?);
                let told = bootstrap(listen[0], &istio.version, &folder);
                vec![envoy_process(&told, setup.gateway_workers, &folder)?]
            }
        };
        let mut processes = Vec::new();
        for Process { arguments, log } in started {
            let program = Program {
                lab: claim.lab,
                program: binary.to_owned(),
                args: arguments,
                env: BTreeMap::new(),
                network: network.balancer.file(),
                folder: None,
                log: log.clone(),
            };
            let child = keeper.spawn(program).await;
            processes.push((child.with_context(|| format!("cannot start the gateway {}", remedy.name))?, log));
        }
        let (workers, roster) = (setup.gateway_workers, control_plane.roster.clone());
        Ok(Self { remedy, ports, workers, roster, processes, pilot, folder })
    }

    /// Where clients of a lane reach it.
    pub fn address(&self, lane: Lane) -> SocketAddr {
        self.ports[lane as usize]
    }

    /// How many workers it has: connections to a lane's port go to them in turn.
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// Waits until a request through it is served.
    ///
    /// # Errors
    /// It ended, or served nothing within the limit; with the end of what it printed.
    pub(super) async fn ready(&self, through: &Endpoint) -> anyhow::Result<()> {
        let what = format!("a request to be served through the gateway {}", self.remedy.name);
        let ready = wait::until(timing::BALANCER_READY, &what, async || match self.exit() {
            Some(exit) => ControlFlow::Break(Err(exit)),
            None => serves(through).await.map_break(Ok),
        });
        match ready.await.with_context(|| self.last_words())? {
            Ok(()) => Ok(()),
            Err(exit) => bail!("the gateway {} ended with {}\n{}", self.remedy.name, exit.status, self.last_words()),
        }
    }

    /// Says so if it has ended by itself.
    ///
    /// # Errors
    /// It has.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.pilot.as_ref().map_or(Ok(()), Pilot::check)?;
        match self.exit() {
            None => Ok(()),
            Some(exit) => {
                bail!("the gateway {} ended with {} in the middle of the run", self.remedy.name, exit.status)
            }
        }
    }

    /// How one of its processes has ended, if one has.
    fn exit(&self) -> Option<Exit> {
        self.processes.iter().find_map(|(process, _)| process.exit())
    }

    /// Its log and that of what configures it, and its statistics where [`Gateway::end`] has left some.
    pub(super) fn logs(&self) -> impl Iterator<Item = (String, PathBuf)> {
        let files = self
            .processes
            .iter()
            .map(|(_, log)| log.clone())
            .chain(["pilot.log", "stats.log"].map(|name| self.folder.join(name)));
        let named = |file: PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            (format!("gateway-{}-{name}", self.remedy.name), file)
        };
        files.filter(|file| file.exists()).map(named)
    }

    /// Tells it that these are all apiservers there are, and returns when it has understood.
    ///
    /// # Errors
    /// It does not, or is gone.
    async fn tell(&self, backends: &[Backend]) -> anyhow::Result<()> {
        let told = self.pilot.is_some() || endpoints::are_told(&self.folder);
        ensure!(told, "the gateway {} has its apiservers from its configuration", self.remedy.name);
        let before = self.updates().await?;
        match &self.pilot {
            Some(pilot) => pilot.tell(backends)?,
            None => endpoints::write(&self.folder, backends)?,
        }
        let what = format!("the gateway {} to understand which apiservers there are", self.remedy.name);
        wait::until(timing::BALANCER_READY, &what, async || match self.updates().await {
            Ok(updates) if updates > before => ControlFlow::Break(()),
            Ok(updates) => ControlFlow::Continue(format!("{updates} updates")),
            Err(error) => ControlFlow::Continue(format!("{error:#}")),
        })
        .await
    }

    /// How often each of its lanes has been told of apiservers.
    async fn updates(&self) -> anyhow::Result<u64> {
        let counted = counters(&envoy::statistics(&self.folder).await?);
        let lanes = Lane::ALL.map(|lane| format!("cluster.{}.update_success", lane.name()));
        Ok(lanes.iter().map(|lane| counted.get(lane).copied().unwrap_or(0)).min().unwrap_or(0))
    }

    /// Records what it has counted so far, if it is an Envoy. Returns all of its statistics.
    async fn count(&self, recorder: &Recorder) -> anyhow::Result<Option<String>> {
        if self.remedy.file().is_some() {
            return Ok(None);
        }
        let text = envoy::statistics(&self.folder).await?;
        let gateway = self.remedy.name.to_owned();
        recorder.record(Event::GatewayCounted(GatewayCounted { gateway, counters: counters(&text) }));
        Ok(Some(text))
    }

    /// Asks for its statistics, then ends it, and records what its access log says of the streams in `ours`, by Audit-ID.
    async fn end(&self, recorder: &Recorder, ours: &BTreeSet<String>) {
        let asked = tokio::time::timeout(timing::COMMAND_STOP, self.count(recorder)).await;
        if let Ok(Ok(Some(text))) = asked {
            let _ = tokio::fs::write(self.folder.join("stats.log"), text).await;
        }
        for (process, _) in &self.processes {
            if process.signal(Signal::TERM).await.is_ok() {
                let _ = tokio::time::timeout(timing::COMMAND_STOP, process.exited()).await;
            }
        }
        // Evidence beside what clients saw: no verdict depends on it.
        let log = tokio::fs::read_to_string(self.folder.join("gateway.log")).await.unwrap_or_default();
        for line in logged(self.remedy.name, &log, ours, &self.roster) {
            recorder.record(Event::GatewayLogged(line));
        }
    }

    fn last_words(&self) -> String {
        let ended = self.processes.iter().find(|(process, _)| process.exit().is_some());
        // Else the one by which it is found ready.
        let it = ended.or(self.processes.get(Lane::New as usize)).or(self.processes.first());
        it.map_or_else(String::new, |(_, log)| last_words(&format!("the gateway {}", self.remedy.name), log))
    }
}

/// Writes what an Envoy is told.
fn envoy_process(told: &Value, workers: u32, folder: &Path) -> anyhow::Result<Process> {
    let file = folder.join("envoy.json");
    pki::write_private(&file, &serde_json::to_string_pretty(told)?)?;
    let (path, workers) = (file.display().to_string(), workers.to_string());
    let quiet = ["--disable-hot-restart", "--log-level", "info"];
    let arguments = ["--concurrency", &workers].into_iter().chain(quiet).chain(["-c", &path]);
    Ok(Process { arguments: arguments.map(str::to_owned).collect(), log: folder.join("gateway.log") })
}

/// Writes what another product is told, for each lane.
fn lane_processes(
    control_plane: &ControlPlane,
    settings: &Settings,
    file: File,
    ports: &[SocketAddr; 4],
    folder: &Path,
) -> anyhow::Result<Vec<Process>> {
    let process = |(lane, port): (&Lane, &SocketAddr)| {
        let settings = Settings { listen: *port, ..settings.clone() };
        let [path, pid, temp] = ["conf", "pid", "tmp"].map(|kind| folder.join(format!("{}.{kind}", lane.name())));
        std::fs::create_dir(&temp).with_context(|| format!("cannot make {}", temp.display()))?;
        let text = file.filled(&settings, &control_plane.ca_file, shown(control_plane), &temp);
        pki::write_private(&path, &text)?;
        let log = folder.join(format!("{}.log", lane.name()));
        Ok(Process { arguments: file.arguments(&path, &pid), log })
    };
    Lane::ALL.iter().zip(ports).map(process).collect()
}

/// The PEM files of what gateways show to clients: certificate and key.
fn shown(control_plane: &ControlPlane) -> [&Path; 2] {
    let gateway = &control_plane.gateway;
    [&gateway.certificate_file, &gateway.key_file]
}

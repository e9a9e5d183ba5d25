//! The stage: one control plane, one balancer in front of it, on addresses of their own.
//!
//! The lab disturbs and records; it knows no requirement. Everything it starts is held by the [`keeper`].

pub mod balancer;
pub mod control_plane;
pub mod gateway;
pub mod http;
pub mod keeper;
pub mod kubeconfig;
pub mod kubectl;
mod loss;
pub mod machine;
pub mod material;
pub mod network;
mod prepare;
pub mod priority;
pub mod provision;
pub mod remote;
mod roll;
mod setup;
pub mod sweep;
pub mod timers;
pub mod tls;
pub mod wait;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use http::Endpoint;

use crate::config::{BalancerKind, Config};
use crate::timeline::{Cell, Moment, Recorder, Server, Subject};
use crate::timing;
use balancer::chosen::Balancer;
use control_plane::{Apiserver, ControlPlane, Pod, Shared};
use gateway::{Gateway, Lane};
use keeper::{Claim, Keeper};
pub use loss::{Losing, Unplugged};
use material::Material;
use network::{Capture, Network};
use provision::Binary;
pub use setup::Setup;
use timers::TimerPort;

/// The namespace that the suite works in, and the only one.
pub const NAMESPACE: &str = "rollproof";

/// The namespace in which the load creates and deletes.
pub const LOAD_NAMESPACE: &str = "rollproof-load";

/// The namespace in which requests are held in flight.
pub const IN_FLIGHT_NAMESPACE: &str = "rollproof-in-flight";

/// The namespace of the counter that guarded writers share: no watch on ours is to meet it.
pub const GUARDED_NAMESPACE: &str = "rollproof-guarded";

/// An object that requesters ask for: there from the start, never changed.
pub const PROBED: &str = "probed";

/// How many apiservers a lab has unless told otherwise.
pub const APISERVERS: usize = 2;

/// A running lab.
pub struct Lab {
    claim: Claim,
    keeper: Keeper,
    network: Network,
    control_plane: ControlPlane,
    balancer: Balancer,
    gateways: Vec<Gateway>,
    timers: Option<TimerPort>,
    capture: Option<Capture>,
    machine: BTreeMap<String, String>,
    recorder: Recorder,
    setup: Setup,
    cell: Cell,
    subjects: Vec<Subject>,
    /// What [`Lab::upgrade`] upgrades to.
    newer: Option<PathBuf>,
    /// Of clients that speak SPDY.
    kubectl: Option<Binary>,
}

impl Lab {
    /// Starts a lab: etcd and the apiservers, then the balancer, then the first write through it.
    ///
    /// # Errors
    /// Something did not come up; the message says what, and how its log ends. Whatever had been started is struck; the logs
    /// are copied to the folder for `evidence` first, if one is given.
    pub async fn start(
        setup: Setup,
        config: &Config,
        material: &Material,
        recorder: Recorder,
        evidence: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let keeper = Keeper::get()?;
        let claim = keeper.claim().await?;
        match Self::start_in(claim.clone(), keeper.clone(), setup, config, material, recorder).await {
            Ok(lab) => Ok(lab),
            Err(error) => {
                if let Some(evidence) = evidence {
                    keep_logs(&claim.folder, material, evidence).await;
                }
                if let Err(left) = keeper.strike(claim.lab).await {
                    return Err(error.context(format!("and then the lab could not be struck: {left:#}")));
                }
                Err(error)
            }
        }
    }

    async fn start_in(
        claim: Claim,
        keeper: Keeper,
        setup: Setup,
        config: &Config,
        material: &Material,
        recorder: Recorder,
    ) -> anyhow::Result<Self> {
        let flags = setup.kube_apiserver_flags();
        let apiservers = setup.apiservers(config);
        let network = match config.balancer == BalancerKind::Kernel || setup.namespaces {
            true => network::namespaces::start(claim.lab, apiservers as u8).await?,
            false => Network::default(),
        };
        let capture = match setup.captures() && network.client.namespace().is_some() {
            true => Some(Capture::start(&network, &claim.folder.join("packets.pcapng"), &recorder).await?),
            false => None,
        };
        let control_plane = match material {
            Material::Binaries(binaries) => {
                let apiservers = apiservers as u8;
                control_plane::start_local(&keeper, &claim, &network, binaries, &flags, apiservers, &recorder).await?
            }
            Material::Cluster(provided) => {
                let grace = setup.grace_period.unwrap_or_else(|| setup.timers.graceful_stop());
                let through_balancer = setup.controllers_through_balancer;
                control_plane::start_on_kind(&claim, &provided.cluster, &flags, grace, through_balancer, &recorder)
                    .await?
            }
        };
        let balancer =
            Balancer::start(&claim, &keeper, &control_plane, &setup, &config.balancer, &network, &recorder).await?;
        let mut machine = network.client.run(machine::facts).await?;
        machine.extend(gateway::set_kernel(&network, &setup).await?);
        let beside = control_plane.servers[0].name();
        let timers = TimerPort::open(&claim, &setup, &config.balancer, &network, &recorder, beside).await?;

        let mut subjects = material.subjects();
        subjects.extend(balancer.subjects());
        let (gateways, products) = gateway::start((&keeper, &claim), (&control_plane, &network), &setup).await?;
        subjects.extend(products);
        let kubectl = kubectl::of(&setup, config).await?;
        subjects.extend(kubectl.iter().map(|it| Subject {
            name: "kubectl".to_owned(),
            version: it.version.clone(),
            digest: it.digest.clone(),
        }));
        let cell = Cell {
            control_plane: config.control_plane.to_string(),
            kubernetes: material.kubernetes(),
            apiservers: config.apiservers.unwrap_or(APISERVERS),
            balancer: config.balancer.to_string(),
            protocol: "http1+http2".to_owned(),
            client: "kube-rs".to_owned(),
            profile: config.profile,
        };
        let lab = Self {
            claim,
            keeper,
            network,
            control_plane,
            balancer,
            gateways,
            timers,
            capture,
            machine,
            recorder,
            setup,
            cell,
            subjects,
            newer: None,
            kubectl,
        };
        lab.balancer.ready(&lab.through_balancer()).await?;
        for gateway in &lab.gateways {
            gateway.ready(&lab.through_gateway(gateway, Lane::New)).await?;
        }
        lab.prepare().await?;
        Ok(lab)
    }

    /// A lab that [`Lab::upgrade`] can upgrade to this kube-apiserver.
    pub fn upgradable_to(mut self, newer: &Binary) -> Self {
        let Binary { path, version, digest, .. } = newer.clone();
        self.cell.kubernetes.clone_from(&version);
        self.subjects.push(Subject { name: "kube-apiserver".to_owned(), version, digest });
        self.newer = Some(path);
        self
    }

    /// The balancer, as an administrator's client meets it.
    pub fn through_balancer(&self) -> Endpoint {
        let direct = &self.control_plane.servers[0].endpoint;
        let (site, address) = (self.network.client.clone(), self.balancer.address());
        let token = self.balancer.ends_tls().then(|| self.control_plane.token.clone());
        Endpoint { address, site, token, ..direct.clone() }
    }

    /// The balancer, as an administrator's client on the node of that apiserver meets it.
    pub fn from_node(&self, index: u8) -> Endpoint {
        Endpoint { from: Some(network::node(self.claim.lab, index)), ..self.through_balancer() }
    }

    /// The apiservers, by number.
    pub fn servers(&self) -> &[Shared] {
        &self.control_plane.servers
    }

    /// The pod that sessions lead into, in a lab with [`Setup::pods`].
    pub fn pod(&self) -> Option<&Pod> {
        self.control_plane.pod().filter(|_| self.setup.pods)
    }

    /// The balancer's port for timer-servers, in a lab whose balancer has an idle timeout, or that loses packets.
    pub fn timer_port(&self) -> Option<&TimerPort> {
        self.timers.as_ref()
    }

    /// Where observations go.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// What it was set up with.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Its point of the matrix.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// The machine as its clients meet it, by name of each fact.
    pub fn machine(&self) -> &BTreeMap<String, String> {
        &self.machine
    }

    /// The programs under test.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.claim.folder
    }

    /// The apiservers as the recording's header describes them.
    pub fn described_servers(&self) -> Vec<Server> {
        let describe = |server: &Arc<Apiserver>| Server {
            name: server.name().to_owned(),
            address: server.address().to_string(),
            certificate: server.certificate.clone(),
            flags: server.flags.clone(),
        };
        self.servers().iter().map(describe).collect()
    }

    /// The file of the network namespace in which its clients stand, if it has one: `nsenter --net=FILE` leads there.
    pub fn client_network(&self) -> Option<PathBuf> {
        self.network.client.file()
    }

    /// A kubeconfig for the lab through its balancer.
    pub fn kubeconfig(&self) -> kube::config::Kubeconfig {
        let ControlPlane { ca, admin, token, .. } = &self.control_plane;
        let through = self.through_balancer();
        let token = through.token.is_some().then_some(&**token);
        let named = through.named.as_ref().map(|named| &*named.host);
        kubeconfig::kubeconfig(self.balancer.address(), ca, admin, token, named)
    }

    /// The log files: what they are called as evidence, and where they lie.
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        let mut logs = self.control_plane.logs();
        logs.extend(self.balancer.logs());
        logs.extend(self.gateways.iter().flat_map(Gateway::logs));
        logs.extend(self.capture.iter().map(|capture| ("packets.pcapng".to_owned(), capture.file().to_owned())));
        logs
    }

    /// Says so if a program that is not under test has ended by itself: then the lab is broken, not the subject.
    ///
    /// # Errors
    /// etcd or the balancer command has ended.
    pub fn check(&self) -> anyhow::Result<()> {
        self.control_plane.check()?;
        self.gateways.iter().try_for_each(Gateway::check)?;
        self.balancer.check()
    }

    /// Brings all logs to this machine.
    ///
    /// # Errors
    /// A node does not hand them over.
    pub async fn fetch_logs(&self) -> anyhow::Result<()> {
        self.control_plane.fetch_logs().await
    }

    /// Ends the packet capture, if there is one: what it saw is in the recording then. Before the balancer's end, which cuts what is
    /// still open.
    ///
    /// # Errors
    /// It broke off: there is less evidence than there should be.
    pub async fn end_capture(&self) -> anyhow::Result<()> {
        match &self.capture {
            Some(capture) => capture.end().await,
            None => Ok(()),
        }
    }

    /// Ends the balancer, so that what it still has to tell is in the recording and in its log.
    pub async fn end_balancer(&self) {
        if let Some(timers) = &self.timers {
            timers.end().await;
        }
        self.end_gateways().await;
        self.balancer.end().await;
    }

    /// Ends the lab: nothing of it is left.
    ///
    /// # Errors
    /// A process did not die, or the folder could not be removed.
    pub async fn strike(self) -> anyhow::Result<()> {
        if self.control_plane.is_shared() {
            // Where that fails, an apiserver may not have come back, which is for the verdicts to judge. The next scenario asks
            // again, and waits until they are gone.
            let _ = self.remove_namespaces().await;
        }
        self.end_balancer().await;
        // Killed, not stopped: a graceful end would take as long as the longest open watch.
        self.keeper.strike(self.claim.lab).await
    }

    /// Leaves the lab's processes up when this process ends, and writes a kubeconfig that leads to one of the apiservers,
    /// since a balancer of ours ends with us. Returns what a shell has to know.
    ///
    /// # Errors
    /// The kubeconfig cannot be written.
    pub async fn keep(self) -> anyhow::Result<String> {
        let path = self.claim.folder.join("kubeconfig");
        let direct = self.servers()[0].address();
        let config = kubeconfig::kubeconfig(direct, &self.control_plane.ca, &self.control_plane.admin, None, None);
        control_plane::pki::write_private(&path, &serde_json::to_string_pretty(&config)?)?;
        self.keeper.keep(self.claim.lab).await?;
        let variable = format!("KUBECONFIG={} leads past the balancer", path.display());
        Ok(match self.network.server(0).file() {
            None => variable,
            Some(_) => format!("{variable}, from within `nsenter --net=/proc/{}/ns/net`", self.servers()[0].pid()?),
        })
    }
}

/// Copies the logs of a lab that did not start, as far as that works: there is an error to report already.
async fn keep_logs(lab: &Path, material: &Material, evidence: &Path) {
    if let Material::Cluster(provided) = material {
        for node in provided.cluster.control_planes() {
            let _ = control_plane::fetch_journal(node, lab).await;
        }
    }
    let folders = std::fs::read_dir(lab).into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in folders.filter(|path| path.is_dir()).chain([lab.to_owned()]) {
        for log in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if log.extension().is_some_and(|ending| ending == "log") {
                let inside = log.strip_prefix(lab).unwrap_or(&log).to_string_lossy().replace('/', "-");
                let _ = std::fs::create_dir_all(evidence);
                let _ = std::fs::read(&log).and_then(|text| std::fs::write(evidence.join(inside), text));
            }
        }
    }
}

/// Does `work`, and says so on the way if it takes long.
///
/// # Errors
/// Those of `work`, with what was being done.
pub async fn narrated<T>(
    what: &str,
    mut say: impl FnMut(String),
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let began = Moment::now();
    let mut work = std::pin::pin!(work);
    let mut next = timing::PROGRESS_AFTER;
    loop {
        tokio::select! {
            done = &mut work => return done.with_context(|| format!("while {what}")),
            () = tokio::time::sleep(next) => {
                say(format!("{what} ({:.0} s so far)", Moment::now().since(began).as_secs_f64()));
                next = timing::PROGRESS_EVERY;
            }
        }
    }
}

//! The control plane `local`: one etcd and N kube-apiservers, as processes on loopback addresses of their own.
//!
//! The apiservers share CA, service-account key and service range, as those of one cluster do; each has its own serving
//! certificate, address, log and audit log, so that everything can be attributed to one of them.

mod apiserver;
pub mod audit;
pub mod kind;
pub mod lifecycle;
pub mod pki;

pub use apiserver::{Apiserver, Frozen, Shared, last_words};

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::http::{Endpoint, Roster};
use super::keeper::{Child, Claim, Keeper, Program};
use super::network::{self, Network};
use super::provision::Binaries;
use super::{tls, wait};
use crate::timeline::{Protocol, Recorder};
use crate::timing::{self, Timers};

use apiserver::Place;
use pki::{Authority, Identity};

/// kube-apiserver flags that scenarios set, by name without dashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<String, String>);

impl Flags {
    /// The flags of a profile's timers, and those that the suite's own observations need:
    ///
    /// | flag | pr | nightly | why |
    /// | --- | --- | --- | --- |
    /// | shutdown-delay-duration | 3s | 70s | serve on until balancers have noticed |
    /// | shutdown-watch-termination-grace-period | 5s | 60s | watches end cleanly before the process does; without it the process waits for its request timeout (60 s) |
    /// | v | 1 | 1 | lifecycle signals are logged from here on |
    pub fn of(timers: &Timers) -> Self {
        let mut flags = Self::default();
        flags.set("shutdown-delay-duration", format!("{:?}", timers.shutdown_delay));
        flags.set("shutdown-watch-termination-grace-period", format!("{:?}", timers.watch_termination_grace));
        flags.set("v", "1");
        flags
    }

    /// Sets one flag, or changes it.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }
}

/// A running control plane.
pub struct ControlPlane {
    /// The apiservers, by number.
    pub servers: Vec<Shared>,
    /// Whom which serving certificate belongs to.
    pub roster: Arc<Roster>,
    /// The CA's certificate, PEM.
    pub ca: String,
    /// The file that holds it.
    pub ca_file: PathBuf,
    /// A client certificate in group system:masters.
    pub admin: Identity,
    /// The same user's bearer token, for a balancer that ends TLS. Never printed, logged or recorded.
    pub token: Arc<str>,
    /// What a balancer that ends TLS shows to clients.
    pub gateway: Identity,
    etcd: Child,
    etcd_log: PathBuf,
}

impl ControlPlane {
    /// Starts etcd and the apiservers, and waits until all are ready.
    ///
    /// # Errors
    /// One of them did not become ready; with the end of its log.
    pub async fn start(
        keeper: &Keeper,
        claim: &Claim,
        network: &Network,
        binaries: &Binaries,
        flags: &Flags,
        apiservers: u8,
        recorder: &Recorder,
    ) -> anyhow::Result<Self> {
        let Claim { lab, folder } = claim;
        let pki_folder = folder.join("pki");
        std::fs::create_dir(&pki_folder)?;
        let authority = Authority::new(&pki_folder)?;
        let admin = authority.client("rollproof-admin", "system:masters")?;
        let (token, tokens) = authority.token("rollproof-admin", "system:masters")?;
        let gateway = authority.server("gateway", &[network::balancer(*lab).ip()])?;
        let service_account = authority.service_account_key()?;
        let audit_policy = folder.join("audit-policy.json");
        pki::write_private(&audit_policy, audit::POLICY)?;

        for index in 0..apiservers {
            network.server(index).expect_free(network::apiserver(*lab, index))?;
        }
        let etcd_log = folder.join("etcd.log");
        let etcd = start_etcd(keeper, claim, network, binaries, etcd_log.clone()).await?;

        let identities: Vec<Identity> = (0..apiservers)
            .map(|index| {
                // A balancer that passes TCP through is dialled by its own address.
                let addresses = [network::apiserver(*lab, index).ip(), network::balancer(*lab).ip()];
                authority.server(&format!("apiserver-{index}"), &addresses)
            })
            .collect::<anyhow::Result<_>>()?;
        let names = (0..apiservers).map(|index| format!("apiserver-{index}"));
        let addresses = (0..apiservers).map(|index| network::apiserver(*lab, index).to_string()).zip(names.clone());
        let roster: Arc<Roster> = Arc::new(
            identities.iter().map(|identity| identity.digest.clone()).zip(names.clone()).chain(addresses).collect(),
        );
        let tls = tls::client_config(&authority.certificate(), Some((&admin.certificate, &admin.key)))?;

        let mut servers: Vec<Shared> = Vec::new();
        for ((index, name), identity) in (0..apiservers).zip(names).zip(&identities) {
            let own_folder = folder.join(&name);
            std::fs::create_dir(&own_folder)?;
            let place = Place {
                etcd: network::etcd_client(*lab),
                listen: network::apiserver(*lab, index),
                advertise: network::advertised(index),
                folder: &own_folder,
                certificate: identity,
                ca: authority.certificate_file(),
                service_account: &service_account,
                tokens: tokens.clone(),
                audit_policy: audit_policy.clone(),
            };
            let program = Program {
                lab: *lab,
                program: binaries.kube_apiserver.path.clone(),
                args: place.flags(flags),
                env: BTreeMap::new(),
                network: network.server(index).file(),
                folder: Some(own_folder.clone()),
                log: own_folder.join("kube-apiserver.log"),
            };
            let endpoint = Endpoint {
                address: place.listen,
                site: network.server(index),
                from: None,
                tls: tls.clone(),
                protocol: Protocol::Http1,
                roster: roster.clone(),
                named: None,
                token: None,
            };
            let server = Apiserver::new(
                name,
                endpoint,
                identity.digest.clone(),
                program,
                own_folder.join("audit.log"),
                keeper.clone(),
                recorder.clone(),
            );
            servers.push(Arc::new(server));
        }
        for server in &servers {
            server.start().await?;
        }
        futures::future::try_join_all(servers.iter().map(|server| server.ready())).await?;
        let (ca, ca_file) = (authority.certificate(), authority.certificate_file());
        Ok(Self { servers, roster, ca, ca_file, admin, token, gateway, etcd, etcd_log })
    }

    /// Says so if a process of the control plane has ended by itself: then the lab is broken, not the subject.
    ///
    /// # Errors
    /// etcd has ended.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(exit) = self.etcd.exit() {
            bail!("etcd ended with {}\n{}", exit.status, last_words("etcd", &self.etcd_log));
        }
        Ok(())
    }

    /// The log files: what they are called as evidence, and where they lie.
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        let servers = self.servers.iter().flat_map(|server| {
            [
                (format!("{}.log", server.name), server.program.log.clone()),
                (format!("{}-audit.log", server.name), server.audit_log.clone()),
            ]
        });
        std::iter::once(("etcd.log".to_owned(), self.etcd_log.clone())).chain(servers).collect()
    }
}

async fn start_etcd(
    keeper: &Keeper,
    claim: &Claim,
    network: &Network,
    binaries: &Binaries,
    log: PathBuf,
) -> anyhow::Result<Child> {
    let (client, peer) = (network::etcd_client(claim.lab), network::etcd_peer(claim.lab));
    network.etcd.expect_free(client)?;
    network.etcd.expect_free(peer)?;
    let args = vec![
        format!("--data-dir={}", claim.folder.join("etcd").display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=default=http://{peer}"),
        // The data does not outlive the lab, so nothing has to survive a power cut.
        "--unsafe-no-fsync=true".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    let program = Program {
        lab: claim.lab,
        program: binaries.etcd.path.clone(),
        args,
        env: BTreeMap::new(),
        network: network.etcd.file(),
        folder: Some(claim.folder.clone()),
        log: log.clone(),
    };
    let child = keeper.spawn(program).await?;
    let up = wait::until(timing::CONTROL_PLANE_READY, "etcd to listen", async || {
        if let Some(exit) = child.exit() {
            return ControlFlow::Break(Err(exit));
        }
        match network.etcd.connect(client).await {
            Ok(_) => ControlFlow::Break(Ok(())),
            Err(error) => ControlFlow::Continue(error.to_string()),
        }
    });
    if let Err(exit) = up.await.with_context(|| last_words("etcd", &log))? {
        bail!("etcd ended with {} instead of listening\n{}", exit.status, last_words("etcd", &log));
    }
    Ok(child)
}

//! The control plane `local`: one etcd and N kube-apiservers, as processes on loopback addresses of their own.
//!
//! The apiservers share CA, service-account key and service range, as those of one cluster do.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::apiserver::{Apiserver, Life, Runner, Shared, last_words};
use super::pki::{self, Authority, Identity};
use super::process::Process;
use super::{Base, ControlPlane, Flags, audit, kwok};
use crate::lab::http::{Endpoint, Roster};
use crate::lab::keeper::{Child, Claim, Keeper, Program};
use crate::lab::kubeconfig::kubeconfig;
use crate::lab::network::{self, Network};
use crate::lab::provision::Binaries;
use crate::lab::{tls, wait};
use crate::timeline::{Protocol, Recorder};
use crate::timing;

/// Starts etcd and the apiservers, and waits until all are ready.
///
/// # Errors
/// One of them did not become ready; with the end of its log.
pub(in crate::lab) async fn start(
    keeper: &Keeper,
    claim: &Claim,
    network: &Network,
    binaries: &Binaries,
    flags: &Flags,
    apiservers: u8,
    recorder: &Recorder,
) -> anyhow::Result<ControlPlane> {
    let Claim { lab, folder } = claim;
    let pki_folder = folder.join("pki");
    std::fs::create_dir(&pki_folder)?;
    let authority = Authority::new(&pki_folder)?;
    let admin = authority.client("rollproof-admin", "system:masters")?;
    let (token, tokens) = authority.token("rollproof-admin", "system:masters")?;
    let gateway = authority.server("gateway", &[network::balancer(*lab).ip()])?;
    // To kubelets, an apiserver is an administrator.
    let kubelet_client = authority.client("kube-apiserver-kubelet-client", "system:masters")?;
    let service_account = authority.service_account_key()?;
    let audit_policy = folder.join("audit-policy.json");
    pki::write_private(&audit_policy, audit::POLICY)?;

    for index in 0..apiservers {
        network.server(index).expect_free(network::apiserver(*lab, index))?;
    }
    let etcd = Etcd::start(keeper, claim, network, binaries).await?;

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
            kubelet_client: &kubelet_client,
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
            plain: false,
        };
        let server = Apiserver::new(
            Life { name, recorder: recorder.clone() },
            endpoint,
            identity.digest.clone(),
            program.args.clone(),
            [program.log.clone(), own_folder.join("audit.log")],
            Runner::Process(Process::new(keeper.clone(), program)),
        );
        servers.push(Arc::new(server));
    }
    for server in &servers {
        server.start().await?;
    }
    futures::future::try_join_all(servers.iter().map(|server| server.ready())).await?;
    let kubelet = match &binaries.kwok {
        Some(kwok) => {
            let identity = authority.server("kubelet", &[network::kubelet(*lab).ip()])?;
            let client = kubeconfig(network::apiserver(*lab, 0), &authority.certificate(), &admin, None, None);
            Some(Box::new(kwok::Kubelet::start(keeper, claim, network, kwok, &identity, &client).await?))
        }
        None => None,
    };
    let (ca, ca_file) = (authority.certificate(), authority.certificate_file());
    Ok(ControlPlane { servers, roster, ca, ca_file, admin, token, gateway, base: Base::Local(etcd, kubelet) })
}

/// The one etcd of a local control plane.
pub(super) struct Etcd {
    child: Child,
    /// Its log.
    pub(super) log: PathBuf,
}

impl Etcd {
    pub(super) async fn start(
        keeper: &Keeper,
        claim: &Claim,
        network: &Network,
        binaries: &Binaries,
    ) -> anyhow::Result<Self> {
        let log = claim.folder.join("etcd.log");
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
            // As kubeadm has it (cmd/kubeadm/app/phases/etcd/local.go): so often does etcd tell watch caches that nothing is to be told.
            "--watch-progress-notify-interval=5s".to_owned(),
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
        Ok(Self { child, log })
    }

    /// Says so if it has ended by itself.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if let Some(exit) = self.child.exit() {
            bail!("etcd ended with {}\n{}", exit.status, last_words("etcd", &self.log));
        }
        Ok(())
    }
}

/// The flags of one apiserver; see [`Flags`] for those that scenarios set.
struct Place<'a> {
    etcd: SocketAddr,
    listen: SocketAddr,
    advertise: IpAddr,
    folder: &'a Path,
    certificate: &'a Identity,
    ca: PathBuf,
    kubelet_client: &'a Identity,
    service_account: &'a (PathBuf, PathBuf),
    tokens: PathBuf,
    audit_policy: PathBuf,
}

impl Place<'_> {
    fn flags(&self, flags: &Flags) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let (private, public) = self.service_account;
        let mut all = vec![
            format!("--etcd-servers=http://{}", self.etcd),
            format!("--bind-address={}", self.listen.ip()),
            format!("--secure-port={}", self.listen.port()),
            format!("--advertise-address={}", self.advertise),
            format!("--cert-dir={}", path(self.folder)),
            format!("--tls-cert-file={}", path(&self.certificate.certificate_file)),
            format!("--tls-private-key-file={}", path(&self.certificate.key_file)),
            format!("--client-ca-file={}", path(&self.ca)),
            format!("--token-auth-file={}", path(&self.tokens)),
            format!("--kubelet-certificate-authority={}", path(&self.ca)),
            format!("--kubelet-client-certificate={}", path(&self.kubelet_client.certificate_file)),
            format!("--kubelet-client-key={}", path(&self.kubelet_client.key_file)),
            format!("--service-account-key-file={}", path(public)),
            format!("--service-account-signing-key-file={}", path(private)),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--audit-policy-file={}", path(&self.audit_policy)),
            format!("--audit-log-path={}", path(&self.folder.join("audit.log"))),
            // Rotation would drop what a recording is joined with. MiB.
            "--audit-log-maxsize=100000".to_owned(),
        ];
        all.extend(flags.iter().map(|(name, value)| format!("--{name}={value}")));
        all
    }
}

//! The control plane `kind`: kubeadm's static pods on nodes in containers, which their kubelets run.
//!
//! The cluster is shared by the scenarios of a cell; what is made here lasts for one of them. Between two scenarios nothing
//! is undone but what the next one wants otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::try_join_all;
use serde_json::Value;

use super::apiserver::{Apiserver, Life, Runner, Shared};
use super::kind::{Cluster, Node};
use super::pki::{self, Authority, Identity};
use super::static_pod::manifest::Manifest;
use super::static_pod::{Mirror, StaticPod};
use super::{Base, ControlPlane, Flags, audit};
use crate::lab::http::{Endpoint, Named, Roster};
use crate::lab::keeper::Claim;
use crate::lab::network::{self, Site};
use crate::lab::tls;
use crate::timeline::{Protocol, Recorder};

/// The folders of a node that its kube-apiserver needs for our observations: what it reads, and what it writes.
const CONFIGURATION: &str = "/etc/kubernetes/rollproof-lab";
const LOGS: &str = "/var/log/rollproof-lab";

/// What stands in every serving certificate that kubeadm makes, whatever the address that leads to it.
const SERVED_AS: &str = "kubernetes.default.svc";

/// What a control plane on kind stands on.
pub(super) struct Nodes {
    nodes: Vec<Node>,
    folder: PathBuf,
}

/// The manifest as the cluster was made with it, which each scenario starts from.
const ORIGINAL: &str = "/etc/kubernetes/rollproof-lab/kube-apiserver.original.yaml";

/// Flags without which a kube-apiserver would not tell us what we have to know.
fn observed(flags: &Flags, manifest: &Manifest) -> Flags {
    let mut flags = flags.clone();
    // Lifecycle signals are logged from here on.
    if manifest.flag("v").is_none() {
        flags.set("v", "1");
    }
    flags.set("audit-policy-file", format!("{CONFIGURATION}/audit-policy.json"));
    flags.set("audit-log-path", format!("{LOGS}/audit.log"));
    // Rotation would drop what a recording is joined with. MiB.
    flags.set("audit-log-maxsize", "100000");
    flags.set("token-auth-file", format!("{CONFIGURATION}/tokens.csv"));
    flags
}

/// Takes a cluster into service: its kube-apiservers run with these flags and this grace period, and are ready.
///
/// # Errors
/// A node cannot be reached, or an apiserver does not come up with the flags; the message says which.
pub(in crate::lab) async fn start(
    claim: &Claim,
    cluster: &Cluster,
    flags: &Flags,
    grace: Duration,
    recorder: &Recorder,
) -> anyhow::Result<ControlPlane> {
    let pki_folder = claim.folder.join("pki");
    std::fs::create_dir(&pki_folder)?;
    let nodes: Vec<Node> = cluster.control_planes().cloned().collect();
    let first = nodes.first().context("a cluster without a control plane")?;

    // A balancer that ends TLS shows a certificate of ours: clients trust both.
    let authority = Authority::new(&pki_folder)?;
    let gateway = authority.server("gateway", &[network::balancer(claim.lab).ip()])?;
    let ca = first.read("/etc/kubernetes/pki/ca.crt").await? + &authority.certificate();
    let ca_file = pki_folder.join("all-ca.crt");
    pki::write_private(&ca_file, &ca)?;
    let admin = administrator(first, &pki_folder).await?;
    let token = token(&nodes, &authority).await?;
    let tls = tls::client_config(&ca, Some((&admin.certificate, &admin.key)))?;

    try_join_all(nodes.iter().map(|node| adjust(node, &claim.folder, flags, grace))).await?;

    let mut certificates = Vec::new();
    for node in &nodes {
        certificates.push(pki::digest(&node.read("/etc/kubernetes/pki/apiserver.crt").await?)?);
    }
    let names = (0..nodes.len()).map(|index| format!("apiserver-{index}"));
    let addresses = nodes.iter().map(|node| cluster.apiserver(node).to_string()).zip(names.clone());
    let roster: Arc<Roster> = Arc::new(certificates.iter().cloned().zip(names.clone()).chain(addresses).collect());
    let named = Arc::new(Named { certificate: SERVED_AS.try_into()?, host: SERVED_AS.to_owned() });

    let mut servers: Vec<Shared> = Vec::new();
    for ((node, name), certificate) in nodes.iter().zip(names).zip(certificates) {
        let endpoint = Endpoint {
            address: cluster.apiserver(node),
            site: Site::default(),
            from: None,
            tls: tls.clone(),
            protocol: Protocol::Http1,
            roster: roster.clone(),
            named: Some(named.clone()),
            token: None,
        };
        let own_folder = claim.folder.join(&name);
        std::fs::create_dir(&own_folder)?;
        let [log, audit_log] = ["kube-apiserver.log", "audit.log"].map(|file| own_folder.join(file));
        let audits = Mirror::new(node.clone(), audit_log.clone())?;
        audits.follow_file(&format!("{LOGS}/audit.log")).await?;
        let life = Life { name, recorder: recorder.clone() };
        let pod = StaticPod::follow(node.clone(), life.clone(), Mirror::new(node.clone(), log.clone())?).await?;
        let flags = pod.manifest().flags();
        let runner = Runner::StaticPod { pod, audits };
        servers.push(Arc::new(Apiserver::new(life, endpoint, certificate, flags, [log, audit_log], runner)));
    }
    try_join_all(servers.iter().map(|server| server.ready())).await?;
    let base = Base::Kind(Nodes { nodes, folder: claim.folder.clone() });
    Ok(ControlPlane { servers, roster, ca, ca_file, admin, token, gateway, base })
}

/// Makes a node's kube-apiserver run with these flags. Nothing of it is recorded: the scenario has not begun.
async fn adjust(node: &Node, folder: &Path, flags: &Flags, grace: Duration) -> anyhow::Result<()> {
    node.write(&format!("{CONFIGURATION}/audit-policy.json"), "600", audit::POLICY.as_bytes()).await?;
    let life = Life { name: node.name.clone(), recorder: Recorder::default() };
    let log = folder.join(format!("{}-before.log", node.name));
    let pod = StaticPod::follow(node.clone(), life, Mirror::new(node.clone(), log)?).await?;
    let original = node.run(&["sh", "-c", &format!("cat {ORIGINAL} 2>/dev/null || true")], &[]).await?;
    let mut wanted = match original.is_empty() {
        true => {
            let manifest = pod.manifest();
            node.write(ORIGINAL, "600", manifest.text().as_bytes()).await?;
            manifest
        }
        false => Manifest::parse(&original).context(ORIGINAL)?,
    };
    let flags = observed(flags, &wanted);
    wanted.mount("rollproof-lab", CONFIGURATION, false);
    wanted.mount("rollproof-lab-logs", LOGS, true);
    wanted.set_flags(&flags);
    wanted.set_grace_period(Some(grace));
    pod.replace_manifest(wanted).await.with_context(|| format!("cannot give the kube-apiserver on {node} its flags"))
}

/// kubeadm's administrator: the one that no RBAC rule can stop where there is one, and the other one else.
async fn administrator(node: &Node, folder: &Path) -> anyhow::Result<Identity> {
    const SUPER: &str = "/etc/kubernetes/super-admin.conf";
    let kubeconfig = match node.read(SUPER).await {
        Ok(found) => found,
        Err(_) => node.read("/etc/kubernetes/admin.conf").await?,
    };
    let kubeconfig: Value = serde_saphyr::from_str(&kubeconfig).context("kubeadm's kubeconfig is no YAML")?;
    let data = |what: &str| {
        let data = kubeconfig.pointer("/users/0/user").and_then(|user| user[what].as_str());
        data.with_context(|| format!("kubeadm's kubeconfig has no {what}"))
    };
    Identity::adopted("admin", folder, data("client-certificate-data")?, data("client-key-data")?)
}

/// The bearer token that all kube-apiservers of the cluster know, made when it is first asked for.
async fn token(nodes: &[Node], authority: &Authority) -> anyhow::Result<Arc<str>> {
    let file = format!("{CONFIGURATION}/tokens.csv");
    let (token, tokens) = authority.token("rollproof-admin", "system:masters")?;
    let known = nodes[0].run(&["sh", "-c", &format!("cat {file} 2>/dev/null || true")], &[]).await?;
    if let Some((known, _)) = known.split_once(',') {
        return Ok(known.into());
    }
    let tokens = std::fs::read(tokens)?;
    try_join_all(nodes.iter().map(|node| node.write(&file, "600", &tokens))).await?;
    Ok(token)
}

impl Nodes {
    /// Copies what the kubelets have said to this machine, as evidence.
    pub(super) async fn fetch_logs(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            let journal = node.run(&["journalctl", "--unit", "kubelet", "--no-pager", "--lines", "2000"], &[]).await?;
            std::fs::write(self.journal(node), journal)?;
        }
        Ok(())
    }

    /// Those that are there: what they are called as evidence, and where they lie.
    pub(super) fn logs(&self) -> Vec<(String, PathBuf)> {
        let logs = self.nodes.iter().map(|node| (format!("kubelet-{}.log", node.name), self.journal(node)));
        logs.filter(|(_, log)| log.exists()).collect()
    }

    fn journal(&self, node: &Node) -> PathBuf {
        self.folder.join(format!("kubelet-{}.log", node.name))
    }
}

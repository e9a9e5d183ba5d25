//! The control plane `kind`: kubeadm's static pods on nodes in containers, which their kubelets run.
//!
//! The cluster is shared by the scenarios of a cell; what is made here lasts for one of them. Between two scenarios nothing
//! is undone but what the next one wants otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::future::try_join_all;
use serde_json::Value;

use super::apiserver::{Apiserver, Life, Runner, Shared, readyz};
use super::kind::equipment::{self, CONFIGURATION};
use super::kind::{Cluster, Node, pod};
use super::pki::{self, Authority, Identity};
use super::pod::Pod;
use super::static_pod::manifest::Manifest;
use super::static_pod::{FileMirror, Mirror, StaticPod};
use super::{Base, ControlPlane, Flags, audit};
use crate::lab::http::{Endpoint, Named, Roster};
use crate::lab::keeper::Claim;
use crate::lab::network::{self, Site};
use crate::lab::{tls, wait};
use crate::timeline::{Protocol, Recorder};
use crate::timing;

/// What stands in every serving certificate that kubeadm makes, whatever the address that leads to it.
const SERVED_AS: &str = "kubernetes.default.svc";

/// What a control plane on kind stands on.
pub(super) struct Nodes {
    pub(super) cluster: Cluster,
    /// On the first of them.
    pub(super) pod: Pod,
    nodes: Vec<Node>,
    folder: PathBuf,
}

/// The manifest as the cluster was made with it, which each scenario starts from.
const ORIGINAL: &str = "/etc/kubernetes/rollproof-lab/kube-apiserver.original.yaml";

/// Whose image is on every control plane, whoever has made it. By the kube-apiserver's its own containers are known.
const SCHEDULER: &str = "/etc/kubernetes/manifests/kube-scheduler.yaml";

/// The flags of a scenario, and those that our observations need, as far as the manifest has not seen to that itself.
async fn observed(node: &Node, flags: &Flags, manifest: &Manifest) -> Flags {
    let audits = audits_all(node, manifest).await;
    let mut flags = flags.clone();
    for (name, value) in equipment::flags().iter() {
        let theirs_will_do = match name.as_str() {
            "v" => manifest.flag(name).is_some(),
            "audit-policy-file" | "audit-log-path" => audits,
            _ => false,
        };
        if !theirs_will_do {
            flags.set(name, value);
        }
    }
    flags
}

/// Whether an apiserver writes of every request into a log that lies on its node.
async fn audits_all(node: &Node, manifest: &Manifest) -> bool {
    let (Some(policy), Some(log)) = (manifest.flag("audit-policy-file"), manifest.flag("audit-log-path")) else {
        return false;
    };
    let folder = log.rsplit_once('/').map_or("", |(folder, _)| folder);
    let read = |text: &str| serde_saphyr::from_str::<Value>(text).ok();
    manifest.mounts(folder)
        && (manifest.mounts(&policy) || policy.starts_with(&format!("{CONFIGURATION}/")))
        && node.read(&policy).await.is_ok_and(|theirs| read(&theirs) == read(audit::POLICY))
}

/// Takes a cluster into service: its kube-apiservers run with these flags and this grace period, and are ready, and so are its nodes.
///
/// # Errors
/// A node cannot be reached or is not ready, or an apiserver does not come up with the flags; the message says which.
pub(in crate::lab) async fn start(
    claim: &Claim,
    cluster: &Cluster,
    flags: &Flags,
    grace: Duration,
    controllers_through_balancer: bool,
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
    let token = token(&nodes).await?;
    let tls = tls::client_config(&ca, Some((&admin.certificate, &admin.key)))?;

    let mut certificates = Vec::new();
    for node in &nodes {
        certificates.push(pki::digest(&node.read("/etc/kubernetes/pki/apiserver.crt").await?)?);
    }
    let names = (0..nodes.len()).map(|index| format!("apiserver-{index}"));
    let addresses = nodes.iter().map(|node| cluster.apiserver(node).to_string()).zip(names.clone());
    let roster: Arc<Roster> = Arc::new(certificates.iter().cloned().zip(names.clone()).chain(addresses).collect());
    let named = Arc::new(Named { certificate: SERVED_AS.try_into()?, host: SERVED_AS.to_owned() });

    let endpoint = |node: &Node| Endpoint {
        address: cluster.apiserver(node),
        site: Site::default(),
        from: None,
        tls: tls.clone(),
        protocol: Protocol::Http1,
        roster: roster.clone(),
        named: Some(named.clone()),
        token: None,
        plain: false,
    };

    // The last scenario may have cut a node off, whose apiserver its kubelet then ends, and starts again.
    try_join_all(nodes.iter().map(|node| back(node, endpoint(node)))).await?;
    try_join_all(nodes.iter().map(|node| adjust(node, &claim.folder, flags, grace))).await?;
    cluster.controllers_ask(controllers_through_balancer).await?;

    let mut servers: Vec<Shared> = Vec::new();
    for ((node, name), certificate) in nodes.iter().zip(names).zip(certificates) {
        let own_folder = claim.folder.join(&name);
        std::fs::create_dir(&own_folder)?;
        let [log, audit_log] = ["kube-apiserver.log", "audit.log"].map(|file| own_folder.join(file));
        let life = Life { name, recorder: recorder.clone() };
        let pod = StaticPod::follow(node.clone(), life.clone(), Mirror::new(node.clone(), log.clone())?).await?;
        let manifest = pod.manifest();
        let audits = manifest.flag("audit-log-path").context("an apiserver without an audit log")?;
        let audits = FileMirror::new(node.clone(), audits, audit_log.clone()).await?;
        let flags = manifest.flags();
        let runner = Runner::StaticPod { pod, audits };
        servers.push(Arc::new(Apiserver::new(life, endpoint(node), certificate, flags, [log, audit_log], runner)));
    }
    try_join_all(servers.iter().map(|server| server.ready())).await?;
    cluster.ready().await?;
    let scheduler = Manifest::parse(&first.read(SCHEDULER).await?).context(SCHEDULER)?;
    let pod = pod::pod(first, scheduler.image()?);
    let base = Base::Kind(Box::new(Nodes { cluster: cluster.clone(), pod, nodes, folder: claim.folder.clone() }));
    Ok(ControlPlane { servers, roster, ca, ca_file, admin, token, gateway, base })
}

/// Waits until a node's kube-apiserver is ready.
async fn back(node: &Node, endpoint: Endpoint) -> anyhow::Result<()> {
    let mut kept = None;
    let what = format!("the kube-apiserver on {node} to be ready");
    match wait::until(timing::CONTROL_PLANE_READY, &what, async || readyz(&endpoint, &mut kept).await).await {
        Ok(()) => Ok(()),
        Err(error) => Err(anyhow!("{error:#}{}", node.last_words().await)),
    }
}

/// Makes a node's kube-apiserver run with these flags. Nothing of it is recorded: the scenario has not begun.
async fn adjust(node: &Node, folder: &Path, flags: &Flags, grace: Duration) -> anyhow::Result<()> {
    let policy = equipment::audit_policy();
    node.write(&policy.path, "600", policy.content.as_bytes()).await?;
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
    let flags = observed(node, flags, &wanted).await;
    for (name, folder, writable) in equipment::MOUNTS {
        wanted.mount(name, folder, writable);
    }
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

/// The bearer token that all kube-apiservers of the cluster know; made now where the cluster was not made with one.
async fn token(nodes: &[Node]) -> anyhow::Result<Arc<str>> {
    let token = pki::random_token()?;
    let file = equipment::tokens(&token);
    let known = nodes[0].run(&["sh", "-c", &format!("cat {} 2>/dev/null || true", file.path)], &[]).await?;
    if let Some((known, _)) = known.split_once(',') {
        return Ok(known.into());
    }
    try_join_all(nodes.iter().map(|node| node.write(&file.path, "600", file.content.as_bytes()))).await?;
    Ok(token.into())
}

/// Copies what a node's kubelet has said into a folder, as evidence.
///
/// # Errors
/// The node does not hand it over, or it cannot be written.
pub(in crate::lab) async fn fetch_journal(node: &Node, folder: &Path) -> anyhow::Result<()> {
    let said = node.run(&["journalctl", "--unit", "kubelet", "--no-pager", "--lines", "2000"], &[]).await?;
    Ok(std::fs::write(folder.join(journal(node)), said)?)
}

/// What a node's journal is called.
fn journal(node: &Node) -> String {
    format!("kubelet-{}.log", node.name)
}

impl Nodes {
    /// Copies what the kubelets have said to this machine.
    pub(super) async fn fetch_logs(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            fetch_journal(node, &self.folder).await?;
        }
        Ok(())
    }

    /// Those that are there: what they are called as evidence, and where they lie.
    pub(super) fn logs(&self) -> Vec<(String, PathBuf)> {
        let logs = self.nodes.iter().map(|node| (journal(node), self.folder.join(journal(node))));
        logs.filter(|(_, log)| log.exists()).collect()
    }
}

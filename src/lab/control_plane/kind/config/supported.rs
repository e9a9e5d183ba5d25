//! What kind can do and this suite cannot, by name, and patches that would fail or change nothing.

use super::patch::{self, DOCUMENTS};
use super::{IpFamily, KindConfig, KubeadmPatches, ProxyMode, Refusal};

impl KindConfig {
    /// Whether this suite can make such a cluster, and all patches can be read.
    ///
    /// # Errors
    /// [`Refusal::Invalid`]: a patch is none. [`Refusal::NotSupported`]: all that is not, each with what to do.
    pub fn supported(&self) -> Result<(), Refusal> {
        let (mut broken, mut aimless) = (Vec::new(), Vec::new());
        let of_nodes = self.nodes.iter().enumerate().map(|(index, node)| (format!("nodes[{index}]."), &node.patches));
        for (place, patches) in [(String::new(), &self.patches)].into_iter().chain(of_nodes) {
            match check(patches) {
                Ok(problems) => aimless.extend(problems.into_iter().map(|problem| format!("{place}{problem}"))),
                Err(error) => broken.push(format!("{place}{error:#}")),
            }
        }
        broken.extend(patch::check_containerd(self).err().map(|error| format!("{error:#}")));
        if !broken.is_empty() {
            return Err(Refusal::Invalid(broken));
        }
        let problems: Vec<String> = self.features().map(str::to_owned).chain(aimless).collect();
        if problems.is_empty() { Ok(()) } else { Err(Refusal::NotSupported(problems)) }
    }

    fn features(&self) -> impl Iterator<Item = &'static str> {
        let networking = &self.networking;
        let relabelled = self.nodes.iter().flat_map(|node| &node.extra_mounts).any(|mount| mount.selinux_relabel);
        [
            (
                networking.ip_family == IpFamily::Ipv6,
                "networking.ipFamily ipv6: clusters have IPv4 networks of their own, leave it out",
            ),
            (
                networking.ip_family == IpFamily::Dual,
                "networking.ipFamily dual: clusters have IPv4 networks of their own, leave it out",
            ),
            (
                networking.kube_proxy_mode == ProxyMode::Ipvs,
                "networking.kubeProxyMode ipvs: it needs modules of the host's kernel, take iptables",
            ),
            (
                networking.kube_proxy_mode == ProxyMode::Nftables,
                "networking.kubeProxyMode nftables: node images are made for iptables, take that",
            ),
            (
                networking.dns_search.is_some(),
                "networking.dnsSearch: nodes find each other by address and full name, leave it out",
            ),
            (
                networking.api_server_address != "127.0.0.1",
                "networking.apiServerAddress: apiservers are published on 127.0.0.1 only, leave it out",
            ),
            (
                relabelled,
                "extraMounts.selinuxRelabel: mounts are never relabelled, label the folder yourself (chcon -t container_file_t)",
            ),
            (self.further_documents, "a second document: kind reads the first only, give each cluster its file"),
        ]
        .into_iter()
        .filter_map(|(there, what)| there.then_some(what))
    }
}

/// Patches that can be read but are for no document of a kubeadm.conf: kind passes over them in silence.
///
/// # Errors
/// One cannot be read.
fn check(patches: &KubeadmPatches) -> anyhow::Result<Vec<String>> {
    let targets = patch::targets(patches)?.into_iter();
    let aimless = targets.filter(|(_, kind)| !DOCUMENTS.contains(&kind.as_str()));
    let expected = DOCUMENTS.join(", ");
    Ok(aimless
        .map(|(place, kind)| format!("{place}: kind {kind:?} is in no kubeadm.conf, which has {expected}"))
        .collect())
}

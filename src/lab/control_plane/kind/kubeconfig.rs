//! The kubeconfig of a cluster, as kind writes it.

use anyhow::{Context as _, ensure};
use kube::config::Kubeconfig;

/// kubeadm's administrator, from `admin.conf`, for the server at `https://SERVER`, with kind's names: everything is called
/// `kind-CLUSTER`. It contains a key: whoever writes it down gives the file mode 0600.
///
/// # Errors
/// The text is no kubeconfig of one cluster, one user and one context.
pub fn renamed(admin: &str, cluster: &str, server: &str) -> anyhow::Result<Kubeconfig> {
    let mut config = Kubeconfig::from_yaml(admin).context("the cluster's admin.conf is no kubeconfig")?;
    let shape = [config.clusters.len(), config.auth_infos.len(), config.contexts.len()];
    ensure!(shape == [1; 3], "the cluster's admin.conf has {shape:?} clusters, users and contexts, and not one each");
    let name = format!("kind-{cluster}");
    config.clusters[0].name.clone_from(&name);
    config.clusters[0].cluster.get_or_insert_default().server = Some(format!("https://{server}"));
    config.auth_infos[0].name.clone_from(&name);
    config.contexts[0].name.clone_from(&name);
    let context = config.contexts[0].context.get_or_insert_default();
    context.cluster.clone_from(&name);
    context.user = Some(name.clone());
    config.current_context = Some(name);
    Ok(config)
}

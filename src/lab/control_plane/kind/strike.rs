//! The end of clusters: by label, so that it needs to know nothing else about what was made, or was about to be.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::RemoveContainerOptionsBuilder;

use super::docker::{asked, containers, engine, is_missing, label, networks};
use super::names::{HOST_LABEL, LAB_LABEL, host};
use crate::lab::wait;
use crate::timing;

/// Whether an order that Docker has taken may still be under way, because whoever gave it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab) enum Orders {
    /// All were answered.
    Answered,
    /// Perhaps not: what they make may come after we have looked.
    Pending,
}

/// Removes all containers, their anonymous volumes, and all networks of the lab in that folder, and waits until they are gone.
/// For a thread that is in no runtime. Returns how many there were.
///
/// # Errors
/// Docker does not answer, or they do not go.
pub(in crate::lab) fn strike(folder: &Path, orders: Orders) -> anyhow::Result<usize> {
    blocking(async || removed(folder, orders).await)
}

/// The lab folders of all containers and networks that were made on this machine.
///
/// # Errors
/// Docker does not answer.
pub(in crate::lab) fn labs() -> anyhow::Result<BTreeSet<PathBuf>> {
    blocking(async || {
        let (docker, label_of_ours) = (engine().await?, format!("{HOST_LABEL}={}", host()));
        let containers = containers(&docker, &label_of_ours).await?;
        let networks = networks(&docker, Some(&label_of_ours)).await?;
        let labels = containers.iter().map(|it| &it.labels).chain(networks.iter().map(|it| &it.labels));
        Ok(labels.filter_map(|labels| label(labels, LAB_LABEL).map(PathBuf::from)).collect())
    })
}

/// Does something with Docker on a thread of its own: the caller may be in a runtime, or be one.
pub(super) fn blocking<T: Send>(work: impl AsyncFnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let alone = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work());
    std::thread::scope(|scope| scope.spawn(alone).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn removed(folder: &Path, orders: Orders) -> anyhow::Result<usize> {
    let docker = engine().await?;
    let label = format!("{LAB_LABEL}={}", folder.display());
    let mut found = BTreeSet::new();
    let mut empty_since: Option<tokio::time::Instant> = None;
    wait::until(timing::CLUSTER_STRUCK, "containers and networks to be gone", async || {
        let left = match remove(&docker, &label).await {
            Ok(left) => left,
            Err(error) => return ControlFlow::Break(Err(error)),
        };
        if !left.is_empty() {
            empty_since = None;
            let status = left.join(", ");
            found.extend(left);
            return ControlFlow::Continue(status);
        }
        let since = *empty_since.get_or_insert_with(tokio::time::Instant::now);
        match orders {
            Orders::Pending if since.elapsed() < timing::DOCKER_ORDER => ControlFlow::Continue("none".to_owned()),
            _ => ControlFlow::Break(Ok(())),
        }
    })
    .await
    .flatten()
    .with_context(|| format!("cannot remove what carries the label {label}"))?;
    Ok(found.len())
}

/// Removes what can be removed now. Returns what there was, by name.
async fn remove(docker: &Docker, label: &str) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    let containers = containers(docker, label).await?;
    // One after the other: two that leave a network together can lock up a Docker engine older than 23 for good (moby/moby#42545).
    for id in containers.iter().filter_map(|container| container.id.as_deref()) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        // Somebody else may be removing it too: the next look will tell.
        let _ = asked("a removal", docker.remove_container(id, Some(options))).await;
    }
    left.extend(containers.into_iter().filter_map(|container| container.names?.into_iter().next()));
    if !left.is_empty() {
        return Ok(left);
    }
    for network in networks(docker, Some(label)).await? {
        let (name, id) = (network.name.unwrap_or_default(), network.id.unwrap_or_default());
        match docker.remove_network(&id).await {
            Ok(()) => left.push(format!("network {name}")),
            Err(error) if is_missing(&error) => {}
            Err(error) => left.push(format!("network {name} ({error})")),
        }
    }
    Ok(left)
}

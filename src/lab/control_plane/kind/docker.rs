//! The Docker engine, as testcontainers finds it (`DOCKER_HOST`, or the usual sockets).

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use testcontainers::TestcontainersError;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::models::{ContainerSummary, Network, SystemInfoCgroupVersionEnum};
use testcontainers::bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder};
use testcontainers::core::client::{ClientError, docker_client_instance};

use crate::timing;

/// A client of the engine. Its connections belong to the runtime that uses them, so whoever may outlive that asks anew.
///
/// # Errors
/// There is none; with what to do.
pub(super) async fn engine() -> anyhow::Result<Docker> {
    docker_client_instance().await.map_err(|error| match error {
        ClientError::Init(error) => no_engine(&error),
        other => no_engine(&other),
    })
}

/// Why clusters cannot be made here; `None`: they can.
pub fn unmet() -> Option<String> {
    let answer = async || asked("its version", engine().await?.version()).await.map(drop);
    super::strike::blocking(answer).err().map(|error| format!("{error:#}"))
}

/// Whether the engine's machine has cgroup v1.
pub(super) async fn has_cgroup_v1() -> anyhow::Result<bool> {
    let info = asked("its machine", engine().await?.info()).await?;
    Ok(info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_1))
}

/// An answer of the engine, within [`timing::DOCKER_ANSWER`]. `what` completes "asked Docker for ...".
///
/// # Errors
/// As it says itself, or it does not say anything.
pub(super) async fn asked<T>(what: &str, answer: impl Future<Output = Result<T, Error>>) -> anyhow::Result<T> {
    within(timing::DOCKER_ANSWER, what, answer).await
}

/// [`asked`] with another limit.
///
/// # Errors
/// As [`asked`].
pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    answer: impl Future<Output = Result<T, Error>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(worded).with_context(|| format!("asked Docker for {what}")),
        Err(_) => bail!("Docker has not answered for {limit:?}, asked for {what}"),
    }
}

/// What the engine says, without the clients' own words around it.
pub(super) fn worded(error: Error) -> anyhow::Error {
    match error {
        Error::DockerResponseServerError { message, .. } => anyhow!(message.trim().to_owned()),
        error @ (Error::SocketNotFoundError(_) | Error::HyperLegacyError { .. } | Error::HyperResponseError { .. }) => {
            no_engine(&error)
        }
        other => other.into(),
    }
}

/// The same for what testcontainers has asked.
pub(super) fn worded_by_testcontainers(error: TestcontainersError) -> anyhow::Error {
    match error {
        TestcontainersError::Client(
            ClientError::CreateContainer(error)
            | ClientError::StartContainer(error)
            | ClientError::InspectContainer(error),
        ) => worded(error),
        other => other.into(),
    }
}

/// Whether the engine says that there is no such thing.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

fn no_engine(error: &dyn Display) -> anyhow::Error {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    anyhow!("no Docker engine answers at {host} ({error}); is it running, and may you use it? `docker info` tells")
}

/// All containers, running or not, that carry a label.
pub(super) async fn containers(docker: &Docker, label: &str) -> anyhow::Result<Vec<ContainerSummary>> {
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    asked("its containers", docker.list_containers(Some(options))).await
}

/// All networks that carry a label; all that there are, where it is `None`.
pub(super) async fn networks(docker: &Docker, label: Option<&str>) -> anyhow::Result<Vec<Network>> {
    let filters: HashMap<&str, Vec<&str>> = label.map(|label| ("label", vec![label])).into_iter().collect();
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    asked("its networks", docker.list_networks(Some(options))).await
}

/// The value of a label.
pub(super) fn label<'a>(labels: &'a Option<HashMap<String, String>>, name: &str) -> Option<&'a str> {
    labels.as_ref()?.get(name).map(String::as_str)
}

//! One node: a container in which a kubelet runs, and how to act in it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::exec::{CreateExecOptions, StartExecResults};
use testcontainers::bollard::models::{
    ContainerInspectResponse, EndpointIpamConfig, EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest,
};
use testcontainers::bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptions, StopContainerOptionsBuilder,
};
use tokio::io::AsyncWriteExt as _;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::container;
use super::docker::{asked, engine, worded};
use super::names::Role;
use super::strike::blocking;
use crate::lab::wait;
use crate::timing;

/// A container of a cluster. It holds no connection, so that it can be shared by tests with runtimes of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The container's name, which is its host name, and the Kubernetes node's.
    pub name: String,
    /// What it is to its cluster.
    pub role: Role,
    /// Its address in the cluster's network.
    pub address: IpAddr,
}

/// How a command in a node has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i64,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it complained of.
    pub stderr: String,
}

impl Node {
    /// A container as Docker describes it; `None` where it has no address: it does not run.
    pub(super) async fn inspect(name: &str, role: Role) -> anyhow::Result<Option<Self>> {
        let found = inspect(name).await?;
        let address = networks(&found).find_map(|endpoint| endpoint.ip_address.as_ref()?.parse::<Ipv4Addr>().ok());
        Ok(address.map(|address| Self { name: name.to_owned(), role, address: address.into() }))
    }

    /// Runs a command to its end, gives it `stdin`, and returns what it wrote.
    ///
    /// # Errors
    /// It ended with another code than 0, with the end of what it wrote; it did not end within
    /// [`timing::NODE_COMMAND`]; Docker cannot run it.
    pub async fn run(&self, command: &[&str], stdin: &[u8]) -> anyhow::Result<String> {
        self.run_within(timing::NODE_COMMAND, command, stdin).await
    }

    /// [`Node::run`] with another limit.
    ///
    /// # Errors
    /// As [`Node::run`].
    pub async fn run_within(&self, limit: Duration, command: &[&str], stdin: &[u8]) -> anyhow::Result<String> {
        let Ran { code, stdout, stderr } = self.exec(limit, command, stdin).await?;
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        if code != 0 {
            let said = if stderr.trim().is_empty() { &stdout } else { &stderr };
            bail!("{} on {self} ended with code {code}:\n{}", shown(command), last_lines(said));
        }
        Ok(stdout)
    }

    /// Runs a command to its end, however it ends.
    ///
    /// # Errors
    /// It did not end in time, or Docker cannot run it.
    pub async fn exec(&self, limit: Duration, command: &[&str], stdin: &[u8]) -> anyhow::Result<Ran> {
        match tokio::time::timeout(limit, self.exec_to_its_end(command, stdin)).await {
            Ok(ran) => ran,
            Err(_) => bail!("{} on {self} has not ended within {limit:?}", shown(command)),
        }
    }

    async fn exec_to_its_end(&self, command: &[&str], stdin: &[u8]) -> anyhow::Result<Ran> {
        let docker = engine().await?;
        let options = CreateExecOptions {
            attach_stdin: Some(!stdin.is_empty()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let failed = || format!("cannot run {} on {self}", shown(command));
        let id = asked("a command in a node", docker.create_exec(&self.name, options)).await.with_context(failed)?.id;
        let started = asked("its start", docker.start_exec(&id, None)).await.with_context(failed)?;
        let StartExecResults::Attached { mut output, mut input } = started else { bail!(failed()) };
        let write = async {
            // A command that has ended without reading all of it says itself what was wrong.
            let _ = input.write_all(stdin).await;
            let _ = input.shutdown().await;
        };
        let read = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some(piece) = output.try_next().await.map_err(worded)? {
                match piece {
                    LogOutput::StdErr { message } => stderr.extend_from_slice(&message),
                    other => stdout.extend_from_slice(&other.into_bytes()),
                }
            }
            anyhow::Ok((stdout, String::from_utf8_lossy(&stderr).into_owned()))
        };
        let ((), read) = tokio::join!(write, read);
        let (stdout, stderr) = read.with_context(failed)?;
        let ended = asked("a command's exit code", docker.inspect_exec(&id)).await.with_context(failed)?;
        let code = ended.exit_code.with_context(|| format!("{} on {self} has no exit code", shown(command)))?;
        Ok(Ran { code, stdout, stderr })
    }

    /// Writes a file: beside it first and then moved into place, so that a kubelet that watches the folder never sees half of
    /// one. The folder is made where it is missing; the mode is octal, for example `600`.
    ///
    /// # Errors
    /// As [`Node::run`].
    pub async fn write(&self, path: &str, mode: &str, content: &[u8]) -> anyhow::Result<()> {
        // A kubelet passes over names that begin with a dot, and over no others.
        const WRITE: &str = "set -e; mkdir -p \"${1%/*}\"; new=\"${1%/*}/.${1##*/}.new\"; \
                             (umask 077; cat > \"$new\"); chmod \"$2\" \"$new\"; mv \"$new\" \"$1\"";
        self.run(&["sh", "-c", WRITE, "write", path, mode], content).await.map(drop)
    }

    /// The contents of a file.
    ///
    /// # Errors
    /// As [`Node::run`].
    pub async fn read(&self, path: &str) -> anyhow::Result<String> {
        self.run(&["cat", path], &[]).await
    }

    /// What a command writes to stdout, line by line, until it ends or the stream is dropped; then the command ends too.
    ///
    /// # Errors
    /// Docker cannot run it.
    pub async fn follow(
        &self,
        command: &[&str],
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<String>> + Unpin + use<>> {
        /// Docker ends no command whose reader has gone. But it closes its stdin.
        const UNTIL_STDIN_ENDS: &str = "exec 3<&0; \"$@\" </dev/null 3<&- & command=$!; \
                                        (cat <&3; kill $command) >/dev/null 2>&1 & wait $command";
        let docker = engine().await?;
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            cmd: Some([&["sh", "-c", UNTIL_STDIN_ENDS, "follow"], command].concat()),
            ..CreateExecOptions::default()
        };
        let failed = || format!("cannot follow {} on {self}", shown(command));
        let id = asked("a command in a node", docker.create_exec(&self.name, options)).await.with_context(failed)?.id;
        let started = asked("its start", docker.start_exec(&id, None)).await.with_context(failed)?;
        let StartExecResults::Attached { output, input } = started else { bail!(failed()) };
        let bytes = output.map_ok(LogOutput::into_bytes).map_err(|error| std::io::Error::other(worded(error)));
        let lines = FramedRead::new(StreamReader::new(bytes), LinesCodec::new());
        // The stream keeps our end of stdin.
        Ok(Box::pin(lines.map(move |line| {
            let _ = &input;
            line.map_err(Into::into)
        })))
    }

    /// Kills the container, and with it everything in it, as a machine dies that loses its power.
    ///
    /// # Errors
    /// It does not run, or Docker refuses.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let options = None::<KillContainerOptions>;
        asked(&format!("the end of {self}"), engine().await?.kill_container(&self.name, options)).await
    }

    /// Asks the container to end, and kills it after [`timing::COMMAND_STOP`].
    ///
    /// # Errors
    /// Docker refuses.
    pub async fn stop(&self) -> anyhow::Result<()> {
        let options = StopContainerOptionsBuilder::new().t(timing::COMMAND_STOP.as_secs() as i32).build();
        asked(&format!("the end of {self}"), engine().await?.stop_container(&self.name, Some(options))).await
    }

    /// Says so if the container does not run.
    ///
    /// # Errors
    /// It does not; or Docker does not tell.
    pub async fn expect_running(&self) -> anyhow::Result<()> {
        let state = inspect(&self.name).await?.state.unwrap_or_default();
        ensure!(state.running == Some(true), "{self} has ended with code {}", state.exit_code.unwrap_or_default());
        Ok(())
    }

    /// [`Node::expect_running`] for whoever cannot wait.
    ///
    /// # Errors
    /// As that.
    pub fn check_running(&self) -> anyhow::Result<()> {
        blocking(async || self.expect_running().await)
    }

    /// The end of what its container has printed, as far as that can be had.
    pub async fn last_log(&self) -> String {
        container::log(&self.name).await
    }

    /// All that its container has printed, as far as that can be had.
    pub async fn whole_log(&self) -> String {
        container::tail(&self.name, "all").await
    }

    /// The network that it is in, by id.
    ///
    /// # Errors
    /// It is in none.
    pub(super) async fn network(&self) -> anyhow::Result<String> {
        let found = inspect(&self.name).await?;
        let id = networks(&found).find_map(|endpoint| endpoint.network_id.clone());
        id.with_context(|| format!("{self} is in no network"))
    }

    /// Starts the container again, at the address that it had. In a network whose subnet Docker has chosen (a cluster that was
    /// adopted) that is so only while no other node is down.
    ///
    /// # Errors
    /// Docker refuses.
    pub async fn start(&self) -> anyhow::Result<()> {
        self.claim_address().await.with_context(|| format!("cannot give {self} its address {} again", self.address))?;
        asked(&format!("the start of {self}"), engine().await?.start_container(&self.name, None)).await
    }

    /// Waits until containerd answers in it, after a start.
    ///
    /// # Errors
    /// The container has ended, or it does not within [`timing::NODE_UP`].
    pub(in crate::lab::control_plane) async fn until_up(&self) -> anyhow::Result<()> {
        container::up(&self.name).await?;
        wait::until(timing::NODE_UP, &format!("containerd to answer on {self}"), async || {
            match self.run(&["ctr", "version"], &[]).await {
                Ok(_) => ControlFlow::Break(()),
                Err(error) => ControlFlow::Continue(format!("{error:#}")),
            }
        })
        .await
    }

    /// Testcontainers cannot ask for an address when it creates a container, and Docker gives the lowest that is free. So
    /// before it starts again, the container is connected anew to the network it is in, now with its address.
    async fn claim_address(&self) -> anyhow::Result<()> {
        let docker = engine().await?;
        let found = inspect(&self.name).await?;
        let Some(endpoint) = networks(&found).next() else { return Ok(()) };
        let Some(network) = endpoint.network_id.as_deref() else { return Ok(()) };
        let claimed = |config: &EndpointIpamConfig| config.ipv4_address == Some(self.address.to_string());
        let running = found.state.as_ref().and_then(|state| state.running) == Some(true);
        if running || endpoint.ipam_config.as_ref().is_some_and(claimed) || !has_own_subnet(network).await? {
            return Ok(());
        }
        let leave = NetworkDisconnectRequest { container: self.name.clone(), force: Some(true) };
        asked("a disconnection", docker.disconnect_network(network, leave)).await?;
        let config =
            EndpointIpamConfig { ipv4_address: Some(self.address.to_string()), ..EndpointIpamConfig::default() };
        let endpoint = EndpointSettings {
            ipam_config: Some(config),
            aliases: endpoint.aliases.clone(),
            ..EndpointSettings::default()
        };
        let join = NetworkConnectRequest { container: self.name.clone(), endpoint_config: Some(endpoint) };
        asked("a connection", docker.connect_network(network, join)).await
    }

    /// The last lines of its kubelet's journal, for an error message; empty where they cannot be had.
    pub(in crate::lab::control_plane) async fn last_words(&self) -> String {
        const WORDS: &[&str] = &["journalctl", "--unit=kubelet", "--lines=12", "--no-pager", "--output=cat", "--quiet"];
        match self.run(WORDS, &[]).await {
            Ok(words) if !words.trim().is_empty() => format!("\nits kubelet's last words:\n{}", last_lines(&words)),
            Ok(_) => "\nits kubelet has said nothing".to_owned(),
            Err(_) => String::new(),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A container as Docker knows it.
pub(super) async fn inspect(name: &str) -> anyhow::Result<ContainerInspectResponse> {
    let options = None::<InspectContainerOptions>;
    asked(&format!("the container {name}"), engine().await?.inspect_container(name, options)).await
}

fn networks(container: &ContainerInspectResponse) -> impl Iterator<Item = &EndpointSettings> {
    container.network_settings.iter().filter_map(|settings| settings.networks.as_ref()).flat_map(HashMap::values)
}

/// Whether somebody has named the subnet: then Docker lets containers ask for an address in it.
async fn has_own_subnet(network: &str) -> anyhow::Result<bool> {
    let found = asked("a network", engine().await?.inspect_network(network, None)).await?;
    Ok(found.labels.is_some_and(|labels| labels.contains_key(super::names::LAB_LABEL)))
}

/// A command as an error shows it.
fn shown(command: &[&str]) -> String {
    // A script is long, and what follows it are its name and arguments.
    let words = if command.starts_with(&["sh", "-c"]) { command.get(3..).unwrap_or(&[]) } else { command };
    if words.is_empty() { command[2..].join(" ") } else { words.join(" ") }
}

/// The end of a long text.
pub(super) fn last_lines(text: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

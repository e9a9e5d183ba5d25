//! A pod that sessions lead into, whoever runs it.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::lab::NAMESPACE;

/// A container that says one line at its start, and nothing more until it is told to.
#[derive(Clone, Debug)]
pub struct Quiet {
    /// What it is called.
    pub container: String,
    log: PathBuf,
}

impl Quiet {
    /// One that has said its first line, into a new log.
    pub(super) async fn start(log: PathBuf) -> io::Result<Self> {
        let quiet = Self { container: "quiet".to_owned(), log };
        quiet.speak().await?;
        Ok(quiet)
    }

    /// Its log, as a container runtime writes it.
    pub(super) fn log(&self) -> &std::path::Path {
        &self.log
    }

    /// Has it say a line.
    ///
    /// # Errors
    /// Its log cannot be written.
    pub async fn speak(&self) -> io::Result<()> {
        let mut log = tokio::fs::OpenOptions::new().create(true).append(true).open(&self.log).await?;
        log.write_all(logged("here").as_bytes()).await?;
        log.flush().await
    }
}

/// A line on stdout, as a container runtime writes it down.
pub(super) fn logged(line: &str) -> String {
    format!("{} stdout F {line}\n", jiff::Timestamp::now())
}

/// A pod that sessions lead into. It says a line every [`HEARTBEAT_EVERY`](crate::timing::HEARTBEAT_EVERY).
#[derive(Clone, Debug)]
pub struct Pod {
    /// Where it is.
    pub namespace: String,
    /// What it is called.
    pub name: String,
    /// Its container that says all that.
    pub container: String,
    /// Another, where there is one.
    pub quiet: Option<Quiet>,
    /// A command to execute in it that says each line again.
    pub echo: Vec<String>,
    /// A port of it on which each byte comes back.
    pub port: u16,
    /// The collection and the object, in the order in which they are to be created.
    objects: Vec<(String, Value)>,
}

impl Pod {
    /// One whose `spec` has one container, without a name yet; more have theirs.
    pub(super) fn new(echo: &[&str], port: u16, mut spec: Value) -> Self {
        let (name, container) = ("pod", "container");
        spec["automountServiceAccountToken"] = json!(false);
        spec["containers"][0]["name"] = json!(container);
        Self {
            namespace: NAMESPACE.to_owned(),
            name: name.to_owned(),
            container: container.to_owned(),
            quiet: None,
            echo: echo.iter().map(|word| (*word).to_owned()).collect(),
            port,
            objects: vec![(
                format!("/api/v1/namespaces/{NAMESPACE}/pods"),
                json!({"metadata": {"name": name}, "spec": spec}),
            )],
        }
    }

    /// With something that has to be there before it.
    #[must_use]
    pub(super) fn with_object(mut self, collection: String, object: Value) -> Self {
        self.objects.insert(self.objects.len() - 1, (collection, object));
        self
    }

    /// With another container, in its `spec` already.
    #[must_use]
    pub(super) fn with_quiet(self, quiet: Quiet) -> Self {
        Self { quiet: Some(quiet), ..self }
    }

    /// The same pod, of which the other container is meant.
    #[must_use]
    pub fn by_its_quiet_container(&self) -> Option<Self> {
        self.quiet.as_ref().map(|quiet| Self { container: quiet.container.clone(), ..self.clone() })
    }

    /// What has to be created for it to exist, and in which collection, in that order.
    pub(in crate::lab) fn objects(&self) -> &[(String, Value)] {
        &self.objects
    }

    /// Where it is asked for.
    pub(in crate::lab) fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}

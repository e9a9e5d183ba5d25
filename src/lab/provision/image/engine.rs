//! What provisioning asks of the Docker engine: whether it has an image, to pull one, to take one in.
//!
//! Blocking, as all provisioning is: a runtime of its own, and none of the caller's.

use std::io::{self, BufWriter, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::models::ErrorDetail;
use testcontainers::bollard::query_parameters::{CreateImageOptionsBuilder, ImportImageOptions};
use testcontainers::core::client::{ClientError, docker_client_instance};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{Interval, interval, timeout};

use super::super::Failure;
use crate::timing::{ENGINE_ANSWER, IMAGE_LOAD_LIMIT, IMAGE_PULL_STALL, PROGRESS_EVERY};

/// An engine that answers.
pub(super) struct Engine {
    docker: Docker,
    runtime: Runtime,
}

/// An image in the engine.
pub(super) struct Found {
    /// `sha256:...`, of its configuration.
    pub(super) id: String,
    /// What registries call it: `kindest/node@sha256:...`.
    pub(super) repository_digests: Vec<String>,
}

impl Engine {
    /// # Errors
    /// Nobody answers there; and what to do.
    pub(super) fn connect(host: Option<&str>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = runtime.block_on(async {
            let docker = match host {
                Some(host) => Docker::connect_with_host(host).map_err(|error| error.to_string())?,
                None => docker_client_instance().await.map_err(|error| match error {
                    ClientError::Init(error) => error.to_string(),
                    other => other.to_string(),
                })?,
            };
            // Its own limit is for a request as a whole; each of ours has one.
            let docker = docker.with_timeout(IMAGE_LOAD_LIMIT);
            match timeout(ENGINE_ANSWER, docker.ping()).await {
                Ok(Ok(_)) => Ok(docker),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} s", ENGINE_ANSWER.as_secs())),
            }
        });
        match asked {
            Ok(docker) => Ok(Self { docker, runtime }),
            Err(error) => Err(anyhow!(
                "no Docker engine answers ({error}): install and start one (`ci/docker-engine` does, in a checkout on Debian), or \
                 set DOCKER_HOST to where it listens"
            )),
        }
    }

    /// The image of this name, if the engine has it.
    ///
    /// # Errors
    /// The engine fails.
    pub(super) fn find(&self, name: &str) -> anyhow::Result<Option<Found>> {
        let asked = self.runtime.block_on(async { timeout(ENGINE_ANSWER, self.docker.inspect_image(name)).await });
        match asked.with_context(|| format!("the Docker engine does not say whether it has {name}"))? {
            Ok(image) => Ok(Some(Found {
                id: image.id.with_context(|| format!("the Docker engine gives {name} no id"))?,
                repository_digests: image.repo_digests.unwrap_or_default(),
            })),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("asked the Docker engine for {name}")),
        }
    }

    /// Has the engine fetch an image from its registry: `NAME:TAG`, or `NAME@sha256:...`, which it then holds it to.
    pub(super) fn pull(&self, name: &str, progress: &dyn Fn(&str)) -> Result<(), Failure> {
        let options = CreateImageOptionsBuilder::default().from_image(name).build();
        let steps = self.docker.create_image(Some(options), None, None);
        let steps = steps.map(|step| step.map(|step| (step.status, step.error_detail)));
        self.runtime.block_on(follow(steps, &format!("pulling {name}"), IMAGE_PULL_STALL, progress))
    }

    /// Has the engine take in what `write` writes, as `docker load` does. Nothing is left of an archive that ends early.
    pub(super) fn load(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
        progress: &dyn Fn(&str),
    ) -> Result<(), Failure> {
        let (sender, receiver) = mpsc::channel(8);
        let writer = thread::spawn(move || {
            let mut body = BufWriter::with_capacity(1 << 20, Body(sender.clone()));
            if let Err(error) = write(&mut body).and_then(|()| body.flush()) {
                // A body that only ended would be a whole one.
                let _ = sender.blocking_send(Err(error));
            }
        });
        let chunks = stream::unfold(receiver, async |mut from| from.recv().await.map(|chunk| (chunk, from)));
        let steps = self.docker.import_image_stream(ImportImageOptions::default(), chunks, None);
        let steps = steps.map(|step| step.map(|step| (step.status, step.error_detail)));
        let ended = self.runtime.block_on(follow(steps, &format!("loading {name}"), IMAGE_LOAD_LIMIT, progress));
        // Where the engine has hung up, the receiver is gone, and the writer fails.
        let _ = writer.join();
        ended
    }
}

/// A body that a thread writes.
struct Body(mpsc::Sender<io::Result<Bytes>>);

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what the engine says of something that it does, until it has done it. `stall` bounds its silence.
async fn follow(
    steps: impl Stream<Item = Result<(Option<String>, Option<ErrorDetail>), Error>>,
    doing: &str,
    stall: Duration,
    progress: &dyn Fn(&str),
) -> Result<(), Failure> {
    let mut steps = std::pin::pin!(steps);
    let (began, mut every) = (Instant::now(), ticks());
    let (mut heard, mut last) = (Instant::now(), String::new());
    loop {
        let step = tokio::select! {
            step = steps.next() => step,
            _ = every.tick() => {
                if heard.elapsed() > stall {
                    return Err(Failure::Unavailable(format!("{doing}: nothing heard for {} s", stall.as_secs())));
                }
                if began.elapsed() >= PROGRESS_EVERY {
                    let said = if last.is_empty() { String::new() } else { format!(" ({last})") };
                    progress(&format!("{doing}: {} s so far{said}", began.elapsed().as_secs()));
                }
                continue;
            }
        };
        heard = Instant::now();
        match step {
            None => return Ok(()),
            Some(Ok((_, Some(ErrorDetail { message, .. })))) => {
                return Err(failure(message.unwrap_or_default()));
            }
            Some(Ok((status, None))) => last = status.unwrap_or(last),
            Some(Err(Error::DockerResponseServerError { message, .. })) => return Err(failure(message)),
            Some(Err(Error::DockerStreamError { error })) => return Err(failure(error)),
            Some(Err(error)) => return Err(failure(error.to_string())),
        }
    }
}

fn ticks() -> Interval {
    interval(PROGRESS_EVERY)
}

/// What the engine complains of: a full disk is to be seen to, anything else may go another way.
fn failure(message: String) -> Failure {
    let message = message.trim().to_owned();
    if message.contains("no space left on device") {
        return Failure::Fatal(anyhow!(
            "the Docker engine's disk is full ({message}): free about 2 GB there (`docker system df` says what is on it)"
        ));
    }
    Failure::Unavailable(message)
}

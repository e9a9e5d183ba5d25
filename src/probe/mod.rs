//! The actors. A probe acts and records; it never asserts.
//!
//! [`Probes::start`] returns when every probe is ready and has its samples "before"; [`Probes::stop`] waits for the samples
//! "after", lets the writer end with a fence write, and the watches until they have seen the fence. What the subject does
//! to a probe, a hang included, is an observation and never an `Err`: an error here is one of the lab.

mod cluster;
mod gateway;
mod guarded;
mod in_flight;
pub mod kube_client;
mod kube_requester;
mod load;
mod reader;
mod requester;
mod server_health;
mod sessions;
mod ticker;
pub mod timers;
pub mod trigger;
mod watch;
mod watch_list;
mod watcher;
mod writer;

pub use cluster::{ClusterProbe, cluster};
pub use gateway::{GatewayClients, gateway_clients};
pub use guarded::{GuardedWriters, guarded_writers};
pub use in_flight::{InFlightProbe, in_flight};
pub use kube_requester::{KubeRequester, kube_requests};
pub use load::{LoadProbe, WORKERS, Workers, load};
pub use reader::{Reader, reads};
pub use requester::{Requester, requests};
pub use server_health::{ServerHealthProbe, server_health};
pub use sessions::{SessionsProbe, sessions};
pub use ticker::Ticker;
pub use timers::{TimersProbe, careful_clients, careless_clients, timers};
pub use trigger::{TriggerProbe, trigger};
pub use watch::{RawWatch, watch};
pub use watch_list::{WatchList, watch_list};
pub use watcher::{WatcherProbe, watcher};
pub use writer::{Writer, write};

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::bail;
use futures::future::{BoxFuture, LocalBoxFuture};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::lab::{Lab, wait};
use crate::timeline::{Event, Observers, Recorder};
use crate::timing::{self, Bounds};

/// An actor that has not started yet.
pub trait Probe: Send {
    /// Starts it. Returns when it is ready to observe.
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>>;
}

/// An actor at work.
pub trait Running: Send {
    /// Its name, in every observation unless it has several [`Running::observers`].
    fn name(&self) -> &str;

    /// The names in its observations. Each of them leaves one, whatever the subject does.
    fn observers(&self) -> Vec<String> {
        vec![self.name().to_owned()]
    }

    /// How many good samples it has so far.
    fn samples(&self) -> u64;

    /// Ends it. A writer is stopped without a fence and returns one; the others are given the fence.
    fn stop(self: Box<Self>, fence: Option<Fence>) -> BoxFuture<'static, Option<Fence>>;

    /// Does nothing by itself for a while, or goes on: whoever makes changes has to be able to.
    fn rest(&self, _resting: bool) {}

    /// Whether it takes samples, so that a scenario has to wait until there are enough.
    fn takes_samples(&self) -> bool {
        true
    }

    /// Whether it is to be stopped before the others, because it makes what they observe.
    fn makes_the_fence(&self) -> bool {
        false
    }
}

/// The last write of a run: a watch that has seen it has seen everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The [`crate::timeline::Write::change`] of the last acknowledged write.
    pub change: u64,
}

/// A count of good samples that a probe's tasks share.
#[derive(Clone, Default)]
pub(crate) struct Samples(Arc<AtomicU64>);

impl Samples {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The probes of one scenario: first put together, then started together.
#[derive(Default)]
pub struct Probes {
    idle: Vec<Box<dyn Probe>>,
}

/// Probes at work.
#[must_use = "stop() makes the recording whole"]
pub struct Observing {
    running: Vec<Box<dyn Running>>,
    samples: u64,
}

impl Probes {
    /// Adds a probe.
    #[must_use]
    pub fn with(mut self, probe: impl Probe + 'static) -> Self {
        self.idle.push(Box::new(probe));
        self
    }

    /// Starts all of them. Returns when each is ready and has seen its first samples.
    ///
    /// # Errors
    /// One could not start, or saw nothing good: then the lab is broken, since nothing has been disturbed yet.
    pub async fn start(self, lab: &Lab) -> anyhow::Result<Observing> {
        let running = futures::future::try_join_all(self.idle.into_iter().map(|probe| probe.start(lab))).await?;
        let mut names: Vec<&str> = running.iter().map(|probe| probe.name()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("two probes are called {}: their observations could not be told apart", twice[0]);
        }
        let samples = u64::from(Bounds::with(&lab.setup().timers).samples);
        let observing = Observing { running, samples };
        observing.sampled(timing::PROBE_READY, &vec![samples * 2; observing.running.len()]).await?;
        let probes = observing.running.iter().flat_map(|probe| probe.observers()).collect();
        lab.recorder().record(Event::Observers(Observers { probes }));
        Ok(observing)
    }
}

impl Observing {
    /// Goes on observing until each probe has this many more good samples.
    ///
    /// # Errors
    /// One does not get them.
    pub async fn go_on(&self, samples: u64) -> anyhow::Result<()> {
        self.sampled(timing::PROBE_SETTLED, &self.with_more(samples)).await
    }

    /// Observes for that long, and nobody changes anything meanwhile.
    pub async fn rest(&self, span: std::time::Duration) {
        self.running.iter().for_each(|probe| probe.rest(true));
        self.watch_for(span).await;
        self.running.iter().for_each(|probe| probe.rest(false));
    }

    /// Observes for that long.
    pub async fn watch_for(&self, span: std::time::Duration) {
        tokio::time::sleep_until(tokio::time::Instant::now() + span).await;
    }

    /// Goes on observing until each probe has its samples "after"; then stops all of them.
    ///
    /// A probe that gets no good sample any more is no error: that is what its observations say.
    ///
    /// # Errors
    /// None today; the signature leaves room for probes whose end can fail.
    pub async fn stop(self) -> anyhow::Result<()> {
        let _ = self.sampled(timing::PROBE_SETTLED, &self.with_more(self.samples * 2)).await;
        let (writers, others): (Vec<_>, Vec<_>) = self.running.into_iter().partition(|probe| probe.makes_the_fence());
        let mut fence = None;
        for writer in writers {
            fence = writer.stop(None).await.or(fence);
        }
        futures::future::join_all(others.into_iter().map(|probe| probe.stop(fence.clone()))).await;
        Ok(())
    }

    /// How many samples each probe has when it has got this many more than now. Twice the least number that a judge wants in
    /// a stretch is enough: it counts more strictly than we do.
    fn with_more(&self, samples: u64) -> Vec<u64> {
        self.running.iter().map(|probe| probe.samples() + samples).collect()
    }

    async fn sampled(&self, limit: std::time::Duration, wanted: &[u64]) -> anyhow::Result<()> {
        wait::until(limit, "every probe to have its samples", async || {
            let mut sampling = self.running.iter().zip(wanted).filter(|(probe, _)| probe.takes_samples());
            let short = sampling.find(|(probe, wanted)| probe.samples() < **wanted);
            match short {
                None => ControlFlow::Break(()),
                Some((probe, wanted)) => {
                    ControlFlow::Continue(format!("{} has {} of {wanted}", probe.name(), probe.samples()))
                }
            }
        })
        .await
    }
}

/// Looks every [`timing::LOOK_EVERY`] until `look` finds something; `None` when `limit` is over. Where a probe's task may
/// wait, which [`wait::until`] cannot be part of: its future is not Send for every closure.
async fn found_within<T, Look>(limit: std::time::Duration, mut look: impl FnMut() -> Look) -> Option<T>
where
    Look: Future<Output = Option<T>>,
{
    let mut looks = tokio::time::interval(timing::LOOK_EVERY);
    let looking = async {
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(limit, looking).await.ok()
}

/// The Audit-IDs of everything that the probes have asked for.
pub fn audit_ids(recorder: &Recorder) -> BTreeSet<String> {
    let asked: Vec<Vec<String>> = recorder.collect(|seen| {
        Some(match &seen.event {
            Event::Request(request) => {
                let attempts = request.attempts.iter().map(|attempt| attempt.exchange.audit_id.clone());
                attempts.chain([request.exchange.audit_id.clone()]).collect()
            }
            Event::Write(write) => vec![write.exchange.audit_id.clone()],
            Event::Read(read) => vec![read.exchange.audit_id.clone()],
            Event::GuardedUpdate(update) => vec![update.exchange.audit_id.clone()],
            Event::ListWatch(call) => vec![call.audit_id.clone()],
            Event::Load(load) => vec![load.exchange.audit_id.clone()],
            Event::InFlight(held) => vec![held.audit_id.clone()],
            Event::GatewayStream(stream) => vec![stream.audit_id.clone()],
            Event::Session(session) => vec![session.audit_id.clone()],
            _ => return None,
        })
    });
    asked.into_iter().flatten().filter(|id| !id.is_empty()).collect()
}

/// Audit-IDs of one probe: unique in a run and beyond.
#[derive(Clone)]
pub(crate) struct AuditIds {
    prefix: String,
    last: Arc<AtomicU64>,
}

impl AuditIds {
    pub(crate) fn of(probe: &str) -> Self {
        let run = crate::timeline::Moment::now().0 / 1_000_000;
        Self { prefix: format!("rollproof-{probe}-{run:x}"), last: Arc::default() }
    }

    pub(crate) fn next(&self) -> String {
        format!("{}-{}", self.prefix, self.last.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a probe has running. It is told to end when this is dropped, too.
#[derive(Default)]
struct Tasks {
    end: CancellationToken,
    running: TaskTracker,
}

impl Tasks {
    /// Tells all to end, and waits until they have.
    async fn stop(&self) {
        self.end.cancel();
        self.running.close();
        self.running.wait().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

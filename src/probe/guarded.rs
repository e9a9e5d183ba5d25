//! Two writers that share a counter and guard it by optimistic locking, as leader election and every controller with a status do: each reads
//! it, adds one, and writes it back with the resourceVersion that it has read (kubernetes.io, API concepts, "Resource versions").
//!
//! ```text
//! guarded-0 reads 7 at revision 810; guarded-1 reads the same
//! guarded-0 writes 8 in place of 810: 200, revision 814
//! guarded-1 writes 8 in place of 810: 409               ->  it has lost nothing: it reads 8 at revision 814 next time
//! both have ended, and the counter is 8 at revision 814
//! ```
//!
//! Writes are never repeated: what became of one whose answer is lost, only the counter tells.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use futures::future::{BoxFuture, LocalBoxFuture};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::requester::schedule;
use super::{AuditIds, Fence, Probe, Running, Samples, Tasks, found_within};
use crate::lab::http::{Ask, Connection, Endpoint};
use crate::lab::{GUARDED_NAMESPACE as NAMESPACE, Lab};
use crate::timeline::{Event, GuardedLeft, GuardedUpdate, Moment, Recorder};
use crate::timing;

const NAME: &str = "guarded";

/// The counter.
const COUNTER: &str = "counter";

/// Writers of a shared counter, to be.
pub struct GuardedWriters;

/// Two writers of a shared counter, through the balancer, each on a kept connection: `guarded-0` and `guarded-1`, every
/// [`timing::GUARDED_EVERY`].
pub fn guarded_writers() -> GuardedWriters {
    GuardedWriters
}

impl Probe for GuardedWriters {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let servers: Vec<Endpoint> = lab.servers().iter().map(|server| server.endpoint.clone()).collect();
            prepare(&servers[0]).await?;
            let (tasks, recorder) = (Tasks::default(), lab.recorder().clone());
            let samples = timing::GUARDED_EVERY.map(|_| Samples::default());
            for (number, every) in timing::GUARDED_EVERY.into_iter().enumerate() {
                let name = writer(number);
                let pen = Pen {
                    audit_ids: AuditIds::of(&name),
                    name,
                    to: lab.through_balancer(),
                    kept: None,
                    recorder: recorder.clone(),
                    samples: samples[number].clone(),
                };
                tasks.running.spawn(pen.count_until(every, tasks.end.clone()));
            }
            Ok(Box::new(RunningWriters { tasks, samples, servers: servers.into(), recorder }) as Box<dyn Running>)
        })
    }
}

struct RunningWriters {
    tasks: Tasks,
    samples: [Samples; 2],
    servers: Arc<[Endpoint]>,
    recorder: Recorder,
}

impl Running for RunningWriters {
    fn name(&self) -> &'static str {
        NAME
    }

    fn observers(&self) -> Vec<String> {
        (0..self.samples.len()).map(writer).collect()
    }

    /// Acknowledged updates of the one that has fewer.
    fn samples(&self) -> u64 {
        self.samples.iter().map(Samples::count).min().unwrap_or(0)
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            // Each request has its own timeout, so this ends.
            self.tasks.stop().await;
            // Where nobody answers, the recording does not have it, and nothing is upheld.
            if let Some(left) = left(&self.servers).await {
                self.recorder.record(Event::GuardedLeft(left));
            }
            None
        })
    }
}

/// One of the writers.
struct Pen {
    name: String,
    to: Endpoint,
    kept: Option<Connection>,
    recorder: Recorder,
    audit_ids: AuditIds,
    samples: Samples,
}

/// The counter, as far as we read it.
#[derive(Deserialize)]
struct Counter {
    metadata: Metadata,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

#[derive(Deserialize)]
struct Data {
    count: String,
}

impl Counter {
    /// Its revision and count.
    fn read(body: &[u8]) -> Option<(u64, u64)> {
        let Self { metadata, data } = serde_json::from_slice(body).ok()?;
        Some((metadata.resource_version.parse().ok()?, data.count.parse().ok()?))
    }
}

impl Pen {
    async fn count_until(mut self, every: Duration, end: CancellationToken) {
        let mut schedule = schedule(every);
        while end.run_until_cancelled(schedule.tick()).await.is_some() {
            if let Some((revision, count)) = self.read().await {
                self.update(revision, count + 1).await;
            }
        }
    }

    /// The counter's revision and count. A read that meets a closed connection, or a stopping server's refusal, is repeated once.
    async fn read(&mut self) -> Option<(u64, u64)> {
        let mut read = async || {
            let ask = Ask::get(&counter(), self.audit_ids.next(), &self.name);
            let (exchange, body) = self.to.exchange(&mut self.kept, &ask).await;
            let again = exchange.may_be_repeated(timing::CLOSE_NOTICED);
            if again {
                self.kept = None;
            }
            (Counter::read(&body).filter(|_| exchange.succeeded()), again)
        };
        match read().await {
            (None, true) => read().await.0,
            (found, _) => found,
        }
    }

    async fn update(&mut self, replaces: u64, count: u64) {
        let metadata = json!({"name": COUNTER, "resourceVersion": replaces.to_string()});
        let body = Bytes::from(json!({"metadata": metadata, "data": {"count": count.to_string()}}).to_string());
        let ask = Ask::new(Method::PUT, counter(), body, self.audit_ids.next(), &self.name);
        let began = Moment::now();
        let (exchange, answer) = self.to.exchange(&mut self.kept, &ask).await;
        let revision = Counter::read(&answer).map(|(revision, _)| revision).filter(|_| exchange.succeeded());
        if exchange.succeeded() {
            self.samples.add_one();
        }
        if exchange.refused_for_now() {
            self.kept = None;
        }
        let (probe, object) = (self.name.clone(), COUNTER.to_owned());
        let update = GuardedUpdate { probe, object, replaces, count, revision, exchange };
        self.recorder.record_at(began, Event::GuardedUpdate(update));
    }
}

/// What a writer is called.
fn writer(number: usize) -> String {
    format!("{NAME}-{number}")
}

fn counter() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{COUNTER}")
}

/// A namespace, and the counter in it.
async fn prepare(server: &Endpoint) -> anyhow::Result<()> {
    let (mut kept, audit_ids) = (None, AuditIds::of("guarded-prepare"));
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    let counter = json!({"metadata": {"name": COUNTER}, "data": {"count": "0"}});
    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    for (collection, object) in [("/api/v1/namespaces", namespace), (&maps, counter)] {
        let body = Bytes::from(object.to_string());
        let ask = Ask::new(Method::POST, collection.to_owned(), body, audit_ids.next(), NAME);
        let (exchange, answer) = server.exchange(&mut kept, &ask).await;
        if exchange.status != Some(201) {
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let why = exchange.failure.map_or(answer, |failure| failure.text);
            bail!("cannot create {collection}/{}: {why}", object["metadata"]["name"]);
        }
    }
    Ok(())
}

/// The counter, asked past the balancer until one apiserver answers; `None` if none does.
async fn left(servers: &[Endpoint]) -> Option<GuardedLeft> {
    let mut turn = servers.iter().cycle();
    found_within(timing::LOAD_LISTED, || {
        let server = turn.next();
        async move {
            let ask = Ask::get(&counter(), AuditIds::of("guarded-left").next(), NAME);
            let (exchange, body) = server?.exchange(&mut None, &ask).await;
            let (revision, count) = Counter::read(&body).filter(|_| exchange.succeeded())?;
            Some(GuardedLeft { object: COUNTER.to_owned(), count, revision })
        }
    })
    .await
}

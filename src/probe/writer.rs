//! The writer: changes objects past the balancer, so that there is always something for a watch to deliver.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::future::{BoxFuture, LocalBoxFuture};
use http::Method;
use serde::Deserialize;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{AuditIds, Fence, Probe, Running, Samples};
use crate::lab::http::{Ask, Connection, Endpoint};
use crate::lab::{Lab, NAMESPACE};
use crate::timeline::{Effect, Event, Moment, Recorder, Verb, Write};
use crate::timing;

/// How many objects stand at the same time, so that a relist has something to show.
const STANDING: usize = 5;

/// A writer to be: every [`timing::REQUEST_EVERY`], past the balancer. It keeps to one apiserver until that fails it, then
/// goes on to the next, and never writes the same change twice.
pub struct Writer {
    every: std::time::Duration,
    /// The apiserver that it begins with.
    first: usize,
}

/// A writer of ConfigMaps past the balancer.
pub fn write() -> Writer {
    Writer { every: timing::REQUEST_EVERY, first: 0 }
}

impl Writer {
    /// How often it writes.
    #[must_use]
    pub fn every(self, every: std::time::Duration) -> Self {
        Self { every, ..self }
    }

    /// Which apiserver it keeps to until that fails it: one that will not be disturbed, where writing is to go on.
    #[must_use]
    pub fn at(self, first: usize) -> Self {
        Self { first, ..self }
    }
}

impl Probe for Writer {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let samples = Samples::default();
            let end = CancellationToken::new();
            let pen = Pen {
                servers: lab.servers().iter().map(|server| server.endpoint.clone()).collect(),
                server: self.first,
                kept: None,
                standing: VecDeque::new(),
                last_change: 0,
                last_visible: None,
                recorder: lab.recorder().clone(),
                audit_ids: AuditIds::of(NAME),
                samples: samples.clone(),
                resting: Arc::default(),
            };
            let resting = pen.resting.clone();
            let task = tokio::spawn(pen.write_until(self.every, end.clone()));
            Ok(Box::new(RunningWriter { samples, resting, end, task: Some(task) }) as Box<dyn Running>)
        })
    }
}

const NAME: &str = "writer";

struct RunningWriter {
    samples: Samples,
    resting: Arc<AtomicBool>,
    end: CancellationToken,
    task: Option<tokio::task::JoinHandle<Option<Fence>>>,
}

impl Running for RunningWriter {
    fn name(&self) -> &'static str {
        NAME
    }

    fn samples(&self) -> u64 {
        self.samples.count()
    }

    fn stop(mut self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        let task = self.task.take();
        self.end.cancel();
        Box::pin(async move { task?.await.ok()? })
    }

    fn rest(&self, resting: bool) {
        self.resting.store(resting, Ordering::Relaxed);
    }

    fn makes_the_fence(&self) -> bool {
        true
    }
}

impl Drop for RunningWriter {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

struct Pen {
    servers: Vec<Endpoint>,
    /// The one in use.
    server: usize,
    kept: Option<Connection>,
    /// Objects that have not been deleted, oldest first.
    standing: VecDeque<String>,
    last_change: u64,
    /// The last acknowledged change that an event carries.
    last_visible: Option<u64>,
    recorder: Recorder,
    audit_ids: AuditIds,
    samples: Samples,
    /// Whether it is to write nothing for a while.
    resting: Arc<AtomicBool>,
}

/// The part of an answer that we read.
#[derive(Deserialize)]
struct Answer {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

impl Pen {
    /// Writes until told to end, then writes the fence: on schedule until an attempt at it is acknowledged. Where none is in
    /// time, the last acknowledged change that a watch can have seen stands for it.
    async fn write_until(mut self, every: std::time::Duration, end: CancellationToken) -> Option<Fence> {
        let mut schedule = tokio::time::interval(every);
        schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while end.run_until_cancelled(schedule.tick()).await.is_some() {
            if self.resting.load(Ordering::Relaxed) {
                continue;
            }
            let (verb, object) = self.next();
            if verb == Verb::Delete {
                self.standing.pop_front();
            }
            self.write(verb, object).await;
        }
        let begun = Moment::now();
        while Moment::now().since(begun) < timing::FENCE_WRITTEN {
            let object = format!("fence-{}", self.last_change + 1);
            if self.write(Verb::Create, object).await == Effect::Certain {
                break;
            }
            schedule.tick().await;
        }
        self.last_visible.map(|change| Fence { change })
    }

    /// Every object is created, updated twice while younger ones come, and deleted when [`STANDING`] others stand. Its name
    /// is never used again, so that a delivered delete can be told from every other.
    fn next(&mut self) -> (Verb, String) {
        let change = self.last_change + 1;
        match change % 4 {
            1 => {
                let object = format!("object-{change}");
                self.standing.push_back(object.clone());
                (Verb::Create, object)
            }
            0 if self.standing.len() > STANDING => (Verb::Delete, self.standing[0].clone()),
            _ => {
                let youngest = self.standing.len() - 1;
                let oldest_or_youngest = if change % 4 == 2 { youngest } else { 0 };
                (Verb::Update, self.standing[oldest_or_youngest].clone())
            }
        }
    }

    async fn write(&mut self, verb: Verb, object: String) -> Effect {
        self.last_change += 1;
        let change = self.last_change;
        let collection = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
        let (method, path) = match verb {
            Verb::Create => (Method::POST, collection),
            Verb::Update => (Method::PUT, format!("{collection}/{object}")),
            Verb::Delete => (Method::DELETE, format!("{collection}/{object}")),
        };
        let body = match verb {
            Verb::Delete => Bytes::new(),
            _ => {
                let map = serde_json::json!({"metadata": {"name": object}, "data": {"change": change.to_string()}});
                Bytes::from(map.to_string())
            }
        };
        let ask = Ask::new(method, path, body, self.audit_ids.next(), NAME);

        let began = Moment::now();
        let (exchange, body) = self.servers[self.server].exchange(&mut self.kept, &ask).await;
        let answer: Option<Answer> = serde_json::from_slice(&body).ok();
        let revision = answer.and_then(|answer| answer.metadata.resource_version.parse().ok());
        let revision = revision.filter(|_| verb != Verb::Delete);
        let write = Write { probe: NAME.to_owned(), change, verb, object, revision, exchange };
        let effect = write.effect();
        self.recorder.record_at(began, Event::Write(write));
        if effect == Effect::Certain {
            self.samples.add_one();
            // A delete's event carries the change before it.
            self.last_visible = Some(change).filter(|_| verb != Verb::Delete).or(self.last_visible);
        } else {
            self.server = (self.server + 1) % self.servers.len();
            self.kept = None;
        }
        effect
    }
}

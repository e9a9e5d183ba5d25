//! A requester: asks for the same object again and again, on new connections or on a kept one.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, LocalBoxFuture};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{AuditIds, Fence, Probe, Running, Samples};
use crate::lab::http::{Ask, Connection, Endpoint};
use crate::lab::{Lab, NAMESPACE, PROBED};
use crate::timeline::{ConnectionKind, Event, Moment, Phase, Recorder, Request};
use crate::timing;

/// A requester to be. Through the balancer, every [`timing::REQUEST_EVERY`].
pub struct Requester {
    on: ConnectionKind,
    every: Duration,
    /// The apiserver whose node it runs on, if any.
    node: Option<u8>,
}

/// A requester on new connections.
pub fn requests() -> Requester {
    Requester { on: ConnectionKind::New, every: timing::REQUEST_EVERY, node: None }
}

impl Requester {
    /// Each request opens its own connection. They start on schedule, whatever became of those before.
    #[must_use]
    pub fn on_new_connections(self) -> Self {
        Self { on: ConnectionKind::New, ..self }
    }

    /// All requests use one connection, which is replaced when it breaks. A request that meets a closed connection is
    /// repeated once on a fresh one, as HTTP clients do.
    #[must_use]
    pub fn on_a_reused_connection(self) -> Self {
        Self { on: ConnectionKind::Reused, ..self }
    }

    /// It runs on the node of that apiserver, which a balancer may tell by its source address.
    #[must_use]
    pub fn from_node(self, index: u8) -> Self {
        Self { node: Some(index), ..self }
    }

    /// How often it asks.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }
}

impl Probe for Requester {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let name = match self.on {
                ConnectionKind::New => "requester-new",
                ConnectionKind::Reused => "requester-reused",
            };
            let name = self.node.map_or_else(|| name.to_owned(), |index| format!("{name}-on-node-{index}"));
            let at_work = Arc::new(AtWork {
                audit_ids: AuditIds::of(&name),
                name,
                on: self.on,
                to: self.node.map_or_else(|| lab.through_balancer(), |index| lab.from_node(index)),
                recorder: lab.recorder().clone(),
                samples: Samples::default(),
            });
            let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
            match self.on {
                ConnectionKind::New => tasks.spawn(at_work.clone().on_new(self.every, end.clone(), tasks.clone())),
                ConnectionKind::Reused => tasks.spawn(at_work.clone().on_kept(self.every, end.clone())),
            };
            Ok(Box::new(RunningRequester { at_work, end, tasks }) as Box<dyn Running>)
        })
    }
}

struct RunningRequester {
    at_work: Arc<AtWork>,
    end: CancellationToken,
    tasks: TaskTracker,
}

impl Running for RunningRequester {
    fn name(&self) -> &str {
        &self.at_work.name
    }

    fn samples(&self) -> u64 {
        self.at_work.samples.count()
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            self.end.cancel();
            self.tasks.close();
            // Each request has its own timeout, so this ends.
            self.tasks.wait().await;
            None
        })
    }
}

impl Drop for RunningRequester {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

struct AtWork {
    name: String,
    on: ConnectionKind,
    to: Endpoint,
    recorder: Recorder,
    audit_ids: AuditIds,
    samples: Samples,
}

impl AtWork {
    async fn on_new(self: Arc<Self>, every: Duration, end: CancellationToken, tasks: TaskTracker) {
        let mut schedule = schedule(every);
        while end.run_until_cancelled(schedule.tick()).await.is_some() {
            let own = self.clone();
            tasks.spawn(async move {
                own.ask(&mut None, None).await;
            });
        }
    }

    async fn on_kept(self: Arc<Self>, every: Duration, end: CancellationToken) {
        let mut schedule = schedule(every);
        let mut kept = None;
        while end.run_until_cancelled(schedule.tick()).await.is_some() {
            if let Some(closed) = self.ask(&mut kept, None).await {
                self.ask(&mut kept, Some(closed)).await;
            }
        }
    }

    /// One request. Returns its Audit-ID if the kept connection turned out to be closed before any byte of an answer.
    async fn ask(&self, kept: &mut Option<Connection>, retries: Option<String>) -> Option<String> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{PROBED}");
        let ask = Ask::get(&path, self.audit_ids.next(), &self.name);
        let began = Moment::now();
        let (exchange, _) = self.to.exchange(kept, &ask).await;
        if exchange.succeeded() {
            self.samples.add_one();
        }
        let reused = exchange.connection.as_ref().is_some_and(|connection| connection.reused);
        let closed = reused && exchange.failure.is_some() && exchange.phase == Phase::Headers;
        let request = Request { probe: self.name.clone(), on: self.on, retries, exchange };
        self.recorder.record_at(began, Event::Request(request));
        closed.then_some(ask.audit_id)
    }
}

fn schedule(every: Duration) -> tokio::time::Interval {
    let mut schedule = tokio::time::interval(every);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
    schedule
}

//! A requester: asks for the same object again and again, on new connections or on a kept one, by HTTP/1.1 or HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, LocalBoxFuture};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{AuditIds, Fence, Probe, Running, Samples, Tasks};
use crate::lab::http::{Ask, Connection, Endpoint};
use crate::lab::{Lab, NAMESPACE, PROBED};
use crate::timeline::{ConnectionKind, Event, Moment, Protocol, Recorder, Request};
use crate::timing;

/// A requester to be. Through the balancer, every [`timing::REQUEST_EVERY`].
pub struct Requester {
    on: Connections,
    over: Protocol,
    every: Duration,
    /// The apiserver whose node it runs on, if any.
    node: Option<u8>,
}

/// A requester's connections.
#[derive(Clone, Copy)]
enum Connections {
    New,
    Kept,
}

/// A requester on new connections, by HTTP/1.1.
pub fn requests() -> Requester {
    Requester { on: Connections::New, over: Protocol::Http1, every: timing::REQUEST_EVERY, node: None }
}

impl Requester {
    /// Each request opens its own connection. They start on schedule, whatever became of those before.
    #[must_use]
    pub fn on_new_connections(self) -> Self {
        Self { on: Connections::New, ..self }
    }

    /// All requests use one connection, which is replaced when it breaks. A request that meets a closed connection, or a
    /// GOAWAY that leaves it out (RFC 9113, 6.8), or a stopping server's refusal, is repeated once on a fresh one, as HTTP
    /// clients do: [`Exchange::may_be_repeated`](crate::timeline::Exchange::may_be_repeated).
    #[must_use]
    pub fn on_a_reused_connection(self) -> Self {
        Self { on: Connections::Kept, ..self }
    }

    /// By HTTP/2 instead of HTTP/1.1. A kept connection is one connection there too: one request at a time.
    #[must_use]
    pub fn over_http2(self) -> Self {
        Self { over: Protocol::Http2, ..self }
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
            let (name, on) = match (self.on, self.over) {
                (Connections::New, Protocol::Http1) => ("requester-new", ConnectionKind::New),
                (Connections::Kept, Protocol::Http1) => ("requester-reused", ConnectionKind::Reused),
                (Connections::New, Protocol::Http2) => ("requester-new-http2", ConnectionKind::New),
                (Connections::Kept, Protocol::Http2) => ("requester-reused-http2", ConnectionKind::Reused),
            };
            let name = self.node.map_or_else(|| name.to_owned(), |index| format!("{name}-on-node-{index}"));
            let to = self.node.map_or_else(|| lab.through_balancer(), |index| lab.from_node(index));
            let at_work = Arc::new(AtWork {
                audit_ids: AuditIds::of(&name),
                name,
                on,
                to: to.over(self.over),
                recorder: lab.recorder().clone(),
                samples: Samples::default(),
            });
            let tasks = Tasks::default();
            let (running, end) = (&tasks.running, tasks.end.clone());
            match self.on {
                Connections::New => running.spawn(at_work.clone().on_new(self.every, end, running.clone())),
                Connections::Kept => running.spawn(at_work.clone().on_kept(self.every, end)),
            };
            Ok(Box::new(RunningRequester { at_work, tasks }) as Box<dyn Running>)
        })
    }
}

struct RunningRequester {
    at_work: Arc<AtWork>,
    tasks: Tasks,
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
            // Each request has its own timeout, so this ends.
            self.tasks.stop().await;
            None
        })
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

    /// One request. Returns its Audit-ID if the kept connection turned out to be closed before any byte of an answer, or to
    /// lead to a server that is stopping; that connection is not kept.
    async fn ask(&self, kept: &mut Option<Connection>, retries: Option<String>) -> Option<String> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{PROBED}");
        let ask = Ask::get(&path, self.audit_ids.next(), &self.name);
        let began = Moment::now();
        let (exchange, _) = self.to.exchange(kept, &ask).await;
        if exchange.succeeded() {
            self.samples.add_one();
        }
        let again = exchange.may_be_repeated(timing::CLOSE_NOTICED);
        if again {
            *kept = None;
        }
        let request = Request { probe: self.name.clone(), on: self.on, retries, exchange, attempts: Vec::new() };
        self.recorder.record_at(began, Event::Request(request));
        again.then_some(ask.audit_id)
    }
}

pub(super) fn schedule(every: Duration) -> tokio::time::Interval {
    let mut schedule = tokio::time::interval(every);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
    schedule
}

//! The load of the OpenShift report: workers, each on a kept connection of its own, that create a ServiceAccount, a Secret
//! and a ConfigMap, get each and delete each, again and again; and one that lists all ConfigMaps. Or all of them only read.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use futures::future::{BoxFuture, LocalBoxFuture};
use http::Method;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::{AuditIds, Fence, Probe, Running, Samples, Tasks, found_within};
use crate::lab::http::{Ask, Connection, Endpoint};
use crate::lab::remote::Target;
use crate::lab::{LOAD_NAMESPACE, Lab};
use crate::timeline::{Effect, Event, Load, LoadLeft, LoadVerb, Moment, Protocol, Recorder};
use crate::timing;

/// What a worker creates in each cycle, by resource.
const RESOURCES: [&str; 3] = ["serviceaccounts", "secrets", "configmaps"];

/// How many workers the report has.
pub const WORKERS: usize = 10;

/// A load to be.
#[derive(Clone, Debug)]
pub struct LoadProbe {
    workers: usize,
    every: Duration,
    read_only: bool,
    over: Protocol,
    namespace: String,
}

/// The report's load: ten workers through the balancer, a step each [`timing::LOAD_STEP_EVERY`].
pub fn load() -> LoadProbe {
    LoadProbe {
        workers: WORKERS,
        every: timing::LOAD_STEP_EVERY,
        read_only: false,
        over: Protocol::Http1,
        namespace: LOAD_NAMESPACE.to_owned(),
    }
}

impl LoadProbe {
    /// How many workers run the cycle.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// How long a worker waits between two steps.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Nothing is changed: the workers get their namespace instead.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// In a lab: by HTTP/2, as client-go does, each worker still on a connection of its own.
    #[must_use]
    pub fn over_http2(self) -> Self {
        Self { over: Protocol::Http2, ..self }
    }

    /// Where it works. The namespace has to be there.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self }
    }

    /// Starts the workers. Each step goes to `sink`, with the moment it began.
    pub fn begin(&self, to: &Target, sink: impl Fn(Moment, Load) + Send + Sync + 'static) -> Workers {
        let (tasks, samples) = (Tasks::default(), Samples::default());
        let sink: Sink = Arc::new(sink);
        let worker = |name: String| Worker {
            audit_ids: AuditIds::of(&name),
            name,
            namespace: self.namespace.clone(),
            to: to.clone(),
            kept: None,
            sink: sink.clone(),
            samples: samples.clone(),
        };
        let mut names = Vec::new();
        for number in 0..self.workers {
            // Spread over one period, so that they do not all knock at once.
            let first = Instant::now() + self.every * number as u32 / self.workers as u32;
            let pace = Pace { every: self.every, first, end: tasks.end.clone() };
            names.push(format!("load-{number}"));
            let worker = worker(names[number].clone());
            match self.read_only {
                true => tasks.running.spawn(worker.get_namespace(pace)),
                false => tasks.running.spawn(worker.cycle(pace)),
            };
        }
        let pace = Pace { every: timing::LOAD_LIST_EVERY, first: Instant::now(), end: tasks.end.clone() };
        names.push("load-list".to_owned());
        tasks.running.spawn(worker(names[self.workers].clone()).list(pace));
        Workers { tasks, samples, names }
    }
}

type Sink = Arc<dyn Fn(Moment, Load) + Send + Sync>;

/// Workers at work, until told to end or dropped.
pub struct Workers {
    tasks: Tasks,
    samples: Samples,
    names: Vec<String>,
}

impl Workers {
    /// How many steps went well.
    pub fn samples(&self) -> u64 {
        self.samples.count()
    }

    /// Ends them: each finishes its cycle, and deletes once more what may be left of it.
    pub async fn end(&self) {
        // Each request has its own timeout, so this ends.
        self.tasks.stop().await;
    }
}

struct Pace {
    every: Duration,
    first: Instant,
    end: CancellationToken,
}

impl Pace {
    fn schedule(&self) -> tokio::time::Interval {
        let mut schedule = interval_at(self.first, self.every);
        schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
        schedule
    }
}

/// An object of a worker.
struct Object {
    resource: &'static str,
    name: String,
    /// An answer about it was lost: it may exist or not.
    doubtful: bool,
}

struct Worker {
    name: String,
    namespace: String,
    to: Target,
    kept: Option<Connection>,
    audit_ids: AuditIds,
    sink: Sink,
    samples: Samples,
}

impl Worker {
    /// Creates one of each, gets each, deletes each; what could not be deleted is owed to the next cycle. One that has begun
    /// is finished.
    async fn cycle(mut self, pace: Pace) {
        let mut schedule = pace.schedule();
        let mut owed: Vec<Object> = Vec::new();
        let mut number = 0;
        while !pace.end.is_cancelled() {
            number += 1;
            let mut objects = Vec::new();
            for resource in RESOURCES {
                schedule.tick().await;
                let mut object = Object { resource, name: format!("{}-{number}", self.name), doubtful: false };
                match self.step(LoadVerb::Create, &object).await {
                    Effect::Never => continue,
                    Effect::Maybe => object.doubtful = true,
                    Effect::Certain => {}
                }
                objects.push(object);
            }
            for object in &objects {
                schedule.tick().await;
                self.step(LoadVerb::Get, object).await;
            }
            owed.append(&mut objects);
            owed = self.delete(owed, &mut schedule).await;
        }
        self.delete(owed, &mut schedule).await;
    }

    /// Deletes objects; returns those that may still be there.
    async fn delete(&mut self, objects: Vec<Object>, schedule: &mut tokio::time::Interval) -> Vec<Object> {
        let mut owed = Vec::new();
        for mut object in objects {
            schedule.tick().await;
            match self.step(LoadVerb::Delete, &object).await {
                Effect::Certain => {}
                // Refused for now, or never sent.
                Effect::Never => owed.push(object),
                Effect::Maybe => {
                    object.doubtful = true;
                    owed.push(object);
                }
            }
        }
        owed
    }

    async fn get_namespace(mut self, pace: Pace) {
        let object = Object { resource: "namespaces", name: self.namespace.clone(), doubtful: false };
        let mut schedule = pace.schedule();
        while pace.end.run_until_cancelled(schedule.tick()).await.is_some() {
            self.step(LoadVerb::Get, &object).await;
        }
    }

    async fn list(mut self, pace: Pace) {
        let all = Object { resource: "configmaps", name: String::new(), doubtful: false };
        let mut schedule = pace.schedule();
        while pace.end.run_until_cancelled(schedule.tick()).await.is_some() {
            self.step(LoadVerb::List, &all).await;
        }
    }

    /// One step. Where the kept connection turns out to be closed, or to lead to a stopping server that refuses, a fresh one
    /// gets one try: always if not a byte had been sent or the server refused, else only if the request is idempotent
    /// (RFC 9110, 9.2.2). A create whose bytes may have left is not repeated.
    async fn step(&mut self, verb: LoadVerb, object: &Object) -> Effect {
        let first = self.attempt(verb, object, None, object.doubtful).await;
        let not_applied = first.exchange.unsent || first.exchange.refused_for_now();
        if !(first.exchange.may_be_repeated(timing::CLOSE_NOTICED) && (not_applied || verb != LoadVerb::Create)) {
            return effect(&first);
        }
        self.kept = None;
        let doubtful = object.doubtful || (verb == LoadVerb::Delete && !not_applied);
        let second = self.attempt(verb, object, Some(first.exchange.audit_id.clone()), doubtful).await;
        // If the first may have taken effect, its repetition's failure does not say that it did not.
        match effect(&second) {
            Effect::Never if !not_applied => Effect::Maybe,
            effect => effect,
        }
    }

    async fn attempt(
        &mut self,
        verb: LoadVerb,
        object: &Object,
        retries: Option<String>,
        may_be_missing: bool,
    ) -> Load {
        let ask = self.ask(verb, object);
        let began = Moment::now();
        let (exchange, _) = self.to.exchange(&mut self.kept, ask).await;
        let load = Load {
            worker: self.name.clone(),
            verb,
            resource: object.resource.to_owned(),
            object: object.name.clone(),
            retries,
            may_be_missing,
            exchange,
        };
        if load.succeeded() {
            self.samples.add_one();
        }
        (self.sink)(began, load.clone());
        load
    }

    fn ask(&self, verb: LoadVerb, object: &Object) -> Ask {
        let Object { resource, name, .. } = object;
        let collection = match *resource {
            "namespaces" => "/api/v1/namespaces".to_owned(),
            resource if verb == LoadVerb::List => format!("/api/v1/{resource}"),
            resource => format!("/api/v1/namespaces/{}/{resource}", self.namespace),
        };
        let (method, path) = match verb {
            LoadVerb::Create => (Method::POST, collection),
            LoadVerb::Get => (Method::GET, format!("{collection}/{name}")),
            LoadVerb::Delete => (Method::DELETE, format!("{collection}/{name}")),
            LoadVerb::List => (Method::GET, collection),
        };
        let body = match verb {
            LoadVerb::Create => Bytes::from(serde_json::json!({"metadata": {"name": name}}).to_string()),
            _ => Bytes::new(),
        };
        Ask::new(method, path, body, self.audit_ids.next(), "rollproof-load")
    }
}

/// Whether a step took effect; a 404 where the object may be missing ends the doubt.
fn effect(load: &Load) -> Effect {
    if load.succeeded() { Effect::Certain } else { load.exchange.effect() }
}

impl Probe for LoadProbe {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            create_namespace(&lab.servers()[0].endpoint, &self.namespace).await?;
            let recorder = lab.recorder().clone();
            let workers = self.begin(&Target::Endpoint(lab.through_balancer().over(self.over)), {
                let recorder = recorder.clone();
                move |began, load| recorder.record_at(began, Event::Load(load))
            });
            let servers = lab.servers().iter().map(|server| server.endpoint.clone()).collect();
            Ok(Box::new(RunningLoad { workers, servers, namespace: self.namespace, recorder }) as Box<dyn Running>)
        })
    }
}

struct RunningLoad {
    workers: Workers,
    servers: Vec<Endpoint>,
    namespace: String,
    recorder: Recorder,
}

impl Running for RunningLoad {
    fn name(&self) -> &'static str {
        "load"
    }

    fn observers(&self) -> Vec<String> {
        self.workers.names.clone()
    }

    fn samples(&self) -> u64 {
        self.workers.samples()
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            self.workers.end().await;
            // Where nobody answers, the recording has no list, and the ledger's verdict is inconclusive.
            if let Some(objects) = left(&self.servers, &self.namespace).await {
                self.recorder.record(Event::LoadLeft(LoadLeft { objects }));
            }
            None
        })
    }
}

async fn create_namespace(server: &Endpoint, name: &str) -> anyhow::Result<()> {
    let body = Bytes::from(serde_json::json!({"metadata": {"name": name}}).to_string());
    let audit_id = AuditIds::of("load-namespace").next();
    let ask = Ask::new(Method::POST, "/api/v1/namespaces".to_owned(), body, audit_id, "rollproof-load");
    let (exchange, answer) = server.exchange(&mut None, &ask).await;
    if exchange.status != Some(201) {
        let why =
            exchange.failure.map_or_else(|| String::from_utf8_lossy(&answer).into_owned(), |failure| failure.text);
        bail!("cannot create the load's namespace {name}: {why}");
    }
    Ok(())
}

/// Resource and name of all that exists in a namespace, asked past the balancer.
async fn left(servers: &[Endpoint], namespace: &str) -> Option<Vec<(String, String)>> {
    let mut objects = Vec::new();
    for resource in RESOURCES {
        let path = format!("/api/v1/namespaces/{namespace}/{resource}");
        for name in names(servers, &path).await? {
            objects.push((resource.to_owned(), name));
        }
    }
    Some(objects)
}

/// The names in a collection, asked past the balancer until one apiserver answers; `None` if none does.
pub(super) async fn names(servers: &[Endpoint], path: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
    }

    let mut turn = servers.iter().cycle();
    found_within(timing::LOAD_LISTED, || {
        let server = turn.next();
        async move {
            let ask = Ask::get(path, AuditIds::of("left").next(), "rollproof-load");
            let (exchange, body) = server?.exchange(&mut None, &ask).await;
            let list: List = serde_json::from_slice(&body).ok().filter(|_| exchange.succeeded())?;
            Some(list.items.into_iter().map(|item| item.metadata.name).collect())
        }
    })
    .await
}

//! Clients of gateways: watches, requests and quiet streams through every gateway of the lab, told apart by what else is on the
//! gateway's upstream connections.
//!
//! In each lane a gateway has one client with one connection. Of watches and quiet streams there is one on each apiserver, so whichever
//! is lost, one of each is on it, and one is not.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::future::{BoxFuture, LocalBoxFuture};
use http::Method;
use tokio::sync::{Mutex, watch as latest};

use super::gateway_stream::{Lines, Story, said};
use super::{AuditIds, Fence, Probe, Running, Samples, Tasks, requester};
use crate::lab::gateway::{Gateway, Lane};
use crate::lab::http::{Ask, Endpoint, Multiplexed};
use crate::lab::{Lab, NAMESPACE, PROBED, wait};
use crate::timeline::{ErrorClass, Failure, Moment, Recorder, Shape};
use crate::timing::{self, gateway as times};

/// Clients of all gateways, to be.
pub struct GatewayClients;

/// Clients of all gateways of the lab.
pub fn gateway_clients() -> GatewayClients {
    GatewayClients
}

const NAME: &str = "gateway-clients";

impl Probe for GatewayClients {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let from = newest(lab).await?;
            let crew = Crew {
                recorder: lab.recorder().clone(),
                samples: Samples::default(),
                audit_ids: AuditIds::of(NAME),
                spoken: latest::channel(None).0,
                newest: Arc::default(),
                echoed: Arc::default(),
            };
            let tasks = Tasks::default();
            for gateway in lab.gateways() {
                for lane in Lane::ALL {
                    let client = Arc::new(Client::of(lab, gateway, lane, crew.clone()));
                    client.start(lab.servers().len(), from, &tasks).await?;
                }
            }
            let direct = lab.servers().iter().map(|server| server.endpoint.clone()).collect();
            Ok(Box::new(RunningClients { crew, tasks, direct }) as Box<dyn Running>)
        })
    }
}

/// The collection's revision now, past the balancer.
async fn newest(lab: &Lab) -> anyhow::Result<u64> {
    let ask = Ask::get(&format!("{}?limit=1", configmaps()), String::new(), "rollproof-lab");
    let (exchange, body) = lab.servers()[0].endpoint.exchange(&mut None, &ask).await;
    let list: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let version = list.pointer("/metadata/resourceVersion").and_then(|version| version.as_str()?.parse().ok());
    version.with_context(|| format!("cannot list past the balancer: {exchange:?}"))
}

fn configmaps() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

/// What all clients share.
#[derive(Clone)]
struct Crew {
    recorder: Recorder,
    samples: Samples,
    audit_ids: AuditIds,
    /// When the object of the quiet streams was changed.
    spoken: latest::Sender<Option<Moment>>,
    /// The newest change of each watch.
    newest: Arc<std::sync::Mutex<Vec<Arc<AtomicU64>>>>,
    /// Which quiet streams have heard their echo.
    echoed: Arc<std::sync::Mutex<Vec<Arc<AtomicBool>>>>,
}

struct RunningClients {
    crew: Crew,
    tasks: Tasks,
    direct: Vec<Endpoint>,
}

impl Running for RunningClients {
    fn name(&self) -> &'static str {
        NAME
    }

    fn samples(&self) -> u64 {
        self.crew.samples.count()
    }

    fn stop(self: Box<Self>, fence: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            self.speak().await;
            let fence = fence.map_or(0, |fence| fence.change);
            let seen = || {
                let (newest, echoed) = (self.crew.newest.lock(), self.crew.echoed.lock());
                let seen = newest.is_ok_and(|all| all.iter().all(|newest| newest.load(Ordering::Relaxed) >= fence));
                seen && echoed.is_ok_and(|all| all.iter().all(|echoed| echoed.load(Ordering::Relaxed)))
            };
            // What hangs for longer hangs, and the recording says so.
            super::found_within(times::SETTLED, || std::future::ready(seen().then_some(()))).await;
            self.tasks.stop().await;
            None
        })
    }
}

impl RunningClients {
    /// Changes what the quiet streams watch, past the balancer.
    async fn speak(&self) {
        for server in &self.direct {
            let body =
                serde_json::json!({"metadata": {"name": PROBED}, "data": {"spoken": Moment::now().0.to_string()}});
            let (path, body) = (format!("{}/{PROBED}", configmaps()), Bytes::from(body.to_string()));
            let ask = Ask::new(Method::PUT, path, body, self.crew.audit_ids.next(), NAME);
            let spoken = Moment::now();
            if server.exchange(&mut None, &ask).await.0.succeeded() {
                self.crew.spoken.send_replace(Some(spoken));
                return;
            }
        }
    }
}

/// One client of a gateway, in one lane.
struct Client {
    gateway: &'static str,
    lane: Lane,
    to: Endpoint,
    kept: Mutex<Option<Multiplexed>>,
    crew: Crew,
}

impl Client {
    fn of(lab: &Lab, gateway: &Gateway, lane: Lane, crew: Crew) -> Self {
        let to = lab.through_gateway(gateway, lane).over(crate::timeline::Protocol::Http2);
        Self { gateway: gateway.remedy.name, lane, to, kept: Mutex::default(), crew }
    }

    /// Opens what is open all the time, one on each apiserver, then lets everything run.
    async fn start(self: &Arc<Self>, servers: usize, from: u64, tasks: &Tasks) -> anyhow::Result<()> {
        let shapes: &[Shape] = match self.lane {
            Lane::Alone => &[Shape::WatchAlone, Shape::Quiet],
            Lane::Busy => &[Shape::WatchBusy],
            Lane::New => &[],
        };
        for shape in shapes {
            for watch in self.clone().spread(*shape, servers, from).await? {
                let end = tasks.end.clone();
                tasks.running.spawn(async move {
                    end.run_until_cancelled(watch.follow()).await;
                });
            }
        }
        let every = match self.lane {
            Lane::Alone => return Ok(()),
            Lane::Busy => (Shape::Request, times::REQUEST_EVERY),
            Lane::New => (Shape::NewWatch, times::WATCH_EVERY),
        };
        let (client, running, end) = (self.clone(), tasks.running.clone(), tasks.end.clone());
        tasks.running.spawn(async move {
            let (shape, every) = every;
            let mut schedule = requester::schedule(every);
            while end.run_until_cancelled(schedule.tick()).await.is_some() {
                let (client, end) = (client.clone(), end.clone());
                running.spawn(async move {
                    end.run_until_cancelled(client.once(shape, from)).await;
                });
            }
        });
        Ok(())
    }

    /// Watches of one shape, one on each apiserver.
    async fn spread(self: Arc<Self>, shape: Shape, servers: usize, from: u64) -> anyhow::Result<Vec<Watch>> {
        let mut found: Vec<Watch> = Vec::new();
        let what = format!("a {shape} on each apiserver, through the gateway {}", self.gateway);
        wait::until(timing::PROBE_READY, &what, async || {
            let name = format!("{:?}-{}", shape, found.len()).to_lowercase();
            let mut watch = Watch { client: self.clone(), shape, name, from, opened: None, seen: self.seen(shape) };
            match watch.open().await {
                Ok(()) => {}
                Err(failure) => return ControlFlow::Continue(failure.text),
            }
            let server = watch.server();
            let taken = server.is_none() || found.iter().any(|other| other.server() == server);
            if !taken {
                found.push(watch);
            }
            match found.len() {
                enough if enough == servers => ControlFlow::Break(()),
                few => ControlFlow::Continue(format!("{few} of {servers}")),
            }
        })
        .await?;
        for watch in &found {
            match &watch.seen {
                Seen::Change(newest) => self.crew.newest.lock().map(|mut all| all.push(newest.clone())),
                Seen::Echo(echoed) => {
                    drop(self.crew.echoed.lock().map(|mut all| all.push(echoed.clone())));
                    continue;
                }
            }
            .map_err(|_| anyhow::anyhow!("a client has panicked"))?;
        }
        if found.len() < servers {
            bail!("too few watches");
        }
        Ok(found)
    }

    fn seen(&self, shape: Shape) -> Seen {
        match shape {
            Shape::Quiet => Seen::Echo(Arc::default()),
            _ => Seen::Change(Arc::default()),
        }
    }

    /// The connection, a new one where the last takes no streams any more.
    async fn connection(&self) -> Result<Multiplexed, Failure> {
        let mut kept = self.kept.lock().await;
        if let Some(open) = kept.as_ref().filter(|kept| kept.is_open()) {
            return Ok(open.clone());
        }
        let dialled = self.to.dial().await.map_err(|(_, failure)| failure)?;
        let open = dialled.multiplexed().ok_or_else(|| other("the gateway speaks no HTTP/2"))?;
        *kept = Some(open.clone());
        Ok(open)
    }

    /// Something that is asked once: a request, or a watch that is only opened.
    async fn once(self: Arc<Self>, shape: Shape, from: u64) {
        let path = match shape {
            Shape::Request => format!("{}/{PROBED}", configmaps()),
            _ => format!("{}?watch=true&resourceVersion={from}&fieldSelector=metadata.name%3D{PROBED}", configmaps()),
        };
        let mut story = self.story(shape, "");
        let asked = async {
            let open = self.connection().await?;
            story.local(open.local());
            let answer = open.ask(&self.to, &story.ask(&path)).await?;
            story.answered(&answer, self.to.upstream(&answer));
            if shape == Shape::Request {
                let mut body = Lines::of(answer.into_body());
                while body.next().await.map_err(|error| open.failure(&error))?.is_some() {}
                story.told(None);
            }
            Ok(())
        };
        let patience = if shape == Shape::Request { timing::REQUEST_TIMEOUT } else { times::FAULT * 2 };
        let result: Result<(), Failure> =
            tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(too_long(patience)));
        match result {
            Ok(()) if story.succeeded() => self.crew.samples.add_one(),
            Ok(()) => {}
            Err(failure) => story.told(Some(failure)),
        }
    }

    fn story(&self, shape: Shape, client: &str) -> Story {
        let lane = format!("{:?}", self.lane).to_lowercase();
        let client = if client.is_empty() { lane } else { client.to_owned() };
        Story::begin(self.crew.recorder.clone(), self.gateway, shape, &client, self.crew.audit_ids.next())
    }
}

/// What a watch is to have seen when all is over.
#[derive(Clone)]
enum Seen {
    Change(Arc<AtomicU64>),
    Echo(Arc<AtomicBool>),
}

/// A watch that goes on in a new stream whenever one ends.
struct Watch {
    client: Arc<Client>,
    shape: Shape,
    name: String,
    from: u64,
    opened: Option<Opened>,
    seen: Seen,
}

struct Opened {
    connection: Multiplexed,
    lines: Lines,
    story: Story,
}

impl Watch {
    /// Opens the next stream, from the last revision seen.
    async fn open(&mut self) -> Result<(), Failure> {
        let quiet =
            if self.shape == Shape::Quiet { format!("&fieldSelector=metadata.name%3D{PROBED}") } else { String::new() };
        let path = format!("{}?watch=true&resourceVersion={}{quiet}", configmaps(), self.from);
        let mut story = self.client.story(self.shape, &self.name);
        story.from(self.from);
        let asked = async {
            let connection = self.client.connection().await?;
            story.local(connection.local());
            let answer = connection.ask(&self.client.to, &story.ask(&path)).await?;
            story.answered(&answer, self.client.to.upstream(&answer));
            if !story.succeeded() {
                return Err(Failure { class: ErrorClass::Status, text: format!("status {}", answer.status()) });
            }
            Ok((connection, Lines::of(answer.into_body())))
        };
        match asked.await {
            Ok((connection, lines)) => {
                self.opened = Some(Opened { connection, lines, story });
                Ok(())
            }
            Err(failure) => {
                story.told(Some(failure.clone()));
                Err(failure)
            }
        }
    }

    fn server(&self) -> Option<String> {
        self.opened.as_ref()?.story.server()
    }

    async fn follow(mut self) {
        let mut retry = requester::schedule(timing::WATCH_RETRY);
        loop {
            if let Some(opened) = self.opened.as_mut() {
                if self.shape == Shape::Quiet {
                    opened.story.waits_for(self.client.crew.spoken.subscribe());
                }
                loop {
                    match opened.lines.next().await {
                        Ok(Some(line)) => {
                            let Some((revision, change)) = said(&line) else { continue };
                            self.from = revision.max(self.from);
                            opened.story.heard(change);
                            match (&self.seen, change) {
                                (Seen::Change(newest), Some(change)) => {
                                    newest.fetch_max(change, Ordering::Relaxed);
                                    self.client.crew.samples.add_one();
                                }
                                (Seen::Echo(echoed), _) => echoed.store(true, Ordering::Relaxed),
                                _ => {}
                            }
                        }
                        Ok(None) => break opened.story.told(None),
                        Err(error) => break opened.story.told(Some(opened.connection.failure(&error))),
                    }
                }
                self.opened = None;
            }
            retry.tick().await;
            let _ = self.open().await;
        }
    }
}

fn other(text: &str) -> Failure {
    Failure { class: ErrorClass::Other, text: text.to_owned() }
}

fn too_long(patience: Duration) -> Failure {
    Failure { class: ErrorClass::Timeout, text: format!("no answer within {patience:?}") }
}

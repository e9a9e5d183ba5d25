//! Requests that are provably in flight when their apiserver is stopped: one POST and one LIST on each server, always.
//!
//! A request is renewed from time to time, the next one being in flight before the last is let go. Once its server was
//! sent SIGTERM it is held until the server has closed its listener, and then let go: what is asked for is the hardest
//! moment, when nothing but what is in flight keeps the server alive.

mod held;

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::{BoxFuture, LocalBoxFuture};
use http::Method;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::held::{Desk, Request};
use super::{AuditIds, Fence, Probe, Running, Samples, Tasks};
use crate::lab::http::{Ask, Endpoint};
use crate::lab::{IN_FLIGHT_NAMESPACE as NAMESPACE, Lab};
use crate::timeline::{Event, Held, Lifecycle, Recorder, Step};
use crate::timing;

/// What is held in flight, and the name in its observations.
const HELD: [(Held, &str); 2] = [(Held::Create, "in-flight-create"), (Held::List, "in-flight-list")];

/// How large each object is that the slow list brings, in bytes.
const LISTED_BYTES: usize = 1_000_000;

/// How many objects the slow list brings: more than fit into the socket buffers on their way, whose sizes the kernel chooses
/// up to these limits: sent by the server, received and sent by the balancer. Our own is small.
fn listed() -> usize {
    let most = |name: &str| {
        let limits = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        limits.split_whitespace().last().and_then(|most| most.parse().ok()).unwrap_or(8 * LISTED_BYTES)
    };
    (most("tcp_rmem") + 2 * most("tcp_wmem")) / LISTED_BYTES + 8
}

/// A probe of requests in flight, to be.
pub struct InFlightProbe;

/// Holds a POST and a LIST in flight on each apiserver, through the balancer.
pub fn in_flight() -> InFlightProbe {
    InFlightProbe
}

impl Probe for InFlightProbe {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let listed = listed();
            prepare(&lab.servers()[0].endpoint, listed).await.context("cannot prepare what is held in flight")?;
            let (tasks, samples) = (Tasks::default(), Samples::default());
            for server in lab.servers() {
                for (held, probe) in HELD {
                    let desk = Desk {
                        probe,
                        held,
                        listed,
                        to: lab.through_balancer(),
                        server: server.clone(),
                        others: lab.servers().iter().filter(|other| other.name() != server.name()).cloned().collect(),
                        servers: lab.servers().iter().map(|server| server.endpoint.clone()).collect(),
                        audit_ids: AuditIds::of(&format!("{probe}-{}", server.name())),
                    };
                    let steps = lab.recorder().follow_lifecycle();
                    let first = desk.begin().await?;
                    let keeper = Keeper { desk, steps, recorder: lab.recorder().clone(), samples: samples.clone() };
                    tasks.running.spawn(keeper.keep(first, tasks.end.clone()));
                }
            }
            Ok(Box::new(RunningInFlight { tasks, samples }) as Box<dyn Running>)
        })
    }
}

struct RunningInFlight {
    tasks: Tasks,
    samples: Samples,
}

impl Running for RunningInFlight {
    fn name(&self) -> &'static str {
        "in-flight"
    }

    fn observers(&self) -> Vec<String> {
        HELD.map(|(_, probe)| probe.to_owned()).into()
    }

    fn samples(&self) -> u64 {
        self.samples.count()
    }

    /// What counts is which request is in flight at SIGTERM, not how many there were.
    fn takes_samples(&self) -> bool {
        false
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            self.tasks.stop().await;
            None
        })
    }
}

/// Keeps one request in flight on one server.
struct Keeper {
    desk: Desk,
    steps: UnboundedReceiver<Lifecycle>,
    recorder: Recorder,
    samples: Samples,
}

impl Keeper {
    async fn keep(mut self, first: Request, end: CancellationToken) {
        let mut current = Some(first);
        loop {
            let renewal = renewal(current.as_ref());
            tokio::select! {
                () = end.cancelled() => break,
                Some(step) = self.steps.recv() => match step.step {
                    _ if step.server != self.desk.server.name() => {}
                    Step::TermSent | Step::KillSent => {
                        if let Some(request) = current.take() {
                            self.hold_to_the_end(&request).await;
                            self.finish(request).await;
                        }
                    }
                    Step::MetThroughBalancer if current.is_none() => current = self.desk.begin().await.ok(),
                    _ => {}
                },
                () = tokio::time::sleep_until(renewal) => {
                    // Where none could be begun, its server is about to be stopped, and this one will do.
                    if let Ok(next) = self.desk.begin().await && let Some(last) = current.replace(next) {
                        self.finish(last).await;
                    }
                }
            }
        }
        if let Some(request) = current {
            self.finish(request).await;
        }
    }

    /// Returns when the server has closed its listener, or is gone.
    async fn hold_to_the_end(&mut self, request: &Request) {
        let until = request.began() + timing::IN_FLIGHT_HELD;
        while let Ok(Some(step)) = timeout_at(until, self.steps.recv()).await {
            let over = matches!(step.step, Step::HTTPServerStoppedListening | Step::Exited);
            if step.server == self.desk.server.name() && over {
                return;
            }
        }
    }

    async fn finish(&self, request: Request) {
        let (began, seen) = self.desk.finish(request).await;
        if seen.completed() {
            self.samples.add_one();
        }
        self.recorder.record_at(began, Event::InFlight(seen));
    }
}

fn renewal(current: Option<&Request>) -> Instant {
    let never = || Instant::now() + Duration::from_secs(u64::from(u32::MAX));
    current.map_or_else(never, |request| request.began() + timing::IN_FLIGHT_RENEW)
}

/// Our namespace, and what the slow list brings.
async fn prepare(server: &Endpoint, listed: usize) -> anyhow::Result<()> {
    let mut kept = None;
    let audit_ids = AuditIds::of("in-flight-prepare");
    let namespace = serde_json::json!({"metadata": {"name": NAMESPACE}});
    let filler = "x".repeat(LISTED_BYTES);
    let large = |number| {
        let metadata = serde_json::json!({"name": format!("large-{number}"), "labels": {"held": "list"}});
        serde_json::json!({"metadata": metadata, "data": {"filler": filler}})
    };
    let maps = (0..listed).map(|number| (held::collection(), large(number)));
    for (path, object) in std::iter::once(("/api/v1/namespaces".to_owned(), namespace)).chain(maps) {
        let body = Bytes::from(object.to_string());
        let ask = Ask::new(Method::POST, path, body, audit_ids.next(), "rollproof-in-flight");
        let (exchange, answer) = server.exchange(&mut kept, &ask).await;
        let why = || exchange.failure.as_ref().map(|failure| failure.text.clone());
        anyhow::ensure!(
            exchange.status == Some(201),
            "{}",
            why().unwrap_or_else(|| String::from_utf8_lossy(&answer).into_owned())
        );
    }
    Ok(())
}

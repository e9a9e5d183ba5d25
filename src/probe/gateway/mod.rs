//! Clients of gateways: watches, requests and quiet streams through every gateway of the lab, told apart by what else is on the
//! gateway's upstream connections.
//!
//! In each lane a gateway has one client with one connection for each of its workers. Of watches and quiet streams each has one on each
//! apiserver, so whichever is lost, one of each is on it, and one is not. So it is with informers, of which each has a connection of its own. Where the lab
//! has a pod, there are sessions as well: of every kind a quiet one.

mod client;
mod session;
mod stream;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::{BoxFuture, LocalBoxFuture, try_join_all};
use http::Method;
use tokio::sync::watch as latest;

use self::client::Client;
use super::{AuditIds, Fence, Probe, Running, Samples, Tasks, found_within};
use crate::lab::control_plane::Quiet;
use crate::lab::gateway::Lane;
use crate::lab::http::{Ask, Endpoint};
use crate::lab::{Lab, NAMESPACE, PROBED};
use crate::timeline::{Moment, Recorder, Shape};
use crate::timing::gateway as times;

/// Clients of all gateways, to be.
#[derive(Default)]
pub struct GatewayClients {
    many: u32,
    by_http1: bool,
}

/// Clients of all gateways of the lab.
pub fn gateway_clients() -> GatewayClients {
    GatewayClients::default()
}

impl GatewayClients {
    /// So many watches more on one of their connections, the one that carries watches alone.
    #[must_use]
    pub fn with_many(self, many: u32) -> Self {
        Self { many, ..self }
    }

    /// Watches by HTTP/1.1 as well, as kube-rs and others have them.
    #[must_use]
    pub fn and_by_http1(self) -> Self {
        Self { by_http1: true, ..self }
    }
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
            };
            let tasks = Tasks::default();
            for gateway in lab.gateways() {
                for lane in [Lane::Alone, Lane::Busy, Lane::New] {
                    for number in 0..gateway.workers() {
                        let client = Arc::new(Client::of(lab, (gateway, lane), number, crew.clone()));
                        client.start(lab.known_to_gateways().len(), from, &tasks).await?;
                        if (lane, number) == (Lane::Alone, 0) {
                            client.open_many(self.many, from, &tasks).await?;
                        }
                    }
                }
            }
            // All at once: the first is not to be quiet for much longer than the last.
            let sessions = lab.gateways().iter().map(|gateway| session::start(lab, gateway, &crew, &tasks));
            try_join_all(sessions).await?;
            for gateway in lab.gateways().iter().filter(|_| self.by_http1) {
                let client = Arc::new(Client::of(lab, (gateway, Lane::Busy), 0, crew.clone()));
                client.spread(Shape::WatchHttp1, lab.known_to_gateways().len(), from, &tasks).await?;
            }
            // Last, since their watches do not last.
            let informers = lab.gateways().iter().map(|gateway| {
                let client = Arc::new(Client::of(lab, (gateway, Lane::Busy), 0, crew.clone()));
                client.spread(Shape::Informer, lab.known_to_gateways().len(), from, &tasks)
            });
            try_join_all(informers).await?;
            lab.count_gateways().await?;
            let direct = lab.servers().iter().map(|server| server.endpoint.clone()).collect();
            let container = lab.pod().and_then(|pod| pod.quiet.clone());
            Ok(Box::new(RunningClients { crew, tasks, direct, container }) as Box<dyn Running>)
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
    /// The newest change that each watch has told of; of a quiet stream the greatest number, once it has told of what happened at last.
    newest: Arc<Mutex<Vec<Arc<AtomicU64>>>>,
}

struct RunningClients {
    crew: Crew,
    tasks: Tasks,
    direct: Vec<Endpoint>,
    /// What quiet sessions listen to that have no echo.
    container: Option<Quiet>,
}

impl Running for RunningClients {
    fn name(&self) -> &'static str {
        NAME
    }

    /// What it sees is named after the gateway.
    fn observers(&self) -> Vec<String> {
        Vec::new()
    }

    fn samples(&self) -> u64 {
        self.crew.samples.count()
    }

    fn stop(self: Box<Self>, fence: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            self.speak().await;
            let fence = fence.map_or(0, |fence| fence.change);
            let newest = self.crew.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let seen = || newest.iter().all(|newest| newest.load(Ordering::Relaxed) >= fence);
            // What hangs for longer hangs, and the recording says so.
            found_within(times::SETTLED, || std::future::ready(seen().then_some(()))).await;
            self.tasks.stop().await;
            None
        })
    }
}

impl RunningClients {
    /// Changes what the quiet streams watch, past the balancer, and has the quiet container say a line.
    async fn speak(&self) {
        for server in &self.direct {
            let body =
                serde_json::json!({"metadata": {"name": PROBED}, "data": {"spoken": Moment::now().0.to_string()}});
            let (path, body) = (format!("{}/{PROBED}", configmaps()), Bytes::from(body.to_string()));
            let ask = Ask::new(Method::PUT, path, body, self.crew.audit_ids.next(), NAME);
            let spoken = Moment::now();
            if !server.exchange(&mut None, &ask).await.0.succeeded() {
                continue;
            }
            match &self.container {
                // A full disk: nobody is spoken to.
                Some(container) if container.speak().await.is_err() => {}
                _ => drop(self.crew.spoken.send_replace(Some(spoken))),
            }
            return;
        }
    }
}

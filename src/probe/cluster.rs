//! Reads, through the balancer, what the cluster says of its kubelets, its controller manager and its scheduler: they are clients
//! of its apiservers as well.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::{BoxFuture, LocalBoxFuture};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::{Fence, Probe, Running, Samples};
use crate::lab::Lab;
use crate::lab::http::{Ask, Connection, Endpoint};
use crate::timeline::{ClusterSeen, Event, LeaseSeen, Moment, Recorder};
use crate::timing;

const NAME: &str = "cluster";
const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";

/// A probe of nodes and leases, every [`timing::CLUSTER_READ_EVERY`].
pub struct ClusterProbe;

/// A probe of what a cluster says of its nodes, their leases, and those of its controller manager and scheduler.
pub fn cluster() -> ClusterProbe {
    ClusterProbe
}

impl Probe for ClusterProbe {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let samples = Samples::default();
            let reading = read(lab.through_balancer(), lab.recorder().clone(), samples.clone());
            let task = AbortOnDropHandle::new(tokio::spawn(reading));
            Ok(Box::new(RunningCluster { samples, _task: task }) as Box<dyn Running>)
        })
    }
}

struct RunningCluster {
    samples: Samples,
    _task: AbortOnDropHandle<()>,
}

impl Running for RunningCluster {
    fn name(&self) -> &'static str {
        NAME
    }

    fn samples(&self) -> u64 {
        self.samples.count()
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async { None })
    }
}

async fn read(through: Endpoint, recorder: Recorder, samples: Samples) {
    let mut schedule = tokio::time::interval(timing::CLUSTER_READ_EVERY);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept = None;
    loop {
        schedule.tick().await;
        let began = Moment::now();
        // What fails on the way is for other probes to tell: this one is about what is written there.
        let (Ok(nodes), Ok(leases)) =
            (listed(&through, &mut kept, NODES).await, listed(&through, &mut kept, LEASES).await)
        else {
            continue;
        };
        let seen =
            ClusterSeen { probe: NAME.to_owned(), ready: ready(&nodes), leases: held(&leases, Timestamp::now()) };
        recorder.record_at(began, Event::Cluster(seen));
        samples.add_one();
    }
}

async fn listed(through: &Endpoint, kept: &mut Option<Connection>, path: &str) -> anyhow::Result<Vec<Value>> {
    let (exchange, body) = through.exchange(kept, &Ask::get(path, String::new(), "rollproof")).await;
    anyhow::ensure!(exchange.failure.is_none() && exchange.status == Some(200));
    let list: Value = serde_json::from_slice(&body)?;
    list["items"].as_array().cloned().context("no list")
}

/// Each node's condition Ready.
fn ready(nodes: &[Value]) -> BTreeMap<String, String> {
    let condition = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array()?;
        conditions.iter().find(|it| it["type"] == "Ready")?["status"].as_str().map(str::to_owned)
    };
    nodes.iter().filter_map(|node| Some((name(node)?, condition(node)?))).collect()
}

/// Kubelets' leases, and those of who leads. An apiserver has one, too, under another name after each start.
fn held(leases: &[Value], now: Timestamp) -> BTreeMap<String, LeaseSeen> {
    let seen = |lease: &Value| {
        let (namespace, name, spec) = (lease["metadata"]["namespace"].as_str()?, name(lease)?, &lease["spec"]);
        let is_ours = match namespace {
            "kube-node-lease" => true,
            "kube-system" => ["kube-controller-manager", "kube-scheduler"].contains(&name.as_str()),
            _ => false,
        };
        let renewed: Timestamp = spec["renewTime"].as_str().filter(|_| is_ours)?.parse().ok()?;
        let held = LeaseSeen {
            holder: spec["holderIdentity"].as_str().unwrap_or_default().to_owned(),
            age: Duration::try_from(now.duration_since(renewed)).unwrap_or_default(),
            duration: Duration::from_secs(spec["leaseDurationSeconds"].as_u64()?),
        };
        Some((format!("{namespace}/{name}"), held))
    };
    leases.iter().filter_map(seen).collect()
}

fn name(object: &Value) -> Option<String> {
    object["metadata"]["name"].as_str().map(str::to_owned)
}

//! What a scenario finds in its lab: a namespace with an object in it, and a pod that runs where it has one.

use std::ops::ControlFlow;
use std::time::Duration;

use ::http::Method;
use anyhow::bail;
use bytes::Bytes;
use serde_json::{Value, json};

use super::http::Ask;
use super::{GUARDED_NAMESPACE, IN_FLIGHT_NAMESPACE, LOAD_NAMESPACE, Lab, NAMESPACE, PROBED, wait};
use crate::timeline::{Exchange, Moment};
use crate::timing;

const AGENT: &str = "rollproof-lab";

impl Lab {
    /// Our namespace, the object that requesters ask for, and the pod.
    pub(super) async fn prepare(&self) -> anyhow::Result<()> {
        let shared = self.control_plane.is_shared();
        if shared {
            wait::until(timing::NAMESPACES_CLEARED, "the last scenario's namespaces to be gone", async || {
                match self.remove_namespaces().await {
                    Ok(left) if left.is_empty() => ControlFlow::Break(()),
                    Ok(left) => ControlFlow::Continue(left.join(", ")),
                    Err(error) => ControlFlow::Continue(format!("{error:#}")),
                }
            })
            .await?;
        }
        let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
        self.create("/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}})).await?;
        self.create(&format!("{namespace}/configmaps"), &json!({"metadata": {"name": PROBED}})).await?;
        if shared {
            // Its controller manager puts these into every namespace, in its own time: no watch is to meet a change of it, and no pod
            // can be without an account.
            for furniture in ["configmaps/kube-root-ca.crt", "serviceaccounts/default"] {
                let path = format!("{namespace}/{furniture}");
                self.until(timing::NAMESPACE_FURNISHED, &format!("{furniture} to be made"), &path, |_| true).await?;
            }
        }
        if let Some(pod) = self.pod() {
            for (collection, object) in pod.objects() {
                self.create(collection, object).await?;
            }
            // A kubelet's stand-in serves it at once, and never says that it runs.
            if shared {
                let runs = |pod: &Value| pod["status"]["phase"] == "Running";
                self.until(timing::POD_RUNS, "the pod to run", &pod.path(), runs).await?;
            }
        }
        Ok(())
    }

    async fn create(&self, collection: &str, object: &Value) -> anyhow::Result<()> {
        let audit_id = format!("rollproof-prepare-{}", Moment::now().0);
        let body = Bytes::from(object.to_string());
        let ask = Ask::new(Method::POST, collection.to_owned(), body, audit_id, AGENT);
        let (exchange, body) = self.through_balancer().exchange(&mut None, &ask).await;
        if exchange.status != Some(201) {
            let answer = String::from_utf8_lossy(&body);
            let why = exchange.failure.map_or_else(|| answer.into_owned(), |failure| failure.text);
            bail!("cannot create {collection}/{} through the balancer: {why}", object["metadata"]["name"]);
        }
        Ok(())
    }

    /// Waits until an object is there, and is as it has to be.
    async fn until(&self, limit: Duration, what: &str, path: &str, is: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let mut kept = None;
        let ask = Ask::get(path, String::new(), AGENT);
        wait::until(limit, what, async || {
            let (exchange, body) = self.through_balancer().exchange(&mut kept, &ask).await;
            let object: Value = serde_json::from_slice(&body).unwrap_or_default();
            match exchange {
                Exchange { status: Some(200), failure: None, .. } if is(&object) => ControlFlow::Break(()),
                Exchange { failure: Some(failure), .. } => ControlFlow::Continue(failure.text),
                Exchange { status, .. } => {
                    ControlFlow::Continue(format!("status {}: {}", status.unwrap_or(0), object["status"]))
                }
            }
        })
        .await
    }

    /// Sets out to remove what scenarios make in a cluster. Returns the namespaces that are still there.
    pub(super) async fn remove_namespaces(&self) -> anyhow::Result<Vec<&'static str>> {
        let direct = &self.control_plane.servers[0].endpoint;
        let mut left = Vec::new();
        let mut kept = None;
        for namespace in [NAMESPACE, LOAD_NAMESPACE, IN_FLIGHT_NAMESPACE, GUARDED_NAMESPACE] {
            let path = format!("/api/v1/namespaces/{namespace}");
            let audit_id = format!("rollproof-remove-{}", Moment::now().0);
            let ask = Ask::new(Method::DELETE, path, Bytes::new(), audit_id, AGENT);
            let (exchange, _) = direct.exchange(&mut kept, &ask).await;
            match (exchange.status, exchange.failure) {
                (Some(404), None) => {}
                // On its way, or a conflict with its own removal.
                (Some(200 | 202 | 409), None) => left.push(namespace),
                (status, failure) => {
                    let why = failure.map_or_else(|| format!("status {}", status.unwrap_or(0)), |failure| failure.text);
                    bail!("cannot remove the namespace {namespace}: {why}");
                }
            }
        }
        Ok(left)
    }
}

//! kube-rs as the subject: its own client stack, with one layer of ours inside its retries.
//!
//! `ClientBuilder::with_layer` would sit outside the retries, and one Audit-ID would stand for several requests. So the
//! stack is put together here from kube's own parts, in the order of kube-client `src/client/builder.rs`.

use std::collections::HashMap;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt as _};
use kube::config::KubeConfigOptions;
use tower::retry::RetryLayer;
use tower::{BoxError, Layer, Service, ServiceBuilder};

use super::AuditIds;
use crate::lab::http::classify;
use crate::lab::{Lab, NAMESPACE};
use crate::timeline::{Call, Event, ListWatch, Moment, Recorder};

/// A client of kube-rs through the balancer, each of whose list and watch requests is recorded under the probe's name.
pub(super) async fn client(lab: &Lab, probe: &'static str) -> anyhow::Result<kube::Client> {
    let config = kube::Config::from_custom_kubeconfig(lab.kubeconfig(), &KubeConfigOptions::default()).await?;
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(http)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let http = legacy::Builder::new(TokioExecutor::new()).build::<_, Body>(connector);
    let observe = Observe { probe, recorder: lab.recorder().clone(), audit_ids: AuditIds::of(probe) };
    let stack = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .layer(observe)
        .map_err(BoxError::from)
        .service(http);
    Ok(kube::Client::new(stack, NAMESPACE))
}

/// The change that an object of the writer carries; 0 for an object that is not the writer's.
pub(super) fn change_of(map: &ConfigMap) -> u64 {
    let change = map.data.as_ref().and_then(|data| data.get("change"));
    change.and_then(|change| change.parse().ok()).unwrap_or(0)
}

/// The resourceVersion of an object, as the number that it is (KEP-5504).
pub(super) fn revision_of(map: &ConfigMap) -> u64 {
    map.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Adds an Audit-ID to each request and records it.
#[derive(Clone)]
struct Observe {
    probe: &'static str,
    recorder: Recorder,
    audit_ids: AuditIds,
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observe: self.clone() }
    }
}

#[derive(Clone)]
struct Observed<S> {
    inner: S,
    observe: Observe,
}

impl<S, B> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Observe { probe, recorder, audit_ids } = self.observe.clone();
        let audit_id = audit_ids.next();
        if let Ok(value) = HeaderValue::from_str(&audit_id) {
            request.headers_mut().insert("Audit-ID", value);
        }
        let call = (request.method() == Method::GET).then(|| call_of(request.uri().query().unwrap_or_default()));
        let began = Moment::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some((call, from)) = call {
                let outcome = answer
                    .as_ref()
                    .map(|response| response.status().as_u16())
                    .map_err(|error| classify(error.as_ref()));
                let took = Moment::now().since(began);
                let call = ListWatch { probe: probe.to_owned(), call, from, audit_id, answer: outcome, took };
                recorder.record_at(began, Event::ListWatch(call));
            }
            answer
        })
    }
}

/// Whether a query is that of a list or of a watch, and the resourceVersion it names; 0 means "any" and counts as none.
fn call_of(query: &str) -> (Call, Option<u64>) {
    let parameters: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let watch = parameters.get("watch").is_some_and(|value| matches!(*value, "true" | "1"));
    let from = parameters.get("resourceVersion").and_then(|version| version.parse().ok()).filter(|from| *from != 0);
    (if watch { Call::Watch } else { Call::List }, from)
}

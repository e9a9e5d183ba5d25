//! kube-rs as the subject: its own client stack, with one layer of ours inside its retries.
//!
//! `ClientBuilder::with_layer` would sit outside the retries, and one Audit-ID would stand for several requests. So the
//! stack is put together here from kube's own parts, in the order of kube-client `src/client/builder.rs`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, HttpConnector, HttpInfo, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use scopeguard::ScopeGuard;
use tokio::net::TcpStream;
use tower::retry::RetryLayer;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt as _};

use super::AuditIds;
use crate::lab::http::{classify, retry_after, was_connecting};
use crate::lab::network::Site;
use crate::lab::{Lab, NAMESPACE};
use crate::timeline::{Call, ConnectionUse, ErrorClass, Event, Failure, ListWatch, Moment};

/// kube-rs's connections through the balancer: what its clients share.
#[derive(Clone)]
pub struct Library {
    config: kube::Config,
    http: Http,
    used: Used,
}

/// When each pooled connection, by our end of it, had last brought an answer; `None` where there is no pool.
type Used = Option<Arc<Mutex<HashMap<String, Moment>>>>;

/// What kube-rs sends its requests with.
type Http = legacy::Client<TimeoutConnector<HttpsConnector<Dial>>, Body>;

/// How it opens a connection.
type Dial = BoxCloneSyncService<Uri, TokioIo<TcpStream>, BoxError>;

/// A request as kube-rs sent it, below its retries.
pub struct Sent {
    /// When.
    pub began: Moment,
    /// Its method.
    pub method: Method,
    /// Its query, empty if there is none.
    pub query: String,
    /// The Audit-ID header that we added.
    pub audit_id: String,
    /// The answer's status and Retry-After, or why there was none.
    pub answer: Result<(u16, Option<u32>), Failure>,
    /// Whether its user has not waited for the answer.
    pub given_up: bool,
    /// Whether it failed before there was a connection to send it on.
    pub connecting: bool,
    /// The connection it was sent on, if it came so far.
    pub connection: Option<ConnectionUse>,
    /// Until the answer's headers.
    pub took: Duration,
}

/// What is said of a request whose user has not waited for its answer.
pub(super) const GIVEN_UP: &str = "given up";

/// Is told of each request that kube-rs has sent.
type Observer = Arc<dyn Fn(Sent) + Send + Sync>;

impl Library {
    /// Pooled connections, as kube-rs has them.
    ///
    /// # Errors
    /// The kubeconfig names what is not there, or what TLS cannot use.
    pub async fn new(kubeconfig: Kubeconfig, site: Site) -> anyhow::Result<Self> {
        Self::keeping(kubeconfig, site, usize::MAX, None).await
    }

    /// A new connection for each request: kube-rs in a program that has just started.
    ///
    /// # Errors
    /// As [`Library::new`].
    pub async fn without_pool(kubeconfig: Kubeconfig, site: Site) -> anyhow::Result<Self> {
        Self::keeping(kubeconfig, site, 0, None).await
    }

    /// Pooled connections by HTTP/2, without pings: what kube-rs would have if it offered that protocol.
    ///
    /// # Errors
    /// As [`Library::new`].
    pub async fn over_http2(kubeconfig: Kubeconfig, site: Site) -> anyhow::Result<Self> {
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let https = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_only();
        let https = https.enable_http2().wrap_connector(dial(site));
        Self::with(config, https, usize::MAX)
    }

    /// What a kubeconfig has led to, with a pool or a new connection for each request.
    ///
    /// # Errors
    /// It names what TLS cannot use.
    pub fn of(config: kube::Config, pooled: bool) -> anyhow::Result<Self> {
        let https = config.rustls_https_connector_with_connector(dial(Site::default()))?;
        Self::with(config, https, if pooled { usize::MAX } else { 0 })
    }

    async fn keeping(
        kubeconfig: Kubeconfig,
        site: Site,
        idle: usize,
        read_timeout: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.read_timeout = read_timeout;
        let https = config.rustls_https_connector_with_connector(dial(site))?;
        Self::with(config, https, idle)
    }

    fn with(config: kube::Config, https: HttpsConnector<Dial>, idle: usize) -> anyhow::Result<Self> {
        let mut connector = TimeoutConnector::new(https);
        connector.set_connect_timeout(config.connect_timeout);
        connector.set_read_timeout(config.read_timeout);
        connector.set_write_timeout(config.write_timeout);
        let http = legacy::Builder::new(TokioExecutor::new()).pool_max_idle_per_host(idle).build(connector);
        // A layer cannot be copied, so each client makes its own: here it is only to be seen whether that works.
        config.auth_layer()?;
        config.extra_headers_layer()?;
        Ok(Self { config, http, used: (idle > 0).then(Arc::default) })
    }

    /// A client on these connections. Each request gets an Audit-ID of its own, and `observer` is told of it.
    pub fn client(
        &self,
        audit_ids: impl Fn() -> String + Send + Sync + 'static,
        observer: impl Fn(Sent) + Send + Sync + 'static,
    ) -> kube::Client {
        let (audit_ids, observer) = (Arc::new(audit_ids), Arc::new(observer));
        let observe = Observe { audit_ids, observer, used: self.used.clone() };
        let retry = self.config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()));
        let stack = ServiceBuilder::new()
            .layer(self.config.base_uri_layer())
            .option_layer(retry)
            .option_layer(self.config.auth_layer().ok().flatten())
            // Impersonation, where the kubeconfig asks for it.
            .option_layer(self.config.extra_headers_layer().ok())
            .layer(observe)
            .map_err(BoxError::from)
            .service(self.http.clone());
        kube::Client::new(stack, NAMESPACE)
    }
}

/// kube-rs's own way to open a connection; and one like it from within a namespace, where a lab has only addresses.
fn dial(site: Site) -> Dial {
    if site.namespace().is_none() {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        return BoxCloneSyncService::new(http.map_err(BoxError::from));
    }
    let connect = move |to: Uri| {
        let site = site.clone();
        async move {
            let to: SocketAddr = to.authority().ok_or("no address to connect to")?.as_str().parse()?;
            Ok(TokioIo::new(site.connect(to).await?))
        }
    };
    BoxCloneSyncService::new(tower::service_fn(connect))
}

/// A client of kube-rs through the balancer, each of whose list and watch requests is recorded under the probe's name.
pub(super) async fn client(lab: &Lab, probe: &'static str) -> anyhow::Result<kube::Client> {
    let (recorder, audit_ids) = (lab.recorder().clone(), AuditIds::of(probe));
    let observer = move |sent: Sent| {
        if sent.method != Method::GET || sent.given_up {
            return;
        }
        let began = sent.began;
        recorder.record_at(began, Event::ListWatch(list_watch(probe, sent)));
    };
    let (site, read_timeout) = (lab.through_balancer().site, lab.setup().read_timeout);
    let library = Library::keeping(lab.kubeconfig(), site, usize::MAX, read_timeout).await?;
    Ok(library.client(move || audit_ids.next(), observer))
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

/// Adds an Audit-ID to each request and tells of it.
#[derive(Clone)]
struct Observe {
    audit_ids: Arc<dyn Fn() -> String + Send + Sync>,
    observer: Observer,
    used: Used,
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
        let Observe { audit_ids, observer, used } = self.observe.clone();
        let audit_id = audit_ids();
        if let Ok(value) = HeaderValue::from_str(&audit_id) {
            request.headers_mut().insert("Audit-ID", value);
        }
        let (method, query) = (request.method().clone(), request.uri().query().unwrap_or_default().to_owned());
        let captured = capture_connection(&mut request);
        let began = Moment::now();
        let answer = self.inner.call(request);
        let tell = move |given_up, connecting, answer| {
            let (took, connection) = (Moment::now().since(began), connection(&captured, &used, began));
            observer(Sent { began, method, query, audit_id, answer, given_up, connecting, connection, took });
        };
        Box::pin(async move {
            // Dropped before there is an answer: then nobody else tells.
            let waiting = scopeguard::guard(tell, |tell| {
                let failure = Failure { class: ErrorClass::Timeout, text: GIVEN_UP.to_owned() };
                tell(true, false, Err(failure));
            });
            let answer = answer.await;
            let connecting = answer.as_ref().is_err_and(|error| was_connecting(error.as_ref()));
            let outcome = answer
                .as_ref()
                .map(|response| (response.status().as_u16(), retry_after(response.headers())))
                .map_err(|error| classify(error.as_ref()));
            ScopeGuard::into_inner(waiting)(false, connecting, outcome);
            answer
        })
    }
}

/// The connection that a request which began then was sent on, as hyper's client tells.
fn connection(captured: &CaptureConnection, used: &Used, began: Moment) -> Option<ConnectionUse> {
    let mut extras = http::Extensions::new();
    captured.connection_metadata().as_ref()?.get_extras(&mut extras);
    let ends: &HttpInfo = extras.get()?;
    let (local, remote) = (ends.local_addr().to_string(), ends.remote_addr().to_string());
    let before = used
        .as_ref()
        .and_then(|used| used.lock().unwrap_or_else(PoisonError::into_inner).insert(local.clone(), Moment::now()));
    let idle = before.map_or(Duration::ZERO, |last| began.since(last));
    Some(ConnectionUse { local, remote, reused: before.is_some(), idle })
}

/// A list or watch request, by its query. The resourceVersion 0 stands for any there is.
fn list_watch(probe: &str, sent: Sent) -> ListWatch {
    let parameters: HashMap<&str, &str> = sent.query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let on = |name| parameters.get(name).is_some_and(|value| matches!(*value, "true" | "1"));
    let version: Option<u64> = parameters.get("resourceVersion").and_then(|version| version.parse().ok());
    ListWatch {
        probe: probe.to_owned(),
        call: if on("watch") { Call::Watch } else { Call::List },
        from: version.filter(|from| *from != 0),
        any: version == Some(0),
        initial_events: on("sendInitialEvents"),
        audit_id: sent.audit_id,
        answer: sent.answer.map(|(status, _)| status),
        took: sent.took,
    }
}

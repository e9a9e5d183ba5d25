//! An API server that a kubeconfig leads to: by name or address, with whatever credentials kube-rs knows.
//!
//! kube-rs reads the kubeconfig and keeps tokens fresh; the requests themselves are sent as the lab's own are, so that a
//! connection's use and a request's phase are seen. HTTP/1.1 over TLS.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use kube::client::{Body, ConfigExt as _};
use rustls::pki_types::ServerName;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use super::http::{Ask, Connection, Endpoint, Named, classify, nothing_yet};
use super::network::Site;
use super::tls;
use crate::timeline::{ErrorClass, Exchange, Failure, Phase, Protocol};
use crate::timing;

/// Where requests go.
#[derive(Clone)]
pub enum Target {
    /// An endpoint of a lab.
    Endpoint(Endpoint),
    /// What a kubeconfig leads to.
    Remote(Arc<Remote>),
}

/// What a kubeconfig leads to.
pub struct Remote {
    host: String,
    port: u16,
    /// The path of the server's URL, without a slash at its end.
    prefix: String,
    /// But for its address.
    endpoint: Endpoint,
    /// The address found last.
    address: Mutex<SocketAddr>,
    /// Answers with the headers that a request needs: a token, impersonation.
    headers: BoxCloneSyncService<Request<Body>, Response<()>, BoxError>,
}

impl Target {
    /// Sends one request, as [`Endpoint::exchange`] does.
    pub async fn exchange(&self, kept: &mut Option<Connection>, ask: Ask) -> (Exchange, Bytes) {
        match self {
            Self::Endpoint(endpoint) => endpoint.exchange(kept, &ask).await,
            Self::Remote(remote) => remote.exchange(kept, ask).await,
        }
    }
}

impl Remote {
    /// What `config` leads to. Nothing is sent yet.
    ///
    /// # Errors
    /// The server's URL is not one of HTTPS, or asks for a proxy; a certificate, key or token cannot be used.
    pub fn new(config: &kube::Config) -> anyhow::Result<Self> {
        let url: &Uri = &config.cluster_url;
        ensure!(url.scheme_str() == Some("https"), "the server {url} is not an https:// URL");
        if let Some(proxy) = &config.proxy_url {
            bail!("the kubeconfig asks for the proxy {proxy}, and this command speaks to the server itself");
        }
        let host = url.host().with_context(|| format!("the server {url} names no host"))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let certificate = config.tls_server_name.clone().unwrap_or_else(|| host.clone());
        let certificate =
            ServerName::try_from(certificate).with_context(|| format!("{host:?} is neither a name nor an address"))?;
        let authority = url.authority().map_or_else(String::new, ToString::to_string);

        let mut tls = config.rustls_client_config().map_err(unusable)?;
        tls.alpn_protocols = vec![tls::HTTP_1_1.to_vec()];
        let echo = tower::service_fn(async |request: Request<Body>| {
            let mut answer = Response::new(());
            *answer.headers_mut() = request.headers().clone();
            Ok::<_, BoxError>(answer)
        });
        let headers = ServiceBuilder::new()
            .option_layer(config.auth_layer().map_err(unusable)?)
            .layer(config.extra_headers_layer().map_err(unusable)?)
            .map_err(BoxError::from)
            .service(echo);
        Ok(Self {
            host,
            port: url.port_u16().unwrap_or(443),
            prefix: url.path().trim_end_matches('/').to_owned(),
            endpoint: Endpoint {
                from: None,
                address: SocketAddr::from(([0, 0, 0, 0], 0)),
                site: Site::default(),
                tls: Arc::new(tls),
                protocol: Protocol::Http1,
                roster: Arc::default(),
                named: Some(Arc::new(Named { certificate, host: authority })),
                token: None,
                plain: false,
            },
            address: Mutex::new(SocketAddr::from(([0, 0, 0, 0], 0))),
            headers: BoxCloneSyncService::new(headers),
        })
    }

    async fn exchange(&self, kept: &mut Option<Connection>, mut ask: Ask) -> (Exchange, Bytes) {
        ask.path.insert_str(0, &self.prefix);
        let prepared = tokio::time::timeout(timing::REQUEST_TIMEOUT, async {
            ask.headers = self.request_headers().await?;
            // A balancer known by name may have several addresses: each connection looks anew.
            self.look_up(kept.as_ref().is_some_and(Connection::is_open)).await
        });
        let failure = match prepared.await {
            Ok(Ok(endpoint)) => return endpoint.exchange(kept, &ask).await,
            Ok(Err(failure)) => failure,
            Err(_) => Failure { class: ErrorClass::Timeout, text: "no token or no address in time".to_owned() },
        };
        (Exchange { phase: Phase::Dns, failure: Some(failure), ..nothing_yet(&ask.audit_id) }, Bytes::new())
    }

    async fn request_headers(&self) -> Result<HeaderMap, Failure> {
        let answer = self.headers.clone().oneshot(Request::new(Body::empty())).await;
        answer.map(|answer| answer.into_parts().0.headers).map_err(|error| classify(error.as_ref()))
    }

    async fn look_up(&self, connected: bool) -> Result<Endpoint, Failure> {
        let last = || self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if connected {
            return Ok(Endpoint { address: *last(), ..self.endpoint.clone() });
        }
        let mut found =
            tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(|error| classify(&error))?;
        let text = || format!("{} has no address", self.host);
        let address = found.next().ok_or_else(|| Failure { class: ErrorClass::Other, text: text() })?;
        *last() = address;
        Ok(Endpoint { address, ..self.endpoint.clone() })
    }
}

/// kube's messages carry their causes already.
fn unusable(error: kube::Error) -> anyhow::Error {
    anyhow!("cannot use the kubeconfig's certificates or credentials: {error}")
}

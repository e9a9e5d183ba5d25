//! One request over TLS, by HTTP/1.1 or HTTP/2, in the phases a recording tells apart.
//!
//! hyper speaks the protocols; here is only what its pooled clients hide: which connection was used, how far the request
//! came, and whose serving certificate answered.
//!
//! A phase that one might look for is not there: writing a request cannot be told from waiting for its answer. hyper says when it takes a
//! request, not when the kernel has its last byte.

mod classify;
mod pongs;
mod reached;
mod stream;
mod wire;

pub use classify::{classify, was_connecting};
pub use pongs::Pongs;
pub use stream::{Asking, Multiplexed};

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use self::reached::Reached;
use super::network::Site;
use super::tls;
use crate::timeline::{ConnectionUse, ErrorClass, Exchange, Failure, Moment, Phase, Protocol};
use crate::timing;

/// The response header in which a balancer that ends TLS says whom it has asked: an address and a port.
pub const UPSTREAM_HEADER: &str = "x-rollproof-upstream";

/// Serving certificates by SHA-256 (hex), and addresses with ports, with the servers they belong to.
pub type Roster = BTreeMap<String, String>;

/// Something to send requests to: a balancer, or an apiserver past it.
#[derive(Clone)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where clients stand that dial it.
    pub site: Site,
    /// The address to come from; `None` leaves it to the kernel.
    pub from: Option<IpAddr>,
    /// CA and client certificate; offers `protocol` by ALPN.
    pub tls: Arc<rustls::ClientConfig>,
    /// What is spoken over it; [`Endpoint::over`] changes it.
    pub protocol: Protocol,
    /// Whom the serving certificates belong to.
    pub roster: Arc<Roster>,
    /// What its certificate and the Host header must name, where that is not the address.
    pub named: Option<Arc<Named>>,
    /// A bearer token, where the client certificate does not come through. Never recorded.
    pub token: Option<Arc<str>>,
    /// Whether it is spoken to without TLS: HTTP/2 then begins unasked (RFC 9113, section 3.3).
    pub plain: bool,
}

/// An endpoint that goes by a name.
#[derive(Debug)]
pub struct Named {
    /// Whom the serving certificate must belong to.
    pub certificate: ServerName<'static>,
    /// The Host header.
    pub host: String,
}

/// A request to be.
#[derive(Clone, Debug)]
pub struct Ask {
    /// GET, POST, ...
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// JSON, or empty.
    pub body: Bytes,
    /// Sent as the Audit-ID header.
    pub audit_id: String,
    /// Sent as the User-Agent header.
    pub agent: String,
    /// Further headers, for example Authorization. Never recorded.
    pub headers: HeaderMap,
}

impl Ask {
    /// A GET.
    pub fn get(path: &str, audit_id: String, agent: &str) -> Self {
        Self::new(Method::GET, path.to_owned(), Bytes::new(), audit_id, agent)
    }

    /// A request without further headers.
    pub fn new(method: Method, path: String, body: Bytes, audit_id: String, agent: &str) -> Self {
        Self { method, path, body, audit_id, agent: agent.to_owned(), headers: HeaderMap::new() }
    }
}

/// A connection that is kept for further requests.
pub struct Connection {
    sender: Sender,
    local: String,
    server: Option<String>,
    used: bool,
    idle_since: Moment,
    trouble: wire::Trouble,
    /// What is waited for, should it take too long.
    awaited: &'static str,
    /// Drives the connection, and ends with it; dropping it closes the socket.
    driver: AbortOnDropHandle<hyper::Result<()>>,
}

/// hyper's half of a connection that takes requests.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            // Also after a GOAWAY: it takes no further request then.
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until hyper takes a request.
    async fn ready(&mut self) -> Result<(), NotAnswered> {
        let ready = match self {
            // Right after an answer, hyper's driver may not have looked up yet; a request sent before it has is cancelled.
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(_) => Ok(()),
        };
        ready.map_err(|error| NotAnswered { error, unsent: true })
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, NotAnswered> {
        let answer = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        answer.map_err(|error| {
            // hyper gives the request back if it has handed no byte of it to the connection.
            let unsent = error.message().is_some();
            NotAnswered { error: error.into_error(), unsent }
        })
    }
}

/// Why hyper has no answer, and whether it knows that no byte of the request was sent.
struct NotAnswered {
    error: hyper::Error,
    unsent: bool,
}

impl Connection {
    /// The apiserver whose certificate it showed, if that is one of ours.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Whether its end has not been noticed.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Why hyper did not send a request, or not finish it.
    ///
    /// Of a connection that ended before hyper took the request, it only says so; of one that the server closed after a
    /// GOAWAY, only that it was closed. The socket and the connection's driver know more.
    async fn failure(&mut self, error: hyper::Error) -> Failure {
        self.awaited = "the end of the connection";
        let found = classify(&error);
        let http2 = matches!(self.sender, Sender::Http2(_));
        let unsent = error.is_canceled() || error.is_closed();
        if found.class != ErrorClass::UnexpectedEof || !(unsent || http2) {
            return found;
        }
        if let Some(trouble) = self.trouble.get() {
            return trouble.clone();
        }
        match tokio::time::timeout(timing::CLOSE_NOTICED, &mut self.driver).await {
            Ok(Ok(Err(cause))) => {
                Some(classify(&cause)).filter(|known| known.class != ErrorClass::Other).unwrap_or(found)
            }
            // This driver ends well only after a GOAWAY with NO_ERROR, since we still hold the connection.
            Ok(Ok(Ok(()))) if http2 => {
                let text = format!("{}: GOAWAY: {}", found.text, h2::Reason::NO_ERROR.description());
                Failure { class: ErrorClass::Goaway, text }
            }
            Ok(Ok(Ok(())) | Err(_)) => found,
            Err(_) => Failure { text: format!("{} (and its end is not in sight)", found.text), ..found },
        }
    }
}

impl Endpoint {
    /// The same, by another protocol.
    #[must_use]
    pub fn over(self, protocol: Protocol) -> Self {
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![tls::alpn(protocol).to_vec()];
        Self { tls: Arc::new(tls), protocol, ..self }
    }

    /// Opens a connection: TCP, then TLS, unless it is [`Endpoint::plain`].
    ///
    /// # Errors
    /// The phase it failed in, and why.
    pub async fn dial(&self) -> Result<Connection, (Phase, Failure)> {
        self.dial_for(&mut nothing_yet("")).await
    }

    /// [`Endpoint::dial`] that notes how far it has come: whoever has waited too long for it wants to know.
    async fn dial_for(&self, exchange: &mut Exchange) -> Result<Connection, (Phase, Failure)> {
        let Reached { wire, trouble, local, server } = self.reach(exchange).await?;
        let io = TokioIo::new(wire);
        let in_handshake = |error: hyper::Error| (Phase::Tls, classify(&error));
        let (sender, driver) = match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(in_handshake)?;
                (Sender::Http1(sender), tokio::spawn(connection))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(in_handshake)?;
                (Sender::Http2(sender), tokio::spawn(connection))
            }
        };
        let driver = AbortOnDropHandle::new(driver);
        Ok(Connection { sender, local, server, used: false, idle_since: Moment::now(), trouble, awaited: "", driver })
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = self.site.socket(self.address).await?;
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        socket.connect(self.address).await
    }

    /// TLS on an open connection. Returns it and the apiserver whose certificate it showed, if that is one of ours.
    ///
    /// # Errors
    /// The phase it failed in, and why.
    pub async fn secure(&self, tcp: TcpStream) -> Result<(TlsStream<TcpStream>, Option<String>), (Phase, Failure)> {
        let _ = tcp.set_nodelay(true);
        let by_address = || ServerName::IpAddress(self.address.ip().into());
        let name = self.named.as_ref().map_or_else(by_address, |named| named.certificate.clone());
        let connector = TlsConnector::from(self.tls.clone());
        let stream = connector.connect(name, tcp).await.map_err(|error| (Phase::Tls, classify(&error)))?;
        let server = tls::peer_certificate_digest(&stream).and_then(|digest| self.roster.get(&digest).cloned());
        Ok((stream, server))
    }

    /// The Authorization header, where the client certificate does not come through.
    pub fn authorization(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.token.as_ref()?)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The Host header.
    pub fn host(&self) -> String {
        self.named.as_ref().map_or_else(|| self.address.to_string(), |named| named.host.clone())
    }

    /// Sends one request: on the kept connection if there is one that is still open, else on a new one, which is kept. A
    /// connection on which something failed is not kept. Returns what happened, and the answer's body.
    pub async fn exchange(&self, kept: &mut Option<Connection>, ask: &Ask) -> (Exchange, Bytes) {
        self.exchange_within(timing::REQUEST_TIMEOUT, kept, ask).await
    }

    /// [`Endpoint::exchange`] with a patience of its own.
    pub async fn exchange_within(
        &self,
        limit: Duration,
        kept: &mut Option<Connection>,
        ask: &Ask,
    ) -> (Exchange, Bytes) {
        let began = Moment::now();
        let mut exchange = Exchange { protocol: self.protocol, ..nothing_yet(&ask.audit_id) };
        let step = self.step_through(kept, ask, &mut exchange);
        let answer = tokio::time::timeout(limit, step).await;
        let body = match answer {
            Ok(Ok(body)) => body,
            Ok(Err(failure)) => {
                exchange.failure = Some(failure);
                Bytes::new()
            }
            Err(_) => {
                let awaited = kept.as_ref().map_or("a connection", |connection| connection.awaited);
                let text = format!("no answer within {limit:?}: waiting for {awaited}");
                exchange.failure = Some(Failure { class: ErrorClass::Timeout, text });
                Bytes::new()
            }
        };
        if exchange.failure.is_some() {
            *kept = None;
        }
        exchange.took = Moment::now().since(began);
        (exchange, body)
    }

    async fn step_through(
        &self,
        kept: &mut Option<Connection>,
        ask: &Ask,
        exchange: &mut Exchange,
    ) -> Result<Bytes, Failure> {
        if kept.as_ref().is_some_and(|connection| connection.sender.is_closed()) {
            *kept = None;
        }
        if kept.is_none() {
            let dialled = self.dial_for(exchange).await.map_err(|(phase, failure)| {
                exchange.phase = phase;
                failure
            })?;
            *kept = Some(dialled);
        }
        let Some(connection) = kept.as_mut() else { unreachable!("dialled above") };
        exchange.server.clone_from(&connection.server);
        exchange.connection = Some(ConnectionUse {
            local: connection.local.clone(),
            remote: self.address.to_string(),
            reused: connection.used,
            idle: Moment::now().since(connection.idle_since),
        });
        connection.used = true;

        exchange.phase = Phase::Headers;
        let request = self.request(ask).map_err(|error| classify(&error))?;
        connection.awaited = "the connection to take a request";
        let ready = connection.sender.ready().await;
        connection.awaited = "an answer";
        let answer = match ready {
            Ok(()) => connection.sender.send(request).await,
            Err(not) => Err(not),
        };
        let response = match answer {
            Ok(response) => response,
            Err(NotAnswered { error, unsent }) => {
                exchange.unsent = unsent;
                return Err(connection.failure(error).await);
            }
        };
        exchange.status = Some(response.status().as_u16());
        exchange.retry_after = retry_after(response.headers());
        if exchange.server.is_none() {
            exchange.server = self.upstream(&response);
        }

        exchange.phase = Phase::Body;
        connection.awaited = "the rest of the answer";
        let body = match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Err(connection.failure(error).await),
        };
        exchange.phase = Phase::Done;
        connection.idle_since = Moment::now();
        Ok(body)
    }

    fn request(&self, ask: &Ask) -> http::Result<Request<Full<Bytes>>> {
        // HTTP/2 has scheme and authority as pseudo-headers (RFC 9113, 8.3.1), which hyper takes from the URI.
        let scheme = if self.plain { "http" } else { "https" };
        let (uri, host) = match self.protocol {
            Protocol::Http1 => (ask.path.clone(), Some(self.host())),
            Protocol::Http2 => (format!("{scheme}://{}{}", self.host(), ask.path), None),
        };
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(uri)
            .header(header::USER_AGENT, &ask.agent)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .header("Audit-ID", &ask.audit_id);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        if let Some(authorization) = self.authorization() {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let mut request = request.body(Full::new(ask.body.clone()))?;
        request.headers_mut().extend(ask.headers.clone());
        Ok(request)
    }
}

/// An exchange that has not begun.
pub(crate) fn nothing_yet(audit_id: &str) -> Exchange {
    Exchange {
        audit_id: audit_id.to_owned(),
        protocol: Protocol::default(),
        connection: None,
        phase: Phase::Dial,
        status: None,
        retry_after: None,
        failure: None,
        unsent: false,
        server: None,
        took: Duration::ZERO,
    }
}

/// The Retry-After header, in seconds, if it is there and is no date.
pub fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

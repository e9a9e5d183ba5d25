//! One HTTP/1.1 request over TLS, in the phases a recording tells apart.
//!
//! hyper speaks the protocol; here is only what its pooled clients hide: which connection was used, how far the request
//! came, and whose serving certificate answered.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::tls;
use crate::timeline::{ConnectionUse, ErrorClass, Exchange, Failure, Moment, Phase};
use crate::timing;

/// Serving certificates by SHA-256 (hex), and the servers they belong to.
pub type Roster = BTreeMap<String, String>;

/// Something to send requests to: a balancer, or an apiserver past it.
#[derive(Clone)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The address to come from; `None` leaves it to the kernel.
    pub from: Option<IpAddr>,
    /// CA and client certificate.
    pub tls: Arc<rustls::ClientConfig>,
    /// Whom the serving certificates belong to.
    pub roster: Arc<Roster>,
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
}

impl Ask {
    /// A GET.
    pub fn get(path: &str, audit_id: String, agent: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), body: Bytes::new(), audit_id, agent: agent.to_owned() }
    }
}

/// A connection that is kept for further requests.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    local: String,
    server: Option<String>,
    used: bool,
    idle_since: Moment,
    /// Drives the connection; dropping it closes the socket.
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// The apiserver whose certificate it showed, if that is one of ours.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }
}

impl Endpoint {
    /// Opens a connection: TCP, then TLS.
    ///
    /// # Errors
    /// The phase it failed in, and why.
    pub async fn dial(&self) -> Result<Connection, (Phase, Failure)> {
        let tcp = self.connect().await.map_err(|error| (Phase::Dial, classify(&error)))?;
        let _ = tcp.set_nodelay(true);
        let local = tcp.local_addr().map_or_else(|_| String::new(), |address| address.to_string());
        let name = ServerName::IpAddress(self.address.ip().into());
        let connector = TlsConnector::from(self.tls.clone());
        let stream = connector.connect(name, tcp).await.map_err(|error| (Phase::Tls, classify(&error)))?;
        let server = tls::peer_certificate_digest(&stream).and_then(|digest| self.roster.get(&digest).cloned());
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| (Phase::Tls, classify(&error)))?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // Its error comes out of the request that meets it.
            let _ = connection.await;
        }));
        Ok(Connection { sender, local, server, used: false, idle_since: Moment::now(), _driver: driver })
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let Some(from) = self.from else { return TcpStream::connect(self.address).await };
        let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(from, 0))?;
        socket.connect(self.address).await
    }

    /// Sends one request: on the kept connection if there is one that is still open, else on a new one, which is kept. A
    /// connection on which something failed is not kept. Returns what happened, and the answer's body.
    pub async fn exchange(&self, kept: &mut Option<Connection>, ask: &Ask) -> (Exchange, Bytes) {
        let began = Moment::now();
        let mut exchange = Exchange {
            audit_id: ask.audit_id.clone(),
            connection: None,
            phase: Phase::Dial,
            status: None,
            retry_after: None,
            failure: None,
            server: None,
            took: std::time::Duration::ZERO,
        };
        let step = self.step_through(kept, ask, &mut exchange);
        let answer = tokio::time::timeout(timing::REQUEST_TIMEOUT, step).await;
        let body = match answer {
            Ok(Ok(body)) => body,
            Ok(Err(failure)) => {
                exchange.failure = Some(failure);
                Bytes::new()
            }
            Err(_) => {
                let text = format!("no answer within {:?}", timing::REQUEST_TIMEOUT);
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
            let dialled = self.dial().await.map_err(|(phase, failure)| {
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
        let request = Request::builder()
            .method(&ask.method)
            .uri(&ask.path)
            .header(header::HOST, self.address.to_string())
            .header(header::USER_AGENT, &ask.agent)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .header("Audit-ID", &ask.audit_id)
            .body(Full::new(ask.body.clone()))
            .map_err(|error| classify(&error))?;
        // Right after an answer, hyper's driver may not have looked up yet; a request sent before it has is cancelled.
        connection.sender.ready().await.map_err(|error| classify(&error))?;
        let response = connection.sender.send_request(request).await.map_err(|error| classify(&error))?;
        exchange.status = Some(response.status().as_u16());
        let retry_after = response.headers().get(header::RETRY_AFTER);
        exchange.retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());

        exchange.phase = Phase::Body;
        let body = response.into_body().collect().await.map_err(|error| classify(&error))?.to_bytes();
        exchange.phase = Phase::Done;
        connection.idle_since = Moment::now();
        Ok(body)
    }
}

/// Names an error, whichever library wraps it: the first cause that has a class decides.
pub fn classify(error: &(dyn StdError + 'static)) -> Failure {
    let mut texts: Vec<String> = Vec::new();
    let mut class = ErrorClass::Other;
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !texts.last().is_some_and(|last| last.contains(&text)) {
            texts.push(text);
        }
        if class == ErrorClass::Other {
            class = class_of(error);
        }
        cause = error.source();
    }
    Failure { class, text: texts.join(": ") }
}

fn class_of(error: &(dyn StdError + 'static)) -> ErrorClass {
    use std::io::ErrorKind;
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        // tokio-rustls wraps TLS errors into io errors, and io errors wrap others: look inside first.
        if let Some(inner) = error.get_ref() {
            let class = class_of(inner);
            if class != ErrorClass::Other {
                return class;
            }
        }
        return match error.kind() {
            ErrorKind::ConnectionRefused => ErrorClass::ConnectionRefused,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => ErrorClass::ConnectionReset,
            ErrorKind::BrokenPipe => ErrorClass::BrokenPipe,
            ErrorKind::UnexpectedEof => ErrorClass::UnexpectedEof,
            ErrorKind::TimedOut => ErrorClass::Timeout,
            _ => ErrorClass::Other,
        };
    }
    if error.is::<rustls::Error>() {
        return ErrorClass::Tls;
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        if error.is_incomplete_message() {
            return ErrorClass::UnexpectedEof;
        }
        if error.is_timeout() {
            return ErrorClass::Timeout;
        }
        // Cancelled before it was sent: the connection had been closed while idle.
        if error.is_closed() || error.is_canceled() {
            return ErrorClass::UnexpectedEof;
        }
    }
    ErrorClass::Other
}

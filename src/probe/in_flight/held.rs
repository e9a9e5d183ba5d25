//! One request that is held in flight: begun, proven to have been received, let go, and looked at afterwards.

use std::convert::Infallible;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::channel::mpsc;
use http::{Method, Response, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::NAMESPACE;
use crate::lab::control_plane::Shared;
use crate::lab::http::{Endpoint, classify};
use crate::probe::load::names;
use crate::probe::{AuditIds, found_within};
use crate::timeline::{ErrorClass, Failure, Held, InFlight, Moment};
use crate::timing;

/// The receive buffer of a slow reader, in bytes: what the kernel takes in without being read stays small.
const SMALL_WINDOW: u32 = 16 * 1024;

type Body = BoxBody<Bytes, Infallible>;
type Answer = Result<Response<Incoming>, hyper::Error>;

/// What it takes to hold requests of one kind on one server.
pub(super) struct Desk {
    pub(super) probe: &'static str,
    pub(super) held: Held,
    /// How many objects the slow list brings.
    pub(super) listed: usize,
    /// The balancer.
    pub(super) to: Endpoint,
    pub(super) server: Shared,
    /// The other servers.
    pub(super) others: Vec<Shared>,
    /// All servers, past the balancer.
    pub(super) servers: Vec<Endpoint>,
    pub(super) audit_ids: AuditIds,
}

/// A request in flight.
pub(super) struct Request {
    began: Moment,
    began_at: Instant,
    received: Moment,
    audit_id: String,
    /// Where the audit log ended when it began.
    log_from: u64,
    /// The part of the body that is held back, and where to put it.
    rest: Option<(mpsc::UnboundedSender<Bytes>, Bytes)>,
    answer: AbortOnDropHandle<Answer>,
    _driver: AbortOnDropHandle<()>,
}

impl Request {
    pub(super) fn began(&self) -> Instant {
        self.began_at
    }
}

/// The collection that held requests work on.
pub(super) fn collection() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

impl Desk {
    /// Begins a request. Returns when the server's audit log says that it was received.
    ///
    /// Where the balancer ends TLS, a request may come to another server, as its audit log tells: then it is dropped, and
    /// another is begun.
    pub(super) async fn begin(&self) -> anyhow::Result<Request> {
        let begun = found_within(timing::BALANCER_READY, || async { self.begin_on_any().await.transpose() });
        begun.await.with_context(|| format!("no request comes to {} through the balancer", self.server.name()))?
    }

    async fn begin_on_any(&self) -> anyhow::Result<Option<Request>> {
        let (mut sender, driver) = self.connect().await?;
        let length = |server: &Shared| std::fs::metadata(&server.audit_log).map_or(0, |log| log.len());
        let log_from = length(&self.server);
        let others: Vec<_> = self.others.iter().map(|other| (other, length(other))).collect();
        let audit_id = self.audit_ids.next();
        let (began, began_at) = (Moment::now(), Instant::now());
        let request = http::Request::builder()
            .header(header::HOST, self.to.host())
            .header(header::USER_AGENT, self.probe)
            .header(header::CONTENT_TYPE, "application/json")
            .header("Audit-ID", &audit_id);
        let request = match self.to.authorization() {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        };
        let (request, rest) = match self.held {
            Held::List => {
                let path = format!("{}?labelSelector=held%3Dlist", collection());
                (request.method(Method::GET).uri(path).body(BoxBody::new(Empty::new()))?, None)
            }
            Held::Create => {
                // The name is the server's choice: were the request executed twice, there would be two objects.
                let metadata = serde_json::json!({"generateName": "held-", "labels": {"held": audit_id}});
                let mut body = Bytes::from(serde_json::json!({"metadata": metadata, "data": {"a": "b"}}).to_string());
                let length = body.len();
                let first = body.split_to(length / 2);
                let (pieces, stream) = mpsc::unbounded();
                pieces.unbounded_send(first).context("nobody reads the body")?;
                let stream = StreamBody::new(stream.map(|piece| Ok::<_, Infallible>(Frame::data(piece))));
                let request = request.method(Method::POST).uri(collection()).header(header::CONTENT_LENGTH, length);
                (request.body(BoxBody::new(stream))?, Some((pieces, body)))
            }
        };
        let answer = AbortOnDropHandle::new(tokio::spawn(async move { sender.send_request(request).await }));
        let received = found_within(timing::IN_FLIGHT_RECEIVED, || async {
            let received =
                async |server: &Shared, from| logged(&server.audit_log, from, &audit_id, "RequestReceived").await;
            if received(&self.server, log_from).await {
                return Some(Some(Moment::now()));
            }
            for (other, from) in &others {
                if received(other, *from).await {
                    return Some(None);
                }
            }
            None
        });
        let received = received
            .await
            .with_context(|| format!("the audit log of {} does not tell of {audit_id}", self.server.name()))?;
        let Some(received) = received else { return Ok(None) };
        Ok(Some(Request { began, began_at, received, audit_id, log_from, rest, answer, _driver: driver }))
    }

    /// Lets a request go on, and sees what becomes of it. Returns when it began, too.
    pub(super) async fn finish(&self, request: Request) -> (Moment, InFlight) {
        let resumed = Moment::now();
        let complete = logged(&self.server.audit_log, request.log_from, &request.audit_id, "ResponseComplete").await;
        let Request { began, received, audit_id, rest, answer, _driver, .. } = request;
        let mut status = None;
        let going_on = async {
            if let Some((pieces, rest)) = rest {
                // Where the connection is gone, the answer tells.
                let _ = pieces.unbounded_send(rest);
            }
            let answer = answer.await.map_err(|error| classify(&error))?.map_err(|error| classify(&error))?;
            status = Some(answer.status().as_u16());
            answer
                .into_body()
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .map_err(|error| classify(&error))
        };
        let body = match tokio::time::timeout(timing::IN_FLIGHT_FINISHED, going_on).await {
            Ok(body) => body,
            Err(_) => {
                let text = format!("not complete within {:?}", timing::IN_FLIGHT_FINISHED);
                Err(Failure { class: ErrorClass::Timeout, text })
            }
        };
        let finished = Moment::now();
        let (wanted, got) = match self.held {
            Held::List => (self.listed, counted(body.as_ref().ok().cloned()).await),
            Held::Create => {
                let path = format!("{}?labelSelector=held%3D{audit_id}", collection());
                (1, names(&self.servers, &path).await.map(|found| found.len()))
            }
        };
        let seen = InFlight {
            probe: self.probe.to_owned(),
            held: self.held,
            server: self.server.name().to_owned(),
            audit_id,
            received: Some(received),
            resumed,
            under_way: !complete,
            finished,
            status,
            failure: body.err(),
            wanted,
            got,
        };
        (began, seen)
    }

    /// A connection through the balancer to this desk's server (to whichever, if the balancer ends TLS), with a small receive buffer.
    async fn connect(&self) -> anyhow::Result<(SendRequest<Body>, AbortOnDropHandle<()>)> {
        let stream = found_within(timing::BALANCER_READY, || async {
            match self.open().await {
                Ok((stream, server)) if self.to.token.is_some() || server.as_deref() == Some(self.server.name()) => {
                    Some(stream)
                }
                _ => None,
            }
        });
        let stream = stream.await.with_context(|| format!("the balancer does not lead to {}", self.server.name()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // Its error comes out of the request.
            let _ = connection.await;
        }));
        Ok((sender, driver))
    }

    async fn open(&self) -> anyhow::Result<(TlsStream<TcpStream>, Option<String>)> {
        let socket = self.to.site.socket(self.to.address).await?;
        socket.set_recv_buffer_size(SMALL_WINDOW)?;
        let tcp = socket.connect(self.to.address).await?;
        self.to.secure(tcp).await.map_err(|(phase, failure)| anyhow!("{phase:?}: {}", failure.text))
    }
}

/// Whether an audit log says, from that place on, that a request came to a stage. It may have grown by megabytes: read on a thread of its
/// own, or every probe would stand still meanwhile.
async fn logged(log: &Path, from: u64, audit_id: &str, stage: &str) -> bool {
    let log = log.to_owned();
    let (id, stage) = (format!("\"{audit_id}\""), format!("\"stage\":\"{stage}\""));
    let read = tokio::task::spawn_blocking(move || -> anyhow::Result<bool> {
        let mut file = std::fs::File::open(log)?;
        file.seek(SeekFrom::Start(from))?;
        let mut grown = Vec::new();
        file.read_to_end(&mut grown)?;
        let grown = String::from_utf8_lossy(&grown);
        Ok(grown.lines().any(|line| line.contains(&id) && line.contains(&stage)))
    });
    read.await.is_ok_and(|found| found.unwrap_or(false))
}

/// How many items the list has that came, if one came. It is of some 24 MB: on a thread of its own, or every probe would stand
/// still meanwhile.
async fn counted(body: Option<Bytes>) -> Option<usize> {
    let Some(body) = body else { return Some(0) };
    tokio::task::spawn_blocking(move || items(&body)).await.ok()?
}

/// How many items a list has; `None` if it is none.
fn items(body: &[u8]) -> Option<usize> {
    #[derive(serde::Deserialize)]
    struct List {
        items: Vec<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<List>(body).ok().map(|list| list.items.len())
}

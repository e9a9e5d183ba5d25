//! Several streams on one connection, as client libraries have them: at once by HTTP/2, one after the other by HTTP/1.1.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Mutex;
use tokio_util::io::InspectReader;
use tokio_util::task::AbortOnDropHandle;

use super::pongs::Pongs;
use super::reached::Reached;
use super::{Ask, Connection, Endpoint, Sender, UPSTREAM_HEADER, classify, nothing_yet, wire};
use crate::timeline::{ErrorClass, Failure, Phase};

/// A client that asks its connection by PING (RFC 9113, section 6.7).
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// When nothing has come for so long.
    pub idle: Duration,
    /// How long it waits for the answer before it gives the connection up.
    pub patience: Duration,
}

/// hyper's half of it.
#[derive(Clone)]
enum Shared {
    Http1(Arc<Mutex<http1::SendRequest<Full<Bytes>>>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A connection that carries many streams; whoever holds one shares it. By HTTP/1.1 each waits for the one before it.
#[derive(Clone)]
pub struct Multiplexed {
    sender: Shared,
    local: Arc<str>,
    trouble: wire::Trouble,
    pongs: Option<Pongs>,
    _driver: Arc<AbortOnDropHandle<hyper::Result<()>>>,
}

impl Connection {
    /// The same, for many streams.
    pub fn multiplexed(self) -> Multiplexed {
        let sender = match self.sender {
            Sender::Http1(sender) => Shared::Http1(Arc::new(Mutex::new(sender))),
            Sender::Http2(sender) => Shared::Http2(sender),
        };
        let (local, driver) = (self.local.into(), Arc::new(self.driver));
        Multiplexed { sender, local, trouble: self.trouble, pongs: None, _driver: driver }
    }
}

impl Multiplexed {
    /// Our end of it, host:port.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// How many PINGs were answered on it; `None` where its client sends none.
    pub fn pongs(&self) -> Option<&Pongs> {
        self.pongs.as_ref()
    }

    /// Whether it takes streams, as far as we know. Not after a GOAWAY.
    pub fn is_open(&self) -> bool {
        match &self.sender {
            // Whoever holds it has a request under way.
            Shared::Http1(sender) => sender.try_lock().is_ok_and(|sender| !sender.is_closed()),
            Shared::Http2(sender) => !sender.is_closed(),
        }
    }

    /// Opens a stream. Returns the answer when its headers are there, however long that takes.
    ///
    /// # Errors
    /// Why there will be none.
    pub async fn ask(&self, to: &Endpoint, ask: &Ask) -> Result<Response<Incoming>, Failure> {
        let request = to.request(ask).map_err(|error| classify(&error))?;
        let answer = match &self.sender {
            Shared::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await.map_err(|error| self.failure(&error))?;
                sender.send_request(request).await
            }
            Shared::Http2(sender) => sender.clone().send_request(request).await,
        };
        answer.map_err(|error| self.failure(&error))
    }

    /// Why a stream ended: the socket knows more than h2, which calls every end of a connection the same.
    pub fn failure(&self, error: &hyper::Error) -> Failure {
        let found = classify(error);
        let trouble = self.trouble.get().filter(|_| found.class == ErrorClass::UnexpectedEof);
        trouble.cloned().unwrap_or(found)
    }
}

impl Endpoint {
    /// Opens a connection for many streams by HTTP/2, whose client asks it by PING.
    ///
    /// # Errors
    /// The phase it failed in, and why.
    pub async fn dial_asking(&self, asking: Asking) -> Result<Multiplexed, (Phase, Failure)> {
        let Reached { wire, trouble, local, .. } = self.reach(&mut nothing_yet("")).await?;
        let pongs = Pongs::default();
        let io = TokioIo::new(InspectReader::new(wire, pongs.among_frames()));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(asking.idle).keep_alive_timeout(asking.patience);
        // As client-go's, also when nothing is open.
        let handshake = builder.keep_alive_while_idle(true).handshake(io).await;
        let (sender, connection) = handshake.map_err(|error| (Phase::Tls, classify(&error)))?;
        let driver = Arc::new(AbortOnDropHandle::new(tokio::spawn(connection)));
        Ok(Multiplexed {
            sender: Shared::Http2(sender),
            local: local.into(),
            trouble,
            pongs: Some(pongs),
            _driver: driver,
        })
    }

    /// The apiserver that an answer is from, as a balancer that ends TLS says.
    pub fn upstream<B>(&self, answer: &Response<B>) -> Option<String> {
        let upstream = answer.headers().get(UPSTREAM_HEADER)?.to_str().ok()?;
        self.roster.get(upstream).cloned()
    }
}

//! Several streams at once on one connection by HTTP/2, as client libraries have them.

use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;

use super::{Ask, Connection, Endpoint, Sender, UPSTREAM_HEADER, classify, wire};
use crate::timeline::{ErrorClass, Failure};

/// A connection that carries many streams; whoever holds one shares it.
#[derive(Clone)]
pub struct Multiplexed {
    sender: http2::SendRequest<Full<Bytes>>,
    local: Arc<str>,
    trouble: wire::Trouble,
    _driver: Arc<AbortOnDropHandle<hyper::Result<()>>>,
}

impl Connection {
    /// The same, for many streams; `None` where it speaks HTTP/1.1.
    pub fn multiplexed(self) -> Option<Multiplexed> {
        let Sender::Http2(sender) = self.sender else { return None };
        Some(Multiplexed { sender, local: self.local.into(), trouble: self.trouble, _driver: Arc::new(self.driver) })
    }
}

impl Multiplexed {
    /// Our end of it, host:port.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Whether it takes streams, as far as we know. Not after a GOAWAY.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Opens a stream. Returns the answer when its headers are there, however long that takes.
    ///
    /// # Errors
    /// Why there will be none.
    pub async fn ask(&self, to: &Endpoint, ask: &Ask) -> Result<Response<Incoming>, Failure> {
        let request = to.request(ask).map_err(|error| classify(&error))?;
        let answer = self.sender.clone().send_request(request).await;
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
    /// The apiserver that an answer is from, as a balancer that ends TLS says.
    pub fn upstream<B>(&self, answer: &Response<B>) -> Option<String> {
        let upstream = answer.headers().get(UPSTREAM_HEADER)?.to_str().ok()?;
        self.roster.get(upstream).cloned()
    }
}

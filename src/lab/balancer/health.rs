//! Health checks: GET /readyz over HTTPS, as a cloud's balancer does it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_rustls::TlsConnector;

use super::{Backend, Settings};
use crate::lab::network::Site;
use crate::lab::tls;
use crate::timeline::{BackendHealth, Event, Recorder};

/// How much of the answer to a failed check is read, in bytes. An apiserver's whole /readyz?verbose is about 3 KiB.
const ANSWER_LIMIT: usize = 16 * 1024;

/// A backend, and whether it is in service.
pub(super) struct Member {
    pub(super) backend: Backend,
    in_service: watch::Sender<bool>,
}

impl Member {
    pub(super) fn new(backend: Backend, in_service: bool) -> Self {
        Self { backend, in_service: watch::Sender::new(in_service) }
    }

    pub(super) fn in_service(&self) -> bool {
        *self.in_service.borrow()
    }

    /// Tells of every change from now on.
    pub(super) fn follow(&self) -> watch::Receiver<bool> {
        self.in_service.subscribe()
    }

    /// Returns when it is out of service.
    pub(super) async fn out_of_service(&self) {
        // The sender is ours, so this cannot fail.
        let _ = self.in_service.subscribe().wait_for(|in_service| !in_service).await;
    }
}

/// What speaks against a backend.
struct Unhealthy {
    why: String,
    unanswered: bool,
}

/// Checks backends, each time anonymously and on a new TLS connection, so that nothing of an earlier check is trusted.
pub(super) struct Checker {
    tls: Arc<ClientConfig>,
    path: PathAndQuery,
    interval: Duration,
    timeout: Duration,
    fall: u32,
    rise: u32,
    site: Site,
    recorder: Recorder,
}

impl Checker {
    /// # Errors
    /// The interval is zero, the path is none, or the CA is none.
    pub(super) fn new(settings: &Settings, recorder: Recorder) -> anyhow::Result<Self> {
        let Settings { readyz, interval, timeout, fall, rise, .. } = settings;
        ensure!(!interval.is_zero(), "the balancer's health interval is zero: give it a duration");
        ensure!(readyz.starts_with('/'), "the balancer's health path `{readyz}` does not begin with /");
        Ok(Self {
            tls: tls::client_config(&settings.ca_pem, None).context("the balancer's health checks trust nobody")?,
            path: readyz.parse().with_context(|| format!("the balancer's health path `{readyz}` is none"))?,
            interval: *interval,
            timeout: *timeout,
            fall: *fall,
            rise: *rise,
            site: settings.site.clone(),
            recorder,
        })
    }

    /// The first check of a backend decides at once.
    pub(super) async fn check_first(&self, member: &Member) {
        let seen = self.check(member.backend.address).await;
        self.decide(member, seen);
    }

    /// All the checks after the first. Never returns.
    pub(super) async fn keep_checking(&self, member: &Member) {
        let mut ticks = interval_at(Instant::now() + self.interval, self.interval);
        // A check that outlasts the interval delays the next one; a burst to catch up would find a backend down at once.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Checks in a row that speak against the present state.
        let mut against = 0;
        loop {
            ticks.tick().await;
            let seen = self.check(member.backend.address).await;
            if seen.is_ok() == member.in_service() {
                against = 0;
                continue;
            }
            against += 1;
            if against >= if seen.is_ok() { self.rise } else { self.fall } {
                self.decide(member, seen);
                against = 0;
            }
        }
    }

    fn decide(&self, member: &Member, seen: Result<String, Unhealthy>) {
        let (healthy, why, unanswered) = match seen {
            Ok(why) => (true, why, false),
            Err(Unhealthy { why, unanswered }) => (false, why, unanswered),
        };
        // Recorded first: whatever follows from it is later on the recording's clock.
        let server = member.backend.name.clone();
        self.recorder.record(Event::BackendHealth(BackendHealth { server, healthy, why, unanswered }));
        member.in_service.send_replace(healthy);
    }

    /// What one check saw, in words: healthy or not.
    async fn check(&self, backend: SocketAddr) -> Result<String, Unhealthy> {
        match timeout(self.timeout, self.ask(backend)).await {
            Ok(answer) => answer.map_err(|error| Unhealthy { why: format!("{error:#}"), unanswered: false }),
            Err(_) => {
                let why = format!("GET {}: no answer within {:?}", self.path, self.timeout);
                Err(Unhealthy { why, unanswered: true })
            }
        }
    }

    async fn ask(&self, backend: SocketAddr) -> anyhow::Result<String> {
        let stream = self.site.connect(backend).await.context("cannot connect")?;
        let name = ServerName::IpAddress(backend.ip().into());
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.context("no TLS")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("no HTTP")?;
        let request = Request::get(self.path.as_str())
            .header(header::HOST, backend.to_string())
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;

        let asked = async {
            let answer = sender.send_request(request).await.context("no HTTP answer")?;
            let said = format!("GET {}: {}", self.path, answer.status());
            if answer.status().is_success() {
                return Ok(said);
            }
            // An apiserver names the checks that failed, each in a line like `[-]shutdown failed: reason withheld`.
            let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await.map(|body| body.to_bytes());
            let text = String::from_utf8_lossy(body.as_deref().unwrap_or_default()).into_owned();
            let failed: Vec<_> = text.lines().filter(|line| line.starts_with("[-]")).collect();
            bail!("{}", [said.as_str()].into_iter().chain(failed).collect::<Vec<_>>().join(" "));
        };
        tokio::pin!(asked);
        // Nothing moves unless `connection` is polled, and it may end before the answer has been taken out of it.
        tokio::select! {
            biased;
            answer = &mut asked => answer,
            _ = connection => asked.await,
        }
    }
}

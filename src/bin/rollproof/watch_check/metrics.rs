//! The same for Prometheus.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use rollproof::timeline::Trigger;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::note;

/// OpenMetrics text, version 1.0.0.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Counters, and how they are served.
pub(super) struct Metrics {
    registry: Registry,
    noticed: Histogram,
    unnoticed: Counter,
    unacknowledged: Counter,
    interruptions: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("rollproof_watch_check");
        let noticed = Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let [unnoticed, unacknowledged, interruptions]: [Counter; 3] = Default::default();
        registry.register(
            "noticed_seconds",
            "From a change's acknowledgement until the watch noticed",
            noticed.clone(),
        );
        registry.register("unnoticed", "Changes that the watch did not notice in time", unnoticed.clone());
        registry.register("unacknowledged", "Updates that failed", unacknowledged.clone());
        registry.register("interruptions", "Errors that the watch went on after", interruptions.clone());
        Self { registry, noticed, unnoticed, unacknowledged, interruptions }
    }
}

impl Metrics {
    pub(super) fn add(&self, round: &Trigger) {
        match (&round.failure, round.noticed) {
            (Some(_), _) => drop(self.unacknowledged.inc()),
            (None, None) => drop(self.unnoticed.inc()),
            (None, Some(after)) => self.noticed.observe(after.as_secs_f64()),
        }
    }

    pub(super) fn interrupted(&self) {
        self.interruptions.inc();
    }

    pub(super) fn interruptions(&self) -> u64 {
        self.interruptions.get()
    }

    /// Serves them, whatever the path, until the handle is dropped.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(super) async fn serve(self: &Arc<Self>, address: SocketAddr) -> anyhow::Result<AbortOnDropHandle<()>> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("cannot serve metrics on {address}"))?;
        note(&format!("metrics on http://{}/metrics", listener.local_addr()?));
        let metrics = self.clone();
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            // One that scrapes at a time is enough, and none can make us grow.
            let mut looks = tokio::time::interval(rollproof::timing::LOOK_EVERY);
            loop {
                // Out of descriptors, say: it may get better.
                looks.tick().await;
                let Ok((stream, _)) = listener.accept().await else { continue };
                let answer = service_fn(async |_: http::Request<Incoming>| {
                    let mut text = String::new();
                    // Writing to a string does not fail.
                    let _ = encode(&mut text, &metrics.registry);
                    let answer = http::Response::builder().header(http::header::CONTENT_TYPE, CONTENT_TYPE);
                    Ok::<_, Infallible>(answer.body(text).unwrap_or_default())
                });
                let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), answer);
                // What becomes of one that hangs up, or says nothing, is its own business.
                let _ = tokio::time::timeout(rollproof::timing::SCRAPE, connection).await;
            }
        })))
    }
}

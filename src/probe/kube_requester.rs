//! kube-rs as a requester: what a user of the library is told, after the retries that it does by itself.
//!
//! kube-rs repeats what was answered with 429, 503 or 504, and its HTTP client what it could not send because a pooled
//! connection had been closed. Nothing repeats what was sent and not answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, LocalBoxFuture};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::kube_client::{GIVEN_UP, Library, Sent};
use super::requester::schedule;
use super::{AuditIds, Fence, Probe, Running, Samples, Tasks};
use crate::lab::http::{classify, nothing_yet};
use crate::lab::{Lab, PROBED};
use crate::timeline::{
    Attempt, ConnectionKind, ErrorClass, Event, Exchange, Failure, Moment, Phase, Recorder, Request,
};
use crate::timing;

/// A requester to be that asks by way of kube-rs, through the balancer, every [`timing::REQUEST_EVERY`].
pub struct KubeRequester {
    connections: Connections,
    every: Duration,
}

/// Its connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connections {
    Pooled,
    PooledHttp2,
    New,
}

/// kube-rs with its pool of connections, asking one request after the other.
pub fn kube_requests() -> KubeRequester {
    KubeRequester { connections: Connections::Pooled, every: timing::REQUEST_EVERY }
}

impl KubeRequester {
    /// kube-rs in programs that have just started: there is no pool, and requests start on schedule, whatever became of
    /// those before.
    #[must_use]
    pub fn on_new_connections(self) -> Self {
        Self { connections: Connections::New, ..self }
    }

    /// By HTTP/2, which kube-rs does not offer: many clients do, and as long as nobody turns on HTTP/2 pings, a request that is given up ends its
    /// stream and leaves the connection in the pool.
    #[must_use]
    pub fn over_http2(self) -> Self {
        Self { connections: Connections::PooledHttp2, ..self }
    }

    /// Polls: asks so seldom that no scenario waits for its samples.
    #[must_use]
    pub fn polling(self, every: Duration) -> Self {
        Self { every, ..self }
    }
}

impl Probe for KubeRequester {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let site = lab.through_balancer().site;
            let (name, library) = match self.connections {
                Connections::Pooled => ("kube-rs", Library::new(lab.kubeconfig(), site).await?),
                Connections::PooledHttp2 => ("kube-rs-http2", Library::over_http2(lab.kubeconfig(), site).await?),
                Connections::New => ("kube-rs-new", Library::without_pool(lab.kubeconfig(), site).await?),
            };
            let one_by_one = self.connections != Connections::New;
            let at_work = Arc::new(AtWork {
                name,
                library,
                recorder: lab.recorder().clone(),
                audit_ids: AuditIds::of(name),
                samples: Samples::default(),
            });
            let tasks = Tasks::default();
            let work = at_work.clone().work(self.every, one_by_one, tasks.end.clone(), tasks.running.clone());
            tasks.running.spawn(work);
            let polls = self.every > timing::REQUEST_EVERY;
            Ok(Box::new(RunningKubeRequester { at_work, tasks, polls }) as Box<dyn Running>)
        })
    }
}

struct RunningKubeRequester {
    at_work: Arc<AtWork>,
    tasks: Tasks,
    polls: bool,
}

impl Running for RunningKubeRequester {
    fn name(&self) -> &str {
        self.at_work.name
    }

    fn samples(&self) -> u64 {
        self.at_work.samples.count()
    }

    fn takes_samples(&self) -> bool {
        !self.polls
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            // Each request has its own timeout, so this ends.
            self.tasks.stop().await;
            None
        })
    }
}

struct AtWork {
    name: &'static str,
    library: Library,
    recorder: Recorder,
    audit_ids: AuditIds,
    samples: Samples,
}

impl AtWork {
    async fn work(self: Arc<Self>, every: Duration, one_by_one: bool, end: CancellationToken, tasks: TaskTracker) {
        let mut schedule = schedule(every);
        while end.run_until_cancelled(schedule.tick()).await.is_some() {
            let own = self.clone();
            match one_by_one {
                true => own.ask().await,
                false => drop(tasks.spawn(async move { own.ask().await })),
            }
        }
    }

    /// One request, as a user makes it. Its client is a new one, so that what it sends is told from what others send; the
    /// connections are shared.
    async fn ask(&self) {
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let (seen, audit_ids) = (attempts.clone(), self.audit_ids.clone());
        let observer = move |sent| seen.lock().unwrap_or_else(PoisonError::into_inner).push(attempt(sent));
        let api: Api<ConfigMap> = Api::default_namespaced(self.library.client(move || audit_ids.next(), observer));
        let began = Moment::now();
        let answer = tokio::time::timeout(timing::REQUEST_TIMEOUT, api.get(PROBED)).await;
        let took = Moment::now().since(began);
        let mut attempts = std::mem::take(&mut *attempts.lock().unwrap_or_else(PoisonError::into_inner));
        let exchange = match answer {
            Ok(answer) => {
                let last = attempts.pop().map(|last: Attempt| last.exchange);
                outcome(answer, last.unwrap_or_else(|| nothing_yet("")))
            }
            Err(_) => {
                let text = format!("no answer within {:?}", timing::REQUEST_TIMEOUT);
                let failure = Some(Failure { class: ErrorClass::Timeout, text });
                let given_up =
                    |last: &mut Attempt| last.exchange.failure.as_ref().is_some_and(|why| why.text == GIVEN_UP);
                let connection = attempts.pop_if(given_up).and_then(|last| last.exchange.connection);
                Exchange { phase: Phase::Headers, failure, connection, ..nothing_yet("") }
            }
        };
        let exchange = Exchange { took, ..exchange };
        if exchange.succeeded() {
            self.samples.add_one();
        }
        let (probe, on) = (self.name.to_owned(), ConnectionKind::Library);
        let request = Request { probe, on, retries: None, exchange, attempts };
        self.recorder.record_at(began, Event::Request(request));
    }
}

/// What the library sent, as an exchange.
fn attempt(sent: Sent) -> Attempt {
    let exchange = Exchange { took: sent.took, connection: sent.connection, ..nothing_yet(&sent.audit_id) };
    let exchange = match sent.answer {
        Ok((status, retry_after)) => {
            Exchange { phase: Phase::Done, status: Some(status), retry_after, failure: None, ..exchange }
        }
        Err(failure) => {
            let phase = if sent.connecting { Phase::Dial } else { Phase::Headers };
            Exchange { phase, failure: Some(failure), ..exchange }
        }
    };
    Attempt { at: sent.began, exchange }
}

/// What the user was told about a request whose `last` attempt went like that.
fn outcome(answer: Result<ConfigMap, kube::Error>, last: Exchange) -> Exchange {
    match answer {
        Ok(_) => Exchange { phase: Phase::Done, failure: None, ..last },
        // An answer, and a whole one: its status is an error.
        Err(kube::Error::Api(status)) => {
            Exchange { phase: Phase::Done, status: Some(status.code), failure: None, ..last }
        }
        Err(error) => {
            let phase = if last.status.is_some() { Phase::Body } else { last.phase };
            Exchange { phase, failure: Some(classify(&error)), ..last }
        }
    }
}

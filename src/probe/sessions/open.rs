//! One session, as kube-rs has it.
//!
//! Whoever only reads from kube-rs's `exec` is not told when the connection breaks: its output just comes no more
//! (kube-client `src/api/remote_command.rs` shuts it down after a clean end only). The status, and `join`, tell.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, try_unfold};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess, LogParams};
use kube::config::Kubeconfig;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};

use crate::lab::control_plane::Pod as Target;
use crate::lab::http::classify;
use crate::lab::kubectl::Kubectl;
use crate::lab::network::Site;
use crate::probe::AuditIds;
use crate::probe::kube_client::Library;
use crate::timeline::{ErrorClass, Failure, Moment, SessionEnd, SessionKind};
use crate::timing;

/// What it takes to open sessions.
pub(in crate::probe) struct Desk {
    library: Library,
    audit_ids: AuditIds,
    pod: Target,
}

impl Desk {
    /// Where a kubeconfig leads, from that place.
    pub(in crate::probe) async fn new(
        (kubeconfig, site): (Kubeconfig, Site),
        pod: Target,
        audit_ids: AuditIds,
    ) -> anyhow::Result<Self> {
        // As kubectl does: each session has a connection of its own, and gives none back.
        let library = Library::without_pool(kubeconfig, site).await?;
        Ok(Self { library, audit_ids, pod })
    }

    /// By HTTP/2, as kubectl has logs: there is no upgrade then, so of sessions it takes only those.
    pub(in crate::probe) async fn over_http2(
        (kubeconfig, site): (Kubeconfig, Site),
        pod: Target,
        audit_ids: AuditIds,
    ) -> anyhow::Result<Self> {
        Ok(Self { library: Library::over_http2(kubeconfig, site).await?, audit_ids, pod })
    }

    /// Asks for a session. The Audit-ID is that of the last request that it took.
    pub(in crate::probe) async fn open(&self, kind: SessionKind) -> (String, Result<Open, Failure>) {
        let last = Arc::new(Mutex::new(String::new()));
        let (audit_ids, sent) = (self.audit_ids.clone(), last.clone());
        let next = move || {
            let id = audit_ids.next();
            sent.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&id);
            id
        };
        let api = Api::namespaced(self.library.client(next, |_| ()), &self.pod.namespace);
        let opened = match tokio::time::timeout(timing::REQUEST_TIMEOUT, self.ask(&api, kind)).await {
            Ok(opened) => opened.map_err(|error| classify(&error)),
            Err(_) => {
                let text = format!("no answer within {:?}", timing::REQUEST_TIMEOUT);
                Err(Failure { class: ErrorClass::Timeout, text })
            }
        };
        let audit_id = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (audit_id, opened)
    }

    async fn ask(&self, api: &Api<Pod>, kind: SessionKind) -> kube::Result<Open> {
        let Target { name, container, echo, port, .. } = &self.pod;
        let params = AttachParams::default().container(container).stderr(false);
        Ok(match kind {
            SessionKind::Exec => Open::process(api.exec(name, echo, &params.stdin(true)).await?),
            SessionKind::Attach => Open::process(api.attach(name, &params).await?),
            SessionKind::PortForward => {
                let mut forward = api.portforward(name, &[*port]).await?;
                let error = forward.take_error(*port);
                let (from, to) = forward.take_stream(*port).map(tokio::io::split).unzip();
                Open {
                    to: to.map(|to| Box::new(to) as Box<_>),
                    lines: from.map_or_else(|| futures::stream::empty().boxed(), lines),
                    over: Box::pin(async move { error?.await.map(|text| Failure { class: ErrorClass::Other, text }) }),
                    join: Box::pin(async move { forward.join().await.map_err(|error| classify(&error)) }),
                    over_at: None,
                    said: None,
                }
            }
            SessionKind::Logs => {
                let container = Some(container.clone());
                let params = LogParams { container, follow: true, tail_lines: Some(1), ..LogParams::default() };
                let mut log = futures::io::AsyncBufReadExt::lines(api.log_stream(name, &params).await?);
                let (heard, lines) = futures::channel::mpsc::unbounded();
                Open {
                    to: None,
                    lines: lines.map(Ok).boxed(),
                    // Nobody carries it for us: who does not read is not told of its end.
                    over: Box::pin(async move {
                        loop {
                            match log.next().await? {
                                Ok(line) => drop(heard.unbounded_send(line)),
                                Err(error) => return Some(classify(&error)),
                            }
                        }
                    }),
                    join: Box::pin(async { Ok(()) }),
                    over_at: None,
                    said: None,
                }
            }
        })
    }
}

/// An open session.
pub(in crate::probe) struct Open {
    /// Where lines go that come back; `None`: the pod speaks by itself.
    to: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    lines: BoxStream<'static, io::Result<String>>,
    /// Comes when the library has given up carrying, with what the server said about it.
    over: BoxFuture<'static, Option<Failure>>,
    /// What the library says about the end.
    join: BoxFuture<'static, Result<(), Failure>>,
    /// When `over` came: it must not be asked again.
    over_at: Option<Moment>,
    /// What has been said about the end.
    said: Option<Failure>,
}

/// What came of waiting for a line.
pub(in crate::probe) enum Said {
    Line,
    Over(Over),
}

/// The end of a session, and when it came: what the library says about it may come later.
pub(in crate::probe) struct Over {
    pub(in crate::probe) at: Moment,
    pub(in crate::probe) end: SessionEnd,
}

impl Over {
    /// One that has come now.
    pub(in crate::probe) fn now(end: SessionEnd) -> Self {
        Self { at: Moment::now(), end }
    }
}

impl Open {
    fn process(mut process: AttachedProcess) -> Self {
        let (to, from, status) = (process.stdin(), process.stdout(), process.take_status());
        Self {
            to: to.map(|to| Box::new(to) as Box<_>),
            lines: from.map_or_else(|| futures::stream::empty().boxed(), lines),
            over: Box::pin(async move { refused(&status?.await?) }),
            join: Box::pin(async move { process.join().await.map_err(|error| classify(&error)) }),
            over_at: None,
            said: None,
        }
    }

    /// One of kubectl's, which ends with it.
    pub(in crate::probe) fn of_kubectl(Kubectl { to, from, running }: Kubectl) -> Self {
        Self {
            to: Some(Box::new(to)),
            lines: lines(from),
            over: Box::pin(async move { running.ended().await.map(|text| Failure { class: ErrorClass::Other, text }) }),
            join: Box::pin(async { Ok(()) }),
            over_at: None,
            said: None,
        }
    }

    /// Whether each line comes back.
    pub(in crate::probe) fn echoes(&self) -> bool {
        self.to.is_some()
    }

    /// Sends a line, where lines come back, and waits for the next one.
    pub(in crate::probe) async fn ask_and_wait(&mut self, line: &str) -> Said {
        let Self { to, lines, over, over_at, said, .. } = self;
        let next = async {
            if let Some(to) = to {
                to.write_all(line.as_bytes()).await?;
                to.flush().await?;
            }
            lines.next().await.transpose()
        };
        let next = tokio::select! {
            next = tokio::time::timeout(timing::REQUEST_TIMEOUT, next) => next,
            () = came(over, over_at, said) => return Said::Over(self.end().await),
        };
        match next {
            Ok(Ok(Some(_))) => Said::Line,
            Ok(Ok(None)) => Said::Over(self.end().await),
            Ok(Err(error)) => {
                // What the library says of it goes before what its pipe says.
                let failure = classify(&error);
                let Over { at, end } = self.end().await;
                let told = matches!(end, SessionEnd::Failed(_));
                Said::Over(Over { at, end: if told { end } else { SessionEnd::Failed(failure) } })
            }
            Err(_) => Said::Over(Over::now(SessionEnd::Silence)),
        }
    }

    /// Waits for its end, and nothing else: nobody reads meanwhile. May be cancelled; then comes [`Self::end`].
    pub(in crate::probe) async fn over(&mut self) {
        came(&mut self.over, &mut self.over_at, &mut self.said).await;
    }

    /// What there is to say about the end, which has come. Not to be cancelled, nor asked twice.
    pub(in crate::probe) async fn end(&mut self) -> Over {
        let at = self.over_at.unwrap_or_else(Moment::now);
        // As long as we hold them, the library may wait for more.
        (self.to, self.lines) = (None, futures::stream::empty().boxed());
        let end = match tokio::time::timeout(timing::CLOSE_NOTICED, &mut self.join).await {
            Ok(Err(failure)) => SessionEnd::Failed(failure),
            Ok(Ok(())) | Err(_) => self.said.take().map_or(SessionEnd::Clean, SessionEnd::Failed),
        };
        Over { at, end }
    }
}

/// Waits for `over`, and keeps what came: whoever is cancelled loses nothing, and whoever comes again does not ask again.
async fn came(over: &mut BoxFuture<'static, Option<Failure>>, at: &mut Option<Moment>, said: &mut Option<Failure>) {
    if at.is_none() {
        *said = over.await;
        *at = Some(Moment::now());
    }
}

/// A status that says that something went wrong.
fn refused(status: &Status) -> Option<Failure> {
    let failed = status.status.as_deref() == Some("Failure");
    failed.then(|| Failure { class: ErrorClass::Status, text: status.message.clone().unwrap_or_default() })
}

fn lines(from: impl AsyncRead + Send + Unpin + 'static) -> BoxStream<'static, io::Result<String>> {
    let lines = BufReader::new(from).lines();
    try_unfold(lines, async |mut lines| Ok(lines.next_line().await?.map(|line| (line, lines)))).boxed()
}

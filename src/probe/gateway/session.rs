//! Sessions through a gateway: on each apiserver one of each kind in which nothing is said until the end, and an `exec` that talks all
//! the time. None is opened again: that is for its user to do.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use kube::config::Kubeconfig;

use super::Crew;
use super::stream::Story;
use crate::lab::control_plane::Pod;
use crate::lab::gateway::{Gateway, Lane};
use crate::lab::http::Ask;
use crate::lab::{Lab, wait};
use crate::probe::sessions::open::{Desk, Open, Over, Said};
use crate::probe::{Tasks, requester};
use crate::timeline::{ErrorClass, Failure, SessionEnd, SessionKind, Shape};
use crate::timing;

/// Opens them, in a lab that has a pod, and lets them run.
pub(super) async fn start(lab: &Lab, gateway: &Gateway, crew: &Crew, tasks: &Tasks) -> anyhow::Result<()> {
    let Some(pod) = lab.pod() else { return Ok(()) };
    let there = (lab.gateway_kubeconfig(gateway, Lane::Sessions), lab.through_gateway(gateway, Lane::Sessions).site);
    let audit_ids = &crew.audit_ids;
    let desk = Desk::new(there.clone(), pod.clone(), audit_ids.clone()).await?;
    let echo = [
        (Shape::QuietExec, SessionKind::Exec),
        (Shape::QuietPortForward, SessionKind::PortForward),
        (Shape::Exec, SessionKind::Exec),
    ];
    for (shape, kind) in echo {
        keep(spread(lab, gateway, crew, shape, async || desk.open(kind).await).await?, crew, tasks);
    }
    if lab.setup().kubectl {
        let kubeconfig = &there.0;
        let open = async || by_spdy(lab, pod, kubeconfig, audit_ids.next()).await;
        keep(spread(lab, gateway, crew, Shape::QuietSpdy, open).await?, crew, tasks);
    }
    if let Some(quiet) = pod.by_its_quiet_container().filter(|_| lab.setup().listeners) {
        let attach = Desk::new(there.clone(), quiet.clone(), audit_ids.clone()).await?;
        let logs = Desk::over_http2(there, quiet, audit_ids.clone()).await?;
        let hear = [(&attach, Shape::QuietAttach, SessionKind::Attach), (&logs, Shape::QuietLogs, SessionKind::Logs)];
        for (desk, shape, kind) in hear {
            keep(spread(lab, gateway, crew, shape, async || desk.open(kind).await).await?, crew, tasks);
        }
    }
    Ok(())
}

/// kubectl, which says who it is by impersonation: it adds no header of ours.
async fn by_spdy(lab: &Lab, pod: &Pod, there: &Kubeconfig, id: String) -> (String, Result<Open, Failure>) {
    let [container, namespace, uid] = [("container", &pod.container), ("namespace", &pod.namespace), ("as-uid", &id)]
        .map(|(flag, value)| format!("--{flag}={value}"));
    let mut args = vec!["exec", "--stdin", "--as=rollproof", "--as-group=system:masters", &uid, &namespace, &container];
    args.extend([&*pod.name, "--"].into_iter().chain(pod.echo.iter().map(String::as_str)));
    let started = lab.kubectl(&id, there, &args).await;
    let failed = |error: anyhow::Error| Failure { class: ErrorClass::Other, text: format!("{error:#}") };
    let open = started.map(Open::of_kubectl).map_err(failed);
    (id, open)
}

/// Lets them run.
fn keep(sessions: Vec<Session>, crew: &Crew, tasks: &Tasks) {
    for session in sessions {
        let (crew, end) = (crew.clone(), tasks.end.clone());
        tasks.running.spawn(async move {
            end.run_until_cancelled(session.follow(crew)).await;
        });
    }
}

/// One on each apiserver.
async fn spread(
    lab: &Lab,
    gateway: &Gateway,
    crew: &Crew,
    shape: Shape,
    open: impl AsyncFn() -> (String, Result<Open, Failure>),
) -> anyhow::Result<Vec<Session>> {
    let mut found: Vec<Session> = Vec::new();
    let what = format!("a {shape} on each apiserver, through the gateway {}", gateway.remedy.name);
    wait::until(timing::PROBE_READY, &what, async || {
        let client = format!("{shape:?}-{}", found.len()).to_lowercase();
        let mut story = Story::begin(crew.recorder.clone(), gateway.remedy.name, shape, &client, String::new());
        let (audit_id, open) = open().await;
        story.asked_as(audit_id.clone());
        let mut open = match open {
            Ok(open) => open,
            Err(failure) => {
                story.told(Some(failure.clone()));
                return ControlFlow::Continue(failure.text);
            }
        };
        // Who is attached is told of nothing that was said before.
        let first = if shape == Shape::QuietAttach { Said::Line } else { open.ask_and_wait("the first line\n").await };
        if let Said::Over(over) = first {
            story.told_at(over.at, told(over.end));
            return ControlFlow::Continue("it was over at once".to_owned());
        }
        let server = on(lab, &audit_id).await;
        story.opened(server.clone());
        if server.is_some() && found.iter().all(|other| other.story.server() != server) {
            found.push(Session { shape, open, story, done: Arc::default() });
        } else {
            // kubectl asks for as much again before each session: where apiservers take turns it would always come to this one.
            let ask = Ask::get("/readyz", crew.audit_ids.next(), "rollproof-gateway-client");
            lab.through_gateway(gateway, Lane::Sessions).exchange(&mut None, &ask).await;
        }
        match found.len() {
            enough if enough == lab.known_to_gateways().len() => ControlFlow::Break(()),
            few => ControlFlow::Continue(format!("{few} of {}", lab.known_to_gateways().len())),
        }
    })
    .await?;
    if shape.is_quiet() {
        let mut newest = crew.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.extend(found.iter().map(|session| session.done.clone()));
    }
    Ok(found)
}

/// The apiserver whose audit log has it: the session, and not what kubectl asks before.
async fn on(lab: &Lab, audit_id: &str) -> Option<String> {
    let of_pod = format!("/pods/{}/", lab.pod()?.name);
    for server in lab.servers() {
        let log = tokio::fs::read_to_string(&server.audit_log).await.unwrap_or_default();
        if log.lines().any(|line| line.contains(audit_id) && line.contains(&of_pod)) {
            return Some(server.name().to_owned());
        }
    }
    None
}

/// An open session.
struct Session {
    shape: Shape,
    open: Open,
    story: Story,
    /// The greatest number, once there is nothing to wait for any more.
    done: Arc<AtomicU64>,
}

impl Session {
    async fn follow(mut self, crew: Crew) {
        let over = if self.shape.is_quiet() { self.keep_quiet(&crew).await } else { Some(self.talk(&crew).await) };
        if let Some(over) = over {
            self.story.told_at(over.at, told(over.end));
        }
        self.done.store(u64::MAX, Ordering::Relaxed);
    }

    /// Says nothing until everybody is spoken to.
    async fn keep_quiet(&mut self, crew: &Crew) -> Option<Over> {
        let mut spoken = crew.spoken.subscribe();
        self.story.waits_for(spoken.clone());
        let woken = async { drop(spoken.wait_for(Option::is_some).await) };
        tokio::select! {
            () = self.open.over() => return Some(self.open.end().await),
            () = woken => {}
        }
        match self.open.ask_and_wait("the last line\n").await {
            Said::Line => {
                self.story.heard(None);
                crew.samples.add_one();
                None
            }
            Said::Over(over) => Some(over),
        }
    }

    async fn talk(&mut self, crew: &Crew) -> Over {
        let mut schedule = requester::schedule(timing::HEARTBEAT_EVERY);
        loop {
            tokio::select! {
                () = self.open.over() => return self.open.end().await,
                _ = schedule.tick() => {}
            }
            match self.open.ask_and_wait("a line\n").await {
                Said::Line => {
                    self.story.heard(None);
                    crew.samples.add_one();
                }
                Said::Over(over) => return over,
            }
        }
    }
}

/// The end as its user was told of it.
fn told(end: SessionEnd) -> Option<Failure> {
    match end {
        SessionEnd::Failed(failure) => Some(failure),
        SessionEnd::Silence => {
            let text = format!("no line for {:?}", timing::REQUEST_TIMEOUT);
            Some(Failure { class: ErrorClass::Timeout, text })
        }
        SessionEnd::Ours | SessionEnd::Clean => None,
    }
}

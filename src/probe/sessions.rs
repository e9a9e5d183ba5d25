//! Sessions into a pod, through the balancer: one of each kind on each apiserver, and opened again wherever the balancer leads
//! when it has ended; a quiet `exec` and a quiet `port-forward` on each; and an `exec` of one line every now and then, as by a user who comes now.

pub(super) mod open;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::{BoxFuture, LocalBoxFuture};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::open::{Desk, Open, Over, Said};
use super::{AuditIds, Fence, Probe, Running, Samples, Tasks, found_within};
use crate::lab::Lab;
use crate::lab::control_plane::Shared;
use crate::timeline::{Event, Failure, Moment, Recorder, Session, SessionEnd, SessionKind};
use crate::timing;

/// Sessions to be.
pub struct SessionsProbe;

/// Sessions of every kind into the lab's pod, with kube-rs.
pub fn sessions() -> SessionsProbe {
    SessionsProbe
}

impl Probe for SessionsProbe {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let pod = lab.pod().context("this lab has no pod: set Setup::pods")?;
            let desk = Arc::new(
                Desk::new((lab.kubeconfig(), lab.through_balancer().site), pod.clone(), AuditIds::of("sessions"))
                    .await?,
            );
            let (tasks, samples) = (Tasks::default(), Samples::default());
            let quiet = lab.setup().quiet();
            let quiet_kinds = [SessionKind::Exec, SessionKind::PortForward].map(|kind| (kind, Some(quiet)));
            let mut users = Vec::new();
            let kinds = SessionKind::ALL.map(|kind| (kind, None)).into_iter().chain(quiet_kinds);
            for (kind, quiet) in kinds {
                for server in lab.servers() {
                    let suffix = if quiet.is_some() { "-quiet" } else { "" };
                    let user = User {
                        probe: format!("{kind}{suffix}-{}", server.name()),
                        kind,
                        quiet,
                        desk: desk.clone(),
                        recorder: lab.recorder().clone(),
                        samples: samples.clone(),
                    };
                    users.push(user.probe.clone());
                    let first = user.open_on(server).await?;
                    tasks.running.spawn(user.work(first, tasks.end.clone()));
                }
            }
            let newcomer = User {
                probe: "exec-new".to_owned(),
                kind: SessionKind::Exec,
                quiet: None,
                desk,
                recorder: lab.recorder().clone(),
                samples: samples.clone(),
            };
            users.push(newcomer.probe.clone());
            tasks.running.spawn(come_and_go(Arc::new(newcomer), tasks.end.clone(), tasks.running.clone()));
            let enough = Instant::now() + quiet + timing::CLOSE_NOTICED;
            Ok(Box::new(RunningSessions { tasks, samples, users, enough }) as Box<dyn Running>)
        })
    }
}

struct RunningSessions {
    tasks: Tasks,
    samples: Samples,
    users: Vec<String>,
    /// When the quiet sessions of the beginning have been silent for long enough.
    enough: Instant,
}

impl Running for RunningSessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn observers(&self) -> Vec<String> {
        self.users.clone()
    }

    fn samples(&self) -> u64 {
        self.samples.count()
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            sleep_until(self.enough).await;
            self.tasks.stop().await;
            None
        })
    }
}

/// Who opens one session after the other.
struct User {
    probe: String,
    kind: SessionKind,
    quiet: Option<Duration>,
    desk: Arc<Desk>,
    recorder: Recorder,
    samples: Samples,
}

/// A session as far as it has come.
struct Story {
    asked: Moment,
    audit_id: String,
    opened_after: Option<Duration>,
    lines: u64,
    after_silence: u64,
    longest_wait: Duration,
    last_line: Option<Moment>,
}

/// A session, asked for.
type Asked = (Story, Result<Open, Failure>);

impl User {
    /// Opens sessions until one has come to this server, as its audit log tells. The others are closed again.
    async fn open_on(&self, server: &Shared) -> anyhow::Result<Asked> {
        let found = found_within(timing::PROBE_READY, || async {
            let (story, open) = self.open().await;
            let open = match open {
                Ok(open) => open,
                Err(failure) => return Some(Err(anyhow::anyhow!("cannot open {}: {}", self.probe, failure.text))),
            };
            if let Err(error) = server.settle().await {
                return Some(Err(error));
            }
            let log = tokio::fs::read_to_string(&server.audit_log).await.unwrap_or_default();
            log.contains(&story.audit_id).then_some(Ok((story, Ok(open))))
        });
        found.await.with_context(|| format!("no {} comes to {}", self.probe, server.name()))?
    }

    async fn open(&self) -> Asked {
        let asked = Moment::now();
        let (audit_id, open) = self.desk.open(self.kind).await;
        let story = Story {
            asked,
            audit_id,
            opened_after: None,
            lines: 0,
            after_silence: 0,
            longest_wait: Duration::ZERO,
            last_line: None,
        };
        (story, open)
    }

    /// One session after the other, until told to end.
    async fn work(self, first: Asked, end: CancellationToken) {
        let mut asked = first;
        loop {
            let (mut story, open) = asked;
            let ended = match open {
                Ok(open) => self.talk(open, &mut story, &end).await,
                Err(failure) => Over::now(SessionEnd::Failed(failure)),
            };
            self.record(story, ended);
            if end.run_until_cancelled(sleep_until(Instant::now() + timing::WATCH_RETRY)).await.is_none() {
                return;
            }
            asked = self.open().await;
        }
    }

    /// Talks until the session is over, or we are told to end.
    async fn talk(&self, mut open: Open, story: &mut Story, end: &CancellationToken) -> Over {
        loop {
            let began = Moment::now();
            match open.ask_and_wait("a line\n").await {
                Said::Line => {
                    let now = Moment::now();
                    story.longest_wait = story.longest_wait.max(now.since(began));
                    story.opened_after.get_or_insert(now.since(story.asked));
                    // All but the first have followed one.
                    story.after_silence += u64::from(self.quiet.is_some() && story.lines > 0);
                    story.lines += 1;
                    story.last_line = Some(now);
                    self.samples.add_one();
                }
                Said::Over(over) => return over,
            }
            // A pod that speaks by itself does so in its own time.
            let pause = self.quiet.unwrap_or(if open.echoes() { timing::HEARTBEAT_EVERY } else { Duration::ZERO });
            tokio::select! {
                () = open.over() => return open.end().await,
                () = sleep_until(Instant::now() + pause) => {}
                // It has to be seen alive at its end.
                () = end.cancelled() => {
                    return match open.ask_and_wait("the last line\n").await {
                        Said::Line => Over::now(SessionEnd::Ours),
                        Said::Over(over) => over,
                    };
                }
            }
        }
    }

    /// One session of one line.
    async fn come_and_go(&self) {
        let (mut story, open) = self.open().await;
        let ended = match open {
            Ok(mut open) => match open.ask_and_wait("line\n").await {
                Said::Line => {
                    let now = Moment::now();
                    let took = now.since(story.asked);
                    (story.opened_after, story.longest_wait) = (Some(took), took);
                    (story.lines, story.last_line) = (1, Some(now));
                    Over::now(SessionEnd::Ours)
                }
                Said::Over(over) => over,
            },
            Err(failure) => Over::now(SessionEnd::Failed(failure)),
        };
        self.record(story, ended);
    }

    fn record(&self, story: Story, Over { at, end }: Over) {
        let Story { asked, audit_id, opened_after, lines, after_silence, longest_wait, last_line } = story;
        let session = Session {
            probe: self.probe.clone(),
            kind: self.kind,
            audit_id,
            quiet: self.quiet,
            opened_after,
            lines,
            after_silence,
            longest_wait,
            last_line,
            ended: at,
            end,
        };
        self.recorder.record_at(asked, Event::Session(session));
    }
}

/// A new session on schedule, whatever became of those before.
async fn come_and_go(user: Arc<User>, end: CancellationToken, tasks: tokio_util::task::TaskTracker) {
    let mut schedule = super::requester::schedule(timing::SESSION_NEW_EVERY);
    while end.run_until_cancelled(schedule.tick()).await.is_some() {
        let user = user.clone();
        tasks.spawn(async move { user.come_and_go().await });
    }
}

//! The AKS report's apiserver-watcher: an updater changes the ConfigMap `trigger` at an interval, and a watcher of all ConfigMaps of the
//! namespace, kube-rs's, has so long to notice. `rollproof watch-check` does the same by hand.

use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use futures::future::{BoxFuture, LocalBoxFuture};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event as WatcherEvent};
use serde_json::json;
use tokio::sync::watch as latest;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::kube_client::{Library, client};
use super::{AuditIds, Fence, Probe, Running, Samples, Tasks};
use crate::lab::http::classify;
use crate::lab::{Lab, NAMESPACE, wait};
use crate::timeline::{ErrorClass, Event, Failure, Moment, Trigger, WatchEnded};
use crate::timing;

/// The ConfigMap that the updater changes.
const OBJECT: &str = "trigger";
/// Who owns its fields (server-side apply).
const MANAGER: &str = "rollproof";
/// Rounds of a scenario after the first: the first is no news to a watcher that has just begun.
const ROUNDS: u64 = 1;

/// Updater and watcher.
pub struct Rounds {
    updates: Api<ConfigMap>,
    run: String,
    change: u64,
    patience: Duration,
    seen: latest::Receiver<Seen>,
    _watching: AbortOnDropHandle<()>,
}

/// What the watcher has seen.
#[derive(Clone, Copy)]
struct Seen {
    /// Whether it has been told of all that was there when it began.
    began: bool,
    change: u64,
    /// When it was last told of anything.
    at: Moment,
}

impl Rounds {
    /// A watcher by one client, an updater by another, in the same namespace. `interrupted` is told of each error that the watcher reports before
    /// it goes on.
    pub fn begin(
        updates: Api<ConfigMap>,
        watches: Api<ConfigMap>,
        config: watcher::Config,
        patience: Duration,
        interrupted: impl Fn(Failure) + Send + 'static,
    ) -> Self {
        let now = Moment::now();
        let (tell, seen) = latest::channel(Seen { began: false, change: 0, at: now });
        // What an earlier run has left there is no change of ours.
        let run = format!("{}-{:x}", jiff::Timestamp::now().as_second(), now.0);
        let watching = tokio::spawn(follow(watches, config, run.clone(), tell, interrupted));
        Self { updates, run, change: 0, patience, seen, _watching: AbortOnDropHandle::new(watching) }
    }

    /// Returns when the watcher is there: what is changed before is not for it to notice.
    ///
    /// # Errors
    /// It does not get its first list, or is not allowed to.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let began = tokio::time::timeout(timing::PROBE_READY, self.seen.wait_for(|seen| seen.began));
        let began = began.await.ok().and_then(Result::ok);
        began
            .map(drop)
            .with_context(|| format!("the watch of ConfigMaps has not begun within {:?}", timing::PROBE_READY))
    }

    /// One round: when the update was sent, and what came of it. An update that fails is not repeated here.
    pub async fn next(&mut self, probe: &str, idle_timeout: Option<Duration>) -> (Moment, Trigger) {
        self.change += 1;
        let (change, began) = (self.change, Moment::now());
        let idle = began.since(self.seen.borrow().at);
        let failure = self.update().await.err();
        let acknowledged = Moment::now();
        let seen = self.seen.wait_for(|seen| seen.change >= change);
        let noticed = match &failure {
            None => tokio::time::timeout(self.patience, seen).await.ok().and_then(|seen| Some(seen.ok()?.at)),
            Some(_) => None,
        };
        let trigger = Trigger {
            probe: probe.to_owned(),
            change,
            idle,
            idle_timeout,
            patience: self.patience,
            took: acknowledged.since(began),
            failure,
            noticed: noticed.map(|at| at.since(acknowledged)),
        };
        (began, trigger)
    }

    async fn update(&self) -> Result<(), Failure> {
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": OBJECT},
            "data": {"run": self.run, "change": self.change.to_string()},
        });
        let apply = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(map);
        let update = self.updates.patch(OBJECT, &apply, &patch);
        match tokio::time::timeout(timing::REQUEST_TIMEOUT, update).await {
            Ok(answer) => answer.map(drop).map_err(|error| classify(&error)),
            Err(_) => {
                let text = format!("no answer within {:?}", timing::REQUEST_TIMEOUT);
                Err(Failure { class: ErrorClass::Timeout, text })
            }
        }
    }
}

async fn follow(
    api: Api<ConfigMap>,
    config: watcher::Config,
    run: String,
    tell: latest::Sender<Seen>,
    interrupted: impl Fn(Failure),
) {
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(WatcherEvent::Apply(map) | WatcherEvent::InitApply(map)) => {
                let change = change_of(&map, &run);
                tell.send_modify(|seen| *seen = Seen { change: seen.change.max(change), at: Moment::now(), ..*seen });
            }
            Ok(WatcherEvent::InitDone) => tell.send_modify(|seen| seen.began = true),
            Ok(_) => {}
            Err(error) => interrupted(classify(&error)),
        }
    }
}

/// The change that a ConfigMap carries, if it is ours.
fn change_of(map: &ConfigMap, run: &str) -> u64 {
    let data = map.data.as_ref().filter(|data| data.get("run").is_some_and(|of| of == run));
    data.and_then(|data| data.get("change")?.parse().ok()).unwrap_or(0)
}

/// An apiserver-watcher to be.
pub struct TriggerProbe;

/// The AKS report's apiserver-watcher, in a lab whose balancer has an idle timeout: both through the balancer, the updater on a new connection each
/// time, since kube-rs's pool forgets within less than the report's interval.
pub fn trigger() -> TriggerProbe {
    TriggerProbe
}

const NAME: &str = "apiserver-watcher";

impl Probe for TriggerProbe {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let (recorder, site) = (lab.recorder().clone(), lab.through_balancer().site);
            let audit_ids = AuditIds::of(NAME);
            let library = Library::without_pool(lab.kubeconfig(), site).await?;
            let updates = Api::namespaced(library.client(move || audit_ids.next(), drop), NAMESPACE);
            let watches = Api::namespaced(client(lab, NAME).await?, NAMESPACE);
            let config = watcher::Config { timeout: lab.setup().watch_seconds(), ..watcher::Config::default() };
            let ended = {
                let recorder = recorder.clone();
                move |failure| {
                    let ended = WatchEnded { probe: NAME.to_owned(), failure: Some(failure) };
                    recorder.record(Event::WatchEnded(ended));
                }
            };
            let mut rounds = Rounds::begin(updates, watches, config, timing::CHANGE_NOTICED, ended);
            rounds.ready().await?;
            let idle_timeout = lab.setup().on_idle.map(|_| lab.setup().idle_timeout);
            let (_, interval) = timing::timer_intervals(lab.setup().idle_timeout);
            let (tasks, samples) = (Tasks::default(), Samples::default());
            let (end, done) = (tasks.end.clone(), samples.clone());
            tasks.running.spawn(async move {
                let mut schedule = tokio::time::interval(interval);
                schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while end.run_until_cancelled(schedule.tick()).await.is_some() {
                    let (at, trigger) = rounds.next(NAME, idle_timeout).await;
                    recorder.record_at(at, Event::Trigger(trigger));
                    done.add_one();
                }
            });
            let running = RunningTrigger { tasks, samples, round: interval + timing::CHANGE_NOTICED };
            running.rounds(1).await?;
            Ok(Box::new(running) as Box<dyn Running>)
        })
    }
}

struct RunningTrigger {
    tasks: Tasks,
    samples: Samples,
    /// The longest that one takes, but for its update.
    round: Duration,
}

impl RunningTrigger {
    async fn rounds(&self, wanted: u64) -> anyhow::Result<()> {
        let limit = self.round + timing::REQUEST_TIMEOUT;
        wait::until(limit, "the apiserver-watcher to do its rounds", async || match self.samples.count() {
            done if done >= wanted => std::ops::ControlFlow::Break(()),
            done => std::ops::ControlFlow::Continue(format!("{done} of {wanted}")),
        })
        .await
    }
}

impl Running for RunningTrigger {
    fn name(&self) -> &'static str {
        NAME
    }

    fn samples(&self) -> u64 {
        self.samples.count()
    }

    fn takes_samples(&self) -> bool {
        false
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            // With fewer, the recording says so.
            let _ = super::found_within((self.round + timing::REQUEST_TIMEOUT) * ROUNDS as u32, || async {
                (self.samples.count() > ROUNDS).then_some(())
            })
            .await;
            self.tasks.stop().await;
            None
        })
    }
}

//! A raw watch: kube-rs `Api::watch`, with the loop around it that a careful user would write.

use std::ops::ControlFlow;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, LocalBoxFuture};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::watch::Bookmark as KubeBookmark;
use tokio::sync::watch as latest;
use tokio_util::task::AbortOnDropHandle;

use super::kube_client::{change_of, client, revision_of};
use super::{Fence, Probe, Running, Samples};
use crate::lab::http::classify;
use crate::lab::{Lab, wait};
use crate::timeline::{Bookmark, ChangeKind, Delivered, ErrorClass, Event, Failure, Listed, Recorder, WatchEnded};
use crate::timing;

/// The annotation of the bookmark that ends initial events (k8s.io/apimachinery pkg/apis/meta/v1/types.go, InitialEventsAnnotationKey).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A raw watch to be. When it ends it goes on from the last resourceVersion it has seen, and relists only after 410.
pub struct RawWatch {
    relists: bool,
}

/// A raw watch on the writer's ConfigMaps, through the balancer.
pub fn watch() -> RawWatch {
    RawWatch { relists: false }
}

impl RawWatch {
    /// With the loop that a careless user would write, and that some client libraries have (kubernetes-client/java, `ReflectorRunnable`): it
    /// begins anew with a list however the watch ended.
    #[must_use]
    pub fn that_relists(self) -> Self {
        Self { relists: true }
    }
}

impl Probe for RawWatch {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let name = if self.relists { "raw-watch-relisting" } else { "raw-watch" };
            let api = Api::default_namespaced(client(lab, name).await?);
            let watching = Watching::new(name, lab.recorder().clone());
            let params = WatchParams { timeout: lab.setup().watch_seconds(), ..WatchParams::default() };
            let task = tokio::spawn(follow(api, watching.clone(), params, self.relists));
            RunningWatch::when_open(lab, watching, task).await
        })
    }
}

/// What the two watch probes share: how they record what they see, and how they end.
#[derive(Clone)]
pub(super) struct Watching {
    probe: &'static str,
    recorder: Recorder,
    samples: Samples,
    /// The newest change seen, in an event or a list.
    newest: latest::Sender<u64>,
}

impl Watching {
    pub(super) fn new(probe: &'static str, recorder: Recorder) -> Self {
        Self { probe, recorder, samples: Samples::default(), newest: latest::channel(0).0 }
    }

    pub(super) fn delivered(&self, kind: ChangeKind, map: &ConfigMap) {
        let change = change_of(map);
        let object = map.metadata.name.clone().unwrap_or_default();
        let delivered = Delivered { probe: self.probe.to_owned(), kind, object, revision: revision_of(map), change };
        self.recorder.record(Event::Delivered(delivered));
        self.samples.add_one();
        self.saw(change);
    }

    pub(super) fn listed(&self, revision: Option<u64>, maps: &[ConfigMap]) {
        let object = |map: &ConfigMap| (map.metadata.name.clone().unwrap_or_default(), change_of(map));
        let objects: Vec<_> = maps.iter().map(object).collect();
        let newest = objects.iter().map(|(_, change)| *change).max().unwrap_or(0);
        self.recorder.record(Event::Listed(Listed { probe: self.probe.to_owned(), revision, objects }));
        self.saw(newest);
    }

    /// Returns whether it says that the initial events are over.
    fn bookmarked(&self, bookmark: &KubeBookmark) -> bool {
        let initial_events_end = bookmark.metadata.annotations.get(INITIAL_EVENTS_END).is_some_and(|it| it == "true");
        let revision = bookmark.metadata.resource_version.parse().unwrap_or(0);
        let bookmark = Bookmark { probe: self.probe.to_owned(), revision, initial_events_end };
        self.recorder.record(Event::Bookmark(bookmark));
        initial_events_end
    }

    pub(super) fn ended(&self, failure: Option<Failure>) {
        self.recorder.record(Event::WatchEnded(WatchEnded { probe: self.probe.to_owned(), failure }));
    }

    fn saw(&self, change: u64) {
        self.newest.send_if_modified(|newest| {
            let newer = change > *newest;
            *newest = change.max(*newest);
            newer
        });
    }
}

/// A watch at work.
pub(super) struct RunningWatch {
    watching: Watching,
    /// How long it may take to see the fence.
    patience: Duration,
    _task: AbortOnDropHandle<()>,
}

impl RunningWatch {
    /// Waits until the first watch request was answered with 200.
    pub(super) async fn when_open(
        lab: &Lab,
        watching: Watching,
        task: tokio::task::JoinHandle<()>,
    ) -> anyhow::Result<Box<dyn Running>> {
        let _task = AbortOnDropHandle::new(task);
        wait::until(timing::PROBE_READY, &format!("{} to be open", watching.probe), async || {
            let last = watching.recorder.last(|seen| match &seen.event {
                Event::ListWatch(call) if call.probe == watching.probe => Some((call.call, call.answer.clone())),
                _ => None,
            });
            match last {
                Some((crate::timeline::Call::Watch, Ok(200))) => ControlFlow::Break(()),
                other => ControlFlow::Continue(format!("the last request was {other:?}")),
            }
        })
        .await?;
        let patience = timing::fence_seen(&lab.setup().timers);
        Ok(Box::new(Self { watching, patience, _task }))
    }
}

impl Running for RunningWatch {
    fn name(&self) -> &str {
        self.watching.probe
    }

    fn samples(&self) -> u64 {
        self.watching.samples.count()
    }

    fn stop(self: Box<Self>, fence: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            if let Some(fence) = fence {
                // A watch that never sees the fence hangs: the recording says so, and the verdict too.
                let mut newest = self.watching.newest.subscribe();
                let seen = newest.wait_for(|newest| *newest >= fence.change);
                let _ = tokio::time::timeout(self.patience, seen).await;
            }
            None
        })
    }
}

async fn follow(api: Api<ConfigMap>, watching: Watching, params: WatchParams, relists: bool) {
    loop {
        let mut version = match api.list(&ListParams::default()).await {
            Ok(list) => {
                let version = list.metadata.resource_version.unwrap_or_default();
                watching.listed(version.parse().ok(), &list.items);
                version
            }
            Err(error) => {
                watching.ended(Some(classify(&error)));
                tokio::time::sleep(timing::WATCH_RETRY).await;
                continue;
            }
        };
        while stays_open(&api, &watching, &params, &mut version).await && !relists {}
    }
}

/// Watches from `version`, which moves on with every event and bookmark, until the watch ends. False after 410.
///
/// Where `params` ask for initial events, it begins with them if there is no version yet. There is none until a bookmark says that they are
/// over: they are in no order, so none of them says what has not come.
pub(super) async fn stays_open(
    api: &Api<ConfigMap>,
    watching: &Watching,
    params: &WatchParams,
    version: &mut String,
) -> bool {
    let mut initial = params.send_initial_events && version.is_empty();
    let params = WatchParams { send_initial_events: initial, ..params.clone() };
    let mut events = match api.watch(&params, version).await {
        Ok(events) => events.boxed(),
        Err(error) => {
            let gone = matches!(&error, kube::Error::Api(status) if status.code == 410);
            let mut failure = classify(&error);
            if gone {
                failure.class = ErrorClass::Gone;
            }
            watching.ended(Some(failure));
            tokio::time::sleep(timing::WATCH_RETRY).await;
            return !gone;
        }
    };
    while let Some(event) = events.next().await {
        let (kind, map) = match event {
            Ok(WatchEvent::Added(map)) => (ChangeKind::Added, map),
            Ok(WatchEvent::Modified(map)) => (ChangeKind::Modified, map),
            Ok(WatchEvent::Deleted(map)) => (ChangeKind::Deleted, map),
            Ok(WatchEvent::Bookmark(bookmark)) => {
                initial &= !watching.bookmarked(&bookmark);
                if !initial {
                    *version = bookmark.metadata.resource_version;
                }
                continue;
            }
            Ok(WatchEvent::Error(status)) => {
                let class = if status.code == 410 { ErrorClass::Gone } else { ErrorClass::Status };
                watching.ended(Some(Failure { class, text: status.message.clone() }));
                return class != ErrorClass::Gone;
            }
            Err(error) => {
                watching.ended(Some(classify(&error)));
                return true;
            }
        };
        if let (Some(newer), false) = (&map.metadata.resource_version, initial) {
            newer.clone_into(version);
        }
        watching.delivered(kind, &map);
    }
    watching.ended(None);
    true
}

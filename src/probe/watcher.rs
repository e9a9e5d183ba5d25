//! kube-rs's own watcher, with its default backoff: what most controllers in Rust stand on.

use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event as WatcherEvent};

use super::kube_client::client;
use super::watch::{RunningWatch, Watching};
use super::{Probe, Running};
use crate::lab::Lab;
use crate::lab::http::classify;
use crate::timeline::ChangeKind;

/// A kube-runtime watcher to be.
pub struct WatcherProbe;

/// A kube-runtime watcher on the writer's ConfigMaps, through the balancer.
pub fn watcher() -> WatcherProbe {
    WatcherProbe
}

const NAME: &str = "watcher";

impl Probe for WatcherProbe {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let api = Api::default_namespaced(client(lab, NAME).await?);
            let watching = Watching::new(NAME, lab.recorder().clone());
            let config = watcher::Config { timeout: lab.setup().watch_seconds(), ..watcher::Config::default() };
            let task = tokio::spawn(follow(api, watching.clone(), config));
            RunningWatch::when_open(lab, watching, task).await
        })
    }
}

async fn follow(api: Api<ConfigMap>, watching: Watching, config: watcher::Config) {
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    let mut listing = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(WatcherEvent::Init) => listing.clear(),
            Ok(WatcherEvent::InitApply(map)) => listing.push(map),
            // The watcher keeps the list's resourceVersion to itself.
            Ok(WatcherEvent::InitDone) => watching.listed(None, &std::mem::take(&mut listing)),
            Ok(WatcherEvent::Apply(map)) => watching.delivered(ChangeKind::Applied, &map),
            Ok(WatcherEvent::Delete(map)) => watching.delivered(ChangeKind::Deleted, &map),
            Err(error) => watching.ended(Some(classify(&error))),
        }
    }
}

//! A watch that does not list first: it asks to be sent the state as the first of its events (KEP-3157), as client-go's reflectors do since
//! Kubernetes 1.35. A bookmark says when that is over.
//!
//! ```text
//! watch without a resourceVersion  ->  ADDED object-5, ADDED object-7, bookmark at 812 (initial events end), MODIFIED object-5 at 813
//! that watch ends                  ->  the next one from 813
//! that one is answered 410         ->  all from the beginning
//! ```

use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, WatchParams};

use super::kube_client::client;
use super::watch::{RunningWatch, Watching, stays_open};
use super::{Probe, Running};
use crate::lab::Lab;

const NAME: &str = "watch-list";

/// A watch without a list, to be.
pub struct WatchList;

/// A watch on the writer's ConfigMaps that begins with the state, through the balancer.
pub fn watch_list() -> WatchList {
    WatchList
}

impl Probe for WatchList {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let api = Api::default_namespaced(client(lab, NAME).await?);
            let watching = Watching::new(NAME, lab.recorder().clone());
            let params = WatchParams { timeout: lab.setup().watch_seconds(), ..WatchParams::streaming_lists() };
            let task = tokio::spawn(follow(api, watching.clone(), params));
            RunningWatch::when_open(lab, watching, task).await
        })
    }
}

async fn follow(api: Api<ConfigMap>, watching: Watching, params: WatchParams) {
    loop {
        // None is known until the initial events are over.
        let mut version = String::new();
        while stays_open(&api, &watching, &params, &mut version).await {}
    }
}

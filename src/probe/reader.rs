//! A reader: lists what the writer wrote, through the balancer and without a resourceVersion, again and again.
//!
//! Such a list is the most recent state, as the API promises (kubernetes.io, API concepts, "Semantics for get and list"): what was
//! acknowledged before is there, whichever apiserver answers. So each list has a connection of its own, which may lead to any.
//!
//! ```text
//! list through the balancer, revision 812: object-5 with change 9, object-7 with change 7, probed  ->  read: (object-5, 9), (object-7, 7)
//! the connection is refused                                                                        ->  read: no answer
//! ```

use futures::future::{BoxFuture, LocalBoxFuture};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::requester::schedule;
use super::{AuditIds, Fence, Probe, Running, Samples, Tasks};
use crate::lab::http::{Ask, Endpoint};
use crate::lab::{Lab, NAMESPACE};
use crate::timeline::{Event, Moment, Read, Recorder};
use crate::timing;

const NAME: &str = "reader";

/// A reader to be.
pub struct Reader;

/// A reader of the writer's ConfigMaps, every [`timing::READ_EVERY`], each on a connection of its own. One that fails is not repeated.
pub fn reads() -> Reader {
    Reader
}

impl Probe for Reader {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let (tasks, samples) = (Tasks::default(), Samples::default());
            let desk = Desk {
                to: lab.through_balancer(),
                recorder: lab.recorder().clone(),
                audit_ids: AuditIds::of(NAME),
                samples: samples.clone(),
            };
            tasks.running.spawn(desk.read_until(tasks.end.clone()));
            Ok(Box::new(RunningReader { samples, tasks }) as Box<dyn Running>)
        })
    }
}

struct RunningReader {
    samples: Samples,
    tasks: Tasks,
}

impl Running for RunningReader {
    fn name(&self) -> &'static str {
        NAME
    }

    fn samples(&self) -> u64 {
        self.samples.count()
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            // Each request has its own timeout, so this ends.
            self.tasks.stop().await;
            None
        })
    }
}

struct Desk {
    to: Endpoint,
    recorder: Recorder,
    audit_ids: AuditIds,
    samples: Samples,
}

/// The part of a list that we read.
#[derive(Deserialize)]
struct List {
    metadata: Metadata,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    data: Option<Data>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    resource_version: String,
}

#[derive(Deserialize)]
struct Data {
    change: Option<String>,
}

impl Desk {
    async fn read_until(mut self, end: CancellationToken) {
        let mut schedule = schedule(timing::READ_EVERY);
        while end.run_until_cancelled(schedule.tick()).await.is_some() {
            self.read().await;
        }
    }

    /// One list.
    async fn read(&mut self) {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
        let ask = Ask::get(&path, self.audit_ids.next(), NAME);
        let began = Moment::now();
        let (exchange, body) = self.to.exchange(&mut None, &ask).await;
        let list: Option<List> = serde_json::from_slice(&body).ok().filter(|_| exchange.succeeded());
        if list.is_some() {
            self.samples.add_one();
        }
        let revision = list.as_ref().and_then(|list| list.metadata.resource_version.parse().ok());
        let objects = list.map_or_else(Vec::new, |list| list.items.into_iter().filter_map(written).collect());
        let read = Read { probe: NAME.to_owned(), revision, objects, exchange };
        self.recorder.record_at(began, Event::Read(read));
    }
}

/// An object's name and change, if the writer wrote it.
fn written(item: Item) -> Option<(String, u64)> {
    let change = item.data?.change?.parse().ok()?;
    Some((item.metadata.name, change))
}

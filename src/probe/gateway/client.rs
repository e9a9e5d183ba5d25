//! One client of a gateway: one connection, and what it has on it.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use futures::future::try_join_all;
use tokio::sync::Mutex;

use super::stream::{Lines, Story};
use super::watch::Watch;
use super::{Crew, configmaps};
use crate::lab::gateway::{Gateway, Lane};
use crate::lab::http::{Asking, Endpoint, Multiplexed};
use crate::lab::{Lab, PROBED, wait};
use crate::probe::{Tasks, requester};
use crate::timeline::{ErrorClass, Failure, Protocol, Shape};
use crate::timing::{self, gateway as times};

/// One client of a gateway, in one lane.
pub(super) struct Client {
    gateway: &'static str,
    lane: Lane,
    /// Of those in this lane.
    number: u32,
    pub(super) to: Endpoint,
    /// Whether it asks its connection by PING.
    asks: Option<Asking>,
    kept: Mutex<Option<Multiplexed>>,
    pub(super) crew: Crew,
}

impl Client {
    pub(super) fn of(lab: &Lab, (gateway, lane): (&Gateway, Lane), number: u32, crew: Crew) -> Self {
        let to = lab.through_gateway(gateway, lane).over(Protocol::Http2);
        Self { gateway: gateway.remedy.name, lane, number, to, asks: None, kept: Mutex::default(), crew }
    }

    /// Opens what is open all the time, one on each apiserver, then lets everything run.
    pub(super) async fn start(self: &Arc<Self>, servers: usize, from: u64, tasks: &Tasks) -> anyhow::Result<()> {
        let shapes: &[Shape] = match self.lane {
            Lane::Alone => &[Shape::WatchAlone, Shape::Quiet],
            Lane::Busy => &[Shape::WatchBusy],
            Lane::New | Lane::Sessions => &[],
        };
        for shape in shapes {
            self.clone().spread(*shape, servers, from, tasks).await?;
        }
        let every = match self.lane {
            Lane::Alone | Lane::Sessions => return Ok(()),
            Lane::Busy => (Shape::Request, times::REQUEST_EVERY),
            Lane::New => (Shape::NewWatch, times::WATCH_EVERY),
        };
        let (client, running, end) = (self.clone(), tasks.running.clone(), tasks.end.clone());
        tasks.running.spawn(async move {
            let (shape, every) = every;
            let mut schedule = requester::schedule(every);
            while end.run_until_cancelled(schedule.tick()).await.is_some() {
                let (client, end) = (client.clone(), end.clone());
                running.spawn(async move {
                    end.run_until_cancelled(client.once(shape)).await;
                });
            }
        });
        Ok(())
    }

    /// So many watches more on its connection, wherever they lead.
    pub(super) async fn open_many(self: &Arc<Self>, many: u32, from: u64, tasks: &Tasks) -> anyhow::Result<()> {
        let watches = (0..many).map(|number| async move {
            let name = format!("watchmany-{number}");
            let mut watch = Watch::new(self.clone(), Shape::WatchMany, name.clone(), from);
            let opened = watch.open().await;
            opened.map_err(|failure| anyhow!("{name} through the gateway {}: {}", self.gateway, failure.text))?;
            Ok::<_, anyhow::Error>(watch)
        });
        self.follow(try_join_all(watches).await?, tasks);
        Ok(())
    }

    /// Watches of one shape, one on each apiserver.
    pub(super) async fn spread(
        self: Arc<Self>,
        shape: Shape,
        servers: usize,
        from: u64,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let client = |_| if shape.is_alone() { Arc::new(self.alone(shape)) } else { self.clone() };
        let clients: Vec<_> = (0..servers).map(client).collect();
        let mut found: Vec<Watch> = Vec::new();
        let what = format!("a {shape} on each apiserver, through the gateway {}", self.gateway);
        wait::until(timing::PROBE_READY, &what, async || {
            let number = self.number as usize * servers + found.len();
            let name = format!("{shape:?}-{number}").to_lowercase();
            let mut watch = Watch::new(clients[found.len()].clone(), shape, name, from);
            match watch.open().await {
                Ok(()) => {}
                Err(failure) => return ControlFlow::Continue(failure.text),
            }
            let server = watch.server();
            let taken = server.is_none() || found.iter().any(|other| other.server() == server);
            if !taken {
                found.push(watch);
            }
            match found.len() {
                enough if enough == servers => ControlFlow::Break(()),
                few => ControlFlow::Continue(format!("{few} of {servers}")),
            }
        })
        .await?;
        self.follow(found, tasks);
        Ok(())
    }

    /// One like it with a connection of its own, for a stream of that shape: an informer's client asks it as client-go does.
    fn alone(&self, shape: Shape) -> Self {
        let asking = Asking { idle: times::CLIENT_READ_IDLE, patience: times::CLIENT_PING_TIMEOUT };
        let asks = (shape == Shape::Informer).then_some(asking);
        let protocol = if shape == Shape::WatchHttp1 { Protocol::Http1 } else { Protocol::Http2 };
        let (to, crew) = (self.to.clone().over(protocol), self.crew.clone());
        Self { gateway: self.gateway, lane: self.lane, number: self.number, to, asks, kept: Mutex::default(), crew }
    }

    fn follow(&self, watches: Vec<Watch>, tasks: &Tasks) {
        let mut newest = self.crew.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.extend(watches.iter().map(|watch| watch.newest.clone()));
        for watch in watches {
            let end = tasks.end.clone();
            tasks.running.spawn(async move {
                end.run_until_cancelled(watch.follow()).await;
            });
        }
    }

    /// The connection, a new one where the last takes no streams any more.
    pub(super) async fn connection(&self) -> Result<Multiplexed, Failure> {
        let mut kept = self.kept.lock().await;
        if let Some(open) = kept.as_ref().filter(|kept| kept.is_open()) {
            return Ok(open.clone());
        }
        let open = match self.asks {
            Some(asking) => self.to.dial_asking(asking).await.map_err(|(_, failure)| failure)?,
            None => self.to.dial().await.map_err(|(_, failure)| failure)?.multiplexed(),
        };
        *kept = Some(open.clone());
        Ok(open)
    }

    /// Something that is asked once: a request, or a watch that is only opened.
    async fn once(self: Arc<Self>, shape: Shape) {
        let path = match shape {
            Shape::Request => format!("{}/{PROBED}", configmaps()),
            // Any revision: one that was restarted may not know an old one any more.
            _ => format!("{}?watch=true&resourceVersion=0&fieldSelector=metadata.name%3D{PROBED}", configmaps()),
        };
        let mut story = self.story(shape, "");
        let asked = async {
            let open = self.connection().await?;
            story.local(open.local());
            let answer = open.ask(&self.to, &story.ask(&path)).await?;
            story.answered(&answer, self.to.upstream(&answer));
            if shape == Shape::Request {
                let mut body = Lines::of(answer.into_body());
                while body.next().await.map_err(|error| open.failure(&error))?.is_some() {}
                story.told(None);
            } else if !story.succeeded() {
                // One that was refused is over.
                story.told(None);
            }
            Ok(())
        };
        let patience = if shape == Shape::Request { timing::REQUEST_TIMEOUT } else { times::FAULT * 2 };
        let result: Result<(), Failure> =
            tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| Err(too_long(patience)));
        match result {
            Ok(()) if story.succeeded() => self.crew.samples.add_one(),
            Ok(()) => {}
            Err(failure) => story.told(Some(failure)),
        }
    }

    pub(super) fn story(&self, shape: Shape, client: &str) -> Story {
        let lane = format!("{:?}", self.lane).to_lowercase();
        let client = if client.is_empty() { lane } else { client.to_owned() };
        Story::begin(self.crew.recorder.clone(), self.gateway, shape, &client, self.crew.audit_ids.next())
    }
}

fn too_long(patience: Duration) -> Failure {
    Failure { class: ErrorClass::Timeout, text: format!("no answer within {patience:?}") }
}

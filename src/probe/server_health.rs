//! Asks each apiserver itself, past the balancer, how it is: /readyz and /livez, on a new connection each time.

use futures::future::{BoxFuture, LocalBoxFuture};
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::{Fence, Probe, Running, Samples};
use crate::lab::Lab;
use crate::lab::control_plane::Shared;
use crate::lab::http::Ask;
use crate::timeline::{Event, Moment, Recorder, ServerHealth};
use crate::timing;

/// A probe of every apiserver's own health endpoints, every [`timing::SERVER_HEALTH_EVERY`].
pub struct ServerHealthProbe;

/// A probe of every apiserver's own health endpoints.
pub fn server_health() -> ServerHealthProbe {
    ServerHealthProbe
}

impl Probe for ServerHealthProbe {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let samples = Samples::default();
            // Independently, so that a hanging /readyz does not keep us from asking /livez.
            let ask = |(server, path): (&Shared, &'static str)| {
                let (recorder, samples) = (lab.recorder().clone(), samples.clone());
                AbortOnDropHandle::new(tokio::spawn(ask(server.clone(), path, recorder, samples)))
            };
            let both = lab.servers().iter().flat_map(|server| [(server, "/readyz"), (server, "/livez")]);
            let tasks = both.map(ask).collect();
            Ok(Box::new(RunningServerHealth { samples, _tasks: tasks }) as Box<dyn Running>)
        })
    }
}

struct RunningServerHealth {
    samples: Samples,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Running for RunningServerHealth {
    fn name(&self) -> &'static str {
        "server-health"
    }

    /// What it sees is named after the apiserver.
    fn observers(&self) -> Vec<String> {
        Vec::new()
    }

    fn samples(&self) -> u64 {
        self.samples.count()
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async { None })
    }
}

async fn ask(server: Shared, path: &'static str, recorder: Recorder, samples: Samples) {
    let mut schedule = tokio::time::interval(timing::SERVER_HEALTH_EVERY);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        schedule.tick().await;
        let began = Moment::now();
        let (exchange, _) = server.endpoint.exchange(&mut None, &Ask::get(path, String::new(), "rollproof")).await;
        let answer = match (exchange.failure, exchange.status) {
            (Some(failure), _) => Err(failure),
            (None, status) => Ok(status.unwrap_or_default()),
        };
        if answer == Ok(200) {
            samples.add_one();
        }
        let health =
            ServerHealth { server: server.name().to_owned(), path: path.to_owned(), answer, took: exchange.took };
        recorder.record_at(began, Event::ServerHealth(health));
    }
}

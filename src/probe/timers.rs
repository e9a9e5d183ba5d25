//! Connections to timer-servers: one on which the server speaks often, and some on which it speaks so seldom that they are idle for longer
//! than the balancer allows. Both sides only wait, and note how and when they are told of an end.

use std::time::Duration;

use anyhow::Context as _;
use futures::future::{BoxFuture, LocalBoxFuture};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Fence, Probe, Running, Tasks};
use crate::lab::Lab;
use crate::lab::http::classify;
use crate::timeline::{Event, Moment, Recorder, TimerConnection, Told};
use crate::timing;

/// How many connections are left idle.
const SELDOM: usize = 4;

/// A probe of connections to timer-servers, to be.
pub struct TimersProbe;

/// Connections to timer-servers, in a lab whose balancer has an idle timeout.
pub fn timers() -> TimersProbe {
    TimersProbe
}

/// What a timer-server says at once, and then at every interval.
pub fn message(interval: Duration) -> String {
    format!(
        "Hello! Current time is {:.0}. I'm going to send message every {} seconds. No KeepAlive in this TCP connection.\n",
        jiff::Timestamp::now(),
        interval.as_secs_f64()
    )
}

impl Probe for TimersProbe {
    fn start<'a>(self: Box<Self>, lab: &'a Lab) -> LocalBoxFuture<'a, anyhow::Result<Box<dyn Running>>> {
        Box::pin(async move {
            let port = lab.timer_port().context("this lab's balancer has no idle timeout: set Setup::on_idle")?;
            let idle_timeout = port.idle.after;
            let (often, seldom) = timing::timer_intervals(idle_timeout);
            let tasks = Tasks::default();
            let names = (0..SELDOM).map(|number| (format!("timer-seldom-{number}"), seldom));
            for (probe, interval) in std::iter::once(("timer-often".to_owned(), often)).chain(names) {
                let (client, server) = port.connect().await.context("cannot connect to a timer-server")?;
                let pair = Pair { probe, interval, idle_timeout, client, server, opened: Moment::now() };
                tasks.running.spawn(pair.observe(lab.recorder().clone(), tasks.end.clone()));
            }
            let enough = tokio::time::Instant::now() + timing::timer_observation(idle_timeout);
            Ok(Box::new(RunningTimers { tasks, enough }) as Box<dyn Running>)
        })
    }
}

struct RunningTimers {
    tasks: Tasks,
    /// When the idle timeout must have come, and been noticed.
    enough: tokio::time::Instant,
}

impl Running for RunningTimers {
    fn name(&self) -> &'static str {
        "timers"
    }

    fn samples(&self) -> u64 {
        0
    }

    fn takes_samples(&self) -> bool {
        false
    }

    fn stop(self: Box<Self>, _: Option<Fence>) -> BoxFuture<'static, Option<Fence>> {
        Box::pin(async move {
            tokio::time::sleep_until(self.enough).await;
            self.tasks.stop().await;
            None
        })
    }
}

/// Both ends of a connection.
struct Pair {
    probe: String,
    interval: Duration,
    idle_timeout: Duration,
    client: TcpStream,
    server: TcpStream,
    opened: Moment,
}

impl Pair {
    /// Waits until the end, and records what both sides were told until then.
    async fn observe(mut self, recorder: Recorder, end: CancellationToken) {
        let address = self.client.local_addr().map_or_else(|_| String::new(), |address| address.to_string());
        let (mut client_told, mut server_told) = (None, None);
        {
            let mut client = std::pin::pin!(wait(&mut self.client, self.opened));
            let mut server = std::pin::pin!(serve(&mut self.server, self.interval, self.opened));
            loop {
                tokio::select! {
                    told = &mut client, if client_told.is_none() => client_told = Some(told),
                    told = &mut server, if server_told.is_none() => server_told = Some(told),
                    () = end.cancelled() => break,
                }
            }
        }
        let lasted = Moment::now().since(self.opened);
        let carries = match (&client_told, &server_told) {
            (None, None) => Some(self.carries().await),
            _ => None,
        };
        let Self { probe, interval, idle_timeout, opened, .. } = self;
        let connection = TimerConnection {
            probe,
            client: address,
            interval,
            idle_timeout,
            lasted,
            client_told,
            server_told,
            carries,
        };
        recorder.record_at(opened, Event::Timer(connection));
    }

    /// Whether a byte still comes from the client to the server.
    async fn carries(&mut self) -> bool {
        let carried = async {
            self.client.write_all(b"?").await?;
            self.server.read_u8().await
        };
        tokio::time::timeout(timing::CLOSE_NOTICED, carried).await.is_ok_and(|carried| carried.is_ok())
    }
}

/// Reads until told of an end.
async fn wait(mut stream: impl AsyncRead + Unpin, opened: Moment) -> Told {
    let (mut buffer, mut last) = ([0; 1024], opened);
    let failure = loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break None,
            Ok(_) => last = Moment::now(),
            Err(error) => break Some(classify(&error)),
        }
    };
    told(opened, last, failure)
}

/// A timer-server's side of a connection that was `opened` then: speaks at once and at every interval, until told of an end.
pub async fn serve(stream: &mut TcpStream, interval: Duration, opened: Moment) -> Told {
    let (mut reader, mut writer) = stream.split();
    let (mut ticks, mut last) = (tokio::time::interval(interval), opened);
    let mut byte = [0];
    let failure = loop {
        tokio::select! {
            read = reader.read(&mut byte) => match read {
                Ok(0) => break None,
                Ok(_) => last = Moment::now(),
                Err(error) => break Some(classify(&error)),
            },
            _ = ticks.tick() => match writer.write_all(message(interval).as_bytes()).await {
                Ok(()) => last = Moment::now(),
                Err(error) => break Some(classify(&error)),
            },
        }
    };
    told(opened, last, failure)
}

fn told(opened: Moment, last: Moment, failure: Option<crate::timeline::Failure>) -> Told {
    let now = Moment::now();
    Told { after: now.since(opened), idle: now.since(last), failure }
}

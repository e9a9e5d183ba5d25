//! Connections to timer-servers: one on which the server speaks often, and some on which it speaks so seldom that they are idle for longer
//! than the balancer allows. Both sides wait, and note how and when they are told of an end; some clients do more ([`Manner`]).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::{BoxFuture, LocalBoxFuture};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Fence, Probe, Running, Tasks};
use crate::lab::Lab;
use crate::lab::http::classify;
use crate::timeline::{Event, Keepalive, Manner, Moment, Recorder, TimerConnection, Told};
use crate::timing;

/// How many connections are left idle.
const SELDOM: usize = 4;

/// A probe of connections to timer-servers, to be.
pub struct TimersProbe {
    /// Names, whether the server speaks often, and what the client does. Given the idle timeout.
    clients: fn(Duration) -> Vec<(String, bool, Manner)>,
}

/// Connections to timer-servers, in a lab whose balancer has an idle timeout: clients that only wait, and one of each other manner.
pub fn timers() -> TimersProbe {
    TimersProbe {
        clients: |idle_timeout| {
            let plain = |number| (format!("timer-seldom-{number}"), false, Manner::default());
            let often = ("timer-often".to_owned(), true, Manner::default());
            let manners = manners(idle_timeout).map(|(name, manner)| (name.to_owned(), false, manner));
            std::iter::once(often).chain((0..SELDOM).map(plain)).chain(manners).collect()
        },
    }
}

/// Raw TCP clients that can find out by themselves that the other side is gone: keepalive where they wait, TCP_USER_TIMEOUT where they
/// write. In a lab that loses packets.
pub fn careful_clients() -> TimersProbe {
    TimersProbe {
        clients: |idle_timeout| chosen(idle_timeout, |manner| manner.keepalive.is_some() || writes_in_time(manner)),
    }
}

/// Raw TCP clients that wait and have nothing to find out with.
pub fn careless_clients() -> TimersProbe {
    TimersProbe {
        clients: |idle_timeout| {
            let mut clients = chosen(idle_timeout, |manner| manner.keepalive.is_none() && !writes_in_time(manner));
            clients.push(("reader".to_owned(), false, Manner::default()));
            clients
        },
    }
}

fn writes_in_time(manner: &Manner) -> bool {
    manner.writes_after.is_some() && manner.user_timeout.is_some()
}

fn chosen(idle_timeout: Duration, which: impl Fn(&Manner) -> bool) -> Vec<(String, bool, Manner)> {
    let chosen = manners(idle_timeout).into_iter().filter(|(_, manner)| which(manner));
    chosen.map(|(name, manner)| (name.to_owned(), false, manner)).collect()
}

/// What clients do about silence, where the balancer allows so much of it.
fn manners(idle_timeout: Duration) -> [(&'static str, Manner); 6] {
    let keepalive = |idle, probes| Some(Keepalive { idle, interval: timing::KEEPALIVE_INTERVAL, probes });
    let short = keepalive(Duration::from_secs(idle_timeout.as_secs() / 3), 3);
    let long = keepalive(timing::spoken_after(idle_timeout), 2);
    let (user_timeout, writes_after) = (Some(timing::USER_TIMEOUT), Some(timing::spoken_after(idle_timeout)));
    let plain = Manner::default();
    [
        ("reader-short-keepalive", Manner { keepalive: short, ..plain }),
        ("reader-long-keepalive", Manner { keepalive: long, ..plain }),
        ("reader-long-keepalive-user-timeout", Manner { keepalive: long, user_timeout, ..plain }),
        ("reader-user-timeout", Manner { user_timeout, ..plain }),
        ("writer", Manner { writes_after, ..plain }),
        ("writer-user-timeout", Manner { writes_after, user_timeout, ..plain }),
    ]
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
            let port = lab.timer_port().context("this lab has no port for timer-servers: set Setup::on_idle")?;
            let idle_timeout = port.idle_timeout;
            let (often, seldom) = timing::timer_intervals(idle_timeout);
            let (tasks, mut clients) = (Tasks::default(), Vec::new());
            for (probe, is_often, manner) in (self.clients)(idle_timeout) {
                clients.push(probe.clone());
                let (client, server) = port.connect().await.context("cannot connect to a timer-server")?;
                apply(&manner, &client).context("cannot set up a client of a timer-server")?;
                let (interval, beside) = (if is_often { often } else { seldom }, port.beside.clone());
                let opened = Moment::now();
                let pair = Pair { probe, interval, idle_timeout, beside, manner, client, server, opened };
                tasks.running.spawn(pair.observe(lab.recorder().clone(), tasks.end.clone()));
            }
            let enough = tokio::time::Instant::now() + timing::timer_observation(idle_timeout);
            Ok(Box::new(RunningTimers { tasks, clients, enough }) as Box<dyn Running>)
        })
    }
}

struct RunningTimers {
    tasks: Tasks,
    clients: Vec<String>,
    /// When the idle timeout must have come, and been noticed.
    enough: tokio::time::Instant,
}

impl Running for RunningTimers {
    fn name(&self) -> &'static str {
        "timers"
    }

    fn observers(&self) -> Vec<String> {
        self.clients.clone()
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
    beside: String,
    manner: Manner,
    client: TcpStream,
    server: TcpStream,
    opened: Moment,
}

impl Pair {
    /// Waits until the end, and records what both sides were told until then.
    async fn observe(mut self, recorder: Recorder, end: CancellationToken) {
        let shown = |address: std::io::Result<SocketAddr>| address.map_or_else(|_| String::new(), |it| it.to_string());
        let (address, peer) = (shown(self.client.local_addr()), shown(self.server.peer_addr()));
        let (mut client_told, mut server_told) = (None, None);
        {
            let mut client = std::pin::pin!(wait(&mut self.client, self.opened, self.manner.writes_after));
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
        let Self { probe, interval, idle_timeout, beside, manner, opened, .. } = self;
        let connection = TimerConnection {
            probe,
            client: address,
            peer,
            server: beside,
            manner,
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

/// What a client's kernel is to do.
fn apply(manner: &Manner, client: &TcpStream) -> std::io::Result<()> {
    let socket = SockRef::from(client);
    if let Some(Keepalive { idle, interval, probes }) = manner.keepalive {
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    socket.set_tcp_user_timeout(manner.user_timeout)
}

/// Reads until told of an end, and writes a byte if and when it is to.
async fn wait(stream: &mut TcpStream, opened: Moment, writes_after: Option<Duration>) -> Told {
    let (mut reader, mut writer) = stream.split();
    let (mut buffer, mut last, mut to_write) = ([0; 1024], opened, writes_after);
    let due = tokio::time::Instant::now() + writes_after.unwrap_or_default();
    let failure = loop {
        tokio::select! {
            read = reader.read(&mut buffer) => match read {
                Ok(0) => break None,
                Ok(_) => last = Moment::now(),
                Err(error) => break Some(classify(&error)),
            },
            () = tokio::time::sleep_until(due), if to_write.is_some() => {
                to_write = None;
                match writer.write_all(b"?").await {
                    Ok(()) => last = Moment::now(),
                    Err(error) => break Some(classify(&error)),
                }
            }
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

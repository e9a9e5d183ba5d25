//! `rollproof timer-server`: says the time every now and then, and nothing else. What a balancer does to idle connections is seen with
//! `curl --no-keepalive --http0.9 HOST:8600` on the other side of it.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rollproof::probe::timers::serve;
use rollproof::timeline::{Moment, Told};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::{Ended, say};

#[derive(Args)]
pub(crate) struct Options {
    /// Ports, and the seconds between two messages on each
    #[arg(value_name = "PORT=SECONDS", default_values = ["8005=5", "8600=600"])]
    ports: Vec<Port>,
    /// The address to listen on; 0.0.0.0 is reached from everywhere
    #[arg(long, default_value = "127.0.0.1")]
    listen: IpAddr,
}

#[derive(Clone, Copy)]
struct Port {
    number: u16,
    interval: Duration,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(number, seconds)| {
            let interval = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
            Some(Self { number: number.parse().ok()?, interval })
        });
        let port = parts.filter(|port| !port.interval.is_zero());
        port.ok_or_else(|| "it takes a port and seconds, for example 8600=600".to_owned())
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut ports = JoinSet::new();
        for port in &options.ports {
            let address = SocketAddr::new(options.listen, port.number);
            let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
            say(&format!("{} every {} s", listener.local_addr()?, port.interval.as_secs_f64()));
            ports.spawn(accept(listener, port.interval));
        }
        tokio::select! {
            ended = tokio::signal::ctrl_c() => ended?,
            _ = terminate.recv() => {}
            Some(failed) = ports.join_next() => failed?.context("cannot accept connections")?,
        }
        Ok(Ended::Fine)
    })
}

async fn accept(listener: TcpListener, interval: Duration) -> std::io::Result<()> {
    loop {
        let (mut stream, from) = listener.accept().await?;
        tokio::spawn(async move {
            say(&format!("{from}: connected"));
            let Told { after, idle, failure } = serve(&mut stream, interval, Moment::now()).await;
            let how = failure.map_or("closed by the other side".to_owned(), |failure| failure.text);
            let (after, idle) = (after.as_secs_f64(), idle.as_secs_f64());
            say(&format!("{from}: {how} after {after:.3} s, {idle:.3} s after the last message"));
        });
    }
}

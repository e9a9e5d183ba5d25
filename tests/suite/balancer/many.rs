//! Many idle connections at once: both ends of all of them are reset within a second.

use std::io::ErrorKind;
use std::time::Duration;

use rollproof::lab::balancer::{HealthPolicy, IdleTimeout, OnIdle, Settings};
use rollproof::timeline::Moment;
use rollproof::timing::{CLOSE_NOTICED, secs};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::kernel::stage_with;
use super::stage::{one, pair};

const MANY: usize = 500;
/// How long a connection may be idle: longer than it takes to make all of them, twice over.
const IDLE: Duration = secs(4);

fn reset(settings: &mut Settings) {
    (settings.health, settings.idle) = (HealthPolicy::Ignore, Some(IdleTimeout { after: IDLE, then: OnIdle::Reset }));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_idle_connections_are_reset_together() {
    raise_the_limit_of_open_files();
    let (mut fake, balancer, _recorder) = one(reset).await;
    let mut pairs = Vec::new();
    for _ in 0..MANY {
        pairs.push(pair(&balancer, &mut fake).await);
    }
    all_are_reset("builtin", pairs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_idle_flows_of_a_kernel_are_reset_together() {
    raise_the_limit_of_open_files();
    let Some(mut stage) = stage_with(reset).await else { return };
    let mut pairs = Vec::new();
    for _ in 0..MANY {
        pairs.push(stage.pair().await.1);
    }
    all_are_reset("kernel", pairs).await;
}

/// All become as old as each other, and meet their end together.
async fn all_are_reset(balancer: &str, mut pairs: Vec<(TcpStream, TcpStream)>) {
    for (client, server) in &mut pairs {
        client.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();
    }
    let last = Moment::now();
    let ends = pairs.into_iter().flat_map(|(client, server)| [client, server]).map(|mut end| {
        tokio::spawn(async move {
            let heard = end.read_u8().await;
            (heard.map_err(|error| error.kind()), Moment::now().since(last))
        })
    });
    let mut told = Vec::new();
    for end in ends.collect::<Vec<_>>() {
        let (heard, after) = end.await.unwrap();
        assert_eq!(heard, Err(ErrorKind::ConnectionReset));
        told.push(after);
    }
    let (first, all) = (*told.iter().min().unwrap(), *told.iter().max().unwrap());
    eprintln!("{balancer}: {} ends told, idle for {IDLE:?}, from {first:?} to {all:?} after the last byte", told.len());
    assert_eq!(told.len(), 2 * MANY);
    assert!(all - first <= CLOSE_NOTICED && all <= IDLE + CLOSE_NOTICED, "{first:?} to {all:?}");
}

fn raise_the_limit_of_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit }).unwrap();
}

//! Many idle connections held by the builtin balancer: `cargo bench --bench idle`.
//!
//! The balancer is this process; both ends of every connection are another, since a process may not have that many open files. Each connection
//! carries one byte, and is idle from then on, until the balancer resets it. Shown are the balancer's memory, and how late each end was told.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rollproof::lab::balancer::{Backend, Builtin, HealthPolicy, IdleTimeout, OnIdle, Settings};
use rollproof::timeline::{Moment, Recorder};
use rollproof::timing::{Profile, Timers, secs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const CONNECTIONS: usize = 8_000;
const IDLE: Duration = secs(20);
/// Says that this is the process with the ends.
const ENDS: &str = "ROLLPROOF_BENCH_ENDS";

fn main() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let runtime = tokio::runtime::Runtime::new()?;
    match std::env::var_os(ENDS) {
        None => runtime.block_on(balancer()),
        Some(_) => runtime.block_on(ends()),
    }
}

async fn balancer() -> anyhow::Result<()> {
    let mut ends =
        Command::new(std::env::current_exe()?).env(ENDS, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(ends.stdout.take().context("piped")?).lines();
    let mut next = || anyhow::Ok(said.next().context("the other process has ended")??);
    let backend = Backend { name: "ends".to_owned(), address: next()?.parse()? };
    let settings = Settings {
        health: HealthPolicy::Ignore,
        idle: Some(IdleTimeout { after: IDLE, then: OnIdle::Reset }),
        ..Settings::new(vec![backend], String::new(), &Timers::of(Profile::Pr))
    };
    let balancer = Builtin::start(settings, Recorder::default()).await?;
    let before = resident_kib()?;
    writeln!(ends.stdin.as_ref().context("piped")?, "{}", balancer.address())?;
    println!("{}", next()?);
    let held = resident_kib()? - before;
    println!("balancer: {held} KiB for {CONNECTIONS} connections, {:.1} KiB each", held as f64 / CONNECTIONS as f64);
    println!("{}", next()?);
    ensure!(ends.wait()?.success(), "not every end was reset");
    balancer.stop().await;
    Ok(())
}

/// Makes the connections, and says how late both ends of each learn of their end.
async fn ends() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let balancer: SocketAddr = line.trim().parse()?;
    let began = Moment::now();
    let mut waiting = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut client, mut server) =
            tokio::try_join!(async { TcpStream::connect(balancer).await }, async { Ok(listener.accept().await?.0) })?;
        client.write_all(b"x").await?;
        server.read_u8().await?;
        let last = Moment::now();
        waiting.extend([client, server].map(|end| tokio::spawn(told(end, last))));
    }
    println!("{CONNECTIONS} connections made in {:.3} s", Moment::now().since(began).as_secs_f64());
    let mut late = Vec::new();
    for end in waiting {
        late.push(end.await?.context("an end was not reset")?);
    }
    late.sort_unstable();
    let at = |share: usize| late[(late.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!(
        "{} ends reset, late after {IDLE:?} by: least {:.1} ms, median {:.1} ms, p99 {:.1} ms, greatest {:.1} ms",
        late.len(),
        at(0),
        at(50),
        at(99),
        at(100)
    );
    Ok(())
}

/// By how much more than the idle timeout a connection was reset after its last byte.
async fn told(mut end: TcpStream, last: Moment) -> Option<Duration> {
    let error = end.read_u8().await.err()?;
    (error.kind() == ErrorKind::ConnectionReset).then(|| Moment::now().since(last).saturating_sub(IDLE))
}

fn resident_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

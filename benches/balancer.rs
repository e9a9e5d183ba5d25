//! The builtin balancer, recording, beside haproxy in TCP mode: `cargo bench --bench balancer`.
//!
//! Each balancer is a process of its own on one processor; clients and a plain echo backend share another. Two loads: kept
//! connections over which messages go to and fro, and a new connection for each message. First as fast as it goes, which
//! gives throughput; then at the same rate for both, well below that, which gives latencies that do not measure a queue.

#[path = "judge/header.rs"]
mod header;
mod rounds;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rollproof::lab::balancer::{Backend, Builtin, HealthPolicy, Settings};
use rollproof::timeline::Recorder;
use rollproof::timing::{Profile, Timers, millis, secs};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval_at};

/// Clients at a time.
const CLIENTS: usize = 32;
/// One way, in bytes: a small request's TLS record.
const MESSAGE: usize = 1024;
/// Each measurement, and how much of its beginning does not count.
const SPAN: Duration = secs(3);
const WARM_UP: Duration = millis(500);
/// The first words of our own command line when we are the balancer.
const BALANCER: &str = "be-the-builtin-balancer";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == BALANCER) {
        return be_the_balancer(&args[2]);
    }
    if Command::new("haproxy").arg("-v").output().is_err() {
        println!("skipped: haproxy is not installed (Debian: apt-get install haproxy)");
        return Ok(());
    }
    let processors = processors()?;
    let (balancer, others) = match processors[..] {
        [] | [_] => {
            println!("skipped: it takes two processors, one for the balancer and one for clients and backend");
            return Ok(());
        }
        [others, balancer, ..] => (balancer, others),
    };
    println!("balancer on processor {balancer}; clients and echo backend on processor {others}");
    pin(others)?;
    // Threads inherit where we are pinned.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let backend = runtime.block_on(echo())?;
    let rounds = rounds::count(7);
    // The last is how many messages a second there are, all clients together, when latencies are measured.
    let loads = [("kept connections", Load::Kept, 2000), ("a connection for each message", Load::New, 300)];
    for (what, load, pace) in loads {
        let measure = |start: &dyn Fn() -> anyhow::Result<Rival>| -> anyhow::Result<[f64; 4]> {
            pin(balancer)?;
            let rival = start();
            pin(others)?;
            let rival = rival?;
            let (fast, seconds) = rival.busy(|| runtime.block_on(run(load, rival.address, None)))?;
            let (paced, _) = rival.busy(|| runtime.block_on(run(load, rival.address, Some(pace))))?;
            let percentile = |share| paced.percentile(share).as_secs_f64() * 1e6;
            let rate = fast.took.len() as f64 / SPAN.as_secs_f64();
            Ok([rate, seconds * 1e6 / fast.count as f64, percentile(0.5), percentile(0.99)])
        };
        let names = ["messages/s", "processor time, µs/message", "paced: median, µs", "paced: p99, µs"];
        let figures = rounds::alternate(
            rounds,
            names,
            || measure(&|| Rival::builtin(backend)),
            || measure(&|| Rival::haproxy(backend)),
        )?;
        rounds::print(what, "haproxy", &figures);
    }
    Ok(())
}

/// A balancer under test.
struct Rival {
    process: Child,
    address: SocketAddr,
    /// Holds haproxy's configuration.
    _folder: Option<tempfile::TempDir>,
}

impl Rival {
    fn builtin(backend: SocketAddr) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([BALANCER, &backend.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("it has a stdout")?).read_line(&mut line)?;
        Ok(Self { process, address: line.trim().parse()?, _folder: None })
    }

    fn haproxy(backend: SocketAddr) -> anyhow::Result<Self> {
        // Free a moment ago; nobody else on loopback takes ports that fast.
        let address = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("haproxy.cfg");
        let config = format!(
            "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  retries 0\n  timeout connect 5s\n  \
             timeout client 1h\n  timeout server 1h\nlisten echo\n  bind {address}\n  server backend {backend}\n"
        );
        std::fs::write(&path, config)?;
        let process = Command::new("haproxy").arg("-db").arg("-f").arg(&path).spawn()?;
        let rival = Self { process, address, _folder: Some(folder) };
        let patience = Instant::now() + secs(10);
        while std::net::TcpStream::connect(address).is_err() {
            anyhow::ensure!(Instant::now() < patience, "haproxy does not listen on {address}");
            std::thread::yield_now();
        }
        Ok(rival)
    }

    /// Processor seconds that it takes for `work`.
    fn busy<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
        let before = self.used()?;
        let done = work()?;
        Ok((done, self.used()? - before))
    }

    /// Of each thread, from Documentation/scheduler/sched-stats: nanoseconds on a processor come first.
    fn used(&self) -> anyhow::Result<f64> {
        let mut nanos = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            nanos += stat.split(' ').next().context("a number")?.parse::<u64>()?;
        }
        Ok(nanos as f64 / 1e9)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The builtin balancer as a lab runs it, until stdin ends: it records into a file.
fn be_the_balancer(backend: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let backend = Backend { name: "echo".to_owned(), address: backend.parse()? };
        let mut settings = Settings::new(vec![backend], String::new(), &Timers::of(Profile::Pr));
        // An echo has no /readyz; haproxy asks for none either.
        settings.health = HealthPolicy::Ignore;
        let recorder = Recorder::default();
        let folder = tempfile::tempdir()?;
        recorder.begin(header::header(None), &folder.path().join("recording.jsonl"))?;
        let builtin = Builtin::start(settings, recorder).await?;
        // A lab's runtime always has a timer that is due soon: its health checks. Without any, each new one wakes it up.
        tokio::spawn(async {
            let mut ticks = tokio::time::interval(millis(500));
            loop {
                ticks.tick().await;
            }
        });
        println!("{}", builtin.address());
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        builtin.stop().await;
        Ok(())
    })
}

/// What clients do.
#[derive(Clone, Copy)]
enum Load {
    /// Send and receive on a connection of their own.
    Kept,
    /// Connect, send, receive and close.
    New,
}

/// What became of it.
#[derive(Default)]
struct Outcome {
    /// Messages that came back.
    count: u64,
    /// How long those took that were due after the warm-up.
    took: Vec<Duration>,
}

impl Outcome {
    fn percentile(&self, share: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took.get((took.len() as f64 * share) as usize).copied().unwrap_or_default()
    }
}

/// All clients at once, for [`SPAN`] after [`WARM_UP`].
async fn run(load: Load, to: SocketAddr, pace: Option<u32>) -> anyhow::Result<Outcome> {
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let begin = Instant::now() + WARM_UP;
    let end = begin + SPAN;
    let clients = (0..CLIENTS).map(|number| {
        let outcome = outcome.clone();
        tokio::spawn(async move {
            let mut message = vec![7; MESSAGE];
            let every = pace.map(|pace| secs(1) * CLIENTS as u32 / pace);
            let mut ticks = every.map(|every| {
                let mut ticks = interval_at((Instant::now() + every * number as u32 / CLIENTS as u32).into(), every);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                ticks
            });
            let mut stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            loop {
                // From when it was due, so that a late one does not look fast.
                let due = match &mut ticks {
                    Some(ticks) => ticks.tick().await.into_std(),
                    None => Instant::now(),
                };
                if due >= end {
                    return Ok::<(), std::io::Error>(());
                }
                if matches!(load, Load::New) {
                    stream = TcpStream::connect(to).await?;
                    stream.set_nodelay(true)?;
                }
                stream.write_all(&message).await?;
                stream.read_exact(&mut message).await?;
                let mut outcome = outcome.lock().expect("nobody panics");
                outcome.count += 1;
                if due >= begin {
                    outcome.took.push(due.elapsed());
                }
            }
        })
    });
    for client in futures::future::join_all(clients).await {
        client??;
    }
    Ok(std::mem::take(&mut *outcome.lock().expect("nobody panics")))
}

/// A backend that says what it hears.
async fn echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let mut buffer = vec![0; MESSAGE];
                loop {
                    match stream.read(&mut buffer).await? {
                        0 => return Ok::<(), std::io::Error>(()),
                        read => stream.write_all(&buffer[..read]).await?,
                    }
                }
            });
        }
    });
    Ok(address)
}

/// The processors that we may use.
fn processors() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect())
}

/// This thread, and what it starts from now on, run on that processor only.
fn pin(processor: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}

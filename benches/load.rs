//! Requests per processor second of our load, beside a small generator with client-go: `cargo bench --bench load`.
//!
//! Both are processes of their own and put the same load on the same lab: ten workers, each on a connection of its own, that
//! run the report's cycle or only read, with hardly a pause. Ours writes a recording meanwhile, as in a scenario, and speaks
//! HTTP/1.1; client-go speaks what it speaks by default, HTTP/2. What apiservers and balancer take is not counted.

mod go;
#[path = "judge/header.rs"]
mod header;
mod rounds;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rollproof::config::Config;
use rollproof::lab::http::Ask;
use rollproof::lab::provision::{self, Sources};
use rollproof::lab::remote::{Remote, Target};
use rollproof::lab::{LOAD_NAMESPACE, Lab, Setup};
use rollproof::probe::{WORKERS, load};
use rollproof::timeline::{Event, Recorder};
use rollproof::timing::{millis, secs};
use rustix::time::{ClockId, clock_gettime};

/// How long each measurement lasts, in seconds.
const SPAN: u64 = 8;
/// The first word of our own command line when we are the load.
const LOAD: &str = "be-the-load";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == LOAD) {
        return be_the_load(Path::new(&args[2]), args[3] == "true");
    }
    let folder = tempfile::tempdir()?;
    let Some(client_go) = go::build("benches/client-go", ".", &folder.path().join("client-go"))? else { return Ok(()) };
    let config = Config::from_env()?;
    let wanted = provision::wanted(config.kubernetes_version.as_deref())?;
    let binaries = provision::provision(&wanted, &Sources::from_env()?, &|line| eprintln!("{line}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let lab = runtime.block_on(async {
        let lab = Lab::start(Setup::careful(&config), &config, &binaries.into(), Recorder::default(), None).await?;
        let body = Bytes::from(serde_json::json!({"metadata": {"name": LOAD_NAMESPACE}}).to_string());
        let ask = Ask::new(Method::POST, "/api/v1/namespaces".to_owned(), body, "bench".to_owned(), "rollproof-bench");
        let (exchange, _) = lab.through_balancer().exchange(&mut None, &ask).await;
        ensure!(exchange.status == Some(201), "the namespace was not created: {exchange:?}");
        Ok(lab)
    })?;
    // Read by both, and kept from others: it holds a key.
    let kubeconfig = folder.path().join("kubeconfig");
    rollproof::lab::control_plane::pki::write_private(&kubeconfig, &serde_json::to_string(&lab.kubeconfig())?)?;

    for (what, read_only) in [("the report's cycle", "false"), ("GET only", "true")] {
        let ours = || {
            let mut command = Command::new(std::env::current_exe()?);
            measure(command.arg(LOAD).arg(&kubeconfig).arg(read_only))
        };
        let theirs = || {
            let mut command = Command::new(&client_go);
            let (workers, span) = (WORKERS.to_string(), SPAN.to_string());
            measure(command.arg(&kubeconfig).args([LOAD_NAMESPACE, &workers, &span, read_only]))
        };
        let names = ["requests per processor second", "requests/s"];
        let figures = rounds::alternate(rounds::count(7), names, ours, theirs)?;
        rounds::print(what, "client-go", &figures);
    }
    runtime.block_on(lab.strike())
}

/// Runs a load, which prints how many requests succeeded and how many processor seconds it took.
fn measure(command: &mut Command) -> anyhow::Result<[f64; 2]> {
    let output = command.output()?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?} failed: {errors}");
    let (requests, seconds) = text.trim().split_once(' ').with_context(|| format!("{text:?} is not two numbers"))?;
    let (requests, seconds): (f64, f64) = (requests.parse()?, seconds.parse()?);
    Ok([requests / seconds, requests / SPAN as f64])
}

/// The load of `rollproof load`, recorded into a file as in a scenario.
fn be_the_load(kubeconfig: &Path, read_only: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let target = Target::Remote(Arc::new(Remote::new(&config)?));
        let folder = tempfile::tempdir()?;
        let recorder = Recorder::default();
        recorder.begin(header::header(None), &folder.path().join("recording.jsonl"))?;
        // As fast as the timer goes: between two steps, a millisecond at most.
        let probe = load().every(millis(1) / 1000);
        let probe = if read_only { probe.read_only() } else { probe };
        let (count, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let before = used();
        let workers = probe.begin(&target, {
            let (recorder, count, failed) = (recorder.clone(), count.clone(), failed.clone());
            move |began, step| {
                if step.succeeded() { &count } else { &failed }.fetch_add(1, Ordering::Relaxed);
                recorder.record_at(began, Event::Load(step));
            }
        });
        tokio::time::sleep(secs(SPAN)).await;
        workers.end().await;
        recorder.finish()?;
        let (seconds, failed) = (used() - before, failed.load(Ordering::Relaxed));
        ensure!(failed == 0, "{failed} requests failed, and nothing disturbed them");
        println!("{} {seconds}", count.load(Ordering::Relaxed));
        Ok(())
    })
}

/// Processor seconds of this process.
fn used() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

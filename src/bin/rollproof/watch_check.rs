//! `rollproof watch-check`: the AKS report's apiserver-watcher, by hand, against any cluster.

mod metrics;
mod tally;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use kube::runtime::watcher;
use rollproof::lab::remote::{Remote, Target};
use rollproof::probe::kube_client::Library;
use rollproof::probe::trigger::Rounds;
use rollproof::timeline::{Moment, Trigger};
use rollproof::timing;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use self::metrics::Metrics;
use self::tally::Tally;
use crate::cluster::{config, duration};
use crate::place::Place;
use crate::{Ended, note, say};

/// Sent as the Audit-ID header, with a number; and the namespace's label.
const NAME: &str = "rollproof-watch-check";
/// ConfigMaps `failure-...` that are made at most: a watch that is dead would fill the cluster.
const FAILURES_KEPT: u64 = 100;

#[derive(Args)]
pub(crate) struct Options {
    /// The kubeconfig [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context [default: its current one]
    #[arg(long)]
    context: Option<String>,
    /// The namespace to create, work in and delete [default: rollproof-watch-check-, and a number]
    #[arg(long)]
    namespace: Option<String>,
    /// From one change to the next
    #[arg(long, default_value = "600s", value_parser = duration)]
    interval: Duration,
    /// How soon a change has to be noticed
    #[arg(long, default_value = "10s", value_parser = duration)]
    patience: Duration,
    /// How long, for example 24h [default: until Ctrl-C or SIGTERM]
    #[arg(long = "for", value_parser = duration)]
    span: Option<Duration>,
    /// Serve Prometheus metrics on this address, for example 127.0.0.1:9090
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(by_hand(options))
}

async fn by_hand(options: &Options) -> anyhow::Result<Ended> {
    let config = config(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
    let target = Target::Remote(Arc::new(Remote::new(&config)?));
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let metrics = Arc::new(Metrics::default());
    let served = match options.metrics {
        Some(address) => Some(metrics.serve(address).await?),
        None => None,
    };
    let place = Place::take(&target, NAME, options.namespace.as_deref(), false).await?;
    note(&format!(
        "a change every {:?} in the namespace {}, to be noticed within {:?}",
        options.interval,
        place.namespace(),
        options.patience
    ));

    let mut tally = Tally::new();
    let until_told = async {
        let told = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        };
        match options.span {
            Some(span) => drop(tokio::time::timeout(span, told).await),
            None => told.await,
        }
    };
    let ended = tokio::select! {
        () = until_told => Ok(()),
        broken = watch(&config, place.namespace(), options, &metrics, &mut tally) => broken,
    };
    drop(served);
    if let Err(broken) = ended {
        place.leave(&target).await.unwrap_or_else(|left| note(&format!("{left:#}")));
        return Err(broken);
    }
    say(&tally.summary(options.patience, metrics.interruptions()));
    if tally.unnoticed > 0 {
        note(&format!(
            "the namespace {0} is left for what its ConfigMaps say; `kubectl delete namespace {0}` removes it",
            place.namespace()
        ));
        return Ok(Ended::Violated);
    }
    tokio::select! {
        left = place.leave(&target) => left?,
        _ = async { tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} } } => {
            bail!("interrupted: the namespace {} may be left", place.namespace())
        }
    }
    if tally.noticed == 0 {
        bail!("no change was acknowledged and noticed: {}", tally.trouble("there was no time for one"));
    }
    // An outage of longer than a rollout may take.
    Ok(if tally.unacknowledged > 0 { Ended::Violated } else { Ended::Fine })
}

/// Round after round. Returns only with an error.
async fn watch(
    config: &kube::Config,
    namespace: &str,
    options: &Options,
    metrics: &Arc<Metrics>,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let audit_ids = || {
        let prefix = format!("{NAME}-{}", Moment::now().0);
        let last = std::sync::atomic::AtomicU64::default();
        move || format!("{prefix}-{}", last.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    };
    let client = |pooled| anyhow::Ok(Library::of(config.clone(), pooled)?.client(audit_ids(), drop));
    // The updater's connections are new ones: what a pool makes of an idle one is not what this is about.
    let updates: Api<ConfigMap> = Api::namespaced(client(false)?, namespace);
    let watches = Api::namespaced(client(true)?, namespace);
    let interrupted = {
        let metrics = metrics.clone();
        move |failure: rollproof::timeline::Failure| {
            metrics.interrupted();
            note(&format!("the watch was interrupted: {} ({})", failure.class, failure.text));
        }
    };
    let mut rounds = Rounds::begin(updates.clone(), watches, watcher::Config::default(), options.patience, interrupted);
    rounds.ready().await?;
    let mut schedule = tokio::time::interval(options.interval);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        schedule.tick().await;
        let round = next(&mut rounds).await;
        metrics.add(&round);
        tally.add(&round);
        match (&round.failure, round.noticed) {
            (None, None) => {
                note(&format!("change {} was not noticed within {:?}", round.change, options.patience));
                if tally.unnoticed <= FAILURES_KEPT {
                    write_down(&updates, &round).await;
                }
            }
            (Some(failure), _) => note(&format!("change {} was not acknowledged: {}", round.change, failure.text)),
            (None, Some(_)) => {}
        }
    }
}

/// A round with an acknowledged update; one that fails is tried again for as long as an apiserver's rollout may take.
async fn next(rounds: &mut Rounds) -> Trigger {
    let began = Moment::now();
    let mut tries = tokio::time::interval(timing::WATCH_RETRY);
    tries.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tries.tick().await;
        let (_, round) = rounds.next(NAME, None).await;
        if round.failure.is_none() || Moment::now().since(began) > timing::UPDATE_PATIENCE {
            return round;
        }
    }
}

/// A ConfigMap about a change that was not noticed. If it cannot be made, the round is counted all the same.
async fn write_down(updates: &Api<ConfigMap>, round: &Trigger) {
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"generateName": "failure-"},
        "data": {"timestamp": jiff::Timestamp::now().to_string(), "change": round.change.to_string()},
    });
    let created = async {
        updates.create(&PostParams::default(), &serde_json::from_value(map)?).await.map_err(anyhow::Error::from)
    };
    match tokio::time::timeout(timing::REQUEST_TIMEOUT, created).await {
        Ok(Ok(map)) => note(&format!("the ConfigMap {} says so", map.metadata.name.unwrap_or_default())),
        Ok(Err(error)) => note(&format!("cannot write that down: {error:#}")),
        Err(_) => note("cannot write that down: no answer"),
    }
}

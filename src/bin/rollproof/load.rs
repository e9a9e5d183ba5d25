//! `rollproof load`: the load of the OpenShift report, by hand, against any cluster.

mod tally;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use rollproof::lab::remote::{Remote, Target};
use rollproof::probe::{WORKERS, load};
use rollproof::timing;
use tokio::signal::unix::{SignalKind, signal};

use self::tally::Tally;
use crate::cluster::{config, duration};
use crate::place::Place;
use crate::{Ended, note, say};

#[derive(Args)]
pub(crate) struct Options {
    /// The kubeconfig [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context [default: its current one]
    #[arg(long)]
    context: Option<String>,
    /// How many workers, each on a connection of its own
    #[arg(long, default_value_t = WORKERS as u16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    workers: u16,
    /// Change nothing: get the namespace and list ConfigMaps
    #[arg(long)]
    read_only: bool,
    /// How long, for example 90s or 5m; Ctrl-C ends it sooner
    #[arg(long = "for", default_value = "60s", value_parser = duration)]
    span: Duration,
    /// How long each worker waits between two requests
    #[arg(long, default_value = "50ms", value_parser = duration)]
    every: Duration,
    /// The namespace to create, work in and delete [default: rollproof-load-, and a number]; with --read-only, one that is
    /// there [default: default]
    #[arg(long)]
    namespace: Option<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(by_hand(options))
}

async fn by_hand(options: &Options) -> anyhow::Result<Ended> {
    let target = Target::Remote(Arc::new(Remote::new(
        &config(options.kubeconfig.as_deref(), options.context.as_deref()).await?,
    )?));
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let place = Place::take(&target, "rollproof-load", options.namespace.as_deref(), options.read_only).await?;

    let tally = Arc::new(Mutex::new(Tally::new()));
    let load = load().workers(options.workers.into()).every(options.every).in_namespace(place.namespace());
    let load = if options.read_only { load.read_only() } else { load };
    let workers = load.begin(&target, {
        let tally = tally.clone();
        move |began, step| locked(&tally).add(began, step)
    });
    note(&format!("{} workers in namespace {}, for {:?}", options.workers, place.namespace(), options.span));

    let mut progress = tokio::time::interval(timing::PROGRESS_EVERY);
    progress.tick().await;
    let until_interrupted = async {
        loop {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                _ = progress.tick() => note(&locked(&tally).progress()),
            }
        }
    };
    let _ = tokio::time::timeout(options.span, until_interrupted).await;
    note("ending the workers");
    // Another Ctrl-C does not wait for a cluster that does not answer; nor does the table.
    tokio::select! {
        () = workers.end() => {}
        _ = interrupt.recv() => {}
    }
    let (table, outages) = locked(&tally).table();
    say(&table);
    tokio::select! {
        left = place.leave(&target) => left?,
        _ = interrupt.recv() => anyhow::bail!("interrupted: the namespace {} may be left", place.namespace()),
    }
    Ok(if outages { Ended::Violated } else { Ended::Fine })
}

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

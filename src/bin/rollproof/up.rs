//! `rollproof up`: a lab to play with.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use clap::Args;
use rollproof::config::{Config, ControlPlaneKind};
use rollproof::lab::control_plane::pki;
use rollproof::lab::provision::{self, Sources};
use rollproof::lab::{Lab, Setup, narrated};
use rollproof::timeline::{Recorder, Restart};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::signal::unix::{SignalKind, signal};

use crate::{Ended, say};

#[derive(Args)]
pub(crate) struct Options {
    /// How many apiservers [default: ROLLPROOF_APISERVERS, or 2]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    apiservers: Option<u8>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Ended> {
    let mut config = Config::from_env()?;
    config.apiservers = options.apiservers.map(usize::from).or(config.apiservers);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(up(&config));
    // A thread still blocked in reading the terminal must not hold us up.
    runtime.shutdown_background();
    ended.map(|()| Ended::Fine)
}

async fn up(config: &Config) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let asked_to_end = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(asked_to_end);

    let start = start(config);
    tokio::pin!(start);
    let lab = tokio::select! {
        lab = &mut start => lab?,
        // Whatever was started is struck by the keeper when we end.
        () = &mut asked_to_end => return Ok(()),
    };
    let kubeconfig = lab.folder().join("kubeconfig");
    pki::write_private(&kubeconfig, &serde_json::to_string_pretty(&lab.kubeconfig())?)?;
    say(&format!("export KUBECONFIG={}", kubeconfig.display()));
    for server in lab.servers() {
        say(&format!("# {} listens on {}", server.name(), server.address()));
    }
    say(&format!("# the balancer listens on {}", lab.through_balancer().address));
    if let Some(network) = lab.client_network() {
        say(&format!("# they are on a network of their own: `nsenter --net={}` leads there", network.display()));
    }
    say(
        "# type `roll` to restart the apiservers one after the other, `kill` to kill them instead; Ctrl-C ends the lab",
    );
    let played = tokio::select! {
        played = play(&lab) => played,
        () = &mut asked_to_end => Ok(()),
    };
    lab.strike().await?;
    played
}

async fn start(config: &Config) -> anyhow::Result<Lab> {
    if config.control_plane == ControlPlaneKind::Kind {
        bail!("up is not available yet for the control plane kind; it takes local");
    }
    let wanted = config.kubernetes_version.clone();
    let binaries = tokio::task::spawn_blocking(move || {
        provision::provision(&provision::wanted(wanted.as_deref())?, &Sources::from_env()?, &|line| note(line))
    })
    .await??;
    let material = binaries.into();
    let starting = Lab::start(Setup::careful(config), config, &material, Recorder::default(), None);
    narrated("starting etcd, apiservers and balancer", |line| note(&line), starting).await
}

/// Obeys lines on stdin until it ends; then waits for a signal, so that `rollproof up </dev/null &` works.
async fn play(lab: &Lab) -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.context("cannot read stdin")? {
        let how = match line.trim() {
            "" => continue,
            "roll" => Restart::Graceful,
            "kill" => Restart::Killed,
            other => {
                note(&format!("{other:?} is not known here: roll or kill"));
                continue;
            }
        };
        narrated("restarting the apiservers", |line| note(&line), lab.roll(how)).await?;
        note("the apiservers are back");
    }
    std::future::pending().await
}

fn note(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

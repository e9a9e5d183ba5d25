//! The `rollproof` command: everything that does not need cargo. One file per subcommand.

mod cases;
mod clean;
mod cluster;
mod cures;
mod doctor;
mod edges;
mod gate;
mod image;
mod judge;
mod list;
mod load;
mod place;
mod timeline;
mod timer_server;
mod up;
mod watch_check;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Conformance suite: do Kubernetes watches and in-flight requests survive a kube-apiserver rollout behind this load
/// balancer?
///
/// The main job is `cargo test --test rollout`; its configuration is the environment (ROLLPROOF_*, see the README).
///
/// Exit codes: 0 fine; 1 violated (controls aside), outages, or a red gate; 2 usage; 3 the lab or the environment failed, or
/// inconclusive.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what this machine offers, what is missing, and what to do about it
    Doctor,
    /// List the requirements
    List(list::Options),
    /// Start a lab to play with, and print its kubeconfig
    Up(up::Options),
    /// Put the load of the OpenShift report on any cluster, and show what it noticed
    ///
    /// Workers create a ServiceAccount, a Secret and a ConfigMap, get each and delete each, in a namespace of their own that is
    /// removed at the end; another one lists all ConfigMaps. Exit codes: 0 no outage; 1 outages; 2 usage; 3 the environment
    /// failed.
    Load(load::Options),
    /// Watch any cluster for a long time, and see that a change is noticed however long nothing happened
    ///
    /// The AKS report's apiserver-watcher: every now and then a ConfigMap `trigger` is changed, in a namespace of its own, and a watch of all
    /// ConfigMaps there has to notice. If it does not in time, a ConfigMap `failure-...` says when. Exit codes: 0 every change was noticed; 1 one
    /// was not; 2 usage; 3 the environment failed.
    WatchCheck(watch_check::Options),
    /// Judge saved recordings again
    Judge(judge::Options),
    /// Show what each case met and what caught it, as a markdown table
    Cases(cases::Options),
    /// Show what each gateway's remedy against dead upstreams came to, as a markdown page
    Cures(cures::Options),
    /// Show how exact the times of saved recordings are, beside the packets of the same run, as a markdown table
    Edges(edges::Options),
    /// Draw a saved recording as an SVG timeline
    Timeline(timeline::Options),
    /// Hold the results of a run against what is expected of it
    Gate(gate::Options),
    /// Pull or build the images of clusters, before a run has to
    Image(image::Options),
    /// Say the time every now and then, to see what a balancer does to idle connections
    TimerServer(timer_server::Options),
    /// Remove what killed runs have left behind
    Clean(clean::Options),
    /// Own the children of a run
    #[command(hide = true)]
    Keeper,
    /// Become a child of the keeper
    #[command(hide = true, disable_help_flag = true)]
    KeeperExec {
        keeper: i32,
        #[arg(long)]
        network: Option<PathBuf>,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// How a subcommand ended, as scripts see it.
pub(crate) enum Ended {
    Fine,
    Violated,
    Failed,
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Doctor => doctor::run(),
        Command::List(options) => list::run(&options),
        Command::Up(options) => up::run(&options),
        Command::Load(options) => load::run(&options),
        Command::WatchCheck(options) => watch_check::run(&options),
        Command::Judge(options) => judge::run(&options),
        Command::Cases(options) => cases::run(&options),
        Command::Cures(options) => cures::run(&options),
        Command::Edges(options) => edges::run(&options),
        Command::Timeline(options) => timeline::run(&options),
        Command::Gate(options) => gate::run(&options),
        Command::Image(options) => image::run(&options),
        Command::Clean(options) => clean::run(&options),
        Command::TimerServer(options) => timer_server::run(&options),
        Command::Keeper => rollproof::lab::keeper::run().map(|()| Ended::Fine),
        Command::KeeperExec { keeper, network, program, args } => {
            rollproof::lab::keeper::exec(keeper, network.as_deref(), &program, &args).map(|()| Ended::Fine)
        }
    };
    match ended {
        Ok(Ended::Fine) => ExitCode::SUCCESS,
        Ok(Ended::Violated) => ExitCode::from(1),
        Ok(Ended::Failed) => ExitCode::from(3),
        Err(error) => {
            complain(&error);
            ExitCode::from(3)
        }
    }
}

/// A line on stdout. A reader that has gone (`| head`) is no failure.
pub(crate) fn say(line: &str) {
    let _ = writeln!(anstream::stdout(), "{line}");
}

/// A line about what is going on, on stderr.
pub(crate) fn note(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// An error on stderr.
pub(crate) fn complain(error: &anyhow::Error) {
    let _ = writeln!(anstream::stderr(), "rollproof: {error:#}");
}

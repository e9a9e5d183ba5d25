//! `rollproof doctor`: what this machine offers, what is missing, and what to do about it. Changes nothing.

use std::net::TcpListener;

use rollproof::config::Config;
use rollproof::lab::{balancer::kernel, keeper::Keeper, network, provision, sweep};

use crate::{Ended, say};

/// One thing that was looked at.
enum Found {
    Good(String),
    /// Works, with a drawback.
    Note(String),
    Bad(String),
}

pub(crate) fn run() -> anyhow::Result<Ended> {
    let checks = [
        ("environment", environment()),
        ("binaries", binaries()),
        ("loopback addresses", loopback()),
        ("keeper", keeper()),
        ("network namespaces", namespaces()),
        ("docker", docker()),
        ("leftovers", leftovers()),
        ("open files", open_files()),
    ];
    let mut bad = false;
    for (what, found) in checks {
        let (mark, text) = match found {
            Found::Good(text) => ("ok", text),
            Found::Note(text) => ("note", text),
            Found::Bad(text) => {
                bad = true;
                ("BAD", text)
            }
        };
        say(&format!("{mark:<5} {what}: {text}"));
    }
    Ok(if bad { Ended::Failed } else { Ended::Fine })
}

fn environment() -> Found {
    match Config::from_env() {
        Ok(config) => Found::Good(format!("profile {}, balancer {}", config.profile, config.balancer)),
        Err(error) => Found::Bad(error.to_string()),
    }
}

fn binaries() -> Found {
    let asked = Config::from_env().ok().and_then(|config| config.kubernetes_version);
    let looked = provision::wanted(asked.as_deref()).and_then(|version| Ok((version, provision::Sources::from_env()?)));
    let (version, sources) = match looked {
        Ok(looked) => looked,
        Err(error) => return Found::Bad(format!("{error:#}")),
    };
    match provision::at_hand(&version, &sources) {
        Ok(found) => Found::Good(format!(
            "kube-apiserver {} from {}, etcd {} from {}",
            found.kube_apiserver.version, found.kube_apiserver.origin, found.etcd.version, found.etcd.origin
        )),
        Err(error) => Found::Note(format!(
            "{error:#}; the first run downloads it, or builds it where Go is installed (https://go.dev/dl)"
        )),
    }
}

fn loopback() -> Found {
    let address = network::balancer(250);
    match TcpListener::bind(address) {
        Ok(_) => Found::Good("all of 127.0.0.0/8 can be used".to_owned()),
        Err(error) => Found::Bad(format!(
            "cannot listen on {address}: {error}; the control plane local needs Linux, and that port on addresses of its own"
        )),
    }
}

fn keeper() -> Found {
    match Keeper::get() {
        Ok(_) => Found::Good("starts".to_owned()),
        Err(error) => Found::Bad(format!("{error:#}")),
    }
}

fn namespaces() -> Found {
    match (kernel::unmet(), network::delay::unmet()) {
        (Some(reason), _) => Found::Note(format!("no balancer `kernel`: {reason}")),
        (None, Some(reason)) => {
            Found::Note(format!("can be made, with nftables; no packet can be late in them: {reason}"))
        }
        (None, None) => Found::Good("can be made, with nftables; packets can be lost in them, or late".to_owned()),
    }
}

fn docker() -> Found {
    let asked = Config::from_env().ok().and_then(|config| config.kubernetes_version);
    let looked = provision::wanted(asked.as_deref())
        .and_then(|version| Ok((version, provision::node_image::at_hand(&version, &provision::Sources::from_env()?)?)));
    match looked {
        Ok((_, Some(image))) => Found::Good(format!("answers, and has the node image {}", image.reference)),
        Ok((version, None)) => Found::Note(format!(
            "answers, and has no node image of {version}; `rollproof image` or the first run pulls it, or builds it"
        )),
        Err(error) => Found::Note(format!("no control plane `kind`: {error:#}")),
    }
}

fn leftovers() -> Found {
    let labs = sweep::labs();
    match labs.iter().filter(|lab| !lab.alive).count() {
        0 => Found::Good(format!("none; {} labs are in use", labs.len())),
        dead => Found::Note(format!("{dead} labs of killed runs; `rollproof clean` or the next run removes them")),
    }
}

fn open_files() -> Found {
    /// Two apiservers, their balancer and all probes hold a few hundred.
    const ENOUGH: u64 = 1024;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit < ENOUGH => Found::Bad(format!("only {limit}; `ulimit -n {ENOUGH}` raises it")),
        limit => Found::Good(limit.map_or("no limit".to_owned(), |limit| format!("{limit} allowed"))),
    }
}

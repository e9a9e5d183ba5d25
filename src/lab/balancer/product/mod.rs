//! Products as balancers: a process of this machine, configured as a careful team would, from the same [`Settings`] as the
//! builtin balancer.
//!
//! Each has its own file: what it is told, and what it cannot be told ([`suits`]).

pub mod haproxy;
pub mod nginx;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::command::Command;
use super::{OnUnhealthy, Settings};
use crate::config::Product;
use crate::lab::keeper::{Claim, Keeper};
use crate::lab::{Setup, control_plane::pki};
use crate::timeline::Subject;
use crate::timing;

/// A product at work.
pub struct Running {
    /// Its process.
    pub command: Command,
    /// Name, version and digest of its binary.
    pub subject: Subject,
    product: Product,
    folder: PathBuf,
}

impl Running {
    /// Writes its configuration into the lab's folder, and starts it there.
    ///
    /// `ca` is the file of the CA that signed the backends' serving certificates; `idle` how long a connection may be idle.
    ///
    /// # Errors
    /// It is not installed, or cannot be executed.
    pub async fn start(
        product: Product,
        keeper: &Keeper,
        claim: &Claim,
        settings: &Settings,
        ca: &Path,
        idle: Duration,
    ) -> anyhow::Result<Self> {
        let folder = claim.folder.clone();
        let binary = installed(product)?;
        let printed = about(product, &binary).await?;
        let version = version_in(&printed).with_context(|| format!("{} tells no version", binary.display()))?;
        let digest = Sha256::digest(tokio::fs::read(&binary).await?);
        let (name, text, args): (_, _, &[&str]) = match product {
            Product::Haproxy => ("haproxy.cfg", haproxy::configuration(settings, ca, idle, &folder), haproxy::ARGUMENTS),
            Product::Nginx => {
                let module = nginx::stream_module(&printed);
                ("nginx.conf", nginx::configuration(settings, idle, &folder, module.as_deref()), nginx::ARGUMENTS)
            }
        };
        let file = folder.join(name);
        pki::write_private(&file, &text)?;
        let args = args.iter().map(|&arg| arg.to_owned());
        let words: Vec<_> = [binary.display().to_string()]
            .into_iter()
            .chain(args)
            .chain([file.display().to_string()])
            .collect();
        let subject = Subject {
            name: product.to_string(),
            version,
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        let command = Command::start(keeper, claim, &words, BTreeMap::new(), settings.listen).await?;
        Ok(Self { command, subject, product, folder })
    }

    /// Its log, and its statistics where [`Running::end`] has left some: the names as evidence, and the files.
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        let statistics = Some(("balancer-stats.log".to_owned(), self.statistics())).filter(|(_, file)| file.exists());
        std::iter::once(("balancer.log".to_owned(), self.command.log().to_owned())).chain(statistics).collect()
    }

    /// Asks for its statistics, as far as it keeps any, then ends it.
    pub async fn end(&self) {
        let asked = match self.product {
            Product::Haproxy => tokio::time::timeout(timing::COMMAND_STOP, haproxy::statistics(&self.folder)).await,
            Product::Nginx => Ok(Ok(String::new())),
        };
        // Evidence beside the recording: no verdict depends on it, and one that has ended has none.
        if let Ok(Ok(text)) = asked
            && !text.is_empty()
        {
            let _ = tokio::fs::write(self.statistics(), text).await;
        }
        self.command.end().await;
    }

    fn statistics(&self) -> PathBuf {
        self.folder.join("balancer-stats.log")
    }
}

/// Whether this product can be told to carry connections as that lab asks.
pub fn suits(product: Product, setup: &Setup) -> bool {
    match product {
        // A drain time it has not.
        Product::Haproxy => matches!(setup.on_unhealthy, OnUnhealthy::Keep | OnUnhealthy::Reset),
        // Without health checks nothing is ever put back by them, and nothing is noticed on established connections.
        Product::Nginx => {
            setup.on_unhealthy == OnUnhealthy::Keep && setup.timers.health_rise == timing::HEALTH_RISE
        }
    }
}

/// The binary, from `PATH` or from where distributions put what only root used to start.
fn installed(product: Product) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut files = folders.map(|folder| folder.join(product.to_string()));
    files.find(|file| file.is_file()).with_context(|| {
        format!("there is no {product} in PATH or /usr/sbin: install it (Debian: `apt-get install {}`)", product.packages())
    })
}

/// What it prints about itself.
async fn about(product: Product, binary: &Path) -> anyhow::Result<String> {
    let flag = match product {
        Product::Haproxy => "-v",
        Product::Nginx => "-V",
    };
    let mut command = std::process::Command::new(binary);
    command.arg(flag).stdin(Stdio::null());
    let said = tokio::time::timeout(timing::VERSION_ANSWER, spawn_blocking(move || command.output())).await;
    let said = said.with_context(|| format!("{} does not tell its version", binary.display()))??;
    let said = said.with_context(|| format!("{} cannot be executed", binary.display()))?;
    Ok([said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

/// The version in `HAProxy version 2.6.12-1 2026/10/17 - ...` or `nginx version: nginx/1.22.1`.
fn version_in(printed: &str) -> Option<String> {
    let (_, rest) = printed.lines().next()?.split_once(" version")?;
    let word = rest.trim_start_matches(':').split_whitespace().next()?;
    Some(word.rsplit('/').next().unwrap_or(word).to_owned())
}

//! Products as balancers: a process of this machine, configured as a careful team would, from the same [`Settings`] as the
//! builtin balancer.
//!
//! Each has its own file: what it is told, and what it cannot be told ([`suits`]).

pub mod envoy;
pub mod haproxy;
pub mod nginx;

use std::collections::BTreeMap;
use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::command::Command;
use super::{OnUnhealthy, Settings};
use crate::config::Product;
use crate::lab::Setup;
use crate::lab::control_plane::{ControlPlane, pki};
use crate::lab::keeper::{Claim, Keeper};
use crate::lab::provision::{self, Sources};
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
    /// `idle` is how long a connection may be idle.
    ///
    /// # Errors
    /// It is not installed, or cannot be executed.
    pub async fn start(
        product: Product,
        keeper: &Keeper,
        claim: &Claim,
        settings: &Settings,
        control_plane: &ControlPlane,
        idle: Duration,
    ) -> anyhow::Result<Self> {
        let folder = claim.folder.clone();
        let ca = &control_plane.ca_file;
        let binary = binary(product).await?;
        let printed = about(product, &binary).await?;
        let version = version_in(&printed).with_context(|| format!("{} tells no version", binary.display()))?;
        let digest = Sha256::digest(tokio::fs::read(&binary).await?);
        let (name, text, args): (_, _, &[&str]) = match product {
            Product::Haproxy => {
                ("haproxy.cfg", haproxy::configuration(settings, ca, idle, &folder), haproxy::ARGUMENTS)
            }
            Product::Envoy => {
                let it = envoy::configuration(settings, ca, idle, &folder, &control_plane.gateway);
                ("envoy.json", serde_json::to_string_pretty(&it)?, envoy::ARGUMENTS)
            }
            Product::Nginx => {
                let module = nginx::stream_module(&printed);
                ("nginx.conf", nginx::configuration(settings, idle, &folder, module.as_deref()), nginx::ARGUMENTS)
            }
        };
        let file = folder.join(name);
        pki::write_private(&file, &text)?;
        let args = args.iter().map(|&arg| arg.to_owned());
        let words: Vec<_> =
            [binary.display().to_string()].into_iter().chain(args).chain([file.display().to_string()]).collect();
        let subject = Subject {
            name: product.to_string(),
            version,
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        let command = Command::start(keeper, claim, &words, BTreeMap::new(), &settings.site, settings.listen).await?;
        Ok(Self { command, subject, product, folder })
    }

    /// Whether it ends TLS itself.
    pub fn ends_tls(&self) -> bool {
        self.product == Product::Envoy
    }

    /// Its log, and its statistics where [`Running::end`] has left some: the names as evidence, and the files.
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        let statistics = Some(("balancer-stats.log".to_owned(), self.statistics())).filter(|(_, file)| file.exists());
        std::iter::once(("balancer.log".to_owned(), self.command.log().to_owned())).chain(statistics).collect()
    }

    /// Asks for its statistics, as far as it keeps any, then ends it.
    pub async fn end(&self) {
        let asked = tokio::time::timeout(timing::COMMAND_STOP, async {
            match self.product {
                Product::Haproxy => haproxy::statistics(&self.folder).await.map(Some),
                Product::Envoy => envoy::statistics(&self.folder).await.map(Some),
                Product::Nginx => Ok(None),
            }
        });
        // Evidence beside the recording: no verdict depends on it, and one that has ended has none.
        if let Ok(Ok(Some(text))) = asked.await {
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
    // Timer-servers stand behind a balancer of ours only.
    setup.on_idle.is_none()
        && match product {
            // A drain time it has not.
            Product::Haproxy => matches!(setup.on_unhealthy, OnUnhealthy::Keep | OnUnhealthy::Reset),
            // No source address decides about anything, and nobody may cut what it carries (tcp_proxy alone could).
            Product::Envoy => setup.on_unhealthy == OnUnhealthy::Keep && !setup.hairpin,
            // Without health checks nothing is ever put back by them, and nothing is noticed on established connections.
            Product::Nginx => {
                setup.on_unhealthy == OnUnhealthy::Keep && setup.timers.health_rise == timing::HEALTH_RISE
            }
        }
}

async fn binary(product: Product) -> anyhow::Result<PathBuf> {
    match product {
        Product::Haproxy | Product::Nginx => installed(product),
        Product::Envoy => {
            let sources = Sources::from_env()?;
            let say = |text: &str| drop(writeln!(std::io::stderr(), "{text}"));
            Ok(spawn_blocking(move || provision::envoy(&sources, &say)).await??.path)
        }
    }
}

/// The binary, from `PATH` or from where distributions put what only root used to start.
fn installed(product: Product) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut files = folders.map(|folder| folder.join(product.to_string()));
    files.find(|file| file.is_file()).with_context(|| {
        format!(
            "there is no {product} in PATH or /usr/sbin: install it (Debian: `apt-get install {}`)",
            product.packages()
        )
    })
}

/// What it prints about itself.
async fn about(product: Product, binary: &Path) -> anyhow::Result<String> {
    let flag = match product {
        Product::Haproxy => "-v",
        Product::Nginx => "-V",
        Product::Envoy => "--version",
    };
    let mut command = std::process::Command::new(binary);
    command.arg(flag).stdin(Stdio::null());
    let said = tokio::time::timeout(timing::VERSION_ANSWER, spawn_blocking(move || command.output())).await;
    let said = said.with_context(|| format!("{} does not tell its version", binary.display()))??;
    let said = said.with_context(|| format!("{} cannot be executed", binary.display()))?;
    Ok([said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

/// The version in `HAProxy version 2.6.12-1 2026/10/17 - ...`, `nginx version: nginx/1.22.1` or
/// `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
fn version_in(printed: &str) -> Option<String> {
    let (_, rest) = printed.split_once(" version")?;
    let word = rest.trim_start_matches(':').split_whitespace().next()?;
    Some(word.split('/').nth(1).unwrap_or(word).to_owned())
}

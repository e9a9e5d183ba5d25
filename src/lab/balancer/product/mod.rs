//! Products as balancers: a process of this machine or a container of a cluster's network, configured as a careful team would,
//! from the same [`Settings`] as the builtin balancer.
//!
//! Each has its own file: what it is told, and what it cannot be told ([`suits`]). Envoy may be told by its user instead ([`EnvoyFile`]).

mod contained;
pub mod envoy;
mod envoy_file;
pub mod haproxy;
pub mod nginx;

use std::collections::BTreeMap;
use std::env;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use contained::Contained;
pub use envoy_file::EnvoyFile;
use haproxy::Mode;

use super::command::Command;
use super::{OnUnhealthy, Settings};
use crate::config::Product;
use crate::lab::Setup;
use crate::lab::control_plane::kind::{Beside, Cluster, File};
use crate::lab::control_plane::{ControlPlane, pki};
use crate::lab::http::Endpoint;
use crate::lab::keeper::{Claim, Keeper};
use crate::lab::provision::{self, Sources, image};
use crate::timeline::Subject;
use crate::timing;

/// A product at work.
pub struct Running {
    /// Name, version and digest of its binary, or of its image; and its configuration, where that is its user's own.
    pub subjects: Vec<Subject>,
    at: Place,
    told: Told,
    folder: PathBuf,
}

/// What a product is told, and by whom.
pub enum Told {
    /// By the suite: haproxy and nginx carry bytes, Envoy is a gateway.
    Usual(Product),
    /// By the suite: haproxy is a gateway, too.
    HaproxyHttp,
    /// Envoy, by its user.
    EnvoyFile(EnvoyFile),
}

/// Where it runs.
enum Place {
    /// As a process of this machine.
    Process(Command),
    /// In a cluster's network.
    Container(Contained),
}

impl Running {
    /// Writes its configuration, and starts it: as a process in the lab's folder or, where the control plane is a cluster, in a
    /// container of its network.
    ///
    /// `idle` is how long a connection may be idle.
    ///
    /// # Errors
    /// It is not installed, or there is no image, it refuses its user's configuration, or it cannot be started.
    pub async fn start(
        told: Told,
        keeper: &Keeper,
        claim: &Claim,
        settings: &Settings,
        control_plane: &ControlPlane,
        idle: Duration,
    ) -> anyhow::Result<Self> {
        let folder = claim.folder.clone();
        let (at, subject) = match control_plane.cluster() {
            None => {
                let (command, subject) =
                    Self::start_process(&told, keeper, claim, settings, control_plane, idle).await?;
                (Place::Process(command), subject)
            }
            Some(cluster) => {
                let (container, subject) =
                    Self::start_container(&told, keeper, claim, settings, (control_plane, cluster), idle).await?;
                (Place::Container(container), subject)
            }
        };
        let subjects = [subject].into_iter().chain(told.file().map(EnvoyFile::subject)).collect();
        Ok(Self { subjects, at, told, folder })
    }

    async fn start_process(
        told: &Told,
        keeper: &Keeper,
        claim: &Claim,
        settings: &Settings,
        control_plane: &ControlPlane,
        idle: Duration,
    ) -> anyhow::Result<(Command, Subject)> {
        let (binary, subject, printed) = program(told.product()).await?;
        let module = nginx::stream_module(&printed);
        let gateway = &control_plane.gateway;
        let files = Files {
            folder: &claim.folder,
            ca: &control_plane.ca_file,
            certificate: &gateway.certificate_file,
            key: &gateway.key_file,
        };
        let text = told.configuration(settings, idle, files, module.as_deref())?;
        let file = claim.folder.join(told.file_name());
        pki::write_private(&file, &text)?;
        if let Some(own) = told.file() {
            own.validate(&binary, &file, &claim.folder).await?;
        }
        let words = told.words(&binary, &file, &claim.folder);
        let command = Command::start(keeper, claim, &words, BTreeMap::new(), &settings.site, settings.listen).await?;
        Ok((command, subject))
    }

    async fn start_container(
        told: &Told,
        keeper: &Keeper,
        claim: &Claim,
        settings: &Settings,
        (control_plane, cluster): (&ControlPlane, &Cluster),
        idle: Duration,
    ) -> anyhow::Result<(Contained, Subject)> {
        /// As an apiserver's, so that who reads addresses knows what they are.
        const PORT: u16 = 6443;
        let product = told.product();
        let sources = Sources::from_env()?;
        let say = |text: &str| drop(writeln!(std::io::stderr(), "{text}"));
        let image = spawn_blocking(move || image::balancer::balancer_image(product, &sources, &say)).await??;
        let settings = Settings { listen: (Ipv4Addr::UNSPECIFIED, PORT).into(), ..settings.clone() };
        let inside = |name: &str| Path::new(contained::FOLDER).join(name);
        let [ca, certificate, key] = ["ca.crt", "gateway.crt", "gateway.key"].map(inside);
        let files = Files { folder: Path::new(contained::FOLDER), ca: &ca, certificate: &certificate, key: &key };
        // Debian's is a module; in the official image it is built in.
        let module = (!image.official).then_some(nginx::DEBIANS_STREAM_MODULE);
        let text = told.configuration(&settings, idle, files, module)?;
        let file = inside(told.file_name());
        let file_of =
            |path: &Path, content: &str| File { path: path.display().to_string(), content: content.to_owned() };
        let mut contents = vec![file_of(&file, &text), file_of(&ca, &control_plane.ca)];
        if told.ends_tls() {
            let gateway = &control_plane.gateway;
            contents.extend([file_of(&certificate, &gateway.certificate), file_of(&key, &gateway.key)]);
        }
        let command = told.words(Path::new(&product.to_string()), &file, files.folder);
        let beside = Beside { name: "balancer", image: &image.reference, files: &contents, command: &command };
        let subject = Subject { name: product.to_string(), version: image.reference.clone(), digest: image.digest };
        Ok((Contained::start(keeper, claim, cluster, beside, PORT).await?, subject))
    }

    /// Waits until a request through it is served.
    ///
    /// # Errors
    /// It ended, or served nothing in time; with the end of what it printed.
    pub async fn ready(&self, through: &Endpoint) -> anyhow::Result<()> {
        match &self.at {
            Place::Process(command) => command.ready(through, timing::BALANCER_READY).await,
            Place::Container(container) => container.ready(through).await,
        }
    }

    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        match &self.at {
            Place::Process(command) => command.address(),
            Place::Container(container) => container.address(),
        }
    }

    /// Says so if it has ended by itself.
    ///
    /// # Errors
    /// It has.
    pub fn check(&self) -> anyhow::Result<()> {
        match &self.at {
            Place::Process(command) => command.check(),
            Place::Container(container) => container.check(),
        }
    }

    /// Whether it ends TLS itself.
    pub fn ends_tls(&self) -> bool {
        self.told.ends_tls()
    }

    /// Its log, and its statistics where [`Running::end`] has left some: the names as evidence, and the files.
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        let statistics = Some(("balancer-stats.log".to_owned(), self.statistics())).filter(|(_, file)| file.exists());
        let log = match &self.at {
            Place::Process(command) => Some(command.log().to_owned()),
            Place::Container(container) => container.log(),
        };
        log.map(|log| ("balancer.log".to_owned(), log)).into_iter().chain(statistics).collect()
    }

    /// Asks for its statistics, as far as it keeps any, then ends it.
    pub async fn end(&self) {
        let command = match &self.at {
            Place::Process(command) => command,
            Place::Container(container) => return container.end().await,
        };
        let asked = tokio::time::timeout(timing::COMMAND_STOP, async {
            match self.told.product() {
                Product::Haproxy => haproxy::statistics(&self.folder).await.map(Some),
                Product::Envoy => envoy::statistics(&self.folder).await.map(Some),
                Product::Nginx => Ok(None),
            }
        });
        // Evidence beside the recording: no verdict depends on it, and one that has ended has none.
        if let Ok(Ok(Some(text))) = asked.await {
            let _ = tokio::fs::write(self.statistics(), text).await;
        }
        command.end().await;
    }

    fn statistics(&self) -> PathBuf {
        self.folder.join("balancer-stats.log")
    }
}

/// Where a product's files are, as it sees them.
#[derive(Clone, Copy)]
struct Files<'a> {
    /// It may write there.
    folder: &'a Path,
    ca: &'a Path,
    certificate: &'a Path,
    key: &'a Path,
}

impl Told {
    fn product(&self) -> Product {
        match self {
            Self::Usual(product) => *product,
            Self::HaproxyHttp => Product::Haproxy,
            Self::EnvoyFile(_) => Product::Envoy,
        }
    }

    fn file(&self) -> Option<&EnvoyFile> {
        match self {
            Self::EnvoyFile(file) => Some(file),
            Self::Usual(_) | Self::HaproxyHttp => None,
        }
    }

    /// Whether it ends TLS itself.
    fn ends_tls(&self) -> bool {
        match self {
            Self::Usual(product) => *product == Product::Envoy,
            Self::HaproxyHttp => true,
            Self::EnvoyFile(file) => file.ends_tls(),
        }
    }

    /// The configuration that does what `settings` say; `module` is nginx's, where that has to be loaded.
    fn configuration(
        &self,
        settings: &Settings,
        idle: Duration,
        files: Files<'_>,
        module: Option<&str>,
    ) -> anyhow::Result<String> {
        let Files { folder, ca, certificate, key } = files;
        Ok(match self {
            Self::Usual(Product::Haproxy) => haproxy::configuration(settings, Mode::Tcp, ca, idle, folder),
            Self::HaproxyHttp => haproxy::configuration(settings, Mode::Http { certificate }, ca, idle, folder),
            Self::Usual(Product::Nginx) => nginx::configuration(settings, idle, folder, module),
            Self::Usual(Product::Envoy) => {
                serde_json::to_string_pretty(&envoy::configuration(settings, ca, idle, folder, [certificate, key]))?
            }
            Self::EnvoyFile(file) => file.filled(settings, ca, idle, [certificate, key]),
        })
    }

    fn file_name(&self) -> &'static str {
        match self.product() {
            Product::Haproxy => "haproxy.cfg",
            Product::Nginx => "nginx.conf",
            // To Envoy JSON is YAML.
            Product::Envoy => "envoy.yaml",
        }
    }

    /// The command that runs it in the foreground with this configuration.
    fn words(&self, binary: &Path, file: &Path, folder: &Path) -> Vec<String> {
        let arguments = match self.product() {
            Product::Haproxy => haproxy::ARGUMENTS,
            Product::Nginx => nginx::ARGUMENTS,
            Product::Envoy => envoy::ARGUMENTS,
        };
        let mut words = vec![binary.display().to_string()];
        words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        words.push(file.display().to_string());
        words.extend(self.file().iter().flat_map(|_| envoy_file::arguments(folder)));
        words
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

/// A product's program of this machine: where it is, what it is, and what it prints about itself.
///
/// # Errors
/// There is none, or it tells no version.
pub(in crate::lab) async fn program(product: Product) -> anyhow::Result<(PathBuf, Subject, String)> {
    let binary = binary(product).await?;
    let printed = about(product, &binary).await?;
    let version = version_in(&printed).with_context(|| format!("{} tells no version", binary.display()))?;
    let digest = Sha256::digest(tokio::fs::read(&binary).await?);
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((binary, Subject { name: product.to_string(), version, digest }, printed))
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

/// haproxy's or nginx's binary, from `PATH` or from where distributions put what only root used to start.
///
/// # Errors
/// There is none, and how to get it.
pub fn installed(product: Product) -> anyhow::Result<PathBuf> {
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

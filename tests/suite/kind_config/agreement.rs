//! The real kind reads the same files, and says and writes the same.
//!
//! kind itself is built from the modules pinned in fixtures/kind, and runs with fixtures/kind/stand-in in place of Docker's command. This is
//! sound, since kind does everything with Docker by that command, and all that is compared comes before the first program
//! would run in a node: `pkg/cluster/internal/create.Cluster` parses, validates, says `Creating cluster`, makes the
//! containers, and writes kubeadm.conf and containerd's configuration into them; then comes `kubeadm init`, where the stand-in stops it.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use rollproof::lab::control_plane::kind::config::{IpFamily, KindConfig, NodePlace, containerd_config, kubeadm_config};
use rollproof::lab::control_plane::kind::{Role, names};
use rollproof::lab::provision::Version;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::cases::{CASES, Outcome, STRICTER, file};
use super::{V1_34, V1_37, documents, place};

const CONTAINERD: &str = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'pause'\nlist = [1]\n";

/// The real kind, from a cache outside the clone; or why there is none.
fn kind() -> anyhow::Result<PathBuf> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kind");
    let pinned = [fs::read(modules.join("go.mod"))?, fs::read(modules.join("go.sum"))?].concat();
    let digest: String = Sha256::digest(pinned).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache"))).context("no HOME")?;
    let folder = cache.join("rollproof/kind").join(digest);
    let binary = folder.join("kind");
    if binary.exists() {
        return Ok(binary);
    }
    fs::create_dir_all(&folder)?;
    // It appears whole, by rename: two runs may do this at once.
    let scratch = tempfile::tempdir_in(&folder)?;
    let made = scratch.path().join("kind");
    let mut build = Command::new("go");
    build.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(&made);
    build.arg("sigs.k8s.io/kind").current_dir(&modules).env("CGO_ENABLED", "0").env("GOWORK", "off");
    let output = build.stdin(Stdio::null()).output().context("there is no go in PATH")?;
    ensure!(output.status.success(), "go build says: {}", String::from_utf8_lossy(&output.stderr).trim());
    fs::rename(made, &binary)?;
    Ok(binary)
}

/// The real kind, or `None` where it cannot be had and nobody requires it.
fn wanted() -> Option<PathBuf> {
    let error = match kind() {
        Ok(kind) => return Some(kind),
        Err(error) => error,
    };
    let required = env::var("ROLLPROOF_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|need| ["all", "docker"].contains(&need.trim()));
    assert!(!required, "the real kind cannot be had, and ROLLPROOF_REQUIRE asks for it: {error:#}");
    // Past libtest, which would keep it to itself.
    let _ = writeln!(std::io::stderr(), "skipped: the real kind cannot be had: {error:#}");
    None
}

/// What kind makes of a file, and the folder that the stand-in has left. Errors say that the answer is none of the expected ones.
fn ask(kind: &Path, kubernetes: &Version, text: &str) -> anyhow::Result<(Outcome, tempfile::TempDir)> {
    let stage = tempfile::tempdir()?;
    fs::write(stage.path().join("version"), format!("{kubernetes}\n"))?;
    fs::write(stage.path().join("config.toml"), CONTAINERD)?;
    let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kind/stand-in");
    let path = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    let mut command = Command::new(kind);
    command.args(["create", "cluster", "--retain", "--config", "-"]).current_dir(stage.path()).env_clear();
    command.env("PATH", env::join_paths([stand_in].into_iter().chain(path))?);
    command.envs([("HOME", stage.path()), ("STAND_IN", stage.path())]).env("KIND_EXPERIMENTAL_PROVIDER", "docker");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("its input")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let says = String::from_utf8_lossy(&output.stderr);
    let outcome = match () {
        () if output.status.success() => bail!("it has made a cluster: {says}"),
        () if says.contains("the stand-in goes no further") => Outcome::Taken,
        () if says.contains("✗ Writing configuration") => Outcome::FailsLater,
        // Not what Docker's command, or its stand-in, could not do.
        () if says.contains("Creating cluster") || says.contains("command \"docker") => bail!("{says}"),
        () if says.contains("ERROR: failed to create cluster: ") => Outcome::Refused,
        () => bail!("{says}"),
    };
    Ok((outcome, stage))
}

/// Without what says nothing to kubeadm: nulls and empty lists and mappings, of which kind's template leaves some, the order of
/// arguments, which kind shuffles, and whether 1000 was written as 1e3.
fn said(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Number(number) => Some(number.as_f64().into()),
        Value::Object(fields) => {
            let fields = fields.into_iter().filter_map(|(key, value)| Some((key, said(value)?)));
            Some(fields.collect::<serde_json::Map<_, _>>()).filter(|fields| !fields.is_empty()).map(Value::Object)
        }
        Value::Array(items) => {
            let mut items: Vec<_> = items.into_iter().filter_map(said).collect();
            if items.iter().all(|item| item.get("name").is_some()) {
                items.sort_by_key(|item| item["name"].to_string());
            }
            Some(items).filter(|items| !items.is_empty()).map(Value::Array)
        }
        other => Some(other),
    }
}

/// Compares what is written for each node.
fn compare(config: &KindConfig, kubernetes: &Version, stage: &Path) -> anyhow::Result<()> {
    let roles: Vec<Role> = config.nodes.iter().map(|node| node.role.into()).collect();
    let names = names(&config.name, &roles);
    let first = roles.iter().position(|role| *role == Role::ControlPlane).context("a control plane")?;
    let several = config.control_planes().count() > 1;
    let endpoint =
        if several { format!("{}-external-load-balancer", config.name) } else { names[first].clone() } + ":6443";
    for (index, name) in names.iter().enumerate() {
        let read =
            |what: &str| fs::read_to_string(stage.join(format!("{name}.{what}"))).with_context(|| what.to_owned());
        let addresses = read("address")?;
        let place = NodePlace {
            cluster: &config.name,
            name,
            address: addresses.split(',').next().unwrap_or_default().parse()?,
            control_plane_endpoint: &endpoint,
            ..place(kubernetes, index)
        };
        let ours = documents(&kubeadm_config(config, &place)?);
        let theirs = documents(&read("kubeadm.conf")?);
        for ((kind, ours), (_, theirs)) in ours.iter().zip(&theirs) {
            let (ours, theirs) = (said(ours.clone()), said(theirs.clone()));
            ensure!(ours == theirs, "{name}, {kind}:\nours   {ours:?}\nkind's {theirs:?}");
        }
        ensure!(ours.len() == theirs.len(), "{name} has {} documents, kind's {}", ours.len(), theirs.len());
        let ours: toml::Table = containerd_config(config, CONTAINERD)?.parse()?;
        let theirs: toml::Table = read("config.toml").unwrap_or_else(|_| CONTAINERD.to_owned()).parse()?;
        ensure!(ours == theirs, "{name}, containerd:\nours   {ours}\nkind's {theirs}");
    }
    Ok(())
}

#[test]
fn the_real_kind_takes_refuses_and_writes_the_same() {
    let Some(kind) = wanted() else { return };
    let mut differ = Vec::new();
    for (name, expected, body) in CASES {
        // Where nothing is rendered, one version says it all.
        let versions: &[Version] = if *expected == Outcome::Taken { &[V1_37, V1_34] } else { &[V1_37] };
        for kubernetes in versions {
            let asked = ask(&kind, kubernetes, &file(body)).and_then(|(outcome, stage)| {
                ensure!(outcome == *expected, "kind: {outcome:?}, here: {expected:?}");
                let config = KindConfig::parse(&file(body)).ok().filter(|it| it.networking.ip_family == IpFamily::Ipv4);
                // Nodes have no IPv6 here; the rest is written even where it is not supported.
                config.filter(|_| outcome == Outcome::Taken).map_or(Ok(()), |it| compare(&it, kubernetes, stage.path()))
            });
            differ.extend(asked.err().map(|error| format!("{name} ({kubernetes}): {error:#}")));
        }
    }
    for (name, body) in STRICTER {
        let asked = ask(&kind, &V1_37, &file(body)).map(|(outcome, _)| outcome).map_err(|error| error.to_string());
        if asked != Ok(Outcome::Taken) {
            differ.push(format!("{name}: kind does not take it any more: {asked:?}"));
        }
    }
    assert!(differ.is_empty(), "{} of {}:\n{}", differ.len(), CASES.len(), differ.join("\n"));
}

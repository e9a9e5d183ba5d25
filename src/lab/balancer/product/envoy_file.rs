//! Somebody's own Envoy configuration, YAML or JSON. A lab chooses addresses and makes certificates, so the file has placeholders for them; the rest of it
//! is passed on as it is, and so are its health checks, retries and timeouts what is under test.
//!
//! It ends TLS if it shows the lab's certificate (`${ROLLPROOF_CERTIFICATE}`). Then each response has to say which apiserver it is from:
//! `%UPSTREAM_HOST%` in the header [`UPSTREAM_HEADER`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::super::Settings;
use super::envoy;
use crate::lab::http::UPSTREAM_HEADER;
use crate::timeline::Subject;
use crate::timing;

/// What every placeholder begins with; it ends with a brace.
const BEGINS: &str = "${ROLLPROOF_";

/// A file that was read and found complete.
#[derive(Clone, Debug)]
pub struct EnvoyFile {
    path: PathBuf,
    text: String,
}

impl EnvoyFile {
    /// The placeholders, without [`BEGINS`]: where to listen; the apiservers, as `lb_endpoints` takes them; the PEM files of their CA, of the
    /// certificate that clients trust and of its key; path, interval (`0.5s`) and threshold of the health check; how long a connection may be idle.
    pub const PLACEHOLDERS: [&str; 10] = [
        "LISTEN_ADDRESS",
        "LISTEN_PORT",
        "LB_ENDPOINTS",
        "CA",
        "CERTIFICATE",
        "KEY",
        "READYZ",
        "HEALTH_INTERVAL",
        "HEALTH_FALL",
        "IDLE_TIMEOUT",
    ];

    /// Reads it.
    ///
    /// # Errors
    /// There is no such file, it has an unknown placeholder, it lacks one that nothing works without, or it ends TLS and does not say whom it has asked.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read the Envoy configuration {shown}"))?;
        for rest in text.split(BEGINS).skip(1) {
            let line = rest.lines().next().unwrap_or("");
            let (name, brace) = line.split_once('}').map_or((line, ""), |(name, _)| (name, "}"));
            ensure!(
                Self::PLACEHOLDERS.contains(&name) && brace == "}",
                "{shown}: {BEGINS}{name}{brace} is no placeholder; there are {}",
                Self::PLACEHOLDERS.map(|name| format!("{BEGINS}{name}}}")).join(", ")
            );
        }
        let file = Self { path: path.to_owned(), text };
        for (name, why) in [
            ("LISTEN_ADDRESS", "the lab chooses where it listens"),
            ("LISTEN_PORT", "the lab chooses where it listens"),
            ("LB_ENDPOINTS", "the lab chooses where the apiservers are"),
        ] {
            ensure!(file.has(name), "{shown} has no {BEGINS}{name}}}: {why}");
        }
        ensure!(
            !file.ends_tls() || file.text.to_lowercase().contains(UPSTREAM_HEADER),
            "{shown} ends TLS, and adds no response header {UPSTREAM_HEADER} (%UPSTREAM_HOST%): nobody could tell which apiserver has answered"
        );
        Ok(file)
    }

    /// Whether it ends TLS itself.
    pub fn ends_tls(&self) -> bool {
        self.has("CERTIFICATE")
    }

    /// What is known about it as part of what is under test.
    pub(super) fn subject(&self) -> Subject {
        let digest = Sha256::digest(&self.text).iter().map(|byte| format!("{byte:02x}")).collect();
        Subject { name: self.path.display().to_string(), version: String::new(), digest }
    }

    /// Its text for a lab. `ca` and `gateway` are PEM files as Envoy sees them, `gateway` those of certificate and key.
    pub fn filled(&self, settings: &Settings, ca: &Path, idle: Duration, gateway: [&Path; 2]) -> String {
        let [certificate, key] = gateway;
        let file = |path: &Path| path.display().to_string();
        let values = [
            settings.listen.ip().to_string(),
            settings.listen.port().to_string(),
            Value::from(envoy::endpoints(settings)).to_string(),
            file(ca),
            file(certificate),
            file(key),
            settings.readyz.clone(),
            envoy::duration(settings.interval),
            settings.fall.to_string(),
            envoy::duration(idle),
        ];
        Self::PLACEHOLDERS
            .iter()
            .zip(values)
            .fold(self.text.clone(), |text, (name, value)| text.replace(&format!("{BEGINS}{name}}}"), &value))
    }

    /// Has Envoy look at what was [`EnvoyFile::filled`] in.
    ///
    /// # Errors
    /// It refuses it: with its own words.
    pub async fn validate(&self, binary: &Path, filled: &Path, folder: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(binary);
        command.args(["--mode", "validate", "--log-level", "error", "--log-format", "%v", "-c"]).arg(filled);
        command.args(arguments(folder)).kill_on_drop(true);
        let said = tokio::time::timeout(timing::ENVOY_VALIDATES, command.output()).await;
        let said = said.with_context(|| format!("{} does not say whether it takes a file", binary.display()))??;
        let words = [said.stdout, said.stderr].concat();
        ensure!(
            said.status.success(),
            "Envoy refuses {}: {}",
            self.path.display(),
            String::from_utf8_lossy(&words).trim()
        );
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.text.contains(&format!("{BEGINS}{name}}}"))
    }
}

/// What goes before the file, whatever that says: an administration interface of the lab's own, since another port might be taken.
pub(super) fn arguments(folder: &Path) -> [String; 2] {
    ["--config-yaml".to_owned(), json!({"admin": envoy::admin(folder)}).to_string()]
}

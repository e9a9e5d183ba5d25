//! haproxy in TCP mode: health checks over TLS, no retries unless they are asked for.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::super::{HealthPolicy, OnUnhealthy, Settings};

/// In the foreground, and then the configuration's file.
pub(super) const ARGUMENTS: &[&str] = &["-db", "-f"];

/// The configuration that does what `settings` say. `ca` is a PEM file; `idle` how long a connection may be idle.
///
/// Connections that are cut when their backend turns unhealthy end as haproxy ends them (`on-marked-down
/// shutdown-sessions`). The hairpin needs `force-persist`, or haproxy would carry a node's clients elsewhere while its own
/// backend is down.
pub fn configuration(settings: &Settings, ca: &Path, idle: Duration, folder: &Path) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let retries = if settings.redispatch { settings.backends.len().saturating_sub(1) } else { 0 };
    line("global".to_owned());
    line("  log stdout format raw local0".to_owned());
    line(format!("  stats socket {} mode 600 level operator", quoted(&socket(folder))));
    line("defaults".to_owned());
    line("  mode tcp".to_owned());
    line("  log global".to_owned());
    line("  option tcplog".to_owned());
    line("  option log-health-checks".to_owned());
    line(format!("  retries {retries}"));
    if settings.redispatch {
        line("  option redispatch 1".to_owned());
    }
    line(format!("  timeout connect {}ms", settings.connect_timeout.as_millis()));
    line(format!("  timeout client {}ms", idle.as_millis()));
    line(format!("  timeout server {}ms", idle.as_millis()));
    line(format!("  timeout check {}ms", settings.timeout.as_millis()));
    line("listen apiservers".to_owned());
    line(format!("  bind {}", settings.listen));
    line("  balance roundrobin".to_owned());
    let mut check = String::new();
    if settings.health == HealthPolicy::Follow {
        line(format!("  option httpchk GET {}", settings.readyz));
        let Settings { interval, fall, rise, .. } = settings;
        let _ = write!(check, " check check-ssl verify required ca-file {}", quoted(ca));
        let _ = write!(check, " inter {}ms fall {fall} rise {rise}", interval.as_millis());
        if settings.on_unhealthy == OnUnhealthy::Reset {
            check.push_str(" on-marked-down shutdown-sessions");
        }
    }
    for (node, backend) in &settings.hairpin {
        line(format!("  force-persist if {{ src {node} }}"));
        line(format!("  use-server {backend} if {{ src {node} }}"));
    }
    for backend in &settings.backends {
        line(format!("  server {} {}{check}", backend.name, backend.address));
    }
    text
}

/// Connections, errors and checks by server, as CSV: `show stat` of its management guide.
///
/// # Errors
/// It is gone.
pub(super) async fn statistics(folder: &Path) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket(folder)).await?;
    stream.write_all(b"show stat\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("haproxy.sock")
}

/// A path as one word of a configuration line.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

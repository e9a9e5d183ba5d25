//! haproxy, in TCP mode or as a gateway: health checks over TLS, no retries unless they are asked for.
//!
//! As a gateway it says in a header of each response ([`UPSTREAM_HEADER`]) which apiserver that is from, and clients bring a token.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::super::{HealthPolicy, OnUnhealthy, Settings};
use crate::lab::http::UPSTREAM_HEADER;

/// In the foreground, and then the configuration's file.
pub(in crate::lab) const ARGUMENTS: &[&str] = &["-db", "-f"];

/// What it looks at.
#[derive(Clone, Copy)]
pub enum Mode<'a> {
    /// Bytes: a client's connection is one apiserver's.
    Tcp,
    /// Requests: it ends TLS, and speaks HTTP/2 to the apiservers.
    Http {
        /// The certificate that it shows to clients, a PEM file `NAME.crt`, with the key in `NAME.key` beside it.
        certificate: &'a Path,
    },
}

/// The configuration that does what `settings` say. `ca` is a PEM file; `idle` how long a connection may be idle.
///
/// Connections that are cut when their backend turns unhealthy end as haproxy ends them (`on-marked-down
/// shutdown-sessions`). The hairpin needs `force-persist`, or haproxy would carry a node's clients elsewhere while its own
/// backend is down.
pub fn configuration(settings: &Settings, mode: Mode<'_>, ca: &Path, idle: Duration, folder: &Path) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let retries = if settings.redispatch { settings.backends.len().saturating_sub(1) } else { 0 };
    line("global".to_owned());
    line("  log stdout format raw local0".to_owned());
    line(format!("  stats socket {} mode 600 level operator", quoted(&socket(folder))));
    if let Mode::Http { .. } = mode {
        // The key is looked for beside NAME.crt, and not as NAME.crt.key.
        line("  ssl-load-extra-del-ext".to_owned());
    }
    line("defaults".to_owned());
    line("  log global".to_owned());
    line("  option log-health-checks".to_owned());
    match mode {
        Mode::Tcp => {
            line("  mode tcp".to_owned());
            line("  option tcplog".to_owned());
        }
        Mode::Http { .. } => {
            line("  mode http".to_owned());
            line("  option httplog".to_owned());
            // An event of a watch is not to wait for more of them.
            line("  option http-no-delay".to_owned());
            // The first request of a client's connection never meets one that has been idle, and may be at its end.
            line("  http-reuse safe".to_owned());
            line(format!("  timeout tunnel {}ms", idle.as_millis()));
        }
    }
    line(format!("  retries {retries}"));
    if settings.redispatch {
        line("  option redispatch 1".to_owned());
    }
    line(format!("  timeout connect {}ms", settings.connect_timeout.as_millis()));
    line(format!("  timeout client {}ms", idle.as_millis()));
    line(format!("  timeout server {}ms", idle.as_millis()));
    line(format!("  timeout check {}ms", settings.timeout.as_millis()));
    line("listen apiservers".to_owned());
    match mode {
        Mode::Tcp => line(format!("  bind {}", settings.listen)),
        Mode::Http { certificate } => {
            line(format!("  bind {} ssl crt {} alpn h2,http/1.1", settings.listen, quoted(certificate)));
            line(format!("  http-response set-header {UPSTREAM_HEADER} %si:%sp"));
        }
    }
    line("  balance roundrobin".to_owned());
    let verified = format!("verify required ca-file {}", quoted(ca));
    let mut server = match mode {
        Mode::Tcp => String::new(),
        // An apiserver upgrades no stream of HTTP/2, so sessions get a connection by HTTP/1.1.
        Mode::Http { .. } => format!(" ssl {verified} alpn h2 ws h1"),
    };
    if settings.health == HealthPolicy::Follow {
        line(format!("  option httpchk GET {}", settings.readyz));
        server += &match mode {
            Mode::Tcp => format!(" check check-ssl {verified}"),
            Mode::Http { .. } => " check check-alpn http/1.1".to_owned(),
        };
        let Settings { interval, fall, rise, .. } = settings;
        let _ = write!(server, " inter {}ms fall {fall} rise {rise}", interval.as_millis());
        if settings.on_unhealthy == OnUnhealthy::Reset {
            server.push_str(" on-marked-down shutdown-sessions");
        }
    }
    for (node, backend) in &settings.hairpin {
        line(format!("  force-persist if {{ src {node} }}"));
        line(format!("  use-server {backend} if {{ src {node} }}"));
    }
    for backend in &settings.backends {
        line(format!("  server {} {}{server}", backend.name, backend.address));
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

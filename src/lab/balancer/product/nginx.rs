//! nginx's stream proxy, the open-source one: it checks nothing by itself, but counts connections that a backend did not
//! accept (`max_fails`, "passive checks"). Active checks (`health_check`) are nginx Plus's.
//!
//! So it cannot follow /readyz: a stopping apiserver gets new connections until it refuses them, and one that has just
//! started gets them before it is ready.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::super::{HealthPolicy, Settings};
use crate::timing::secs;

/// Errors before the configuration is read go to stderr too; then the configuration's file.
pub(super) const ARGUMENTS: &[&str] = &["-e", "stderr", "-c"];

/// Where Debian's package libnginx-mod-stream puts it.
pub(super) const DEBIANS_STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// What connections it carries at once, two for each; a lab opens a few dozen.
const CONNECTIONS: u32 = 4096;

/// The configuration that does what `settings` say, as far as it can. `idle` is how long a connection may be idle, `module`
/// the stream module where that has to be loaded.
///
/// A backend that fails `fall` connections within an interval and `fall` more of them gets none for as long: the nearest
/// that there is to a health check. One process alone: a worker would outlive a master that is killed.
pub fn configuration(settings: &Settings, idle: Duration, folder: &Path, module: Option<&str>) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    if let Some(module) = module {
        line(format!("load_module \"{module}\";"));
    }
    line("daemon off;".to_owned());
    line("master_process off;".to_owned());
    line(format!("pid \"{}\";", folder.join("nginx.pid").display()));
    line("error_log stderr info;".to_owned());
    line(format!("events {{ worker_connections {CONNECTIONS}; }}"));
    line("stream {".to_owned());
    line("  log_format carried '$time_iso8601 $remote_addr:$remote_port $upstream_addr $status'".to_owned());
    line("    ' up $upstream_bytes_sent down $upstream_bytes_received connect $upstream_connect_time of $session_time s';".to_owned());
    line("  access_log /dev/stdout carried;".to_owned());
    line("  upstream apiservers {".to_owned());
    for backend in &settings.backends {
        line(format!("    server {} {};", backend.address, passive(settings)));
    }
    line("  }".to_owned());
    line("  map $remote_addr $backend {".to_owned());
    line("    default apiservers;".to_owned());
    for (node, name) in &settings.hairpin {
        for own in settings.backends.iter().filter(|backend| backend.name == *name) {
            line(format!("    {node} {};", own.address));
        }
    }
    line("  }".to_owned());
    line("  server {".to_owned());
    line(format!("    listen {};", settings.listen));
    line("    proxy_pass $backend;".to_owned());
    line(format!("    proxy_connect_timeout {}ms;", settings.connect_timeout.as_millis()));
    line(format!("    proxy_timeout {}ms;", idle.as_millis()));
    line(format!("    proxy_next_upstream {};", if settings.redispatch { "on" } else { "off" }));
    line("  }".to_owned());
    line("}".to_owned());
    text
}

/// What counts as a failed backend, and for how long: whole seconds.
fn passive(settings: &Settings) -> String {
    match settings.health {
        HealthPolicy::Ignore => "max_fails=0".to_owned(),
        HealthPolicy::Follow => {
            let window = (settings.interval * settings.fall).max(secs(1)).as_secs();
            format!("max_fails={} fail_timeout={window}s", settings.fall)
        }
    }
}

/// The stream module's file, if it has to be loaded: Debian builds it apart, nginx.org into the binary. `printed` is what
/// `nginx -V` says.
pub fn stream_module(printed: &str) -> Option<String> {
    let words = || printed.split_whitespace();
    let folder = words().find_map(|word| word.strip_prefix("--modules-path="))?;
    words().any(|word| word == "--with-stream=dynamic").then(|| format!("{folder}/ngx_stream_module.so"))
}

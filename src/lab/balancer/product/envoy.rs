//! Envoy as an ingress gateway, as Istio configures one: it ends TLS, and speaks HTTP/2 to the apiservers and whatever a
//! client likes to it. No stream is ever too idle (`stream_idle_timeout` 0) or too long (no route timeout).
//!
//! So a client's connection is no apiserver's: which of them answered, a header of the response tells
//! ([`UPSTREAM_HEADER`]), and client certificates do not come through: clients bring a token.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::super::{HealthPolicy, Settings};
use crate::lab::http::UPSTREAM_HEADER;

/// One worker: each has its own connections to the apiservers, and with one a run is like the next. No hot restart: it would leave shared memory
/// behind that nobody removes.
pub(in crate::lab) const ARGUMENTS: &[&str] =
    &["--concurrency", "1", "--disable-hot-restart", "--log-level", "info", "-c"];

/// What a connection buffers, in bytes, and a stream's window: as Envoy's documentation advises for the edge.
const BUFFER: u32 = 32 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// More than any lab opens: watches count as requests, and Envoy's default is 1024.
const UNLIMITED: u32 = 1_000_000;

/// The configuration that does what `settings` say. `ca` is a PEM file, `gateway` those of the certificate it shows to clients
/// and of its key, `idle` how long a client's connection may be without a request.
pub fn configuration(settings: &Settings, ca: &Path, idle: Duration, folder: &Path, gateway: [&Path; 2]) -> Value {
    let [certificate, key] = gateway;
    let mut cluster = json!({
        "name": "apiservers",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": duration(settings.connect_timeout),
        "per_connection_buffer_limit_bytes": BUFFER,
        "load_assignment": {"cluster_name": "apiservers", "endpoints": [{"lb_endpoints": endpoints(settings)}]},
        // With too few healthy hosts Envoy would take the unhealthy for healthy.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [{
            "max_connections": UNLIMITED, "max_pending_requests": UNLIMITED,
            "max_requests": UNLIMITED, "max_retries": UNLIMITED,
        }]},
        "transport_socket": tls("UpstreamTlsContext", json!({
            "sni": "kubernetes",
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "validation_context": {"trusted_ca": {"filename": ca}},
            },
        })),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": windows()},
            },
        },
    });
    if settings.health == HealthPolicy::Follow {
        let interval = duration(settings.interval);
        cluster["health_checks"] = json!([{
            "timeout": duration(settings.timeout),
            "interval": interval,
            // A minute by default, until there was traffic.
            "no_traffic_interval": interval,
            "no_traffic_healthy_interval": interval,
            "unhealthy_threshold": settings.fall,
            "healthy_threshold": settings.rise,
            // Nothing of an earlier check is trusted.
            "reuse_connection": false,
            "always_log_health_check_failures": true,
            "event_logger": [{
                "name": "envoy.health_check.event_sinks.file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
                    "event_log_path": "/dev/stdout",
                },
            }],
            "http_health_check": {
                "host": "kubernetes",
                "path": settings.readyz,
                "codec_client_type": "HTTP2",
                // Else one bad answer would be enough, whatever the threshold.
                "retriable_statuses": [{"start": 201, "end": 600}],
            },
        }]);
    }
    let mut route = json!({
        "match": {"prefix": "/"},
        "route": {"cluster": "apiservers", "timeout": "0s"},
    });
    if settings.redispatch {
        route["route"]["retry_policy"] = json!({
            "retry_on": "connect-failure",
            "num_retries": settings.backends.len().saturating_sub(1),
            "retry_host_predicate": [{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                },
            }],
        });
    }
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "stream_idle_timeout": "0s",
        "common_http_protocol_options": {"idle_timeout": duration(idle)},
        "http2_protocol_options": windows(),
        "use_remote_address": true,
        "access_log": [{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": "/dev/stdout",
                "log_format": {"json_format": access_log_fields()},
            },
        }],
        "route_config": {
            "name": "apiservers",
            "response_headers_to_add": [{
                "header": {"key": UPSTREAM_HEADER, "value": "%UPSTREAM_HOST%"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }],
            "virtual_hosts": [{"name": "apiservers", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    json!({
        "admin": admin(folder),
        "static_resources": {
            "clusters": [cluster],
            "listeners": [{
                "name": "gateway",
                "address": address(settings.listen),
                "per_connection_buffer_limit_bytes": BUFFER,
                "filter_chains": [{
                    "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
                    "transport_socket": tls("DownstreamTlsContext", json!({
                        "common_tls_context": {
                            "alpn_protocols": ["h2", "http/1.1"],
                            "tls_certificates": [{
                                "certificate_chain": {"filename": certificate},
                                "private_key": {"filename": key},
                            }],
                        },
                    })),
                }],
            }],
        },
    })
}

/// What a line of an access log says. No credentials are in it.
pub(in crate::lab) fn access_log_fields() -> Value {
    json!({
        "time": "%START_TIME%",
        "audit_id": "%REQ(AUDIT-ID)%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "protocol": "%PROTOCOL%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "upstream": "%UPSTREAM_HOST%",
        "upstream_local": "%UPSTREAM_LOCAL_ADDRESS%",
        "took_ms": "%DURATION%",
    })
}

/// Takes TLS from a listener's clients: what they say and hear is plain text, as on the field report's port 80.
pub fn in_plain_text(listener: &mut Value) {
    if let Some(chain) = listener.pointer_mut("/filter_chains/0").and_then(Value::as_object_mut) {
        chain.remove("transport_socket");
    }
}

/// Every counter and gauge, one a line: `/stats` of its administration interface.
///
/// # Errors
/// It is gone.
pub(in crate::lab) async fn statistics(folder: &Path) -> anyhow::Result<String> {
    let stream = UnixStream::connect(socket(folder)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/stats").header(header::HOST, "envoy").body(Empty::<Bytes>::new())?;
    let asked = async { sender.send_request(request).await?.into_body().collect().await };
    tokio::pin!(asked);
    // Nothing moves unless `connection` is polled, and it may end before the answer has been taken out of it.
    let answer = tokio::select! {
        biased;
        answer = &mut asked => answer,
        _ = connection => asked.await,
    };
    String::from_utf8(answer?.to_bytes().to_vec()).context("its statistics are no text")
}

/// The apiservers, as `lb_endpoints` takes them.
pub(super) fn endpoints(settings: &Settings) -> Vec<Value> {
    settings.backends.iter().map(|it| json!({"endpoint": {"address": address(it.address)}})).collect()
}

/// Its administration interface: a socket in the lab's folder.
pub(in crate::lab) fn admin(folder: &Path) -> Value {
    json!({"address": {"pipe": {"path": socket(folder), "mode": 0o600}}})
}

fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("envoy.sock")
}

fn windows() -> Value {
    json!({"initial_stream_window_size": STREAM_WINDOW, "initial_connection_window_size": CONNECTION_WINDOW})
}

fn tls(context: &str, mut content: Value) -> Value {
    content["@type"] = json!(format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}"));
    json!({"name": "envoy.transport_sockets.tls", "typed_config": content})
}

/// As protobuf's JSON has it.
pub(in crate::lab) fn duration(span: Duration) -> String {
    format!("{}s", span.as_secs_f64())
}

//! What gateways do about an upstream that is dead and has not said so: as Envoy is told, and why it helps or not.

mod of_products;

pub use of_products::*;

use serde_json::{Value, json};

use super::{File, Lane};
use crate::config::Product;
use crate::timing::gateway as times;

/// A setting of a gateway that is said to end what hangs on a dead upstream, or several together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// Its name in every observation.
    pub name: &'static str,
    /// What is set, as Envoy calls it.
    pub settings: &'static str,
    /// What the kernel and Envoy make of it, and where that is written.
    pub why: &'static str,
    pub(super) parts: &'static [Part],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    StreamIdleTimeout,
    TcpKeepalive,
    TcpUserTimeout,
    Ping,
    HealthCheck,
    CloseOnHealthFailure,
    OutlierDetection,
    DownstreamDuration,
    UpstreamDuration,
    StreamDuration,
    RetryReads,
    /// What is upgraded is taken, in every lane. No remedy: sessions need it.
    Upgrades,
    /// Clients come without TLS. No remedy, but the field report's port.
    PlainText,
    /// All of Envoy's configuration comes from Istio, which is told this.
    ByIstio(&'static str),
    /// It is no Envoy: all that it is told is in a file.
    File(File),
}

/// As Istio configures an ingress gateway.
pub const NONE: Remedy = Remedy {
    name: "none",
    settings: "as Istio has it: stream_idle_timeout 0, no route timeout",
    why: "Nothing looks at the connection. Bytes that are sent are repeated until tcp_retries2 is over (15 times, some 15 minutes); a \
          connection on which nothing is sent stays for ever.",
    parts: &[],
};

/// The field report's first cure.
pub const STREAM_IDLE_TIMEOUT: Remedy = Remedy {
    name: "stream-idle-timeout",
    settings: "http_connection_manager stream_idle_timeout",
    why: "A timer of each stream, which knows nothing of the upstream: what is silent is ended, dead or alive. Requests are still put on \
          the dead connection.",
    parts: &[Part::StreamIdleTimeout],
};

/// The field report's second cure.
pub const TCP_KEEPALIVE: Remedy = Remedy {
    name: "tcp-keepalive",
    settings: "cluster upstream_connection_options.tcp_keepalive",
    why: "Linux sends no probe while bytes are unacknowledged or waiting (tcp_keepalive_timer: `if (tp->packets_out || !tcp_write_queue_empty(sk)) goto \
          resched`). It ends a connection on which the gateway sends nothing; one request on the dead connection turns it off, and tcp_retries2 counts.",
    parts: &[Part::TcpKeepalive],
};

/// What bounds unacknowledged bytes.
pub const TCP_USER_TIMEOUT: Remedy = Remedy {
    name: "tcp-user-timeout",
    settings: "cluster upstream_bind_config.socket_options TCP_USER_TIMEOUT (level 6, name 18)",
    why: "How long bytes may stay unacknowledged (tcp(7)). Where nothing is sent nothing is unacknowledged, and nothing ends: a watch alone hangs.",
    parts: &[Part::TcpUserTimeout],
};

/// Both, so that each covers what the other does not.
pub const KEEPALIVE_AND_USER_TIMEOUT: Remedy = Remedy {
    name: "tcp-keepalive+user-timeout",
    settings: "tcp_keepalive and TCP_USER_TIMEOUT",
    why: "Probes where nothing is sent, the user timeout where something is. The kernel of a frozen apiserver acknowledges both.",
    parts: &[Part::TcpKeepalive, Part::TcpUserTimeout],
};

/// A question that the apiserver's HTTP/2 server answers itself.
pub const PING: Remedy = Remedy {
    name: "http2-ping",
    settings: "upstream http2_protocol_options.connection_keepalive",
    why: "Envoy asks by PING, the apiserver's process has to answer; without an answer Envoy closes the connection, and all of its streams end at \
          once. But the host is chosen again, and whatever comes to it waits for connect_timeout and gets 503.",
    parts: &[Part::Ping],
};

/// Active health checks alone.
pub const HEALTH_CHECK: Remedy = Remedy {
    name: "health-check",
    settings: "cluster health_checks",
    why: "An unhealthy host is not chosen any more, so new streams go elsewhere. What it has stays: its connections are not closed.",
    parts: &[Part::HealthCheck],
};

/// And what is said to close them.
pub const HEALTH_CHECK_CLOSING: Remedy = Remedy {
    name: "health-check+close",
    settings: "health_checks and close_connections_on_host_health_failure",
    why: "Documented for tcp_proxy. The HTTP connection pools are drained by it: a connection closes when its last stream has ended, and a dead watch \
          never ends.",
    parts: &[Part::HealthCheck, Part::CloseOnHealthFailure],
};

/// Passive health checks.
pub const OUTLIER_DETECTION: Remedy = Remedy {
    name: "outlier-detection",
    settings: "cluster outlier_detection (what Istio's DestinationRule offers)",
    why: "It counts answers and failed connects. A request that hangs on a connection that is there is neither, so nobody is ejected.",
    parts: &[Part::OutlierDetection],
};

/// Clients' connections do not get old.
pub const DOWNSTREAM_DURATION: Remedy = Remedy {
    name: "max-connection-duration",
    settings: "downstream common_http_protocol_options.max_connection_duration, drain_timeout",
    why: "The client's connection is drained: GOAWAY, and what the client asks next comes on a new one, and is put on the same dead connection to the apiserver. \
          What is open stays open on the old one, dead or alive.",
    parts: &[Part::DownstreamDuration],
};

/// Upstream connections do not get old.
pub const UPSTREAM_DURATION: Remedy = Remedy {
    name: "upstream-max-connection-duration",
    settings: "upstream common_http_protocol_options.max_connection_duration",
    why: "The connection is drained: what is on it stays until it ends, and a dead watch never ends. New streams get another connection to the same host, \
          which cannot be opened any more (503 after connect_timeout).",
    parts: &[Part::UpstreamDuration],
};

/// Streams do not get old.
pub const STREAM_DURATION: Remedy = Remedy {
    name: "max-stream-duration",
    settings: "route max_stream_duration",
    why: "Every stream is ended at that age, dead or alive. Meanwhile requests hang on the dead connection for as long.",
    parts: &[Part::StreamDuration],
};

/// What TCP can do, and health checks.
pub const TCP_AND_HEALTH_CHECK: Remedy = Remedy {
    name: "tcp-keepalive+user-timeout+health-check",
    settings: "tcp_keepalive, TCP_USER_TIMEOUT and health_checks",
    why: "Ends what is on a connection whose packets are lost, whatever is sent on it, and chooses another host. The kernel of a frozen apiserver acknowledges \
          everything: there its watches hang.",
    parts: &[Part::TcpKeepalive, Part::TcpUserTimeout, Part::HealthCheck],
};

/// Two that complete each other where there are no active health checks, as in Istio.
pub const PING_AND_OUTLIER_DETECTION: Remedy = Remedy {
    name: "http2-ping+outlier-detection",
    settings: "connection_keepalive and outlier_detection",
    why: "PING ends what is on the dead connection; connects that fail after it eject the host. Each of them costs connect_timeout and a 503, and when the \
          ejection is over it begins anew.",
    parts: &[Part::Ping, Part::OutlierDetection],
};

/// Two that complete each other.
pub const PING_AND_HEALTH_CHECK: Remedy = Remedy {
    name: "http2-ping+health-check",
    settings: "connection_keepalive and health_checks",
    why: "PING ends what is on the dead connection, the health check keeps new streams away from its host. Requests that hung meanwhile are answered with 503.",
    parts: &[Part::Ping, Part::HealthCheck],
};

/// What rollproof recommends.
pub const RECOMMENDED: Remedy = Remedy {
    name: "recommended",
    settings: "connection_keepalive, health_checks; for GET without upgrade retry_on reset,connect-failure,refused-stream at another host; \
               what is upgraded in a cluster of its own, by HTTP/1.1, with tcp_keepalive and TCP_USER_TIMEOUT",
    why: "As http2-ping+health-check; and a read that had no answer yet when its connection was closed is repeated at another apiserver, so \
          its client sees no 503. No timer looks at a stream, so a quiet one lives as long as its connection answers. An upgraded session has an HTTP/1.1 connection, which \
          knows no PING: there TCP has to do. All else is HTTP/2 upstream, whatever its client speaks.",
    parts: &[Part::Ping, Part::HealthCheck, Part::RetryReads, Part::TcpKeepalive, Part::TcpUserTimeout, Part::Upgrades],
};

/// [`NONE`] on a plain-text port, as the field report's gateway had one. No sessions come through it.
pub const NONE_IN_PLAIN_TEXT: Remedy = Remedy { name: "none-in-plain-text", parts: &[Part::PlainText], ..NONE };

/// [`RECOMMENDED`] on a plain-text port. No sessions come through it.
pub const RECOMMENDED_IN_PLAIN_TEXT: Remedy = Remedy {
    name: "recommended-in-plain-text",
    parts: &[
        Part::Ping,
        Part::HealthCheck,
        Part::RetryReads,
        Part::TcpKeepalive,
        Part::TcpUserTimeout,
        Part::Upgrades,
        Part::PlainText,
    ],
    ..RECOMMENDED
};

/// All of them, in the order of the table.
pub const REMEDIES: &[Remedy] = &[
    NONE,
    STREAM_IDLE_TIMEOUT,
    TCP_KEEPALIVE,
    TCP_USER_TIMEOUT,
    KEEPALIVE_AND_USER_TIMEOUT,
    PING,
    HEALTH_CHECK,
    HEALTH_CHECK_CLOSING,
    OUTLIER_DETECTION,
    DOWNSTREAM_DURATION,
    UPSTREAM_DURATION,
    STREAM_DURATION,
    TCP_AND_HEALTH_CHECK,
    PING_AND_OUTLIER_DETECTION,
    PING_AND_HEALTH_CHECK,
    RECOMMENDED,
];

impl Remedy {
    /// What it is told, unless it is an Envoy.
    pub fn file(&self) -> Option<File> {
        self.parts.iter().find_map(|part| if let Part::File(file) = part { Some(*file) } else { None })
    }

    /// What its gateway is.
    pub fn product(&self) -> Product {
        self.file().map_or(Product::Envoy, |file| file.product)
    }

    /// Whether it checks the health of apiservers.
    pub(super) fn checks_health(&self) -> bool {
        self.parts.contains(&Part::HealthCheck)
    }

    /// Whether its clients come without TLS.
    pub(in crate::lab) fn is_plain(&self) -> bool {
        self.parts.contains(&Part::PlainText)
    }

    /// What Istio is told that configures it; `None` where the lab does.
    pub(in crate::lab) fn by_istio(&self) -> Option<&'static str> {
        self.parts.iter().find_map(|part| if let Part::ByIstio(text) = part { Some(*text) } else { None })
    }

    /// What a user would apply or start it with, as a file; `None` where it is parts of Envoy's configuration.
    pub fn as_set(&self) -> Option<String> {
        let istio = self.by_istio().map(|text| text.trim_end().to_owned() + "\n");
        istio.or_else(|| self.file().map(File::as_set))
    }

    /// Changes the configuration of one lane's cluster and of the connection manager before it. Returns the cluster of what is upgraded, if
    /// that is taken: in the lane of sessions it always is.
    pub(super) fn apply(&self, lane: Lane, cluster: &mut Value, manager: &mut Value) -> Option<Value> {
        for part in self.parts {
            part.apply(cluster, manager);
        }
        (lane == Lane::Sessions || self.parts.contains(&Part::Upgrades)).then(|| take_upgrades(cluster, manager))
    }
}

impl Part {
    fn apply(self, cluster: &mut Value, manager: &mut Value) {
        let seconds = |span: std::time::Duration| format!("{}s", span.as_secs_f64());
        let route = "/route_config/virtual_hosts/0/routes/0";
        match self {
            Self::StreamIdleTimeout => manager["stream_idle_timeout"] = json!(seconds(times::STREAM_IDLE_TIMEOUT)),
            Self::TcpKeepalive => {
                cluster["upstream_connection_options"] = json!({"tcp_keepalive": {
                    "keepalive_time": times::KEEPALIVE_TIME.as_secs(),
                    "keepalive_interval": times::KEEPALIVE_INTERVAL.as_secs(),
                    "keepalive_probes": times::KEEPALIVE_PROBES,
                }});
            }
            Self::TcpUserTimeout => {
                cluster["upstream_bind_config"] = json!({"socket_options": [{
                    "description": "TCP_USER_TIMEOUT",
                    "level": 6,
                    "name": 18,
                    "int_value": times::USER_TIMEOUT.as_millis() as u64,
                    "state": "STATE_PREBIND",
                }]});
            }
            Self::Ping => {
                let upstream = protocol_options(cluster);
                upstream["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"] = json!({
                    "interval": seconds(times::PING_INTERVAL),
                    "timeout": seconds(times::PING_TIMEOUT),
                });
            }
            // Part of the lab's settings, of the listener, of everything, of no Envoy, and of a cluster of its own.
            Self::HealthCheck | Self::PlainText | Self::ByIstio(_) | Self::File(_) | Self::Upgrades => {}
            Self::CloseOnHealthFailure => cluster["close_connections_on_host_health_failure"] = json!(true),
            Self::OutlierDetection => {
                cluster["outlier_detection"] = json!({
                    "consecutive_5xx": times::OUTLIER_FAILURES,
                    "split_external_local_origin_errors": true,
                    "consecutive_local_origin_failure": times::OUTLIER_FAILURES,
                    "interval": seconds(times::OUTLIER_INTERVAL),
                    "base_ejection_time": seconds(times::OUTLIER_EJECTION),
                    "max_ejection_percent": 100,
                });
            }
            Self::DownstreamDuration => {
                manager["common_http_protocol_options"]["max_connection_duration"] =
                    json!(seconds(times::MAX_DURATION));
                manager["drain_timeout"] = json!(seconds(times::DRAIN_TIMEOUT));
            }
            Self::UpstreamDuration => {
                protocol_options(cluster)["common_http_protocol_options"] =
                    json!({"max_connection_duration": seconds(times::MAX_DURATION)});
            }
            Self::StreamDuration => {
                if let Some(route) = manager.pointer_mut(route) {
                    route["route"]["max_stream_duration"] =
                        json!({"max_stream_duration": seconds(times::MAX_DURATION)});
                }
            }
            Self::RetryReads => {
                let Some(routes) = routes(manager) else { return };
                let mut reads = routes[0].clone();
                reads["match"]["headers"] = json!([{"name": ":method", "string_match": {"exact": "GET"}}]);
                reads["route"]["retry_policy"] = json!({
                    "retry_on": "reset,connect-failure,refused-stream",
                    "num_retries": 2,
                    "host_selection_retry_max_attempts": 5,
                    "retry_host_predicate": [{
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                        },
                    }],
                });
                routes.insert(0, reads);
            }
        }
    }
}

/// Sends what asks for an upgrade to a cluster of its own, which is returned. It speaks HTTP/1.1, since over HTTP/2 an apiserver takes no
/// upgrade; and nothing else does, whatever its client speaks, since HTTP/1.1 knows no PING.
fn take_upgrades(cluster: &Value, manager: &mut Value) -> Value {
    let mut upgraded = cluster.clone();
    let name = json!(format!("{}-upgrades", cluster["name"].as_str().unwrap_or_default()));
    upgraded["name"] = name.clone();
    protocol_options(&mut upgraded)["explicit_http_config"] = json!({"http_protocol_options": {}});
    if let Some(offered) = upgraded.pointer_mut("/transport_socket/typed_config/common_tls_context/alpn_protocols") {
        *offered = json!(["http/1.1"]);
    }
    if let Some(check) = upgraded.pointer_mut("/health_checks/0/http_health_check") {
        check["codec_client_type"] = json!("HTTP1");
    }
    manager["upgrade_configs"] = json!([{"upgrade_type": "websocket"}, {"upgrade_type": "SPDY/3.1"}]);
    if let Some(routes) = routes(manager) {
        let mut route = routes.last().cloned().unwrap_or_default();
        route["match"]["headers"] = json!([{"name": "upgrade", "present_match": true}]);
        route["route"]["cluster"] = name;
        routes.insert(0, route);
    }
    upgraded
}

fn routes(manager: &mut Value) -> Option<&mut Vec<Value>> {
    manager.pointer_mut("/route_config/virtual_hosts/0/routes")?.as_array_mut()
}

fn protocol_options(cluster: &mut Value) -> &mut Value {
    &mut cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
}

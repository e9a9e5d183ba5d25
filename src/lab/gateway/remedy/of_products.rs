//! Gateways that are no Envoy: as they are usually configured, and as well as they can be.

use super::{File, Part, Remedy};
use crate::config::Product;

/// haproxy in HTTP mode, as it is usually configured.
pub const HAPROXY: Remedy = Remedy {
    name: "haproxy",
    settings: "idle timeouts, httpchk GET /readyz, option redispatch (fixtures/haproxy/gateway-usual.cfg)",
    why: "timeout server is a timer of each stream, which knows nothing of the upstream, as stream_idle_timeout. The health check keeps new streams away, and leaves \
          what hangs; a read that hung is answered with 504.",
    parts: &[Part::File(File {
        product: Product::Haproxy,
        text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/haproxy/gateway-usual.cfg")),
    })],
};

/// haproxy in HTTP mode, as rollproof recommends.
pub const HAPROXY_RECOMMENDED: Remedy = Remedy {
    name: "haproxy-recommended",
    settings: "httpchk GET /readyz with on-marked-down shutdown-sessions and error-status L7OKC; for GET without upgrade retry-on conn-failure empty-response, redispatch; srvtcpka and tcp-ut; \
               idle timeouts of a day (fixtures/haproxy/gateway.cfg)",
    why: "The health check itself ends what is open on a host that went down, sessions and streams of a frozen process too, and no timer looks at a stream. A read that \
          had no answer yet is repeated at another apiserver.",
    parts: &[Part::File(File {
        product: Product::Haproxy,
        text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/haproxy/gateway.cfg")),
    })],
};

/// nginx as an HTTP proxy, as it is usually configured.
pub const NGINX: Remedy = Remedy {
    name: "nginx",
    settings: "its own timeouts, kept connections (fixtures/nginx/gateway-usual.conf)",
    why: "proxy_read_timeout is a timer of each stream, which knows nothing of the upstream, as stream_idle_timeout. What failed to connect or to answer for that long goes on \
          elsewhere, and its host gets nothing for fail_timeout: until then all wait.",
    parts: &[Part::File(File {
        product: Product::Nginx,
        text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/nginx/gateway-usual.conf")),
    })],
};

/// nginx as an HTTP proxy, as well as it can be.
pub const NGINX_RECOMMENDED: Remedy = Remedy {
    name: "nginx-recommended",
    settings: "proxy_socket_keepalive with the kernel's tcp_keepalive_*, no kept connections, a short proxy_connect_timeout, proxy_next_upstream; a \
               proxy_read_timeout of a day for watches and sessions (fixtures/nginx/gateway.conf)",
    why: "Each stream has a connection of its own, by HTTP/1.1. On a watch's nothing is sent, so probes end it where packets are lost; new ones do not come about on a dead host, \
          and go elsewhere. The kernel of a frozen apiserver acknowledges probes: there watches hang.",
    parts: &[Part::File(File {
        product: Product::Nginx,
        text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/nginx/gateway.conf")),
    })],
};

/// All of them, in the order of the table.
pub const OTHER_PRODUCTS: &[Remedy] = &[HAPROXY, HAPROXY_RECOMMENDED, NGINX, NGINX_RECOMMENDED];

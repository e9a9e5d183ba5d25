//! A gateway as Istio makes it: `pilot-discovery`, its control plane, reads what a user writes (fixtures/istio), and Envoy asks it for
//! listeners, routes, clusters and endpoints (ADS), as in a cluster.
//!
//! What a user would apply is in a file instead. There is no istio-proxy: its agent, which hands out certificates, is replaced by files, and the
//! filters that only its Envoy has (metadata exchange, ALPN) are switched off.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::remedy::Part;
use super::{Lane, Remedy};
use crate::lab::balancer::product::envoy::{self, duration};
use crate::lab::balancer::{Backend, Settings};
use crate::lab::http::UPSTREAM_HEADER;
use crate::timing::{self, gateway as times};

const AS_IT_COMES_YAML: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/istio/as-it-comes.yaml"));
const RECOMMENDED_YAML: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/istio/recommended.yaml"));

/// Istio, told only where the apiservers are.
pub const ISTIO: Remedy = Remedy {
    name: "istio",
    settings: "Istio's Gateway, VirtualService, ServiceEntry and DestinationRule, with nothing said about it (fixtures/istio/as-it-comes.yaml)",
    why: "As `none`: no stream and no route has a timer, nothing is asked on a connection. Istio repeats requests by itself, but for failed connects only, and a \
          request that hangs is none.",
    parts: &[Part::ByIstio(AS_IT_COMES_YAML)],
};

/// What rollproof recommends, by Istio's means.
pub const ISTIO_RECOMMENDED: Remedy = Remedy {
    name: "istio-recommended",
    settings: "the same, with a DestinationRule, an EnvoyFilter and a VirtualService that say what `recommended` does (fixtures/istio/recommended.yaml)",
    why: "What Envoy is told in the end is what `recommended` is.",
    parts: &[Part::ByIstio(RECOMMENDED_YAML)],
};

/// Those that Istio's control plane configures.
pub const BY_ISTIO: &[Remedy] = &[ISTIO, ISTIO_RECOMMENDED];

/// The namespace of everything, and the gateway's label.
const NAMESPACE: &str = "istio-system";
const LABEL: &str = "ingressgateway";

/// What Istio's user wants, and what of it only a lab knows.
pub struct Wishes {
    /// Documents about `apiservers`, as `kubectl apply` takes them.
    text: &'static str,
    settings: Settings,
    ports: [SocketAddr; 4],
    ca: PathBuf,
    /// The certificate that is shown to clients, and its key.
    shown: [PathBuf; 2],
}

impl Wishes {
    /// What a remedy's user wants; `None` where Istio has no part in it.
    pub fn of(
        remedy: &Remedy,
        settings: Settings,
        ports: [SocketAddr; 4],
        ca: &Path,
        shown: [&Path; 2],
    ) -> Option<Self> {
        let text = remedy.by_istio()?;
        Some(Self { text, settings, ports, ca: ca.to_owned(), shown: shown.map(Path::to_owned) })
    }

    /// Every document that pilot-discovery is to read: the user's, once for each lane, with the lab's names, addresses and timers, and one of
    /// the lab's own.
    ///
    /// # Errors
    /// What the user wrote is no YAML.
    pub fn documents(&self, backends: &[Backend]) -> anyhow::Result<Vec<Value>> {
        let mut documents = Vec::new();
        let mut patches = vec![self.certificate(), whose_answer()];
        for (lane, port) in Lane::ALL.iter().zip(self.ports) {
            let name = lane.name();
            let text = self.text.replace("apiservers", &name);
            let read: Vec<Value> = serde_saphyr::from_multiple(&text).context("what Istio is told is no YAML")?;
            for mut document in read {
                self.place(&mut document, port, backends);
                self.shorten(&mut document);
                documents.push(document);
            }
            patches.extend(self.cluster(&name).into_iter().chain(self.cluster(&format!("{name}-upgrades"))));
        }
        documents.push(json!({
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": "lab", "namespace": NAMESPACE},
            "spec": {"priority": 1, "configPatches": patches},
        }));
        Ok(documents)
    }

    /// Puts it where the lab is.
    fn place(&self, document: &mut Value, port: SocketAddr, backends: &[Backend]) {
        let kind = document["kind"].as_str().unwrap_or_default().to_owned();
        let spec = &mut document["spec"];
        match &*kind {
            "Gateway" => {
                let server = &mut spec["servers"][0];
                server["port"]["number"] = json!(port.port());
                server["bind"] = json!(port.ip());
                server["hosts"] = json!(["*"]);
            }
            "VirtualService" => spec["hosts"] = json!(["*"]),
            "ServiceEntry" => {
                let endpoint =
                    |it: &Backend| json!({"address": it.address.ip(), "ports": {"https": it.address.port()}});
                spec["endpoints"] = backends.iter().map(endpoint).collect();
            }
            // Else it would be the agent that hands out the CA: see `cluster`.
            "DestinationRule" => {
                let tls = &mut spec["trafficPolicy"]["tls"];
                *tls = json!({"mode": tls["mode"], "sni": tls["sni"], "insecureSkipVerify": true});
            }
            "EnvoyFilter" => {
                let patches = spec["configPatches"].as_array_mut().into_iter().flatten();
                for number in patches.filter_map(|it| it.pointer_mut("/match/listener/portNumber")) {
                    *number = json!(port.port());
                }
            }
            _ => {}
        }
    }

    /// Gives timers that are set the lab's values.
    fn shorten(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match name.as_str() {
                "connectTimeout" => *value = json!(duration(self.settings.connect_timeout)),
                "tcpKeepalive" => {
                    *value = json!({
                        "time": duration(times::KEEPALIVE_TIME),
                        "interval": duration(times::KEEPALIVE_INTERVAL),
                        "probes": times::KEEPALIVE_PROBES,
                    });
                }
                // Of TCP_USER_TIMEOUT.
                "int_value" => *value = json!(times::USER_TIMEOUT.as_millis() as u64),
                "connection_keepalive" => {
                    *value = json!({
                        "interval": duration(times::PING_INTERVAL),
                        "timeout": duration(times::PING_TIMEOUT),
                    });
                }
                "health_checks" => {
                    let Settings { interval, timeout, rise, fall, .. } = &self.settings;
                    value[0]["timeout"] = json!(duration(*timeout));
                    value[0]["interval"] = json!(duration(*interval));
                    value[0]["no_traffic_interval"] = json!(duration(*interval));
                    value[0]["unhealthy_threshold"] = json!(fall);
                    value[0]["healthy_threshold"] = json!(rise);
                }
                _ => self.shorten(value),
            }),
            Value::Array(elements) => elements.iter_mut().for_each(|value| self.shorten(value)),
            _ => {}
        }
    }

    /// The CA of the apiservers, in Istio's own TLS context; and a name under which statistics are found. Two patches: of one that has a
    /// transport socket pilot takes nothing else.
    fn cluster(&self, name: &str) -> [Value; 2] {
        let trusted = json!({"common_tls_context": {"validation_context": {"trusted_ca": {"filename": self.ca}}}});
        let socket = tls("envoy.transport_sockets.tls", "UpstreamTlsContext", trusted);
        [json!({"alt_stat_name": name}), json!({"transport_socket": socket})].map(|value| {
            let service = format!("{name}.example.internal");
            patch("CLUSTER", json!({"context": "GATEWAY", "cluster": {"service": service}}), value)
        })
    }

    /// What is shown to clients, in the place of what `credentialName` names: a transport socket by another name takes its place, one by the same
    /// would be merged.
    fn certificate(&self) -> Value {
        let [certificate, key] = &self.shown;
        let shown = json!({"common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}],
        }});
        patch("FILTER_CHAIN", gateway(), json!({"transport_socket": tls("lab", "DownstreamTlsContext", shown)}))
    }
}

/// Each response says which apiserver it is from.
fn whose_answer() -> Value {
    let header = json!({"key": UPSTREAM_HEADER, "value": "%UPSTREAM_HOST%"});
    let added = json!([{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]);
    patch("ROUTE_CONFIGURATION", gateway(), json!({"response_headers_to_add": added}))
}

fn gateway() -> Value {
    json!({"context": "GATEWAY"})
}

fn patch(to: &str, matched: Value, value: Value) -> Value {
    json!({"applyTo": to, "match": matched, "patch": {"operation": "MERGE", "value": value}})
}

fn tls(name: &str, context: &str, mut content: Value) -> Value {
    content["@type"] = json!(format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}"));
    json!({"name": name, "typed_config": content})
}

/// What Envoy is started with, much as istio-proxy's agent has it: who it is, with Istio's version, and whom it asks for everything else.
pub fn bootstrap(control_plane: SocketAddr, version: &str, folder: &Path) -> Value {
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let (ip, port) = (control_plane.ip(), control_plane.port());
    let endpoint = json!({"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}}});
    json!({
        "node": {
            "id": format!("router~{ip}~gateway.{NAMESPACE}~{NAMESPACE}.svc.cluster.local"),
            "cluster": format!("gateway.{NAMESPACE}"),
            "metadata": {"NAMESPACE": NAMESPACE, "LABELS": {"istio": LABEL}, "ISTIO_VERSION": version.trim_start_matches('v')},
        },
        "admin": envoy::admin(folder),
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {"clusters": [{
            "name": "xds-grpc",
            "type": "STATIC",
            "connect_timeout": duration(timing::BALANCER_CONNECT),
            "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [endpoint]}]},
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
        }]},
    })
}

//! What Istio's control plane reads, and that it says what the Envoy that was measured is told.

use std::net::SocketAddr;
use std::path::Path;

use rollproof::lab::balancer::product::envoy;
use rollproof::lab::balancer::{Backend, HealthPolicy, Settings};
use rollproof::lab::gateway::{BY_ISTIO, ISTIO, ISTIO_RECOMMENDED, Lane, RECOMMENDED, Remedy, Wishes};
use rollproof::lab::gateway::{bootstrap, configuration};
use rollproof::timing::{Profile, Timers, secs};
use serde_json::{Value, json};

fn settings() -> Settings {
    let settings = Settings::new(Vec::new(), String::new(), &Timers::of(Profile::Pr));
    Settings { health: HealthPolicy::Follow, ..settings }
}

fn ports() -> [SocketAddr; 4] {
    Lane::ALL.map(|lane| ([127, 77, 1, 1], 17_000 + lane as u16).into())
}

fn documents(remedy: Remedy) -> Vec<Value> {
    let shown = ["/lab/gateway.crt", "/lab/gateway.key"].map(Path::new);
    let wishes = Wishes::of(&remedy, settings(), ports(), Path::new("/lab/ca.crt"), shown).unwrap();
    let backend = |index: u8| Backend {
        name: format!("apiserver-{index}"),
        address: ([127, 77, 1, 10 + index], 16_443 + u16::from(index)).into(),
    };
    wishes.documents(&[backend(0), backend(1)]).unwrap()
}

/// Of one lane.
fn document<'a>(documents: &'a [Value], kind: &str, lane: &str) -> &'a Value {
    let mut found = documents.iter().filter(|it| it["kind"] == kind && it["metadata"]["name"] == lane);
    found.next().unwrap_or_else(|| panic!("no {kind} {lane} in {documents:#?}"))
}

#[test]
fn each_lane_has_a_port_and_a_service_of_its_own_and_all_know_the_same_apiservers() {
    for remedy in BY_ISTIO {
        let documents = documents(*remedy);
        for (index, lane) in ["alone", "busy", "new", "sessions"].iter().enumerate() {
            let server = &document(&documents, "Gateway", lane)["spec"]["servers"][0];
            assert_eq!(server["port"]["number"], 17_000 + index);
            assert_eq!((&server["bind"], &server["hosts"]), (&json!("127.77.1.1"), &json!(["*"])));
            let service = &document(&documents, "ServiceEntry", lane)["spec"];
            assert_eq!(service["hosts"], json!([format!("{lane}.example.internal")]));
            let endpoints = json!([
                {"address": "127.77.1.10", "ports": {"https": 16_443}},
                {"address": "127.77.1.11", "ports": {"https": 16_444}},
            ]);
            assert_eq!(service["endpoints"], endpoints);
            let routes = &document(&documents, "VirtualService", lane)["spec"];
            assert_eq!(routes["gateways"], json!([lane]));
            assert!(
                routes["http"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|route| route["route"][0]["destination"]["host"].as_str().unwrap().starts_with(lane))
            );
        }
        let text = json!(documents).to_string();
        assert!(!text.contains("apiservers.example"), "{}: a name was left as it is in {text}", remedy.name);
    }
}

/// The clusters of one lane, of what Envoy is told by the lab under [`RECOMMENDED`], and its routes.
fn measured() -> ([Value; 2], Value) {
    let shown = ["/lab/gateway.crt", "/lab/gateway.key"].map(Path::new);
    let (ca, folder) = (Path::new("/lab/ca.crt"), Path::new("/lab/gateway"));
    let balancer = envoy::configuration(&settings(), ca, secs(60), folder, shown);
    let told = configuration(balancer, RECOMMENDED, &ports(), 1, None);
    let resources = &told["static_resources"];
    let manager = &resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    (
        [0, 1].map(|index| resources["clusters"][index].clone()),
        manager["route_config"]["virtual_hosts"][0]["routes"].clone(),
    )
}

const OPTIONS: &str =
    "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/explicit_http_config";

#[test]
fn istio_is_told_what_the_recommended_envoy_is_told() {
    let documents = documents(ISTIO_RECOMMENDED);
    let ([cluster, upgraded], routes) = measured();
    let patches = &document(&documents, "EnvoyFilter", "alone")["spec"]["configPatches"];
    let patch = &patches[0]["patch"]["value"];
    assert_eq!(patch["upstream_bind_config"], cluster["upstream_bind_config"]);
    let keepalive = |cluster: &Value| {
        let options = cluster.pointer(OPTIONS).unwrap_or_else(|| panic!("no {OPTIONS} in {cluster:#}"));
        options["http2_protocol_options"]["connection_keepalive"].clone()
    };
    assert_eq!(keepalive(patch), keepalive(&cluster));
    assert_ne!(keepalive(patch), Value::Null);
    let (check, measured) = (&patch["health_checks"][0], &cluster["health_checks"][0]);
    for name in
        ["timeout", "interval", "no_traffic_interval", "unhealthy_threshold", "healthy_threshold", "reuse_connection"]
    {
        assert_eq!(check[name], measured[name], "{name}");
    }
    let upgrades = &patches[1]["patch"]["value"];
    for (told, cluster) in [(patch, &cluster), (upgrades, &upgraded)] {
        let [check, measured] = [told, cluster].map(|it| &it["health_checks"][0]["http_health_check"]);
        for name in ["host", "path", "codec_client_type", "retriable_statuses"] {
            assert_eq!(check[name], measured[name], "{name}");
        }
    }

    assert_eq!(upgrades.pointer(OPTIONS), Some(&json!({"http_protocol_options": {}})));
    assert_eq!(upgrades["upstream_bind_config"], patch["upstream_bind_config"]);

    assert_eq!(patches[2]["match"]["listener"]["portNumber"], 17_000);
    let upgrades = &patches[2]["patch"]["value"]["typed_config"]["upgrade_configs"];
    assert_eq!(upgrades, &json!([{"upgrade_type": "SPDY/3.1"}]));

    let policy = |name| document(&documents, "DestinationRule", name)["spec"]["trafficPolicy"].clone();
    let tcp = policy("alone")["connectionPool"]["tcp"].clone();
    assert_eq!(policy("alone-upgrades")["connectionPool"]["tcp"], tcp);
    assert_eq!(tcp["connectTimeout"], cluster["connect_timeout"]);
    let keepalive = &cluster["upstream_connection_options"]["tcp_keepalive"];
    let told = |name: &str| tcp["tcpKeepalive"][name].as_str().map(|text| text.trim_end_matches('s').parse().ok());
    assert_eq!(told("time"), Some(keepalive["keepalive_time"].as_u64()));
    assert_eq!(told("interval"), Some(keepalive["keepalive_interval"].as_u64()));
    assert_eq!(tcp["tcpKeepalive"]["probes"], keepalive["keepalive_probes"]);

    let http = &document(&documents, "VirtualService", "alone")["spec"]["http"];
    let [upgraded, reads, others] = &routes.as_array().unwrap()[..] else { panic!("{routes:#}") };
    let retries = &reads["route"]["retry_policy"];
    assert_eq!(
        (&http[1]["retries"]["retryOn"], &http[1]["retries"]["attempts"]),
        (&retries["retry_on"], &retries["num_retries"])
    );
    for (told, measured) in [(&http[0], upgraded), (&http[2], others)] {
        assert_eq!((&told["retries"]["attempts"], &measured["route"]["retry_policy"]), (&json!(0), &Value::Null));
    }
    let host = &http[0]["route"][0]["destination"]["host"];
    assert_eq!(
        (host, &upgraded["route"]["cluster"]),
        (&json!("alone-upgrades.example.internal"), &json!("alone-upgrades"))
    );
}

#[test]
fn the_page_recommends_the_same_times_to_users_of_envoy_and_of_istio() {
    let page = include_str!("../../docs/gateway-cures.md");
    let block = |index: usize| page.split("```yaml\n").nth(index).unwrap().split("```").next().unwrap();
    let envoy: Value = serde_saphyr::from_str(block(1)).unwrap();
    let istio: Vec<Value> = serde_saphyr::from_multiple(block(3)).unwrap();
    let cluster = &envoy["clusters"][0];
    let patch = &document(&istio, "EnvoyFilter", "apiservers")["spec"]["configPatches"][0]["patch"]["value"];
    assert_eq!(patch["upstream_bind_config"], cluster["upstream_bind_config"]);
    assert_eq!(patch["health_checks"], cluster["health_checks"]);
    assert_eq!((patch.pointer(OPTIONS), patch.pointer(OPTIONS).is_some()), (cluster.pointer(OPTIONS), true));
    let tcp = &document(&istio, "DestinationRule", "apiservers")["spec"]["trafficPolicy"]["connectionPool"]["tcp"];
    let keepalive = &cluster["upstream_connection_options"]["tcp_keepalive"];
    let in_seconds = |name: &str| json!(format!("{}s", keepalive[name]));
    let told = json!({
        "connectTimeout": cluster["connect_timeout"],
        "tcpKeepalive": {
            "time": in_seconds("keepalive_time"),
            "interval": in_seconds("keepalive_interval"),
            "probes": keepalive["keepalive_probes"],
        },
    });
    assert_eq!(tcp, &told);
}

#[test]
fn nothing_is_said_about_dead_apiservers_where_istio_is_taken_as_it_comes() {
    let documents = documents(ISTIO);
    let mut filters = documents.iter().filter(|it| it["kind"] == "EnvoyFilter").map(|it| &it["metadata"]["name"]);
    assert_eq!((filters.next(), filters.next()), (Some(&json!("lab")), None));
    for lane in Lane::ALL.map(|lane| format!("{lane:?}").to_lowercase()) {
        let policy = &document(&documents, "DestinationRule", &lane)["spec"]["trafficPolicy"];
        assert_eq!(policy["connectionPool"], json!({"http": {"useClientProtocol": true}}));
        let routes = &document(&documents, "VirtualService", &lane)["spec"]["http"];
        assert_eq!((routes.as_array().unwrap().len(), &routes[0]["retries"]), (1, &Value::Null));
    }
}

#[test]
fn the_lab_adds_certificates_names_and_a_header_and_no_remedy() {
    let documents = documents(ISTIO_RECOMMENDED);
    let patches = document(&documents, "EnvoyFilter", "lab")["spec"]["configPatches"].as_array().unwrap();
    let said: Vec<_> = patches.iter().flat_map(|it| it["patch"]["value"].as_object().unwrap().keys()).collect();
    let of_lanes = ["alt_stat_name", "transport_socket"].repeat(Lane::ALL.len() * 2);
    assert_eq!(said, [&["transport_socket", "response_headers_to_add"][..], &of_lanes].concat());
}

#[test]
fn envoy_asks_pilot_and_says_which_gateway_it_is() {
    let it = bootstrap(([127, 77, 1, 1], 17_009).into(), "v1.31.0", Path::new("/lab/gateway"));
    assert_eq!(it["node"]["id"], "router~127.77.1.1~gateway.istio-system~istio-system.svc.cluster.local");
    let documents = documents(ISTIO);
    let selector = &document(&documents, "Gateway", "alone")["spec"]["selector"];
    let metadata = &it["node"]["metadata"];
    assert_eq!((&metadata["LABELS"], &metadata["ISTIO_VERSION"]), (selector, &json!("1.31.0")));
    let clusters = &it["static_resources"]["clusters"];
    let asked = clusters[0].pointer("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address");
    assert_eq!(asked, Some(&json!({"address": "127.77.1.1", "port_value": 17_009})));
}

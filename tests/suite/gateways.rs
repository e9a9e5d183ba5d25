//! What gateways are told, and what they tell of themselves, as Envoy writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rollproof::config::Product;
use rollproof::lab::balancer::product::envoy;
use rollproof::lab::balancer::{Backend, Settings};
use rollproof::lab::gateway::{
    HAPROXY, HAPROXY_RECOMMENDED, Lane, NONE, OTHER_PRODUCTS, RECOMMENDED, REMEDIES, Remedy, configuration, counters,
    logged,
};
use rollproof::timeline::GatewayLogged;
use rollproof::timing::{Profile, Timers, secs};
use serde_json::Value;

fn configured(remedy: Remedy, workers: u32) -> Value {
    let settings = Settings::new(Vec::new(), String::new(), &Timers::of(Profile::Pr));
    let (ca, folder) = (Path::new("/lab/ca.crt"), Path::new("/lab/gateway"));
    let shown = ["/lab/gateway.crt", "/lab/gateway.key"].map(Path::new);
    let ports = Lane::ALL.map(|lane| ([127, 0, 0, 1], 17_000 + lane as u16).into());
    configuration(envoy::configuration(&settings, ca, secs(60), folder, shown), remedy, &ports, workers, Some(folder))
}

#[test]
fn every_lane_learns_of_the_same_apiservers_by_one_file() {
    for remedy in REMEDIES {
        let it = configured(*remedy, 1);
        let clusters = it["static_resources"]["clusters"].as_array().unwrap();
        let names: BTreeSet<_> = clusters.iter().map(|cluster| cluster["name"].as_str().unwrap()).collect();
        assert!(names.is_superset(&["alone", "busy", "new", "sessions", "sessions-upgrades"].into()), "{names:?}");
        for cluster in clusters {
            assert_eq!((&cluster["type"], &cluster["load_assignment"]), (&"EDS".into(), &Value::Null), "{cluster:#}");
            let discovery = &cluster["eds_cluster_config"];
            assert_eq!(discovery["service_name"], "apiservers");
            let file = &discovery["eds_config"]["path_config_source"]["path"];
            assert_eq!(file, "/lab/gateway/endpoints.json", "{}", remedy.name);
        }
        assert_eq!(it["node"]["id"], remedy.name);
    }
}

#[test]
fn a_lane_has_a_port_and_a_cluster_of_its_own_and_only_several_workers_take_turns() {
    let it = configured(RECOMMENDED, 1);
    for (index, name) in ["alone", "busy", "new", "sessions"].iter().enumerate() {
        let listener = &it["static_resources"]["listeners"][index];
        assert_eq!(listener["address"]["socket_address"]["port_value"], 17_000 + index);
        let routes =
            &listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]["routes"];
        let routes: Vec<_> = routes.as_array().unwrap().iter().map(|route| route["route"]["cluster"].clone()).collect();
        assert_eq!(routes, [&*format!("{name}-upgrades"), *name, *name]);
        assert_eq!(listener["connection_balance_config"], Value::Null);
    }
    let balanced = &configured(NONE, 2)["static_resources"]["listeners"][0]["connection_balance_config"];
    assert_eq!(balanced.to_string(), r#"{"exact_balance":{}}"#);
}

const STATS: &str = "\
cluster.alone.external.upstream_rq_200: 6
cluster.alone.http2.keepalive_timeout: 1
cluster.alone.http2.tx_reset: 4
cluster.alone.membership_healthy: 2
cluster.alone.update_success: 1
cluster.alone.upstream_cx_connect_fail: 0
cluster.alone.upstream_cx_total: 3
listener.127.77.1.1_17000.downstream_cx_total: 2
listener.127.77.1.1_17000.worker_1.downstream_cx_total: 2
server.worker_0.watchdog_miss: 1
cluster.alone.upstream_cx_connect_ms: P0(nan,1) P25(nan,1.025)
";

#[test]
fn counters_are_of_upstreams_and_of_workers_and_none_is_zero() {
    let expected = [
        ("cluster.alone.http2.keepalive_timeout", 1),
        ("cluster.alone.membership_healthy", 2),
        ("cluster.alone.update_success", 1),
        ("cluster.alone.upstream_cx_total", 3),
        ("listener.127.77.1.1_17000.worker_1.downstream_cx_total", 2),
    ];
    assert_eq!(counters(STATS), expected.map(|(name, value)| (name.to_owned(), value)).into());
}

/// As a gateway's standard output has it, its own log in between.
const LOG: &str = r#"[2026-11-25 22:32:04.664][14163][info][main] [source/server/server.cc:1098] starting main dispatch loop
{"audit_id":"ours-1","client":"127.77.1.50:40466","details":"via_upstream","flags":"-","method":"GET","path":"/x","status":200,"took_ms":5,"upstream":"127.77.1.10:16443"}
{"audit_id":"ours-2","client":"127.77.1.50:40466","details":"upstream_reset_before_response_started{connection_termination}","flags":"UC","method":"GET","path":"/x","status":503,"took_ms":4000,"upstream":"127.77.1.10:16443"}
{"audit_id":"another's","details":"http2.remote_reset","flags":"DR","status":0,"upstream":"127.77.1.10:16443"}
{"audit_id":"ours-3","details":null,"flags":"UH","status":503,"upstream":null}
{"health_checker_type":"HTTP","cluster_name":"alone","health_check_failure_event":{"failure_type":"NETWORK"}}
"#;

#[test]
fn what_is_flagged_is_joined_by_audit_id_and_address() {
    let ours = ["ours-1", "ours-2", "ours-3"].map(str::to_owned).into();
    let roster = BTreeMap::from([("127.77.1.10:16443".to_owned(), "apiserver-0".to_owned())]);
    let line = |audit_id: &str, server: Option<&str>, flags: &str, details: &str| GatewayLogged {
        gateway: "none".into(),
        audit_id: audit_id.into(),
        server: server.map(str::to_owned),
        status: 503,
        flags: flags.into(),
        details: details.into(),
    };
    let closed = "upstream_reset_before_response_started{connection_termination}";
    let expected = [line("ours-2", Some("apiserver-0"), "UC", closed), line("ours-3", None, "UH", "")];
    assert_eq!(logged("none", LOG, &ours, &roster), expected);
}

#[test]
fn a_file_has_a_line_for_each_apiserver_and_no_placeholder_is_left() {
    let backend = |number: u16| Backend {
        name: format!("apiserver-{number}"),
        address: ([127, 77, 1, 10 + number as u8], 16_443).into(),
    };
    let settings = Settings::new(vec![backend(0), backend(1)], String::new(), &Timers::of(Profile::Pr));
    let shown = ["/lab/gateway.crt", "/lab/gateway.key"].map(Path::new);
    for remedy in OTHER_PRODUCTS {
        let file = remedy.file().unwrap();
        let text = file.filled(&settings, Path::new("/lab/ca.crt"), shown, Path::new("/lab/tmp"));
        for part in ["127.77.1.10:16443", "127.77.1.11:16443", "/lab/ca.crt", "/lab/gateway.crt", "127.0.0.1:0"] {
            assert!(text.contains(part), "{}: no {part} in\n{text}", remedy.name);
        }
        for text in [text, file.as_set()] {
            assert!(!text.contains("ROLLPROOF"), "{}\n{text}", remedy.name);
            assert!(text.contains("x-rollproof-upstream"), "{}: nobody could tell who has answered", remedy.name);
        }
    }
}

#[test]
fn what_is_recommended_differs_from_what_is_run_in_its_times_only() {
    let file = HAPROXY_RECOMMENDED.file().unwrap();
    let text = file.as_set();
    assert!(text.starts_with("global\n"), "{text}");
    for line in [
        "  server apiserver-1 192.0.2.11:6443\n",
        "  default-server check check-alpn http/1.1 inter 5s fall 2 rise 2 on-marked-down shutdown-sessions\n",
        "  timeout connect 2s\n",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    let settings = Settings::new(Vec::new(), String::new(), &Timers::of(Profile::Pr));
    let here = file.filled(&settings, Path::new("/ca.crt"), ["/g.crt", "/g.key"].map(Path::new), Path::new("/tmp"));
    assert!(here.contains(" inter 500ms fall 2 rise 2 on-marked-down shutdown-sessions\n"), "{here}");
}

#[test]
fn only_what_has_a_file_is_no_envoy() {
    assert!(REMEDIES.iter().all(|remedy| remedy.product() == Product::Envoy && remedy.file().is_none()));
    assert_eq!(HAPROXY.product(), Product::Haproxy);
    let names: BTreeSet<_> = REMEDIES.iter().chain(OTHER_PRODUCTS).map(|it| it.name).collect();
    assert_eq!(names.len(), REMEDIES.len() + OTHER_PRODUCTS.len(), "verdicts name a gateway by its remedy");
}

//! What gateways tell of themselves, as Envoy writes it.

use std::collections::BTreeMap;

use rollproof::lab::gateway::{counters, logged};
use rollproof::timeline::GatewayLogged;

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

//! Products as balancers: what the suite tells them.

use std::net::SocketAddr;
use std::path::Path;

use rollproof::config::Config;
use rollproof::lab::Setup;
use rollproof::lab::balancer::product::haproxy::Mode;
use rollproof::lab::balancer::product::{envoy, haproxy, nginx};
use rollproof::lab::balancer::{Backend, HealthPolicy, OnUnhealthy, Settings};
use rollproof::timing::{Profile, Timers, secs};
use rstest::rstest;
use serde_json::Value;

fn settings(adjust: impl FnOnce(&mut Settings)) -> Settings {
    let backend =
        |port| Backend { name: format!("apiserver-{port}"), address: SocketAddr::from(([127, 0, 0, 1], port)) };
    let mut settings = Settings::new(vec![backend(7000), backend(7001)], String::new(), &Timers::of(Profile::Pr));
    settings.listen = "127.0.0.1:6443".parse().unwrap();
    adjust(&mut settings);
    settings
}

fn haproxy(adjust: impl FnOnce(&mut Settings)) -> String {
    haproxy::configuration(&settings(adjust), Mode::Tcp, Path::new("/lab/ca.crt"), secs(260), Path::new("/lab"))
}

fn haproxy_http(adjust: impl FnOnce(&mut Settings)) -> String {
    let mode = Mode::Http { certificate: Path::new("/lab/gateway.crt") };
    haproxy::configuration(&settings(adjust), mode, Path::new("/lab/ca.crt"), secs(260), Path::new("/lab"))
}

fn nginx(adjust: impl FnOnce(&mut Settings)) -> String {
    nginx::configuration(&settings(adjust), secs(260), Path::new("/lab"), None)
}

fn envoy(adjust: impl FnOnce(&mut Settings)) -> Value {
    let gateway = ["/lab/gateway.crt", "/lab/gateway.key"].map(Path::new);
    envoy::configuration(&settings(adjust), Path::new("/lab/ca.crt"), secs(260), Path::new("/lab"), gateway)
}

#[test]
fn haproxy_asks_readyz_over_verified_tls_and_never_tries_again() {
    let text = haproxy(|_| {});
    for line in [
        "  retries 0\n",
        "  timeout client 260000ms\n",
        "  option httpchk GET /readyz\n",
        "  server apiserver-7000 127.0.0.1:7000 check check-ssl verify required ca-file '/lab/ca.crt' inter 500ms fall 2 rise 2\n",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    for knob in ["redispatch", "on-marked-down", "force-persist"] {
        assert!(!text.contains(knob), "{knob} in\n{text}");
    }
}

#[test]
fn haproxy_has_every_knob_of_the_lab_but_a_drain_time() {
    let text = haproxy(|settings| settings.on_unhealthy = OnUnhealthy::Reset);
    assert_eq!(text.matches(" on-marked-down shutdown-sessions\n").count(), 2, "{text}");
    let text = haproxy(|settings| settings.redispatch = true);
    assert!(text.contains("  retries 1\n  option redispatch 1\n"), "{text}");
    let text = haproxy(|settings| settings.health = HealthPolicy::Ignore);
    assert!(!text.contains("check-ssl") && !text.contains("httpchk"), "{text}");
    let text = haproxy(|settings| {
        settings.hairpin.insert([127, 0, 0, 100].into(), "apiserver-7001".to_owned());
    });
    let own = "  force-persist if { src 127.0.0.100 }\n  use-server apiserver-7001 if { src 127.0.0.100 }\n";
    assert!(text.contains(own), "{text}");
}

#[test]
fn haproxy_as_a_gateway_ends_tls_and_speaks_http2_to_apiservers() {
    let text = haproxy_http(|_| {});
    for line in [
        "  mode http\n",
        "  retries 0\n",
        "  timeout tunnel 260000ms\n",
        "  bind 127.0.0.1:6443 ssl crt '/lab/gateway.crt' alpn h2,http/1.1\n",
        "  http-response set-header x-rollproof-upstream %si:%sp\n",
        "  server apiserver-7000 127.0.0.1:7000 ssl verify required ca-file '/lab/ca.crt' alpn h2 ws h1 \
         check check-alpn http/1.1 inter 500ms fall 2 rise 2\n",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    let text = haproxy_http(|settings| settings.health = HealthPolicy::Ignore);
    assert!(text.contains(" ssl verify required ") && !text.contains(" check-alpn "), "{text}");
}

#[test]
fn nginx_counts_refusals_and_leaves_it_at_that() {
    let text = nginx(|_| {});
    assert!(text.contains("    server 127.0.0.1:7000 max_fails=2 fail_timeout=1s;\n"), "{text}");
    assert!(text.contains("    proxy_next_upstream off;\n") && !text.contains("load_module"), "{text}");
    let text = nginx(|settings| (settings.health, settings.redispatch) = (HealthPolicy::Ignore, true));
    assert!(text.contains("    server 127.0.0.1:7000 max_fails=0;\n"), "{text}");
    assert!(text.contains("    proxy_next_upstream on;\n"), "{text}");
    let text = nginx(|settings| {
        settings.hairpin.insert([127, 0, 0, 100].into(), "apiserver-7001".to_owned());
    });
    assert!(text.contains("    default apiservers;\n    127.0.0.100 127.0.0.1:7001;\n"), "{text}");
}

#[test]
fn nginx_loads_its_stream_module_only_where_that_is_apart() {
    let debian =
        "nginx version: nginx/1.22.1\nconfigure arguments: --modules-path=/usr/lib/nginx/modules --with-stream=dynamic";
    assert_eq!(nginx::stream_module(debian).as_deref(), Some("/usr/lib/nginx/modules/ngx_stream_module.so"));
    assert_eq!(nginx::stream_module("configure arguments: --modules-path=/etc/nginx/modules --with-stream"), None);
}

#[test]
fn envoy_never_finds_a_stream_too_idle_or_too_long_and_never_panics() {
    let it = envoy(|_| {});
    let chain = &it["static_resources"]["listeners"][0]["filter_chains"][0];
    let manager = &chain["filters"][0]["typed_config"];
    assert_eq!(manager["stream_idle_timeout"], "0s");
    let route = &manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
    assert_eq!((&route["timeout"], &route["retry_policy"]), (&"0s".into(), &Value::Null));
    let cluster = &it["static_resources"]["clusters"][0];
    assert_eq!(cluster["common_lb_config"]["healthy_panic_threshold"]["value"], 0);
    let check = &cluster["health_checks"][0];
    // A minute by default: the first outage would not be noticed at the interval.
    assert_eq!((&check["interval"], &check["no_traffic_interval"]), (&"0.5s".into(), &"0.5s".into()));
    assert_eq!((&check["unhealthy_threshold"], &check["http_health_check"]["path"]), (&2.into(), &"/readyz".into()));
    assert!(!manager["access_log"].to_string().to_lowercase().contains("authorization"));
}

#[test]
fn envoy_can_be_told_to_ignore_health_and_to_try_another_apiserver() {
    let it = envoy(|settings| (settings.health, settings.redispatch) = (HealthPolicy::Ignore, true));
    assert_eq!(it["static_resources"]["clusters"][0]["health_checks"], Value::Null);
    let manager = &it["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let route = &manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"];
    assert_eq!(
        (&route["retry_policy"]["retry_on"], &route["retry_policy"]["num_retries"]),
        (&"connect-failure".into(), &1.into())
    );
}

#[rstest]
#[case("builtin", [true, true, true])]
#[case("kernel", [true, true, false])]
#[case("haproxy", [true, true, true])]
#[case("haproxy-http", [false, false, true])]
#[case("nginx", [true, false, true])]
#[case("envoy", [false, false, true])]
#[case("envoy:gateway.yaml", [false, false, false])]
#[case("command:balancer", [false, false, false])]
fn a_balancer_is_asked_for_no_policy_that_it_has_not(#[case] balancer: &str, #[case] has: [bool; 3]) {
    let config = Config::parse([("ROLLPROOF_BALANCER".into(), balancer.into())].into_iter()).unwrap();
    let suits = |policy: fn(&mut Setup)| {
        let mut setup = Setup::careful(&config);
        policy(&mut setup);
        setup.suits(&config.balancer)
    };
    assert!(suits(|_| ()));
    let policies: [fn(&mut Setup); 3] =
        [|lab| lab.hairpin = true, |lab| lab.on_unhealthy = OnUnhealthy::Reset, |lab| lab.redispatch = true];
    assert_eq!(policies.map(suits), has, "hairpin, resets, redispatch");
}

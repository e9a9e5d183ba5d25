//! The environment contract.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use rollproof::config::{BalancerKind, Config, ConfigError, ControlPlaneKind, Product, Require};
use rollproof::spec::Need;
use rollproof::timing::Profile;
use rstest::rstest;

fn parse(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::parse(vars.iter().map(|(name, value)| (name.into(), value.into())))
}

fn problems(vars: &[(&str, &str)]) -> Vec<String> {
    parse(vars).expect_err("it is to be refused").problems
}

#[test]
fn nothing_set_gives_the_defaults() {
    let config = parse(&[("HOME", "/root"), ("ROLLPROOFX", "1"), ("rollproof_keep", "x")]).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.control_plane, ControlPlaneKind::Local);
    assert_eq!(config.balancer, BalancerKind::Builtin);
    assert_eq!(config.profile, Profile::Pr);
}

#[test]
fn every_setting_is_taken() {
    let config = parse(&[
        ("ROLLPROOF_CONTROL_PLANE", "local"),
        ("ROLLPROOF_KUBERNETES_VERSION", "1.34.4"),
        ("ROLLPROOF_APISERVERS", "3"),
        ("ROLLPROOF_BALANCER", "command:./haproxy.sh -f 'a file'"),
        ("ROLLPROOF_PROFILE", "nightly"),
        ("ROLLPROOF_REPORT_DIR", "out"),
        ("ROLLPROOF_REQUIRE", "server-logs, direct-access"),
        ("ROLLPROOF_KEEP", "yes"),
    ]);
    let expected = Config {
        control_plane: ControlPlaneKind::Local,
        kubernetes_version: Some("v1.34.4".to_owned()),
        apiservers: Some(3),
        balancer: BalancerKind::Command(["./haproxy.sh", "-f", "a file"].map(str::to_owned).to_vec()),
        client: None,
        profile: Profile::Nightly,
        report_dir: Some(PathBuf::from("out")),
        require: Require(vec![Need::ServerLogs, Need::DirectAccess]),
        keep: true,
    };
    assert_eq!(config, Ok(expected));
}

#[rstest]
#[case("haproxy", Product::Haproxy)]
#[case("nginx", Product::Nginx)]
#[case("envoy", Product::Envoy)]
fn a_product_is_taken_by_its_name(#[case] name: &str, #[case] product: Product) {
    let config = parse(&[("ROLLPROOF_BALANCER", name)]).unwrap();
    assert_eq!(config.balancer, BalancerKind::Product(product));
    assert_eq!(config.balancer.to_string(), name);
}

#[rstest]
#[case("haproxy-http", BalancerKind::HaproxyHttp, Product::Haproxy)]
#[case("envoy:my gateway.yaml", BalancerKind::Envoy("my gateway.yaml".into()), Product::Envoy)]
fn a_product_may_be_told_otherwise(#[case] value: &str, #[case] kind: BalancerKind, #[case] product: Product) {
    assert_eq!((kind.to_string().as_str(), kind.product()), (value, Some(product)));
    assert_eq!(parse(&[("ROLLPROOF_BALANCER", value)]).unwrap().balancer, kind);
}

#[test]
fn what_its_user_configures_is_not_told_by_the_suite() {
    let kind = |value| parse(&[("ROLLPROOF_BALANCER", value)]).unwrap().balancer;
    for (value, is_told, passes_refusals_on) in [
        ("haproxy-http", true, true),
        ("envoy", true, true),
        ("nginx", true, false),
        ("envoy:gateway.yaml", false, false),
        ("command:balancer", false, false),
    ] {
        let kind = kind(value);
        assert_eq!((kind.is_told(), kind.passes_refusals_on()), (is_told, passes_refusals_on), "{value}");
    }
}

#[test]
fn an_empty_value_means_unset() {
    let names = ["CONTROL_PLANE", "KUBERNETES_VERSION", "APISERVERS", "BALANCER", "CLIENT", "PROFILE", "REPORT_DIR"];
    let names = names.into_iter().chain(["REQUIRE", "KEEP"]).map(|name| (format!("ROLLPROOF_{name}"), ""));
    let config = Config::parse(names.map(|(name, value)| (name.into(), value.into())));
    assert_eq!(config, Ok(Config::default()));
}

#[test]
fn names_handed_to_balancer_commands_are_let_through() {
    let names = ["LISTEN", "BACKENDS", "READYZ", "CA", "HEALTH_INTERVAL_MS", "HEALTH_FALL", "IDLE_TIMEOUT_MS"];
    let vars = names.map(|name| (OsString::from(format!("ROLLPROOF_{name}")), OsString::from("whatever")));
    assert_eq!(Config::parse(vars.into_iter()), Ok(Config::default()));
}

#[test]
fn require_all_means_every_need_but_those_about_what_was_chosen() {
    let config = parse(&[("ROLLPROOF_REQUIRE", "all")]).unwrap();
    assert!(Need::ALL.into_iter().all(|need| config.require.includes(need) != need.is_of_choice()));
    assert!(parse(&[("ROLLPROOF_REQUIRE", "balancer-policies")]).unwrap().require.includes(Need::BalancerPolicies));
    assert!(!Config::default().require.includes(Need::ServerLogs));
}

#[rstest]
#[case("ROLLPROOF_BALANCR", "x", "ROLLPROOF_BALANCR is no setting of rollproof; the nearest is ROLLPROOF_BALANCER")]
#[case("ROLLPROOF_VERSION", "", "the nearest is ROLLPROOF_KUBERNETES_VERSION")]
#[case("ROLLPROOF_", "1", "ROLLPROOF_ is no setting")]
#[case("ROLLPROOF_keep", "1", "ROLLPROOF_keep is no setting")]
#[case("ROLLPROOF_PROFILE", "nigthly", "ROLLPROOF_PROFILE=nigthly: it takes nightly, pr")]
#[case("ROLLPROOF_PROFILE", "p", "ROLLPROOF_PROFILE=p: it takes pr, nightly")]
#[case("ROLLPROOF_CONTROL_PLANE", "kind2", "it takes kind, local")]
#[case("ROLLPROOF_CONTROL_PLANE", "existing", "not available yet")]
#[case("ROLLPROOF_CONTROL_PLANE", "minikube", "it takes kind, local")]
#[case("ROLLPROOF_BALANCER", "nginks", "it takes nginx, ")]
#[case("ROLLPROOF_BALANCER", "builtn", "it takes builtin, ")]
#[case("ROLLPROOF_BALANCER", "envoy:", "no file follows; it takes envoy:FILE")]
#[case("ROLLPROOF_BALANCER", "command:", "no command follows")]
#[case("ROLLPROOF_BALANCER", "command:  ", "no command follows")]
#[case("ROLLPROOF_BALANCER", "command:'' x", "no command follows")]
#[case("ROLLPROOF_BALANCER", "command:sh -c 'x", "a quote or a backslash is left open")]
#[case("ROLLPROOF_CLIENT", "command:x", "a client by command is not available yet")]
#[case("ROLLPROOF_APISERVERS", "0", "it takes a number from 1 to 9")]
#[case("ROLLPROOF_APISERVERS", "10", "it takes a number from 1 to 9")]
#[case("ROLLPROOF_APISERVERS", "two", "it takes a number from 1 to 9")]
#[case("ROLLPROOF_KUBERNETES_VERSION", "latest", "it takes one such as v1.37.2")]
#[case("ROLLPROOF_KUBERNETES_VERSION", "1", "it takes one such as v1.37.2")]
#[case("ROLLPROOF_KUBERNETES_VERSION", "v1.37.2/../x", "it takes one such as v1.37.2")]
#[case("ROLLPROOF_REQUIRE", "server-log,all", "server-log is no need; it takes server-logs, ")]
#[case("ROLLPROOF_KEEP", "on", "it takes no, ")]
#[case("ROLLPROOF_KEEP", "\u{1b}[31m\n", r"ROLLPROOF_KEEP=\u{1b}[31m: it takes ")]
fn wrong_is_refused_and_told_what_is_right(#[case] name: &str, #[case] value: &str, #[case] says: &str) {
    let problems = problems(&[(name, value)]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains(says), "{problems:?}");
    assert!(!problems[0].contains(char::is_control), "{problems:?}");
}

#[test]
fn all_problems_come_in_one_error() {
    let error =
        parse(&[("ROLLPROOF_PROFILE", "x"), ("ROLLPROOF_KEEP", "1"), ("ROLLPROOF_APISERVERS", "x")]).unwrap_err();
    let text = error.to_string();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.starts_with("ROLLPROOF_APISERVERS=x: "), "in the order of names: {text}");
}

#[test]
fn what_is_not_utf8_is_refused_but_in_a_path() {
    let odd = || OsString::from_vec(b"a\xff\x07".to_vec());
    let config = Config::parse([(OsString::from("ROLLPROOF_REPORT_DIR"), odd())].into_iter()).unwrap();
    assert_eq!(config.report_dir, Some(PathBuf::from(odd())));

    let error = Config::parse([(OsString::from("ROLLPROOF_KEEP"), odd())].into_iter()).unwrap_err();
    assert_eq!(error.problems, ["ROLLPROOF_KEEP=a\u{fffd}\\u{7}: it is not UTF-8"]);

    let name = OsString::from_vec(b"ROLLPROOF_KEEP\xff".to_vec());
    let error = Config::parse([(name, OsString::from("1"))].into_iter()).unwrap_err();
    assert_eq!(error.problems, ["ROLLPROOF_KEEP\u{fffd} is no setting of rollproof; the nearest is ROLLPROOF_KEEP"]);
}

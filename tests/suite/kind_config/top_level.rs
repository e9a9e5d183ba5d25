//! kind-config.yaml, which is what a run with the control plane `kind` tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rollproof::lab::control_plane::audit;
use rollproof::lab::control_plane::kind::config::{KindConfig, kubeadm_config};
use rollproof::lab::provision::Version;
use rstest::rstest;
use serde_json::Value;

use super::{V1_34, V1_37, documents, place};

const TEXT: &str = include_str!("../../../kind-config.yaml");
const POLICY: &str = include_str!("../../../fixtures/kind/audit-policy.json");

fn apiserver(kubernetes: &Version) -> Value {
    let config = KindConfig::parse(TEXT).unwrap();
    let (_, cluster) = documents(&kubeadm_config(&config, &place(kubernetes, 2)).unwrap()).swap_remove(0);
    cluster["apiServer"].clone()
}

/// Arguments, whichever form the version has.
fn args(apiserver: &Value) -> BTreeMap<&str, &str> {
    let text = |value: &'_ Value| -> &'static str { Box::leak(value.as_str().unwrap().to_owned().into_boxed_str()) };
    match &apiserver["extraArgs"] {
        Value::Array(args) => args.iter().map(|arg| (text(&arg["name"]), text(&arg["value"]))).collect(),
        Value::Object(args) => args.iter().map(|(name, value)| (name.as_str(), text(value))).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn it_has_three_control_planes_and_nothing_that_is_not_supported() {
    let config = KindConfig::parse(TEXT).unwrap();
    assert_eq!((config.control_planes().count(), config.nodes.len()), (3, 3));
    assert_eq!(config.supported(), Ok(()));
}

#[rstest]
#[case::map_of_arguments(V1_34)]
#[case::list_of_arguments(V1_37)]
fn its_flags_reach_the_apiservers_of_every_version(#[case] kubernetes: Version) {
    let apiserver = apiserver(&kubernetes);
    let args = args(&apiserver);
    assert_eq!(args["v"], "1");
    assert_eq!(args["shutdown-send-retry-after"], "true");
    // What kind sets stays.
    assert_eq!(args["runtime-config"], "");
    let seconds = |flag: &str| args[flag].strip_suffix('s').unwrap().parse().map(Duration::from_secs).unwrap();
    let stop = seconds("shutdown-delay-duration") + seconds("shutdown-watch-termination-grace-period");
    // kubeadm's static pods have the default grace period of pods.
    assert!(stop < Duration::from_secs(30), "a kubelet would kill it: {stop:?}");
}

#[test]
fn the_audit_policy_is_the_suites_and_lies_where_the_flag_says() {
    assert_eq!(POLICY.trim(), audit::POLICY);
    let config = KindConfig::parse(TEXT).unwrap();
    let apiserver = apiserver(&V1_37);
    let args = args(&apiserver);
    let volumes = apiserver["extraVolumes"].as_array().unwrap();
    let mounted = |path: &str| {
        let volume = volumes.iter().find(|volume| volume["mountPath"] == path).expect("a volume");
        assert_eq!(volume["hostPath"], path);
        volume["name"].as_str().unwrap()
    };
    let policy = args["audit-policy-file"];
    mounted(policy);
    for node in &config.nodes {
        let mount = node.extra_mounts.iter().find(|mount| mount.container_path == policy).expect("a mount");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&mount.host_path).exists(), "{mount:?}");
        // Whatever the suite writes for apiservers stays in the node.
        assert!(mount.read_only && node.extra_mounts.len() == 1, "{:?}", node.extra_mounts);
    }
    let (folder, _) = args["audit-log-path"].rsplit_once('/').unwrap();
    assert_eq!(mounted(folder), "rollproof-logs");
}

#[test]
fn every_flag_says_why() {
    let mut explained = false;
    let flags = TEXT.lines().skip_while(|line| line.trim() != "extraArgs:").skip(1);
    for line in flags.take_while(|line| line.trim() != "extraVolumes:") {
        let comment = line.trim_start().starts_with('#');
        // The log's path goes with the policy above it.
        assert!(comment || explained || line.contains("audit-log-path"), "no comment above {line}");
        explained = comment;
    }
}

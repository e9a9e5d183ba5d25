//! kind's configuration: what is read, what is refused and how, and that the real kind is of the same opinion.

mod agreement;
mod cases;
mod rendering;
mod top_level;

use rollproof::lab::control_plane::kind::config::{KindConfig, NodePlace, Refusal, kubeadm_config};
use rollproof::lab::provision::Version;
use rstest::rstest;
use serde_json::Value;

use cases::{CASES, Outcome, STRICTER, file};

const V1_34: Version = Version { major: 1, minor: 34, patch: 4 };
const V1_37: Version = Version { major: 1, minor: 37, patch: 2 };

/// A node of a cluster `kind` on a host with cgroup v2.
fn place<'a>(kubernetes: &'a Version, index: usize) -> NodePlace<'a> {
    NodePlace {
        cluster: "kind",
        kubernetes,
        name: "kind-control-plane",
        index,
        address: [172, 30, 0, 2].into(),
        control_plane_endpoint: "kind-control-plane:6443",
        cgroup_v1: false,
        cert_sans: &[],
        patches: &[],
    }
}

fn parse(body: &str) -> KindConfig {
    KindConfig::parse(&file(body)).unwrap_or_else(|error| panic!("{body}\n{error:#}"))
}

/// The documents of a kubeadm.conf, by kind.
fn documents(text: &str) -> Vec<(String, Value)> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    all.into_iter().map(|document| (document["kind"].as_str().unwrap().to_owned(), document)).collect()
}

/// What this suite makes of a file.
fn outcome(body: &str) -> (Outcome, String) {
    let config = match KindConfig::parse(&file(body)) {
        Ok(config) => config,
        Err(error) => {
            assert!(matches!(error.downcast_ref(), Some(Refusal::Invalid(_))), "{error:#}");
            return (Outcome::Refused, format!("{error:#}"));
        }
    };
    let patches = match config.supported() {
        Err(error @ Refusal::Invalid(_)) => Err(error.into()),
        _ => (0..config.nodes.len()).try_for_each(|index| kubeadm_config(&config, &place(&V1_37, index)).map(drop)),
    };
    patches.map_or_else(|error| (Outcome::FailsLater, format!("{error:#}")), |()| (Outcome::Taken, String::new()))
}

#[test]
fn files_are_taken_and_refused_as_the_table_says() {
    assert!(CASES.len() >= 20);
    for (name, expected, body) in CASES {
        let (found, why) = outcome(body);
        assert_eq!(found, *expected, "{name}: {why}\n{body}");
    }
    for (name, body) in STRICTER {
        let (found, _) = outcome(body);
        assert_ne!(found, Outcome::Taken, "{name}:\n{body}");
    }
}

#[test]
fn a_file_without_anything_is_kinds_default_cluster() {
    let config = parse("");
    assert_eq!((config.name.as_str(), config.nodes.len(), config.control_planes().count()), ("kind", 1, 1));
    assert_eq!(config.networking.api_server_address, "127.0.0.1");
    assert_eq!(config.networking.pod_subnet, "10.244.0.0/16");
    assert_eq!(config.networking.service_subnet, "10.96.0.0/16");
    assert_eq!(config.supported(), Ok(()));
}

#[rstest]
#[case::ipv6("networking: {ipFamily: ipv6}", "networking.ipFamily ipv6")]
#[case::dual_stack("networking: {ipFamily: dual}", "networking.ipFamily dual")]
#[case::ipvs("networking: {kubeProxyMode: ipvs}", "networking.kubeProxyMode ipvs")]
#[case::nftables("networking: {kubeProxyMode: nftables}", "networking.kubeProxyMode nftables")]
#[case::dns_search("networking: {dnsSearch: [example.com]}", "networking.dnsSearch")]
#[case::published("networking: {apiServerAddress: 192.0.2.1}", "networking.apiServerAddress")]
#[case::another_loopback_address("networking: {apiServerAddress: 127.0.0.2}", "networking.apiServerAddress")]
#[case::relabelled("nodes: [{extraMounts: [{selinuxRelabel: true}]}]", "extraMounts.selinuxRelabel")]
#[case::documents("name: a\n---\nname: b\n", "a second document")]
#[case::a_patch_for_nothing(
    "kubeadmConfigPatches: ['kind: ClusterConfig']",
    r#"kubeadmConfigPatches[0]: kind "ClusterConfig""#
)]
#[case::a_patch_without_kind(
    "nodes: [{kubeadmConfigPatches: ['a: b']}]",
    r#"nodes[0].kubeadmConfigPatches[0]: kind """#
)]
fn what_this_suite_cannot_do_is_refused_by_name_and_not_as_invalid(#[case] body: &str, #[case] name: &str) {
    match parse(body).supported() {
        Err(Refusal::NotSupported(problems)) => {
            assert!(problems.iter().any(|problem| problem.starts_with(name)), "{problems:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::name("name: Kind", r#"name "Kind""#)]
#[case::unknown_field("nodes: [{roles: worker}]", "roles")]
#[case::duplicate_key("name: a\nname: b", "name")]
#[case::role("nodes: [{role: master}]", "master")]
#[case::no_control_plane("nodes: [{role: worker}]", "at least one control-plane")]
#[case::subnet("networking: {podSubnet: 10.0.0.0}", r#"networking.podSubnet "10.0.0.0" is no CIDR"#)]
#[case::family("networking: {serviceSubnet: 'fd00::/112'}", "of another family than ipFamily")]
#[case::port("nodes: [{}, {extraPortMappings: [{hostPort: 70000}]}]", "nodes[1]: hostPort 70000 is no port")]
#[case::address("nodes: [{extraPortMappings: [{hostPort: 1, listenAddress: here}]}]", r#"listenAddress "here""#)]
#[case::twice(
    "nodes: [{extraPortMappings: [{hostPort: 80}, {hostPort: 80}]}]",
    "hostPort 80 of 0.0.0.0 is mapped twice"
)]
#[case::version("apiVersion: kind.x-k8s.io/v1alpha3\nkind: Cluster", "it takes kind.x-k8s.io/v1alpha4")]
#[case::patch(
    "kubeadmConfigPatches: [b o g u s]",
    r#"kubeadmConfigPatches[0]: it is "b o g u s", which is no mapping"#
)]
#[case::operations(
    "nodes: [{kubeadmConfigPatchesJSON6902: [{kind: ClusterConfiguration, patch: '{}'}]}]",
    "nodes[0].kubeadmConfigPatchesJSON6902[0]"
)]
#[case::containerd("containerdConfigPatches: ['[a']", "containerdConfigPatches[0]")]
fn what_is_invalid_says_what_and_where(#[case] body: &str, #[case] says: &str) {
    let error = match KindConfig::parse(&file(body)) {
        Ok(config) => config.supported().expect_err(body),
        Err(error) => error.downcast().expect("a refusal"),
    };
    let text = error.to_string();
    assert!(matches!(error, Refusal::Invalid(_)) && text.contains(says) && text.lines().count() == 1, "{text}");
}

#[test]
fn all_problems_come_in_one_error() {
    let error = KindConfig::parse(&file("name: A\nnetworking: {podSubnet: a, apiServerPort: -7}")).unwrap_err();
    let Some(Refusal::Invalid(problems)) = error.downcast_ref() else { panic!("{error:#}") };
    assert_eq!(problems.len(), 3, "{problems:?}");
}

//! What clusters are told: names, labels, subnets, the balancer's configuration, the kubeconfig. No container is started.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use rollproof::lab::control_plane::kind::{
    Health, Role, balancer_configuration, choose_subnet, cni_objects, labels, names, renamed_kubeconfig,
};
use rstest::rstest;

fn nets(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|net| net.parse().unwrap()).collect()
}

#[rstest]
#[case::an_empty_machine("", "10.77.7.0/24")]
#[case::dockers_own_networks("172.17.0.0/16 192.168.0.0/20", "10.77.7.0/24")]
#[case::another_labs_cluster("10.77.8.0/24", "10.77.7.0/24")]
#[case::a_part_of_it_is_taken("10.77.7.128/25", "10.78.7.0/24")]
#[case::it_is_part_of_what_is_taken("10.76.0.0/15", "10.78.7.0/24")]
#[case::ipv6_is_another_world("fd00::/8 ::/0", "10.77.7.0/24")]
#[case::two_are_taken("10.77.0.0/16 10.78.0.0/16", "10.79.7.0/24")]
fn a_cluster_gets_a_subnet_that_nobody_has(#[case] taken: &str, #[case] chosen: &str) {
    assert_eq!(choose_subnet(7, &nets(taken)).unwrap().to_string(), chosen);
}

#[test]
fn without_a_free_subnet_the_error_says_what_is_in_the_way() {
    let error = choose_subnet(7, &nets("10.0.0.0/8")).unwrap_err().to_string();
    assert!(error.starts_with("no subnet is free for the cluster; tried"), "{error}");
    assert!(error.contains("10.77.7.0/24 (10.0.0.0/8)"), "{error}");
}

#[test]
fn labs_side_by_side_never_choose_the_same_subnet() {
    let mut chosen: Vec<_> = (1..=250).map(|lab| choose_subnet(lab, &[]).unwrap()).collect();
    chosen.dedup();
    assert_eq!(chosen.len(), 250);
}

#[test]
fn names_are_kinds() {
    use Role::{ControlPlane, LoadBalancer, Worker};
    let roles = [ControlPlane, Worker, ControlPlane, Worker, ControlPlane, LoadBalancer];
    let expected = ["control-plane", "worker", "control-plane2", "worker2", "control-plane3", "external-load-balancer"];
    assert_eq!(names("kp", &roles), expected.map(|name| format!("kp-{name}")));
}

#[test]
fn labels_say_whose_a_container_is() {
    let labels = labels("kp", Role::LoadBalancer, Path::new("/tmp/rollproof-0/lab-1"));
    let value = |name: &str| labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str());
    assert_eq!(value("io.x-k8s.kind.cluster"), Some("kp"));
    assert_eq!(value("io.x-k8s.kind.role"), Some("external-load-balancer"));
    assert_eq!(value("rollproof.lab"), Some("/tmp/rollproof-0/lab-1"));
    assert_eq!(labels.len(), 4, "and on which machine: {labels:?}");
}

#[rstest]
#[case("control-plane")]
#[case("worker")]
#[case("external-load-balancer")]
fn a_role_is_read_as_it_is_written(#[case] label: &str) {
    assert_eq!(label.parse::<Role>().unwrap().to_string(), label);
}

#[rstest]
#[case(Health::Readyz, "option httpchk GET /readyz")]
#[case(Health::Healthz, "option httpchk GET /healthz")]
fn the_balancer_in_the_cluster_asks_for_the_health_it_was_told(#[case] health: Health, #[case] line: &str) {
    let backends =
        ["10.77.1.2", "10.77.1.3"].map(|address| (format!("at-{address}"), address.parse::<IpAddr>().unwrap()));
    let text = balancer_configuration(&backends, health);
    assert_eq!(text.lines().filter(|it| it.trim() == line).count(), 1, "{text}");
    let servers: Vec<&str> = text.lines().filter(|line| line.trim().starts_with("server ")).collect();
    assert_eq!(servers.len(), 2);
    assert!(servers[1].contains("at-10.77.1.3 10.77.1.3:6443 check check-ssl"), "{text}");
    assert!(!text.contains("shutdown-sessions"), "a draining server's streams are its own to end");
}

const ADMIN: &str = "
apiVersion: v1
kind: Config
clusters: [{name: kp, cluster: {certificate-authority-data: Q0E=, server: 'https://10.77.1.2:6443'}}]
contexts: [{name: kubernetes-admin@kp, context: {cluster: kp, user: kubernetes-admin}}]
current-context: kubernetes-admin@kp
users: [{name: kubernetes-admin, user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}}]
";

#[test]
fn the_kubeconfig_has_kinds_names() {
    let config = renamed_kubeconfig(ADMIN, "kp", "127.0.0.1:40001").unwrap();
    let json = serde_json::to_value(&config).unwrap();
    for name in ["/current-context", "/clusters/0/name", "/users/0/name", "/contexts/0/name"] {
        assert_eq!(json.pointer(name).unwrap(), "kind-kp", "{name}");
    }
    assert_eq!(json.pointer("/contexts/0/context/user").unwrap(), "kind-kp");
    assert_eq!(json.pointer("/contexts/0/context/cluster").unwrap(), "kind-kp");
    assert_eq!(json.pointer("/clusters/0/cluster/server").unwrap(), "https://127.0.0.1:40001");
    assert_eq!(json.pointer("/clusters/0/cluster/certificate-authority-data").unwrap(), "Q0E=");
    assert_eq!(json.pointer("/users/0/user/client-key-data").unwrap(), "S0VZ");
}

#[test]
fn what_is_no_kubeconfig_of_one_user_is_refused() {
    let error = renamed_kubeconfig("clusters: []\n", "kp", "127.0.0.1:1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the cluster's admin.conf has [0, 0, 0] clusters, users and contexts, and not one each"
    );
}

const DAEMON_SET: &str = "
kind: DaemonSet
spec: {template: {spec: {containers: [{name: cni, env: [{name: A, value: '1'}]}]}}}
---
kind: ConfigMap
data: {pods: '{{ .PodSubnet }}'}
";

#[rstest]
#[case::nothing("", [1, 0])]
#[case::the_endpoint("# would you kindly patch this file\n", [2, 0])]
#[case::the_pods("# would you kindly template this file\n", [1, 1])]
fn a_manifest_is_filled_in_as_it_asks_for(#[case] asks: &str, #[case] filled: [usize; 2]) {
    let objects = cni_objects(&format!("{asks}{DAEMON_SET}"), "10.244.0.0/16", "10.77.1.5:6443").unwrap();
    let variables = objects[0].pointer("/spec/template/spec/containers/0/env").unwrap().as_array().unwrap();
    let told = objects[1].pointer("/data/pods").unwrap() == "10.244.0.0/16";
    assert_eq!([variables.len(), usize::from(told)], filled);
    assert!(
        variables.iter().skip(1).all(|it| it["name"] == "CONTROL_PLANE_ENDPOINT" && it["value"] == "10.77.1.5:6443")
    );
}

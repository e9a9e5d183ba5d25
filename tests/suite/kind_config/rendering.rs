//! kubeadm.conf and containerd's configuration. That they are kind's is for `agreement`; this is what kind does not know,
//! and a look at each part.

use rollproof::lab::control_plane::kind::config::{NodePlace, containerd_config, kubeadm_config};
use rollproof::lab::provision::Version;
use rstest::rstest;
use serde_json::{Value, json};

use super::{V1_34, V1_37, documents, parse, place};

/// One document of a rendered kubeadm.conf.
fn document(body: &str, place: &NodePlace<'_>, kind: &str) -> Value {
    let text = kubeadm_config(&parse(body), place).unwrap_or_else(|error| panic!("{error:#}"));
    documents(&text).into_iter().find(|(it, _)| it == kind).unwrap_or_else(|| panic!("no {kind} in {text}")).1
}

#[test]
fn a_kubeadm_conf_has_the_documents_of_its_version() {
    let kinds = |version: &Version, body: &str| -> Vec<String> {
        let documents = documents(&kubeadm_config(&parse(body), &place(version, 0)).unwrap());
        let name = |document: &Value| format!("{}/{}", document["apiVersion"], document["kind"]).replace('"', "");
        documents.iter().map(|(_, document)| name(document)).collect()
    };
    let others = [
        "kubelet.config.k8s.io/v1beta1/KubeletConfiguration",
        "kubeproxy.config.k8s.io/v1alpha1/KubeProxyConfiguration",
    ];
    for (version, api) in [(V1_34, "v1beta3"), (Version { minor: 36, ..V1_37 }, "v1beta4"), (V1_37, "v1beta4")] {
        let kubeadm = ["ClusterConfiguration", "InitConfiguration", "JoinConfiguration"];
        let kubeadm = kubeadm.map(|kind| format!("kubeadm.k8s.io/{api}/{kind}"));
        assert_eq!(kinds(&version, ""), [&kubeadm[..], &others.map(str::to_owned)].concat());
        assert_eq!(kinds(&version, "networking: {kubeProxyMode: none}").len(), 4);
    }
}

#[test]
fn a_kubernetes_before_v1beta3_is_refused() {
    let old = Version { major: 1, minor: 22, patch: 0 };
    let error = kubeadm_config(&parse(""), &place(&old, 0)).unwrap_err();
    assert!(error.to_string().contains("kubeadm v1.22.0 is too old"), "{error:#}");
}

#[test]
fn workers_join_and_are_no_control_plane() {
    let body = "nodes: [{}, {role: worker, labels: {b: '1', a: '2'}}]";
    let join = |index| document(body, &place(&V1_37, index), "JoinConfiguration");
    assert!(join(1).get("controlPlane").is_none());
    assert_eq!(join(0)["controlPlane"]["localAPIEndpoint"]["advertiseAddress"], "172.30.0.2");
    let args = join(1)["nodeRegistration"]["kubeletExtraArgs"].clone();
    assert_eq!(args[2], json!({"name": "node-labels", "value": "a=2,b=1"}));
}

#[rstest]
#[case::old_enough(V1_34, true, None)]
#[case::too_new(V1_37, true, Some(false))]
#[case::first_to_refuse(Version { minor: 35, ..V1_34 }, true, Some(false))]
#[case::cgroup_v2(V1_37, false, None)]
fn kubelets_that_refuse_cgroup_v1_are_told_to_take_it(
    #[case] kubernetes: Version,
    #[case] cgroup_v1: bool,
    #[case] told: Option<bool>,
) {
    let place = NodePlace { cgroup_v1, ..place(&kubernetes, 0) };
    let kubelet = document("", &place, "KubeletConfiguration");
    assert_eq!(kubelet.get("failCgroupV1").and_then(Value::as_bool), told);
    let patched = document(
        "kubeadmConfigPatches: ['{kind: KubeletConfiguration, failCgroupV1: true}']",
        &place,
        "KubeletConfiguration",
    );
    assert_eq!(patched["failCgroupV1"], true, "a file's patch has the last word");
}

#[test]
fn the_suites_patches_come_first_and_its_names_join_the_certificate() {
    let (patches, cert_sans) = (
        ["{kind: KubeletConfiguration, maxPods: 1, fileCheckFrequency: 1s}".to_owned()],
        ["balancer".to_owned(), "172.30.0.9".to_owned()],
    );
    let place = NodePlace { patches: &patches, cert_sans: &cert_sans, ..place(&V1_34, 0) };
    let body = "kubeadmConfigPatches: ['{kind: KubeletConfiguration, maxPods: 2}']";
    let kubelet = document(body, &place, "KubeletConfiguration");
    assert_eq!((&kubelet["maxPods"], &kubelet["fileCheckFrequency"]), (&json!(2), &json!("1s")));
    let cluster = document(body, &place, "ClusterConfiguration");
    assert_eq!(cluster["apiServer"]["certSANs"], json!(["localhost", "127.0.0.1", "balancer", "172.30.0.9"]));
}

#[rstest]
#[case::boolean("no")]
#[case::number("0755")]
#[case::float("1e3")]
#[case::sexagesimal("12:30:45")]
#[case::date("2001-02-03")]
#[case::null("~")]
#[case::empty("")]
#[case::lines("a\nb\n")]
#[case::quotes("it's \"so\" # {x}: \\ \t")]
#[case::separator("a\n---\nb")]
fn a_string_stays_one_whoever_reads_it(#[case] value: &str) {
    let patch = json!({"kind": "KubeletConfiguration", "a": value, value: "key"}).to_string();
    let body = format!("kubeadmConfigPatches: [{}]", json!(patch));
    let text = kubeadm_config(&parse(&body), &place(&V1_37, 0)).unwrap();
    // kubeadm splits the file at such lines, whatever they are in.
    assert_eq!(text.split("\n---\n").count(), 5, "{text}");
    let (_, kubelet) = documents(&text).swap_remove(3);
    assert_eq!((&kubelet["a"], &kubelet[value]), (&json!(value), &json!("key")), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("a: ")).expect("a line of its own");
    assert!(line.starts_with(['"', '\'']), "{line}");
}

#[test]
fn containerds_configuration_is_left_alone_where_nothing_patches_it() {
    let base = "version = 2\n# as it came\n";
    assert_eq!(containerd_config(&parse(""), base).unwrap(), base);
    let error = containerd_config(&parse("containerdConfigPatches: ['a = 1']"), "b = 2").unwrap_err();
    assert!(error.to_string().contains("has no version"), "{error:#}");
}

#[test]
fn an_error_of_a_patch_names_its_place() {
    let body = "nodes: [{}, {kubeadmConfigPatchesJSON6902: [{kind: KubeletConfiguration, patch: '[{op: remove, path: /a}]'}]}]";
    assert!(kubeadm_config(&parse(body), &place(&V1_37, 0)).is_ok());
    let error = format!("{:#}", kubeadm_config(&parse(body), &place(&V1_37, 1)).unwrap_err());
    assert!(error.starts_with("nodes[1]: kubeadmConfigPatchesJSON6902[0]: "), "{error}");
}

//! What is read from nodes, and written to them, about static pods.

use std::time::Duration;

use rollproof::lab::control_plane::Flags;
use rollproof::lab::control_plane::static_pod::containerd::{Seen, running, seen, status};
use rollproof::lab::control_plane::static_pod::journal::stopping;
use rollproof::lab::control_plane::static_pod::manifest::Manifest;
use rollproof::timeline::Moment;
use rstest::rstest;

/// As kubeadm writes it, shortened.
const KUBEADM: &str = "
apiVersion: v1
kind: Pod
metadata:
  labels: {component: kube-apiserver}
  name: kube-apiserver
  namespace: kube-system
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=10.77.1.2
    - --shutdown-delay-duration=10s
    image: registry.k8s.io/kube-apiserver:v1.37.2
    name: kube-apiserver
    volumeMounts:
    - {mountPath: /etc/kubernetes/pki, name: k8s-certs, readOnly: true}
  hostNetwork: true
  volumes:
  - {hostPath: {path: /etc/kubernetes/pki, type: DirectoryOrCreate}, name: k8s-certs}
";

fn manifest() -> Manifest {
    Manifest::parse(KUBEADM).unwrap()
}

fn flags(given: &[(&str, &str)]) -> Flags {
    let mut flags = Flags::default();
    given.iter().for_each(|(name, value)| flags.set(name, *value));
    flags
}

#[test]
fn flags_are_changed_in_place_and_others_added() {
    let mut changed = manifest();
    changed.set_flags(&flags(&[("shutdown-delay-duration", "0s"), ("v", "1")]));
    assert_eq!(changed.flags(), ["--advertise-address=10.77.1.2", "--shutdown-delay-duration=0s", "--v=1"]);
    assert_eq!(changed.flag("shutdown-delay-duration").as_deref(), Some("0s"));
    assert_eq!(changed.flag("shutdown-delay"), None, "no flag is taken for the beginning of its name");
    assert!(!changed.runs_as(&manifest()));
}

#[test]
fn a_mount_is_known_by_both_of_its_ends() {
    let mut changed = manifest();
    assert!(changed.mounts("/etc/kubernetes/pki") && !changed.mounts("/var/log/audit"));
    changed.mount("audit", "/var/log/audit", true);
    assert!(changed.mounts("/var/log/audit"));
    let elsewhere = KUBEADM.replace("{path: /etc/kubernetes/pki", "{path: /elsewhere");
    assert!(!Manifest::parse(&elsewhere).unwrap().mounts("/etc/kubernetes/pki"));
}

#[test]
fn what_is_written_is_read_again() {
    let mut changed = manifest();
    changed.mount("audit", "/var/log/audit", true);
    changed.set_grace_period(Some(Duration::from_millis(1300)));
    assert_eq!(Manifest::parse(&changed.text()).unwrap(), changed);
    assert!(changed.text().contains("\"terminationGracePeriodSeconds\": 2"), "a kubelet counts whole seconds");
    let once = changed.clone();
    changed.mount("audit", "/var/log/audit", true);
    assert_eq!(changed, once, "what is mounted is not mounted twice");
}

#[test]
fn a_roll_changes_the_pod_and_not_what_it_runs() {
    let mut rolled = manifest();
    rolled.roll("first");
    let once = rolled.clone();
    rolled.roll("second");
    assert_ne!(rolled, once);
    assert!(rolled.runs_as(&once) && rolled.runs_as(&manifest()));
}

#[test]
fn an_image_is_known_by_its_name() {
    assert_eq!(manifest().image().unwrap(), "registry.k8s.io/kube-apiserver:v1.37.2");
    let without = Manifest::parse(&KUBEADM.replace("    image:", "    # image:")).unwrap();
    assert_eq!(without.image().unwrap_err().to_string(), "the manifest has no spec.containers[0].image");
}

#[test]
fn what_is_no_manifest_is_one_clear_error() {
    for (text, expected) in [
        ("kind: Pod", "the manifest has no spec.containers[0].command"),
        ("a: [", "the manifest is no YAML"),
        ("spec: {containers: []}", "the manifest has no spec.containers[0].command"),
    ] {
        assert_eq!(Manifest::parse(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn containerds_events_are_read() {
    let line = |topic: &str, event: &str| format!("2026-11-23 00:50:02.1 +0000 UTC k8s.io {topic} {event}");
    let created =
        line("/containers/create", r#"{"id":"4f","image":"registry.k8s.io/kube-apiserver:v1.37.2","runtime":{}}"#);
    let image = "registry.k8s.io/kube-apiserver:v1.37.2".to_owned();
    assert_eq!(seen(&created), Some(Seen::Created { id: "4f".into(), image }));
    let started = line("/tasks/start", r#"{"container_id":"4f","pid":812}"#);
    assert_eq!(seen(&started), Some(Seen::Started { id: "4f".into(), pid: 812 }));
    let exited =
        |id: &str| line("/tasks/exit", &format!(r#"{{"container_id":"4f","id":"{id}","pid":812,"exit_status":137}}"#));
    assert_eq!(seen(&exited("4f")), Some(Seen::Exited { id: "4f".into(), status: 137 }));
    assert_eq!(seen(&exited("an-exec")), None, "the end of an exec is not the container's");
    // protobuf leaves a zero out.
    let well = line("/tasks/exit", r#"{"container_id":"4f","id":"4f","pid":812}"#);
    assert_eq!(seen(&well), Some(Seen::Exited { id: "4f".into(), status: 0 }));
    for other in ["", "/", "nothing of it", &line("/images/create", "{}"), &line("/tasks/start", "{")] {
        assert_eq!(seen(other), None, "{other}");
    }
    assert_eq!([0, 1, 137, 143].map(status), ["exit code 0", "exit code 1", "signal 9", "signal 15"]);
    assert_eq!(running("4f    812    RUNNING\n"), Some(("4f".to_owned(), 812)));
    assert_eq!(running(""), None);
}

/// The second is how late journald was; a day ends between two of them.
#[rstest]
#[case::at_once("23:59:59.900000", "2026-11-23T23:59:59.9Z", 4_711_000)]
#[case::late("04:14:03.630395", "2026-11-26T04:14:03.710395Z", 4_631_000)]
#[case::over_midnight("23:59:59.950000", "2026-11-24T00:00:00.03Z", 4_631_000)]
#[case::in_another_time_zone("05:14:03.630395", "2026-11-26T04:14:03.710395Z", 4_711_000)]
fn the_kubelets_sigterm_has_the_journals_clock_and_the_kubelets_time(
    #[case] written: &str,
    #[case] reached: jiff::Timestamp,
    #[case] at_us: u64,
) {
    let line = |text: &str| {
        let message = format!("I1123 {written}     551 kuberuntime_container.go:912] {text}");
        let realtime = reached.as_microsecond().to_string();
        serde_json::json!({"MESSAGE": message, "__MONOTONIC_TIMESTAMP": "4711000", "__REALTIME_TIMESTAMP": realtime})
            .to_string()
    };
    let killing = r#""Killing container with a grace period" pod="kube-system/kube-apiserver-a" containerName="kube-apiserver" containerID="containerd://4f" gracePeriod=30"#;
    assert_eq!(stopping(&line(killing)), Some((Moment(at_us * 1000), "by the kubelet, grace period 30 s".to_owned())));
    assert_eq!(stopping(&line(&killing.replace("=\"kube-apiserver\"", "=\"etcd\""))), None);
    assert_eq!(stopping(&line("\"SyncLoop REMOVE\"")), None);
    assert_eq!(stopping("no JSON"), None);
}

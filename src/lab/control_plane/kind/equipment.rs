//! What our observations need of the kube-apiservers of a cluster: an audit log, lifecycle signals, a bearer token, and a grace
//! period. kubeadm is given it when the cluster is made; else the first scenario would have to restart them all for it.

use std::time::Duration;

use serde_json::{Value, json};

use super::shared::Plan;
use crate::lab::control_plane::{Flags, audit, pki};

/// The folders of a node that its kube-apiserver needs for our observations: what it reads, and what it writes.
pub(in crate::lab::control_plane) const CONFIGURATION: &str = "/etc/kubernetes/rollproof-lab";
pub(in crate::lab::control_plane) const LOGS: &str = "/var/log/rollproof-lab";

/// As what they are mounted.
pub(in crate::lab::control_plane) const MOUNTS: [(&str, &str, bool); 2] =
    [("rollproof-lab", CONFIGURATION, false), ("rollproof-lab-logs", LOGS, true)];

/// Whom the bearer token stands for.
pub(in crate::lab::control_plane) const USER: (&str, &str) = ("rollproof-admin", "system:masters");

/// Where kubeadm looks for patches to the manifests that it writes.
const PATCHES: &str = "/kind/rollproof-patches";

/// A file of a control plane.
#[derive(Clone, Debug)]
pub struct File {
    /// Where.
    pub path: String,
    /// It may hold a secret, so that nobody else reads it: mode 0600.
    pub content: String,
}

/// Flags without which a kube-apiserver would not tell us what we have to know.
pub(in crate::lab::control_plane) fn flags() -> Flags {
    let mut flags = Flags::default();
    // Lifecycle signals are logged from here on.
    flags.set("v", "1");
    flags.set("audit-policy-file", format!("{CONFIGURATION}/audit-policy.json"));
    flags.set("audit-log-path", format!("{LOGS}/audit.log"));
    // Rotation would drop what a recording is joined with. MiB.
    flags.set("audit-log-maxsize", "100000");
    flags.set("token-auth-file", format!("{CONFIGURATION}/tokens.csv"));
    flags
}

/// The file of bearer tokens, with one.
pub(in crate::lab::control_plane) fn tokens(token: &str) -> File {
    let (user, group) = USER;
    File { path: format!("{CONFIGURATION}/tokens.csv"), content: format!("{token},{user},{user},{group}\n") }
}

/// The audit policy.
pub(in crate::lab::control_plane) fn audit_policy() -> File {
    File { path: format!("{CONFIGURATION}/audit-policy.json"), content: audit::POLICY.to_owned() }
}

/// `kubeadmConfigPatches` that make kubeadm read [`files`].
pub(super) fn patches() -> Vec<String> {
    let patches = |kind: &str| json!({"kind": kind, "patches": {"directory": PATCHES}}).to_string();
    ["InitConfiguration", "JoinConfiguration"].map(patches).into()
}

/// What control planes are to have before kubeadm runs on them. Flags that the plan sets itself are left to it.
///
/// # Errors
/// The plan cannot be rendered, or there is no randomness for a token.
pub(super) fn files(plan: &Plan, grace: Duration) -> anyhow::Result<Vec<File>> {
    let mut operations = vec![add("/spec/terminationGracePeriodSeconds", json!(grace.as_millis().div_ceil(1000)))];
    for (name, folder, writable) in MOUNTS {
        let volume = json!({"name": name, "hostPath": {"path": folder, "type": "DirectoryOrCreate"}});
        operations.push(add("/spec/volumes/-", volume));
        let mount = json!({"name": name, "mountPath": folder, "readOnly": !writable});
        operations.push(add("/spec/containers/0/volumeMounts/-", mount));
    }
    for (name, value) in flags().iter() {
        if plan.flag(name)?.is_none() {
            operations.push(add("/spec/containers/0/command/-", json!(format!("--{name}={value}"))));
        }
    }
    let patch = File {
        // kubeadm takes from the name what it is for.
        path: format!("{PATCHES}/kube-apiserver+json.json"),
        content: Value::Array(operations).to_string(),
    };
    Ok(vec![patch, audit_policy(), tokens(&pki::random_token()?)])
}

fn add(path: &str, value: Value) -> Value {
    json!({"op": "add", "path": path, "value": value})
}

//! A pod that sessions lead into, on a node. It needs no image of its own: any that is there will do, since what runs in it are the node's
//! own programs.

use serde_json::{Value, json};

use super::node::Node;
use crate::lab::control_plane::pod::Pod;
use crate::timing;

/// Programs, and the libraries that they load. One that a node does not have is an empty folder to the pod.
const FOLDERS: [&str; 4] = ["/bin", "/lib", "/lib64", "/usr"];

/// The echo protocol's (RFC 862).
const ECHO: u16 = 7;

/// A pod on this node, of an image that is there.
pub(in crate::lab::control_plane) fn pod(node: &Node, image: &str) -> Pod {
    let beats = format!(
        "socat TCP-LISTEN:{ECHO},fork,reuseaddr PIPE & while echo heartbeat $((beat += 1)); do sleep {}; done",
        timing::HEARTBEAT_EVERY.as_secs_f64()
    );
    let name = |folder: &str| folder.trim_start_matches('/').to_owned();
    let volume = |folder: &str| json!({"name": name(folder), "hostPath": {"path": folder}});
    let mount = |folder: &str| json!({"name": name(folder), "mountPath": folder, "readOnly": true});
    let container = json!({
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", beats],
        "volumeMounts": FOLDERS.map(mount),
    });
    let spec: Value = json!({
        "nodeName": node.name,
        "tolerations": [{"operator": "Exists"}],
        // The next scenario waits for its end.
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": FOLDERS.map(volume),
    });
    Pod::new(&["cat"], ECHO, spec)
}

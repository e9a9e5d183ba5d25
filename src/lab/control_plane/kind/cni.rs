//! The network of pods: the manifest that the node image brings, as kind applies it.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::node::Node;

/// Where kind's images, and ours, have it.
const MANIFEST: &str = "/kind/manifests/default-cni.yaml";

/// Applies the manifest of the first control plane's image.
///
/// # Errors
/// There is none, it is no YAML, or the API does not take it.
pub(super) async fn apply(first: &Node, pods: &str, endpoint: SocketAddr) -> anyhow::Result<()> {
    let objects = objects(&first.read(MANIFEST).await?, pods, &endpoint.to_string())
        .with_context(|| format!("{MANIFEST} of {first}"))?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    first.run(&["kubectl", "create", "--filename", "-"], list.as_bytes()).await.map(drop)
}

/// A manifest's objects, filled in as it asks for: the range of all pods, and in its DaemonSet where the apiservers are, so that it
/// need not wait for kube-proxy.
///
/// Source: kind v0.33.0, `pkg/cluster/internal/create/actions/installcni`.
///
/// # Errors
/// It is no YAML.
pub fn objects(manifest: &str, pods: &str, endpoint: &str) -> anyhow::Result<Vec<Value>> {
    let asks = |what: &str| manifest.contains(&format!("would you kindly {what} this file"));
    let text = match asks("template") {
        // The only value that kind has for the Go template.
        true => manifest.replace("{{ .PodSubnet }}", pods).replace("{{.PodSubnet}}", pods),
        false => manifest.to_owned(),
    };
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    objects.retain(|object| !object.is_null());
    if asks("patch") {
        for object in objects.iter_mut().filter(|object| object["kind"] == "DaemonSet") {
            if let Some(Value::Array(variables)) = object.pointer_mut("/spec/template/spec/containers/0/env") {
                variables.push(json!({"name": "CONTROL_PLANE_ENDPOINT", "value": endpoint}));
            }
        }
    }
    Ok(objects)
}

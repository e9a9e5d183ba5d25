//! Whom a gateway knows of: endpoint discovery (EDS), as Istio's gateways have it, by a file.
//!
//! Envoy reads the file anew when another is moved to its place (`path_config_source`).

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::lab::balancer::Backend;
use crate::lab::control_plane::pki;

/// The one set of endpoints, which is every lane's.
const NAME: &str = "apiservers";

/// Has a cluster learn its endpoints from the file in that folder.
pub(super) fn subscribe(cluster: &mut Value, folder: &Path) {
    cluster["type"] = json!("EDS");
    cluster["eds_cluster_config"] = json!({
        "service_name": NAME,
        "eds_config": {"resource_api_version": "V3", "path_config_source": {"path": file(folder)}},
    });
    if let Some(cluster) = cluster.as_object_mut() {
        cluster.remove("load_assignment");
    }
}

/// Says in that file that these are all there are.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(folder: &Path, backends: &[Backend]) -> anyhow::Result<()> {
    let endpoint = |it: &Backend| {
        let (address, port) = (it.address.ip().to_string(), it.address.port());
        json!({"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}})
    };
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": NAME,
        "endpoints": [{"lb_endpoints": backends.iter().map(endpoint).collect::<Vec<_>>()}],
    });
    let (file, new) = (file(folder), folder.join("endpoints.new"));
    pki::write_private(&new, &json!({"resources": [resource]}).to_string())?;
    std::fs::rename(&new, &file).with_context(|| format!("cannot move {} to its place", file.display()))
}

/// Whether that file is there.
pub(super) fn are_told(folder: &Path) -> bool {
    file(folder).exists()
}

fn file(folder: &Path) -> PathBuf {
    folder.join("endpoints.json")
}

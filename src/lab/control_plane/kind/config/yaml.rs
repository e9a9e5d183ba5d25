//! The file's form: YAML to data, and kind's defaults.
//!
//! By serde-saphyr, which kube uses, too: it is strict about duplicate keys, knows anchors and merge keys, as Go's
//! parser does, and is maintained (serde_yaml is not). A null is a field that is not there, as in Go.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{IpFamily, KindConfig, KubeadmPatches, Mount, PatchJson6902, PortMapping, ProxyMode, Role};

const API_VERSION: &str = "kind.x-k8s.io/v1alpha4";

/// What is read first: which fields are right depends on it.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Header {
    #[serde(deserialize_with = "or_default")]
    kind: String,
    #[serde(deserialize_with = "or_default")]
    api_version: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Cluster {
    #[serde(rename = "kind")]
    _kind: serde::de::IgnoredAny,
    #[serde(rename = "apiVersion")]
    _api_version: serde::de::IgnoredAny,
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    nodes: Vec<super::Node>,
    #[serde(deserialize_with = "or_default")]
    networking: Networking,
    #[serde(deserialize_with = "truths")]
    feature_gates: BTreeMap<String, bool>,
    #[serde(deserialize_with = "or_default")]
    runtime_config: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    kubeadm_config_patches: Vec<String>,
    #[serde(rename = "kubeadmConfigPatchesJSON6902", deserialize_with = "or_default")]
    kubeadm_config_patches_json6902: Vec<PatchJson6902>,
    #[serde(deserialize_with = "or_default")]
    containerd_config_patches: Vec<String>,
    #[serde(rename = "containerdConfigPatchesJSON6902", deserialize_with = "or_default")]
    containerd_config_patches_json6902: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    #[serde(deserialize_with = "or_default")]
    role: Role,
    #[serde(deserialize_with = "or_default")]
    image: String,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    extra_mounts: Vec<Mount>,
    #[serde(deserialize_with = "or_default")]
    extra_port_mappings: Vec<PortMapping>,
    #[serde(deserialize_with = "or_default")]
    kubeadm_config_patches: Vec<String>,
    #[serde(rename = "kubeadmConfigPatchesJSON6902", deserialize_with = "or_default")]
    kubeadm_config_patches_json6902: Vec<PatchJson6902>,
}

impl From<Node> for super::Node {
    fn from(node: Node) -> Self {
        let Node { role, image, labels, extra_mounts, extra_port_mappings, .. } = node;
        let patches =
            KubeadmPatches { merge: node.kubeadm_config_patches, json6902: node.kubeadm_config_patches_json6902 };
        Self { role, image, labels, extra_mounts, extra_port_mappings, patches }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Networking {
    #[serde(deserialize_with = "or_default")]
    ip_family: IpFamily,
    #[serde(deserialize_with = "number")]
    api_server_port: i32,
    #[serde(deserialize_with = "or_default")]
    api_server_address: String,
    #[serde(deserialize_with = "or_default")]
    pod_subnet: String,
    #[serde(deserialize_with = "or_default")]
    service_subnet: String,
    #[serde(rename = "disableDefaultCNI", deserialize_with = "truth")]
    disable_default_cni: bool,
    #[serde(deserialize_with = "or_default")]
    kube_proxy_mode: ProxyMode,
    #[serde(rename = "dnsSearch")]
    dns_search: Option<Vec<String>>,
}

impl From<Networking> for super::Networking {
    /// With kind's defaults (`SetDefaultsCluster`).
    fn from(networking: Networking) -> Self {
        let Networking { ip_family, api_server_port, disable_default_cni, kube_proxy_mode, dns_search, .. } =
            networking;
        let or = |given: String, v4: &str, v6: &str, dual: &str| match ip_family {
            _ if !given.is_empty() => given,
            IpFamily::Ipv4 => v4.to_owned(),
            IpFamily::Ipv6 => v6.to_owned(),
            IpFamily::Dual => dual.to_owned(),
        };
        Self {
            ip_family,
            api_server_port,
            api_server_address: or(networking.api_server_address, "127.0.0.1", "::1", "127.0.0.1"),
            pod_subnet: or(
                networking.pod_subnet,
                "10.244.0.0/16",
                "fd00:10:244::/56",
                "10.244.0.0/16,fd00:10:244::/56",
            ),
            service_subnet: or(
                networking.service_subnet,
                "10.96.0.0/16",
                "fd00:10:96::/112",
                "10.96.0.0/16,fd00:10:96::/112",
            ),
            disable_default_cni,
            kube_proxy_mode,
            dns_search,
        }
    }
}

/// Reads the first document, as kind does. What is wrong with it is said in one line.
pub(super) fn read(text: &str) -> Result<KindConfig, String> {
    let (header, _) = first::<Header>(text)?;
    if header.api_version != API_VERSION {
        return Err(format!("apiVersion is {:?}; it takes {API_VERSION}", header.api_version));
    }
    if header.kind != "Cluster" {
        return Err(format!("kind is {:?}; {API_VERSION} has Cluster", header.kind));
    }
    let (cluster, further_documents) = first::<Cluster>(text)?;
    Ok(KindConfig {
        name: Some(cluster.name).filter(|name| !name.is_empty()).unwrap_or_else(|| "kind".to_owned()),
        nodes: if cluster.nodes.is_empty() { vec![super::Node::default()] } else { cluster.nodes },
        networking: cluster.networking.into(),
        feature_gates: cluster.feature_gates,
        runtime_config: cluster.runtime_config,
        patches: KubeadmPatches {
            merge: cluster.kubeadm_config_patches,
            json6902: cluster.kubeadm_config_patches_json6902,
        },
        containerd_config_patches: cluster.containerd_config_patches,
        containerd_config_patches_json6902: cluster.containerd_config_patches_json6902,
        further_documents,
    })
}

/// The first document, and whether there is another.
fn first<T: serde::de::DeserializeOwned + Default>(text: &str) -> Result<(T, bool), String> {
    let mut bytes = text.as_bytes();
    let options = serde_saphyr::options! { strict_booleans: true };
    let mut documents = serde_saphyr::read_with_options::<_, T>(&mut bytes, options);
    let first = documents.next().unwrap_or_else(|| Ok(T::default())).map_err(|error| one_line(&error))?;
    Ok((first, documents.next().is_some()))
}

/// What the parser says; it draws the place on further lines.
pub(super) fn one_line(error: &serde_saphyr::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// A null, as a field that is not there.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A whole number that is not in quotes: kind knows the difference.
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    let value = Value::deserialize(from)?;
    let number = if value.is_null() { Some(0) } else { value.as_i64() };
    let number = number.and_then(|number| number.try_into().ok());
    number.ok_or_else(|| serde::de::Error::custom(format!("{value} is no whole number of 32 bits")))
}

/// A boolean: `true` or `false`, which are words when they are in quotes, or one of YAML 1.1's, which Go takes either way.
pub(super) fn truth<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    boolean(Value::deserialize(from)?)
}

fn truths<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, bool>, D::Error> {
    let values: BTreeMap<String, Value> = or_default(from)?;
    values.into_iter().map(|(name, value)| Ok((name, boolean(value)?))).collect()
}

fn boolean<E: serde::de::Error>(value: Value) -> Result<bool, E> {
    match (&value, value.as_str().unwrap_or_default()) {
        (Value::Null, _) | (_, "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => Ok(false),
        (_, "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => Ok(true),
        (Value::Bool(value), _) => Ok(*value),
        _ => Err(E::custom(format!("{value} is no boolean"))),
    }
}

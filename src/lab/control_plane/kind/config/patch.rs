//! Patches, as kind applies them (`pkg/internal/patch`): not by kustomize any more, and not strategic. A merge patch is RFC 7386,
//! so it replaces lists as a whole, but for the two that nobody wants replaced: `extraArgs` and `certSANs`.

use anyhow::{Context as _, anyhow, bail};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::{KindConfig, KubeadmPatches};

/// The documents of a kubeadm.conf.
pub(super) const DOCUMENTS: [&str; 5] = [
    "ClusterConfiguration",
    "InitConfiguration",
    "JoinConfiguration",
    "KubeletConfiguration",
    "KubeProxyConfiguration",
];

/// One document of a kubeadm.conf.
pub(super) struct Document {
    api_version: String,
    pub(super) kind: String,
    pub(super) body: Map<String, Value>,
}

impl Document {
    /// Of a body without `apiVersion` and `kind`.
    pub(super) fn new(api_version: &str, kind: &str, body: Value) -> Self {
        let mut fields = Map::from_iter([
            ("apiVersion".to_owned(), json!(api_version)),
            ("kind".to_owned(), json!(kind)),
            ("metadata".to_owned(), json!({"name": "config"})),
        ]);
        if let Value::Object(body) = body {
            fields.extend(body);
        }
        Self { api_version: api_version.to_owned(), kind: kind.to_owned(), body: fields }
    }

    /// A patch without `apiVersion` is for every one. So patches outlive versions of kubeadm's API.
    fn is(&self, api_version: &str, kind: &str) -> bool {
        self.kind == kind && (api_version.is_empty() || self.api_version == api_version)
    }
}

/// A merge patch that was read.
struct Merge {
    place: String,
    api_version: String,
    kind: String,
    body: Map<String, Value>,
}

/// RFC 6902 operations that were read.
struct Operations {
    place: String,
    api_version: String,
    kind: String,
    operations: json_patch::Patch,
}

/// Applies a level's patches to each document that they are for: merges, then operations.
///
/// # Errors
/// A patch cannot be read or applied; which.
pub(super) fn apply(patches: &KubeadmPatches, documents: &mut [Document]) -> anyhow::Result<()> {
    let (merges, operations) = (merges(patches)?, operations(patches)?);
    for document in documents {
        for Merge { place, api_version, kind, body } in &merges {
            if document.is(api_version, kind) {
                let mut rest = body.clone();
                let lists_of_args = document.api_version.ends_with("/v1beta4");
                join_lists(&mut document.body, &mut rest, lists_of_args, !api_version.is_empty())
                    .context(place.clone())?;
                let mut whole = Value::Object(std::mem::take(&mut document.body));
                json_patch::merge(&mut whole, &Value::Object(rest));
                document.body = fields(whole).context(place.clone())?;
            }
        }
        for Operations { place, api_version, kind, operations } in &operations {
            if document.is(api_version, kind) {
                let mut whole = Value::Object(document.body.clone());
                json_patch::patch(&mut whole, operations).context(place.clone())?;
                document.body = fields(whole).context(place.clone())?;
            }
        }
    }
    Ok(())
}

/// Where each patch is in the file, and for which kind of document.
///
/// # Errors
/// One cannot be read.
pub(super) fn targets(patches: &KubeadmPatches) -> anyhow::Result<Vec<(String, String)>> {
    let merges = merges(patches)?.into_iter().map(|merge| (merge.place, merge.kind));
    let operations = operations(patches)?.into_iter().map(|patch| (patch.place, patch.kind));
    Ok(merges.chain(operations).collect())
}

fn merges(patches: &KubeadmPatches) -> anyhow::Result<Vec<Merge>> {
    let mut merges = Vec::new();
    for (index, text) in patches.merge.iter().enumerate() {
        let place = format!("kubeadmConfigPatches[{index}]");
        for body in documents_of(text).context(place.clone())? {
            let body = fields(body).context(place.clone())?;
            let text = |key: &str| match body.get(key) {
                None | Some(Value::Null) => Ok(String::new()),
                Some(Value::String(text)) => Ok(text.clone()),
                Some(other) => bail!("{place}: {key} is {other}, which is no string"),
            };
            let (api_version, kind) = (text("apiVersion")?, text("kind")?);
            merges.push(Merge { place: place.clone(), api_version, kind, body });
        }
    }
    Ok(merges)
}

fn operations(patches: &KubeadmPatches) -> anyhow::Result<Vec<Operations>> {
    let patches = patches.json6902.iter().enumerate().map(|(index, patch)| {
        let place = format!("kubeadmConfigPatchesJSON6902[{index}]");
        let list = documents_of(&patch.patch).context(place.clone())?.into_iter().next().unwrap_or_else(|| json!([]));
        let operations = json_patch::Patch::deserialize(list).context(place.clone())?;
        let api_version =
            if patch.group.is_empty() { patch.version.clone() } else { format!("{}/{}", patch.group, patch.version) };
        Ok(Operations { place, api_version, kind: patch.kind.clone(), operations })
    });
    patches.collect()
}

/// YAML documents as JSON, read as Go's parser for Kubernetes reads them, by the rules of YAML 1.1. Empty ones are left out.
fn documents_of(text: &str) -> anyhow::Result<Vec<Value>> {
    serde_saphyr::from_multiple_with_options(text, serde_saphyr::options! { legacy_octal_numbers: true })
        .map_err(|error| anyhow!(super::yaml::one_line(&error)))
}

fn fields(value: Value) -> anyhow::Result<Map<String, Value>> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => bail!("it is {other}, which is no mapping"),
    }
}

/// Takes `extraArgs` and `certSANs` out of a merge patch, wherever they are, and adds their items to those of the document.
///
/// `lists_of_args`: the document has arguments as a list (v1beta4), and so has a patch that names its `apiVersion`
/// (`versioned`). Other patches may have them as a mapping, as all kubeadm APIs before had: one patch fits all versions.
fn join_lists(
    target: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    lists_of_args: bool,
    versioned: bool,
) -> anyhow::Result<()> {
    for key in patch.keys().cloned().collect::<Vec<_>>() {
        match key.as_str() {
            "extraArgs" | "kubeletExtraArgs" if lists_of_args => {
                let added = args(&key, patch.remove(&key).unwrap_or_default(), versioned)?;
                let args = list(target, &key)?;
                for (name, value) in added {
                    let place = args.iter().position(|arg| arg["name"] == *name);
                    match (place, value) {
                        (Some(place), Value::Null) => drop(args.remove(place)),
                        (None, Value::Null) => {}
                        (Some(place), value) => args[place]["value"] = value,
                        (None, value) => args.push(json!({"name": name, "value": value})),
                    }
                }
            }
            "extraArgs" | "kubeletExtraArgs" => {}
            "certSANs" => match patch.remove(&key).unwrap_or_default() {
                Value::Null => {}
                Value::Array(added) => {
                    let names = list(target, &key)?;
                    for name in added {
                        if !names.contains(&name) {
                            names.push(name);
                        }
                    }
                }
                other => bail!("certSANs is {other}, which is no list"),
            },
            _ => {
                if let Some(Value::Object(patch)) = patch.get_mut(&key)
                    && let Value::Object(target) = target.entry(key).or_insert_with(|| Map::new().into())
                {
                    join_lists(target, patch, lists_of_args, versioned)?;
                }
            }
        }
    }
    Ok(())
}

/// Names and values of arguments; a null removes one. kind passes over what has the wrong form: here it is refused.
fn args(key: &str, given: Value, versioned: bool) -> anyhow::Result<Vec<(String, Value)>> {
    match given {
        Value::Null => Ok(Vec::new()),
        Value::Object(args) if !versioned => Ok(args.into_iter().collect()),
        Value::Array(args) => args
            .into_iter()
            .map(|mut arg| match arg["name"].take() {
                Value::String(name) => Ok((name, arg["value"].take())),
                _ => bail!("an item of {key} has no name"),
            })
            .collect(),
        other => bail!(
            "{key} is {other}: from v1beta4 on it is a list of name and value; without apiVersion it may be a mapping"
        ),
    }
}

fn list<'a>(target: &'a mut Map<String, Value>, key: &str) -> anyhow::Result<&'a mut Vec<Value>> {
    let there = target.entry(key).or_insert_with(|| json!([]));
    if there.is_null() {
        *there = json!([]);
    }
    there.as_array_mut().with_context(|| format!("an earlier patch has made {key} something else than a list"))
}

/// A node's containerd configuration with the file's patches: `base` is what its image has in /etc/containerd/config.toml.
///
/// A merge patch with a `version` is for configurations of that version only.
///
/// # Errors
/// `base` or a patch is no TOML, or has no version; an operation cannot be applied.
pub fn containerd_config(config: &KindConfig, base: &str) -> anyhow::Result<String> {
    let patches = containerd_patches(config)?;
    if patches.0.is_empty() && patches.1.is_empty() {
        return Ok(base.to_owned());
    }
    let mut patched = toml_to_json(base).context("the node's containerd configuration")?;
    let version = patched.get("version").cloned().context("the node's containerd configuration has no version")?;
    for patch in patches.0 {
        if patch.get("version").is_none_or(|its| *its == version) {
            json_patch::merge(&mut patched, &patch);
        }
    }
    for (index, patch) in patches.1.iter().enumerate() {
        json_patch::patch(&mut patched, patch).with_context(|| format!("containerdConfigPatchesJSON6902[{index}]"))?;
    }
    let table = toml::Table::deserialize(patched).context("the patched containerd configuration is no TOML")?;
    Ok(toml::to_string(&table)?)
}

/// # Errors
/// A patch cannot be read.
pub(super) fn check_containerd(config: &KindConfig) -> anyhow::Result<()> {
    containerd_patches(config).map(drop)
}

fn containerd_patches(config: &KindConfig) -> anyhow::Result<(Vec<Value>, Vec<json_patch::Patch>)> {
    let numbered = |place: &'static str| move |index: usize| format!("{place}[{index}]");
    let (merge, operations) = (numbered("containerdConfigPatches"), numbered("containerdConfigPatchesJSON6902"));
    let merges = config.containerd_config_patches.iter().enumerate();
    let merges = merges.map(|(index, text)| toml_to_json(text).with_context(|| merge(index)));
    let patches = config.containerd_config_patches_json6902.iter().enumerate();
    let patches = patches.map(|(index, text)| serde_json::from_str(text).with_context(|| operations(index)));
    Ok((merges.collect::<anyhow::Result<_>>()?, patches.collect::<anyhow::Result<_>>()?))
}

fn toml_to_json(text: &str) -> anyhow::Result<Value> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // In between, it draws the place.
        let text = error.to_string();
        let mut lines = text.lines().filter(|line| !line.is_empty());
        anyhow!("{}: {}", lines.next().unwrap_or_default(), lines.next_back().unwrap_or_default())
    })?;
    Ok(serde_json::to_value(table)?)
}

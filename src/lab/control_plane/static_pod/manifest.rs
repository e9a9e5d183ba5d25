//! The manifest of a kube-apiserver's static pod: what a kubelet starts it by, and restarts it for when it changes.
//!
//! kubeadm writes it as YAML; we write JSON, which is YAML too.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::lab::control_plane::Flags;

/// Where kubeadm keeps it.
pub(super) const PATH: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/// A change of this annotation is a roll: the kubelet sees another pod.
const ROLL: &str = "rollproof/roll";

/// The manifest of one kube-apiserver.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest(Value);

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// It is no YAML, or no pod of one container with a command.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut manifest = Self(serde_saphyr::from_str(text).context("the manifest is no YAML")?);
        manifest.command().context("the manifest has no spec.containers[0].command")?;
        Ok(manifest)
    }

    /// As a kubelet reads it.
    pub fn text(&self) -> String {
        format!("{:#}\n", self.0)
    }

    /// The container's image.
    ///
    /// # Errors
    /// It names none.
    pub fn image(&self) -> anyhow::Result<&str> {
        let image = self.0.pointer("/spec/containers/0/image").and_then(Value::as_str);
        image.context("the manifest has no spec.containers[0].image")
    }

    /// The container's command line, without the program.
    pub fn flags(&self) -> Vec<String> {
        let command = self.0.pointer("/spec/containers/0/command").and_then(Value::as_array);
        command.into_iter().flatten().skip(1).filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The value of a flag, by name without dashes.
    pub fn flag(&self, name: &str) -> Option<String> {
        self.flags().iter().find_map(|flag| flag_named(flag, name).map(str::to_owned))
    }

    /// Sets flags: those that are there are changed in place, the others added.
    pub fn set_flags(&mut self, flags: &Flags) {
        let Some(command) = self.command() else { return };
        for (name, value) in flags.iter() {
            let flag = Value::String(format!("--{name}={value}"));
            match command.iter_mut().find(|old| old.as_str().is_some_and(|old| flag_named(old, name).is_some())) {
                Some(old) => *old = flag,
                None => command.push(flag),
            }
        }
    }

    /// How long the kubelet waits between SIGTERM and SIGKILL, in whole seconds, rounded up. `None`: Kubernetes' 30 s.
    pub fn set_grace_period(&mut self, grace: Option<Duration>) {
        let Some(spec) = self.0.pointer_mut("/spec").and_then(Value::as_object_mut) else { return };
        match grace {
            Some(grace) => {
                spec.insert("terminationGracePeriodSeconds".to_owned(), json!(grace.as_millis().div_ceil(1000)))
            }
            None => spec.remove("terminationGracePeriodSeconds"),
        };
    }

    /// Mounts a folder of the node at the same place in the container, unless it is there already.
    pub fn mount(&mut self, name: &str, folder: &str, writable: bool) {
        let volume = json!({"name": name, "hostPath": {"path": folder, "type": "DirectoryOrCreate"}});
        let mount = json!({"name": name, "mountPath": folder, "readOnly": !writable});
        for (place, key, entry) in [("/spec", "volumes", volume), ("/spec/containers/0", "volumeMounts", mount)] {
            let Some(parent) = self.0.pointer_mut(place).and_then(Value::as_object_mut) else { return };
            let list = parent.entry(key).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut().filter(|list| list.iter().all(|old| old["name"] != *name)) {
                list.push(entry);
            }
        }
    }

    /// Whether a path of the node is mounted at the same place in the container.
    pub fn mounts(&self, path: &str) -> bool {
        let all = |place: &str| self.0.pointer(place).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut mounts = all("/spec/containers/0/volumeMounts").iter().filter(|mount| mount["mountPath"] == path);
        let volumes = all("/spec/volumes").iter().filter(|volume| volume["hostPath"]["path"] == path);
        mounts.any(|mount| volumes.clone().any(|volume| volume["name"] == mount["name"]))
    }

    /// The same pod to Kubernetes, another one to the kubelet.
    pub fn roll(&mut self, mark: &str) {
        if let Some(metadata) = self.0.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
            annotations[ROLL] = json!(mark);
        }
    }

    /// Whether the kubelet would start the same process, as often as it was rolled.
    pub fn runs_as(&self, other: &Self) -> bool {
        let unmarked = |manifest: &Self| {
            let mut manifest = manifest.clone();
            manifest.roll("");
            (manifest.sorted_flags(), {
                if let Some(command) = manifest.command() {
                    command.clear();
                }
                manifest.0
            })
        };
        unmarked(self) == unmarked(other)
    }

    fn sorted_flags(&self) -> BTreeSet<String> {
        self.flags().into_iter().collect()
    }

    fn command(&mut self) -> Option<&mut Vec<Value>> {
        self.0.pointer_mut("/spec/containers/0/command").and_then(Value::as_array_mut)
    }
}

/// The value of a flag, if it is that one.
fn flag_named<'a>(flag: &'a str, name: &str) -> Option<&'a str> {
    flag.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('=')
}

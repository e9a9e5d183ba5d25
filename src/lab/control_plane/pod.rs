//! A pod that sessions lead into, whoever runs it.

use serde_json::{Value, json};

use crate::lab::NAMESPACE;

/// A pod that sessions lead into. It says a line every [`HEARTBEAT_EVERY`](crate::timing::HEARTBEAT_EVERY).
#[derive(Clone, Debug)]
pub struct Pod {
    /// Where it is.
    pub namespace: String,
    /// What it is called.
    pub name: String,
    /// Its only container.
    pub container: String,
    /// A command to execute in it that says each line again.
    pub echo: Vec<String>,
    /// A port of it on which each byte comes back.
    pub port: u16,
    /// The collection and the object, in the order in which they are to be created.
    objects: Vec<(String, Value)>,
}

impl Pod {
    /// One whose `spec` has one container, without a name yet.
    pub(super) fn new(echo: &[&str], port: u16, mut spec: Value) -> Self {
        let (name, container) = ("pod", "container");
        spec["automountServiceAccountToken"] = json!(false);
        spec["containers"][0]["name"] = json!(container);
        Self {
            namespace: NAMESPACE.to_owned(),
            name: name.to_owned(),
            container: container.to_owned(),
            echo: echo.iter().map(|word| (*word).to_owned()).collect(),
            port,
            objects: vec![(
                format!("/api/v1/namespaces/{NAMESPACE}/pods"),
                json!({"metadata": {"name": name}, "spec": spec}),
            )],
        }
    }

    /// With something that has to be there before it.
    #[must_use]
    pub(super) fn with_object(mut self, collection: String, object: Value) -> Self {
        self.objects.insert(self.objects.len() - 1, (collection, object));
        self
    }

    /// What has to be created for it to exist, and in which collection, in that order.
    pub(in crate::lab) fn objects(&self) -> &[(String, Value)] {
        &self.objects
    }

    /// Where it is asked for.
    pub(in crate::lab) fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}

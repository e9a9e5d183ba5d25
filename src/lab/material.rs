//! What a lab's control plane is made of: planned from the configuration, then found or made.

use std::sync::Arc;

use anyhow::bail;

use super::control_plane::kind::{self, Plan, Provided};
use super::provision::{self, Binaries, Sources};
use crate::config::{Config, ControlPlaneKind};
use crate::timeline::Subject;
use crate::timing::Timers;

/// Hears what is being done.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What a control plane will be made of.
pub enum Planned {
    /// Programs.
    Binaries,
    /// The cluster of kind-config.yaml, and the timers that its apiservers will have.
    Cluster(Box<Plan>, Timers),
}

impl Planned {
    /// As the configuration says.
    ///
    /// # Errors
    /// kind-config.yaml cannot be used, or contradicts the configuration.
    pub fn of(config: &Config) -> anyhow::Result<Self> {
        if config.control_plane == ControlPlaneKind::Local {
            return Ok(Self::Binaries);
        }
        let plan = Plan::read(provision::wanted(config.kubernetes_version.as_deref())?)?;
        let planned = plan.apiservers();
        if let Some(wanted) = config.apiservers.filter(|wanted| *wanted != planned) {
            bail!("ROLLPROOF_APISERVERS={wanted}, but kind-config.yaml has {planned} control planes");
        }
        let timers = plan.timers(Timers::of(config.profile))?;
        Ok(Self::Cluster(Box::new(plan), timers))
    }

    /// How many apiservers there will be, if that is not for others to say.
    pub fn apiservers(&self) -> Option<usize> {
        match self {
            Self::Binaries => None,
            Self::Cluster(plan, _) => Some(plan.apiservers()),
        }
    }

    /// Finds or makes it.
    ///
    /// # Errors
    /// Those of provisioning, or of making a cluster.
    pub async fn provide(&self, config: &Config, sources: Sources, say: Say) -> anyhow::Result<Material> {
        match self {
            Self::Binaries => binaries(config.kubernetes_version.as_deref(), sources, say).await,
            Self::Cluster(plan, _) => Ok(Material::Cluster(Box::new(kind::shared(plan, sources, say).await?))),
        }
    }
}

/// etcd and a kube-apiserver, found or made.
///
/// # Errors
/// As [`provision::provision`].
pub async fn binaries(version: Option<&str>, sources: Sources, say: Say) -> anyhow::Result<Material> {
    let version = provision::wanted(version)?;
    let found = move || provision::provision(&version, &sources, &|text| say(text));
    Ok(tokio::task::spawn_blocking(found).await??.into())
}

/// What a lab's control plane is made of.
#[derive(Clone)]
pub enum Material {
    /// The programs that it runs as processes of this machine.
    Binaries(Binaries),
    /// A cluster that runs.
    Cluster(Box<Provided>),
}

impl From<Binaries> for Material {
    fn from(binaries: Binaries) -> Self {
        Self::Binaries(binaries)
    }
}

impl Material {
    /// Its version of Kubernetes, with a `v`.
    pub fn kubernetes(&self) -> String {
        match self {
            Self::Binaries(binaries) => binaries.kube_apiserver.version.clone(),
            Self::Cluster(provided) => provided.version.to_string(),
        }
    }

    /// The programs under test.
    pub fn subjects(&self) -> Vec<Subject> {
        let subject = |name: &str, version: &str, digest: &str| Subject {
            name: name.to_owned(),
            version: version.to_owned(),
            digest: digest.to_owned(),
        };
        match self {
            Self::Binaries(binaries) => {
                let Binaries { etcd, kube_apiserver, kwok } = binaries;
                let named = [("kube-apiserver", Some(kube_apiserver)), ("etcd", Some(etcd)), ("kwok", kwok.as_deref())];
                let had = named.into_iter().filter_map(|(name, binary)| Some((name, binary?)));
                had.map(|(name, binary)| subject(name, &binary.version, &binary.digest)).collect()
            }
            Self::Cluster(provided) => vec![subject("node image", &provided.image, &provided.digest)],
        }
    }
}

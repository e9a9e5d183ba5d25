//! Istio's control plane at work, `pilot-discovery`, beside the gateway that asks it.
//!
//! It does not start without a Kubernetes (it dereferences a nil client), so it is a client of the last apiserver, which no fault of a scenario with
//! gateways is about. There is no namespace istio-system: so it leads no election, and writes nothing.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::istio::Wishes;
use crate::lab::balancer::Backend;
use crate::lab::balancer::product::envoy;
use crate::lab::control_plane::{ControlPlane, last_words, pki};
use crate::lab::keeper::{Child, Claim, Keeper, Program};
use crate::lab::network::Network;
use crate::lab::provision::Binary;
use crate::lab::{kubeconfig, wait};
use crate::timing;

/// What it does without here: certificates that it or an agent would hand out, and filters that are only in istio-proxy's Envoy.
const ENVIRONMENT: [(&str, &str); 3] =
    [("ENABLE_CA_SERVER", "false"), ("PILOT_ENABLE_METADATA_EXCHANGE", "false"), ("PILOT_ENABLE_ALPN_FILTER", "false")];

/// One `pilot-discovery`.
pub(super) struct Pilot {
    child: Child,
    wishes: Wishes,
    folder: PathBuf,
}

impl Pilot {
    /// Starts it in the gateway's folder, and waits until Envoy may ask it. It listens on three ports: for Envoy, and for its own health and figures,
    /// which nobody asks for.
    ///
    /// # Errors
    /// Its files cannot be written, it ended, or it did not listen in time; with the end of its log.
    pub(super) async fn start(
        (keeper, claim): (&Keeper, &Claim),
        (control_plane, network, binary): (&ControlPlane, &Network, &Binary),
        (wishes, backends): (Wishes, &[Backend]),
        ports: [SocketAddr; 3],
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let (folder, files) = (folder.to_owned(), folder.join("istio"));
        std::fs::create_dir(&files).with_context(|| format!("cannot make {}", files.display()))?;
        let (mesh, client) = (folder.join("mesh.json"), folder.join("kubeconfig"));
        let settings = json!({
            "accessLogFile": "/dev/stdout",
            "accessLogEncoding": "JSON",
            "accessLogFormat": envoy::access_log_fields().to_string(),
            "ingressControllerMode": "OFF",
            // Of the service `kubernetes`, whose cluster would wait for a certificate, and with it everything.
            "enableAutoMtls": false,
        });
        pki::write_private(&mesh, &settings.to_string())?;
        let ControlPlane { servers, ca, admin, .. } = control_plane;
        let last = servers.last().context("there is no apiserver")?.address();
        pki::write_private(&client, &serde_json::to_string(&kubeconfig::kubeconfig(last, ca, admin, None, None))?)?;
        write(&folder, &wishes, backends)?;
        let [grpc, http, monitoring] = ports;
        let flag = |name: &str, value: String| format!("--{name}={value}");
        let program = Program {
            lab: claim.lab,
            program: binary.path.clone(),
            args: vec![
                "discovery".to_owned(),
                flag("configDir", files.display().to_string()),
                flag("meshConfig", mesh.display().to_string()),
                flag("registries", "Kubernetes".to_owned()),
                flag("kubeconfig", client.display().to_string()),
                flag("grpcAddr", grpc.to_string()),
                flag("httpAddr", http.to_string()),
                flag("monitoringAddr", monitoring.to_string()),
                flag("secureGRPCAddr", String::new()),
                flag("httpsAddr", String::new()),
                flag("ctrlz_port", "0".to_owned()),
            ],
            env: ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            network: network.balancer.file(),
            folder: Some(folder.clone()),
            log: folder.join("pilot.log"),
        };
        let child = keeper.spawn(program).await.context("cannot start pilot-discovery")?;
        let pilot = Self { child, wishes, folder };
        let up = wait::until(timing::PILOT_READY, "pilot-discovery to listen", async || {
            if let Some(exit) = pilot.child.exit() {
                return ControlFlow::Break(Err(exit));
            }
            match network.balancer.connect(grpc).await {
                Ok(_) => ControlFlow::Break(Ok(())),
                Err(error) => ControlFlow::Continue(error.to_string()),
            }
        });
        match up.await.with_context(|| pilot.last_words())? {
            Ok(()) => Ok(pilot),
            Err(exit) => bail!("pilot-discovery ended with {}\n{}", exit.status, pilot.last_words()),
        }
    }

    /// Tells it that these are all apiservers there are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn tell(&self, backends: &[Backend]) -> anyhow::Result<()> {
        write(&self.folder, &self.wishes, backends)
    }

    /// Says so if it has ended by itself.
    ///
    /// # Errors
    /// It has.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.child.exit() {
            None => Ok(()),
            Some(exit) => bail!("pilot-discovery ended with {} in the middle of the run", exit.status),
        }
    }

    fn last_words(&self) -> String {
        last_words("pilot-discovery", &self.folder.join("pilot.log"))
    }
}

/// Writes what it is to read, at once: it looks at files when they change.
fn write(folder: &Path, wishes: &Wishes, backends: &[Backend]) -> anyhow::Result<()> {
    let documents = wishes.documents(backends)?;
    let text: Vec<_> = documents.iter().map(|document| format!("{document:#}\n")).collect();
    let (file, new) = (folder.join("istio/gateway.yaml"), folder.join("gateway.new"));
    pki::write_private(&new, &text.join("---\n"))?;
    std::fs::rename(&new, &file).with_context(|| format!("cannot move {} to its place", file.display()))
}

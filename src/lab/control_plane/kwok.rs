//! A stand-in for a kubelet, so that sessions into a pod lead somewhere: kwok, from the Kubernetes project, which serves a
//! kubelet's API and has no containers.
//!
//! It is stage, not subject. What is real is the kube-apiserver, and all that is between it and a client: it finds the pod's
//! node, connects there over TLS, and carries the upgraded stream. Behind it, `exec` runs a program of this machine, `logs` and
//! `attach` follow a file that grows by itself, or of the quiet container when that is told to speak, and `port-forward` leads to a
//! real listener. kwok's `attach` has no input.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::last_words;
use super::pki::{Identity, write_private};
use super::pod::{Pod, Quiet, logged};
use crate::lab::keeper::{Child, Claim, Keeper, Program};
use crate::lab::network::{self, Network};
use crate::lab::provision::Binary;
use crate::lab::wait;
use crate::timing;

/// The node that it says it is.
const NODE: &str = "rollproof-node";

/// Its pod. No controller makes what that needs here.
fn pod(lab: u8, quiet: Quiet) -> Pod {
    let kubelet = network::kubelet(lab);
    let status = json!({
        "addresses": [{"type": "InternalIP", "address": kubelet.ip()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port()}},
    });
    // Nothing pulls the image: there is no container runtime.
    let image = "registry.k8s.io/pause:3.10";
    let containers = json!([{"image": image, "stdin": true}, {"name": quiet.container, "image": image}]);
    let spec = json!({"nodeName": NODE, "containers": containers});
    let pod = Pod::new(&["cat"], network::echo(lab).port(), spec).with_quiet(quiet);
    let account = format!("/api/v1/namespaces/{}/serviceaccounts", pod.namespace);
    pod.with_object("/api/v1/nodes".to_owned(), json!({"metadata": {"name": NODE}, "status": status}))
        .with_object(account, json!({"metadata": {"name": "default"}}))
}

/// A kubelet's stand-in at work.
pub(super) struct Kubelet {
    child: Child,
    /// Its log.
    pub(super) log: PathBuf,
    /// Its pod.
    pub(super) pod: Pod,
    _pod_at_work: [AbortOnDropHandle<()>; 2],
}

impl Kubelet {
    /// Starts it, and what its pod does. It is a client of the apiserver that the kubeconfig leads to, and needs it at its start
    /// only.
    ///
    /// # Errors
    /// It ended, or did not listen in time; with the end of its log.
    pub(super) async fn start(
        keeper: &Keeper,
        claim: &Claim,
        network: &Network,
        kwok: &Binary,
        identity: &Identity,
        client: &Kubeconfig,
    ) -> anyhow::Result<Self> {
        let Claim { lab, folder } = claim;
        let (listen, echo) = (network::kubelet(*lab), network::echo(*lab));
        network.etcd.expect_free(listen)?;
        let folder = folder.join("kubelet");
        std::fs::create_dir(&folder)?;
        let said = folder.join("pod.log");
        let file = std::fs::File::create(&said).with_context(|| format!("cannot write {}", said.display()))?;
        // kwok has each who follows a log watch its whole folder: nothing else is to be written there.
        let aside = folder.join("quiet");
        std::fs::create_dir(&aside)?;
        let quiet = Quiet::start(aside.join("pod.log")).await;
        let pod = pod(*lab, quiet.with_context(|| format!("cannot write in {}", aside.display()))?);
        let heart = AbortOnDropHandle::new(tokio::spawn(beat(file.into())));
        let listener = network.etcd.listen(echo, 64).await.with_context(|| format!("cannot listen on {echo}"))?;
        let listening = AbortOnDropHandle::new(tokio::spawn(answer(listener)));

        let (kubeconfig, config) = (folder.join("kubeconfig"), folder.join("kwok.yaml"));
        write_private(&kubeconfig, &serde_json::to_string_pretty(client)?)?;
        write_private(&config, &configuration(&pod, &said, echo))?;
        let log = folder.join("kwok.log");
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let program = Program {
            lab: *lab,
            program: kwok.path.clone(),
            args: vec![
                flag("kubeconfig", &kubeconfig),
                flag("config", &config),
                flag("tls-cert-file", &identity.certificate_file),
                flag("tls-private-key-file", &identity.key_file),
                format!("--manage-single-node={NODE}"),
                format!("--server-address={listen}"),
            ],
            // Its own folder instead of the user's, whose configuration it would add to ours.
            env: [("KWOK_WORKDIR".to_owned(), folder.display().to_string())].into(),
            network: network.etcd.file(),
            folder: Some(folder),
            log: log.clone(),
        };
        let child = keeper.spawn(program).await?;
        let up = wait::until(timing::KUBELET_READY, "kwok to listen", async || {
            if let Some(exit) = child.exit() {
                return ControlFlow::Break(Err(exit));
            }
            match network.etcd.connect(listen).await {
                Ok(_) => ControlFlow::Break(Ok(())),
                Err(error) => ControlFlow::Continue(error.to_string()),
            }
        });
        if let Err(exit) = up.await.with_context(|| last_words("kwok", &log))? {
            bail!("kwok ended with {} instead of listening\n{}", exit.status, last_words("kwok", &log));
        }
        Ok(Self { child, log, pod, _pod_at_work: [heart, listening] })
    }

    /// Says so if it has ended by itself.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.child.exit() {
            None => Ok(()),
            Some(exit) => bail!("kwok ended with {}\n{}", exit.status, last_words("kwok", &self.log)),
        }
    }
}

/// What kwok is to do for the pod: one JSON document after the other, which is YAML.
fn configuration(pod: &Pod, said: &Path, echo: SocketAddr) -> String {
    let of_pod = |kind: &str, spec: Value| {
        let metadata = json!({"name": pod.name, "namespace": pod.namespace});
        json!({"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
    };
    let of_quiet = |quiet: &Quiet| json!({"containers": [quiet.container], "logsFile": quiet.log()});
    let logs: Vec<_> = pod.quiet.iter().map(of_quiet).chain([json!({"logsFile": said})]).collect();
    let target = json!({"address": echo.ip(), "port": echo.port()});
    let runs = json!({
        "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
        "selector": {"matchExpressions": [{"key": ".status.phase", "operator": "In", "values": ["Pending"]}]},
        "next": {"statusTemplate": "phase: Running"},
    });
    let stage = json!({
        "apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": "pod-runs"}, "spec": runs,
    });
    let documents = [
        of_pod("Exec", json!({"execs": [{"local": {}}]})),
        of_pod("Attach", json!({"attaches": logs})),
        of_pod("Logs", json!({"logs": logs})),
        of_pod("PortForward", json!({"forwards": [{"ports": [pod.port], "target": target}]})),
        // It does not start without one.
        stage,
    ];
    documents.map(|document| document.to_string()).join("\n---\n")
}

/// What the pod says, as a container runtime writes it down.
async fn beat(mut file: tokio::fs::File) {
    let mut beats = tokio::time::interval(timing::HEARTBEAT_EVERY);
    for number in 0_u64.. {
        beats.tick().await;
        let line = logged(&format!("heartbeat {number}"));
        if file.write_all(line.as_bytes()).await.is_err() || file.flush().await.is_err() {
            // A full disk: whoever listens hears no more.
            return;
        }
    }
}

/// Sends back what comes.
async fn answer(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await
        });
    }
}

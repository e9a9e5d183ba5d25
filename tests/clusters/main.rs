//! Clusters of nodes in containers, as such: what scenarios on them stand on. Skipped, with the reason, where there is no Docker
//! engine or no node image; an error where `ROLLPROOF_REQUIRE` names `docker`.

mod stage;

use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rollproof::config::{BalancerKind, Config};
use rollproof::lab::control_plane::kind::{Cluster, Node, Role};
use rollproof::lab::{Lab, Setup, wait};
use rollproof::timeline::Recorder;
use rollproof::timing::secs;
use rstest::rstest;
use rustix::process::Signal;
use serial_test::serial;

use stage::*;

/// What is promised on two cores, from an image that is there: three control planes ready, and gone again.
const READY: Duration = secs(90);
const STRUCK: Duration = secs(5);

#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn three_control_planes_are_ready_in_time_serve_and_leave_nothing() {
    let Some(stage) = Stage::new("three", 3, 1) else { return };
    let began = Instant::now();
    let cluster = stage.create().await.unwrap();
    let ready = began.elapsed();
    eprintln!("three control planes and a worker are ready after {ready:.1?}");
    assert!(ready < READY, "{ready:?}");

    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    let expected = ["three-control-plane", "three-control-plane2", "three-control-plane3", "three-worker"];
    assert_eq!(names, expected);
    assert_eq!(cluster.balancer.as_ref().unwrap().role, Role::LoadBalancer);
    let file = cluster.kubeconfig_file().unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let kubeconfig = Kubeconfig::read_from(file).unwrap();
    assert_eq!(kubeconfig.current_context.as_deref(), Some("kind-three"));
    assert_eq!(ready_nodes(kubeconfig.clone()).await, 4, "through the published port and the balancer");
    for node in cluster.control_planes() {
        let mut direct = kubeconfig.clone();
        let server = format!("https://{}", cluster.apiserver(node));
        direct.clusters[0].cluster.as_mut().unwrap().server = Some(server);
        assert_eq!(ready_nodes(direct).await, 4, "past the balancer, at the address of {node}");
    }
    let error = stage.create().await.err().unwrap();
    assert!(format!("{error:#}").contains("its name is taken by a run that still lives, in /"), "{error:#}");
    let adopted = Cluster::adopt("three").await.unwrap();
    assert_eq!((&adopted.nodes, &adopted.balancer), (&cluster.nodes, &cluster.balancer));
    assert_eq!(ready_nodes(adopted.kubeconfig.clone()).await, 4);
    adopted.strike().await.unwrap();
    assert_eq!(left("three").await.len(), 6, "an adopted cluster is left as it was found");

    // Two at once, and in the other order: each comes back at its address, from where its peers know it.
    let [_, second, third, _] = &cluster.nodes[..] else { panic!("four nodes") };
    second.kill().await.unwrap();
    third.kill().await.unwrap();
    third.start().await.unwrap();
    second.start().await.unwrap();
    for node in [second, third] {
        serves(node).await;
        assert_eq!(Cluster::adopt("three").await.unwrap().nodes, cluster.nodes);
    }

    let began = Instant::now();
    cluster.strike().await.unwrap();
    let struck = began.elapsed();
    eprintln!("struck after {struck:.1?}");
    assert!(struck < STRUCK, "{struck:?}");
    assert_eq!(left("three").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_node_runs_commands_takes_files_and_can_be_frozen_and_cut_off() {
    let Some(stage) = Stage::new("one", 1, 0) else { return };
    let cluster = stage.create().await.unwrap();
    let node = &cluster.nodes[0];

    let long = vec![b'x'; 3 << 20];
    assert_eq!(node.run(&["wc", "--bytes"], &long).await.unwrap().trim(), long.len().to_string());
    let error = node.run(&["sh", "-c", "echo so >&2; exit 7"], &[]).await.unwrap_err().to_string();
    assert_eq!(error, "echo so >&2; exit 7 on one-control-plane ended with code 7:\nso");
    node.write("/etc/rollproof/new folder/file", "640", b"content\n").await.unwrap();
    assert_eq!(node.read("/etc/rollproof/new folder/file").await.unwrap(), "content\n");
    let listed = node.run(&["stat", "--format=%a %n", "/etc/rollproof/new folder/file"], &[]).await.unwrap();
    assert_eq!(listed, "640 /etc/rollproof/new folder/file\n");

    let mut lines = node.follow(&["sh", "-c", "echo one; echo two; exec sleep 6000"]).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "one");
    assert_eq!(lines.next().await.unwrap().unwrap(), "two");
    assert_eq!(sleepers(node).await, 1);
    drop(lines);
    until("the command that was followed to end", async || sleepers(node).await == 0).await;
    let ended: Vec<_> = node.follow(&["echo", "all"]).await.unwrap().collect().await;
    assert_eq!(ended.len(), 1);

    serves(node).await;
    let frozen = node.freeze().await.unwrap();
    assert!(!answers(node).await, "a frozen apiserver says nothing");
    frozen.heal().await.unwrap();
    serves(node).await;
    let cut = node.cut_off().await.unwrap();
    assert!(!answers(node).await, "no packet comes through");
    assert!(node.run(&["true"], &[]).await.is_ok(), "but Docker does");
    drop(cut);
    serves(node).await;
    cluster.strike().await.unwrap();
    assert_eq!(left("one").await, [""; 0]);
}

/// As after a node was cut off: its kubelet ends an apiserver that fails its liveness probe, while the next scenario begins.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_lab_begins_when_an_apiserver_that_was_ended_is_back() {
    let Some(stage) = Stage::new("back", 1, 0) else { return };
    let cluster = stage.create().await.unwrap();
    let node = &cluster.nodes[0];
    serves(node).await;
    node.run(&["pkill", "-STOP", "kubelet"], &[]).await.unwrap();
    node.run(&["pkill", "-KILL", "kube-apiserver"], &[]).await.unwrap();
    let (config, material) = (Config::default(), stage.material(&cluster));
    let mut lab = pin!(Lab::start(Setup::careful(&config), &config, &material, Recorder::default(), None));
    let early = tokio::time::timeout(secs(5), &mut lab).await.ok().and_then(Result::err);
    assert!(early.is_none(), "it waits for the apiserver instead: {early:?}");
    node.run(&["pkill", "-CONT", "kubelet"], &[]).await.unwrap();
    lab.await.unwrap().strike().await.unwrap();

    // The next one does not begin: its evidence is there all the same.
    let ends = Config { balancer: BalancerKind::Command(vec!["false".to_owned()]), ..Config::default() };
    let evidence = tempfile::tempdir().unwrap();
    let failed = Lab::start(Setup::careful(&ends), &ends, &material, Recorder::default(), Some(evidence.path())).await;
    let error = failed.err().unwrap();
    let journal = std::fs::read_to_string(evidence.path().join("kubelet-back-control-plane.log"));
    assert!(journal.as_ref().is_ok_and(|said| said.contains("kubelet[")), "{error:#}: {journal:?}");
    cluster.strike().await.unwrap();
    assert_eq!(left("back").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn what_is_missing_is_one_error_that_names_it_and_leaves_nothing() {
    let Some(mut stage) = Stage::new("missing", 3, 0) else { return };
    let error = format!("{:#}", Cluster::adopt("no-such").await.err().unwrap());
    assert!(error.starts_with("there is no kind cluster \"no-such\": no container carries"), "{error}");
    let balancer = std::mem::replace(&mut stage.balancer_image, "rollproof/no-such:1".to_owned());
    let error = format!("{:#}", stage.create().await.err().unwrap());
    assert!(error.starts_with("cannot make the cluster missing: Docker has no image rollproof/no-such:1; "), "{error}");

    // An image in which nothing of a node is: it ends at once.
    stage.image.clone_from(&balancer);
    stage.balancer_image = balancer;
    let error = format!("{:#}", stage.create().await.err().unwrap());
    assert!(error.starts_with("cannot make the cluster missing: while starting the node containers: "), "{error}");
    assert!(error.contains("missing-control-plane"), "{error}");
    eprintln!("{error}");
    assert_eq!(left("missing").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn a_cluster_that_kind_has_made_is_adopted_and_left_as_it_was_found() {
    let Some(stage) = Stage::new("adopted", 1, 1) else { return };
    let Some(kind) = RealKind::create(&stage) else { return };
    let cluster = Cluster::adopt("adopted").await.unwrap();
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!((names, cluster.is_ours()), (vec!["adopted-control-plane", "adopted-worker"], false));
    // kind has waited for the control plane only.
    until("both nodes to be ready", async || ready_nodes(cluster.kubeconfig.clone()).await == 2).await;
    let worker = cluster.nodes[1].clone();
    assert_eq!(worker.run(&["hostname"], &[]).await.unwrap(), "adopted-worker\n");
    worker.kill().await.unwrap();
    worker.start().await.unwrap();
    assert_eq!(Cluster::adopt("adopted").await.unwrap().nodes[1], worker, "nobody else has come or gone");
    cluster.strike().await.unwrap();
    let error = format!("{:#}", stage.create().await.err().unwrap());
    assert!(error.ends_with("or remove that one: `kind delete cluster --name adopted`"), "{error}");
    assert_eq!(left("adopted").await.len(), 3, "two nodes and their network");
    kind.delete().await;
}

/// Not a claim: a run that makes a cluster, restarts an apiserver and strikes it all, for the next ones to disturb.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by what_a_killed_run_was_making_is_removed"]
async fn a_run_with_a_cluster() {
    const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    let Some(stage) = Stage::new("killed", 3, 0) else { return };
    let cluster = match stage.create().await {
        Ok(cluster) => cluster,
        Err(error) => {
            println!("failed: {error:#}");
            return std::future::pending().await;
        }
    };
    println!("created");
    let node = &cluster.nodes[0];
    let manifest = node.read(MANIFEST).await.unwrap();
    let rolled = manifest.replacen("  annotations:", "  annotations:\n    rolled: once", 1);
    assert_ne!(manifest, rolled);
    node.write(MANIFEST, "600", rolled.as_bytes()).await.unwrap();
    until("the apiserver to stop", async || !answers(node).await).await;
    println!("rolling");
    serves(node).await;
    println!("striking");
    cluster.strike().await.unwrap();
    std::future::pending::<()>().await;
}

/// Either the keeper removes it, or, where that is killed too, the next run.
#[rstest]
#[case::while_containers_are_started("killed-control-plane", false)]
#[case::while_kubeadm_runs("kubeadm", false)]
#[case::when_it_is_there("created", false)]
#[case::while_an_apiserver_is_restarted("rolling", false)]
#[case::while_it_is_struck("striking", false)]
#[case::with_its_keeper_while_containers_are_started("killed-control-plane", true)]
#[case::with_its_keeper_while_kubeadm_runs("kubeadm", true)]
#[case::with_its_keeper_while_an_apiserver_is_restarted("rolling", true)]
#[case::with_its_keeper_while_it_is_struck("striking", true)]
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn what_a_killed_run_was_making_is_removed(#[case] when: &str, #[case] with_its_keeper: bool) {
    let Some(_) = Stage::new("killed", 3, 0) else { return };
    let before = unused_volumes().await;
    let mut run = Run::start("a_run_with_a_cluster", &[]);
    run.until(when, "killed").await;
    if with_its_keeper {
        run.kill_keeper(Signal::KILL);
    }
    run.kill(Signal::KILL);
    if with_its_keeper {
        assert!(!left("killed").await.is_empty(), "nobody was there to remove it");
        run.clean();
    }
    expect_nothing_of(&run, &before).await;
}

/// A run removes what dead ones have left, and nothing of one that lives.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn two_runs_at_once_leave_each_other_alone() {
    let (Some(stage), Some(_)) = (Stage::new("other", 1, 0), Stage::new("killed", 3, 0)) else { return };
    let before = unused_volumes().await;
    let mut run = Run::start("a_run_with_a_cluster", &[]);
    run.until("killed-control-plane", "killed").await;
    let cluster = stage.create().await.unwrap();
    assert_eq!(ready_nodes(cluster.kubeconfig.clone()).await, 1);
    run.until("created", "killed").await;
    cluster.strike().await.unwrap();
    assert_eq!(left("other").await, [""; 0]);
    assert_eq!(left("killed").await.len(), 5, "three nodes, a balancer and their network");
    run.kill(Signal::KILL);
    expect_nothing_of(&run, &before).await;
}

/// Whoever cannot reach Docker any more cannot remove anything either, and says both.
#[tokio::test(flavor = "multi_thread")]
#[serial]
async fn when_docker_is_gone_in_the_middle_one_error_says_so_and_the_next_run_removes_the_rest() {
    let Some(_) = Stage::new("killed", 3, 0) else { return };
    let before = unused_volumes().await;
    let way = Way::to_docker().await;
    let mut run = Run::start("a_run_with_a_cluster", &[("DOCKER_HOST", &way.host())]);
    run.until("kubeadm", "killed").await;
    let host = way.host();
    drop(way);
    run.until("failed", "killed").await;
    let said = run.said();
    let (_, error) = said.split_once("failed: cannot make the cluster killed: while kubeadm init on ").expect(&said);
    assert!(error.contains(&format!("no Docker engine answers at {host}")), "{error}");
    assert!(error.contains("what there is of it is left for the next run to remove"), "{error}");
    eprintln!("{error}");
    run.kill(Signal::KILL);
    assert!(!left("killed").await.is_empty(), "nobody could remove it");
    run.clean();
    expect_nothing_of(&run, &before).await;
}

async fn expect_nothing_of(run: &Run, before: &[String]) {
    let look = async || match (left("killed").await, unused_volumes().await) {
        (left, volumes) if left.is_empty() && volumes == before && run.is_empty() => ControlFlow::Break(()),
        left => ControlFlow::Continue(format!("{left:?}, folders gone: {}", run.is_empty())),
    };
    wait::until(secs(20), "everything to be gone", look).await.unwrap();
}

async fn ready_nodes(kubeconfig: Kubeconfig) -> usize {
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let nodes: Api<KubernetesNode> = Api::all(kube::Client::try_from(config).unwrap());
    let nodes = nodes.list(&ListParams::default()).await.unwrap();
    let is_ready = |node: &&KubernetesNode| {
        let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    nodes.items.iter().filter(is_ready).count()
}

async fn sleepers(node: &Node) -> usize {
    node.run(&["sh", "-c", "pgrep --full --count '^sleep 6000' || true"], &[]).await.unwrap().trim().parse().unwrap()
}

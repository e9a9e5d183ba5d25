//! Images: pulled and held to a digest, or built without one to begin from.

use std::thread;

use rollproof::config::Product;
use rollproof::lab::provision::image::balancer;
use rollproof::lab::provision::node_image::{self, NodeImage};
use rollproof::lab::provision::{Origin, Version};
use serde_json::Value;

use super::engine::{Engine, file_in, paths_of};
use super::stage::{ENVOY, Stage};

const OFFICIAL: &str = "kindest/node:v1.37.2";

/// A machine with an engine, whose registry cannot be reached.
fn machine() -> (Stage, Engine) {
    let mut stage = Stage::new();
    let engine = Engine::start(&stage.path("docker.sock"));
    stage.sources.docker_host = Some(engine.host.clone());
    (stage, engine)
}

/// One that can build.
fn workshop() -> (Stage, Engine) {
    let (stage, engine) = machine();
    stage.put_go();
    stage.put_mmdebstrap();
    (stage, engine)
}

fn provide(stage: &Stage) -> anyhow::Result<NodeImage> {
    let say = |line: &str| stage.said.lock().expect("no panic").push(line.to_owned());
    node_image::node_image(&Version::default(), &stage.sources, &say)
}

fn error(stage: &Stage) -> String {
    format!("{:#}", provide(stage).expect_err("this cannot be provided"))
}

/// What was loaded: the archive, and its manifest.
fn loaded(engine: &Engine) -> (Vec<u8>, Value) {
    let archive = engine.state().loaded.last().expect("something was loaded").clone();
    let manifest = serde_json::from_slice(&file_in(&archive, "manifest.json").unwrap()).unwrap();
    (archive, manifest)
}

#[test]
fn an_official_image_is_pulled_by_the_digest_that_is_pinned() {
    let (mut stage, engine) = machine();
    engine.publish(OFFICIAL, "sha256:aaa");
    stage.sources.image_digests = format!("# a comment\n{OFFICIAL} sha256:aaa\n");
    let image = provide(&stage).unwrap();
    assert_eq!(
        (image.reference.as_str(), image.origin, image.thin),
        ("kindest/node@sha256:aaa", Origin::Downloaded, false)
    );
    assert_eq!((image.kubernetes.as_str(), image.digest.as_str()), ("v1.37.2", "sha256:aaa"));
    assert_eq!(provide(&stage).unwrap().origin, Origin::Cache);
    assert_eq!(engine.state().pulls, ["kindest/node@sha256:aaa"]);
}

#[test]
fn where_no_digest_is_pinned_the_first_one_is_kept_and_said() {
    let (stage, engine) = machine();
    engine.publish(OFFICIAL, "sha256:aaa");
    assert_eq!(provide(&stage).unwrap().reference, "kindest/node@sha256:aaa");
    assert!(stage.said().contains("is held to sha256:aaa from now on"), "{}", stage.said());

    // Later, somebody has moved the tag.
    engine.publish(OFFICIAL, "sha256:bbb");
    engine.state().images.clear();
    let error = error(&stage);
    assert!(error.contains("manifest for kindest/node@sha256:aaa not found"), "{error}");
}

#[test]
fn where_no_registry_can_be_reached_the_image_is_built_and_kept() {
    let (stage, engine) = workshop();
    let image = provide(&stage).unwrap();
    assert_eq!((image.origin, image.thin, image.kubernetes.as_str()), (Origin::Built, true, "v1.37.2"));
    assert!(image.reference.starts_with("rollproof/node:v1.37.2-"), "{}", image.reference);
    assert_eq!(provide(&stage).unwrap(), NodeImage { origin: Origin::Cache, ..image.clone() });
    assert_eq!(engine.state().loaded.len(), 1);

    let (archive, manifest) = loaded(&engine);
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!([image.reference, "rollproof/node:v1.37.2"]));
    let config: Value =
        serde_json::from_slice(&file_in(&archive, manifest[0]["Config"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(config["config"]["Labels"]["rollproof"], "rollproof/node:v1.37.2");
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/local/bin/entrypoint");
    let paths = paths_of(&archive, &manifest[0]);
    for path in [
        "kind/version",
        "kind/images.tar",
        "kind/manifests/default-cni.yaml",
        "usr/local/lib/kubernetes/kubernetes",
        "usr/local/lib/kubernetes/etcd",
        "usr/bin/kubelet -> ../local/lib/kubernetes/kubernetes",
        "./usr/bin/busybox",
        "etc/systemd/system/multi-user.target.wants/kubelet.service -> /etc/systemd/system/kubelet.service",
    ] {
        assert!(paths.contains(path), "no {path} in {paths:#?}");
    }
}

#[test]
fn the_images_of_pods_are_links_into_the_node_but_for_what_gets_no_mounts() {
    let (stage, engine) = workshop();
    provide(&stage).unwrap();
    let (archive, manifest) = loaded(&engine);
    let files = file_in(&archive, manifest[0]["Layers"][2].as_str().unwrap()).unwrap();
    let config = String::from_utf8(file_in(&files, "etc/containerd/config.toml").unwrap()).unwrap();
    assert!(config.contains("sandbox_image = \"registry.k8s.io/pause:3.10.2\""), "{config}");

    let pods = file_in(&files, "kind/images.tar").unwrap();
    let images: Vec<Value> = serde_json::from_slice(&file_in(&pods, "manifest.json").unwrap()).unwrap();
    let has = |name: &str, path: &str| {
        let image = images.iter().find(|image| image["RepoTags"][0] == name).unwrap_or_else(|| panic!("no {name}"));
        let paths = paths_of(&pods, image);
        assert!(paths.contains(path), "no {path} in {name}: {paths:#?}");
    };
    has(
        "registry.k8s.io/kube-apiserver:v1.37.2",
        "usr/local/bin/kube-apiserver -> /node/usr/local/lib/kubernetes/kubernetes",
    );
    has("registry.k8s.io/etcd:3.7.0-0", "usr/local/bin/etcd -> /node/usr/local/lib/kubernetes/etcd");
    has("registry.k8s.io/kube-proxy:v1.37.2", "usr/sbin/iptables-restore -> /node/usr/sbin/xtables-nft-multi");
    has("registry.k8s.io/pause:3.10.2", "bin/busybox");
    has("localhost/rollproof/busybox:1", "bin/sh -> busybox");
    assert!(!images.iter().any(|image| image["RepoTags"][0].as_str().unwrap().contains("coredns")));
}

#[test]
fn two_that_want_an_image_at_once_build_it_once() {
    let (stage, engine) = workshop();
    thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| provide(&stage).unwrap().reference));
        let references = both.map(|one| one.join().unwrap());
        assert_eq!(references[0], references[1]);
    });
    assert_eq!(engine.state().loaded.len(), 1);
}

#[test]
fn what_a_killed_build_has_left_is_swept() {
    let (stage, _engine) = workshop();
    let left = stage.sources.cache.join("images/old/scratch-killed");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.parent().unwrap().join("lock"), "").unwrap();
    provide(&stage).unwrap();
    assert!(!left.exists());
}

#[test]
fn without_an_engine_the_error_says_what_to_do() {
    let mut stage = Stage::new();
    stage.sources.docker_host = Some(format!("unix://{}", stage.path("nobody.sock").display()));
    let error = error(&stage);
    for part in ["no Docker engine answers", "nobody.sock", "DOCKER_HOST"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn where_nothing_works_the_error_says_what_was_tried() {
    let (stage, _engine) = machine();
    stage.put_go();
    let error = error(&stage);
    for part in [
        "no node image of v1.37.2 to be had",
        "pulling kindest/node:v1.37.2: Get",
        "no route to host",
        "apt-get install mmdebstrap",
    ] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn a_mmdebstrap_that_fails_is_quoted() {
    let (stage, _engine) = workshop();
    stage.put("path/mmdebstrap", "#!/bin/sh\necho 'E: cannot chroot' >&2\nexit 1\n");
    let error = error(&stage);
    assert!(error.contains("E: cannot chroot") && error.contains("root or user namespaces"), "{error}");
}

#[test]
fn a_full_disk_of_the_engine_is_an_error_of_its_own() {
    let (stage, engine) = workshop();
    engine.state().disk_full = true;
    let error = error(&stage);
    assert!(error.starts_with("the Docker engine's disk is full"), "{error}");
}

#[test]
fn a_version_without_modules_can_only_be_pulled() {
    let (stage, _engine) = workshop();
    let error = node_image::node_image(&"v1.36.0".parse().unwrap(), &stage.sources, &|_| ()).unwrap_err();
    assert!(format!("{error:#}").contains("no pinned modules for it, only for v1.37.2"), "{error:#}");
}

#[test]
fn balancers_images_read_their_configuration_where_the_official_ones_do() {
    let (stage, engine) = workshop();
    stage.put("path/envoy", ENVOY);
    for product in Product::ALL {
        let image = balancer::balancer_image(product, &stage.sources, &|_| ()).unwrap();
        assert_eq!((image.origin, image.official), (Origin::Built, false));
        let (archive, manifest) = loaded(&engine);
        let config = file_in(&archive, manifest[0]["Config"].as_str().unwrap()).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let command = config["config"]["Cmd"].to_string();
        assert!(command.contains(balancer::configuration(product)), "{command}");
        assert_eq!(
            balancer::at_hand(product, &stage.sources).unwrap().map(|found| found.reference),
            Some(image.reference)
        );
    }
}

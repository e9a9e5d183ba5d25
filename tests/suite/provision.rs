//! Provisioning: where binaries come from, what is refused, and what is left behind.

mod engine;
mod envoy;
mod images;
mod istio;
mod kubectl;
mod kwok;
mod site;
mod stage;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use rollproof::lab::provision::{Origin, Version, provision};
use rstest::rstest;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use sha2::{Digest as _, Sha256};

use site::{Answer, Site};
use stage::{APISERVER, ETCD, OLD_APISERVER, Stage};

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Where Kubernetes publishes the apiserver, below the release URL.
fn published() -> String {
    format!("v1.37.2/bin/linux/{}/kube-apiserver", arch())
}

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A site that publishes this apiserver, with its checksum, for a stage.
fn publish(stage: &mut Stage, program: &str) -> Site {
    let site = Site::start();
    site.answer(&published(), program);
    site.answer(&format!("{}.sha256", published()), sha256(program));
    stage.sources.kubernetes_url.clone_from(&site.url);
    site
}

#[test]
fn binaries_come_from_the_first_place_in_the_documented_order() {
    let mut stage = Stage::new();
    let site = publish(&mut stage, APISERVER);
    stage.put_go();
    stage.put("path/kube-apiserver", APISERVER);
    stage.put("assets/kube-apiserver", APISERVER);
    stage.put("assets/etcd", ETCD);
    let origin = |stage: &Stage| stage.provide().expect("there is one").kube_apiserver.origin;

    stage.sources.assets = Some(stage.path("assets"));
    assert_eq!(origin(&stage), Origin::KubebuilderAssets);
    stage.sources.assets = None;
    assert_eq!(origin(&stage), Origin::Path);
    stage.remove("path/kube-apiserver");
    assert_eq!(origin(&stage), Origin::Downloaded);
    stage.put("path/kube-apiserver", APISERVER);
    assert_eq!(origin(&stage), Origin::Cache);
    stage.remove("path/kube-apiserver");
    stage.remove("cache");
    site.answers.lock().unwrap().clear();
    assert_eq!(origin(&stage), Origin::Built);
    assert_eq!(stage.built(), "k8s.io/kubernetes/cmd/kube-apiserver\n");
}

#[test]
fn a_binary_is_described_by_path_version_and_digest() {
    let stage = Stage::new();
    let path = stage.put("path/kube-apiserver", APISERVER);
    let found = stage.provide().unwrap();
    assert_eq!(found.kube_apiserver.path, path);
    assert_eq!(found.kube_apiserver.version, "v1.37.2");
    assert_eq!(found.kube_apiserver.digest, sha256(APISERVER));
    assert_eq!(found.etcd.version, "v3.6.16");
}

#[test]
fn assets_of_another_kubernetes_version_are_refused_but_bring_their_own_etcd() {
    let mut stage = Stage::new();
    stage.sources.assets = Some(stage.path("assets"));
    stage.put("assets/etcd", "#!/bin/sh\necho etcd Version: 3.5.21\n");
    stage.put("path/kube-apiserver", APISERVER);
    assert!(stage.error().contains("assets/kube-apiserver does not exist"), "{}", stage.error());
    stage.put("assets/kube-apiserver", OLD_APISERVER);
    assert!(stage.error().contains("is v1.30.0, but v1.37.2 was asked for"), "{}", stage.error());
    stage.put("assets/kube-apiserver", APISERVER);
    assert_eq!(stage.provide().unwrap().etcd.version, "v3.5.21");
}

#[test]
fn another_version_on_the_path_is_noted_and_passed_over() {
    let mut stage = Stage::new();
    let old = stage.put("path/kube-apiserver", OLD_APISERVER);
    let right = stage.put("elsewhere/kube-apiserver", APISERVER);
    let path = [stage.path("path"), stage.path("elsewhere")];
    stage.sources.path = std::env::join_paths(path).unwrap();
    assert_eq!(stage.provide().unwrap().kube_apiserver.path, right);
    fs::remove_file(right).unwrap();
    assert!(stage.error().contains(&format!("PATH: {} is v1.30.0", old.display())), "{}", stage.error());
}

#[test]
fn a_warm_start_neither_runs_nor_reads_the_programs() {
    let stage = Stage::new();
    let runs = stage.path("runs");
    let noting =
        |says: &str| format!("#!/bin/sh\necho run >> {}\n{}", runs.display(), says.trim_start_matches("#!/bin/sh\n"));
    stage.put("path/kube-apiserver", &noting(APISERVER));
    stage.put("path/etcd", &noting(ETCD));
    let first = stage.provide().unwrap();
    assert_eq!(stage.provide().unwrap(), first);
    assert_eq!(fs::read_to_string(runs).unwrap(), "run\nrun\n");
}

#[test]
fn a_download_that_is_not_what_fixtures_pin_is_refused() {
    let mut stage = Stage::new();
    let site = publish(&mut stage, APISERVER);
    stage.put_go();
    stage.sources.sha256sums = format!("# pinned\n{}  {}\n", sha256("what was reviewed"), published());
    let error = stage.error();
    assert!(error.contains(&sha256(APISERVER)) && error.contains(&sha256("what was reviewed")), "{error}");
    assert_eq!((stage.kept(), stage.built().as_str()), (vec![], ""), "nothing is kept, and nothing hides it");
    assert_eq!(site.asked_for(&format!("{}.sha256", published())), 0, "the publisher is not asked what is pinned");

    stage.sources.sha256sums = format!("{}  {}\n", sha256(APISERVER), published());
    assert_eq!(stage.provide().unwrap().kube_apiserver.origin, Origin::Downloaded);
}

#[test]
fn the_publishers_checksum_is_trusted_once_and_then_pinned() {
    let mut stage = Stage::new();
    let site = publish(&mut stage, APISERVER);
    stage.provide().unwrap();
    assert!(stage.said().contains(&format!("held to sha256 {} from now on", sha256(APISERVER))), "{}", stage.said());
    let folder = stage.sources.cache.join("kube-apiserver").join(format!("v1.37.2-{}", arch()));
    fs::remove_file(folder.join("kube-apiserver")).unwrap();
    assert_eq!(stage.provide().unwrap().kube_apiserver.origin, Origin::Downloaded, "the same again is fine");

    fs::remove_file(folder.join("kube-apiserver")).unwrap();
    let replaced = format!("{APISERVER}# and more\n");
    site.answer(&format!("{}.sha256", published()), sha256(&replaced));
    site.answer(&published(), replaced);
    let error = stage.error();
    assert!(error.contains("it was refused") && error.contains("download.sha256"), "{error}");
    assert_eq!(stage.kept(), ["download.sha256", "facts.json"]);
}

#[test]
fn a_download_that_its_publishers_checksum_denies_is_refused() {
    let mut stage = Stage::new();
    let site = publish(&mut stage, APISERVER);
    site.answer(&published(), OLD_APISERVER);
    assert!(stage.error().contains("it was refused"), "{}", stage.error());
    assert_eq!(stage.kept(), Vec::<String>::new());
}

#[test]
fn a_truncated_download_leaves_nothing_and_go_gets_its_turn() {
    let mut stage = Stage::new();
    let site = publish(&mut stage, APISERVER);
    site.answer(&published(), Answer::Announced(APISERVER.len() as u64, APISERVER.as_bytes()[..10].to_owned()));
    assert!(stage.error().contains(&format!("download: {}/{}", site.url, published())), "{}", stage.error());
    assert_eq!(stage.kept(), Vec::<String>::new());
    stage.put_go();
    assert_eq!(stage.provide().unwrap().kube_apiserver.origin, Origin::Built);
    assert_eq!(stage.kept(), ["facts.json", "kube-apiserver"]);
}

#[test]
fn etcd_is_taken_out_of_its_release_archive() {
    let mut stage = Stage::new();
    stage.put("path/kube-apiserver", APISERVER);
    stage.remove("path/etcd");
    let name = format!("etcd-v3.6.16-linux-{}", arch());
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (file, text) in [("README.md", "not this"), ("etcd", ETCD)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("{name}/{file}"), text.as_bytes()).unwrap();
    }
    let archive = archive.into_inner().unwrap().finish().unwrap();
    let site = Site::start();
    site.answer("v3.6.16/SHA256SUMS", format!("{}  {name}.zip\n{}  {name}.tar.gz\n", sha256("zip"), sha256(&archive)));
    site.answer(&format!("v3.6.16/{name}.tar.gz"), archive);
    stage.sources.etcd_url.clone_from(&site.url);
    let etcd = stage.provide().unwrap().etcd;
    assert_eq!((etcd.origin, etcd.digest), (Origin::Downloaded, sha256(ETCD)));
}

#[test]
fn concurrent_runs_provide_once_and_say_that_they_wait() {
    let stage = Stage::new();
    // This go tells when it is running, and builds when it is told to.
    for pipe in ["running", "may-go-on"] {
        mknodat(CWD, stage.path(pipe), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }
    stage.put_go();
    fs::rename(stage.path("path/go"), stage.path("path/real-go")).unwrap();
    let (running, go_on) = (stage.path("running"), stage.path("may-go-on"));
    stage.put(
        "path/go",
        &format!("#!/bin/sh\n: > {}\n: < {}\n\"$(dirname \"$0\")/real-go\" \"$@\"", running.display(), go_on.display()),
    );
    let (waiting, second_waits) = mpsc::channel();
    thread::scope(|scope| {
        let first = scope.spawn(|| stage.provide().unwrap());
        File::open(&running).unwrap().read_to_end(&mut Vec::new()).unwrap();
        let second = scope.spawn(|| {
            let tell = |line: &str| {
                if line.starts_with("another run is providing") {
                    waiting.send(()).expect("the test is listening");
                }
            };
            provision(&Version::default(), &stage.sources, &tell).unwrap()
        });
        second_waits.recv().unwrap();
        drop(File::options().write(true).open(&go_on).unwrap());
        assert_eq!(first.join().unwrap().kube_apiserver.origin, Origin::Built);
        assert_eq!(second.join().unwrap().kube_apiserver.origin, Origin::Cache);
    });
    assert_eq!(stage.built().lines().count(), 1);
}

#[test]
fn a_cached_binary_that_was_changed_is_made_again() {
    let stage = Stage::new();
    stage.put_go();
    let path = stage.provide().unwrap().kube_apiserver.path;
    fs::write(&path, format!("{APISERVER}# changed\n")).unwrap();
    assert_eq!(stage.provide().unwrap().kube_apiserver.origin, Origin::Built);
    assert!(stage.said().contains("was changed since it was put there"), "{}", stage.said());
    assert_eq!(stage.provide().unwrap().kube_apiserver.origin, Origin::Cache);
}

#[test]
fn a_cache_that_cannot_be_written_is_one_clear_error_and_matters_only_where_it_is_needed() {
    let mut stage = Stage::new();
    stage.put_go();
    // Below a file: not even root can write there.
    stage.sources.cache = stage.path("path/etcd").join("cache");
    let error = stage.error();
    assert!(error.contains("cannot be written") && error.contains("set XDG_CACHE_HOME"), "{error}");
    stage.put("path/kube-apiserver", APISERVER);
    assert_eq!(stage.provide().unwrap().kube_apiserver.origin, Origin::Path);
}

#[test]
fn a_full_disk_is_one_clear_error() {
    let mut stage = Stage::new();
    let site = publish(&mut stage, APISERVER);
    site.answer(&published(), Answer::Announced(1 << 60, Vec::new()));
    let error = stage.error();
    assert!(error.contains("is full") && error.contains("XDG_CACHE_HOME"), "{error}");

    site.answers.lock().unwrap().clear();
    stage.put("path/go", "#!/bin/sh\necho 'link: mmap: no space left on device' >&2\nexit 1");
    assert!(stage.error().contains("is full"), "{}", stage.error());
    assert_eq!(stage.kept(), Vec::<String>::new());
}

#[rstest]
#[case::that_says_something_else("#!/bin/sh\necho hello\n", "`--version` printed \"hello\"")]
#[case::that_cannot_run("\x7fELF but not really", "is not a kube-apiserver that runs here")]
#[case::of_another_version(OLD_APISERVER, "is v1.30.0")]
fn a_binary_that_is_not_the_apiserver_is_one_clear_error(#[case] program: &str, #[case] says: &str) {
    let mut stage = Stage::new();
    let _site = publish(&mut stage, program);
    assert!(stage.error().contains(says), "{}", stage.error());
    stage.sources.assets = Some(stage.path("assets"));
    stage.put("assets/kube-apiserver", program);
    assert!(stage.error().contains(says) && stage.error().contains("KUBEBUILDER_ASSETS"), "{}", stage.error());
}

#[test]
fn where_nothing_works_the_error_lists_what_was_tried_and_what_to_do() {
    let stage = Stage::new();
    stage.put("path/go", "#!/bin/sh\necho 'go: module lookup disabled' >&2\nexit 1");
    let error = stage.error();
    let in_order = [
        "no kube-apiserver v1.37.2 to be had",
        "KUBEBUILDER_ASSETS: not set",
        "cache: none in ",
        "PATH: none",
        "download: http://127.0.0.1:1/v1.37.2/",
        "go build: ",
        "go: module lookup disabled",
        "install Go 1.26.0 or newer",
        "set KUBEBUILDER_ASSETS",
    ];
    let found: Vec<_> = in_order.iter().map(|part| error.find(part)).collect();
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{error}\n{found:?}");
    stage.remove("path/go");
    assert!(stage.error().contains("go build: there is no go in PATH"), "{}", stage.error());
}

#[test]
fn a_version_that_does_not_exist_is_an_error_that_names_the_known_ones() {
    let stage = Stage::new();
    stage.put_go();
    for version in ["1.99", "1.99.0", "2.0.0", "latest", "1.37.2.1", "1.37.02", "", "v"] {
        let error = stage.provide_version(version).expect_err(version).to_string();
        assert!(error.contains("v1.37.2, v1.34.4"), "{version}: {error}");
    }
}

#[rstest]
#[case("v1.37.2", "v1.37.2")]
#[case("1.37.2", "v1.37.2")]
#[case("1.34", "v1.34.4")]
#[case("v1.37", "v1.37.2")]
#[case("1.33.7", "v1.33.7")]
fn a_version_may_be_written_as_people_write_it(#[case] written: &str, #[case] meant: &str) {
    assert_eq!(written.parse::<Version>().unwrap().to_string(), meant);
}

/// Not a test: the run that is killed below, in a process of its own.
#[test]
#[ignore = "only another test starts it"]
fn a_run_that_gets_killed() {
    let mut stage = Stage::new();
    let folder = PathBuf::from(std::env::var_os("TEST_FOLDER").expect("the other test sets it"));
    stage.sources.cache = folder.join("cache");
    stage.sources.path = folder.join("path").into();
    let _ = stage.provide();
}

#[test]
fn a_build_dies_with_its_run_and_the_next_run_sweeps_what_it_left() {
    let stage = Stage::new();
    let alive = stage.path("alive");
    mknodat(CWD, &alive, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    stage.put("path/go", &format!("#!/bin/sh\nexec 9> {}\necho building >&9\nsleep 600; :\n", alive.display()));
    let mut run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "provision::a_run_that_gets_killed", "--ignored"])
        .env("TEST_FOLDER", stage.path(""))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut alive = BufReader::new(File::open(alive).unwrap());
    let mut line = String::new();
    alive.read_line(&mut line).unwrap();
    assert_eq!(line, "building\n");

    run.kill().unwrap();
    run.wait().unwrap();
    // The pipe ends when the last process of the build is gone.
    alive.read_to_end(&mut Vec::new()).unwrap();
    assert!(stage.kept().contains(&"go.mod".to_owned()), "something was left: {:?}", stage.kept());
    // The next run sweeps, even one that needs nothing from there.
    stage.put("path/kube-apiserver", APISERVER);
    assert_eq!(stage.provide().unwrap().kube_apiserver.origin, Origin::Path);
    assert_eq!(stage.kept(), Vec::<String>::new());
}

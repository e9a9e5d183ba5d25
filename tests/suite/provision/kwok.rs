//! kwok: built, since nobody publishes digests that a download could be held to.

use rollproof::lab::provision::{Origin, kwok_unmet};

use super::stage::Stage;

#[test]
fn kwok_is_built_where_it_is_not_at_hand() {
    let stage = Stage::new();
    stage.put_go();
    assert_eq!(kwok_unmet(&stage.sources).unwrap(), None);
    let kwok = stage.provide_kwok().unwrap();
    assert_eq!((kwok.origin, kwok.version.as_str()), (Origin::Built, "v0.8.0"));
    assert_eq!(stage.built(), "sigs.k8s.io/kwok/cmd/kwok\n");
    stage.remove("path/go");
    assert_eq!(stage.provide_kwok().unwrap().origin, Origin::Cache);
    assert_eq!(kwok_unmet(&stage.sources).unwrap(), None);
}

#[test]
fn a_kwok_in_the_path_is_taken_if_it_is_the_right_one() {
    let stage = Stage::new();
    stage.put("path/kwok", "#!/bin/sh\necho 'kwok version v0.7.0 go1.24.0 (linux/amd64)'\n");
    let unmet = kwok_unmet(&stage.sources).unwrap().unwrap();
    assert!(unmet.contains("no kwok v0.8.0 is at hand") && unmet.contains("is v0.7.0"), "{unmet}");
    assert!(unmet.contains("no go to build it with"), "{unmet}");
    stage.put("path/kwok", "#!/bin/sh\necho 'kwok version v0.8.0 go1.26.8 (linux/amd64)'\n");
    assert_eq!(stage.provide_kwok().unwrap().origin, Origin::Path);
}

#[test]
fn where_kwok_is_not_to_be_had_the_error_says_what_to_do() {
    let stage = Stage::new();
    let error = format!("{:#}", stage.provide_kwok().unwrap_err());
    for part in ["no kwok v0.8.0 to be had", "go build: there is no go in PATH", "install Go 1.26.0"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
}

//! Istio's control plane: built, since releases are images.

use rollproof::lab::provision::Origin;

use super::stage::Stage;

const PILOT: &str = "#!/bin/sh\n[ \"$1 $2\" = 'version --short' ] && echo client version: 1.31.0";

#[test]
fn istio_is_built_where_it_is_not_at_hand_and_says_from_what() {
    let stage = Stage::new();
    stage.put_go();
    let istio = stage.provide_istio().unwrap();
    assert_eq!((istio.origin, istio.version.as_str()), (Origin::Built, "v1.31.0-20260827-eed52ebb66ad"));
    assert_eq!(stage.built(), "istio.io/istio/pilot/cmd/pilot-discovery\n");
    stage.remove("path/go");
    assert_eq!(stage.provide_istio().unwrap().origin, Origin::Cache);
}

#[test]
fn a_release_in_the_path_is_taken_if_it_is_the_right_one() {
    let stage = Stage::new();
    stage.put("path/pilot-discovery", &PILOT.replace("1.31.0", "1.31.01"));
    let error = format!("{:#}", stage.provide_istio().unwrap_err());
    assert!(error.contains("is v1.31.01"), "{error}");
    assert!(error.contains("no pilot-discovery v1.31.0 to be had") && error.contains("install Go 1.26"), "{error}");
    stage.put("path/pilot-discovery", &format!("{PILOT}\n"));
    let istio = stage.provide_istio().unwrap();
    assert_eq!((istio.origin, istio.version.as_str()), (Origin::Path, "v1.31.0"));
}

#[test]
fn what_says_more_than_its_release_is_no_other_program_than_istios() {
    let stage = Stage::new();
    stage.put("path/kwok", "#!/bin/sh\necho 'kwok version v0.8.0-rc.1 go1.26.8 (linux/amd64)'\n");
    assert!(format!("{:#}", stage.provide_kwok().unwrap_err()).contains("is v0.8.0-rc.1"));
}

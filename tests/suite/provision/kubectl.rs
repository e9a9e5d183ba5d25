//! kubectl: as Kubernetes publishes it, or built.

use rollproof::lab::provision::Origin;

use super::site::Site;
use super::stage::Stage;
use super::{arch, sha256};

const KUBECTL: &str = "#!/bin/sh\n[ \"$*\" = \"version --client\" ] && echo \"Client Version: v1.37.2\"\n";

#[test]
fn a_kubectl_in_the_path_is_taken_if_it_is_the_right_one_and_else_one_is_built() {
    let stage = Stage::new();
    stage.put("path/kubectl", "#!/bin/sh\necho \"Client Version: v1.32.4\"\necho \"Kustomize Version: v5.5.0\"\n");
    let error = format!("{:#}", stage.provide_kubectl().unwrap_err());
    assert!(error.contains("no kubectl v1.37.2 to be had") && error.contains("is v1.32.4"), "{error}");
    stage.put_go();
    let kubectl = stage.provide_kubectl().unwrap();
    assert_eq!((kubectl.origin, kubectl.version.as_str()), (Origin::Built, "v1.37.2"));
    assert_eq!(stage.built(), "k8s.io/kubernetes/cmd/kubectl\n");
    assert_eq!(stage.provide_kubectl().unwrap().origin, Origin::Cache);

    let stage = Stage::new();
    stage.put("path/kubectl", KUBECTL);
    assert_eq!(stage.provide_kubectl().unwrap().origin, Origin::Path);
}

#[test]
fn the_official_kubectl_is_taken_if_it_is_what_its_publisher_says() {
    let site = Site::start();
    let published = format!("v1.37.2/bin/linux/{}/kubectl", arch());
    site.answer(&published, KUBECTL);
    let provide = |said: String| {
        let mut stage = Stage::new();
        stage.sources.kubernetes_url.clone_from(&site.url);
        site.answer(&format!("{published}.sha256"), said);
        stage.provide_kubectl()
    };
    assert_eq!(provide(sha256(KUBECTL)).unwrap().origin, Origin::Downloaded);
    let error = format!("{:#}", provide(sha256("another")).unwrap_err());
    assert!(error.contains(&sha256("another")), "{error}");
}

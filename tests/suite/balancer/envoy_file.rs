//! Envoy by its user's own file: what of it is replaced, and what is refused.

use std::fs;
use std::path::Path;

use rollproof::config::Product;
use rollproof::lab::balancer::product::EnvoyFile;
use rollproof::timing::secs;
use rstest::rstest;

use super::real::{at_hand, certificates, settings};

const EXAMPLE: &str = "fixtures/envoy/gateway.yaml";

/// A file with this text.
fn file(text: &str) -> (tempfile::TempDir, anyhow::Result<EnvoyFile>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.yaml");
    fs::write(&path, text).unwrap();
    let file = EnvoyFile::read(&path);
    (folder, file)
}

fn filled(file: &EnvoyFile) -> String {
    let settings =
        settings("127.0.0.1:6443".parse().unwrap(), ["127.0.0.2:1", "127.0.0.3:2"].map(|it| it.parse().unwrap()));
    let gateway = ["/lab/gateway.crt", "/lab/gateway.key"].map(Path::new);
    file.filled(&settings, Path::new("/lab/ca.crt"), secs(260), gateway)
}

#[test]
fn placeholders_are_replaced_and_nothing_else() {
    let text = "# %UPSTREAM_HOST% ${HOME} x-rollproof-upstream\n\
                ${ROLLPROOF_LISTEN_ADDRESS} ${ROLLPROOF_LISTEN_PORT} ${ROLLPROOF_LISTEN_PORT}\n${ROLLPROOF_LB_ENDPOINTS}\n\
                ${ROLLPROOF_CA} ${ROLLPROOF_CERTIFICATE} ${ROLLPROOF_KEY}\n\
                ${ROLLPROOF_READYZ} ${ROLLPROOF_HEALTH_INTERVAL} ${ROLLPROOF_HEALTH_FALL} ${ROLLPROOF_IDLE_TIMEOUT}\n";
    let endpoint = |address, port| {
        format!(r#"{{"endpoint":{{"address":{{"socket_address":{{"address":"{address}","port_value":{port}}}}}}}}}"#)
    };
    let expected = format!(
        "# %UPSTREAM_HOST% ${{HOME}} x-rollproof-upstream\n127.0.0.1 6443 6443\n[{},{}]\n\
         /lab/ca.crt /lab/gateway.crt /lab/gateway.key\n/readyz 0.1s 2 260s\n",
        endpoint("127.0.0.2", 1),
        endpoint("127.0.0.3", 2)
    );
    assert_eq!(filled(&file(text).1.unwrap()), expected);
    for name in EnvoyFile::PLACEHOLDERS {
        assert!(text.contains(&format!("${{ROLLPROOF_{name}}}")), "{name} is not tried here");
    }
}

#[rstest]
#[case::unknown(
    "${ROLLPROOF_READYZ}",
    "${ROLLPROOF_REDYZ}",
    "${ROLLPROOF_REDYZ} is no placeholder; there are ${ROLLPROOF_LISTEN_ADDRESS}, "
)]
#[case::left_open("${ROLLPROOF_READYZ}", "${ROLLPROOF_READYZ", "${ROLLPROOF_READYZ\" is no placeholder")]
#[case::of_a_command("${ROLLPROOF_LISTEN_PORT}", "${ROLLPROOF_LISTEN}", "${ROLLPROOF_LISTEN} is no placeholder")]
#[case::listens_elsewhere("${ROLLPROOF_LISTEN_PORT}", "6443", "has no ${ROLLPROOF_LISTEN_PORT}: the lab chooses")]
#[case::leads_elsewhere("${ROLLPROOF_LB_ENDPOINTS}", "[]", "has no ${ROLLPROOF_LB_ENDPOINTS}: the lab chooses")]
#[case::says_nothing(
    "x-rollproof-upstream",
    "x-upstream",
    "ends TLS, and adds no response header x-rollproof-upstream"
)]
fn what_cannot_be_used_is_one_error(#[case] part: &str, #[case] instead: &str, #[case] says: &str) {
    let example = fs::read_to_string(EXAMPLE).unwrap();
    assert!(example.contains(part));
    let (folder, file) = file(&example.replace(part, instead));
    let error = format!("{:#}", file.unwrap_err());
    assert!(error.contains(says), "{error}");
    assert!(error.starts_with(&format!("{}/own.yaml", folder.path().display())), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_one_error() {
    let error = format!("{:#}", EnvoyFile::read(Path::new("no/such.yaml")).unwrap_err());
    assert_eq!(error, "cannot read the Envoy configuration no/such.yaml: No such file or directory (os error 2)");
}

#[test]
fn whoever_shows_no_certificate_passes_tls_on_and_has_no_header_to_add() {
    assert!(EnvoyFile::read(Path::new(EXAMPLE)).unwrap().ends_tls());
    let passing = "${ROLLPROOF_LISTEN_ADDRESS}:${ROLLPROOF_LISTEN_PORT} ${ROLLPROOF_LB_ENDPOINTS}";
    assert!(!file(passing).1.unwrap().ends_tls());
}

#[tokio::test]
async fn what_envoy_refuses_is_refused_with_its_words() {
    let Some(envoy) = at_hand(Product::Envoy) else { return };
    let example = fs::read_to_string(EXAMPLE).unwrap();
    for (part, instead, says) in [
        ("num_retries", "num_retriez", "'num_retriez'"),
        ("  listeners:", "  listeners: [", "yaml-cpp: error at line "),
        ("{ cluster: apiservers,", "{ cluster: nobody,", "route: unknown cluster 'nobody'"),
    ] {
        let (folder, own) = file(&example.replace(part, instead));
        let (own, path) = (own.unwrap(), folder.path().join("filled.yaml"));
        let (_, gateway) = certificates(folder.path());
        let gateway = [gateway.certificate_file.as_path(), gateway.key_file.as_path()];
        let settings =
            settings("127.0.0.1:1".parse().unwrap(), ["127.0.0.1:2", "127.0.0.1:3"].map(|it| it.parse().unwrap()));
        fs::write(&path, own.filled(&settings, &folder.path().join("ca.crt"), secs(260), gateway)).unwrap();
        let error = format!("{:#}", own.validate(&envoy, &path, folder.path()).await.unwrap_err());
        assert!(error.starts_with(&format!("Envoy refuses {}/own.yaml: ", folder.path().display())), "{error}");
        assert!(error.contains(says), "{error}");
    }
}

//! `rollproof load`: what it refuses, before anything is sent to anybody.

use std::process::{Command, Output};

use rstest::rstest;

fn load(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollproof"));
    command.arg("load").args(arguments).env_remove("KUBECONFIG").output().expect("rollproof starts")
}

#[rstest]
#[case(&["--for", "5"])]
#[case(&["--for", "0s"])]
#[case(&["--every", "1 minute"])]
#[case(&["--for", "99999999999999999999s"])]
#[case(&["--for", "999999999999h"])]
#[case(&["--workers", "0"])]
fn bad_usage_is_refused(#[case] arguments: &[&str]) {
    let output = load(arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// What is in the kubeconfig's cluster and user, and what is said about it.
#[rstest]
#[case(r#"{"server": "http://127.0.0.1:1"}"#, "{}", "is not an https:// URL")]
#[case("{}", "{}", "cluster url is missing")]
#[case(r#"{"server": "https://127.0.0.1:1", "proxy-url": "http://127.0.0.1:2"}"#, "{}", "asks for the proxy")]
#[case(r#"{"server": "https://127.0.0.1:1", "certificate-authority": "/nowhere"}"#, "{}", "certificate authority")]
#[case(
    r#"{"server": "https://127.0.0.1:1"}"#,
    r#"{"client-certificate": "/nowhere", "client-key": "/nowhere"}"#,
    "client certificate"
)]
#[case(r#"{"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": true}"#, "{}", "connection refused in dial")]
#[case(r#"{"server": "https://nobody.invalid", "insecure-skip-tls-verify": true}"#, "{}", " in dns: ")]
fn a_kubeconfig_that_leads_nowhere_is_one_error(#[case] cluster: &str, #[case] user: &str, #[case] says: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    let config = format!(
        r#"{{"clusters": [{{"name": "c", "cluster": {cluster}}}], "users": [{{"name": "u", "user": {user}}}],
            "contexts": [{{"name": "x", "context": {{"cluster": "c", "user": "u"}}}}], "current-context": "x"}}"#
    );
    std::fs::write(&path, config).expect("the folder can be written");
    refused(&load(&["--kubeconfig", path.to_str().expect("a path")]), says);
}

#[test]
fn what_is_no_kubeconfig_is_one_error() {
    refused(&load(&["--kubeconfig", "/nowhere/at/all"]), "cannot use the kubeconfig");
    refused(&load(&["--kubeconfig", "/proc/self/comm"]), "cannot use the kubeconfig");
}

/// `watch-check` stands on the same.
#[rstest]
#[case(&["--interval", "600"], 2, "is no duration")]
#[case(&["--metrics", "9090"], 2, "invalid socket address")]
#[case(&["--kubeconfig", "/nowhere/at/all"], 3, "cannot use the kubeconfig")]
fn a_watch_check_that_cannot_begin_is_refused(#[case] arguments: &[&str], #[case] code: i32, #[case] says: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollproof"));
    let output =
        command.arg("watch-check").args(arguments).env_remove("KUBECONFIG").output().expect("rollproof starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && text.contains(says), "{text}");
}

#[track_caller]
fn refused(output: &Output, says: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains(says) && text.lines().count() == 1, "{text}");
}

//! Somebody else's balancer: what it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use rollproof::lab::balancer::{Backend, command};
use rollproof::timing::{millis, secs};
use rstest::rstest;

#[test]
fn a_balancer_command_is_told_what_the_contract_promises() {
    let backend =
        |port| Backend { name: format!("apiserver-{port}"), address: SocketAddr::from(([127, 0, 0, 1], port)) };
    let listen = "127.0.0.1:7000".parse().unwrap();
    let backends = [backend(7001), backend(7002)];
    let environment =
        command::environment(listen, &backends, "/readyz", Path::new("/lab/ca.crt"), millis(500), 2, secs(260));
    let expected = [
        ("ROLLPROOF_BACKENDS", "127.0.0.1:7001,127.0.0.1:7002"),
        ("ROLLPROOF_CA", "/lab/ca.crt"),
        ("ROLLPROOF_HEALTH_FALL", "2"),
        ("ROLLPROOF_HEALTH_INTERVAL_MS", "500"),
        ("ROLLPROOF_IDLE_TIMEOUT_MS", "260000"),
        ("ROLLPROOF_LISTEN", "127.0.0.1:7000"),
        ("ROLLPROOF_READYZ", "/readyz"),
    ];
    assert_eq!(environment, BTreeMap::from(expected.map(|(name, value)| (name.to_owned(), value.to_owned()))));
}

#[rstest]
#[case("./balance 'two words' $HOME", Ok(vec!["./balance", "two words", "$HOME"]))]
#[case("balance 'half", Err("close every quote"))]
#[case("  ", Err("is empty"))]
fn a_balancer_command_is_split_as_a_shell_splits(#[case] command: &str, #[case] expected: Result<Vec<&str>, &str>) {
    match (command::arguments(command), expected) {
        (Ok(words), expected) => assert_eq!(Ok(words.iter().map(String::as_str).collect()), expected),
        (Err(error), expected) => assert!(error.to_string().contains(expected.unwrap_err()), "{error}"),
    }
}

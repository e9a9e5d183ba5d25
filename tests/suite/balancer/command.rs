//! Somebody else's balancer: what it is told, and what is told when it does not do its work.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rollproof::lab::balancer::command::Command;
use rollproof::lab::balancer::{Backend, command};
use rollproof::lab::http::Endpoint;
use rollproof::lab::keeper::{Claim, Keeper};
use rollproof::lab::network::Site;
use rollproof::lab::tls;
use rollproof::timing::{millis, secs};
use rstest::rstest;

use super::stage::{Authority, Fake, nobody, soon};
use crate::keeper::stage::Home;

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

/// A lab, and an endpoint where nobody listens yet, or a backend does.
async fn lab(listen: SocketAddr, ca_pem: &str) -> (Home, Keeper, Claim, Endpoint) {
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let tls = tls::client_config(ca_pem, None).unwrap();
    (
        home,
        keeper,
        claim,
        Endpoint {
            from: None,
            address: listen,
            protocol: rollproof::timeline::Protocol::Http1,
            site: Site::default(),
            tls,
            roster: Arc::default(),
            named: None,
            token: None,
            plain: false,
        },
    )
}

async fn start(keeper: &Keeper, claim: &Claim, listen: SocketAddr, line: &str) -> anyhow::Result<Command> {
    let environment = BTreeMap::from([("ROLLPROOF_LISTEN".to_owned(), listen.to_string())]);
    Command::start(keeper, claim, &command::arguments(line)?, environment, &Site::default(), listen).await
}

#[tokio::test]
async fn a_balancer_command_that_does_not_exist_is_one_error() {
    let listen = nobody();
    let (_home, keeper, claim, _) = lab(listen, &Authority::new().pem()).await;
    let error = start(&keeper, &claim, listen, "no-such-balancer --fast").await.err().unwrap();
    let expected = "cannot start the balancer command: there is no program no-such-balancer to run";
    assert_eq!(format!("{error:#}"), expected);
}

#[tokio::test]
async fn a_balancer_command_that_exits_is_one_error_with_its_status_and_last_words() {
    let listen = nobody();
    let (_home, keeper, claim, through) = lab(listen, &Authority::new().pem()).await;
    let line = "sh -c 'seq 20; echo cannot balance on $ROLLPROOF_LISTEN >&2; exit 7'";
    let command = start(&keeper, &claim, listen, line).await.unwrap();
    let error = soon(command.ready(&through, secs(20))).await.unwrap_err();
    let words: Vec<String> = (14..=20).map(|number| format!("  {number}\n")).collect();
    let expected = format!(
        "the balancer command ended with exit status: 7 instead of serving on {listen}; it has to stay in the foreground\n\
         the last lines that the balancer command logged:\n{}  cannot balance on {listen}",
        words.concat()
    );
    assert_eq!(format!("{error:#}"), expected);
}

#[tokio::test]
async fn a_balancer_command_that_never_listens_is_one_error_with_what_was_seen_last() {
    let listen = nobody();
    let (_home, keeper, claim, through) = lab(listen, &Authority::new().pem()).await;
    let command = start(&keeper, &claim, listen, "sleep 600").await.unwrap();
    let error = format!("{:#}", soon(command.ready(&through, millis(100))).await.unwrap_err());
    let expected = "the balancer command logged nothing: waited 100ms for a request to be served through the balancer \
                    command in vain; ";
    assert!(error.starts_with(expected) && error.ends_with(": Connection refused (os error 111)"), "{error}");
}

#[tokio::test]
async fn a_balancer_command_that_answers_wrongly_is_one_error_with_what_was_seen_last() {
    let authority = Authority::new();
    let fake = Fake::start(0, &authority).await;
    fake.health.fail();
    let listen = fake.backend.address;
    let (_home, keeper, claim, through) = lab(listen, &authority.pem()).await;
    let command = start(&keeper, &claim, listen, "sleep 600").await.unwrap();
    let error = format!("{:#}", soon(command.ready(&through, millis(500))).await.unwrap_err());
    assert!(error.contains("in vain; ") && error.ends_with(": /readyz answers 500"), "{error}");
    let stranger = Endpoint { tls: tls::client_config(&Authority::new().pem(), None).unwrap(), ..through };
    let error = format!("{:#}", soon(command.ready(&stranger, millis(500))).await.unwrap_err());
    assert!(error.contains("in vain; ") && error.contains(": invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_balancer_command_is_ready_when_it_serves_and_missed_when_it_ends() {
    let authority = Authority::new();
    let fake = Fake::start(0, &authority).await;
    let listen = fake.backend.address;
    let (_home, keeper, claim, through) = lab(listen, &authority.pem()).await;
    let command = start(&keeper, &claim, listen, "sleep 600").await.unwrap();
    soon(command.ready(&through, secs(20))).await.unwrap();
    command.check().unwrap();
    assert_eq!((command.address(), command.line()), (listen, "sleep 600".to_owned()));
    soon(command.end()).await;
    let error = command.check().unwrap_err().to_string();
    assert!(
        error.starts_with("the balancer command ended with signal: 15 (SIGTERM) in the middle of the run\n"),
        "{error}"
    );
}

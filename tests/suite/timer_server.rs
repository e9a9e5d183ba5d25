//! `rollproof timer-server`, as curl meets it.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use rollproof::lab::balancer::{Backend, Builtin, HealthPolicy, IdleTimeout, OnIdle, Settings};
use rollproof::timeline::Recorder;
use rollproof::timing::{Profile, Timers, secs};
use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};

use crate::keeper::stage::Home;

#[test]
fn it_speaks_at_once_and_at_every_interval_and_tells_how_its_client_went() {
    let home = Home::new();
    let mut server = home.rollproof(&["timer-server", "0=0.2"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = said.next().unwrap();
    let address = line.strip_suffix(" every 0.2 s").unwrap_or_else(|| panic!("{line}"));

    let client = TcpStream::connect(address).unwrap();
    let from = client.local_addr().unwrap();
    let mut heard = BufReader::new(&client).lines().map(Result::unwrap);
    for _ in 0..2 {
        let message = heard.next().unwrap();
        assert!(message.starts_with("Hello! Current time is 2"), "{message}");
        assert!(message.ends_with("send message every 0.2 seconds. No KeepAlive in this TCP connection."), "{message}");
    }
    assert_eq!(said.next().unwrap(), format!("{from}: connected"));
    // Closing with unread bytes would be a RST.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let end = said.next().unwrap();
    assert!(end.starts_with(&format!("{from}: closed by the other side after 0.")), "{end}");
    let _ = (&client).read_to_end(&mut Vec::new());

    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    assert!(server.wait().unwrap().success());
}

/// The AKS report's first client. Where there is no curl, there is nothing to show.
#[tokio::test(flavor = "multi_thread")]
async fn curl_is_told_of_an_idle_timeout_that_is_announced() {
    let home = Home::new();
    let mut server = home.rollproof(&["timer-server", "0=600"]).stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(server.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let address = line.strip_suffix(" every 600 s").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
    let backend = Backend { name: "timer-server".to_owned(), address };
    let settings = Settings {
        health: HealthPolicy::Ignore,
        idle: Some(IdleTimeout { after: secs(1), then: OnIdle::Reset }),
        ..Settings::new(vec![backend], String::new(), &Timers::of(Profile::Pr))
    };
    let balancer = Builtin::start(settings, Recorder::default()).await.unwrap();
    let url = balancer.address().to_string();
    let curl = tokio::task::spawn_blocking(move || {
        Command::new("curl").args(["-q", "-sS", "--noproxy", "*", "--no-keepalive", "--http0.9", &url]).output()
    });
    match curl.await.unwrap() {
        Err(error) if error.kind() == ErrorKind::NotFound => eprintln!("nothing shown: there is no curl"),
        curl => {
            let curl = curl.unwrap();
            let (out, err) = (String::from_utf8(curl.stdout).unwrap(), String::from_utf8(curl.stderr).unwrap());
            assert!(out.contains("I'm going to send message every 600 seconds. No KeepAlive"), "{out}");
            assert_eq!(
                (curl.status.code(), err.trim()),
                (Some(56), "curl: (56) Recv failure: Connection reset by peer")
            );
        }
    }
    balancer.stop().await;
    server.kill().unwrap();
    server.wait().unwrap();
}

#[rstest]
#[case("8600")]
#[case("8600=0")]
#[case("8600=-1")]
#[case("port=5")]
fn a_port_without_an_interval_is_refused(#[case] port: &str) {
    let output = Home::new().rollproof(&["timer-server", port]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("for example 8600=600"), "{said}");
}

#[test]
fn its_ports_are_those_of_the_field_report_unless_it_is_told_others() {
    let output = Home::new().rollproof(&["timer-server", "--help"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("[default: 8005=5 8600=600]"), "{said}");
}

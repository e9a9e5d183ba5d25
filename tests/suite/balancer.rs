//! The builtin balancer: it carries, chooses, cuts and records as its settings say.

mod stage;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;

use rollproof::lab::balancer::{Backend, Builtin, HealthPolicy, OnUnhealthy, Settings, command};
use rollproof::lab::wait;
use rollproof::timeline::{End, Event, Party, Recorder};
use rollproof::timing::{millis, secs};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;

use stage::{
    Authority, Fake, carries, checked, dial, ended, opinion, opinions, pair, read_exactly, read_to_end, reset,
    settings, soon,
};

/// One backend and a balancer in front of it.
async fn one(change: impl FnOnce(&mut Settings)) -> (Fake, Builtin, Recorder) {
    let authority = Authority::new();
    let fake = Fake::start(0, &authority).await;
    let mut settings = settings(&authority, &[&fake.backend]);
    change(&mut settings);
    let recorder = Recorder::default();
    let balancer = Builtin::start(settings, recorder.clone()).await.unwrap();
    (fake, balancer, recorder)
}

/// Two backends and a balancer in front of them.
async fn two(change: impl FnOnce(&mut Settings)) -> ([Fake; 2], Builtin, Recorder) {
    let authority = Authority::new();
    let fakes = [Fake::start(0, &authority).await, Fake::start(1, &authority).await];
    let mut settings = settings(&authority, &[&fakes[0].backend, &fakes[1].backend]);
    change(&mut settings);
    let recorder = Recorder::default();
    let balancer = Builtin::start(settings, recorder.clone()).await.unwrap();
    (fakes, balancer, recorder)
}

/// How a connection through the balancer ends that no backend ever answers.
async fn dial_in_vain(balancer: SocketAddr) -> (SocketAddr, ErrorKind) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = socket.local_addr().unwrap();
    let dialled = async { socket.connect(balancer).await?.read_u8().await };
    (client, soon(dialled).await.unwrap_err().kind())
}

#[tokio::test]
async fn new_connections_are_spread_evenly_over_the_backends() {
    let ([mut one, mut other], balancer, _recorder) = two(|_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(dial(&balancer).await);
        clients.push(dial(&balancer).await);
        (one.met().await, other.met().await);
    }
    balancer.stop().await;
    assert!(one.met_nobody() && other.met_nobody());
}

#[tokio::test]
async fn an_unhealthy_backend_keeps_its_connections_and_gets_no_new_ones() {
    let ([mut one, mut other], balancer, recorder) = two(|_| {}).await;
    let mut established = pair(&balancer, &mut one).await;
    one.health.fail();
    let (_, opinion) = opinion(&recorder, &one, 2).await;
    assert!(!opinion.healthy);
    assert_eq!(opinion.why, "GET /readyz: 500 Internal Server Error [-]shutdown failed: reason withheld");

    for _ in 0..5 {
        pair(&balancer, &mut other).await;
    }
    assert!(one.met_nobody());
    assert!(carries(&mut established).await);
}

#[tokio::test]
async fn fall_and_rise_count_checks_in_a_row() {
    let (fake, _balancer, recorder) = one(|settings| (settings.fall, settings.rise) = (3, 2)).await;
    for _ in 0..3 {
        fake.health.fail_next(2);
        checked(&fake, 4).await;
    }
    assert_eq!(opinions(&recorder, &fake).len(), 1, "two bad checks, then good ones: no reason to change one's mind");

    fake.health.fail_next(3);
    assert!(!opinion(&recorder, &fake, 2).await.1.healthy);
    let (_, again) = opinion(&recorder, &fake, 3).await;
    assert_eq!((again.healthy, again.why.as_str()), (true, "GET /readyz: 200 OK"));
}

#[tokio::test]
async fn the_first_check_decides_alone() {
    let (fake, _balancer, recorder) = one(|settings| (settings.rise, settings.interval) = (100, secs(600))).await;
    assert_eq!(fake.health.answered(), 1);
    assert!(opinions(&recorder, &fake)[0].1.healthy);
}

#[tokio::test]
async fn a_balancer_that_ignores_health_asks_nobody_and_keeps_sending() {
    let (mut fake, balancer, recorder) = one(|settings| {
        settings.health = HealthPolicy::Ignore;
        settings.on_unhealthy = OnUnhealthy::Reset;
    })
    .await;
    fake.health.fail();
    for _ in 0..3 {
        assert!(carries(&mut pair(&balancer, &mut fake).await).await);
    }
    assert_eq!((fake.health.answered(), opinions(&recorder, &fake).len()), (0, 0));
}

#[tokio::test]
async fn a_backend_with_a_stranger_s_certificate_is_out_of_service() {
    let (fake, _balancer, recorder) = one(|settings| settings.ca_pem = Authority::new().pem()).await;
    let (_, opinion) = opinion(&recorder, &fake, 1).await;
    assert!(!opinion.healthy);
    assert!(opinion.why.starts_with("no TLS: invalid peer certificate"), "{}", opinion.why);
}

#[tokio::test]
async fn a_backend_that_does_not_answer_a_check_in_time_is_out_of_service() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap(); // the kernel accepts, nobody answers
    let address = silent.local_addr().unwrap();
    let (fake, _balancer, recorder) = one(|settings| {
        settings.backends[0].address = address;
        settings.timeout = millis(50);
    })
    .await;
    assert_eq!(opinion(&recorder, &fake, 1).await.1.why, "GET /readyz: no answer within 50ms");
}

#[tokio::test]
async fn established_connections_are_reset_on_both_sides_when_told_so() {
    let ([mut fake, mut healthy], balancer, recorder) =
        two(|settings| settings.on_unhealthy = OnUnhealthy::Reset).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    let mut untouched = pair(&balancer, &mut healthy).await;
    fake.health.fail();
    assert_eq!(read_to_end(&mut client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(read_to_end(&mut server).await, Err(ErrorKind::ConnectionReset));
    let (at, record) = ended(&recorder, client.local_addr().unwrap()).await;
    assert_eq!((record.ended_by, record.end), (Party::Balancer, End::Reset));
    assert!(at >= opinion(&recorder, &fake, 2).await.0, "the reason comes before what follows from it");
    assert!(carries(&mut untouched).await, "its backend is well");
}

#[tokio::test]
async fn established_connections_are_finished_after_the_drain_time_when_told_so() {
    let after = millis(100);
    let (mut fake, balancer, recorder) = one(|settings| settings.on_unhealthy = OnUnhealthy::Fin { after }).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    fake.health.fail();
    let (unhealthy, _) = opinion(&recorder, &fake, 2).await;
    assert_eq!(read_to_end(&mut client).await, Ok(vec![]));
    assert_eq!(read_to_end(&mut server).await, Ok(vec![]));
    let (at, record) = ended(&recorder, client.local_addr().unwrap()).await;
    assert_eq!((record.ended_by, record.end), (Party::Balancer, End::Fin));
    assert!(at.since(unhealthy) >= after);
}

/// An address that refuses: bound, so that nobody else gets it, and not listened on.
fn refusing() -> (TcpSocket, Backend) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, Backend { name: "apiserver-9".to_owned(), address })
}

#[tokio::test]
async fn without_redispatch_a_refused_connection_is_reset() {
    let (_socket, refusing) = refusing();
    let (_fake, balancer, recorder) = one(|settings| {
        settings.health = HealthPolicy::Ignore;
        settings.backends.insert(0, refusing);
    })
    .await;
    let (client, error) = dial_in_vain(balancer.address()).await;
    assert_eq!(error, ErrorKind::ConnectionReset);
    let (_, record) = ended(&recorder, client).await;
    assert_eq!((record.ended_by, record.end), (Party::Balancer, End::Unreachable));
    assert_eq!(record.backend.as_deref(), Some("apiserver-9"));
}

#[tokio::test]
async fn with_redispatch_a_refused_connection_is_offered_to_the_others() {
    let (_socket, refusing) = refusing();
    let (mut fake, balancer, recorder) = one(|settings| {
        settings.health = HealthPolicy::Ignore;
        settings.redispatch = true;
        settings.backends.insert(0, refusing);
    })
    .await;
    for _ in 0..3 {
        let (client, server) = pair(&balancer, &mut fake).await;
        let from = client.local_addr().unwrap();
        drop((client, server));
        assert_eq!(ended(&recorder, from).await.1.backend.as_deref(), Some("apiserver-0"));
    }
}

#[tokio::test]
async fn redispatch_ends_when_everyone_has_refused() {
    let ((_one, one), (_other, other)) = (refusing(), refusing());
    let (_fake, balancer, recorder) = self::one(|settings| {
        settings.health = HealthPolicy::Ignore;
        settings.redispatch = true;
        settings.backends = vec![one, other];
    })
    .await;
    let (client, error) = dial_in_vain(balancer.address()).await;
    assert_eq!(error, ErrorKind::ConnectionReset);
    assert_eq!(ended(&recorder, client).await.1.end, End::Unreachable);
}

#[tokio::test]
async fn a_backend_that_does_not_accept_in_time_is_unreachable() {
    // A full accept queue drops every further SYN.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(millis(100), TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }

    let (_fake, balancer, recorder) = one(|settings| {
        settings.health = HealthPolicy::Ignore;
        settings.connect_timeout = millis(50);
        settings.backends[0].address = address;
    })
    .await;
    let (client, error) = dial_in_vain(balancer.address()).await;
    assert_eq!(error, ErrorKind::ConnectionReset);
    let (_, record) = ended(&recorder, client).await;
    assert_eq!(record.end, End::Unreachable);
    assert!(record.lasted >= millis(50));
}

#[tokio::test]
async fn with_no_backend_in_service_a_connection_is_reset() {
    let (fake, balancer, recorder) = one(|_| {}).await;
    fake.health.fail();
    opinion(&recorder, &fake, 2).await;
    let (client, error) = dial_in_vain(balancer.address()).await;
    assert_eq!(error, ErrorKind::ConnectionReset);
    let (_, record) = ended(&recorder, client).await;
    assert_eq!((record.ended_by, record.end, record.backend), (Party::Balancer, End::NoBackend, None));
}

#[rstest]
#[tokio::test]
async fn who_ended_a_connection_and_how_is_passed_on_and_recorded(
    #[values(Party::Client, Party::Server)] party: Party,
    #[values(End::Fin, End::Reset)] how: End,
) {
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let (client, server) = pair(&balancer, &mut fake).await;
    let from = client.local_addr().unwrap();
    let (ending, mut other) = if party == Party::Client { (client, server) } else { (server, client) };
    if how == End::Reset {
        reset(ending);
        assert_eq!(read_to_end(&mut other).await, Err(ErrorKind::ConnectionReset));
    } else {
        drop(ending);
        assert_eq!(read_to_end(&mut other).await, Ok(vec![]));
        drop(other);
    }
    let (_, record) = ended(&recorder, from).await;
    assert_eq!((record.ended_by, record.end), (party, how));
    assert_eq!((record.sent, record.received), (5, 0));
}

#[tokio::test]
async fn a_half_closed_connection_lives_on_in_the_other_direction() {
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut server).await, Ok(vec![]));
    for word in [b"still", b"there"] {
        server.write_all(word).await.unwrap();
        assert_eq!(read_exactly(&mut client, 5).await, word);
    }
    drop(server);
    assert_eq!(read_to_end(&mut client).await, Ok(vec![]));
    let (_, record) = ended(&recorder, client.local_addr().unwrap()).await;
    assert_eq!((record.ended_by, record.end), (Party::Client, End::Fin), "the first FIN was the client's");
    assert_eq!((record.sent, record.received), (5, 10));
}

/// The other side hears of it even if it is silent itself; and who was first is who ended it.
#[tokio::test]
async fn a_reset_after_a_fin_is_passed_on() {
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    let from = client.local_addr().unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    reset(client);
    let (_, record) = ended(&recorder, from).await;
    assert_eq!((record.ended_by, record.end), (Party::Client, End::Fin));
    let broken = async { while server.write_all(b"anybody?").await.is_ok() {} };
    soon(broken).await;
}

#[tokio::test]
async fn a_server_that_resets_a_half_closed_connection_has_ended_it() {
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut server).await, Ok(vec![]));
    reset(server);
    assert_eq!(read_to_end(&mut client).await, Err(ErrorKind::ConnectionReset));
    let (_, record) = ended(&recorder, client.local_addr().unwrap()).await;
    assert_eq!((record.ended_by, record.end), (Party::Server, End::Reset));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_arrives_once_and_in_order_and_is_counted() {
    const SIZE: usize = 8 << 20;
    let text = |seed: u32| (0..SIZE as u32).map(|at| (at.wrapping_mul(seed) >> 13) as u8).collect::<Vec<u8>>();
    let (up, down) = (text(2_654_435_761), text(2_246_822_519));
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let (mut client, mut server) = pair(&balancer, &mut fake).await;
    let from = client.local_addr().unwrap();

    let talk = async |stream: &mut TcpStream, says: &[u8]| {
        let (mut reader, mut writer) = stream.split();
        let mut heard = Vec::new();
        let say = async {
            writer.write_all(says).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(say, reader.read_to_end(&mut heard));
        read.unwrap();
        heard
    };
    let (at_client, at_server) = soon(async { tokio::join!(talk(&mut client, &up), talk(&mut server, &down)) }).await;
    assert!(at_client == down && at_server == up);
    let (_, record) = ended(&recorder, from).await;
    assert_eq!((record.sent, record.received), (SIZE as u64 + 5, SIZE as u64));
}

#[tokio::test]
async fn idle_is_the_time_since_the_last_byte() {
    let after = millis(100);
    let (mut fake, balancer, recorder) = one(|settings| settings.on_unhealthy = OnUnhealthy::Fin { after }).await;
    let (client, _server) = pair(&balancer, &mut fake).await;
    fake.health.fail();
    let (_, record) = ended(&recorder, client.local_addr().unwrap()).await;
    assert!(after <= record.idle && record.idle <= record.lasted, "{record:?}");
}

#[tokio::test]
async fn stopping_resets_and_records_every_connection_and_leaves_no_task() {
    let (mut fake, balancer, recorder) = one(|_| {}).await;
    let address = balancer.address();
    let mut ends = Vec::new();
    for _ in 0..3 {
        ends.push(pair(&balancer, &mut fake).await);
    }
    soon(balancer.stop()).await;
    for (mut client, mut server) in ends {
        let record = recorder.last(|seen| match &seen.event {
            Event::Connection(connection) if connection.client == client.local_addr().unwrap().to_string() => {
                Some(connection.clone())
            }
            _ => None,
        });
        let record = record.expect("recorded before stop returns");
        assert_eq!((record.ended_by, record.end), (Party::Balancer, End::Reset));
        assert_eq!(read_to_end(&mut client).await, Err(ErrorKind::ConnectionReset));
        assert_eq!(read_to_end(&mut server).await, Err(ErrorKind::ConnectionReset));
    }
    TcpListener::bind(address).await.expect("the address is free again");
    let only_the_backend = async || match Handle::current().metrics().num_alive_tasks() {
        1 => ControlFlow::Break(()),
        alive => ControlFlow::Continue(format!("{alive} tasks")),
    };
    wait::until(secs(20), "all tasks of the balancer to be gone", only_the_backend).await.unwrap();
}

#[tokio::test]
async fn a_taken_address_is_one_clear_error() {
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = holder.local_addr().unwrap();
    let authority = Authority::new();
    let (_socket, backend) = refusing();
    let settings = Settings { listen: taken, ..settings(&authority, &[&backend]) };
    let error = Builtin::start(settings, Recorder::default()).await.err().unwrap();
    assert_eq!(
        format!("{error:#}"),
        format!(
            "the balancer cannot listen on {taken}: Address already in use (os error 98); \
             free that address, or choose another"
        )
    );
}

#[rstest]
#[case::no_backend(|settings: &mut Settings| settings.backends.clear(), "has no backends")]
#[case::no_interval(|settings: &mut Settings| settings.interval = millis(0), "health interval is zero")]
#[case::no_path(|settings: &mut Settings| settings.readyz = "readyz".to_owned(), "`readyz` does not begin with /")]
#[case::no_ca(|settings: &mut Settings| settings.ca_pem.clear(), "there is no certificate in the PEM text")]
#[tokio::test]
async fn settings_that_make_no_sense_are_refused(#[case] change: fn(&mut Settings), #[case] says: &str) {
    let (_socket, backend) = refusing();
    let mut settings = settings(&Authority::new(), &[&backend]);
    change(&mut settings);
    let error = format!("{:#}", Builtin::start(settings, Recorder::default()).await.err().unwrap());
    assert!(error.contains(says), "{error}");
}

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

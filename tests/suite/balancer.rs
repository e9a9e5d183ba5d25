//! The builtin balancer: whom it chooses, what it makes of their health, and how it starts and stops.

mod carrying;
mod command;
mod envoy_file;
mod kernel;
mod kernel_ends;
mod many;
mod products;
mod real;
mod stage;

use std::io::ErrorKind;
use std::ops::ControlFlow;

use rollproof::lab::balancer::{Builtin, HealthPolicy, OnUnhealthy, Settings};
use rollproof::lab::wait;
use rollproof::timeline::{End, Event, Party, Recorder};
use rollproof::timing::{millis, secs};
use rstest::rstest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;

use stage::{
    Authority, carries, checked, dial, dial_from, dial_in_vain, ended, one, opinion, opinions, pair, read_to_end,
    refusing, settings, soon, two,
};

#[tokio::test]
async fn new_connections_are_spread_evenly_over_the_backends() {
    let ([mut one, mut other], balancer, _recorder) = two(|_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(dial(&balancer).await);
        clients.push(dial(&balancer).await);
        one.met().await;
        other.met().await;
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
async fn a_hairpin_carries_a_nodes_clients_to_its_own_backend_whatever_its_health() {
    let node = "127.0.0.100";
    let hairpin = [(node.parse().unwrap(), "apiserver-1".to_owned())].into();
    let ([mut one, mut other], balancer, recorder) = two(|settings| settings.hairpin = hairpin).await;
    other.health.fail();
    assert!(!opinion(&recorder, &other, 2).await.1.healthy);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(dial_from(node, &balancer).await);
        other.met().await;
        clients.push(dial(&balancer).await);
        one.met().await;
    }
    assert!(one.met_nobody() && other.met_nobody());
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
    let opinion = opinion(&recorder, &fake, 1).await.1;
    assert_eq!((opinion.unanswered, opinion.why.as_str()), (true, "GET /readyz: no answer within 50ms"));
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
    // A process that another test is starting has our listener as well until its exec.
    let free = async || match TcpListener::bind(address).await {
        Ok(_) => ControlFlow::Break(()),
        Err(taken) => ControlFlow::Continue(taken.to_string()),
    };
    wait::until(secs(20), "the address to be free again", free).await.unwrap();
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

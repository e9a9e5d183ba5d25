//! How the kernel as balancer ends flows, and whom it carries a node's own clients to.

use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use rollproof::lab::balancer::{HealthPolicy, IdleTimeout, OnIdle, OnUnhealthy, Settings};
use rollproof::lab::network::{self, Capture, Lost};
use rollproof::timeline::{Event, Moment, Observation, Recording};
use rollproof::timing::{CLOSE_NOTICED, secs};
use rstest::rstest;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::kernel::stage_with;
use super::stage::{carries, greet, opinion, read_to_end, soon};
use crate::idle_verdicts::only_the_server_was_told;
use crate::namespaces::LAB;
use crate::shorthand::{header, inconclusive};

/// How long a connection may be idle in these tests; conntrack counts whole seconds.
const IDLE: Duration = secs(1);

fn idle(after: Duration, then: OnIdle) -> impl FnOnce(&mut Settings) {
    move |settings| (settings.health, settings.idle) = (HealthPolicy::Ignore, Some(IdleTimeout { after, then }))
}

/// Whether nothing is heard for that long: no byte, no end.
async fn hears_nothing(stream: &mut TcpStream, span: Duration) -> bool {
    tokio::time::timeout(span, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn an_idle_flow_is_reset_on_both_sides_and_only_then() {
    let Some(mut stage) = stage_with(idle(IDLE, OnIdle::Reset)).await else { return };
    let (_, mut busy) = stage.pair().await;
    let (_, (mut client, mut server)) = stage.pair().await;
    let opened = Moment::now();
    let ends = async { tokio::join!(read_to_end(&mut client), read_to_end(&mut server)) };
    let talk = async {
        let mut ticks = tokio::time::interval(IDLE / 4);
        for _ in 0..8 {
            ticks.tick().await;
            assert!(carries(&mut busy).await);
        }
    };
    let (ends, ()) = tokio::join!(async { (ends.await, Moment::now().since(opened)) }, talk);
    assert_eq!(ends.0, (Err(ErrorKind::ConnectionReset), Err(ErrorKind::ConnectionReset)));
    assert!(ends.1 >= IDLE && ends.1 <= IDLE + CLOSE_NOTICED, "{:?}", ends.1);
    // And then it comes for that one, too.
    assert_eq!(read_to_end(&mut busy.0).await, Err(ErrorKind::ConnectionReset));
    stage.balancer.check().unwrap();
}

#[tokio::test]
async fn whoever_speaks_on_a_forgotten_flow_is_reset_and_the_other_side_learns_nothing() {
    let Some(mut stage) = stage_with(idle(IDLE, OnIdle::ResetOnUse)).await else { return };
    let (_, (mut client, mut server)) = stage.pair().await;
    assert!(hears_nothing(&mut client, IDLE + CLOSE_NOTICED / 2).await, "nobody has spoken yet");
    server.write_all(b"x").await.unwrap();
    assert_eq!(read_to_end(&mut server).await, Err(ErrorKind::ConnectionReset));
    assert!(hears_nothing(&mut client, CLOSE_NOTICED / 2).await);
    client.write_all(b"x").await.unwrap();
    assert_eq!(read_to_end(&mut client).await, Err(ErrorKind::ConnectionReset));
}

/// Why there is a rule that drops what belongs to no flow: without it a forgotten flow is not forgotten silently. A run in which that
/// happens proves nothing, as its packets tell.
#[tokio::test]
async fn without_the_rule_for_unknown_packets_the_clients_kernel_resets_the_server() {
    let Some(mut stage) = stage_with(idle(IDLE, OnIdle::Silent)).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let capture = Capture::start(&stage.network, &folder.path().join("packets.pcapng"), &stage.recorder).await.unwrap();
    let opened = Moment::now();
    let (_, (mut client, mut server)) = stage.pair().await;
    let from = client.local_addr().unwrap().to_string();
    let flush = format!("flush chain ip balancer_{} known", stage.balancer.address().port());
    let balancer = stage.network.balancer.namespace().unwrap();
    let flushed = balancer
        .run(move || Command::new("nft").env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").arg(flush).status())
        .await
        .unwrap();
    assert!(flushed.unwrap().success());
    assert!(hears_nothing(&mut client, IDLE + CLOSE_NOTICED).await);
    server.write_all(b"x").await.unwrap();
    assert_eq!(read_to_end(&mut server).await, Err(ErrorKind::ConnectionReset));
    assert!(hears_nothing(&mut client, CLOSE_NOTICED).await, "it did not know that address");

    capture.end().await.unwrap();
    let mut observations: Vec<_> = stage
        .recorder
        .collect(|seen: &Observation| Some(seen.clone()).filter(|seen| matches!(seen.event, Event::Packets(_))));
    observations.push(Observation { at: opened, event: only_the_server_was_told(&from, IDLE) });
    observations.sort_by_key(|seen| seen.at);
    let run = Recording { header: header(None, &["IDLE-1"]), observations };
    inconclusive("IDLE-1", "reached the client of timer under their own address").compare(&run);
}

/// Where nobody is told, keepalive decides: shorter than the timeout it holds the flow, longer it finds out, and without it a
/// reader never does.
#[rstest]
#[case::shorter(Some(IDLE), IDLE * 2, None)]
#[case::longer(Some(IDLE * 2), IDLE, Some(ErrorKind::TimedOut))]
#[case::none(None, IDLE, None)]
#[tokio::test]
async fn keepalive_holds_a_flow_or_finds_out(
    #[case] keepalive: Option<Duration>,
    #[case] timeout: Duration,
    #[case] told: Option<ErrorKind>,
) {
    let Some(mut stage) = stage_with(idle(timeout, OnIdle::Silent)).await else { return };
    let (_, mut pair) = stage.pair().await;
    if let Some(after) = keepalive {
        let keepalive = TcpKeepalive::new().with_time(after).with_interval(IDLE).with_retries(2);
        SockRef::from(&pair.0).set_tcp_keepalive(&keepalive).unwrap();
    }
    // Longer than the keepalive and its two probes, and than two timeouts.
    let heard = tokio::time::timeout(IDLE * 6, pair.0.read_u8()).await;
    assert_eq!(heard.ok().map(|heard| heard.unwrap_err().kind()), told);
    let held = keepalive.is_some_and(|keepalive| keepalive < timeout);
    if told.is_none() {
        pair.0.write_all(b"x").await.unwrap();
        assert_eq!(!hears_nothing(&mut pair.1, IDLE).await, held);
    }
}

#[rstest]
#[case::at_once(OnUnhealthy::Reset, Duration::ZERO)]
#[case::after_a_while(OnUnhealthy::Drain { after: IDLE }, IDLE)]
#[tokio::test]
async fn a_drained_backend_keeps_its_flows_until_the_deadline(#[case] policy: OnUnhealthy, #[case] drain: Duration) {
    let Some(mut stage) = stage_with(|settings| settings.on_unhealthy = policy).await else { return };
    let (mut leaving, mut staying) = (Vec::new(), Vec::new());
    while leaving.len() < 2 || staying.is_empty() {
        let (index, pair) = stage.pair().await;
        if index == 0 { leaving.push(pair) } else { staying.push(pair) }
    }
    stage.fakes[0].health.fail();
    let (out, _) = opinion(&stage.recorder, &stage.fakes[0], 2).await;
    stage.balancer.applied().await;
    let (_, (new, _)) = stage.pair().await;
    let (mut busy, mut idle) = (leaving.remove(0), leaving.remove(0));
    let mut carried = 0;
    let told = loop {
        // In use until the end.
        match soon(async { (busy.0.write_all(b"x").await.and(busy.1.read_u8().await)).map(drop) }).await {
            Ok(()) => carried += 1,
            Err(error) => break error.kind(),
        }
    };
    let lasted = Moment::now().since(out);
    assert!(lasted >= drain && lasted <= drain + CLOSE_NOTICED, "{lasted:?}");
    assert!(carried > 0 || drain.is_zero());
    assert!(matches!(told, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{told:?}");
    assert_eq!(read_to_end(&mut idle.0).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(read_to_end(&mut idle.1).await, Err(ErrorKind::ConnectionReset));
    assert!(carries(&mut staying[0]).await);
    drop(new);
    stage.balancer.check().unwrap();
}

/// A client's port comes round again within seconds: it must not be carried where its last connection was.
#[tokio::test]
async fn a_flow_that_was_ended_is_forgotten() {
    let Some(mut stage) = stage_with(|settings| settings.on_unhealthy = OnUnhealthy::Reset).await else { return };
    let (mut leaving, mut staying) = (None, None);
    while leaving.is_none() || staying.is_none() {
        let (index, pair) = stage.pair().await;
        if index == 0 { leaving = Some(pair) } else { staying = Some(pair) }
    }
    let ((mut client, mut server), mut staying) = leaving.zip(staying).unwrap();
    stage.fakes[0].health.fail();
    opinion(&stage.recorder, &stage.fakes[0], 2).await;
    stage.balancer.applied().await;
    assert_eq!(read_to_end(&mut client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(read_to_end(&mut server).await, Err(ErrorKind::ConnectionReset));
    let local = client.local_addr().unwrap();
    drop((client, server));
    // For so long, what is left of it is answered with RST.
    assert!(hears_nothing(&mut staying.0, CLOSE_NOTICED * 3 / 2).await, "that flow was not to be ended");
    let again = stage.network.client.socket(stage.balancer.address()).await.unwrap();
    again.set_reuseaddr(true).unwrap();
    again.bind(local).unwrap();
    let again = greet(soon(again.connect(stage.balancer.address())).await.unwrap()).await;
    let [one, other] = &mut stage.fakes;
    let met = tokio::select! { _ = one.met() => 0, _ = other.met() => 1 };
    assert_eq!(met, 1, "carried to the backend that is out of service");
    drop(again);
    stage.balancer.check().unwrap();
}

#[tokio::test]
async fn behind_a_hairpin_a_node_is_carried_to_its_own_backend_whatever_its_health() {
    let own = network::node(LAB, 0);
    let hairpin = |settings: &mut Settings| drop(settings.hairpin.insert(own, "apiserver-0".to_owned()));
    let Some(mut stage) = stage_with(hairpin).await else { return };
    stage.fakes[0].health.fail();
    opinion(&stage.recorder, &stage.fakes[0], 2).await;
    stage.balancer.applied().await;
    for _ in 0..16 {
        let socket = stage.network.client.socket(stage.balancer.address()).await.unwrap();
        socket.bind((own, 0).into()).unwrap();
        let inside = greet(soon(socket.connect(stage.balancer.address())).await.unwrap()).await;
        stage.fakes[0].met().await;
        let (index, outside) = stage.pair().await;
        assert_eq!(index, 1);
        drop((inside, outside));
    }
}

/// Half of what a node sends comes back to it, and is lost; nobody else notices.
#[tokio::test]
async fn what_is_carried_from_a_node_to_itself_is_lost() {
    let own = network::node(LAB, 0);
    let lost = |settings: &mut Settings| drop(settings.loops_lost.insert(own, "apiserver-0".to_owned()));
    let Some(mut stage) = stage_with(lost).await else { return };
    let mut met = [0; 2];
    for _ in 0..24 {
        let socket = stage.network.client.socket(stage.balancer.address()).await.unwrap();
        socket.bind((own, 0).into()).unwrap();
        match tokio::time::timeout(IDLE / 4, socket.connect(stage.balancer.address())).await {
            Ok(connected) => {
                drop(greet(connected.unwrap()).await);
                stage.fakes[1].met().await;
                met[1] += 1;
            }
            Err(_) => met[0] += 1,
        }
        drop(stage.pair().await);
    }
    assert!(met[0] > 0 && met[1] > 0, "{met:?}");
}

/// A lost backend looks dead from the client's end only: nothing of the balancer's answers in its place.
#[tokio::test]
async fn a_flow_to_a_lost_backend_is_told_nothing_until_it_is_drained() {
    let drained = |settings: &mut Settings| {
        (settings.on_unhealthy, settings.timeout) = (OnUnhealthy::Drain { after: IDLE }, secs(1));
    };
    let Some(mut stage) = stage_with(drained).await else { return };
    let (index, (mut client, mut server)) = stage.pair().await;
    let hole = stage.network.black_hole(index as u8, Lost::Both).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, Err(ErrorKind::ConnectionReset));
    assert!(hears_nothing(&mut server, CLOSE_NOTICED).await);
    hole.heal().await.unwrap();
}

//! Labs in network namespaces. Where none can be made, these tests have nothing to show, and say so.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::time::Instant;

use pcap_file::pcapng::{Block, PcapNgReader};
use rollproof::lab::network::{self, Capture, Lost, Network, Site, namespaces};
use rollproof::lab::wait;
use rollproof::timeline::{Event, Packets, Party, Recorder, SegmentKind};
use rollproof::timing::{millis, secs};
use rstest::rstest;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::keeper::stage::{Home, program, soon};

/// Any number: namespaces have no names, so no two labs meet.
pub(crate) const LAB: u8 = 250;

/// A network with that many apiservers, if this machine can have one.
pub(crate) async fn network(servers: u8) -> Option<Network> {
    if let Some(reason) = rollproof::lab::balancer::kernel::unmet() {
        eprintln!("nothing shown: {reason}");
        return None;
    }
    Some(namespaces::start(LAB, servers).await.unwrap())
}

/// Listens as apiserver `index` does.
pub(crate) async fn listen(network: &Network, index: u8) -> TcpListener {
    let address = network::apiserver(LAB, index);
    let socket = network.server(index).socket(address).await.unwrap();
    socket.bind(address).unwrap();
    socket.listen(1024).unwrap()
}

#[tokio::test]
async fn a_lab_in_namespaces_is_reached_from_within_and_from_nowhere_else() {
    let Some(network) = network(2).await else { return };
    let address = network::apiserver(LAB, 1);
    let listener = listen(&network, 1).await;
    for (site, from) in [
        (&network.client, network::client(LAB)),
        (&network.balancer, network::balancer(LAB).ip()),
        (&network.etcd, network::etcd_client(LAB).ip()),
        (&network.server(1), address.ip()),
        (&network.server(0), network::apiserver(LAB, 0).ip()),
    ] {
        let (client, accepted) = tokio::join!(soon(site.connect(address)), soon(listener.accept()));
        client.unwrap();
        assert_eq!(accepted.unwrap().1.ip(), from, "nobody stands in for the client");
    }
    // A client "on the node" of an apiserver.
    let socket = network.client.socket(address).await.unwrap();
    socket.bind((network::node(LAB, 1), 0).into()).unwrap();
    let (client, accepted) = tokio::join!(soon(socket.connect(address)), soon(listener.accept()));
    assert_eq!((client.is_ok(), accepted.unwrap().1.ip()), (true, network::node(LAB, 1)));
    // The escape guard: from the wrong place the address is this machine's own, and nobody's.
    assert_eq!(soon(TcpStream::connect(address)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(soon(Site::default().connect(address)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // And nothing leads out.
    let outside = "192.0.2.1:443".parse().unwrap();
    assert_eq!(soon(network.client.connect(outside)).await.unwrap_err().kind(), ErrorKind::NetworkUnreachable);
}

#[tokio::test]
async fn a_child_runs_in_the_namespace_that_it_is_given() {
    let Some(network) = network(1).await else { return };
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let mut child = program(&claim, "cat", &["/proc/net/dev"]);
    child.network = network.server(0).file();
    let child = keeper.spawn(child).await.unwrap();
    assert_eq!(soon(child.exited()).await.unwrap().status, "exit status: 0");
    let seen = std::fs::read_to_string(claim.folder.join("log")).unwrap();
    let mut interfaces: Vec<_> = seen.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    interfaces.sort_unstable();
    assert_eq!(interfaces, ["lo", "to-balancer", "to-etcd"]);
}

#[tokio::test]
async fn a_child_that_cannot_enter_its_namespace_does_not_run_elsewhere() {
    let home = Home::new();
    let (keeper, claim) = home.lab().await;
    let mut child = program(&claim, "true", &[]);
    child.network = Some(claim.folder.join("log"));
    let child = keeper.spawn(child).await.unwrap();
    assert_eq!(soon(child.exited()).await.unwrap().status, "exit status: 3");
    let said = std::fs::read_to_string(claim.folder.join("log")).unwrap();
    assert!(said.contains("cannot enter the network namespace"), "{said}");
}

/// A connection from the client to apiserver 0, past the balancer's rules but by its cables.
async fn pair(network: &Network, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let connect = network.client.connect(network::apiserver(LAB, 0));
    let (client, accepted) = tokio::join!(soon(connect), soon(listener.accept()));
    (client.unwrap(), accepted.unwrap().0)
}

/// Whether a byte arrives within a few round trips and retransmissions (the first ones take 200, 400 and 800 ms).
async fn arrives(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    from.write_all(b"x").await.unwrap();
    tokio::time::timeout(secs(1), to.read_u8()).await.is_ok_and(|read| read.is_ok())
}

#[rstest]
#[case::both_ways(Lost::Both, false, false)]
#[case::to_the_server(Lost::ToServer, false, true)]
#[case::from_the_server(Lost::FromServer, true, false)]
#[tokio::test]
async fn a_black_hole_loses_what_it_is_told_and_says_nothing(
    #[case] lost: Lost,
    #[case] hears: bool,
    #[case] is_heard: bool,
) {
    let Some(network) = network(2).await else { return };
    let listener = listen(&network, 0).await;
    let other = listen(&network, 1).await;
    let (mut client, mut server) = pair(&network, &listener).await;
    assert!(arrives(&mut client, &mut server).await && arrives(&mut server, &mut client).await);

    let hole = network.black_hole(0, lost).await.unwrap();
    assert_eq!(arrives(&mut client, &mut server).await, hears);
    assert_eq!(arrives(&mut server, &mut client).await, is_heard);
    // New ones neither; the other apiserver's cable is whole; and past the balancer the apiserver can be asked on.
    let connect = tokio::time::timeout(secs(1), network.client.connect(network::apiserver(LAB, 0))).await;
    assert!(connect.is_err(), "neither connected nor refused: {connect:?}");
    let (through, accepted) =
        tokio::join!(soon(network.client.connect(network::apiserver(LAB, 1))), soon(other.accept()));
    assert!(through.is_ok() && accepted.is_ok());
    assert!(soon(network.server(0).connect(network::apiserver(LAB, 0))).await.is_ok());

    // What was lost is sent again.
    hole.heal().await.unwrap();
    if !hears {
        assert_eq!(soon(server.read_u8()).await.unwrap(), b'x');
    }
    if !is_heard {
        assert_eq!(soon(client.read_u8()).await.unwrap(), b'x');
    }
}

/// Bytes pass, and RSTs the other way.
#[rstest]
#[case::to_clients(Lost::ResetsToClients)]
#[case::to_the_server(Lost::ResetsToServer)]
#[tokio::test]
async fn a_reset_is_lost_on_its_way_to_one_side(#[case] lost: Lost) {
    let Some(network) = network(1).await else { return };
    let listener = listen(&network, 0).await;
    let ends = pair(&network, &listener).await;
    let mut others = pair(&network, &listener).await;
    let hole = network.black_hole(0, lost).await.unwrap();
    assert!(arrives(&mut others.0, &mut others.1).await && arrives(&mut others.1, &mut others.0).await);
    let to_the_client = lost == Lost::ResetsToClients;
    let (mut left, ending) = if to_the_client { ends } else { (ends.1, ends.0) };
    let (ended, mut told) = if to_the_client { others } else { (others.1, others.0) };
    for end in [&ending, &ended] {
        end.set_zero_linger().unwrap();
    }
    drop((ending, ended));
    assert_eq!(soon(told.read_u8()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(tokio::time::timeout(secs(1), left.read_u8()).await.is_err(), "it knows nothing");
    hole.heal().await.unwrap();
    // What it sends now is answered.
    left.write_all(b"x").await.unwrap();
    assert_eq!(soon(left.read_u8()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_black_hole_ends_when_its_guard_is_dropped() {
    let Some(network) = network(1).await else { return };
    let listener = listen(&network, 0).await;
    let (mut client, mut server) = pair(&network, &listener).await;
    drop(network.black_hole(0, Lost::Both).await.unwrap());
    client.write_all(b"x").await.unwrap();
    assert_eq!(soon(server.read_u8()).await.unwrap(), b'x');
}

#[rstest]
#[case::refused(Lost::Refused, Some(ErrorKind::ConnectionReset), ErrorKind::ConnectionRefused)]
// For an established connection that is no error: the kernel goes on trying.
#[case::unreachable(Lost::Unreachable, None, ErrorKind::HostUnreachable)]
#[tokio::test]
async fn whoever_is_answered_in_place_of_an_apiserver_is_told_at_once(
    #[case] lost: Lost,
    #[case] established: Option<ErrorKind>,
    #[case] new: ErrorKind,
) {
    let Some(network) = network(1).await else { return };
    let listener = listen(&network, 0).await;
    let (mut client, _server) = pair(&network, &listener).await;
    let hole = network.black_hole(0, lost).await.unwrap();
    assert_eq!(soon(network.client.connect(network::apiserver(LAB, 0))).await.unwrap_err().kind(), new);
    // What a proxy sends is answered as well.
    assert_eq!(soon(network.balancer.connect(network::apiserver(LAB, 0))).await.unwrap_err().kind(), new);
    client.write_all(b"x").await.unwrap();
    let told = tokio::time::timeout(secs(1), client.read_u8()).await.ok();
    assert_eq!(told.map(|told| told.unwrap_err().kind()), established);
    hole.heal().await.unwrap();
    assert!(soon(network.client.connect(network::apiserver(LAB, 0))).await.is_ok());
}

#[tokio::test]
async fn a_share_of_the_packets_can_be_lost() {
    let Some(network) = network(1).await else { return };
    let listener = listen(&network, 0).await;
    let (mut client, mut server) = pair(&network, &listener).await;
    let all = network.black_hole(0, Lost::Percent(100)).await.unwrap();
    assert!(!arrives(&mut client, &mut server).await);
    all.heal().await.unwrap();
    assert_eq!(soon(server.read_u8()).await.unwrap(), b'x');
    let none = network.black_hole(0, Lost::Percent(0)).await.unwrap();
    assert!(arrives(&mut client, &mut server).await);
    none.heal().await.unwrap();
    // Of so many packets some are lost, and each is waited for: 200 ms, at least.
    let some = network.black_hole(0, Lost::Percent(20)).await.unwrap();
    let began = Instant::now();
    for _ in 0..40 {
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        server.write_all(b"y").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'y');
    }
    assert!(began.elapsed() >= millis(200), "nothing was lost in {:?}", began.elapsed());
    some.heal().await.unwrap();
}

/// What Wireshark is shown, and verdicts are told, of one connection: both sides of the router, who spoke, and how it ended.
#[tokio::test]
async fn a_capture_tells_the_life_of_a_connection_on_both_sides() {
    let Some(network) = network(1).await else { return };
    let (home, recorder) = (tempfile::tempdir().unwrap(), Recorder::default());
    let capture = Capture::start(&network, &home.path().join("packets.pcapng"), &recorder).await.unwrap();
    let listener = listen(&network, 0).await;
    let (client, mut server) = pair(&network, &listener).await;
    let from = client.local_addr().unwrap().to_string();
    let keepalive = TcpKeepalive::new().with_time(secs(1)).with_interval(secs(1));
    SockRef::from(&client).set_tcp_keepalive(&keepalive).unwrap();
    assert!(tokio::time::timeout(millis(3500), server.read_u8()).await.is_err(), "nobody has spoken");
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(soon(server.read_u8()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // The last packet is captured before it arrives, and taken in soon.
    let seen = || -> Vec<Packets> {
        recorder.collect(|seen| match &seen.event {
            Event::Packets(packets) => Some(packets.clone()).filter(|packets| packets.client == from),
            _ => None,
        })
    };
    let both = wait::until(secs(5), "the capture to tell both sides", async || match seen().len() {
        2 => ControlFlow::Break(()),
        sides => ControlFlow::Continue(format!("{sides} sides")),
    });
    both.await.unwrap();
    capture.end().await.unwrap();
    let mut seen = seen();
    seen.sort_by(|one, other| other.interface.cmp(&one.interface));
    assert_eq!(seen.iter().map(|it| it.interface.as_str()).collect::<Vec<_>>(), ["to-client", "to-apiserver-0"]);
    for packets in &seen {
        let of = |kind| packets.segments.iter().filter(move |it| it.kind == kind).map(|it| it.from).collect::<Vec<_>>();
        assert_eq!(of(SegmentKind::Syn), [Party::Client, Party::Server], "{packets:?}");
        assert_eq!(of(SegmentKind::Reset), [Party::Client], "{packets:?}");
        let every = packets.keepalive_every(Party::Client).unwrap();
        assert!((millis(900)..millis(1500)).contains(&every), "{packets:?}");
        assert!(of(SegmentKind::Keepalive).iter().all(|from| *from == Party::Client));
    }
    let mut file = PcapNgReader::new(std::fs::File::open(capture.file()).unwrap()).unwrap();
    let (mut interfaces, mut frames) = (0, 0);
    while let Some(block) = file.next_block() {
        match block.unwrap().0 {
            Block::InterfaceDescription(_) => interfaces += 1,
            Block::EnhancedPacket(_) => frames += 1,
            _ => {}
        }
    }
    let told: usize = seen.iter().map(|packets| packets.segments.len()).sum();
    assert!(interfaces == 2 && frames >= told, "{interfaces} interfaces, {frames} frames, {told} segments");
}

#[tokio::test]
async fn a_slow_cable_loses_nothing() {
    let Some(network) = network(2).await else { return };
    if let Some(unmet) = network::delay::unmet() {
        return eprintln!("nothing shown: {unmet}");
    }
    let (listener, other) = (listen(&network, 0).await, listen(&network, 1).await);
    let (mut client, mut server) = pair(&network, &listener).await;
    let late = millis(400);
    let round_trip = async |client: &mut TcpStream, server: &mut TcpStream| {
        let began = Instant::now();
        client.write_all(b"x").await.unwrap();
        soon(server.read_u8()).await.unwrap();
        server.write_all(b"y").await.unwrap();
        soon(client.read_u8()).await.unwrap();
        began.elapsed()
    };
    let slow = network.delay(0, late).await.unwrap();
    assert!(round_trip(&mut client, &mut server).await >= 2 * late);
    // The other apiserver's cable is as it was.
    let connected = Instant::now();
    let connect = network.client.connect(network::apiserver(LAB, 1));
    let (through, accepted) = tokio::join!(soon(connect), soon(other.accept()));
    assert!(through.is_ok() && accepted.is_ok() && connected.elapsed() < late);

    // What is held goes on its way when it ends, and nothing is held any more.
    client.write_all(b"x").await.unwrap();
    slow.heal().await.unwrap();
    assert_eq!(soon(server.read_u8()).await.unwrap(), b'x');
    assert!(round_trip(&mut client, &mut server).await < 2 * late);
}

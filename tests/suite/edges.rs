//! How exact recorded times are, beside packets.

use std::time::Duration;

use rollproof::report::{Edges, edges_markdown};
use rollproof::timeline::{
    ConnectionKind, ConnectionUse, ErrorClass, Event, Exchange, Observation, Packets, Party, Phase, Recording, Request,
    Segment, SegmentKind,
};
use rollproof::timing::millis;

use crate::shorthand::{answered, failed, header, observed};

/// A request from that port, begun at `at` ms, that took so many.
fn request(at: u64, on: ConnectionKind, port: u16, took: u64, exchange: Exchange) -> Observation {
    let (local, remote) = (format!("127.77.1.50:{port}"), "127.77.1.1:6443".to_owned());
    let connection = Some(ConnectionUse { local, remote, reused: false, idle: Duration::ZERO });
    let exchange = Exchange { connection, took: millis(took), ..exchange };
    let request = Request { probe: "requester-new".into(), on, retries: None, exchange, attempts: Vec::new() };
    observed(at, Event::Request(request))
}

/// A connection from that port whose SYN passed at `at` ms, and an end in the server's name so many later.
fn packets(at: u64, interface: &str, port: u16, end: Option<(u64, SegmentKind)>) -> Observation {
    let segment = |after, from, kind| Segment { after: millis(after), from, kind };
    let syn = segment(0, Party::Client, SegmentKind::Syn);
    let end = end.map(|(after, kind)| segment(after, Party::Server, kind));
    let (client, server) = (format!("127.77.1.50:{port}"), "127.77.1.1:6443".to_owned());
    let segments = [syn].into_iter().chain(end).collect();
    observed(at, Event::Packets(Packets { interface: interface.into(), client, server, segments }))
}

fn recording(observations: Vec<Observation>) -> Recording {
    let mut observations = observations;
    observations.sort_by_key(|seen| seen.at);
    Recording { header: header(None, &[]), observations }
}

#[test]
fn edges_of_new_connections_are_laid_beside_their_packets() {
    let reset = || failed(Phase::Tls, ErrorClass::ConnectionReset);
    let seen = recording(vec![
        // Answered, and closed by the server afterwards: that is no edge.
        request(1000, ConnectionKind::New, 40001, 20, answered(200)),
        packets(1002, "to-client", 40001, Some((30, SegmentKind::Fin))),
        // On the other side of a proxy the same ends are another connection.
        packets(1500, "to-apiserver-0", 40001, None),
        // The port again, for one that fails.
        request(2000, ConnectionKind::New, 40001, 12, reset()),
        packets(2001, "to-client", 40001, Some((8, SegmentKind::Reset))),
        // Nobody tells it anything.
        request(3000, ConnectionKind::New, 40002, 10_000, failed(Phase::Dial, ErrorClass::Timeout)),
        packets(3005, "to-client", 40002, None),
        // Neither a kept connection nor one that nobody captured is asked.
        request(4000, ConnectionKind::Reused, 40003, 1, reset()),
        packets(4000, "to-client", 40003, Some((1, SegmentKind::Reset))),
        request(5000, ConnectionKind::New, 40004, 1, reset()),
    ]);
    let expected = Edges { begins: [1, 2, 5].map(millis).into(), ends: vec![millis(3)] };
    assert_eq!(Edges::of(&seen), expected);
    let scenario = &seen.header.scenario;
    let expected = format!(
        "\
| scenario | edge | count | p50 | p99 | greatest |
| --- | --- | --- | --- | --- | --- |
| {scenario} | begin | 3 | 2.00 ms | 5.00 ms | 5.00 ms |
| {scenario} | end | 1 | 3.00 ms | 3.00 ms | 3.00 ms |
"
    );
    assert_eq!(edges_markdown(&[seen]), expected);
}

#[test]
fn where_nothing_was_captured_there_is_nothing_to_say() {
    let seen = recording(vec![request(1000, ConnectionKind::New, 40001, 20, answered(200))]);
    assert_eq!(Edges::of(&seen), Edges::default());
    assert!(edges_markdown(&[seen]).ends_with("| end | 0 | - | - | - |\n"));
}

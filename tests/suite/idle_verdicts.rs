//! What the IDLE verdicts say about connections to timer-servers.

use std::time::Duration;

use rollproof::timeline::*;
use rollproof::timing::{CLOSE_NOTICED, Profile, idle_timeout, millis, timer_intervals, timer_observation};

use crate::shorthand::*;

const TIMEOUT: Duration = idle_timeout(Profile::Pr);

/// One side was told, having been idle for so long, by RST or FIN.
fn told(idle: Duration, class: Option<ErrorClass>) -> Option<Told> {
    let failure = class.map(|class| Failure { class, text: String::new() });
    Some(Told { after: idle, idle, failure })
}

fn reset(idle: Duration) -> Option<Told> {
    told(idle, Some(ErrorClass::ConnectionReset))
}

fn connection(interval: Duration, client: Option<Told>, server: Option<Told>, carries: Option<bool>) -> Event {
    Event::Timer(TimerConnection {
        probe: "timer".into(),
        client: "127.0.0.1:2".into(),
        peer: "127.0.0.1:3".into(),
        server: "apiserver-0".into(),
        manner: Manner::default(),
        interval,
        idle_timeout: TIMEOUT,
        lasted: timer_observation(TIMEOUT),
        client_told: client,
        server_told: server,
        carries,
    })
}

/// A connection that is left idle.
fn left(client: Option<Told>, server: Option<Told>, carries: Option<bool>) -> Event {
    connection(timer_intervals(TIMEOUT).1, client, server, carries)
}

/// One that is in use, and well.
fn used() -> Event {
    connection(timer_intervals(TIMEOUT).0, None, None, Some(true))
}

/// It was observed for so long.
fn lasting(connection: &mut Event, span: Duration) {
    if let Event::Timer(connection) = connection {
        connection.lasted = span;
    }
}

fn recording(connections: impl IntoIterator<Item = Event>) -> Recording {
    let observations = connections.into_iter().map(|connection| observed(1000, connection)).collect();
    Recording { header: header(None, &["IDLE-1", "IDLE-2"]), observations }
}

/// What becomes of a client's connection that was idle for so long, and of whose end the server is told only.
pub(crate) fn only_the_server_was_told(client: &str, idle: Duration) -> Event {
    let mut told = left(None, reset(idle), None);
    if let Event::Timer(connection) = &mut told {
        client.clone_into(&mut connection.client);
        connection.idle_timeout = idle;
    }
    told
}

/// An idle connection whose end nobody is told of.
pub(crate) fn silent() -> Recording {
    recording([used(), left(None, None, Some(false))])
}

/// An idle connection that is cut long before its time.
pub(crate) fn cut_early() -> Recording {
    let early = TIMEOUT / 2;
    recording([used(), left(reset(early), reset(early), None)])
}

/// A recording of one connection whose client sends keepalive probes after that silence.
fn kept_alive(after: Duration, end: Option<Told>, carries: Option<bool>) -> Recording {
    let keepalive = Keepalive { idle: after, interval: millis(1000), probes: 3 };
    let mut kept = left(end.clone(), end, carries);
    if let Event::Timer(connection) = &mut kept {
        connection.manner.keepalive = Some(keepalive);
    }
    Recording { header: header(None, &["IDLE-6"]), observations: vec![observed(1000, kept)] }
}

/// A connection that is cut though its client sends keepalive probes in time.
pub(crate) fn not_held() -> Recording {
    kept_alive(TIMEOUT / 3, reset(TIMEOUT), None)
}

#[test]
fn keepalive_within_the_timeout_holds_a_connection() {
    let in_time = TIMEOUT / 3;
    upheld().compare(&kept_alive(in_time, None, Some(true)));
    violated("IDLE-6", "its end after 11.000 s").compare(&not_held());
    violated("IDLE-6", "its end after 5.500 s").compare(&kept_alive(in_time, told(TIMEOUT / 2, None), None));
    violated("IDLE-6", "no end, and bytes that go nowhere").compare(&kept_alive(in_time, None, Some(false)));
    // Too seldom to hold anything.
    let nothing = "no connection had nothing but keepalive";
    inconclusive("IDLE-6", nothing).compare(&kept_alive(TIMEOUT, reset(TIMEOUT), None));
    let mut spoke = not_held();
    for seen in &mut spoke.observations {
        if let Event::Timer(connection) = &mut seen.event {
            connection.manner.writes_after = Some(in_time);
        }
    }
    inconclusive("IDLE-6", nothing).compare(&spoke);
}

#[test]
fn both_sides_have_to_be_told_at_once() {
    let check = |idle, expect: Expect| expect.compare(&recording([used(), idle]));
    check(left(reset(TIMEOUT), reset(TIMEOUT), None), upheld());
    check(left(told(TIMEOUT, None), told(TIMEOUT, None), None), upheld());
    check(left(reset(TIMEOUT), reset(TIMEOUT + CLOSE_NOTICED), None), upheld());
    let late = reset(TIMEOUT + CLOSE_NOTICED + millis(1));
    check(
        left(late, reset(TIMEOUT), None),
        violated("IDLE-1", "the client was told after 12.001 s, the server after 11.000 s"),
    );
    check(left(reset(TIMEOUT), None, None), violated("IDLE-1", "the client was told, the server was not"));
    check(left(None, reset(TIMEOUT), None), violated("IDLE-1", "the server was told, the client was not"));
    check(left(None, None, Some(false)), violated("IDLE-1", "neither side was told, and bytes go nowhere"));
    // Still there: then there was nothing to announce.
    check(left(None, None, Some(true)), inconclusive("IDLE-1", "no timeout was met"));
    inconclusive("IDLE-1", "no connection was left idle").compare(&recording([used()]));
}

#[test]
fn nothing_is_cut_but_what_was_idle_for_long_enough() {
    let idle = || left(reset(TIMEOUT), reset(TIMEOUT), None);
    violated("IDLE-2", "timer was cut (connection reset by peer) when it had been idle for 5.500 s")
        .compare(&cut_early());
    let often = timer_intervals(TIMEOUT).0;
    let broken = |client, server, carries| recording([idle(), connection(often, client, server, carries)]);
    violated("IDLE-2", "timer was cut (FIN)").compare(&broken(told(often, None), None, None));
    // Nothing came for as long as an idle timeout, though something was sent all the time.
    violated("IDLE-2", "timer was sent something every 0.212 s, and was cut when nothing had come for 11.000 s")
        .compare(&broken(reset(TIMEOUT), None, None));
    violated("IDLE-2", "timer had not been idle for that long, and bytes go nowhere").compare(&broken(
        None,
        None,
        Some(false),
    ));
    upheld().compare(&broken(None, None, Some(true)));
    // Forgotten silently; the server speaks at its interval, and is told then.
    let Some(spoken) = reset(Duration::ZERO) else { unreachable!() };
    let spoken = Told { after: timer_intervals(TIMEOUT).1, ..spoken };
    let mut forgotten = left(None, Some(spoken), None);
    inconclusive("IDLE-1", "the observation of timer was over when one side was told")
        .compare(&recording([used(), forgotten.clone()]));
    lasting(&mut forgotten, TIMEOUT * 3);
    violated("IDLE-1", "the server was told, the client was not").compare(&recording([used(), forgotten]));
    inconclusive("IDLE-2", "no connection was used for longer than the timeout").compare(&recording([idle()]));
}

#[test]
fn a_connection_that_was_not_observed_for_long_enough_proves_nothing() {
    let mut short = recording([used(), left(None, None, Some(true))]);
    for seen in &mut short.observations {
        if let Event::Timer(connection) = &mut seen.event {
            connection.lasted = TIMEOUT;
        }
    }
    inconclusive("IDLE-1", "no connection was left idle")
        .and_inconclusive("IDLE-2", "no connection was used")
        .compare(&short);
}

/// A lab whose kernel lets packets of forgotten flows through is no fault of anybody's balancer.
#[test]
fn packets_that_pass_without_a_flow_spoil_the_run() {
    let segment = |after, from, kind| Segment { after: millis(after), from, kind };
    let packets = |server: &str, segments| {
        let (interface, client) = ("to-client".into(), "127.0.0.1:2".into());
        Event::Packets(Packets { interface, client, server: server.into(), segments })
    };
    let run = |stray: &str| {
        let mut run = recording([used(), left(None, reset(TIMEOUT), None)]);
        let opened = packets("127.77.1.50:8443", vec![segment(0, Party::Client, SegmentKind::Syn)]);
        let refused = packets(stray, vec![segment(0, Party::Client, SegmentKind::Reset)]);
        run.observations.extend([observed(1000, opened), observed(27_000, refused)]);
        run
    };
    let says = "packets of 127.77.1.10:8600 reached the client of timer under their own address";
    inconclusive("IDLE-1", says).compare(&run("127.77.1.10:8600"));
    violated("IDLE-1", "the server was told, the client was not").compare(&run("127.77.1.50:8443"));
}

#[test]
fn where_nobody_tried_whether_bytes_come_through_nothing_is_proven() {
    let untried = "nobody tried whether bytes of timer still come through";
    let often = || connection(timer_intervals(TIMEOUT).0, None, None, None);
    let idle = || left(reset(TIMEOUT), reset(TIMEOUT), None);
    inconclusive("IDLE-1", untried).compare(&recording([used(), left(None, None, None)]));
    inconclusive("IDLE-2", untried).compare(&recording([often(), idle()]));
    inconclusive("IDLE-6", untried).compare(&kept_alive(TIMEOUT / 3, None, None));
    // One that held does not speak for another.
    inconclusive("IDLE-2", untried).compare(&recording([used(), often(), idle()]));
    violated("IDLE-1", "neither side was told").compare(&recording([used(), idle(), left(None, None, Some(false))]));
}

#[test]
fn a_stall_of_ours_excuses_only_what_it_can_explain() {
    let stalled = |mut recording: Recording, at: Duration| {
        recording.observations.push(observed(1000 + at.as_millis() as u64, Event::Stall(millis(600))));
        recording
    };
    let stall = "rollproof itself did not run for 0.600 s";
    let end = timer_observation(TIMEOUT);
    let (half, before, moment) = (TIMEOUT / 2, TIMEOUT - millis(300), end - millis(100));
    // An end that came, and one long before its time.
    violated("IDLE-6", "its end after 11.000 s").compare(&stalled(not_held(), before));
    violated("IDLE-2", "when it had been idle for 5.500 s")
        .and_inconclusive("IDLE-1", stall)
        .compare(&stalled(cut_early(), half - millis(300)));
    // Nothing said for a while may have been said while we did not look; unless the balancer says so itself.
    let often = timer_intervals(TIMEOUT).0;
    let late = Some(Told { after: end - millis(500), ..reset(often).unwrap() });
    let late = || recording([used(), connection(often, late.clone(), None, None)]);
    violated("IDLE-2", "when it had been idle for 0.212 s")
        .and_inconclusive("IDLE-1", "no connection")
        .compare(&stalled(late(), half));
    inconclusive("IDLE-2", stall)
        .and_inconclusive("IDLE-1", "no connection")
        .compare(&stalled(late(), end - millis(900)));
    let noted = |idle| {
        let connection = Connection {
            client: "127.0.0.1:2".into(),
            backend: Some("apiserver-0".into()),
            sent: 1,
            received: 1,
            idle,
            lasted: end,
            ended_by: Party::Balancer,
            end: End::Reset,
        };
        let mut recording = stalled(late(), end - millis(900));
        recording.observations.push(observed(1000, Event::Connection(connection)));
        recording
    };
    violated("IDLE-2", "when it had been idle for 0.212 s")
        .and_inconclusive("IDLE-1", "no connection")
        .compare(&noted(often));
    inconclusive("IDLE-2", stall).and_inconclusive("IDLE-1", "no connection").compare(&noted(TIMEOUT));
    // That nothing was told, or came through, was looked at in the end.
    violated("IDLE-1", "neither side was told").and_inconclusive("IDLE-2", stall).compare(&stalled(silent(), half));
    inconclusive("IDLE-1", stall).and_inconclusive("IDLE-2", stall).compare(&stalled(silent(), moment));
    let apart = || recording([used(), left(reset(TIMEOUT + CLOSE_NOTICED * 2), reset(TIMEOUT), None)]);
    violated("IDLE-1", "the client was told after 13.000 s")
        .and_inconclusive("IDLE-2", stall)
        .compare(&stalled(apart(), half));
    inconclusive("IDLE-1", stall)
        .and_inconclusive("IDLE-2", stall)
        .compare(&stalled(apart(), TIMEOUT + CLOSE_NOTICED * 3 / 2));
}

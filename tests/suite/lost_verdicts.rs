//! What the verdicts say about clients of an apiserver that is lost, and of watches that are cut while idle.

use rollproof::timeline::*;
use rollproof::timing::{millis, secs};

use crate::shorthand::*;

const LOST: u64 = 10_000;

fn recording(judged_by: &[&str], seen: impl IntoIterator<Item = (u64, Event)>) -> Recording {
    let mut header = header(None, judged_by);
    header.bounds.lost = secs(20);
    let mut observations: Vec<_> = seen.into_iter().map(|(at, event)| observed(at, event)).collect();
    observations.sort_by_key(|seen| seen.at);
    Recording { header, observations }
}

/// Apiserver 0 is lost at [`LOST`], until then, and does not answer the balancer's check.
fn lost_until(healed: u64) -> [(u64, Event); 3] {
    let loss = Loss { server: "apiserver-0".into(), lost: Lost::Both };
    [(LOST, Event::LossOn(loss.clone())), unchecked(), (healed, Event::LossOff(loss))]
}

fn unchecked() -> (u64, Event) {
    let (server, why) = ("apiserver-0".into(), "no answer".into());
    (LOST + 1000, Event::BackendHealth(BackendHealth { server, healthy: false, why, unanswered: true }))
}

/// A watch that is answered then, by that apiserver.
fn watch_at(at: u64, server: &str) -> [(u64, Event); 2] {
    let audit_id = format!("watch-{at}");
    let call = ListWatch {
        probe: WATCH.into(),
        call: Call::Watch,
        from: Some(7),
        any: false,
        initial_events: false,
        audit_id: audit_id.clone(),
        answer: Ok(200),
        took: millis(1),
    };
    let audited = Audited { server: server.into(), audit_id, stages: Vec::new(), status: Some(200) };
    [(at, Event::ListWatch(call)), (60_000, Event::Audited(audited))]
}

fn cut(at: u64) -> (u64, Event) {
    let failure = Some(Failure { class: ErrorClass::ConnectionReset, text: String::new() });
    (at, Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure }))
}

/// A raw TCP client that was there from 5 s on, and was told so long after.
fn reader(told: Option<u64>) -> (u64, Event) {
    let told = told.map(millis).map(|after| Told {
        after,
        idle: after,
        failure: Some(Failure { class: ErrorClass::Timeout, text: String::new() }),
    });
    let connection = TimerConnection {
        probe: "reader".into(),
        client: "127.0.0.1:2".into(),
        peer: "127.0.0.1:2".into(),
        server: "apiserver-0".into(),
        manner: Manner::default(),
        interval: secs(26),
        idle_timeout: secs(11),
        lasted: secs(40),
        client_told: told,
        server_told: None,
        carries: None,
    };
    (5000, Event::Timer(connection))
}

/// What passed one side of the balancer.
fn packets(interface: &str, segments: &[(u64, Party, SegmentKind)]) -> (u64, Event) {
    let segment = |&(after, from, kind): &(u64, Party, SegmentKind)| Segment { after: millis(after), from, kind };
    let (client, server) = ("127.0.0.1:2".into(), "127.0.0.1:1".into());
    let segments = segments.iter().map(segment).collect();
    (5000, Event::Packets(Packets { interface: interface.into(), client, server, segments }))
}

/// A reader that is told nothing.
pub(crate) fn unnoticed() -> Recording {
    recording(&["LOST-1"], lost_until(35_000).into_iter().chain([reader(None)]))
}

#[test]
fn a_silent_loss_has_to_be_noticed_by_whoever_was_connected() {
    let lost = |seen: Vec<(u64, Event)>| recording(&["LOST-1"], seen.into_iter().chain(lost_until(35_000)));
    violated("LOST-1", "reader had not noticed after 25.000 s").compare(&unnoticed());
    upheld().compare(&lost(vec![reader(Some(11_000))]));
    violated("LOST-1", "reader noticed after 24.000 s").compare(&lost(vec![reader(Some(29_000))]));

    let first = || watch_at(5000, "apiserver-0").to_vec();
    violated("LOST-1", "had not noticed after 25.000 s").compare(&lost(first()));
    upheld().compare(&lost([first(), watch_at(27_000, "apiserver-1").to_vec()].concat()));
    upheld().compare(&lost([first(), vec![cut(27_000)]].concat()));
    // It had gone elsewhere before.
    inconclusive("LOST-1", "nobody was connected")
        .compare(&lost([first(), watch_at(9000, "apiserver-1").to_vec()].concat()));
    inconclusive("LOST-1", "apiserver-0 was lost for 5.000 s only")
        .compare(&recording(&["LOST-1"], first().into_iter().chain(lost_until(15_000))));
}

#[test]
fn whoever_is_connected_to_a_frozen_apiserver_has_to_notice_as_well() {
    let frozen = |thawed, seen: &[(u64, Event)]| {
        let life =
            [(LOST, life("apiserver-0", Step::Frozen)), unchecked(), (thawed, life("apiserver-0", Step::Thawed))];
        recording(&["LOST-1"], seen.iter().cloned().chain(life))
    };
    let first = || watch_at(5000, "apiserver-0").to_vec();
    violated("LOST-1", "had not noticed after 25.000 s").compare(&frozen(35_000, &first()));
    upheld().compare(&frozen(35_000, &[first(), vec![cut(27_000)]].concat()));
    inconclusive("LOST-1", "nobody was connected").compare(&frozen(35_000, &watch_at(5000, "apiserver-1")));
    inconclusive("LOST-1", "apiserver-0 was lost for 5.000 s only").compare(&frozen(15_000, &first()));
}

#[test]
fn a_verdict_tells_what_was_on_the_wire() {
    use Party::Client;
    use SegmentKind::{Keepalive, Reset, Syn};
    let at_client = packets("to-client", &[(0, Client, Syn), (8000, Client, Keepalive), (38_000, Client, Keepalive)]);
    let at_server = packets("to-apiserver-0", &[(0, Client, Syn), (11_004, Client, Reset)]);
    let seen = lost_until(35_000).into_iter().chain([reader(None), at_client, at_server]);
    let text = "; on the wire: RST reached the server after 11.004 s, never the client, keepalive every 30.0 s";
    violated("LOST-1", text).compare(&recording(&["LOST-1"], seen));
}

#[test]
fn who_was_not_connected_any_more_did_not_notice() {
    let lost = |seen: Vec<(u64, Event)>| recording(&["LOST-1"], seen.into_iter().chain(lost_until(35_000)));
    // Told of its end before the loss, or too soon after it to have noticed it.
    inconclusive("LOST-1", "nobody was connected").compare(&lost(vec![reader(Some(3000))]));
    inconclusive("LOST-1", "nobody was connected").compare(&lost(vec![reader(Some(5900))]));
    inconclusive("LOST-1", "nobody was connected")
        .compare(&lost([watch_at(5000, "apiserver-0").to_vec(), vec![cut(10_200)]].concat()));
    upheld().compare(&lost(vec![reader(Some(3000)), reader(Some(11_000))]));
    // A watch that was never answered was not open.
    let mut refused = watch_at(5000, "apiserver-0").to_vec();
    if let Event::ListWatch(call) = &mut refused[0].1 {
        call.answer = Ok(503);
    }
    inconclusive("LOST-1", "nobody was connected").compare(&lost(refused));
    // Nobody knows where it was.
    let unlogged = vec![watch_at(5000, "apiserver-0")[0].clone(), cut(27_000), reader(Some(11_000))];
    inconclusive(
        "LOST-1",
        "watch had a watch open when an apiserver was lost at +10.000s, and no audit log says where",
    )
    .compare(&lost(unlogged.clone()));
    let hangs = unlogged.into_iter().filter(|(_, event)| !matches!(event, Event::Timer(_))).chain([reader(None)]);
    violated("LOST-1", "reader had not noticed after 25.000 s").compare(&lost(hangs.collect()));
}

#[test]
fn a_loss_that_did_not_bite_is_not_there_to_be_noticed() {
    let lost = |seen: Vec<(u64, Event)>| recording(&["LOST-1"], seen.into_iter().chain(lost_until(35_000)));
    let first = || watch_at(5000, "apiserver-0").to_vec();
    let delivered = |at: u64| {
        let (probe, object, kind) = (WATCH.into(), "x".into(), ChangeKind::Modified);
        (at, Event::Delivered(Delivered { probe, kind, object, revision: at, change: at }))
    };
    upheld().compare(&lost([first(), vec![delivered(10_500), cut(27_000)]].concat()));
    inconclusive("LOST-1", "an event came from there at +24.000s (watch): it did not bite")
        .compare(&lost([first(), vec![delivered(24_000), cut(27_000)]].concat()));
    inconclusive("LOST-1", "an event came from there at +24.000s")
        .compare(&lost([first(), vec![delivered(24_000)]].concat()));
    let clean = (27_000, Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure: None }));
    inconclusive("LOST-1", "the end of a watch came from there at +27.000s")
        .compare(&lost([first(), vec![clean]].concat()));
    // Nobody wanted anything of it.
    let unwanted = lost([first(), vec![cut(27_000)]].concat());
    let mut unwanted = unwanted;
    unwanted.observations.retain(|seen| !matches!(seen.event, Event::BackendHealth(_)));
    inconclusive("LOST-1", "nothing shows that it bit").compare(&unwanted);
    // A watch that is owed something, and hears nothing, does.
    let write = Event::Write(written(1, Verb::Create, "x", Effect::Certain));
    unwanted.observations.push(observed(12_000, write));
    unwanted.observations.sort_by_key(|seen| seen.at);
    upheld().compare(&unwanted);
}

#[test]
fn a_stall_of_ours_excuses_only_what_it_can_explain() {
    let stalled = |at: u64, client: (u64, Event)| {
        let stall = (at, Event::Stall(millis(600)));
        recording(&["LOST-1"], lost_until(35_000).into_iter().chain([client, stall]))
    };
    let stall = "rollproof itself did not run for 0.600 s";
    violated("LOST-1", "reader had not noticed after 25.000 s").compare(&stalled(20_000, reader(None)));
    inconclusive("LOST-1", stall).compare(&stalled(34_700, reader(None)));
    violated("LOST-1", "reader noticed after 24.000 s").compare(&stalled(20_000, reader(Some(29_000))));
    inconclusive("LOST-1", stall).compare(&stalled(33_500, reader(Some(29_000))));
    inconclusive("LOST-1", stall).compare(&stalled(20_000, reader(Some(11_000))));
}

fn asked_on(local: &str, class: Option<ErrorClass>) -> Event {
    asked(local, true, class)
}

fn asked(local: &str, reused: bool, class: Option<ErrorClass>) -> Event {
    let exchange = class.map_or_else(|| answered(200), |class| failed(Phase::Headers, class));
    let connection = Some(ConnectionUse { local: local.into(), remote: String::new(), reused, idle: millis(50) });
    let exchange = Exchange { connection, ..exchange };
    let (probe, on) = ("kube-rs".into(), ConnectionKind::Library);
    Event::Request(Request { probe, on, retries: None, exchange, attempts: Vec::new() })
}

/// A connection on which a request hung carries the next, too.
pub(crate) fn used_twice() -> Recording {
    let hung = asked_on("127.0.0.1:4", Some(ErrorClass::Timeout));
    recording(&["LOST-2"], [(1000, hung), (11_000, asked_on("127.0.0.1:4", None))])
}

#[test]
fn a_dead_connection_must_not_carry_another_request() {
    let hung = || asked_on("127.0.0.1:4", Some(ErrorClass::Timeout));
    let requests = |seen: Vec<(u64, Event)>| recording(&["LOST-2"], seen);
    violated("LOST-2", "kube-rs used 127.0.0.1:4 again, whose request of +1.000s had been given up")
        .compare(&used_twice());
    let (again, another) = (|| asked_on("127.0.0.1:4", None), || asked_on("127.0.0.1:5", None));
    upheld().compare(&requests(vec![(1000, hung()), (11_000, another())]));
    inconclusive("LOST-2", "no request on a pooled connection")
        .compare(&requests(vec![(1000, again()), (2000, again())]));
    // The first request on a connection tells as much as the next.
    let first = || asked("127.0.0.1:4", false, Some(ErrorClass::Timeout));
    violated("LOST-2", "used 127.0.0.1:4 again").compare(&requests(vec![(1000, first()), (11_000, again())]));
    // Ports come again: that is a new connection.
    let new = asked("127.0.0.1:4", false, None);
    upheld().compare(&requests(vec![(1000, first()), (11_000, new), (12_000, again())]));
    // Nothing was asked after that; or nobody knows where.
    inconclusive("LOST-2", "nothing was asked after").compare(&requests(vec![(1000, hung())]));
    let mut unknown = another();
    if let Event::Request(request) = &mut unknown {
        request.exchange.connection = None;
    }
    inconclusive("LOST-2", "nothing was asked after").compare(&requests(vec![(1000, hung()), (11_000, unknown)]));
    // That is on record, whatever we did meanwhile.
    let mut stalled = used_twice();
    stalled.observations.push(observed(10_900, Event::Stall(millis(600))));
    violated("LOST-2", "used 127.0.0.1:4 again").compare(&stalled);
}

/// A watch that is cut, and goes on 15 s later.
pub(crate) fn resumed_late() -> Recording {
    let late = watch_at(35_000, "apiserver-0");
    recording(&["IDLE-3"], watch_at(5000, "apiserver-0").into_iter().chain([cut(20_000)]).chain(late))
}

#[test]
fn a_watch_that_was_cut_has_to_go_on_soon_and_where_it_was() {
    let first = || watch_at(5000, "apiserver-0").into_iter();
    // The recording goes on, though not about the watch.
    let goes_on = || (60_000, life("apiserver-0", Step::Ready));
    let cut_and = |seen: Vec<(u64, Event)>| recording(&["IDLE-3"], first().chain([cut(20_000), goes_on()]).chain(seen));
    let again = || watch_at(20_500, "apiserver-1").to_vec();
    violated("IDLE-3", "was open again after 15.001 s").compare(&resumed_late());
    upheld().compare(&cut_and(again()));
    violated("IDLE-3", "List request from the newest")
        .compare(&cut_and([vec![(20_100, list_call(Call::List, None))], again()].concat()));
    violated("IDLE-3", "Watch request from the newest").compare(&cut_and(vec![(20_100, list_call(Call::Watch, None))]));
    violated("IDLE-3", "was never open again").compare(&cut_and(vec![]));
    inconclusive("IDLE-3", "no watch was cut").compare(&recording(&["IDLE-3"], first()));
    inconclusive("IDLE-3", "the recording ends soon").compare(&recording(&["IDLE-3"], first().chain([cut(20_000)])));
    // A stall of ours hides only what it falls into, and explains no more.
    for (at, hides) in [(12_000, false), (19_800, true), (40_000, false)] {
        let mut stalled = cut_and(again());
        stalled.observations.push(observed(at, Event::Stall(millis(600))));
        let expect = if hides { inconclusive("IDLE-3", "itself did not run") } else { upheld() };
        expect.compare(&stalled);
    }
    let mut late = cut_and(watch_at(35_000, "apiserver-0").to_vec());
    late.observations.push(observed(22_000, Event::Stall(millis(600))));
    inconclusive("IDLE-3", "itself did not run").compare(&late);
    late.observations.last_mut().unwrap().at = Moment(40_000_000_000);
    violated("IDLE-3", "was open again after 15.001 s").compare(&late);
}

#[test]
fn a_watch_that_was_cut_goes_on_from_the_last_revision_that_it_knows() {
    let delivered = |at, revision| {
        let (probe, object, kind) = (WATCH.into(), "x".into(), ChangeKind::Modified);
        (at, Event::Delivered(Delivered { probe, kind, object, revision, change: revision }))
    };
    let from = |revision| (20_500, list_call(Call::Watch, Some(revision)));
    let knew = |known: Vec<(u64, Event)>, then: Vec<(u64, Event)>| {
        let first = watch_at(5000, "apiserver-0").into_iter();
        recording(&["IDLE-3"], first.chain(known).chain([cut(20_000)]).chain(then))
    };
    let event = || vec![delivered(6000, 812)];
    upheld().compare(&knew(event(), vec![from(812)]));
    upheld().compare(&knew(event(), vec![from(815)]));
    let older = violated("IDLE-3", "Watch request from revision 2: 200, and it knew revision 812");
    older.compare(&knew(event(), vec![from(2)]));
    // By a bookmark, by a list, and by what it asked from itself.
    let bookmarked = || vec![delivered(6000, 812), (7000, bookmark(820, false))];
    violated("IDLE-3", "it knew revision 820").compare(&knew(bookmarked(), vec![from(812)]));
    let listed = Listed { probe: WATCH.into(), revision: Some(9), objects: Vec::new() };
    violated("IDLE-3", "it knew revision 9").compare(&knew(vec![(5000, Event::Listed(listed))], vec![from(8)]));
    violated("IDLE-3", "it knew revision 7").compare(&knew(vec![], vec![from(6)]));
    // After 410 it lists, and goes on from that.
    let gone = || (20_200, edited_call(list_call(Call::Watch, Some(812)), |call| call.answer = Ok(410)));
    let listed = || {
        let listed = Listed { probe: WATCH.into(), revision: Some(900), objects: Vec::new() };
        vec![(20_300, list_call(Call::List, None)), (20_400, Event::Listed(listed))]
    };
    upheld().compare(&knew(event(), [vec![gone()], listed(), vec![from(900)]].concat()));
    violated("IDLE-3", "List request").compare(&knew(event(), [listed(), vec![from(900)]].concat()));
    violated("IDLE-3", "it knew revision 900")
        .compare(&knew(event(), [vec![gone()], listed(), vec![from(812)]].concat()));
}

/// A change that comes after so many milliseconds of silence, and when it is noticed.
fn change_at(at: u64, idle: u64, noticed: Option<u64>) -> (u64, Event) {
    let trigger = Trigger {
        probe: WATCH.into(),
        change: 2,
        idle: millis(idle),
        idle_timeout: Some(secs(11)),
        patience: secs(10),
        took: millis(5),
        failure: None,
        noticed: noticed.map(millis),
    };
    (at, Event::Trigger(trigger))
}

/// A watch that was dropped silently while idle, and a change that it does not notice.
pub(crate) fn change_missed() -> Recording {
    recording(&["IDLE-4"], watch_at(5000, "apiserver-0").into_iter().chain([change_at(31_000, 26_000, None)]))
}

#[test]
fn a_change_has_to_be_noticed_however_long_the_watch_was_idle() {
    let first = || watch_at(5000, "apiserver-0").into_iter();
    let rounds = |seen: Vec<(u64, Event)>| recording(&["IDLE-4"], first().chain(seen));
    let again = || [vec![cut(16_000)], watch_at(16_800, "apiserver-0").to_vec()].concat();
    violated("IDLE-4", "had heard nothing for 26.000 s, and did not notice change 2").compare(&change_missed());
    upheld().compare(&rounds([again(), vec![change_at(31_000, 25_900, Some(10))]].concat()));
    inconclusive("IDLE-4", "not ended: no timeout was met").compare(&rounds(vec![change_at(31_000, 25_900, Some(10))]));
    inconclusive("IDLE-4", "no change came").compare(&rounds(vec![change_at(31_000, 5_000, Some(10))]));
    // Noticed, but later than it had time for; or waited for longer than anybody has to.
    let late = |patience| {
        let (at, mut late) = change_at(31_000, 25_900, Some(10_200));
        if let Event::Trigger(round) = &mut late {
            round.patience = patience;
        }
        rounds([again(), vec![(at, late), (50_000, life("apiserver-0", Step::Ready))]].concat())
    };
    violated("IDLE-4", "noticed change 2 after 10.200 s").compare(&late(secs(10)));
    violated("IDLE-4", "noticed change 2 after 10.200 s").compare(&late(secs(60)));
    // A stall explains a miss if it falls into that time.
    for (at, missed) in [(35_000, false), (20_000, true), (45_000, true)] {
        let mut stalled = change_missed();
        stalled.observations.push(observed(at, Event::Stall(millis(600))));
        let expect = match missed {
            true => violated("IDLE-4", "did not notice change 2"),
            false => inconclusive("IDLE-4", "itself did not run"),
        };
        expect.compare(&stalled);
    }
    let mut failed = change_at(31_000, 25_900, None);
    if let Event::Trigger(round) = &mut failed.1 {
        round.failure = Some(Failure { class: ErrorClass::Timeout, text: String::new() });
    }
    inconclusive("IDLE-4", "no change came").compare(&rounds(vec![failed]));
}

/// The balancer resets the connection at 16 s.
fn reset_by_the_balancer(client: &str) -> (u64, Event) {
    let connection = Connection {
        client: client.into(),
        backend: Some("apiserver-0".into()),
        sent: 1,
        received: 1,
        idle: secs(11),
        lasted: secs(16),
        ended_by: Party::Balancer,
        end: End::Reset,
    };
    (0, Event::Connection(connection))
}

/// A connection that was reset carries the next request, too.
pub(crate) fn used_when_dead() -> Recording {
    let broken = asked_on("127.0.0.1:4", Some(ErrorClass::ConnectionReset));
    let seen = [reset_by_the_balancer("127.0.0.1:4"), (5000, asked_on("127.0.0.1:4", None)), (31_000, broken)];
    recording(&["IDLE-5"], seen)
}

#[test]
fn a_connection_that_was_ended_while_idle_must_not_carry_a_request() {
    let polled = |then: Event| {
        let first = (5000, asked_on("127.0.0.1:4", None));
        recording(&["IDLE-5"], [reset_by_the_balancer("127.0.0.1:4"), first, (31_000, then)])
    };
    violated("IDLE-5", "kube-rs used 127.0.0.1:4, which had been ended 15.000 s before: connection reset by peer")
        .compare(&used_when_dead());
    upheld().compare(&polled(asked_on("127.0.0.1:5", None)));
    violated("IDLE-5", "went on to 127.0.0.1:5, and failed: connection refused")
        .compare(&polled(asked_on("127.0.0.1:5", Some(ErrorClass::ConnectionRefused))));
    // Ports come again: another connection with that end is no concern of this one.
    let mut another = polled(asked_on("127.0.0.1:4", None));
    another.observations.push(observed(31_000, reset_by_the_balancer("127.0.0.1:4").1));
    inconclusive("IDLE-5", "no pooled connection was ended").compare(&another);
    // Without the balancer's word, the wire's counts; and without either, that nobody answers.
    let on_the_wire =
        packets("to-client", &[(0, Party::Client, SegmentKind::Syn), (11_000, Party::Server, SegmentKind::Reset)]);
    let used = |then: Event| [(5000, asked_on("127.0.0.1:2", None)), (31_000, then)];
    let by_wire = recording(&["IDLE-5"], used(asked_on("127.0.0.1:2", None)).into_iter().chain([on_the_wire]));
    violated("IDLE-5", "used 127.0.0.1:2, which had been ended 15.000 s before").compare(&by_wire);
    let hung = asked_on("127.0.0.1:2", Some(ErrorClass::Timeout));
    violated("IDLE-5", "and was not answered").compare(&recording(&["IDLE-5"], used(hung)));
    inconclusive("IDLE-5", "no pooled connection was ended")
        .compare(&recording(&["IDLE-5"], used(asked_on("127.0.0.1:2", None))));
    // One that could not even be sent was not answered either; and of one that was, it has to be known where.
    let elsewhere = |class| {
        let mut sent = asked_on("", class);
        if let Event::Request(request) = &mut sent {
            request.exchange.connection = None;
        }
        polled(sent)
    };
    violated("IDLE-5", "was to go on, and failed: connection refused")
        .compare(&elsewhere(Some(ErrorClass::ConnectionRefused)));
    inconclusive("IDLE-5", "no pooled connection was ended").compare(&elsewhere(None));
    // What the balancer wrote down stands; that nobody answered, may be our own stall.
    let stalled = |mut recording: Recording| {
        recording.observations.push(observed(31_000, Event::Stall(millis(600))));
        recording
    };
    violated("IDLE-5", "used 127.0.0.1:4, which had been ended").compare(&stalled(used_when_dead()));
    let refused = polled(asked_on("127.0.0.1:5", Some(ErrorClass::ConnectionRefused)));
    inconclusive("IDLE-5", "rollproof itself did not run").compare(&stalled(refused));
}

#[test]
fn many_ends_and_many_changes_take_no_longer_than_they_have_to() {
    let ends = (0..20_000).flat_map(|n| {
        let at = 5000 + 3 * n;
        [(at, list_call(Call::Watch, Some(7))), (at + 1, cut(0).1)]
    });
    violated("IDLE-3", "never open again").compare(&recording(&["IDLE-3"], ends.chain([(90_000, cut(0).1)])));
    let rounds = (0..20_000).flat_map(|n| {
        let at = 31_000 + 3 * n;
        [change_at(at, 26_000, Some(1)), (at + 1, list_call(Call::Watch, Some(7)))]
    });
    let first = watch_at(16_800, "apiserver-0");
    upheld().compare(&recording(&["IDLE-4"], first.into_iter().chain(rounds)));
}

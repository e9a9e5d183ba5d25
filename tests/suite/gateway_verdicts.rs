//! What the verdicts say about gateways before an apiserver that is dead and has not said so.

use rollproof::timeline::*;
use rollproof::timing::{millis, secs};

use crate::shorthand::*;

const LOST: u64 = 10_000;
const HEALED: u64 = 30_000;

/// When requests are asked for: late enough after the loss, and early enough before its end.
const LATE: [u64; 10] = [22_300, 22_600, 22_900, 23_200, 23_500, 23_800, 24_100, 24_400, 24_700, 25_000];

const ALL: [&str; 6] = ["GATEWAY-1", "GATEWAY-2", "GATEWAY-3", "GATEWAY-4", "GATEWAY-5", "GATEWAY-6"];

/// Milliseconds since the recording began, and what was seen then.
type Seen = (u64, Event);

/// A recording in which apiserver 0 was silently lost from 10 s to 30 s.
pub(crate) fn recording(seen: impl IntoIterator<Item = Seen>) -> Recording {
    let loss = Loss { server: "apiserver-0".into(), lost: Lost::Both };
    let fault = [(LOST, Event::LossOn(loss.clone())), (HEALED, Event::LossOff(loss))];
    let mut observations: Vec<_> = fault.into_iter().chain(seen).map(|(at, event)| observed(at, event)).collect();
    observations.sort_by_key(|seen| seen.at);
    Recording { header: header(None, &ALL), observations }
}

/// A stream that is answered by that apiserver at once, and still open at 36 s.
pub(crate) fn stream(shape: Shape, client: &str, at: u64, server: &str) -> GatewayStream {
    GatewayStream {
        gateway: "gateway".into(),
        shape,
        client: client.into(),
        audit_id: format!("{client}-{at}"),
        local: "127.0.0.1:5".into(),
        from: None,
        asked_to_last: None,
        pings: None,
        server: Some(server.into()),
        answered: Some(Answered { after: millis(3), status: 200 }),
        heard: Vec::new(),
        spoken_to: None,
        told: None,
        lasted: millis(36_000 - at),
    }
}

pub(crate) fn told(stream: GatewayStream, after: u64, class: ErrorClass) -> GatewayStream {
    let failure = Some(Failure { class, text: String::new() });
    GatewayStream { told: Some(StreamEnd { after: millis(after), failure }), lasted: millis(after), ..stream }
}

pub(crate) fn heard(stream: GatewayStream, changes: &[(u64, u64)]) -> GatewayStream {
    let heard = changes.iter().map(|(after, change)| Heard { after: millis(*after), change: Some(*change) }).collect();
    GatewayStream { heard, ..stream }
}

fn spoken_to(stream: GatewayStream, after: u64) -> GatewayStream {
    let heard = vec![Heard { after: millis(after + 5), change: None }];
    GatewayStream { spoken_to: Some(millis(after)), heard, ..stream }
}

pub(crate) fn request(at: u64, status: u16) -> GatewayStream {
    GatewayStream {
        answered: Some(Answered { after: millis(5), status }),
        told: Some(StreamEnd { after: millis(6), failure: None }),
        lasted: millis(6),
        ..stream(Shape::Request, "busy", at, "apiserver-1")
    }
}

pub(crate) fn wrote(at: u64, change: u64) -> Seen {
    let write = Write {
        probe: "writer".into(),
        change,
        verb: Verb::Create,
        object: format!("object-{change}"),
        revision: Some(change),
        exchange: answered(201),
    };
    (at, Event::Write(write))
}

/// The parts of a run that a test may change.
pub(crate) struct Parts {
    dead: GatewayStream,
    resumed: Option<GatewayStream>,
    other: GatewayStream,
    quiet: GatewayStream,
    requests: Vec<(u64, GatewayStream)>,
}

impl Parts {
    /// A watch on the dead apiserver ends after 4 s and goes on elsewhere; nothing else notices.
    pub(crate) fn good() -> Self {
        let dead = told(stream(Shape::WatchAlone, "watch-0", 1000, "apiserver-0"), 13_000, ErrorClass::StreamReset);
        let resumed = heard(stream(Shape::WatchAlone, "watch-0", 14_000, "apiserver-1"), &[(5, 1), (2000, 2)]);
        Self {
            dead,
            resumed: Some(resumed),
            other: heard(stream(Shape::WatchAlone, "watch-1", 1000, "apiserver-1"), &[(11_005, 1), (14_005, 2)]),
            quiet: spoken_to(stream(Shape::Quiet, "quiet-1", 1000, "apiserver-1"), 34_000),
            requests: LATE.map(|at| (at, request(at, 200))).to_vec(),
        }
    }

    /// Another stream besides.
    pub(crate) fn and(mut self, at: u64, stream: GatewayStream) -> Self {
        self.requests.push((at, stream));
        self
    }

    pub(crate) fn recording(self) -> Recording {
        let streams = [(1000, self.dead), (1000, self.other), (1000, self.quiet)];
        let streams = streams.into_iter().chain(self.resumed.map(|it| (14_000, it))).chain(self.requests);
        let seen = streams.map(|(at, stream)| (at, Event::GatewayStream(stream)));
        recording(seen.chain([wrote(12_000, 1), wrote(15_000, 2), (36_000, life("apiserver-1", Step::Ready))]))
    }
}

/// A recording in which just this is violated.
pub(crate) fn tooth(id: &str) -> Recording {
    let good = Parts::good();
    let late = told(stream(Shape::WatchAlone, "watch-0", 1000, "apiserver-0"), 25_000, ErrorClass::StreamReset);
    let parts = match id {
        "GATEWAY-1" => Parts { dead: late, ..good },
        "GATEWAY-2" => {
            let hangs = GatewayStream { answered: None, ..stream(Shape::NewWatch, "new", 25_000, "apiserver-0") };
            good.and(25_000, hangs)
        }
        "GATEWAY-3" => Parts { other: told(good.other, 17_000, ErrorClass::StreamReset), ..good },
        "GATEWAY-4" => Parts {
            quiet: told(stream(Shape::Quiet, "quiet-1", 1000, "apiserver-1"), 8000, ErrorClass::StreamReset),
            ..good
        },
        "GATEWAY-5" => good.and(12_000, request(12_000, 503)),
        "GATEWAY-6" => Parts { resumed: good.resumed.map(|it| heard(it, &[(2000, 2)])), ..good },
        _ => panic!("no tooth for {id}"),
    };
    parts.recording()
}

#[test]
fn a_gateway_that_ends_what_hangs_and_nothing_else_is_upheld() {
    upheld().compare(&Parts::good().recording());
}

#[test]
fn each_way_to_fail_is_told() {
    for (id, text) in [
        ("GATEWAY-1", "the watch alone through gateway ended 16.000 s after its apiserver was lost"),
        ("GATEWAY-2", "a new watch of +25.000s through gateway had no answer within 3.000 s"),
        ("GATEWAY-3", "the watch alone through gateway was ended at +18.000s"),
        ("GATEWAY-4", "a quiet stream through gateway was ended after 8.000 s"),
        ("GATEWAY-5", "a request of +12.000s through gateway got 503"),
        ("GATEWAY-6", "watch-0 through gateway never told of change 1, acknowledged at +12.0"),
    ] {
        violated(id, text).compare(&tooth(id));
    }
}

#[test]
fn a_watch_that_hangs_until_the_end_is_violated() {
    let hangs = stream(Shape::WatchAlone, "watch-0", 1000, "apiserver-0");
    let parts = Parts { dead: hangs, resumed: None, ..Parts::good() };
    violated("GATEWAY-1", "had not ended 20.000 s after its apiserver was lost")
        .and_inconclusive("GATEWAY-5", "nobody was told anything")
        .and_inconclusive("GATEWAY-6", "no watch was ended and went on")
        .compare(&parts.recording());
}

#[test]
fn a_fault_that_is_over_before_the_bound_does_not_prove_that_a_watch_hangs() {
    let healed = |dead| {
        let mut recording = Parts { dead, ..Parts::good() }.recording();
        for seen in recording.observations.iter_mut().filter(|seen| matches!(seen.event, Event::LossOff(_))) {
            seen.at = observed(18_000, seen.event.clone()).at;
        }
        recording.observations.sort_by_key(|seen| seen.at);
        recording
    };
    let nobody = "nothing was asked for late enough";
    inconclusive("GATEWAY-2", nobody)
        .and_inconclusive("GATEWAY-5", "0 reads were asked for meanwhile, it takes 10")
        .compare(&healed(Parts::good().dead));
    let late = told(stream(Shape::WatchAlone, "watch-0", 1000, "apiserver-0"), 18_000, ErrorClass::StreamReset);
    inconclusive("GATEWAY-1", "apiserver-0 was back after 8.000 s, before what is open there had to be ended")
        .and_inconclusive("GATEWAY-2", nobody)
        .and_inconclusive("GATEWAY-5", "0 reads were asked for meanwhile")
        .compare(&healed(late));
}

#[test]
fn a_shape_that_was_not_on_the_dead_apiserver_is_not_proven() {
    let busy = |server: &str, changes: &[(u64, u64)]| {
        let busy = heard(stream(Shape::WatchBusy, "watchbusy-0", 1000, server), changes);
        Parts::good().and(1000, busy).recording()
    };
    inconclusive("GATEWAY-1", "no watch beside requests was open on the apiserver that was lost")
        .compare(&busy("apiserver-1", &[(11_005, 1), (14_005, 2)]));
    violated("GATEWAY-1", "the watch beside requests through gateway had not ended").compare(&busy("apiserver-0", &[]));
}

#[test]
fn a_watch_that_is_open_and_told_of_nothing_is_not_untouched() {
    let stalled = |changes: &[(u64, u64)]| {
        let other = heard(stream(Shape::WatchAlone, "watch-1", 1000, "apiserver-1"), changes);
        Parts { other, ..Parts::good() }.recording()
    };
    violated("GATEWAY-3", "the watch alone through gateway told of nothing, though changes were acknowledged")
        .compare(&stalled(&[(32_000, 1), (32_001, 2)]));
    upheld().compare(&stalled(&[(11_005, 1)]));
    // What was changed at the last moment may be told of later.
    let mut late = stalled(&[]);
    for seen in late.observations.iter_mut().filter(|seen| matches!(seen.event, Event::Write(_))) {
        seen.at = observed(29_000, seen.event.clone()).at;
    }
    upheld().compare(&late);
}

#[test]
fn a_quiet_stream_that_was_opened_late_is_not_held_against_the_one_beside_it() {
    let late = spoken_to(stream(Shape::Quiet, "quiet-1", 30_000, "apiserver-1"), 5000);
    upheld().compare(&Parts::good().and(30_000, late).recording());
    let exec = spoken_to(stream(Shape::QuietExec, "quietexec-1", 30_000, "apiserver-1"), 5000);
    inconclusive("GATEWAY-4", "it was quiet for 5.000 s only").compare(&Parts::good().and(30_000, exec).recording());
}

#[test]
fn a_read_that_hangs_until_its_client_loses_patience_has_failed() {
    let hangs = GatewayStream { answered: None, ..stream(Shape::Request, "busy", 12_000, "apiserver-0") };
    let hangs = told(hangs, 10_000, ErrorClass::Timeout);
    violated("GATEWAY-5", "a request of +12.000s through gateway got")
        .compare(&Parts::good().and(12_000, hangs).recording());
    let few = Parts { requests: LATE[1..].iter().map(|at| (*at, request(*at, 200))).collect(), ..Parts::good() };
    inconclusive("GATEWAY-5", "9 reads were asked for meanwhile, it takes 10")
        .and_inconclusive("GATEWAY-2", "9 were asked for late enough after the loss, it takes 10")
        .compare(&few.recording());
}

#[test]
fn a_new_watch_may_be_refused_with_what_its_client_repeats() {
    let refused = |status| {
        let refused = GatewayStream { shape: Shape::NewWatch, ..request(12_000, status) };
        Parts::good().and(12_000, refused).recording()
    };
    upheld().compare(&refused(503));
    violated("GATEWAY-5", "a new watch of +12.000s through gateway got 403").compare(&refused(403));
}

#[test]
fn a_watch_that_does_not_go_on_misses_what_is_owed() {
    let alone = || Parts { resumed: None, ..Parts::good() };
    violated("GATEWAY-6", "watch-0 through gateway was ended at +14.000s and did not go on; it never told of change 1")
        .compare(&alone().recording());
    let all = Parts { dead: heard(Parts::good().dead, &[(11_005, 1), (12_900, 2)]), ..alone() };
    inconclusive("GATEWAY-6", "no watch was ended and went on").compare(&all.recording());
    // One that was refused before all began was no watch.
    let refused = GatewayStream {
        answered: Some(Answered { after: millis(3), status: 503 }),
        ..told(stream(Shape::WatchAlone, "watch-1", 500, "apiserver-0"), 5, ErrorClass::Status)
    };
    let other = stream(Shape::WatchAlone, "watch-1", 1000, "apiserver-1");
    let other = heard(other, &[(11_005, 1)]);
    upheld().compare(&Parts { other, ..Parts::good() }.and(500, refused).recording());
}

#[test]
fn without_a_fault_or_the_streams_it_is_about_nothing_is_proven() {
    let mut recording = Parts::good().recording();
    recording.observations.retain(|seen| !matches!(seen.event, Event::LossOn(_) | Event::LossOff(_)));
    inconclusive("GATEWAY-1", "no apiserver was lost, frozen or restarted")
        .and_inconclusive("GATEWAY-2", "no apiserver was lost, frozen or restarted")
        .and_inconclusive("GATEWAY-3", "no apiserver was lost, frozen or restarted")
        .and_inconclusive("GATEWAY-5", "no apiserver was lost, frozen or restarted")
        .compare(&recording);

    let parts = Parts {
        dead: Parts::good().other,
        quiet: spoken_to(stream(Shape::Quiet, "quiet-1", 1000, "apiserver-1"), 9000),
        resumed: None,
        requests: Vec::new(),
        ..Parts::good()
    };
    inconclusive("GATEWAY-1", "no watch was open on the apiserver that was lost")
        .and_inconclusive("GATEWAY-2", "nothing was asked for late enough")
        .and_inconclusive("GATEWAY-4", "it was quiet for 9.000 s only")
        .and_inconclusive("GATEWAY-5", "nobody was told anything")
        .and_inconclusive("GATEWAY-6", "no watch was ended and went on")
        .compare(&parts.recording());
}

#[test]
fn an_answer_that_was_lost_in_its_middle_is_no_gateways_fault() {
    let broken = |at: u64, server: &str| {
        let begun = GatewayStream { server: Some(server.into()), ..request(at, 200) };
        let requests = [(at, told(begun, 4000, ErrorClass::StreamReset))];
        let requests = requests.into_iter().chain(Parts::good().requests).collect();
        Parts { requests, ..Parts::good() }.recording()
    };
    upheld().compare(&broken(9990, "apiserver-0"));
    // The gateway should have known.
    violated("GATEWAY-5", "a request of +12.500s through gateway got stream reset")
        .compare(&broken(12_500, "apiserver-0"));
    violated("GATEWAY-5", "got stream reset").compare(&broken(9990, "apiserver-1"));
}

#[test]
fn a_session_in_which_nothing_is_said_is_not_to_be_cut_either() {
    let with = |session: GatewayStream| {
        let mut recording = Parts::good().recording();
        recording.observations.insert(0, observed(1000, Event::GatewayStream(session)));
        recording
    };
    let opened = |shape, client: &str| {
        let answered = Some(Answered { after: millis(70), status: 101 });
        GatewayStream { answered, ..stream(shape, client, 1000, "apiserver-1") }
    };
    for shape in [Shape::QuietExec, Shape::QuietAttach, Shape::QuietPortForward, Shape::QuietLogs, Shape::QuietSpdy] {
        let quiet = || opened(shape, "quiet-1");
        upheld().compare(&with(spoken_to(quiet(), 34_000)));
        let cut = told(quiet(), 8000, ErrorClass::UnexpectedEof);
        violated("GATEWAY-4", "through gateway was ended after 8.000 s").compare(&with(cut));
        let hangs = GatewayStream { spoken_to: Some(millis(34_000)), ..quiet() };
        violated("GATEWAY-4", "through gateway did not tell of what happened at last").compare(&with(hangs));
        // On the dead apiserver it may end.
        let dead = GatewayStream { server: Some("apiserver-0".into()), ..quiet() };
        upheld().compare(&with(told(dead, 14_000, ErrorClass::UnexpectedEof)));
    }

    upheld().compare(&with(opened(Shape::Exec, "exec-1")));
    violated("GATEWAY-3", "the exec through gateway was ended at +18.000s").compare(&with(told(
        opened(Shape::Exec, "exec-1"),
        17_000,
        ErrorClass::UnexpectedEof,
    )));
    // On the dead apiserver it may end; to open another is for its user.
    let dead = GatewayStream { server: Some("apiserver-0".into()), ..opened(Shape::Exec, "exec-0") };
    upheld().compare(&with(told(dead, 14_000, ErrorClass::UnexpectedEof)));
}

#[test]
fn where_an_apiserver_stays_lost_what_we_ended_ourselves_is_not_held_against_the_gateway() {
    let never_back = |waits_ms: u64| {
        let waits = GatewayStream { answered: None, server: None, ..stream(Shape::Request, "busy", 26_000, "") };
        let waits = GatewayStream { lasted: millis(waits_ms), ..waits };
        let mut recording = Parts::good().and(26_000, waits).recording();
        recording.observations.retain(|seen| !matches!(seen.event, Event::LossOff(_)));
        recording
    };
    upheld().compare(&never_back(2900));
    violated("GATEWAY-2", "a request of +26.000s through gateway had no answer").compare(&never_back(3000));
}

#[test]
fn what_a_gateway_logged_is_quoted_and_decides_nothing() {
    let logged = |recording: Recording, audit_id: &str| {
        let mut recording = recording;
        let line = GatewayLogged {
            gateway: "gateway".into(),
            audit_id: audit_id.into(),
            server: Some("apiserver-0".into()),
            status: 503,
            flags: "UC".into(),
            details: "upstream_reset_before_response_started{connection_termination}".into(),
        };
        recording.observations.push(observed(36_001, Event::GatewayLogged(line)));
        recording
    };
    upheld().compare(&logged(Parts::good().recording(), "watch-0-1000"));
    let said = |audit_id: &str| {
        let recording = logged(tooth("GATEWAY-5"), audit_id);
        let judgements = rollproof::verdict::judge_all(&recording).unwrap();
        let excerpt = judgements.into_iter().find_map(|judgement| match judgement.verdict {
            rollproof::verdict::Verdict::Violated { excerpt, .. } => Some(excerpt),
            _ => None,
        });
        excerpt.expect("it is violated")
    };
    let quoted = "gateway: busy-12000 Envoy said: 503 UC upstream_reset_before_response_started{connection_termination} (apiserver-0)";
    assert!(said("busy-12000").iter().any(|line| line.ends_with(quoted)), "{:#?}", said("busy-12000"));
    assert!(!said("busy-22300").iter().any(|line| line.contains("Envoy said")));
}

#[test]
fn a_frozen_apiserver_is_as_good_as_lost() {
    let mut recording = Parts::good().recording();
    for seen in &mut recording.observations {
        match seen.event {
            Event::LossOn(_) => seen.event = life("apiserver-0", Step::Frozen),
            Event::LossOff(_) => seen.event = life("apiserver-0", Step::Thawed),
            _ => {}
        }
    }
    upheld().compare(&recording);
}

#[test]
fn of_gateways_side_by_side_each_has_its_own_verdict() {
    let mut recording = tooth("GATEWAY-1");
    let other = told(stream(Shape::WatchAlone, "watch-0", 1000, "apiserver-0"), 13_000, ErrorClass::StreamReset);
    let other = GatewayStream { gateway: "better".into(), ..other };
    recording.observations.insert(0, observed(1000, Event::GatewayStream(other)));
    let by =
        |gateway: &str, expected| JudgedBy { requirement: "GATEWAY-1".into(), expected, gateway: Some(gateway.into()) };
    recording.header.judged_by = vec![by("better", Expected::Upheld), by("gateway", Expected::Violated)];
    let judgements = rollproof::verdict::judge_all(&recording).unwrap();
    assert!(judgements.iter().all(|judgement| judgement.passed()), "{judgements:#?}");
    let gateways: Vec<_> = judgements.iter().map(|judgement| judgement.gateway.as_deref()).collect();
    assert_eq!(gateways, [Some("better"), Some("gateway")]);
    assert_eq!(judgements[0].figures[0].value, secs(4).as_secs_f64());
}

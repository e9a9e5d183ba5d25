//! What the verdicts say about gateways before an apiserver that is dead and has not said so.

use rollproof::timeline::*;
use rollproof::timing::{millis, secs};

use crate::shorthand::*;

pub(crate) const LOST: u64 = 10_000;
pub(crate) const HEALED: u64 = 30_000;

/// When objects are changed: what is changed then has that number, and that revision.
const WRITES: std::ops::Range<u64> = 2000..35_000;
const WRITE_EVERY: usize = 500;

/// When requests are asked for, from before the loss until after it.
const ASKED: std::ops::Range<u64> = 1100..35_500;
const ASK_EVERY: usize = 250;

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

/// It was asked for then, and tells of each change from one moment to the other; of one that was made before at once.
pub(crate) fn telling(stream: GatewayStream, asked: u64, changes: std::ops::Range<u64>) -> GatewayStream {
    let changes = WRITES.step_by(WRITE_EVERY).filter(|change| changes.contains(change));
    let heard = changes.map(|change| Heard { after: millis(change.saturating_sub(asked) + 5), change: Some(change) });
    GatewayStream { heard: heard.collect(), ..stream }
}

pub(crate) fn spoken_to(stream: GatewayStream, after: u64) -> GatewayStream {
    let heard = vec![Heard { after: millis(after + 5), change: None }];
    GatewayStream { spoken_to: Some(millis(after)), heard, ..stream }
}

/// An `exec` on that apiserver in which a line comes back every quarter of a second, until then.
pub(crate) fn typed(number: u8, server: &str, until: u64) -> GatewayStream {
    let answered = Some(Answered { after: millis(70), status: 101 });
    let heard = (100..until - 1000).step_by(250).map(|after| Heard { after: millis(after), change: None }).collect();
    GatewayStream { answered, heard, ..stream(Shape::Exec, &format!("exec-{number}"), 1000, server) }
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
    pub(crate) dead: GatewayStream,
    pub(crate) resumed: Option<GatewayStream>,
    pub(crate) other: GatewayStream,
    pub(crate) quiet: GatewayStream,
    pub(crate) requests: Vec<(u64, GatewayStream)>,
    pub(crate) more: Vec<(u64, GatewayStream)>,
}

impl Parts {
    /// A watch on the dead apiserver ends after 4 s and goes on elsewhere; nothing else notices.
    pub(crate) fn good() -> Self {
        let watch = |client: &str, at, server: &str, from| GatewayStream {
            from: Some(from),
            ..stream(Shape::WatchAlone, client, at, server)
        };
        let dead = telling(watch("watch-0", 1000, "apiserver-0", 7), 1000, 1000..LOST);
        let requests = ASKED.step_by(ASK_EVERY).map(|at| (at, request(at, 200)));
        Self {
            dead: told(dead, 13_000, ErrorClass::StreamReset),
            resumed: Some(telling(watch("watch-0", 14_000, "apiserver-1", 9500), 14_000, LOST..36_000)),
            other: telling(watch("watch-1", 1000, "apiserver-1", 7), 1000, 1000..36_000),
            quiet: spoken_to(stream(Shape::Quiet, "quiet-1", 1000, "apiserver-1"), 34_000),
            requests: requests.collect(),
            more: Vec::new(),
        }
    }

    /// Another stream besides.
    pub(crate) fn and(mut self, at: u64, stream: GatewayStream) -> Self {
        self.more.push((at, stream));
        self
    }

    /// Those of the requests that were asked for then.
    pub(crate) fn asking(mut self, when: impl Fn(u64) -> bool) -> Self {
        self.requests.retain(|(at, _)| when(*at));
        self
    }

    pub(crate) fn recording(self) -> Recording {
        let streams = [(1000, self.dead), (1000, self.other), (1000, self.quiet)];
        let streams = streams.into_iter().chain(self.resumed.map(|it| (14_000, it))).chain(self.requests);
        let streams = streams.chain(self.more).map(|(at, stream)| (at, Event::GatewayStream(stream)));
        let writes = WRITES.step_by(WRITE_EVERY).map(|at| wrote(at, at));
        recording(streams.chain(writes).chain([(36_000, life("apiserver-1", Step::Ready))]))
    }
}

/// A recording in which just this is violated.
pub(crate) fn tooth(id: &str) -> Recording {
    let good = Parts::good();
    let parts = match id {
        "GATEWAY-1" => Parts { dead: told(good.dead, 25_000, ErrorClass::StreamReset), ..Parts::good() },
        "GATEWAY-2" => {
            let hangs = GatewayStream { answered: None, ..stream(Shape::NewWatch, "new", 25_000, "apiserver-0") };
            good.and(25_000, hangs)
        }
        "GATEWAY-3" => {
            let again =
                GatewayStream { from: Some(18_000), ..stream(Shape::WatchAlone, "watch-1", 18_100, "apiserver-1") };
            let other = telling(good.other, 1000, 1000..18_001);
            let parts = Parts { other: told(other, 17_010, ErrorClass::StreamReset), ..Parts::good() };
            parts.and(18_100, telling(again, 18_100, 18_001..36_000))
        }
        "GATEWAY-4" => Parts { quiet: told(good.quiet, 8000, ErrorClass::StreamReset), ..Parts::good() },
        "GATEWAY-5" => good.and(12_000, request(12_000, 503)),
        "GATEWAY-6" => {
            let resumed = good.resumed.clone().map(|mut resumed| {
                resumed.heard.retain(|heard| heard.change != Some(12_000));
                resumed
            });
            Parts { resumed, ..good }
        }
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
        ("GATEWAY-3", "the watch alone through gateway was ended at +18.010s"),
        ("GATEWAY-4", "a quiet stream through gateway was ended after 8.000 s"),
        ("GATEWAY-5", "a request of +12.000s through gateway got 503"),
        ("GATEWAY-6", "watch-0 through gateway never told of change 12000, acknowledged at +12.001s, and 0 more"),
    ] {
        violated(id, text).compare(&tooth(id));
    }
}

#[test]
fn a_watch_that_hangs_until_the_end_is_violated() {
    let dead = GatewayStream { told: None, lasted: secs(35), ..Parts::good().dead };
    let parts = Parts { dead, resumed: None, ..Parts::good() };
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
    inconclusive("GATEWAY-2", nobody).compare(&healed(Parts::good().dead));
    let late = told(Parts::good().dead, 18_000, ErrorClass::StreamReset);
    inconclusive("GATEWAY-1", "apiserver-0 was back after 8.000 s, before what is open there had to be ended")
        .and_inconclusive("GATEWAY-2", nobody)
        .compare(&healed(late));
}

#[test]
fn a_shape_that_was_not_on_the_dead_apiserver_is_not_proven() {
    let busy = |server: &str, until| {
        let busy = telling(stream(Shape::WatchBusy, "watchbusy-0", 1000, server), 1000, 1000..until);
        Parts::good().and(1000, busy).recording()
    };
    inconclusive("GATEWAY-1", "no watch beside requests was open on the apiserver that was lost")
        .compare(&busy("apiserver-1", 36_000));
    violated("GATEWAY-1", "the watch beside requests through gateway had not ended")
        .and_inconclusive("GATEWAY-3", "no watch beside requests was open on another apiserver")
        .compare(&busy("apiserver-0", LOST));
}

#[test]
fn a_watch_or_a_session_that_is_open_and_tells_of_nothing_is_not_untouched() {
    let stalled = |changes: &dyn Fn(u64) -> bool, late: u64| {
        let mut other = Parts::good().other;
        other.heard.retain(|heard| heard.change.is_some_and(changes));
        for heard in other.heard.iter_mut().filter(|heard| heard.change == Some(12_000)) {
            heard.after += millis(late);
        }
        Parts { other, ..Parts::good() }.recording()
    };
    // One that tells of something, and not of all, does not go on either.
    violated("GATEWAY-3", "told of nothing, though changes were acknowledged")
        .compare(&stalled(&|change| !(LOST..HEALED).contains(&change), 0));
    violated("GATEWAY-3", "never told of change 12000, acknowledged at +12.001s")
        .compare(&stalled(&|change| change != 12_000, 0));
    upheld().compare(&stalled(&|_| true, 1990));
    violated("GATEWAY-3", "told of change 12000, acknowledged at +12.001s, after 2.001 s")
        .compare(&stalled(&|_| true, 1997));

    let both = |number: u8, until| {
        let dead = told(typed(0, "apiserver-0", LOST), 13_000, ErrorClass::UnexpectedEof);
        Parts::good().and(1000, dead).and(1000, typed(number, "apiserver-1", until)).recording()
    };
    upheld().compare(&both(1, 36_000));
    violated("GATEWAY-3", "the exec through gateway had no line for 19.150 s from +10.850s on")
        .compare(&both(1, 11_000));
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
    // What a recording of today has to have besides, is no matter here.
    recording.header.format = OLDEST_FORMAT;
    let by =
        |gateway: &str, expected| JudgedBy { requirement: "GATEWAY-1".into(), expected, gateway: Some(gateway.into()) };
    recording.header.judged_by = vec![by("better", Expected::Upheld), by("gateway", Expected::Violated)];
    let judgements = rollproof::verdict::judge_all(&recording).unwrap();
    assert!(judgements.iter().all(|judgement| judgement.passed()), "{judgements:#?}");
    let gateways: Vec<_> = judgements.iter().map(|judgement| judgement.gateway.as_deref()).collect();
    assert_eq!(gateways, [Some("better"), Some("gateway")]);
    assert_eq!(judgements[0].figures[0].value, secs(4).as_secs_f64());
}

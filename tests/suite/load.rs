//! What the verdicts on the load, its ledger and in-flight requests say: ROLLOUT-9, -10 and -12.

use rollproof::timeline::*;
use rollproof::timing::millis;
use rstest::rstest;

use crate::runs::*;
use crate::shorthand::*;

use LoadVerb::{Create, Delete, Get};
use Restart::Graceful;

const WORKER: &str = "load-0";

/// A worker that creates, gets and deletes a ConfigMap each 150 ms, nothing left at the end, and a POST and a LIST in
/// flight on each server at its SIGTERM.
pub(crate) fn observe(mut see: impl FnMut(u64, Event), end: u64) {
    for at in (500..end).step_by(150) {
        for (step, verb) in [Create, Get, Delete].into_iter().enumerate() {
            see(at + 50 * step as u64, Event::Load(step_of(verb, at)));
        }
    }
    for (server, fault) in SERVERS.into_iter().zip(FAULTS) {
        let term = fault.start + 1;
        for held in [Held::Create, Held::List] {
            see(term - 1500, Event::InFlight(in_flight(held, server, term)));
        }
    }
    see(end + 10, left(&[]));
}

/// The step on the object of the cycle that began at `cycle`.
fn step_of(verb: LoadVerb, cycle: u64) -> Load {
    let exchange = Exchange { audit_id: format!("{WORKER}-{verb}-{cycle}"), ..kept(answered(200)) };
    Load {
        worker: WORKER.into(),
        verb,
        resource: "configmaps".into(),
        object: format!("{WORKER}-{cycle}"),
        retries: None,
        may_be_missing: false,
        exchange,
    }
}

fn kept(exchange: Exchange) -> Exchange {
    let connection = ConnectionUse { local: String::new(), remote: String::new(), reused: true, idle: millis(49) };
    Exchange { connection: Some(connection), ..exchange }
}

fn left(objects: &[&str]) -> Event {
    Event::LoadLeft(LoadLeft { objects: objects.iter().map(|name| ("configmaps".into(), (*name).into())).collect() })
}

/// Received before SIGTERM, let go 3.1 s after it, complete at once.
fn in_flight(held: Held, server: &str, term: u64) -> InFlight {
    let at = |millis: u64| Moment(millis * 1_000_000);
    InFlight {
        probe: format!("in-flight-{held:?}").to_lowercase(),
        held,
        server: server.into(),
        audit_id: format!("{held:?}-{server}"),
        received: Some(at(term - 1400)),
        resumed: at(term + 3100),
        under_way: true,
        finished: at(term + 3150),
        status: Some(200),
        failure: None,
        wanted: 1,
        got: Some(1),
    }
}

fn reset() -> Failure {
    Failure { class: ErrorClass::ConnectionReset, text: "connection reset by peer".into() }
}

/// The same cycle that all of these tests spoil.
const CYCLE: u64 = 6050;

impl Run {
    fn spoil(self, verb: LoadVerb, mut how: impl FnMut(&mut Load)) -> Self {
        let object = format!("{WORKER}-{CYCLE}");
        self.edit(|seen| match &mut seen.event {
            Event::Load(load) if load.object == object && load.verb == verb => how(load),
            _ => {}
        })
    }

    /// It is answered so.
    fn answer(self, verb: LoadVerb, status: u16) -> Self {
        self.spoil(verb, |load| load.exchange.status = Some(status))
    }

    /// Its kept connection turns out to be closed.
    fn close(self, verb: LoadVerb, unsent: bool) -> Self {
        self.spoil(verb, |load| {
            let audit_id = std::mem::take(&mut load.exchange.audit_id);
            let lost = failed(Phase::Headers, ErrorClass::UnexpectedEof);
            load.exchange = Exchange { audit_id, unsent, ..kept(lost) };
        })
    }

    /// It is repeated at once, on a fresh connection.
    fn retry(self, verb: LoadVerb, status: u16, may_be_missing: bool) -> Self {
        let first = step_of(verb, CYCLE);
        let exchange = Exchange { audit_id: "again".into(), ..answered(status) };
        let retries = Some(first.exchange.audit_id.clone());
        let step = [Create, Get, Delete].iter().position(|known| *known == verb).expect("a step of the cycle");
        let at = CYCLE + 50 * step as u64 + 5;
        self.with(at, Event::Load(Load { retries, may_be_missing, exchange, ..first }))
    }

    /// A server received the step.
    fn received(self, verb: LoadVerb) -> Self {
        let audit_id = step_of(verb, CYCLE).exchange.audit_id;
        let stages = vec!["RequestReceived".into()];
        self.with(19_999, Event::Audited(Audited { server: "apiserver-0".into(), audit_id, stages, status: None }))
    }

    fn exists(self) -> Self {
        self.left(&[&format!("{WORKER}-{CYCLE}")])
    }

    fn left(self, objects: &[&str]) -> Self {
        self.edit(|seen| {
            if matches!(seen.event, Event::LoadLeft(_)) {
                seen.event = left(objects);
            }
        })
    }

    fn held(self, held: Held, mut how: impl FnMut(&mut InFlight)) -> Self {
        self.edit(|seen| match &mut seen.event {
            Event::InFlight(seen) if seen.held == held && seen.server == "apiserver-1" => how(seen),
            _ => {}
        })
    }
}

pub(crate) fn cut_in_flight(run: Run) -> Run {
    run.held(Held::Create, |held| {
        (held.status, held.failure, held.got) = (None, Some(reset()), Some(0));
    })
}

pub(crate) fn lose_an_object(run: Run) -> Run {
    let object = format!("{WORKER}-{CYCLE}");
    run.without(|seen| matches!(&seen.event, Event::Load(load) if load.object == object && load.verb == Delete))
}

pub(crate) fn refuse_a_delete(run: Run) -> Run {
    run.spoil(Delete, |load| {
        let audit_id = std::mem::take(&mut load.exchange.audit_id);
        load.exchange = Exchange { audit_id, ..failed(Phase::Dial, ErrorClass::ConnectionRefused) };
    })
    .exists()
}

fn graceful() -> Run {
    run(Some(Graceful))
}

#[test]
fn a_step_that_fails_is_an_outage_of_the_load() {
    refuse_a_delete(graceful()).expect(violated(
        "ROLLOUT-12",
        "1 outage of 0.050 s from +6.150s on: 1 requests failed (connection refused x1), first delete configmaps",
    ));
    graceful().answer(Get, 404).expect(violated("ROLLOUT-12", "status 404"));
    graceful().close(Get, false).received(Get).retry(Get, 200, false).expect(violated("ROLLOUT-12", "unexpected EOF"));
    graceful().close(Get, false).expect(violated("ROLLOUT-12", "unexpected EOF"));
}

#[test]
fn one_retry_repairs_what_met_a_connection_that_was_closed_while_idle() {
    graceful().close(Get, false).retry(Get, 200, false).expect(upheld());
    graceful().close(Delete, false).retry(Delete, 200, false).expect(upheld());
    // The first may have taken effect: then there is nothing left to delete.
    graceful().close(Delete, false).retry(Delete, 404, true).expect(upheld());
    graceful().close(Create, true).retry(Create, 201, false).expect(upheld());
}

#[test]
fn one_retry_repairs_what_a_stopping_apiserver_refused_with_retry_after() {
    let refused = |status| graceful().answer(Create, status).spoil(Create, |load| load.exchange.retry_after = Some(1));
    for status in [503, 429] {
        refused(status).retry(Create, 201, false).expect(upheld());
        refused(status).expect(violated("ROLLOUT-12", "1 requests failed (status"));
        refused(status).received(Create).retry(Create, 201, false).expect(violated("ROLLOUT-12", "(status"));
    }
    // By one that is starting, or nobody stops.
    let at = |when: std::ops::Range<u64>| {
        graceful().edit(|seen| match &mut seen.event {
            Event::Load(load) if load.verb == Get && within(seen.at, &when) => {
                (load.exchange.status, load.exchange.retry_after) = (Some(429), Some(5));
            }
            _ => {}
        })
    };
    at(7200..7400).expect(violated("ROLLOUT-12", "status 429"));
    at(9600..9800).expect(violated("ROLLOUT-12", "status 429"));
}

#[test]
fn a_worker_may_lose_one_create_in_each_restart() {
    let lost = |when: &[(u64, u64)]| {
        let when: Vec<_> = when.iter().map(|(from, until)| *from..*until).collect();
        graceful().edit(|seen| match &mut seen.event {
            Event::Load(load) if load.verb == Create && when.iter().any(|when| within(seen.at, when)) => {
                let audit_id = std::mem::take(&mut load.exchange.audit_id);
                load.exchange = Exchange { audit_id, ..kept(failed(Phase::Headers, ErrorClass::UnexpectedEof)) };
            }
            Event::Load(load) if when.iter().any(|when| within(seen.at, &(when.start..when.end + 150))) => {
                load.may_be_missing = true;
            }
            _ => {}
        })
    };
    lost(&[(6050, 6051)]).expect(upheld());
    lost(&[(6050, 6051), (13_700, 13_701)]).expect(upheld());
    lost(&[(6050, 6051), (6350, 6351)]).expect(violated("ROLLOUT-12", "first create configmaps"));
    // Each cycle's.
    lost(&[(4000, 9000)]).expect(violated("ROLLOUT-12", "first create configmaps"));
    // One that nobody closed while it was idle.
    lost(&[(9500, 9700)]).expect(violated("ROLLOUT-12", "first create configmaps"));
}

#[test]
fn what_failed_before_the_roll_is_none_of_its_cost() {
    let early = graceful().edit(|seen| match &mut seen.event {
        Event::Load(load) if load.verb == Get && within(seen.at, &(1000..1100)) => load.exchange.status = Some(500),
        _ => {}
    });
    early.expect(inconclusive("ROLLOUT-12", "requests failed before anything was disturbed"));
}

#[test]
fn the_load_has_to_go_on_all_the_time() {
    let quiet = |seen: &Observation| matches!(seen.event, Event::Load(_)) && within(seen.at, &(7100..8300));
    graceful().without(quiet).expect(
        inconclusive("ROLLOUT-12", "the load has no sample for")
            .and_inconclusive("ROLLOUT-10", "the load that creates and deletes has no sample for"),
    );
}

#[test]
fn a_create_that_may_have_been_sent_is_lost_and_not_repeated() {
    let lost = || graceful().close(Create, false).spoil(Get, |load| load.may_be_missing = true);
    lost().expect(upheld());
    lost().answer(Get, 404).spoil(Delete, |load| load.may_be_missing = true).answer(Delete, 404).expect(upheld());
    lost().received(Create).expect(violated("ROLLOUT-12", "first create configmaps"));
    // The next request found nobody either: not an idle connection, but an outage.
    lost().close(Get, false).expect(violated("ROLLOUT-12", "2 requests failed"));
}

/// What was told of the create and the delete, whether the object exists at the end, and what is wrong with that.
#[rstest]
#[case("201", "200", false, None)]
#[case("201", "200", true, Some("was acknowledged as deleted and exists"))]
#[case("201", "", true, None)]
#[case("201", "", false, Some("was acknowledged as created and is gone"))]
#[case("201", "409", false, Some("was acknowledged as created and is gone"))]
#[case("201", "lost", true, None)]
#[case("201", "lost", false, None)]
#[case("lost", "404", true, None)]
#[case("lost", "404", false, None)]
#[case("201", "lost 404", true, Some("was not found any more after a delete whose answer was lost"))]
#[case("201", "lost 404", false, None)]
#[case("201", "lost 200", true, Some("was acknowledged as deleted and exists"))]
#[case("201", "lost 503", true, None)]
#[case("lost", "lost 404", true, None)]
#[case("lost", "lost 404", false, None)]
#[case("403", "lost 404", true, Some("was refused and exists"))]
#[case("lost", "200", true, Some("was acknowledged as deleted and exists"))]
#[case("lost", "", true, None)]
#[case("403", "", true, Some("was refused and exists"))]
#[case("403", "", false, None)]
#[case("", "", true, Some("no create explains it"))]
fn the_ledger_matches_or_not(
    #[case] create: &str,
    #[case] delete: &str,
    #[case] exists: bool,
    #[case] wrong: Option<&'static str>,
) {
    let tell = |run: Run, verb, answer: &str| {
        match answer {
        "" => run.without(
            |seen| matches!(&seen.event, Event::Load(load) if load.object == format!("{WORKER}-{CYCLE}") && load.verb == verb),
        ),
        "lost" => run.close(verb, false),
        "lost 404" => run.close(verb, false).retry(verb, 404, true),
        "lost 200" => run.close(verb, false).retry(verb, 200, false),
        "lost 503" => run.close(verb, false).retry(verb, 503, false),
        "200" => run,
        status => run.answer(verb, status.parse().expect("a status")),
    }
    };
    let run = tell(tell(graceful(), Create, create), Delete, delete);
    let run = if exists { run.exists() } else { run };
    // Only the ledger is asked: what fails here is an outage, too.
    let run = run.header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-10"));
    run.expect(wrong.map_or_else(upheld, |text| violated("ROLLOUT-10", text)));
}

#[test]
fn what_kubernetes_keeps_in_every_namespace_needs_no_create() {
    graceful().left(&["kube-root-ca.crt"]).expect(upheld());
    let unseen = graceful().without(|seen| matches!(seen.event, Event::LoadLeft(_)));
    unseen.expect(inconclusive("ROLLOUT-10", "nobody looked"));
    let early = graceful().edit(|seen| {
        if matches!(seen.event, Event::LoadLeft(_)) {
            seen.at = Moment(15_000_000_000);
        }
    });
    early.expect(inconclusive("ROLLOUT-10", "was looked at before configmaps load-0-"));
    let only_read = graceful().without(|seen| matches!(&seen.event, Event::Load(load) if load.verb != Get));
    only_read.expect(inconclusive("ROLLOUT-10", "the load that creates and deletes has 0"));
}

#[test]
fn a_get_that_finds_nothing_tells_that_a_doubtful_delete_took_effect() {
    let found = |status| {
        let lost = graceful().close(Delete, false).exists();
        let looked = step_of(Get, CYCLE);
        let exchange = Exchange { audit_id: "looked".into(), ..kept(answered(status)) };
        let run = lost.with(CYCLE + 120, Event::Load(Load { may_be_missing: true, exchange, ..looked }));
        run.header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-10"))
    };
    found(200).expect(upheld());
    found(404)
        .expect(violated("ROLLOUT-10", "was not found any more after a delete whose answer was lost, and exists"));
}

#[test]
fn a_request_that_we_held_too_long_is_not_blamed_on_its_apiserver() {
    let timed_out = |stall| {
        let held = graceful().held(Held::Create, |held| (held.status, held.got) = (Some(504), Some(0)));
        held.header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-9"))
            .with(stall, Event::Stall(millis(2000)))
    };
    // It was held from 9.1 s to 13.6 s.
    timed_out(11_000).expect(inconclusive("ROLLOUT-9", "rollproof itself did not run for 2.000 s"));
    timed_out(3000).expect(violated("ROLLOUT-9", "was answered 504"));
    // A reset is somebody else's.
    let reset = cut_in_flight(graceful()).header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-9"));
    reset.with(11_000, Event::Stall(millis(2000))).expect(violated("ROLLOUT-9", "connection reset by peer"));
}

#[test]
fn what_was_in_flight_at_no_sigterm_is_not_judged() {
    let extra = |begun: u64, over: u64| {
        let at = |millis: u64| Moment(millis * 1_000_000);
        let held = InFlight {
            received: Some(at(begun)),
            resumed: at(over - 5),
            finished: at(over),
            status: None,
            failure: Some(reset()),
            got: Some(0),
            ..in_flight(Held::Create, SERVERS[0], 3001)
        };
        graceful().with(begun, Event::InFlight(held))
    };
    extra(1000, 2000).expect(upheld());
    extra(11_000, 12_000).expect(upheld());
    extra(2000, 4000).expect(violated("ROLLOUT-9", "connection reset by peer"));
    // A request that never ended otherwise, of an apiserver whose graceful stop was not seen, is not judged either.
    let unproven = cut_in_flight(graceful())
        .without(|seen| is_step(seen, "apiserver-1", Step::ShutdownInitiated))
        .header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-9"));
    unproven.expect(inconclusive("ROLLOUT-9", "does not tell of ShutdownInitiated"));
}

#[test]
fn what_was_in_flight_at_sigterm_has_to_complete_whole_and_once() {
    cut_in_flight(graceful()).expect(violated(
        "ROLLOUT-9",
        "in-flight-create (Create-apiserver-1) failed: connection reset by peer (connection reset by peer), 3.150 s after \
         apiserver-1 got SIGTERM; 0 objects exist",
    ));
    let create = |how: fn(&mut InFlight)| graceful().held(Held::Create, how);
    create(|held| held.got = Some(2)).expect(violated("ROLLOUT-9", "was acknowledged, and 2 objects exist"));
    create(|held| held.status = Some(504)).expect(violated("ROLLOUT-9", "was answered 504"));
    create(|held| held.got = None).expect(inconclusive("ROLLOUT-9", "nobody could tell the effect"));
    let list = |how: fn(&mut InFlight)| graceful().held(Held::List, how);
    list(|held| held.got = Some(0)).expect(violated("ROLLOUT-9", "brought 0 of 1 items"));
}

#[test]
fn only_what_is_known_to_have_been_in_flight_counts() {
    let unproven = |how: fn(&mut InFlight)| {
        graceful().held(Held::List, how).expect(inconclusive("ROLLOUT-9", "no List is known to have been in flight"));
    };
    unproven(|held| held.received = None);
    unproven(|held| held.received = Some(held.resumed));
    unproven(|held| held.under_way = false);
    unproven(|held| held.resumed = Moment(1));
}

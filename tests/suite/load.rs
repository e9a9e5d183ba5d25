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
fn one_retry_repairs_what_was_refused_with_retry_after() {
    let refused = || graceful().answer(Create, 503).spoil(Create, |load| load.exchange.retry_after = Some(1));
    refused().retry(Create, 201, false).expect(upheld());
    refused().expect(violated("ROLLOUT-12", "status 503"));
    refused().received(Create).retry(Create, 201, false).expect(violated("ROLLOUT-12", "status 503"));
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

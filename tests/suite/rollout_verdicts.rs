//! What the ROLLOUT verdicts say about runs that were spoilt in one place.

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{millis, secs};
use rollproof::verdict::{Verdict, judge};
use rstest::rstest;

use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::{Library, New, Reused};
use ErrorClass::{ConnectionRefused, ConnectionReset};
use Restart::{Graceful, Killed};

#[rstest]
#[case(None)]
#[case(Some(Graceful))]
#[case(Some(Killed))]
fn a_run_in_which_all_is_well_upholds_everything(#[case] disturbance: Option<Restart>) {
    run(disturbance).expect(upheld());
}

#[test]
fn a_graceful_restart_may_cost_no_request() {
    let graceful = || run(Some(Graceful));
    // Nobody knows whom they would have met.
    let untold = |expect: Expect| {
        let why = "met no apiserver that we know of";
        expect.and_inconclusive("BALANCER-1", why).and_inconclusive("BALANCER-4", why)
    };
    graceful().requests_fail(New, 6050..6250, ConnectionRefused).expect(untold(violated(
        "ROLLOUT-1",
        "1 outage of 0.200 s from +6.050s on: 4 requests failed (connection refused x4), 0.037 s after \
             apiserver-0 was at HTTPServerStoppedListening",
    )));
    graceful()
        .requests_fail(Reused, 6050..6100, ConnectionReset)
        .requests_fail(Reused, 14_000..14_200, ConnectionReset)
        .expect(untold(violated("ROLLOUT-2", "2 outages, the worst of 0.200 s from +14.001s")));
    graceful()
        .requests_fail(New, 1000..1050, ConnectionRefused)
        .expect(inconclusive("ROLLOUT-1", "requests failed before anything was disturbed"));
    let unserved = ["BALANCER-1", "BALANCER-2", "BALANCER-4"].into_iter();
    graceful().requests_fail(New, 8000..30_000, ConnectionRefused).expect(
        unserved.fold(violated("ROLLOUT-1", "and not over at the end"), |expect, id| {
            expect.and_inconclusive(id, "met no apiserver that we know of")
        }),
    );
}

#[test]
fn a_steady_state_may_cost_no_request_either() {
    run(None)
        .requests_fail(Reused, 6000..6050, ConnectionReset)
        .expect(violated("ROLLOUT-2", "no apiserver was being restarted"));
}

#[test]
fn a_kill_may_cost_requests_for_as_long_as_detection_takes() {
    let killed = || run(Some(Killed));
    killed().requests_fail(New, 3000..6400, ConnectionRefused).expect(upheld());
    killed().requests_fail(New, 3000..6700, ConnectionRefused).expect(violated("ROLLOUT-7", "1 outage of 3.700 s"));
    killed().requests_fail(Reused, 3000..9000, ConnectionReset).expect(violated("ROLLOUT-8", "1 outage of 6.000 s"));
    // A balancer that lets clients fail later than that has not noticed either.
    killed()
        .requests_fail(New, 18_500..30_000, ConnectionRefused)
        .expect(violated("ROLLOUT-7", "over 9.451 s after the kill"));
    killed()
        .requests_fail(New, 4000..30_000, ConnectionRefused)
        .expect(violated("ROLLOUT-7", "and not over at the end"));
}

#[test]
fn what_one_kill_costs_is_one_outage_however_often_a_request_succeeds_between() {
    // Every other connection is sent to the dead server.
    let blind = |until: u64| {
        (3000..until)
            .step_by(100)
            .fold(run(Some(Killed)), |run, at| run.requests_fail(New, at..at + 50, ConnectionRefused))
    };
    blind(6200).expect(upheld());
    blind(7000).expect(violated("ROLLOUT-7", "1 outage of 3.950 s"));
    // Two kills are two outages; a request belongs to the kill that it met, though it had begun before.
    let one_each = |began_before: u64, took| {
        let both = run(Some(Killed)).requests_fail(Reused, 3050..3150, ConnectionReset).requests_fail(
            Reused,
            10_450..10_500,
            ConnectionReset,
        );
        both.edit(|seen| match &mut seen.event {
            Event::Request(request) if request.exchange.audit_id == format!("requester-reused-{began_before}") => {
                request.exchange.took = millis(took);
            }
            _ => {}
        })
    };
    one_each(10_450, 100).expect(upheld());
    one_each(10_450, 2).expect(violated("ROLLOUT-8", "1 outage of 7.450 s"));
}

/// The kept connection is on apiserver-0, which is stopping, and has a request 10 ms before its listener closes.
const STOPPING: std::ops::Range<u64> = 6000..6050;
const ON_STOPPING: &str = "requester-reused-6000";

/// The retry of that request, on a fresh connection.
fn retry(status: u16) -> Event {
    let exchange = Exchange { audit_id: format!("{ON_STOPPING}-again"), ..answered(status) };
    let (probe, retries, attempts) = (requester(Reused).into(), Some(ON_STOPPING.into()), Vec::new());
    Event::Request(Request { probe, on: Reused, retries, exchange, attempts })
}

#[test]
fn a_failure_is_an_outage_if_a_server_had_received_the_request() {
    let closed = run(Some(Graceful)).requests_fail(Reused, STOPPING, ErrorClass::UnexpectedEof);
    let repaired = closed.with(6005, retry(200));
    repaired.expect(upheld());
    let (server, audit_id) = ("apiserver-0".into(), ON_STOPPING.into());
    let received = Audited { server, audit_id, stages: vec!["RequestReceived".into()], status: None };
    repaired.with(19_999, Event::Audited(received)).expect(violated("ROLLOUT-2", "unexpected EOF x1"));
}

#[test]
fn a_kept_connection_that_no_restart_met_proves_nothing() {
    // It is always on the one that nobody stops.
    for (how, id) in [(Graceful, "ROLLOUT-2"), (Killed, "ROLLOUT-8")] {
        let elsewhere =
            run(Some(how)).header(|header| header.judged_by.retain(|by| by.requirement == id)).edit(|seen| {
                let first = seen.at < Moment(9_000_000_000);
                if let Event::Request(request) = &mut seen.event
                    && request.on == Reused
                {
                    request.exchange.server = Some(SERVERS[usize::from(first)].into());
                }
            });
        elsewhere.expect(inconclusive(id, "no restart met the kept connection"));
    }
}

#[test]
fn a_hang_is_not_repaired_by_a_retry() {
    let hung = |class, took: std::time::Duration, retried| {
        let failed = run(Some(Graceful)).requests_fail(Reused, STOPPING, class);
        let failed = failed.edit(|seen| match &mut seen.event {
            Event::Request(request) if request.exchange.audit_id == ON_STOPPING => request.exchange.took = took,
            _ => {}
        });
        failed.with(retried, retry(200))
    };
    hung(ErrorClass::UnexpectedEof, millis(2), 6005).expect(upheld());
    hung(ErrorClass::Timeout, secs(10), 16_005).expect(violated("ROLLOUT-2", "1 outage of 10.000 s"));
    // A RST after nine seconds of silence is the same hang.
    hung(ConnectionReset, secs(9), 15_005).expect(violated("ROLLOUT-2", "1 outage of 9.000 s"));
}

#[test]
fn an_outage_lasts_until_its_requests_have_failed() {
    let slow =
        run(Some(Killed)).requests_fail(New, 3000..6000, ErrorClass::Timeout).edit(|seen| match &mut seen.event {
            Event::Request(request) if request.on == New && !request.exchange.succeeded() => {
                request.exchange.took = secs(10);
            }
            _ => {}
        });
    slow.expect(violated("ROLLOUT-7", "1 outage of 12.950 s"));
}

#[test]
fn a_server_that_answers_before_it_is_ready_is_an_outage() {
    let forbidden = run(Some(Graceful)).edit(|seen| match &mut seen.event {
        Event::Request(request) if request.exchange.audit_id == "requester-new-7000" => {
            request.exchange.status = Some(403);
        }
        _ => {}
    });
    forbidden.expect(violated("ROLLOUT-1", "status 403 x1"));
}

#[test]
fn one_retry_repairs_a_connection_closed_while_idle_and_is_counted() {
    let closed = || run(Some(Graceful)).requests_fail(Reused, STOPPING, ErrorClass::UnexpectedEof);
    // The fresh connection is a new one; which kind the retry is recorded as makes no difference.
    for kind in [New, Reused] {
        let mut retry = retry(200);
        if let Event::Request(retry) = &mut retry {
            retry.on = kind;
        }
        let repaired = closed().with(6005, retry);
        repaired.expect(upheld());
        assert_eq!(figure(&repaired, "ROLLOUT-2", "failures repaired by one retry"), Some(1.0));
        assert_eq!(figure(&repaired, "ROLLOUT-2", "unexpected EOF"), Some(1.0));
        assert_eq!(figure(&repaired, "ROLLOUT-2", "outages"), Some(0.0));
    }
    let twice = closed().with(6005, retry(503));
    twice.expect(violated("ROLLOUT-2", "2 requests failed (status 503 x1, unexpected EOF x1)"));
    let second = match retry(200) {
        Event::Request(retry) => Event::Request(Request { retries: Some(format!("{ON_STOPPING}-again")), ..retry }),
        other => other,
    };
    twice.with(6010, second).expect(violated("ROLLOUT-2", "1 outage of 0.009 s"));
}

#[test]
fn an_outage_that_did_not_end_lasts_until_its_last_request_had_failed() {
    let hung = |took| {
        run(Some(Killed))
            .without(|seen| {
                matches!(&seen.event, Event::Request(request) if request.on == New) && seen.at > Moment(19_000_000_000)
            })
            .edit(|seen| match &mut seen.event {
                Event::Request(request) if request.on == New && within(seen.at, &(19_000..19_001)) => {
                    request.exchange = Exchange { took, ..failed(Phase::Headers, ErrorClass::Timeout) };
                }
                _ => {}
            })
    };
    hung(secs(3)).expect(violated("ROLLOUT-7", "1 outage of 3.000 s from +19.000s on and not over at the end"));
    hung(secs(10)).expect(violated("ROLLOUT-7", "1 outage of 10.000 s from +19.000s on and not over at the end"));
}

#[test]
fn a_429_is_a_failure_like_any_other() {
    let refused = |on, at: u64, status| {
        run(Some(Graceful)).edit(|seen| match &mut seen.event {
            Event::Request(request) if request.on == on && within(seen.at, &(at..at + 200)) => {
                (request.exchange.status, request.exchange.retry_after) = (Some(status), Some(5));
            }
            _ => {}
        })
    };
    // By the stopping apiserver, after its delay, and by one that only starts.
    for at in [6020, 7000] {
        let run = refused(New, at, 429);
        run.expect(violated("ROLLOUT-1", "4 requests failed (status 429 x4)"));
        assert_eq!(figure(&run, "ROLLOUT-1", "429"), Some(4.0));
        refused(Library, at, 429).expect(violated("ROLLOUT-11", "4 requests failed (status 429 x4)"));
        refused(Reused, at, 429).expect(violated("ROLLOUT-2", "status 429 x4"));
    }
    refused(New, 6020, 503).expect(violated("ROLLOUT-1", "status 503 x4"));
}

#[test]
fn a_restart_of_one_kind_says_nothing_about_the_other() {
    for id in ["ROLLOUT-7", "ROLLOUT-8"] {
        assert!(verdict(&run(Some(Graceful)), id).starts_with("no apiserver was killed"));
        assert!(verdict(&run(None), id).starts_with("no apiserver was killed"));
    }
    for id in ["ROLLOUT-1", "ROLLOUT-2", "ROLLOUT-3", "ROLLOUT-4", "ROLLOUT-5"] {
        assert!(verdict(&run(Some(Killed)), id).contains("graceful"));
    }
    for id in ["ROLLOUT-3", "ROLLOUT-4", "ROLLOUT-5", "ROLLOUT-6"] {
        assert!(verdict(&run(None), id).starts_with("no apiserver was"));
    }
}

#[test]
fn what_the_user_of_a_library_is_told_is_judged_after_its_own_retries() {
    let graceful = || run(Some(Graceful));
    let repeated = |class: Option<ErrorClass>| {
        graceful().edit(|seen| match &mut seen.event {
            Event::Request(request) if request.on == Library && within(seen.at, &(7000..7200)) => {
                let exchange = class.map_or(answered(503), |class| failed(Phase::Headers, class));
                request.attempts = vec![Attempt { at: seen.at, exchange }];
            }
            _ => {}
        })
    };
    repeated(None).expect(upheld());
    assert_eq!(figure(&repeated(None), "ROLLOUT-11", "attempts repeated by the library"), Some(4.0));
    assert_eq!(figure(&repeated(None), "ROLLOUT-11", "worst outage"), Some(0.0));
    assert_eq!(figure(&repeated(None), "ROLLOUT-11", "worst outage below its retries"), Some(0.001));
    graceful()
        .requests_fail(Library, 6050..6100, ConnectionRefused)
        .expect(violated("ROLLOUT-11", "1 requests failed (connection refused x1)"));
    run(None)
        .requests_fail(Library, 6050..6100, ConnectionRefused)
        .expect(violated("ROLLOUT-11", "while no apiserver was being restarted"));
}

#[test]
fn a_library_may_lose_one_read_to_a_connection_that_is_being_closed() {
    let closing = |when: std::ops::Range<u64>| {
        run(Some(Graceful)).edit(|seen| match &mut seen.event {
            Event::Request(request) if request.on == Library && within(seen.at, &when) => {
                let (audit_id, connection) = (request.exchange.audit_id.clone(), request.exchange.connection.clone());
                let lost = failed(Phase::Headers, ErrorClass::UnexpectedEof);
                request.exchange = Exchange { audit_id, connection, ..lost };
            }
            _ => {}
        })
    };
    let one = closing(7000..7050);
    one.expect(upheld());
    assert_eq!(figure(&one, "ROLLOUT-11", "excused: read-not-repeated"), Some(1.0));
    closing(7000..7100).expect(violated("ROLLOUT-11", "1 outage of 0.100 s"));
    // A server had it: it was not closed while idle.
    let audit_id = "kube-rs-7000".to_owned();
    let stages = vec!["RequestReceived".to_owned()];
    let received = Audited { server: "apiserver-0".into(), audit_id, stages, status: None };
    one.with(19_999, Event::Audited(received)).expect(violated("ROLLOUT-11", "unexpected EOF x1"));
}

#[test]
fn of_several_requesters_each_is_judged_and_the_worst_is_named() {
    // As the first, but by HTTP/2, and worse off.
    let http2: Vec<_> = run(Some(Graceful)).requests_fail(New, 6050..6350, ConnectionReset).0.observations;
    let http2 = http2.into_iter().filter_map(|mut seen| match &mut seen.event {
        Event::Request(request) if request.on == New => {
            request.probe.push_str("-http2");
            request.exchange.protocol = Protocol::Http2;
            Some(seen)
        }
        _ => None,
    });
    let mut both = run(Some(Graceful)).requests_fail(New, 6050..6100, ConnectionRefused);
    both.0.observations.extend(http2);
    both.0.observations.sort_by_key(|seen| seen.at);
    let expected = violated(
        "ROLLOUT-1",
        "1 outage of 0.300 s from +6.050s on: 6 requests failed (connection reset by peer x6), 0.037 s after apiserver-0 \
         was at HTTPServerStoppedListening (requester-new-http2)",
    );
    let untold = "met no apiserver that we know of";
    both.expect(expected.and_inconclusive("BALANCER-1", untold).and_inconclusive("BALANCER-4", untold));
    let figure = |name| figure(&both, "ROLLOUT-1", name);
    assert_eq!(figure("worst outage"), Some(0.3));
    assert_eq!(figure("outages"), Some(2.0));
    assert_eq!(figure("requester-new: worst outage"), Some(0.05));
    assert_eq!(figure("requester-new-http2: worst outage"), Some(0.3));
    assert_eq!(figure("requester-new-http2: connection reset by peer"), Some(6.0));
    assert_eq!(figure("requester-new: connection reset by peer"), None);
}

fn figure(run: &Run, id: &str, name: &str) -> Option<f64> {
    let (_, figures) = judge(spec::requirement(id).unwrap(), &run.whole());
    figures.into_iter().find(|figure| figure.name == name).map(|figure| figure.value)
}

/// The reason of an inconclusive verdict.
#[track_caller]
fn verdict(run: &Run, id: &str) -> String {
    match judge(spec::requirement(id).unwrap(), &run.whole()) {
        (Verdict::Inconclusive { why }, _) => why,
        (verdict, _) => panic!("{id}: {verdict:?}"),
    }
}

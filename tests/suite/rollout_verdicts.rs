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
    killed().requests_fail(New, 18_500..30_000, ConnectionRefused).expect(upheld());
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

#[test]
fn a_failure_is_an_outage_if_a_server_had_received_the_request() {
    let closed = run(Some(Graceful)).requests_fail(Reused, 7000..7050, ErrorClass::UnexpectedEof);
    let first = "requester-reused-7000".to_owned();
    let exchange = Exchange { audit_id: format!("{first}-again"), ..answered(200) };
    let retry = Request {
        probe: requester(Reused).into(),
        on: New,
        retries: Some(first.clone()),
        exchange,
        attempts: Vec::new(),
    };
    let repaired = closed.with(7005, Event::Request(retry));
    repaired.expect(upheld());
    let received =
        Audited { server: "apiserver-0".into(), audit_id: first, stages: vec!["RequestReceived".into()], status: None };
    repaired.with(19_999, Event::Audited(received)).expect(violated("ROLLOUT-2", "unexpected EOF x1"));
}

#[test]
fn a_stopping_server_s_refusal_is_repaired_by_a_retry_and_by_nothing_else() {
    let refused = |retry_after| {
        run(Some(Graceful)).edit(|seen| match &mut seen.event {
            Event::Request(request) if request.exchange.audit_id == "requester-reused-7000" => {
                (request.exchange.status, request.exchange.retry_after) = (Some(503), retry_after);
            }
            _ => {}
        })
    };
    refused(Some(1)).expect(violated("ROLLOUT-2", "status 503 x1"));
    let exchange = Exchange { audit_id: "again".into(), ..answered(200) };
    let of = Some("requester-reused-7000".to_owned());
    let retry = Request { probe: requester(Reused).into(), on: New, retries: of, exchange, attempts: Vec::new() };
    let repaired = refused(Some(1)).with(7005, Event::Request(retry));
    repaired.expect(upheld());
    assert_eq!(figure(&repaired, "ROLLOUT-2", "failures repaired by one retry"), Some(1.0));
}

#[test]
fn a_hang_is_not_repaired_by_a_retry() {
    let hung = |class, took| {
        let exchange = Exchange { audit_id: "again".into(), ..answered(200) };
        let of = Some("requester-reused-7000".to_owned());
        let retry = Request { probe: requester(Reused).into(), on: New, retries: of, exchange, attempts: Vec::new() };
        let failed = run(Some(Graceful)).requests_fail(Reused, 7000..7050, class);
        let failed = failed.edit(|seen| match &mut seen.event {
            Event::Request(request) if request.exchange.audit_id == "requester-reused-7000" => {
                request.exchange.took = took;
            }
            _ => {}
        });
        failed.with(7045, Event::Request(retry))
    };
    hung(ErrorClass::UnexpectedEof, millis(2)).expect(upheld());
    hung(ErrorClass::Timeout, secs(10)).expect(violated("ROLLOUT-2", "1 outage of 10.000 s"));
    // A RST after nine seconds of silence is the same hang.
    hung(ConnectionReset, secs(9)).expect(violated("ROLLOUT-2", "1 outage of 9.000 s"));
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
fn nothing_but_429_is_no_evidence() {
    let refused = run(Some(Graceful)).edit(|seen| match &mut seen.event {
        Event::Request(request) if request.on == New && seen.at.0 > 3_000_000_000 && seen.at.0 < 17_500_000_000 => {
            request.exchange.status = Some(429);
        }
        _ => {}
    });
    refused.expect(inconclusive("ROLLOUT-1", "requester-new"));
}

#[test]
fn a_livez_that_hangs_is_not_green() {
    let hangs = run(Some(Graceful)).edit(|seen| match &mut seen.event {
        Event::ServerHealth(health) if health.path == "/livez" && seen.at == Moment(4_000_000_000) => {
            let text = "no answer within 10s".to_owned();
            (health.answer, health.took) = (Err(Failure { class: ErrorClass::Timeout, text }), secs(10));
        }
        _ => {}
    });
    hangs.expect(violated("ROLLOUT-4", "/livez of apiserver-0 said timeout"));
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
    let closed = || run(Some(Graceful)).requests_fail(Reused, 7000..7050, ErrorClass::UnexpectedEof);
    let retry = |of: &str, on, status| {
        let exchange = Exchange { audit_id: format!("{of}-again"), ..answered(status) };
        let (probe, retries, attempts) = (requester(Reused).into(), Some(of.into()), Vec::new());
        Event::Request(Request { probe, on, retries, exchange, attempts })
    };
    let first = "requester-reused-7000";
    // The fresh connection is a new one; which kind the retry is recorded as makes no difference.
    for on in [New, Reused] {
        let repaired = closed().with(7005, retry(first, on, 200));
        repaired.expect(upheld());
        assert_eq!(figure(&repaired, "ROLLOUT-2", "failures repaired by one retry"), Some(1.0));
        assert_eq!(figure(&repaired, "ROLLOUT-2", "unexpected EOF"), Some(1.0));
        assert_eq!(figure(&repaired, "ROLLOUT-2", "outages"), Some(0.0));
    }
    let twice = closed().with(7005, retry(first, New, 503));
    twice.expect(violated("ROLLOUT-2", "2 requests failed (status 503 x1, unexpected EOF x1)"));
    let second = retry("requester-reused-7000-again", New, 200);
    twice.with(7010, second).expect(violated("ROLLOUT-2", "1 outage of 0.009 s"));
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
    hung(secs(3)).expect(upheld());
    hung(secs(10)).expect(violated("ROLLOUT-7", "1 outage of 10.000 s from +19.000s on and not over at the end"));
}

#[test]
fn a_429_is_no_outage_and_is_counted() {
    let run = run(Some(Graceful)).edit(|seen| match &mut seen.event {
        Event::Request(request) if request.on == New && within(seen.at, &(6000..6200)) => {
            request.exchange = answered(429);
        }
        _ => {}
    });
    run.expect(upheld());
    assert_eq!(figure(&run, "ROLLOUT-1", "429"), Some(4.0));
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
fn readyz_is_red_from_sigterm_to_the_end() {
    let graceful = || run(Some(Graceful));
    graceful().health("apiserver-0", "/readyz", 3000..3900, 200).expect(upheld());
    graceful()
        .health("apiserver-1", "/readyz", 10_500..11_700, 200)
        .expect(violated("ROLLOUT-3", "/readyz of apiserver-1 was 200 when asked 1.099 s after SIGTERM"));
    graceful()
        .health("apiserver-0", "/readyz", 5000..5100, 200)
        .expect(violated("ROLLOUT-3", "200 when asked 1.999 s"));
    let unseen = |seen: &Observation| {
        matches!(&seen.event, Event::ServerHealth(health) if health.path == "/readyz") && within(seen.at, &(3000..6050))
    };
    graceful().without(unseen).expect(inconclusive("ROLLOUT-3", "was not seen red"));
}

#[test]
fn without_a_delay_a_closed_port_is_red_enough_and_livez_has_nothing_to_say() {
    run(Some(Graceful))
        .header(|header| header.timers.shutdown_delay = millis(0))
        .without(|seen| matches!(&seen.event, Event::ServerHealth(health) if health.answer == Ok(500)))
        .expect(
            inconclusive("ROLLOUT-4", "without a delay")
                .and_inconclusive("BALANCER-1", "without a shutdown delay no connection can be in time"),
        );
}

#[test]
fn livez_is_green_until_the_delay_is_over() {
    let graceful = || run(Some(Graceful));
    graceful()
        .health("apiserver-0", "/livez", 4000..4100, 500)
        .expect(violated("ROLLOUT-4", "/livez of apiserver-0 said 500 when asked 0.999 s"));
    graceful().health("apiserver-0", "/livez", 5600..6000, 500).expect(upheld());
    let unseen = |seen: &Observation| {
        matches!(&seen.event, Event::ServerHealth(health) if health.path == "/livez") && within(seen.at, &(3000..5000))
    };
    graceful().without(unseen).expect(inconclusive("ROLLOUT-4", "was asked 5 times"));
}

#[test]
fn signals_come_after_their_causes() {
    let graceful = || run(Some(Graceful));
    let (before, after) = (Step::AfterShutdownDelayDuration, Step::NotAcceptingNewRequest);
    graceful().shift("apiserver-0", after, -1).expect(upheld());
    graceful()
        .shift("apiserver-0", after, -2)
        .expect(violated("ROLLOUT-5", "NotAcceptingNewRequest came 0.001 s before AfterShutdownDelayDuration"));
    graceful()
        .shift("apiserver-0", before, -600)
        .expect(violated("ROLLOUT-5", "the shutdown delay of 3.000 s was over after 2.400 s"));
    graceful()
        .without(|seen| is_step(seen, "apiserver-1", after))
        .expect(violated("ROLLOUT-5", "apiserver-1: NotAcceptingNewRequest never came"));
    for optional in [Step::PreShutdownHooksStopped, Step::InFlightRequestsDrained] {
        graceful().without(|seen| is_step(seen, "apiserver-1", optional)).expect(upheld());
    }
    graceful().shift("apiserver-0", Step::PreShutdownHooksStopped, -15).expect(upheld());
    graceful()
        .shift("apiserver-0", Step::PreShutdownHooksStopped, 3600)
        .expect(violated("ROLLOUT-5", "before PreShutdownHooksStopped"));
}

#[test]
fn log_lines_of_concurrent_signals_may_overtake_each_other() {
    // NotAcceptingNewRequest is given before its line is written: the listener's line may be first.
    run(Some(Graceful)).shift("apiserver-0", Step::NotAcceptingNewRequest, 20).expect(upheld());
    run(Some(Graceful))
        .shift("apiserver-0", Step::NotAcceptingNewRequest, 520)
        .expect(violated("ROLLOUT-5", "HTTPServerStoppedListening came 0.519 s before NotAcceptingNewRequest"));
}

#[test]
fn a_graceful_stop_ends_by_itself() {
    let killed = |seen: &mut Observation| {
        if let Event::Lifecycle(life) = &mut seen.event
            && life.step == Step::Exited
        {
            life.text = "signal 9 (SIGKILL)".into();
        }
    };
    run(Some(Graceful)).edit(killed).expect(violated("ROLLOUT-5", "did not end by itself: signal 9"));
    run(Some(Graceful))
        .with(6400, life("apiserver-0", Step::KillSent))
        .expect(violated("ROLLOUT-5", "SIGKILL had to be sent"));
}

#[test]
fn a_restarted_server_is_back_within_the_bound() {
    let late = |by| run(Some(Graceful)).header(|header| header.bounds.back = secs(by));
    late(3).expect(upheld());
    late(2).expect(violated("ROLLOUT-6", "apiserver-0: Ready took 2.350 s"));
    let never = |back| {
        let unmet = |seen: &Observation| {
            is_step(seen, "apiserver-1", Step::MetThroughBalancer)
                || matches!(&seen.event, Event::FaultOff(fault) if fault.server == "apiserver-1")
        };
        run(Some(Graceful)).without(unmet).header(|header| {
            header.bounds.back = secs(back);
            header.judged_by.retain(|by| by.requirement == "ROLLOUT-6");
        })
    };
    never(5).expect(violated("ROLLOUT-6", "apiserver-1: MetThroughBalancer had not come after 5."));
    never(8).expect(inconclusive("ROLLOUT-6", "before MetThroughBalancer"));
    assert_eq!(figure(&run(Some(Killed)), "ROLLOUT-6", "slowest back"), Some(2.85));
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
                let audit_id = std::mem::take(&mut request.exchange.audit_id);
                request.exchange = Exchange { audit_id, ..failed(Phase::Headers, ErrorClass::UnexpectedEof) };
            }
            _ => {}
        })
    };
    let one = closing(7000..7050);
    one.expect(upheld());
    assert_eq!(figure(&one, "ROLLOUT-11", "failures on a closing connection"), Some(1.0));
    closing(7000..7100).expect(violated("ROLLOUT-11", "1 outage of 0.100 s"));
    // A server had it: it was not closed while idle.
    let audit_id = "kube-rs-7000".to_owned();
    let received = Audited { server: "apiserver-0".into(), audit_id, stages: Vec::new(), status: None };
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

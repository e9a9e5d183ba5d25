//! What the verdict on single attempts at requests says: ROLLOUT-13.

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{millis, secs};
use rollproof::verdict::{Verdict, judge};

use crate::reads::graceful;
use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::{Library, New, Reused};
use Restart::Killed;

/// An attempt that takes six seconds and succeeds.
pub(crate) fn slow() -> Recording {
    took(graceful(), New, 7000, secs(6)).whole()
}

fn took(run: Run, on: ConnectionKind, at: u64, took: std::time::Duration) -> Run {
    run.edit(|seen| match &mut seen.event {
        Event::Request(request) if request.exchange.audit_id == format!("{}-{at}", requester(on)) => {
            request.exchange.took = took;
        }
        _ => {}
    })
}

#[test]
fn no_attempt_takes_longer_than_its_bound() {
    let slow = |long: u64| {
        let run = graceful().only("ROLLOUT-13");
        took(run, New, 7000, millis(long))
    };
    slow(4900).expect(upheld());
    slow(5100)
        .expect(violated("ROLLOUT-13", "1 longer, the slowest 5.100 s from +7.000s on (status 200, requester-new)"));
    // So does one that fails after long.
    let failed = slow(5100).edit(|seen| match &mut seen.event {
        Event::Request(request) if request.exchange.audit_id == "requester-new-7000" => {
            let (audit_id, took) = (request.exchange.audit_id.clone(), request.exchange.took);
            request.exchange = Exchange { audit_id, took, ..failed(Phase::Tls, ErrorClass::Timeout) };
        }
        _ => {}
    });
    failed.expect(violated("ROLLOUT-13", "timeout"));
    let load = graceful().only("ROLLOUT-13").edit(|seen| match &mut seen.event {
        Event::Load(load) if within(seen.at, &(7000..7050)) => load.exchange.took = secs(6),
        _ => {}
    });
    load.expect(violated("ROLLOUT-13", "load-0"));
    let read = graceful().only("ROLLOUT-13").reads(7000..7100, |read| read.exchange.took = secs(6));
    read.expect(violated("ROLLOUT-13", "reader"));
    // A request that is held in flight is held by us.
    let held = graceful().only("ROLLOUT-13").edit(|seen| {
        if let Event::InFlight(held) = &mut seen.event {
            held.finished = held.finished + secs(6);
        }
    });
    held.expect(upheld());
}

#[test]
fn a_library_s_attempts_count_each_by_itself_and_its_waits_do_not() {
    let repeated = |status, retry_after, in_all| {
        graceful().only("ROLLOUT-13").edit(|seen| match &mut seen.event {
            Event::Request(request) if request.exchange.audit_id == "kube-rs-7000" => {
                let exchange = Exchange { audit_id: "first".into(), retry_after, ..answered(status) };
                request.attempts = vec![Attempt { at: seen.at, exchange }];
                request.exchange.took = in_all;
            }
            _ => {}
        })
    };
    repeated(429, Some(6), millis(6100)).expect(upheld());
    repeated(504, None, millis(4000)).expect(upheld());
    repeated(504, None, millis(8100))
        .expect(inconclusive("ROLLOUT-13", "how long it waited, the recording does not tell"));
    let slow_first = repeated(503, Some(1), millis(7000)).edit(|seen| match &mut seen.event {
        Event::Request(request) if !request.attempts.is_empty() => request.attempts[0].exchange.took = millis(5500),
        _ => {}
    });
    slow_first.expect(violated("ROLLOUT-13", "5.500 s from +7.001s on (status 503, kube-rs)"));
}

#[test]
fn a_slow_attempt_is_ours_if_we_stalled_and_nobody_s_before_the_roll() {
    let slow = |at| took(graceful().only("ROLLOUT-13"), New, at, millis(5500));
    slow(7000).with(9000, Event::Stall(millis(600))).expect(inconclusive("ROLLOUT-13", "rollproof itself"));
    slow(7000).with(19_000, Event::Stall(millis(600))).expect(violated("ROLLOUT-13", "5.500 s"));
    let early = took(graceful().only("ROLLOUT-13"), New, 600, millis(5500)).header(|header| {
        header.bounds.attempt = millis(1000);
    });
    early.expect(violated("ROLLOUT-13", "5.500 s"));
    let early = took(graceful().only("ROLLOUT-13"), New, 600, millis(1500)).header(|header| {
        header.bounds.attempt = millis(1000);
    });
    early.expect(inconclusive("ROLLOUT-13", "before anything was disturbed"));
}

#[test]
fn attempts_that_nobody_made_prove_nothing() {
    let quiet = |seen: &Observation| match &seen.event {
        Event::Request(request) => request.on == Reused && within(seen.at, &(8000..9200)),
        _ => false,
    };
    graceful()
        .only("ROLLOUT-13")
        .without(quiet)
        .expect(inconclusive("ROLLOUT-13", "requester-reused has no sample for"));
    let nobody = |seen: &Observation| matches!(seen.event, Event::Request(_) | Event::Load(_));
    graceful()
        .only("ROLLOUT-13")
        .without(nobody)
        .expect(inconclusive("ROLLOUT-13", "no requester, client library or load"));
    let killed = run(Some(Killed)).whole();
    let (verdict, _) = judge(spec::requirement("ROLLOUT-13").unwrap(), &killed);
    assert!(matches!(verdict, Verdict::Inconclusive { .. }), "{verdict:?}");
}

#[test]
fn the_slowest_attempt_and_the_hundredth_are_figures() {
    let run = took(graceful(), Library, 7000, millis(900));
    let (_, figures) = judge(spec::requirement("ROLLOUT-13").unwrap(), &run.whole());
    let figure = |name: &str| figures.iter().find(|figure| figure.name == name).map(|figure| figure.value);
    assert_eq!(figure("slowest attempt"), Some(900.0));
    assert_eq!(figure("p99 of attempts"), Some(1.0));
    assert!(figure("attempts").is_some_and(|count| count > 1000.0));
}

//! Whether a recording is good enough for a verdict: what takes evidence away makes it inconclusive, and nothing else does.

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{millis, secs};
use rollproof::verdict::{Verdict, judge_all};
use rstest::rstest;

use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::{New, Reused};
use ErrorClass::{ConnectionRefused, ConnectionReset};
use Restart::{Graceful, Killed};

/// A graceful run that is judged by what it costs clients and asks of apiservers.
fn rollout() -> Run {
    run(Some(Graceful)).header(|header| header.judged_by.retain(|by| by.requirement.starts_with("ROLLOUT-")))
}

/// Everything that it is judged by, but for these, is inconclusive for the same reason.
fn all_inconclusive_but(stand: &[&str], why: &'static str) -> Expect {
    let ids = rollout().0.header.judged_by;
    let ids = ids.iter().filter(|by| !stand.contains(&by.requirement.as_str()));
    let ids = ids.filter_map(|by| spec::requirement(&by.requirement));
    ids.fold(upheld(), |expect, requirement| expect.and_inconclusive(requirement.id, why))
}

fn all_inconclusive(why: &'static str) -> Expect {
    all_inconclusive_but(&[], why)
}

#[test]
fn a_fault_that_was_not_seen_proves_nothing() {
    let of_second = |seen: &Observation| match &seen.event {
        Event::FaultOn(fault) | Event::FaultOff(fault) => fault.server == "apiserver-1",
        _ => false,
    };
    rollout().without(of_second).expect(all_inconclusive("no graceful restart of apiserver-1"));
    rollout()
        .without(|seen| is_step(seen, "apiserver-0", Step::ShutdownInitiated))
        .expect(all_inconclusive("does not tell of ShutdownInitiated"));
    rollout().without(|seen| is_step(seen, "apiserver-0", Step::Exited)).expect(all_inconclusive("is not seen to end"));
    run(Some(Killed))
        .with(3010, life("apiserver-0", Step::ShutdownInitiated))
        .header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-7"))
        .expect(inconclusive("ROLLOUT-7", "went through ShutdownInitiated"));
}

#[test]
fn an_outage_without_a_proven_fault_is_inconclusive() {
    rollout()
        .requests_fail(New, 6050..6250, ConnectionRefused)
        .without(|seen| is_step(seen, "apiserver-0", Step::Exited))
        .expect(all_inconclusive("is not seen to end"));
    // What falls into a proven restart stands, whatever became of the other.
    rollout()
        .requests_fail(New, 14_000..14_200, ConnectionRefused)
        .without(|seen| is_step(seen, "apiserver-0", Step::Exited))
        .expect(
            all_inconclusive_but(&["ROLLOUT-1"], "is not seen to end").and_violated("ROLLOUT-1", "1 outage of 0.200 s"),
        );
}

#[test]
fn a_server_that_never_comes_back_does_not_void_what_is_proven_besides() {
    let gone = |seen: &Observation| {
        is_step(seen, "apiserver-1", Step::Ready)
            || is_step(seen, "apiserver-1", Step::MetThroughBalancer)
            || matches!(&seen.event, Event::FaultOff(fault) if fault.server == "apiserver-1")
    };
    let never_over = || rollout().without(gone).header(|header| header.bounds.back = secs(5));
    let expect =
        || all_inconclusive_but(&["ROLLOUT-6"], "was never over").and_violated("ROLLOUT-6", "Ready had not come");
    never_over().expect(expect());
    let outage = never_over().requests_fail(New, 14_100..30_000, ConnectionRefused);
    let stands = ["ROLLOUT-1", "ROLLOUT-6"];
    outage.expect(
        all_inconclusive_but(&stands, "was never over")
            .and_violated("ROLLOUT-1", "and not over at the end")
            .and_violated("ROLLOUT-6", "Ready had not come"),
    );
}

#[test]
fn a_failure_before_anything_is_disturbed_does_not_void_what_the_roll_cost() {
    rollout()
        .requests_fail(New, 1000..1050, ConnectionRefused)
        .requests_fail(New, 6050..8050, ConnectionRefused)
        .expect(violated("ROLLOUT-1", "1 outage of 2.000 s from +6.050s on"));
}

#[rstest]
#[case::before(0..2600, "successful samples before the first fault")]
#[case::during(3000..17_200, "samples during the disturbance")]
#[case::after(17_600..30_000, "successful samples after the last fault")]
fn too_little_traffic_is_inconclusive(#[case] when: std::ops::Range<u64>, #[case] why: &'static str) {
    let silent = |seen: &Observation| {
        matches!(&seen.event, Event::Request(request) if request.on == New) && within(seen.at, &when)
    };
    let new = ["ROLLOUT-1", "BALANCER-1", "BALANCER-2", "BALANCER-4"];
    let expect = new.into_iter().fold(upheld(), |expect, id| expect.and_inconclusive(id, why));
    run(Some(Graceful)).without(silent).expect(expect);
}

#[test]
fn a_watch_and_its_writer_need_traffic_too() {
    let watch = |expect: fn(Expect, &'static str) -> Expect| {
        ["WATCH-1", "WATCH-2", "WATCH-3", "WATCH-4", "WATCH-5", "WATCH-6"].into_iter().fold(upheld(), expect)
    };
    let late = |seen: &Observation| {
        matches!(seen.event, Event::Write(_) | Event::Delivered(_)) && seen.at > Moment(17_400_000_000)
    };
    run(Some(Graceful))
        .without(late)
        .expect(watch(|expect, id| expect.and_inconclusive(id, "the writer has 0 successful samples after")));
    let deaf = |seen: &Observation| {
        matches!(seen.event, Event::Delivered(_) | Event::Listed(_) | Event::ListWatch(_) | Event::WatchEnded(_))
    };
    run(Some(Graceful))
        .without(deaf)
        .expect(watch(|expect, id| expect.and_inconclusive(id, "no watch is in the recording")));
}

#[test]
fn a_violation_stands_though_nothing_succeeds_after_it() {
    run(Some(Killed))
        .requests_fail(Reused, 3000..30_000, ConnectionReset)
        .expect(violated("ROLLOUT-8", "and not over at the end"));
}

/// What rests on what others wrote down, and what no stall of ours could hide.
const RECORDS: [&str; 4] = ["ROLLOUT-5", "ROLLOUT-6", "ROLLOUT-9", "ROLLOUT-10"];

#[test]
fn our_own_stall_is_never_the_subjects_fault() {
    let stall = |at, length| rollout().with(at, Event::Stall(millis(length)));
    stall(5000, 400).expect(upheld());
    stall(5000, 600).expect(all_inconclusive_but(&RECORDS, "rollproof itself did not run for 0.600 s from +5.000s"));
    // Before the disturbance, a stall could hide nothing of it; but it may have made an outage.
    stall(1000, 600).expect(upheld());
    stall(1000, 600)
        .requests_fail(New, 1100..1400, ErrorClass::Timeout)
        .expect(inconclusive("ROLLOUT-1", "requests failed before anything was disturbed"));
    run(None)
        .with(1000, Event::Stall(millis(600)))
        .header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-1"))
        .expect(inconclusive("ROLLOUT-1", "itself"));
}

#[test]
fn a_stall_excuses_what_it_overlaps_and_nothing_else() {
    let only = |run: Run| run.header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-1"));
    let outage = |from: u64, stall| {
        let outage = only(rollout().requests_fail(New, from..from + 200, ConnectionRefused));
        outage.with(stall, Event::Stall(millis(600)))
    };
    outage(6050, 6100).expect(inconclusive("ROLLOUT-1", "rollproof itself did not run"));
    outage(6050, 12_000).expect(violated("ROLLOUT-1", "1 outage of 0.200 s"));
    outage(6050, 19_900).expect(violated("ROLLOUT-1", "1 outage of 0.200 s"));
    // Of two outages, the stall explains one.
    outage(6050, 6100)
        .requests_fail(New, 14_000..14_100, ConnectionRefused)
        .expect(violated("ROLLOUT-1", "2 outages, the worst of 0.100 s from +14.000s on"));
}

#[test]
fn what_is_written_down_stands_whatever_we_did() {
    // In the last moment of the recording, and in the middle of it.
    for at in [19_900, 8000] {
        let repeated = run(Some(Graceful)).header(|header| header.judged_by.retain(|by| by.requirement == "WATCH-3"));
        let (when, event) = repeated
            .0
            .observations
            .iter()
            .find_map(|seen| match &seen.event {
                Event::Delivered(event) if within(seen.at, &(8000..9000)) => {
                    Some((seen.at.0 / 1_000_000, event.clone()))
                }
                _ => None,
            })
            .expect("changes are delivered all the time");
        repeated
            .with(when + 7, Event::Delivered(event))
            .with(at, Event::Stall(millis(600)))
            .expect(violated("WATCH-3", "arrived twice"));
    }
}

#[test]
fn an_apiserver_that_starves_beside_the_restarted_one_is_not_the_balancers_fault() {
    let failing = |run: Run| run.requests_fail(New, 5100..5400, ConnectionRefused);
    let slow = |server: &str, at: u64, path: &str| {
        rollout().edit(|seen| match &mut seen.event {
            Event::ServerHealth(health)
                if health.server == server && health.path == path && within(seen.at, &(at..at + 50)) =>
            {
                health.took = millis(300);
            }
            _ => {}
        })
    };
    // Asked past the balancer, whichever that is: /livez asks for nothing that a client can use up.
    failing(slow("apiserver-1", 5200, "/livez"))
        .expect(inconclusive("ROLLOUT-1", "apiserver-1, which nobody disturbed, did not answer /livez within 0.250 s"));
    failing(slow("apiserver-1", 5200, "/readyz")).expect(violated("ROLLOUT-1", "connection refused"));
    failing(slow("apiserver-1", 18_000, "/livez")).expect(violated("ROLLOUT-1", "connection refused"));
    // The restarted one does not answer while it is away.
    failing(slow("apiserver-0", 5200, "/livez")).expect(violated("ROLLOUT-1", "connection refused"));

    let unanswered = |run: Run, server: &str| {
        let (server, why) = (server.to_owned(), "GET /readyz: no answer within 500ms".to_owned());
        let health = BackendHealth { server, healthy: false, why, unanswered: true };
        run.with(5000, Event::BackendHealth(health)).with(
            5200,
            Event::BackendHealth(BackendHealth {
                server: "apiserver-1".into(),
                healthy: true,
                why: String::new(),
                unanswered: false,
            }),
        )
    };
    // Its own word goes before what the balancer makes of it.
    failing(unanswered(rollout(), "apiserver-1")).expect(violated("ROLLOUT-1", "connection refused"));
    let unasked = |run: Run| {
        let run = run.header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-1"));
        run.without(|seen| matches!(&seen.event, Event::ServerHealth(health) if health.path == "/livez"))
    };
    failing(unanswered(unasked(rollout()), "apiserver-0")).expect(violated("ROLLOUT-1", "connection refused"));
    unanswered(unasked(rollout()), "apiserver-1").expect(upheld());
    let starved = unasked(rollout()).requests_fail(New, 4900..5400, ConnectionRefused);
    unanswered(starved, "apiserver-1")
        .expect(inconclusive("ROLLOUT-1", "apiserver-1, which nobody disturbed, went out of service at +5.000s"));
}

#[test]
fn nothing_is_upheld_by_a_recording_that_disagrees_with_its_header() {
    let all = |why| all_inconclusive(why);
    // One of two apiservers, the other of which was never rolled.
    let half = |seen: &Observation| match &seen.event {
        Event::FaultOn(fault) | Event::FaultOff(fault) => fault.server == "apiserver-1",
        Event::Lifecycle(step) => step.server == "apiserver-1",
        Event::ServerHealth(health) => health.server == "apiserver-1",
        _ => false,
    };
    let one = rollout().without(half).header(|header| header.servers.truncate(1));
    let judged = judge_all(&one.whole()).unwrap();
    assert!(judged.iter().all(|judgement| judgement.verdict != Verdict::Upheld), "{judged:#?}");
    let unannounced = rollout().header(|header| {
        header.disturbance = None;
        header.judged_by.retain(|by| ["ROLLOUT-1", "ROLLOUT-2", "ROLLOUT-11"].contains(&by.requirement.as_str()));
    });
    let cut = unannounced.requests_fail(Reused, 6000..6050, ConnectionReset);
    let judged = judge_all(&cut.whole()).unwrap();
    for judgement in &judged {
        let Verdict::Inconclusive { why } = &judgement.verdict else { panic!("{judgement:#?}") };
        assert!(why.contains("the header announces no restart"), "{why}");
    }
    rollout().header(|header| header.bounds.stall = secs(1)).expect(all("the header's bound stall_ns is 1s"));
    rollout().header(|header| header.bounds.request_gap = secs(20)).expect(all("the header's bound request_gap_ns"));
    rollout().header(|header| header.bounds.attempt = secs(10)).expect(all("the header's bound attempt_ns"));
    rollout().header(|header| header.bounds.samples = 1).expect(all("the header's bound samples is 1"));
}

#[test]
fn an_apiserver_that_died_unasked_upholds_nothing() {
    let died = rollout().with(18_000, life("apiserver-0", Step::Exited));
    died.expect(all_inconclusive("apiserver-0 ended at +18.000s, and nobody had stopped it"));
    let killed = run(Some(Killed)).with(18_000, life("apiserver-0", Step::Exited));
    let judged = judge_all(&killed.whole()).unwrap();
    assert!(judged.iter().all(|judgement| matches!(judgement.verdict, Verdict::Inconclusive { .. })), "{judged:#?}");
}

#[test]
fn a_ticker_that_died_upholds_nothing() {
    let mut dead = rollout().whole();
    dead.observations.retain(|seen| !matches!(seen.event, Event::Ticked(_)) || within(seen.at, &(0..9000)));
    let expect = || all_inconclusive("the ticker gives no sign of life from +9.000s on");
    expect().compare_whole(&dead);
    let mut pause = rollout().whole();
    pause.observations.retain(|seen| !matches!(seen.event, Event::Ticked(_)) || !within(seen.at, &(9000..10_000)));
    expect().compare_whole(&pause);
    // A recording of format 1 has none.
    let mut old = rollout().whole();
    old.header.format = 1;
    old.observations.retain(|seen| !matches!(seen.event, Event::Ticked(_) | Event::AuditLog(_)));
    upheld().compare_whole(&old);
}

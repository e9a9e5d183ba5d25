//! What each verdict says about small recordings: tables for watches, spoilt runs for the rest.

use std::collections::BTreeSet;

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{millis, secs};
use rollproof::verdict::{UnknownRequirement, Verdict, describe, judge, judge_all, judged};
use rstest::rstest;

use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::{New, Reused};
use ErrorClass::{ConnectionRefused, ConnectionReset};
use Restart::{Graceful, Killed};

const LOST: &str = "was written and never seen";

#[test]
fn every_requirement_has_exactly_one_judge() {
    let judges: Vec<_> = judged().map(|requirement| requirement.id).collect();
    let ids: Vec<_> = spec::requirements().map(|requirement| requirement.id).collect();
    assert_eq!(judges, ids);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

// Watches.

#[test]
fn a_watch_that_delivers_every_change_once_and_in_order_upholds_the_family() {
    check("wrote 1 2 3 | saw 1 2 3", upheld());
    check("wrote 1 2 3 | saw 1 2 (cut) 3", upheld());
    check("wrote 1 b2 3 -b4 | saw 1 b2 (cut) 3 -b4", upheld());
}

#[test]
fn a_certain_change_must_be_seen_and_a_doubtful_one_may_be() {
    check("wrote 1 2 3 | saw 1 (cut) 3", violated("WATCH-1", "revision 2 was written and never seen"));
    check("wrote 1 2 3 | saw 1", violated("WATCH-1", "revision 2 was written and never seen"));
    check("wrote 1 maybe 2 3 | saw 1 3", upheld());
    check("wrote 1 maybe 2 3 | saw 1 2 3", upheld());
    check("wrote 1 never 2 3 | saw 1 3", upheld());
    check("wrote 1 -2 | saw 1", violated("WATCH-1", "change 2 was written and never seen (delete x"));
}

#[test]
fn a_relist_stands_for_changes_but_is_no_resumption() {
    let relist = || violated("WATCH-4", "the whole state");
    let list = || violated("WATCH-4", "List request");
    check("wrote 1 2 3 | saw 1 2 (cut, relist 3)", list());
    check("wrote 1 2 3 4 | saw 1 (cut, relist 3) 4", list());
    check("wrote 1 2 3 | saw 1 (cut, relist 3@?)", list());
    check("wrote 1 b2 -b3 4 | saw 1 (cut, relist 4)", list());
    check("wrote 1 b2 -b3 4 | saw 1 b2 (cut, relist 2) 4", list().and_violated("WATCH-1", "delete b"));
    check("wrote 1 2 3 | saw 1 (cut, relist 2)", list().and_violated("WATCH-1", "revision 3"));
    check("wrote 1 2 | saw 1 (cut, gone, relist 2)", violated("WATCH-4", "it had been told 410"));
    let mut unseen = watch_table("wrote 1 2 | saw 1 (cut, relist 2)");
    unseen.observations.retain(|seen| !matches!(&seen.event, Event::ListWatch(call) if call.call == Call::List));
    relist().compare(&unseen);
}

#[test]
fn a_repetition_is_not_out_of_order_and_an_old_news_is_no_repetition() {
    check("wrote 1 2 | saw 2 1", violated("WATCH-2", "revision 1 arrived after 2"));
    check("wrote 1 2 | saw 1 2 1", violated("WATCH-3", "revision 1 arrived twice"));
    check("wrote 1 2 3 | saw 1 2 (cut) 1 2 3", violated("WATCH-3", "revision 1 arrived twice"));
    check(
        "wrote 1 2 3 | saw 2 1 2 3",
        violated("WATCH-2", "1 arrived after 2").and_violated("WATCH-3", "2 arrived twice"),
    );
    check(
        "wrote 1 2 3 | saw 1 (cut, relist 3) 2",
        violated("WATCH-2", "revision 2 arrived after 3").and_violated("WATCH-4", "List"),
    );
}

#[test]
fn a_watch_resumes_from_what_it_knows() {
    check("wrote 1 2 | saw 1 (cut, newest) 2", violated("WATCH-4", "Watch request from the newest"));
    let mut uncut = watch_table("wrote 1 2 | saw 1 (cut) 2");
    uncut.observations.retain(|seen| {
        seen.at < Moment(1_050_000_000) || !matches!(seen.event, Event::WatchEnded(_) | Event::ListWatch(_))
    });
    inconclusive("WATCH-4", "no watch was interrupted").compare(&uncut);
    check("wrote 1 2 | saw 1 2", upheld());
}

#[test]
fn what_nobody_wrote_must_not_be_seen() {
    check("wrote 1 2 | saw 1 2 7", violated("WATCH-5", "no write explains it"));
    check("wrote 1 2 | saw 1 2 z3", violated("WATCH-5", "z at revision 3, change 3: no write explains it"));
    check("wrote 1 never 2 | saw 1 2", violated("WATCH-5", "it was refused"));
    check("wrote 1 2 | saw 1 2@9", violated("WATCH-5", "it was written at revision 2"));
    check("wrote 1 2 | saw 1 2 -3", violated("WATCH-5", "nobody deleted it"));
    check("wrote 1 2 never -3 | saw 1 2 -3", violated("WATCH-5", "its delete was refused"));
    check("wrote 1 maybe -2 | saw 1 -2", upheld());
}

#[test]
fn a_relist_shows_the_state_at_its_revision() {
    let list = || violated("WATCH-4", "List request");
    check(
        "wrote 1 2 3 | saw 1 2 (cut, relist 2@3) 3",
        list().and_violated("WATCH-5", "shows x at change 2, not 3").and_violated("WATCH-2", "3 arrived after 3"),
    );
    check("wrote 1 2 b3 | saw 1 2 b3 (cut, relist 2@3)", list().and_violated("WATCH-5", "does not show b, change 3"));
    check("wrote 1 2 | saw 1 2 (cut, relist 2@1)", list().and_violated("WATCH-5", "written at revision 2"));
}

#[test]
fn a_deleted_event_carries_the_last_state() {
    let mut recording = watch_table("wrote 1 2 -3 | saw 1 2 -3");
    for seen in &mut recording.observations {
        if let Event::Delivered(event) = &mut seen.event
            && event.kind == ChangeKind::Deleted
        {
            event.change = 1;
        }
    }
    violated("WATCH-5", "the last change before was 2").compare(&recording);
}

#[test]
fn a_change_must_arrive_within_the_bound() {
    check("wrote 1 2 | saw 1 late 2", violated("WATCH-6", "arrived 5.0"));
    check("wrote 1 2 | saw 1 (silence)", violated("WATCH-1", LOST).and_violated("WATCH-6", "had not arrived"));
    check(
        "wrote 1 2 | saw 1 (cut) (silence, relist 2)",
        violated("WATCH-6", "arrived 5.0").and_violated("WATCH-4", "List"),
    );
}

#[test]
fn a_watch_owes_nothing_that_was_there_before_it() {
    let mut recording = watch_table("wrote 1 2 3 | saw 2 3");
    violated("WATCH-1", "revision 1").compare(&recording);
    let first_write = recording.observations.iter().position(|seen| matches!(seen.event, Event::Write(_))).unwrap();
    let late = recording.observations[first_write].at;
    recording.observations[..first_write].iter_mut().for_each(|seen| seen.at = late);
    upheld().compare(&recording);
}

#[test]
fn the_worst_of_several_watches_counts() {
    let mut recording = watch_table("wrote 1 2 3 | saw 1 2 3");
    let second: Vec<_> = recording
        .observations
        .iter()
        .filter_map(|seen| {
            let mut seen = seen.clone();
            match &mut seen.event {
                Event::Delivered(event) if event.revision != 2 => event.probe = "second".into(),
                Event::Listed(list) => list.probe = "second".into(),
                _ => return None,
            }
            Some(seen)
        })
        .collect();
    recording.observations.extend(second);
    recording.observations.sort_by_key(|seen| seen.at);
    violated("WATCH-1", "second)").compare(&recording);
}

// Rollouts.

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
    graceful()
        .requests_fail(New, 6050..6250, ConnectionRefused)
        .expect(violated("ROLLOUT-1", "1 outage of 0.200 s from +6.050s on: 4 requests failed (connection refused x4), 0.037 s after apiserver-0 was at HTTPServerStoppedListening"));
    graceful()
        .requests_fail(Reused, 6050..6100, ConnectionReset)
        .requests_fail(Reused, 14_000..14_200, ConnectionReset)
        .expect(violated("ROLLOUT-2", "2 outages, the worst of 0.200 s from +14.001s"));
    graceful()
        .requests_fail(New, 1000..1050, ConnectionRefused)
        .expect(violated("ROLLOUT-1", "while no apiserver was being restarted"));
    graceful()
        .requests_fail(New, 8000..30_000, ConnectionRefused)
        .expect(violated("ROLLOUT-1", "and not over at the end"));
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
fn one_retry_repairs_a_connection_closed_while_idle_and_is_counted() {
    let closed = |at: u64| run(Some(Graceful)).requests_fail(Reused, at..at + 50, ErrorClass::UnexpectedEof);
    let retry = |status| Request {
        retries: Some("requester-reused-7000".into()),
        exchange: answered(status),
        ..request(New, 7000)
    };
    let retry = |status| Event::Request(Request { probe: requester(Reused).into(), on: Reused, ..retry(status) });
    let repaired = closed(7000).with(7005, retry(200));
    repaired.expect(upheld());
    assert_eq!(figure(&repaired, "ROLLOUT-2", "failures repaired by one retry"), Some(1.0));
    assert_eq!(figure(&repaired, "ROLLOUT-2", "unexpected EOF"), Some(1.0));
    assert_eq!(figure(&repaired, "ROLLOUT-2", "outages"), Some(0.0));
    closed(7000)
        .with(7005, retry(503))
        .expect(violated("ROLLOUT-2", "2 requests failed (status 503 x1, unexpected EOF x1)"));
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
        .expect(inconclusive("ROLLOUT-4", "without a delay"));
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

// Whether a recording is good enough.

/// Everything that a graceful run is judged by is inconclusive for the same reason.
fn all_inconclusive(why: &'static str) -> Expect {
    let ids = run(Some(Graceful)).0.header.judged_by;
    let ids = ids.iter().filter_map(|by| spec::requirement(&by.requirement));
    ids.fold(upheld(), |expect, requirement| expect.and_inconclusive(requirement.id, why))
}

#[test]
fn a_fault_that_was_not_seen_proves_nothing() {
    let graceful = || run(Some(Graceful));
    let fault = |server: &'static str| move |seen: &Observation| matches!(&seen.event, Event::FaultOn(fault) | Event::FaultOff(fault) if fault.server == server);
    graceful().without(fault("apiserver-1")).expect(all_inconclusive("no graceful restart of apiserver-1"));
    graceful()
        .without(|seen| is_step(seen, "apiserver-0", Step::ShutdownInitiated))
        .expect(all_inconclusive("does not tell of ShutdownInitiated"));
    graceful()
        .without(|seen| is_step(seen, "apiserver-0", Step::Exited))
        .expect(all_inconclusive("is not seen to end"));
    run(Some(Killed))
        .with(3010, life("apiserver-0", Step::ShutdownInitiated))
        .header(|header| header.judged_by.retain(|by| by.requirement == "ROLLOUT-7"))
        .expect(inconclusive("ROLLOUT-7", "went through ShutdownInitiated"));
}

#[test]
fn an_outage_without_a_proven_fault_is_inconclusive() {
    run(Some(Graceful))
        .requests_fail(New, 6050..6250, ConnectionRefused)
        .without(|seen| is_step(seen, "apiserver-0", Step::Exited))
        .expect(all_inconclusive("is not seen to end"));
}

#[rstest]
#[case::before(0..2600, "successful samples before the first fault")]
#[case::during(3000..17_200, "samples during the disturbance")]
#[case::after(17_600..30_000, "successful samples after the last fault")]
fn too_little_traffic_is_inconclusive(#[case] when: std::ops::Range<u64>, #[case] why: &'static str) {
    let silent = |seen: &Observation| {
        matches!(&seen.event, Event::Request(request) if request.on == New) && within(seen.at, &when)
    };
    run(Some(Graceful)).without(silent).expect(inconclusive("ROLLOUT-1", why));
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

#[test]
fn our_own_stall_is_never_the_subjects_fault() {
    let stall = |at, length| run(Some(Graceful)).with(at, Event::Stall(millis(length)));
    stall(5000, 400).expect(upheld());
    stall(5000, 600).expect(all_inconclusive("rollproof itself did not run for 0.600 s from +5.000s"));
    // Before the disturbance, a stall could hide nothing of it; but it may have made an outage.
    stall(1000, 600).expect(upheld());
    stall(1000, 600)
        .requests_fail(New, 1100..1400, ErrorClass::Timeout)
        .expect(inconclusive("ROLLOUT-1", "rollproof itself did not run"));
    run(None)
        .with(1000, Event::Stall(millis(600)))
        .header(|header| header.judged_by.truncate(1))
        .expect(inconclusive("WATCH-1", "itself"));
}

// Judgements as a whole.

#[test]
fn a_control_passes_when_it_is_violated_and_complains_when_it_is_not() {
    let control = |run: Run| {
        let run = run.header(|header| {
            header.judged_by = vec![JudgedBy { requirement: "ROLLOUT-1".into(), expected: Expected::Violated }];
        });
        judge_all(&run.0).unwrap().remove(0)
    };
    let found = control(run(Some(Graceful)).requests_fail(New, 6050..6250, ConnectionRefused));
    assert!(found.passed());
    assert_eq!(found.complaint(), None);
    let toothless = control(run(Some(Graceful)));
    assert!(!toothless.passed());
    assert!(toothless.complaint().unwrap().contains("was expected to be violated and is upheld"));
    let vacuous = control(run(Some(Graceful)).without(|seen| matches!(seen.event, Event::Request(_))));
    assert!(!vacuous.passed());
    assert!(vacuous.complaint().unwrap().contains("inconclusive"));
}

#[test]
fn an_unknown_requirement_is_an_error() {
    let run = run(None).header(|header| {
        header.judged_by = vec![JudgedBy { requirement: "WATCH-99".into(), expected: Expected::Upheld }];
    });
    assert_eq!(judge_all(&run.0), Err(UnknownRequirement("WATCH-99".into())));
}

#[test]
fn verdicts_come_in_the_headers_order() {
    let run = run(Some(Graceful)).header(|header| header.judged_by.reverse());
    let ids: Vec<_> = judge_all(&run.0).unwrap().iter().map(|judgement| judgement.requirement.id).collect();
    let asked: Vec<_> = run.0.header.judged_by.iter().map(|by| by.requirement.as_str()).collect();
    assert_eq!(ids, asked);
}

#[test]
fn a_saved_recording_gives_the_same_judgements() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recording.jsonl");
    let retry = Request { retries: Some("requester-reused-7000".into()), ..request(Reused, 7000) };
    let mixed = run(Some(Graceful))
        .requests_fail(Reused, 7000..7050, ConnectionReset)
        .with(7005, Event::Request(retry))
        .requests_fail(New, 6050..6250, ConnectionRefused)
        .health("apiserver-0", "/livez", 4000..4100, 500)
        .with(100, Event::Stall(secs(1)))
        .0;
    mixed.save(&path).unwrap();
    let loaded = Recording::load(&path).unwrap();
    let judgements = judge_all(&mixed).unwrap();
    assert_eq!(judge_all(&loaded).unwrap(), judgements);
    assert_eq!(judgements.iter().filter(|judgement| judgement.passed()).count(), judgements.len() - 2);
}

#[test]
fn an_excerpt_shows_what_was_around_the_violation() {
    let run = run(Some(Graceful)).requests_fail(New, 6050..6250, ConnectionRefused);
    let requirement = spec::requirement("ROLLOUT-1").unwrap();
    let (Verdict::Violated { excerpt, .. }, _) = judge(requirement, &run.0) else { panic!("it is violated") };
    assert_eq!(excerpt.len(), 8);
    assert!(
        excerpt.contains(
            &"+6.050s requester-new: request on a new connection: failed in dial: connection refused after 1 ms"
                .to_owned()
        ),
        "{excerpt:#?}"
    );
    assert!(excerpt.contains(&"+6.013s apiserver-0: HTTPServerStoppedListening".to_owned()), "{excerpt:#?}");
}

#[test]
fn every_kind_of_observation_is_described_in_one_line() {
    let run = run(Some(Graceful)).with(1, Event::Stall(millis(600)));
    for seen in &run.0.observations {
        let line = describe(Moment(0), seen);
        assert!(line.starts_with('+') && !line.contains('\n') && line.len() < 160, "{line}");
    }
}

fn figure(run: &Run, id: &str, name: &str) -> Option<f64> {
    let (_, figures) = judge(spec::requirement(id).unwrap(), &run.0);
    figures.into_iter().find(|figure| figure.name == name).map(|figure| figure.value)
}

/// The reason of an inconclusive verdict.
#[track_caller]
fn verdict(run: &Run, id: &str) -> String {
    match judge(spec::requirement(id).unwrap(), &run.0) {
        (Verdict::Inconclusive { why }, _) => why,
        (verdict, _) => panic!("{id}: {verdict:?}"),
    }
}

//! What verdicts say: tables for watches, whether a recording is good enough, and judgements as a whole.

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
    let lost = list().and_violated("WATCH-1", "revision 2").and_violated("WATCH-5", "does not show b");
    check("wrote 1 b2 | saw 1 (cut, relist 1@2)", lost);
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
    check("wrote 1 never -2 -3 | saw 1 -3", upheld());
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
    let of_second = |seen: &Observation| match &seen.event {
        Event::FaultOn(fault) | Event::FaultOff(fault) => fault.server == "apiserver-1",
        _ => false,
    };
    graceful().without(of_second).expect(all_inconclusive("no graceful restart of apiserver-1"));
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

#[test]
fn our_own_stall_is_never_the_subjects_fault() {
    let stall = |at, length| run(Some(Graceful)).with(at, Event::Stall(millis(length)));
    stall(5000, 400).expect(upheld());
    stall(5000, 600).expect(all_inconclusive("rollproof itself did not run for 0.600 s from +5.000s"));
    // Before the disturbance, a stall could hide nothing of it; but it may have made an outage.
    stall(1000, 600).expect(upheld());
    stall(1000, 600)
        .requests_fail(New, 1100..1400, ErrorClass::Timeout)
        .expect(inconclusive("ROLLOUT-1", "requests failed before anything was disturbed"));
    run(None)
        .with(1000, Event::Stall(millis(600)))
        .header(|header| header.judged_by.truncate(1))
        .expect(inconclusive("WATCH-1", "itself"));
}

#[test]
fn an_apiserver_that_starves_beside_the_restarted_one_is_not_the_balancers_fault() {
    let unanswered = |server: &str| {
        let (server, why) = (server.to_owned(), "GET /readyz: no answer within 500ms".to_owned());
        let health = BackendHealth { server, healthy: false, why, unanswered: true };
        run(Some(Graceful)).with(5000, Event::BackendHealth(health))
    };
    let failing = |run: Run| run.requests_fail(New, 5100..5400, ConnectionRefused);
    failing(unanswered("apiserver-1"))
        .expect(inconclusive("ROLLOUT-1", "apiserver-1, which nobody disturbed, went out of service at +5.000s"));
    unanswered("apiserver-1").expect(upheld());
    // The restarted one does not answer while it is away.
    failing(unanswered("apiserver-0"))
        .expect(violated("ROLLOUT-1", "connection refused").and_inconclusive("BALANCER-4", "met no apiserver"));
}

// Judgements as a whole.

#[test]
fn a_control_passes_when_it_is_violated_and_complains_when_it_is_not() {
    let control = |run: Run| {
        let run = run.header(|header| {
            header.judged_by =
                vec![JudgedBy { requirement: "ROLLOUT-1".into(), expected: Expected::Violated, gateway: None }];
        });
        judge_all(&run.whole()).unwrap().remove(0)
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
        header.judged_by = vec![JudgedBy { requirement: "WATCH-99".into(), expected: Expected::Upheld, gateway: None }];
    });
    assert_eq!(judge_all(&run.0), Err(UnknownRequirement("WATCH-99".into())));
}

#[test]
fn verdicts_come_in_the_headers_order() {
    let run = run(Some(Graceful)).header(|header| header.judged_by.reverse());
    let ids: Vec<_> = judge_all(&run.whole()).unwrap().iter().map(|judgement| judgement.requirement.id).collect();
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
        .requests_fail(New, 3550..3750, ConnectionRefused)
        .health("apiserver-0", "/livez", 4000..4100, 500)
        .with(100, Event::Stall(secs(1)))
        .whole();
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
    let (Verdict::Violated { excerpt, .. }, _) = judge(requirement, &run.whole()) else { panic!("it is violated") };
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

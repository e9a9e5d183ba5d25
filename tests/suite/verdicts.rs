//! What verdicts say: tables for watches, whether a recording is good enough, and judgements as a whole.

use std::collections::BTreeSet;

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{millis, secs};
use rollproof::verdict::{UnknownRequirement, Verdict, describe, judge, judge_all, judged};

use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::{New, Reused};
use ErrorClass::{ConnectionRefused, ConnectionReset};
use Restart::Graceful;

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
    let mut retry = Request { retries: Some("requester-reused-6000".into()), ..request(Reused, 6002) };
    retry.exchange.connection = None;
    let mixed = run(Some(Graceful))
        .requests_fail(Reused, 6000..6050, ConnectionReset)
        .with(6005, Event::Request(retry))
        .requests_fail(New, 6050..6250, ConnectionRefused)
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

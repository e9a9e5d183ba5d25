//! Judgements as a whole: who judges what, controls, and what a saved recording gives.

use std::collections::BTreeSet;

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{millis, secs};
use rollproof::verdict::{UnknownRequirement, Verdict, describe, judge, judge_all, judged};

use crate::runs::*;

use ConnectionKind::{New, Reused};
use ErrorClass::{ConnectionRefused, ConnectionReset};
use Restart::Graceful;

#[test]
fn every_requirement_has_exactly_one_judge() {
    let judges: Vec<_> = judged().map(|requirement| requirement.id).collect();
    let ids: Vec<_> = spec::requirements().map(|requirement| requirement.id).collect();
    assert_eq!(judges, ids);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
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

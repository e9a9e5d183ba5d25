//! Every requirement is seen failing, and each way to spoil a recording is caught by the requirement that is about it.

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::millis;
use rollproof::verdict::{Verdict, judge, judge_all};

use crate::runs::*;
use crate::shorthand::*;

use ConnectionKind::{Library, New, Reused};
use Restart::{Graceful, Killed};

/// A recording in which the requirement is violated.
pub(crate) fn tooth(id: &str) -> Option<Recording> {
    let graceful = || run(Some(Graceful));
    let killed = |on| run(Some(Killed)).requests_fail(on, 3000..8000, ErrorClass::Timeout).whole();
    Some(match id {
        "WATCH-1" => watch_table("wrote 1 2 3 | saw 1 (cut) 3"),
        "WATCH-2" => watch_table("wrote 1 2 | saw 2 (cut) 1"),
        "WATCH-3" => watch_table("wrote 1 2 | saw 1 (cut) 1 2"),
        "WATCH-4" => watch_table("wrote 1 2 | saw 1 (cut, relist 2)"),
        "WATCH-5" => watch_table("wrote 1 never 2 | saw 1 (cut) 2"),
        "WATCH-6" => watch_table("wrote 1 2 | saw 1 (cut) late 2"),
        "WATCH-7" => crate::relist_verdicts::a_read_goes_back(),
        "WATCH-8" => watch_table("wrote 1 2 3 | saw 1 2 (bookmark 3) 3"),
        "ROLLOUT-1" => graceful().requests_fail(New, 6050..6100, ErrorClass::ConnectionRefused).whole(),
        "ROLLOUT-2" => graceful().requests_fail(Reused, 6050..6100, ErrorClass::ConnectionReset).whole(),
        "ROLLOUT-3" => graceful().health("apiserver-0", "/readyz", 3000..6000, 200).whole(),
        "ROLLOUT-4" => graceful().health("apiserver-0", "/livez", 3000..6000, 500).whole(),
        "ROLLOUT-5" => {
            graceful().without(|seen| is_step(seen, "apiserver-1", Step::AfterShutdownDelayDuration)).whole()
        }
        "ROLLOUT-6" => graceful().header(|header| header.bounds.back = millis(100)).whole(),
        "ROLLOUT-7" => killed(New),
        "ROLLOUT-8" => killed(Reused),
        "ROLLOUT-9" => crate::load::cut_in_flight(graceful()).whole(),
        "ROLLOUT-10" => crate::load::lose_an_object(graceful()).whole(),
        "ROLLOUT-11" => graceful().requests_fail(Library, 6050..6100, ErrorClass::ConnectionRefused).whole(),
        "ROLLOUT-12" => crate::load::refuse_a_delete(graceful()).whole(),
        "ROLLOUT-13" => crate::attempts::slow(),
        "ROLLOUT-14" => crate::reads::stale(),
        "ROLLOUT-15" => crate::reads::lost_update(),
        "BALANCER-1" => {
            slow_to_detect(graceful()).with(5500, carried("apiserver-0", End::Fin, Party::Client, 5)).whole()
        }
        "BALANCER-2" => graceful().with(7500, carried("apiserver-0", End::Unreachable, Party::Balancer, 1)).whole(),
        "BALANCER-3" => graceful().with(1000, carried("apiserver-0", End::Reset, Party::Balancer, 3000)).whole(),
        "BALANCER-4" => graceful().with(5200, carried("apiserver-0", End::Fin, Party::Client, 5)).whole(),
        "IDLE-1" => crate::idle_verdicts::silent(),
        "IDLE-2" => crate::idle_verdicts::cut_early(),
        "IDLE-3" => crate::lost_verdicts::resumed_late(),
        "IDLE-4" => crate::lost_verdicts::change_missed(),
        "IDLE-5" => crate::lost_verdicts::used_when_dead(),
        "IDLE-6" => crate::idle_verdicts::not_held(),
        "LOST-1" => crate::lost_verdicts::unnoticed(),
        "LOST-2" => crate::lost_verdicts::used_twice(),
        "CLUSTER-1" => crate::cluster_verdicts::a_node_unknown(),
        "CLUSTER-2" => crate::cluster_verdicts::a_lease_not_renewed(),
        "CLUSTER-3" => crate::cluster_verdicts::another_leader(),
        id if id.starts_with("GATEWAY-") => crate::gateway_verdicts::tooth(id),
        "SESSION-1" => crate::session_verdicts::cut_while_draining(),
        "SESSION-2" => crate::session_verdicts::cut_while_quiet(),
        "SESSION-3" => crate::session_verdicts::left_hanging(),
        "SESSION-4" => crate::session_verdicts::not_opened(),
        _ => return None,
    })
}

/// A run behind a balancer that may take longer than the shutdown delay.
fn slow_to_detect(run: Run) -> Run {
    run.header(|header| header.timers.health_fall = 10)
}

#[test]
fn every_requirement_has_teeth() {
    for requirement in spec::requirements() {
        let id = requirement.id;
        let recording = tooth(id).unwrap_or_else(|| panic!("{id} is nowhere seen failing"));
        let (verdict, _) = judge(requirement, &recording);
        let Verdict::Violated { expected, actual, excerpt } = verdict else { panic!("{id}: {verdict:?}") };
        assert!(!expected.is_empty() && !actual.is_empty() && !excerpt.is_empty(), "{id}");
        assert!(excerpt.len() <= 8, "{id}: {excerpt:#?}");
        assert!(violated_in(&recording).contains(&id), "{id}");
    }
}

#[test]
fn a_violation_is_blamed_on_one_requirement() {
    for requirement in spec::requirements() {
        let recording = tooth(requirement.id).unwrap();
        assert_eq!(violated_in(&recording), [requirement.id]);
    }
}

/// One way to spoil what a watch saw, at the `n`th of its events, and the requirements that must notice.
type Mutation = (&'static str, fn(Run, usize) -> Run, &'static [&'static str]);

const MUTATIONS: &[Mutation] = &[
    ("an event is dropped", drop_event, &["WATCH-1", "WATCH-6"]),
    ("two events are swapped", swap_events, &["WATCH-2"]),
    ("an event comes twice", repeat_event, &["WATCH-3"]),
    ("the client relists", insert_relist, &["WATCH-4"]),
    ("the client resumes from the newest", forget_revision, &["WATCH-4"]),
    ("an event is of another kind", change_kind, &["WATCH-5"]),
    ("events are held back", delay_events, &["WATCH-6"]),
];

#[test]
fn each_way_to_spoil_a_watch_flips_exactly_its_requirements() {
    let mut random = Random(20_260_101);
    for disturbance in [Some(Graceful), Some(Killed), None] {
        let upheld = run(disturbance);
        assert!(violated_in(&upheld.whole()).is_empty());
        // The last four seconds are left alone: what is missing there is not yet stale.
        // Nor are those before the first fault: a watch has to be seen working before anything is held against it, and what it does then is not
        // because of a fault.
        let events = upheld.delivered().len() - 100;
        for (what, spoil, expected) in MUTATIONS {
            for _ in 0..12 {
                let n = 60 + random.below(events - 60);
                let spoilt = spoil(run(disturbance), n);
                assert_eq!(violated_in(&spoilt.whole()), *expected, "{what} at event {n}, {disturbance:?}");
            }
        }
    }
}

#[test]
fn a_watch_that_is_cut_anywhere_and_resumes_is_upheld() {
    let mut random = Random(7);
    for _ in 0..20 {
        let mut upheld = run(Some(Graceful));
        for _ in 0..5 {
            let n = random.below(upheld.delivered().len());
            let (at, event) = event(&upheld, n);
            upheld = upheld
                .with(at + 1, Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure: None }))
                .with(at + 2, list_call(Call::Watch, Some(event.revision)));
        }
        assert!(judge_all(&upheld.whole()).unwrap().iter().all(|judgement| judgement.passed()));
    }
}

fn violated_in(recording: &Recording) -> Vec<&'static str> {
    let judgements = judge_all(recording).unwrap();
    let violated = judgements.iter().filter(|judgement| matches!(judgement.verdict, Verdict::Violated { .. }));
    violated.map(|judgement| judgement.requirement.id).collect()
}

fn drop_event(mut run: Run, n: usize) -> Run {
    let position = run.delivered()[n];
    run.0.observations.remove(position);
    run
}

fn swap_events(mut run: Run, n: usize) -> Run {
    let (one, other) = (run.delivered()[n], run.delivered()[n + 1]);
    // The older one comes late, and the newer one not before it was written.
    run.0.observations[one].at = run.0.observations[other].at + millis(1);
    run.0.observations.sort_by_key(|seen| seen.at);
    run
}

fn repeat_event(run: Run, n: usize) -> Run {
    let (at, event) = event(&run, n);
    run.with(at + 7, Event::Delivered(event))
}

fn insert_relist(run: Run, n: usize) -> Run {
    let (at, event) = event(&run, n);
    // The only object there is, unless it has just been deleted.
    let objects = match event.kind {
        ChangeKind::Deleted => Vec::new(),
        _ => vec![(event.object, event.change)],
    };
    run.with(at + 1, Event::Listed(Listed { probe: WATCH.into(), revision: Some(event.revision), objects }))
}

fn forget_revision(run: Run, n: usize) -> Run {
    let (at, _) = event(&run, n);
    run.with(at + 1, list_call(Call::Watch, None))
}

fn change_kind(mut run: Run, n: usize) -> Run {
    let positions = run.delivered();
    let kinds = positions[n..].iter().filter(|position| is_modified(&run.0.observations[**position]));
    let position = *kinds.min().expect("most changes are updates");
    if let Event::Delivered(event) = &mut run.0.observations[position].event {
        event.kind = ChangeKind::Added;
    }
    run
}

fn is_modified(seen: &Observation) -> bool {
    matches!(&seen.event, Event::Delivered(event) if event.kind == ChangeKind::Modified)
}

/// Four seconds of events arrive together at their end.
fn delay_events(run: Run, n: usize) -> Run {
    let (at, _) = event(&run, n);
    let held = at..at + 4000;
    run.edit(|seen| {
        if matches!(seen.event, Event::Delivered(_)) && within(seen.at, &held) {
            seen.at = Moment(held.end * 1_000_000);
        }
    })
}

/// The `n`th event, and when it came, in milliseconds.
fn event(run: &Run, n: usize) -> (u64, Delivered) {
    let seen = &run.0.observations[run.delivered()[n]];
    match &seen.event {
        Event::Delivered(event) => (seen.at.0 / 1_000_000, event.clone()),
        other => panic!("{other:?} is no event"),
    }
}

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

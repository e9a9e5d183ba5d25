//! What the WATCH requirements say of what a watch was told, table by table.

use rollproof::spec;
use rollproof::timeline::*;
use rollproof::timing::{millis, secs};
use rollproof::verdict::{Figure, judge};

use crate::runs::*;
use crate::shorthand::*;

use Restart::{Graceful, Killed};

const LOST: &str = "was written and never seen";

/// The lists of a table, each with its place.
pub(crate) fn listed(recording: &mut Recording) -> Vec<(usize, &mut Listed)> {
    let seen = recording.observations.iter_mut().enumerate();
    let lists = seen.filter_map(|(place, seen)| match &mut seen.event {
        Event::Listed(list) => Some((place, list)),
        _ => None,
    });
    lists.collect()
}

/// A table whose last list shows something else.
pub(crate) fn with_last_list(table: &str, revision: Option<u64>, objects: &[(&str, u64)]) -> Recording {
    let mut recording = watch_table(table);
    let (_, list) = listed(&mut recording).pop().expect("the table has a list");
    list.revision = revision;
    list.objects = objects.iter().map(|(object, change)| ((*object).to_owned(), *change)).collect();
    recording
}

/// A table whose events are changed.
pub(crate) fn with_events(table: &str, mut change: impl FnMut(&mut Delivered)) -> Recording {
    let mut recording = watch_table(table);
    for seen in &mut recording.observations {
        if let Event::Delivered(event) = &mut seen.event {
            change(event);
        }
    }
    recording
}

pub(crate) fn figures(id: &str, recording: &Recording) -> Vec<Figure> {
    judge(spec::requirement(id).unwrap(), recording).1
}

#[test]
fn a_watch_that_delivers_every_change_once_and_in_order_upholds_the_family() {
    check("wrote 1 2 3 | saw 1 2 3", upheld());
    check("wrote 1 2 3 | saw 1 2 (cut) 3", upheld());
    check("wrote 1 b2 3 -b4 | saw 1 b2 (cut) 3 -b4", upheld());
}

#[test]
fn a_certain_change_must_be_seen_and_a_doubtful_one_may_be() {
    check("wrote 1 2 3 | saw 1 (cut) 3", violated("WATCH-1", "revision 2 was written and never seen"));
    check(
        "wrote 1 2 3 | saw 1",
        inconclusive("WATCH-1", "after revision 2 was acknowledged, and watch had not come so far"),
    );
    check("wrote 1 2 b3 | saw 1 b3", violated("WATCH-1", "revision 2 was written and never seen"));
    check("wrote 1 maybe 2 3 | saw 1 3", upheld());
    check("wrote 1 maybe 2 3 | saw 1 2 3", upheld());
    check("wrote 1 never 2 3 | saw 1 3", upheld());
    check("wrote 1 -2 | saw 1", inconclusive("WATCH-1", "change 2 was acknowledged"));
    check("wrote 1 -2 b3 | saw 1 b3", violated("WATCH-1", "change 2 was written and never seen (delete x"));
}

#[test]
fn a_relist_stands_for_changes_but_is_no_resumption() {
    let relist = || violated("WATCH-4", "the whole state");
    let list = || violated("WATCH-4", "List request");
    check("wrote 1 2 3 | saw 1 2 (cut, relist 3)", list());
    check("wrote 1 2 3 4 | saw 1 (cut, relist 3) 4", list());
    check("wrote 1 2 3 | saw 1 (cut, relist 3@?)", list());
    check("wrote 1 b2 -b3 4 | saw 1 (cut, relist 4)", list());
    check(
        "wrote 1 b2 -b3 4 | saw 1 b2 (cut, relist 2) 4",
        list().and_violated("WATCH-1", "delete b").and_violated("WATCH-5", "its delete had been acknowledged"),
    );
    let lost = list().and_violated("WATCH-1", "revision 2").and_violated("WATCH-5", "does not show b");
    check("wrote 1 b2 | saw 1 (cut, relist 1@2)", lost);
    check("wrote 1 2 3 | saw 1 (cut, relist 2)", list().and_inconclusive("WATCH-1", "revision 3"));
    check("wrote 1 2 3 b4 | saw 1 (cut, relist 2) b4", list().and_violated("WATCH-1", "revision 3"));
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
    inconclusive("WATCH-4", "the watch watch was not interrupted").compare(&uncut);
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
        list()
            .and_violated("WATCH-5", "shows x at change 2: it was at change 3 by then")
            .and_violated("WATCH-2", "3 arrived after 3"),
    );
    check("wrote 1 2 b3 | saw 1 2 b3 (cut, relist 2@3)", list().and_violated("WATCH-5", "does not show b, change 3"));
    check(
        "wrote 1 2 | saw 1 2 (cut, relist 2@1)",
        list().and_violated("WATCH-5", "written at revision 2").and_violated("WATCH-7", "a list at revision 1"),
    );
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
    // It is the list's revision that counts: what it shows is not owed.
    let first = recording.observations.iter().position(|seen| matches!(seen.event, Event::Write(_))).unwrap();
    let acknowledged = recording.observations[first].at + millis(1);
    recording.observations[..3].iter_mut().for_each(|seen| seen.at = acknowledged);
    recording.observations.sort_by_key(|seen| seen.at);
    let (_, list) = listed(&mut recording).remove(0);
    (list.revision, list.objects) = (Some(1), vec![("x".into(), 1)]);
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

// Events.

#[test]
fn a_deleted_event_has_a_revision_of_its_own() {
    let deleted_at = |revision| {
        with_events("wrote 1 2 -3 b4 | saw 1 2 -3 b4", |event| {
            if event.kind == ChangeKind::Deleted {
                event.revision = revision;
            }
        })
    };
    upheld().compare(&deleted_at(3));
    let wrong = |text| violated("WATCH-5", text);
    wrong("that is the revision of change 4 of b").and_violated("WATCH-2", "4 arrived after 4").compare(&deleted_at(4));
    wrong("that is the revision of change 2 of x").and_violated("WATCH-3", "2 arrived twice").compare(&deleted_at(2));
    let mut early = with_events("wrote 1 3 -4 b6 | saw 1 3 -4 b6", |event| {
        if event.kind == ChangeKind::Deleted {
            event.revision = 2;
        }
    });
    wrong("revision 3 had been acknowledged before").and_violated("WATCH-2", "2 arrived after 3").compare(&early);
    for seen in &mut early.observations {
        if let Event::Delivered(event) = &mut seen.event
            && event.kind == ChangeKind::Deleted
        {
            event.revision = 7;
        }
    }
    wrong("revision 6 was begun after that").and_violated("WATCH-2", "6 arrived after 7").compare(&early);
}

#[test]
fn no_event_comes_before_its_write() {
    for (table, place) in [("wrote 1 2 | saw 1 2", 1), ("wrote 1 2 -3 | saw 1 2 -3", 2)] {
        let mut recording = watch_table(table);
        let writes = recording.observations.iter_mut().filter(|seen| matches!(seen.event, Event::Write(_)));
        let last = writes.skip(place).last().expect("a write");
        last.at = last.at + secs(1);
        recording.observations.sort_by_key(|seen| seen.at);
        violated("WATCH-5", "its write was begun 0.9").compare(&recording);
    }
}

#[test]
fn a_change_whose_answer_was_lost_may_take_effect_after_later_ones() {
    let deleted_with = |table: &str, change| {
        with_events(table, |event| {
            if event.kind == ChangeKind::Deleted {
                event.change = change;
            }
        })
    };
    let table = "wrote 1 maybe 2 3 -5 | saw 1 3 -5";
    upheld().compare(&deleted_with(table, 2));
    upheld().compare(&deleted_with(table, 3));
    violated("WATCH-5", "the last change before was 3").compare(&deleted_with(table, 1));
    // An event tells when it did.
    let told = "wrote 1 maybe 2 3 -5 | saw 1 2 3 -5";
    violated("WATCH-5", "the last change before was 3").compare(&deleted_with(told, 2));
    let late = "wrote 1 maybe 2 3 -6 | saw 1 3 2@4 -6";
    upheld().compare(&deleted_with(late, 2));
    violated("WATCH-5", "the last change before was 2").compare(&deleted_with(late, 3));
    // A list may show it, too, and stands for what came before.
    let list = || violated("WATCH-4", "List request");
    let table = "wrote 1 maybe 2 3 b4 | saw 1 (cut, relist 4)";
    list().compare(&with_last_list(table, Some(4), &[("x", 2), ("b", 4)]));
    list()
        .and_violated("WATCH-5", "x at change 1: it was at change 3")
        .and_violated("WATCH-1", "revision 3")
        .compare(&with_last_list(table, Some(4), &[("x", 1), ("b", 4)]));
}

// What a claim rests on.

#[test]
fn a_stall_of_ours_excuses_only_what_it_can_have_delayed() {
    let stalled = |table: &str, at: u64| {
        let mut recording = watch_table(table);
        recording.observations.push(observed(at, Event::Stall(millis(600))));
        recording.observations.sort_by_key(|seen| seen.at);
        recording
    };
    // A gap, a repetition, a wrong order, a wrong content, a bookmark: whatever we did, and whenever.
    let slow = || inconclusive("WATCH-6", "itself did not run");
    for (at, expect) in [(100, upheld as fn() -> Expect), (4000, slow)] {
        expect().and_violated("WATCH-3", "twice").compare(&stalled("wrote 1 2 | saw 1 2 1", at));
        expect().and_violated("WATCH-2", "1 arrived after 2").compare(&stalled("wrote 1 2 | saw 2 1", at));
        expect().and_violated("WATCH-5", "no write explains it").compare(&stalled("wrote 1 2 | saw 1 2 7", at));
    }
    let during = |table: &str| stalled(table, 1050);
    slow().and_violated("WATCH-3", "twice").compare(&during("wrote 1 2 | saw 1 2 1"));
    slow().and_violated("WATCH-2", "1 arrived after 2").compare(&during("wrote 1 2 | saw 2 1"));
    slow().and_violated("WATCH-1", "revision 2").compare(&during("wrote 1 2 3 | saw 1 3"));
    slow().and_violated("WATCH-8", "came after").compare(&during("wrote 1 2 3 | saw 1 2 (bookmark 3) 3"));
    // What is late, or hangs, if it was in that time.
    slow().compare(&during("wrote 1 2 | saw 1 late 2"));
    violated("WATCH-6", "arrived 5.0").compare(&stalled("wrote 1 2 | saw 1 late 2", 5500));
    slow().and_inconclusive("WATCH-1", "itself did not run").compare(&during("wrote 1 2 | saw 1 (silence)"));
}

#[test]
fn a_duplicate_stands_whatever_becomes_of_the_apiservers() {
    let twice = |run: Run| {
        let (at, event) = {
            let seen = &run.0.observations[run.delivered()[150]];
            let Event::Delivered(event) = &seen.event else { panic!("no event") };
            (seen.at.0 / 1_000_000, event.clone())
        };
        let run = run.with(at + 7, Event::Delivered(event));
        run.header(|header| header.judged_by.retain(|by| by.requirement == "WATCH-3"))
    };
    let found = || violated("WATCH-3", "arrived twice");
    twice(run(Some(Graceful)).with(19_900, Event::Stall(millis(600)))).expect(found());
    let why = "GET /readyz: no answer within 500ms".to_owned();
    let health = BackendHealth { server: SERVERS[1].into(), healthy: false, why, unanswered: true };
    twice(run(Some(Graceful)).with(18_000, Event::BackendHealth(health))).expect(found());
    let never_over = |seen: &Observation| matches!(&seen.event, Event::FaultOff(fault) if fault.server == SERVERS[0]);
    twice(run(Some(Killed)).without(never_over)).expect(found());
}

#[test]
fn a_watch_and_its_writer_are_sampled_throughout() {
    let family = ["WATCH-1", "WATCH-2", "WATCH-3", "WATCH-4", "WATCH-5", "WATCH-6"];
    let all = |why| family.into_iter().fold(upheld(), |expect, id| expect.and_inconclusive(id, why));
    let watches = |run: Run| run.header(|header| header.judged_by.retain(|by| by.requirement.starts_with("WATCH")));
    let silent = |when: std::ops::Range<u64>| {
        run(Some(Graceful)).without(|seen| {
            let traffic = matches!(seen.event, Event::Write(_) | Event::Delivered(_));
            traffic && within(seen.at, &when)
        })
    };
    watches(silent(4000..4900)).expect(upheld());
    watches(silent(4000..6000)).expect(all("the writer has no sample for 2."));
    // One write that takes as long is one sample.
    let mut slow = silent(4000..6000);
    for seen in &mut slow.0.observations {
        if let Event::Write(write) = &mut seen.event
            && within(seen.at, &(3950..4000))
        {
            write.exchange.took = secs(2);
        }
    }
    watches(slow).expect(upheld());
    // One that is opened after the first fault was not there for it.
    let late = run(Some(Graceful)).without(|seen| {
        let watching = matches!(seen.event, Event::Delivered(_) | Event::ListWatch(_) | Event::Listed(_));
        watching && seen.at < Moment(3_400_000_000)
    });
    let listed = Listed { probe: WATCH.into(), revision: Some(167), objects: vec![("cm-6".into(), 67)] };
    let late = late.with(3400, list_call(Call::List, None)).with(3401, Event::Listed(listed));
    let late = late.with(3402, list_call(Call::Watch, Some(167)));
    watches(late).expect(all("the watch watch has 0 successful samples before the first fault"));
}

#[test]
fn a_watch_that_was_never_seen_working_is_not_late() {
    let hangs = |from: u64| {
        let hangs = run(Some(Graceful)).without(|seen| {
            let after = seen.at > Moment(from * 1_000_000);
            after && matches!(seen.event, Event::Delivered(_))
        });
        hangs.header(|header| header.judged_by.retain(|by| by.requirement == "WATCH-6"))
    };
    hangs(2000).expect(violated("WATCH-6", "had not arrived"));
    hangs(600).expect(inconclusive("WATCH-6", "the watch watch has 2 successful samples before the first fault"));
}

#[test]
fn the_time_it_takes_grows_with_the_recording_and_not_faster() {
    let lost = || {
        violated("WATCH-1", "revision 10 was written and never seen")
            .and_violated("WATCH-4", "List request")
            .and_violated("WATCH-8", "had not been delivered")
    };
    // Each of these is what a careless judge goes through once for each of the others: lists that lack ever more, and lists that are old.
    lost().and_violated("WATCH-5", "does not show many-0").compare(&many(Some, false));
    lost().and_inconclusive("WATCH-7", "nobody listed again").compare(&many(|_| Some(1), true));
}

/// A watch that lists all the time, and is told of nothing but by bookmarks.
fn many(listed: impl Fn(u64) -> Option<u64>, any: bool) -> Recording {
    let mut recording = watch_table("wrote 1 | saw 1 (cut)");
    recording.header.judged_by = ["WATCH-1", "WATCH-2", "WATCH-3", "WATCH-4", "WATCH-5", "WATCH-7", "WATCH-8"]
        .map(|id| JudgedBy { requirement: id.into(), expected: Expected::Upheld, gateway: None })
        .to_vec();
    for n in 0..20_000 {
        let (at, revision) = (10_000 + 4 * n, 10 + n);
        let object = format!("many-{n}");
        let listed = Listed { probe: WATCH.into(), revision: listed(revision), objects: vec![("x".into(), 1)] };
        recording.observations.extend([
            observed(at, Event::Write(written(revision, Verb::Create, &object, Effect::Certain))),
            observed(at + 1, edited_call(list_call(Call::List, None), |call| call.any = any)),
            observed(at + 2, Event::Listed(listed)),
            observed(at + 2, list_call(Call::Watch, Some(revision))),
            observed(at + 3, bookmark(revision, false)),
            observed(at + 3, Event::WatchEnded(WatchEnded { probe: WATCH.into(), failure: None })),
        ]);
    }
    recording
}

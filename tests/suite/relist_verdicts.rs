//! What the WATCH requirements say of whole states and bookmarks: lists, initial events, readers.

use rollproof::timeline::*;
use rollproof::timing::{millis, secs};

use crate::runs::*;
use crate::shorthand::*;
use crate::watch_verdicts::{figures, listed, with_last_list};

use Restart::Graceful;

#[test]
fn a_relist_does_not_bring_back_what_was_deleted() {
    let list = || violated("WATCH-4", "List request");
    let table = "wrote 1 b2 -b3 4 | saw 1 b2 -b3 4 (cut, relist 4)";
    list().compare(&watch_table(table));
    // By its revision, since the watch was told; and where it does not say one.
    let back = |revision| with_last_list(table, revision, &[("x", 4), ("b", 2)]);
    list().and_violated("WATCH-5", "b at change 2: it was deleted at revision 3").compare(&back(Some(4)));
    list().and_violated("WATCH-5", "b at change 2: it was deleted at revision 3").compare(&back(None));
    // By the acknowledgement, whether or not the watch was told.
    let untold = "wrote 1 b2 -b3 4 | saw 1 b2 (cut, relist 4)";
    list()
        .and_violated("WATCH-5", "b at change 2: its delete had been acknowledged before")
        .and_violated("WATCH-1", "change 3")
        .compare(&with_last_list(untold, Some(4), &[("x", 4), ("b", 2)]));
    // A list with resourceVersion 0 may be older, if it says so.
    let any = "wrote 1 b2 -b3 4 | saw 1 b2 -b3 4 (cut, any relist 4)";
    list().compare(&with_last_list(any, Some(2), &[("x", 1), ("b", 2)]));
    list().and_violated("WATCH-5", "it was deleted at revision 3").compare(&with_last_list(
        any,
        Some(4),
        &[("x", 4), ("b", 2)],
    ));
}

#[test]
fn a_relist_that_keeps_its_revision_to_itself_has_what_was_acknowledged_before() {
    let list = || violated("WATCH-4", "List request");
    let table = "wrote 1 b2 3 | saw 1 b2 3 (cut, relist 3@?)";
    list().compare(&watch_table(table));
    let shows = |objects| with_last_list(table, None, objects);
    list().and_violated("WATCH-5", "shows x at change 1: it was at change 3").compare(&shows(&[("x", 1), ("b", 2)]));
    list().and_violated("WATCH-5", "does not show b, change 2").compare(&shows(&[("x", 3)]));
    list().and_violated("WATCH-5", "does not show b, change 2").compare(&shows(&[]));
    // Also where no watch follows that would tell its revision.
    let mut last = shows(&[]);
    let place = listed(&mut last).pop().map(|(place, _)| place).unwrap();
    let kept = |(at, seen): (usize, &Observation)| at <= place || !matches!(seen.event, Event::ListWatch(_));
    last.observations = last.observations.iter().enumerate().filter(|it| kept(*it)).map(|(_, it)| it.clone()).collect();
    list()
        .and_violated("WATCH-5", "a list without a revision does not show b")
        .and_inconclusive("WATCH-7", "nobody listed again")
        .compare(&last);
}

#[test]
fn what_was_there_before_anybody_wrote_is_there_until_somebody_deletes_it() {
    let list = || violated("WATCH-4", "List request");
    let with_probed = |again: bool| {
        let mut recording = watch_table("wrote 1 2 | saw 1 (cut, relist 2)");
        let mut lists = listed(&mut recording);
        lists[0].1.objects.push(("probed".into(), 0));
        if again {
            lists[1].1.objects.push(("probed".into(), 0));
        }
        recording
    };
    list().compare(&with_probed(true));
    list().and_violated("WATCH-5", "does not show probed").compare(&with_probed(false));
}

#[test]
fn a_list_is_never_older_than_what_its_client_has_seen() {
    let list = || violated("WATCH-4", "List request");
    let back = |text| list().and_violated("WATCH-7", text);
    check("wrote 1 2 3 | saw 1 2 3 (cut, relist 3)", list());
    check("wrote 1 2 3 | saw 1 2 3 (cut, relist 2)", back("a list at revision 2 at +1.2"));
    // What comes again after it is its fault, and no repetition.
    check("wrote 1 2 3 | saw 1 2 3 (cut, relist 1) 2 3", back("watch had seen revision 3 before"));
    check(
        "wrote 1 2 3 | saw 1 2 (bookmark 3) (cut, relist 2@2)",
        back("had seen revision 3")
            .and_violated("WATCH-1", "revision 3")
            .and_violated("WATCH-8", "revision 3 of x had not been delivered"),
    );
    check("wrote 1 2 3 | saw 1 2 3 (cut, relist 2@?)", back("a list at revision 2"));
    // With resourceVersion 0 it may be.
    let any = "wrote 1 2 3 | saw 1 2 3 (cut, any relist 1) 2 3";
    check(any, list());
    let mut any = watch_table(any);
    any.header.judged_by = vec![JudgedBy { requirement: "WATCH-7".into(), expected: Expected::Upheld, gateway: None }];
    inconclusive("WATCH-7", "nobody listed again").compare(&any);
    let counted = figures("WATCH-7", &any);
    assert!(counted.iter().any(|it| it.name.contains("as resourceVersion=0 allows") && it.value == 1.0), "{counted:?}");
}

fn read(at: u64, revision: u64, took: u64) -> (u64, Event) {
    let exchange = Exchange { took: millis(took), ..answered(200) };
    (at, Event::Read(Read { probe: "reader".into(), revision: Some(revision), objects: Vec::new(), exchange }))
}

/// A run with a reader, some of whose lists are others.
fn reading(change: impl Fn(u64) -> Option<u64>) -> Run {
    let reads = (500..20_000).step_by(100).map(|at| read(at, change(at).unwrap_or(at / 50 + 99), 5));
    let run = reads.fold(run(Some(Graceful)), |mut run, (at, event)| {
        run.0.observations.push(observed(at, event));
        run
    });
    let run = run.with(0, Event::Stall(secs(0)));
    run.header(|header| {
        header.judged_by = vec![JudgedBy { requirement: "WATCH-7".into(), expected: Expected::Upheld, gateway: None }];
    })
}

/// A reader is answered by an apiserver that hangs behind.
pub(crate) fn a_read_goes_back() -> Recording {
    reading(|at| (at == 7000).then_some(200)).whole()
}

#[test]
fn a_reader_never_goes_back_in_time_and_reads_all_the_time() {
    reading(|_| None).expect(upheld());
    violated("WATCH-7", "a list at revision 200 at +7.000s, and reader had seen revision 237 before")
        .compare(&a_read_goes_back());
    // One that was on its way when the newer one was answered had not been told.
    let overtaken = reading(|_| None).with(7000, read(7000, 240, 3000).1);
    overtaken.expect(upheld());
    let hole = |seen: &Observation| matches!(seen.event, Event::Read(_)) && within(seen.at, &(4000..7000));
    reading(|_| None).without(hole).expect(inconclusive("WATCH-7", "the reader reader has no sample for 3."));
    run(Some(Graceful))
        .header(|header| header.judged_by[0].requirement = "WATCH-7".into())
        .expect(inconclusive("WATCH-7", "nobody listed again"));
}

#[test]
fn a_bookmark_says_that_everything_up_to_it_was_delivered() {
    check("wrote 1 2 3 | saw 1 2 (bookmark 2) 3", upheld());
    check("wrote 1 2 3 | saw 1 2 3 (bookmark 9)", upheld());
    check("wrote 1 2 3 | saw 1 2 (bookmark 3) 3", violated("WATCH-8", "at revision 3 came after a bookmark at 3"));
    let lost = violated("WATCH-8", "a bookmark at 2 came at +1.070s").and_violated("WATCH-1", "revision 2");
    check("wrote 1 2 | saw 1 (bookmark 2)", lost);
    let lost = violated("WATCH-8", "change 2 of x had not been delivered").and_violated("WATCH-1", "change 2");
    check("wrote 1 -2 b3 | saw 1 b3 (bookmark 3)", lost);
    // A watch goes on from a bookmark as well.
    check("wrote 1 2 | saw 1 (bookmark 1) (cut) 2", upheld());
    let mut none = watch_table("wrote 1 2 | saw 1 2");
    none.header.judged_by = vec![JudgedBy { requirement: "WATCH-8".into(), expected: Expected::Upheld, gateway: None }];
    inconclusive("WATCH-8", "watch was sent no bookmark").compare(&none);
    // A library that keeps its lists' revisions to itself keeps bookmarks, too.
    listed(&mut none)[0].1.revision = None;
    inconclusive("WATCH-8", "no watch that tells of bookmarks").compare(&none);
}

#[test]
fn initial_events_show_the_state_in_no_order_and_a_bookmark_ends_them() {
    check("wrote 1 b2 3 -b4 c5 | saw (initial 5)", upheld());
    check("wrote 1 b2 3 c5 d6 | saw (initial 5) d6", upheld());
    check("wrote 1 b2 3 c5 d6 | saw (initial 5)", inconclusive("WATCH-1", "revision 6"));
    check("wrote 1 b2 3 c5 d6 e7 | saw (initial 5) e7", violated("WATCH-1", "revision 6"));
    check("wrote 1 b2 | saw 1 (cut, initial 2)", violated("WATCH-4", "Watch request from the newest"));
    let endless = violated("WATCH-8", "initial events from +1.0").and_inconclusive("WATCH-7", "nobody listed again");
    check("wrote 1 b2 | saw (initial 2@?, silence)", endless);
    let soon = inconclusive("WATCH-8", "was sent no bookmark").and_inconclusive("WATCH-7", "nobody listed again");
    check("wrote 1 b2 | saw (initial 2@?)", soon);
    // They are as good as a list, at the bookmark's revision.
    let recording = watch_table("wrote 1 b2 | saw (initial 2)");
    let mut lacking = recording.clone();
    lacking.observations.retain(|seen| !matches!(&seen.event, Event::Delivered(event) if event.object == "b"));
    let shown = violated("WATCH-5", "does not show b, change 2").and_violated("WATCH-1", "revision 2");
    shown.and_violated("WATCH-8", "revision 2 of b had not been delivered").compare(&lacking);
    let mut wrong = recording;
    for seen in &mut wrong.observations {
        if let Event::Delivered(event) = &mut seen.event {
            event.revision = 1;
        }
    }
    violated("WATCH-5", "it was written at revision 2").compare(&wrong);
}

#[test]
fn a_watch_that_begins_with_initial_events_needs_no_list() {
    let alone = |table: &str| {
        let mut recording = watch_table(table);
        recording.observations.drain(..3);
        recording
    };
    let unlisted = || inconclusive("WATCH-7", "nobody listed again");
    unlisted().compare(&alone("wrote 1 b2 3 | saw (initial 2) 3"));
    // What it began with is owed as little as what a list has.
    unlisted().compare(&alone("wrote 1 2 3 4 | saw (initial 3) 4"));
    unlisted().and_violated("WATCH-1", "revision 3").compare(&alone("wrote 1 2 3 4 | saw (initial 2) 4"));
    let object = |probe: &str| Delivered {
        probe: WATCH.into(),
        kind: ChangeKind::Added,
        object: probe.into(),
        revision: 0,
        change: 0,
    };
    let mut before = alone("wrote 1 b2 3 | saw (initial 2) 3");
    let asked = before.observations.iter().position(|seen| matches!(seen.event, Event::ListWatch(_))).unwrap();
    let at = before.observations[asked].at;
    before.observations.insert(asked + 1, Observation { at, event: Event::Delivered(object("probed")) });
    unlisted().compare(&before);
}
